"""Join of the loom: rows that stay in a lane, column chunks that stream past, one match a cycle."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from hdl.block import Block
from hdl.bus.fifo import Fifo
from hdl.bus.ram import Ram
from hdl.fast_prefix_sum import FastPrefixSum, places_below
from hdl.priority_encoder import PriorityEncoder
from hdl.spike_buffer import row_chunk_layout


def column_chunk_layout(p: Arch) -> data.StructLayout:
    """Return a column chunk as the lanes keep it.

    address : place of its row chunks in the slots; segment : which of the slots of a row holds them
    line : first line of words of its tap; lines : lines of weights; last : the sums of a pass end with it
    """
    return data.StructLayout({
        "mask": p.chunk_bits, "address": range(p.slot_chunks), "segment": 2, "line": range(p.slot_lines),
        "lines": range(p.weight_bits + 1), "last": 1})


def join_layout(p: Arch) -> data.StructLayout:
    """Return one match: slot and number of the word behind ``line``, line and number of the weight, end of the sums."""
    return data.StructLayout({
        "slot": range(max(2, p.rows)), "line": range(p.slot_lines), "word": p.index_bits,
        "weight_line": range(p.window_lines), "weight": range(p.chunk_bits), "hit": 1, "end": 1})


class LoomJoin(Block):
    """Compare every column chunk with all resident rows of the lane at once, and give their matches one a cycle.

    Twin of `golden.loom_join.loom_join`. A chunk is looked up while the matches of the one before are given; it leaves
    after one cycle when it has none, and a chunk of n matches takes ``max(1, n)`` cycles, row slot after row slot, in the
    order of positions. The last chunk of a sum always gives an entry, with ``hit`` low when it has no match. The first
    match of a chunk shows 4 cycles after ``chunk_put`` when nothing is before it. Lines of weights are free again in the
    order in which they came: those behind a chunk that gives its matches wait for it.

    Members
    -------
    span_log2 : In(2), log2 of the slots of a row
    clear : In(1), forget all rows; open : In(1), the rows are complete
    mask_en, mask_address, mask : In, write a row chunk into the slots that are named
    line_put : In(1), a line of weights is written; chunk_put, chunk : In, the chunk that the last lines belong to
    line_room, chunk_room : Out(1)
    line : Out, place of the next line of weights
    hold : In(1), give nothing
    valid, match : Out, `join_layout`
    idle : Out(1), no chunk is in the join; scan : Out(1), a chunk leaves without matches
    """

    def __init__(self, p: Arch) -> None:
        self.params = p
        super().__init__({
            "span_log2": In(2), "clear": In(1), "open": In(1),
            "mask_en": In(p.rows), "mask_address": In(data.ArrayLayout(range(p.slot_chunks), p.rows)),
            "mask": In(row_chunk_layout(p)),
            "line_put": In(1), "line_room": Out(1), "line": Out(range(p.window_lines)),
            "chunk_put": In(1), "chunk": In(column_chunk_layout(p)), "chunk_room": Out(1),
            "hold": In(1), "valid": Out(1), "match": Out(join_layout(p)), "idle": Out(1), "scan": Out(1),
        })

    def build(self) -> Module:
        m, p, match = Module(), self.params, self.match
        m.submodules.chunks = chunks = Fifo(column_chunk_layout(p).size, p.window_chunks)
        m.submodules.encoder = encoder = PriorityEncoder(p.chunk_bits)
        m.submodules.prefix = prefix = FastPrefixSum(p.chunk_bits)
        head = data.View(column_chunk_layout(p), chunks.o.payload)
        seen, seen_valid = Signal(column_chunk_layout(p)), Signal()
        here, here_valid = Signal(column_chunk_layout(p)), Signal()
        lines_put, first_line, here_line = (Signal(range(2 * p.window_lines), name=n)
                                            for n in ("lines_put", "first_line", "here_line"))
        issue, leave, some, done, others = (Signal(name=n) for n in ("issue", "leave", "some", "done", "others"))
        slot, row = Signal(range(max(2, p.rows))), Signal(row_chunk_layout(p))
        pending, kept, hits = [], [], []
        log = p.rows.bit_length() - 1
        for s in range(p.rows):
            m.submodules[f"masks_{s}"] = masks = Ram(p.row_entry_bits, p.slot_chunks)
            present, found = Signal(p.slot_chunks, name=f"present_{s}"), Signal(row_chunk_layout(p), name=f"found_{s}")
            left, row_kept, hit = (Signal(p.chunk_bits, name=f"pending_{s}"), Signal(row_chunk_layout(p), name=f"row_{s}"),
                                   Signal(p.chunk_bits, name=f"hit_{s}"))
            there = present.bit_select(seen.address, 1) & (seen.segment == (Const(s, 3) >> (log - self.span_log2)[:2]))
            m.d.comb += [
                masks.w_en.eq(self.mask_en[s]), masks.w_addr.eq(self.mask_address[s]), masks.w_data.eq(self.mask),
                masks.r_en.eq(issue), masks.r_addr.eq(head.address), found.eq(masks.r_data),
                hit.eq(Mux(there, found.mask & seen.mask, 0)),
            ]
            with m.If(self.clear):
                m.d.sync += present.eq(0)
            with m.Elif(self.mask_en[s]):
                m.d.sync += present.bit_select(self.mask_address[s], 1).eq(1)
            with m.If(leave & some):
                m.d.sync += [left.eq(hit), row_kept.eq(found)]
            with m.Elif(self.valid & ~self.hold & (slot == s)):
                m.d.sync += left.eq(encoder.rest)
            pending.append(left)
            kept.append(row_kept)
            hits.append(hit)
        m.d.comb += [
            chunks.i.payload.eq(self.chunk), chunks.i.valid.eq(self.chunk_put), self.chunk_room.eq(chunks.i.ready),
            self.line.eq(lines_put), self.line_room.eq((lines_put ^ Mux(here_valid, here_line, first_line)) != p.window_lines),
            issue.eq(chunks.o.valid & self.open & (~seen_valid | leave)), chunks.o.ready.eq(issue),
            some.eq(Cat(hit.any() for hit in hits).any() | seen.last),
            leave.eq(seen_valid & (~some | ~here_valid | done)), self.scan.eq(leave & ~some),
            done.eq(here_valid & ~self.hold & encoder.single & ~others), self.valid.eq(here_valid),
            self.idle.eq((chunks.space == p.window_chunks) & ~seen_valid & ~here_valid),
        ]
        m.d.sync += lines_put.eq(lines_put + self.line_put)
        with m.If(issue):
            m.d.sync += [seen.eq(head), seen_valid.eq(1)]
        with m.Elif(leave):
            m.d.sync += seen_valid.eq(0)
        with m.If(leave):
            m.d.sync += first_line.eq(first_line + seen.lines)
        with m.If(leave & some):
            m.d.sync += [here.eq(seen), here_valid.eq(1), here_line.eq(first_line)]
        with m.Elif(done):
            m.d.sync += here_valid.eq(0)

        group, below, bases = Signal(range(max(2, p.laggy_cycles))), Signal(16), Array(
            [Const(0, p.count_bits), *(row.bases[g] for g in range(p.laggy_cycles - 1))])
        per_line = (p.chunk_bits // p.weight_bits).bit_length() - 1
        for s in reversed(range(p.rows)):
            with m.If(pending[s].any()):
                m.d.comb += slot.eq(s)
        m.d.comb += [
            encoder.mask.eq(Array(pending)[slot]), row.eq(Array(kept)[slot]),
            others.eq(Cat(each.any() & (slot != s) for s, each in enumerate(pending)).any()),
            prefix.mask.eq(here.mask), prefix.position.eq(encoder.position), group.eq(encoder.position >> 4),
            below.eq(row.mask.word_select(group, 16) & places_below(encoder.position[:4])),
            match.slot.eq(slot), match.line.eq(here.line),
            match.word.eq(row.base + bases[group] + sum(below[bit] for bit in range(16))),
            match.weight_line.eq(here_line + (prefix.offset >> per_line)), match.weight.eq(prefix.offset[:per_line]),
            match.hit.eq(~encoder.none), match.end.eq(encoder.single & ~others & here.last),
        ]
        return m
