"""Row spread of the loom: every pixel of a tile goes to all rows that it is a tap of."""

from amaranth.hdl import Array, Const, Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out, connect, flipped

from golden.arch import Arch
from golden.formats import MAX_PASSES
from hdl.block import Block
from hdl.descriptor import LAYER_LAYOUT, descriptor_bus
from hdl.pass_fields import PassFields
from hdl.pixel_loader import PLACE, pixel_layout
from hdl.tile_rows import MAP_BITS, at, row_layout


class RowSpread(Block):
    """Copy the pixels that are loaded into the row slots, one chunk and one line of words a cycle, to all rows at once.

    Twin of `golden.row_spread.row_spread`. Pixel (y, x) is tap ``(y - corner_y, x - corner_x)`` of a row where that lies
    in the kernel. A pixel takes as many cycles as it has chunks or lines of words, whichever is more. A pass takes 3
    cycles more, and each after the first one more for every lane and group, in which the corners are computed anew. A
    tile takes 2 cycles more, those of ``start`` and of the last write.

    Members
    -------
    clear, put, group, lanes, row : In, from `hdl.tile_rows.TileRows`
    start : In(1), spread the tile that is loaded; busy : Out(1)
    pixel_read, pixel_address, pixel, mask_read, mask_address, line_read, line_address : to the pixel loader
    mask_en, word_en : Out, per lane and slot; mask_at, word_at : Out, where, per lane and slot
    """

    def __init__(self, p: Arch) -> None:
        self.params = p
        super().__init__({
            "descriptor": In(descriptor_bus()), "layer": In(LAYER_LAYOUT),
            "clear": In(1), "put": In(1), "group": In(range(max(2, p.rows))), "lanes": In(p.lanes), "row": In(row_layout(p)),
            "start": In(1), "busy": Out(1),
            "pixel_read": Out(1), "pixel_address": Out(range(p.pixel_chunks)), "pixel": In(pixel_layout()),
            "mask_read": Out(1), "mask_address": Out(range(p.pixel_chunks)),
            "line_read": Out(1), "line_address": Out(range(p.pixel_lines)),
            "mask_en": Out(data.ArrayLayout(p.rows, p.lanes)), "word_en": Out(data.ArrayLayout(p.rows, p.lanes)),
            "mask_at": Out(data.ArrayLayout(data.ArrayLayout(range(p.slot_chunks), p.rows), p.lanes)),
            "word_at": Out(data.ArrayLayout(data.ArrayLayout(range(p.slot_lines), p.rows), p.lanes)),
        })

    def build(self) -> Module:
        m, p, layer = Module(), self.params, self.layer
        m.submodules.passes = passes = PassFields()
        connect(m, flipped(self.descriptor), passes.descriptor)
        fields = passes.fields
        number, again, lane = Signal(range(MAX_PASSES + 1)), Signal(range(p.rows + 1)), Signal(range(p.lanes))
        here, here_valid, pixel_done, step = Signal(pixel_layout()), Signal(), Signal(), Signal(12)
        masks_now, lines_now, next_valid, take = (Signal(name=n) for n in ("masks_now", "lines_now", "next_valid", "take"))
        late_masks, late_lines, late_step = Signal(), Signal(), Signal(12)
        moving, correcting = Signal(), Signal()
        m.d.comb += [
            passes.number.eq(number), self.busy.eq(1),
            masks_now.eq(here_valid & (step < fields.tap_chunks)), lines_now.eq(here_valid & (step < here.lines)),
            pixel_done.eq(here_valid & (step + 1 >= fields.tap_chunks) & (step + 1 >= here.lines)),
            self.mask_read.eq(masks_now), self.line_read.eq(lines_now),
            take.eq(moving & next_valid & (~here_valid | pixel_done) & ~(here_valid & here.end)),
        ]
        m.d.sync += [
            late_masks.eq(masks_now), late_lines.eq(lines_now), late_step.eq(step),
            self.mask_address.eq(self.mask_address + masks_now), self.line_address.eq(self.line_address + lines_now),
            step.eq(Mux(pixel_done | ~here_valid, 0, step + 1)),
        ]
        with m.If(take):
            m.d.sync += [here.eq(self.pixel), here_valid.eq(1), self.pixel_address.eq(self.pixel_address + 1)]
            m.d.comb += self.pixel_read.eq(1)
        with m.Elif(pixel_done):
            m.d.sync += here_valid.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(self.start)
                with m.If(self.start):
                    m.d.sync += [number.eq(0), self.pixel_address.eq(0), self.mask_address.eq(0), self.line_address.eq(0)]
                    m.next = "PASS"
            with m.State("PASS"):
                m.d.comb += passes.load.eq(1)
                m.d.sync += [again.eq(0), lane.eq(0)]
                m.next = "FIRST"
                with m.If(number == layer.passes):
                    m.next = "IDLE"
                with m.Elif(number != 0):
                    m.next = "CORNERS"
            with m.State("CORNERS"):
                m.d.comb += correcting.eq(1)
                m.d.sync += lane.eq(lane + 1)
                with m.If(lane == p.lanes - 1):
                    m.d.sync += again.eq(again + 1)
                    with m.If(again + 1 == layer.groups):
                        m.next = "FIRST"
            with m.State("FIRST"):
                m.d.comb += self.pixel_read.eq(1)
                m.d.sync += [next_valid.eq(1), self.pixel_address.eq(self.pixel_address + 1)]
                m.next = "PIXELS"
            with m.State("PIXELS"):
                m.d.comb += moving.eq(1)
                with m.If(pixel_done & here.end):
                    m.d.sync += [number.eq(number + 1), next_valid.eq(0), self.pixel_address.eq(self.pixel_address - 1)]
                    m.next = "PASS"
        self._slots(m, here, here_valid, correcting, again, lane, late_masks, late_lines, late_step)
        return m

    def _slots(self, m: Module, here: data.View, here_valid: Signal, correcting: Signal, again: Signal, lane: Signal,
               late_masks: Signal, late_lines: Signal, late_step: Signal) -> None:
        """Compare the pixel with every row, and name the slots that it goes to one cycle later."""
        p, layer, fields = self.params, self.layer, m.submodules.passes.fields
        log = p.rows.bit_length() - 1
        span_rows = Signal(range(p.rows + 1))
        chunk_row, line_row = Signal(12), Signal(12)
        segment_mask = Signal(2)
        m.d.comb += [span_rows.eq(Const(p.rows) >> layer.span_log2), segment_mask.eq((1 << layer.span_log2) - 1)]
        m.d.sync += [chunk_row.eq(fields.kernel_width * fields.tap_chunks), line_row.eq(fields.kernel_width * fields.tap_lines)]
        rows = []
        for g in range(p.rows):
            for n in range(p.lanes):
                row = Signal(data.StructLayout({"y": PLACE, "x": PLACE, "center_y": PLACE, "center_x": PLACE, "valid": 1}),
                             name=f"row_{g}_{n}")
                with m.If(self.clear):
                    m.d.sync += row.valid.eq(0)
                with m.Elif(self.put & (self.group == g) & self.lanes[n]):
                    m.d.sync += [row.y.eq(self.row.corner_y), row.x.eq(self.row.corner_x), row.center_y.eq(self.row.center_y),
                                 row.center_x.eq(self.row.center_x), row.valid.eq(self.row.valid)]
                with m.Elif(correcting & (again == g) & (lane == n)):
                    m.d.sync += [row.y.eq(row.center_y * at(fields.stride) - at(fields.padding)),
                                 row.x.eq(row.center_x * at(fields.stride) - at(fields.padding))]
                rows.append(row)
        for n in range(p.lanes):
            taps = []
            for g in range(p.rows):
                row = rows[g * p.lanes + n]
                y, x = Signal(signed(MAP_BITS + 3), name=f"y_{g}_{n}"), Signal(signed(MAP_BITS + 3), name=f"x_{g}_{n}")
                tap = Signal(name=f"tap_{g}_{n}")
                chunk, line, segment = (Signal(12, name=f"chunk_{g}_{n}"), Signal(12, name=f"line_{g}_{n}"),
                                        Signal(2, name=f"segment_{g}_{n}"))
                m.d.comb += [y.eq(here.y - row.y), x.eq(here.x - row.x)]
                m.d.sync += [
                    tap.eq(here_valid & row.valid & (y >= 0) & (y < at(fields.kernel_height)) & (x >= 0)
                           & (x < at(fields.kernel_width))),
                    segment.eq(y[:2] & segment_mask),
                    chunk.eq(fields.chunk_base + (y[:4] >> layer.span_log2) * chunk_row + x[:4] * fields.tap_chunks[:8]),
                    line.eq(fields.line_base + (y[:4] >> layer.span_log2) * line_row + x[:4] * fields.tap_lines)]
                taps.append((tap, chunk, line, segment))
            for s in range(p.rows):
                of = Signal(range(max(2, p.rows)), name=f"of_{s}_{n}")
                m.d.comb += of.eq(Const(s, max(1, log)) & (span_rows - 1)[: max(1, log)])
                chosen = [Array(tap[k] for tap in taps)[of] for k in range(4)]
                there = chosen[0] & (chosen[3] == (Const(s, 3) >> (log - layer.span_log2)[:2]))
                m.d.comb += [
                    self.mask_en[n][s].eq(there & late_masks), self.word_en[n][s].eq(there & late_lines),
                    self.mask_at[n][s].eq(chosen[1] + late_step), self.word_at[n][s].eq(chosen[2] + late_step),
                ]
