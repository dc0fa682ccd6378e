"""Weight fiber buffer: loads column tiles, keeps them when they fit, plays them as chunks."""

from typing import Any

from amaranth.hdl import Array, Const, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from golden.arch import Arch
from golden.formats import TILE
from hdl.block import Block
from hdl.bus.fetch import ar_signature
from hdl.bus.ram import Ram
from hdl.byte_stream import ByteStream
from hdl.descriptor import LAYER_LAYOUT
from hdl.inner_join import value_ring

HEADER_BYTES = 64


class WeightBuffer(Block):
    """Double-buffered store of compressed weight columns.

    A tile lies in memory as header, parameters (8 bytes a column), masks, values, each part at a multiple of 64
    bytes, and in the buffer as it lies in memory. A layer of at most two tiles is loaded once and stays; other
    layers stream their tiles in a ring, one tile ahead of the array. Reading gives a chunk a cycle while its
    values are in the window, and fetches a beat a cycle for the first of parameters, masks and values that has
    room. The first parameters are there 3 cycles after ``open``; a reader that never waits ends a tile at most 10
    cycles after ``max(beats, columns + chunks)``.

    Members
    -------
    layer_start : In(1), a layer starts
    rounds : In(32), how often the array goes over all tiles
    open : In(1), start reading the oldest tile; only while ``full``
    close : In(1), the array is done with the tile
    full : Out(1), the oldest tile is in the buffer
    error : Out(1), a tile's header is illegal; until reset
    columns : Out(16), columns of that tile
    mask_fill, mask_window, mask_take : bytes of masks
    value_fill, value_window, value_head, value_take : weights, as a ring with the place of the next one
    param_fill, param_window, param_take : parameters, in units of 8 bytes
    """

    def __init__(self, p: Arch) -> None:
        self.params = p
        self.windows = {"param": (1, 64), "mask": (p.chunk_bits // 8, 8), "value": (p.chunk_bits, p.weight_bits)}
        ports: dict[str, Any] = {}
        for name, (units, unit_bits) in self.windows.items():
            ports |= {f"{name}_fill": Out(16), f"{name}_window": Out(units * unit_bits),
                      f"{name}_take": In(range(units + 1))}
        ports |= {"value_window": Out(value_ring(p) * p.weight_bits), "value_head": Out(range(value_ring(p)))}
        super().__init__({
            "layer": In(LAYER_LAYOUT), "base": In(p.address_bits), "layer_start": In(1), "rounds": In(32),
            "ar": Out(ar_signature(p.address_bits)), "r": In(stream.Signature(p.data_bits, always_ready=True)),
            "error": Out(1), "open": In(1), "close": In(1), "full": Out(1), "columns": Out(16), **ports,
        })

    def build(self) -> Module:
        m, p = Module(), self.params
        beat = p.data_bits // 8
        log = (beat - 1).bit_length()
        half_words = p.weight_bytes // beat
        head_beats = HEADER_BYTES // beat
        m.submodules.ram = ram = Ram(p.data_bits, 2 * half_words)

        tile_fields = data.StructLayout({
            "columns": 16, **dict.fromkeys(("bytes", "masks", "values"), range(half_words + 1))})
        heads = Array(Signal(tile_fields, name=f"head_{h}") for h in range(2))
        full = Signal(2)
        load_half, read_half = Signal(), Signal()
        rounds_left, tile, after_tile, address = Signal(32), Signal(16), Signal(16), Signal(p.address_bits)
        resident, last_tile = Signal(), Signal()
        head, legal, outside = heads[load_half], Signal(), Signal()
        m.d.comb += [
            resident.eq(self.layer.column_tiles <= 2), after_tile.eq(tile + 1),
            last_tile.eq(after_tile == self.layer.column_tiles),
            legal.eq(~outside & (head.bytes > head_beats) & (head.columns != 0) & (head.masks <= head.bytes)
                     & (head.values <= head.bytes)),
        ]

        asked, got, want, left = (Signal(range(half_words + 1), name=n) for n in ("asked", "got", "want", "left"))
        page = 4096 // beat
        burst, to_page, room = Signal(range(half_words + 1)), Signal(range(page + 1)), Signal(range(half_words + 1))
        request, in_page = self.ar, Signal(range(page))
        m.d.comb += [
            request.p.address.eq(address + (asked << log)),
            in_page.eq((address >> log) + asked), to_page.eq(page - in_page),
            left.eq(want - asked), room.eq(Mux(left > p.burst_beats, p.burst_beats, left)),
            burst.eq(Mux(room > to_page, to_page, room)),
            request.p.len.eq((burst - 1)[: len(burst)]),
            ram.w_data.eq(self.r.payload), ram.w_addr.eq(Mux(load_half, half_words, 0) + got),
        ]
        with m.If(request.valid & request.ready):
            m.d.sync += asked.eq(asked + burst)
        with m.FSM():
            with m.State("IDLE"):
                with m.If(~self.layer_start & (rounds_left != 0) & ~full.bit_select(load_half, 1)):
                    m.d.sync += [asked.eq(0), got.eq(0), want.eq(head_beats), outside.eq(0)]
                    with m.If(last_tile):
                        m.d.sync += rounds_left.eq(rounds_left - 1)
                    m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += [request.valid.eq(asked != want), ram.w_en.eq(self.r.valid)]
                with m.If(self.r.valid):
                    m.d.sync += got.eq(got + 1)
                    for number in range(HEADER_BYTES // 4):
                        for field in TILE:
                            if field.word == number:
                                start = (4 * number) % beat * 8 + field.lsb
                                value = self.r.payload[start : start + field.width]
                                with m.If(got == 4 * number // beat):
                                    if field.name == "columns":
                                        m.d.sync += head.columns.eq(value)
                                    else:
                                        m.d.sync += head[field.name].eq(value >> log)
                                        with m.If((value[:log] != 0) | (value > p.weight_bytes)):
                                            m.d.sync += outside.eq(1)
                with m.If((got == head_beats) & (want == head_beats)):
                    m.d.sync += want.eq(head.bytes)
                    with m.If(~legal):
                        m.next = "ERROR"
                with m.Elif((got == want) & (want != head_beats)):
                    m.d.sync += [
                        full.bit_select(load_half, 1).eq(1), load_half.eq(~load_half),
                        tile.eq(Mux(last_tile, 0, after_tile)),
                        address.eq(Mux(last_tile, self.base + self.layer.weights, address + (head.bytes << log)))]
                    m.next = "IDLE"

            with m.State("ERROR"):
                m.d.comb += self.error.eq(1)

        reading = Array(Signal(range(half_words + 1), name=f"at_{n}") for n in self.windows)
        streams = []
        granted_before = Const(0, 1)
        m.d.comb += [self.full.eq(full.bit_select(read_half, 1)), self.columns.eq(heads[read_half].columns)]
        opened = Signal()
        starts = (head_beats, heads[read_half].masks, heads[read_half].values)
        for number, (name, (units, unit_bits)) in enumerate(self.windows.items()):
            window = ByteStream(p.data_bits, units, unit_bits, turned=name != "value")
            m.submodules[f"{name}_stream"] = window
            streams.append(window)
            m.d.comb += [
                window.clear.eq(self.open), window.word.eq(ram.r_data),
                getattr(self, f"{name}_fill").eq(window.fill), getattr(self, f"{name}_window").eq(window.window),
                window.take.eq(getattr(self, f"{name}_take")),
                window.granted.eq(opened & window.want & ~granted_before & ~self.open
                                  & (reading[number] != half_words)),
            ]
            with m.If(window.granted):
                m.d.comb += [ram.r_en.eq(1), ram.r_addr.eq(Mux(read_half, half_words, 0) + reading[number])]
                m.d.sync += reading[number].eq(reading[number] + 1)
            with m.If(self.open):
                m.d.sync += reading[number].eq(starts[number])
            granted_before = granted_before | window.granted
        m.d.comb += self.value_head.eq(streams[-1].head)
        with m.If(self.open):
            m.d.sync += opened.eq(1)
        with m.If(self.close):
            m.d.sync += opened.eq(0)
            with m.If(self.layer.column_tiles != 1):
                m.d.sync += read_half.eq(~read_half)
            with m.If(~resident):
                m.d.sync += full.bit_select(read_half, 1).eq(0)
        with m.If(self.layer_start):
            m.d.sync += [
                full.eq(0), load_half.eq(0), read_half.eq(0), tile.eq(0), opened.eq(0),
                address.eq(self.base + self.layer.weights),
                rounds_left.eq(Mux(resident, 1, self.rounds))]
        return m
