"""Tail against golden: the memory that a layer leaves, the words that leave its neurons, the cycles of a column."""

import dataclasses
import itertools
import random
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import Arch
from golden.current_store import stored_currents
from golden.formats import CURRENT_BYTES
from golden.network import Array, Digit, Layer, Neuron, Plane, Pool, Requantise, number_planes, spike_planes
from golden.parallel_lif import RESETS
from golden.residual import Currents, residual
from golden.tail import stored_fibers, tail
from golden.walker import pixels
from hdl.array import column_layout
from hdl.current_store import piece_count
from hdl.fiber_writer import piece_layout
from hdl.residual import currents_layout
from hdl.tail import Tail
from verif.chunks import TINY
from verif.layers import ARCHS, arch, describe, pass_record, start
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import put, stalls, watch, word

BASE, FILL = 0x40, 0xEE
MEMORY_BYTES = 1 << 16
BROKEN = dataclasses.replace(TINY, requantise=True, digit=True)
KINDS = ("identity", "two identity passes", "planes", "residual", "max-pool", "read-out", "OR-pool", "OR-pool, padded",
         "masked", "requantised", "requantised from max-pool", "digits", "digits from max-pool")


@pytest.mark.parametrize("name", ARCHS)
def test_tail(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Tail(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new", "catcher"), [
    pytest.param("op.first.eq((number == 0) & (bit == 0))", "op.first.eq(bit == 0)", "two identity",
                 id="second pass starts over"),
    pytest.param("op.negate.eq(plane[21])", "op.negate.eq(0)", "planes", id="no negative plane"),
    pytest.param("& (residual.p.lane == n)", "", "max-pool", id="currents of another lane"),
    pytest.param("Mux(adding, added, p.lanes)", "p.lanes", "residual", id="stored before the residual is added"),
    pytest.param("currents.present.eq(present)", "currents.present.eq(present.any().replicate(p.lanes))", "residual",
                 id="lanes beyond the last pixel"),
    pytest.param("neurons.sums[n].eq(unit.sums)", "neurons.sums[n].eq(sums[0].sums)", "digits", id="sums of another lane"),
    pytest.param("neurons.threshold.eq(self.column.p.threshold)", "neurons.threshold.eq(self.column.p.threshold[:16])",
                 "requantised", id="factor without its shift"),
])
def test_mutants_are_caught(old: str, new: str, catcher: str) -> None:
    """Each step of the tail, done wrong, is caught by the layers that need it."""
    outcome = simulate(mutant(Tail, old, new)(BROKEN), __name__, parameters=dataclasses.asdict(BROKEN),
                       expect_failure=True, all_tests=True)
    assert any(f"kind={KINDS.index(kind)}/" in name for name in outcome.failed
               for kind in KINDS if kind.startswith(catcher)), outcome.failed


@dataclass(frozen=True)
class Case:
    """A layer with its operands.

    dots : per pass int64 [bits, N, H, W]; planes : per pass; stored : currents of the residual, or None
    """

    layer: Layer
    steps: int
    size: tuple[int, int]
    dots: list[Array]
    planes: list[tuple[Plane, ...]]
    stored: Array | None

    def sums(self) -> Array:
        """Return int64 [T, N, H, W]: what the planes make of the dots."""
        total = np.zeros((self.steps, len(self.layer.bias), *self.size), np.int64)
        for dots, planes in zip(self.dots, self.planes, strict=True):
            for dot, plane in zip(dots, planes, strict=True):
                for t in plane.steps:
                    total[t] += (-dot if plane.negate else dot) << plane.shift
        return total


def draw_case(rng: random.Random, p: Arch, kind: str) -> Case:
    """Return a random layer of a kind; its sums fit ``stream_bits``."""
    generator = np.random.default_rng(rng.getrandbits(32))
    steps = rng.choice((1, 2, p.t_max, rng.randint(1, p.t_max)))
    size = (rng.randint(1, 5), rng.randint(1, 5))
    columns = rng.choice((1, 5, 8, p.chunk_bits, p.chunk_bits + 3))
    orp = {"OR-pool": Pool(kernel=2, stride=2), "OR-pool, padded": Pool(kernel=3, stride=2, padding=1)}.get(kind)
    maxp = Pool(kernel=3, stride=2, padding=1) if kind.endswith("max-pool") else None
    if orp is not None:
        size = (max(size[0], 2), max(size[1], 2))
        columns = min(columns, p.pool_channels)
    bits = min(p.t_max, rng.choice((1, 4)))
    static = tuple(Plane(steps=tuple(range(steps)), shift=b + 2, negate=b == bits - 1) for b in range(bits))
    planes: list[tuple[Plane, ...]] = {
        "two identity passes": [spike_planes(steps), tuple(
            plane if b % 2 else Plane() for b, plane in enumerate(spike_planes(steps)))],
        "planes": [static, spike_planes(steps), static], "max-pool": [], "requantised from max-pool": [],
        "digits from max-pool": [],
        "requantised": [number_planes(p.t_max, signed=True), spike_planes(1)]}.get(kind, [spike_planes(steps)])
    reach = 1 << p.acc_bits - 12 if kind != "requantised" else 1 << p.stream_bits - p.t_max - 3
    dots = [generator.integers(-reach, reach, (len(one), columns, *size)) for one in planes]
    threshold = generator.integers(1, reach, (columns,))
    shift = rng.randrange(3)
    neuron = Neuron(threshold=threshold, leak_shift=shift, decay_input=shift < 2 and rng.random() < 0.5,
                    compare=rng.choice((">=", ">")), reset=rng.choice(RESETS))
    stored = None
    if kind == "residual" or maxp is not None:
        stored = generator.integers(-4 * reach, 4 * reach, (steps, columns, *size))
    bias = generator.integers(-reach, reach, (columns,))
    scale = draw_scale(rng, p, steps, columns, 4 * reach) if kind.startswith("requantised") and p.requantise else None
    digit = draw_digit(rng, p, steps, 4 * reach) if kind.startswith("digits") and p.digit else None
    layer = Layer(name=kind, passes=(), bias=bias * (maxp is None), residual=kind if stored is not None else None,
                  max_pool=maxp, store_currents=kind in ("planes", "residual", "max-pool"),
                  neuron=neuron if scale is None and digit is None and kind != "read-out" else None, requantise=scale,
                  readout=kind == "read-out", min_spikes=2 if kind == "masked" else 1, or_pool=orp, digit=digit)
    return Case(layer, steps, size, dots, planes, stored)


def draw_scale(rng: random.Random, p: Arch, steps: int, columns: int, reach: int) -> Requantise:
    """Return a random requantiser; most currents below ``reach`` become words that are neither 0 nor clipped."""
    bits = rng.choice((1, p.t_max, rng.randint(1, p.t_max)))
    shift = [rng.randint(1, 31) for _ in range(columns)]
    most = [min(1 << k, 1 << 16) - 1 for k in shift]
    multiplier = [min(top, int((1 << k + bits) * rng.uniform(0.2, 2)) // reach) for top, k in zip(most, shift, strict=True)]
    return Requantise(multiplier=np.array(multiplier), shift=np.array(shift), bits=bits, signed=rng.random() < 0.5,
                      step=rng.randrange(steps) if p.digit else 0)


def draw_digit(rng: random.Random, p: Arch, steps: int, reach: int) -> Digit:
    """Return random digits of currents below ``reach``."""
    step = rng.choice((None, rng.randrange(steps)))
    most = p.t_max // steps if step is None else p.t_max
    return Digit(low=rng.randrange(reach.bit_length()), bits=rng.randint(1, most), step=step, clip=rng.random() < 0.3)


def fields_of(case: Case, p: Arch) -> dict[str, int]:
    """Return the layer's fields; its regions follow each other from offset 64 on."""
    layer, (height, width) = case.layer, case.size
    pool = layer.max_pool or layer.or_pool or Pool(kernel=1, stride=1)
    out = [(n + 2 * pool.padding - pool.kernel) // pool.stride + 1 for n in (height, width)]
    if layer.max_pool is not None:
        height, width = out
    columns, word_log2 = len(layer.bias), (layer.word_width(case.steps) - 1).bit_length()
    area, depth = out[0] * out[1], 1 if layer.readout else case.steps
    mask, slot = -(-columns // 8), -(-(columns << word_log2) // 8)
    values = 64 + area * mask + 3
    fields = {
        "passes": len(case.planes), "steps": case.steps, "min_spikes": layer.min_spikes, "word_log2": word_log2,
        "neuron": int(layer.stores_words), "store_currents": int(layer.store_currents),
        "readout": int(layer.readout), "residual": int(case.stored is not None),
        "max_pool": int(layer.max_pool is not None), "or_pool": int(layer.or_pool is not None),
        "height": height, "width": width, "out_height": out[0], "out_width": out[1], "columns": columns,
        "pool_kernel": pool.kernel, "pool_stride": pool.stride, "pool_padding": pool.padding,
        "row_tiles": -(-area // p.lanes), "column_tiles": 1,
        "out_masks": 64, "out_mask_stride": mask, "out_values": values, "out_slot_stride": slot,
        "currents": values + area * slot + 5, "current_stride": columns * depth * CURRENT_BYTES}
    if layer.neuron is not None:
        fields |= {"strict": int(layer.neuron.compare == ">"), "reset": RESETS.index(layer.neuron.reset),
                   "leak_shift": layer.neuron.leak_shift, "decay_input": int(layer.neuron.decay_input)}
    if layer.requantise is not None:
        fields |= {"requantise": 1, "signed_words": int(layer.requantise.signed), "word_bits": layer.requantise.bits,
                   "word_step": layer.requantise.step}
    if layer.digit is not None:
        fields |= {"digit": 1, "digit_low": layer.digit.low, "digit_bits": layer.digit.bits,
                   "digit_clip": int(layer.digit.clip), "digit_one": int(layer.digit.step is not None),
                   "word_step": layer.digit.step or 0}
    return fields


def records_of(case: Case) -> list[bytes]:
    """Return the pass descriptors, as far as the tail reads them."""
    records = []
    for planes in case.planes:
        identity = all(q.shift == 0 and not q.negate and q.steps in ((), (b,)) for b, q in enumerate(planes))
        records.append(pass_record(
            {"identity": int(identity), "planes": len(planes), "steps": sum(1 << b for b, q in enumerate(planes) if q.steps)},
            [{"steps": sum(1 << t for t in q.steps), "shift": q.shift, "negate": int(q.negate)} for q in planes]))
    return records


def visits_of(case: Case, fields: dict[str, int], p: Arch) -> list[list[tuple[int, int] | None]]:
    """Return the pixel of the sums that every lane holds, visit after visit; None: none, or outside the map."""
    pool = case.layer.or_pool
    tiles = list(pixels(fields, p.lanes))
    if pool is None:
        return tiles
    out = []
    for tile, (dy, dx) in itertools.product(tiles, itertools.product(range(pool.kernel), repeat=2)):
        members = [None if at is None else (at[0] * pool.stride - pool.padding + dy, at[1] * pool.stride - pool.padding + dx)
                   for at in tile]
        out.append([at if at is not None and 0 <= at[0] < case.size[0] and 0 <= at[1] < case.size[1] else None
                    for at in members])
    return out


def streams_of(case: Case, fields: dict[str, int], p: Arch, rng: random.Random) -> dict[str, list[int]]:
    """Return the payloads of ``i``, ``column`` and ``residual``; dots of lanes without a pixel are random."""
    columns, top = len(case.layer.bias), 1 << p.acc_bits - 1
    dots, parameters = [], []
    for visit, column in itertools.product(visits_of(case, fields, p), range(columns)):
        for operand in case.dots:
            payload = 0
            for lane, at in enumerate(visit):
                values = ([rng.randrange(-top, top) for _ in range(p.t_max)] if at is None else
                          [int(v) for v in operand[:, column, at[0], at[1]]] + [0] * (p.t_max - len(operand)))
                for b, value in enumerate(values):
                    payload |= (value & 2 * top - 1) << p.acc_bits * (lane * p.t_max + b)
            dots.append(payload)
        neuron, scale = case.layer.neuron, case.layer.requantise
        threshold = int(neuron.threshold[column]) if neuron else 0
        if scale is not None:
            threshold = int(scale.multiplier[column]) | int(scale.shift[column]) << 16
        parameters.append(word(column_layout(p), {
            "bias": int(case.layer.bias[column]), "threshold": threshold, "tile_end": column == columns - 1}))
    entries = [
        word(currents_layout(p), {
            "values": [*entry.values, *(rng.randrange(-9, 9) for _ in range(p.t_max - case.steps))], "lane": entry.lane,
            "end": entry.end}) for entry in entries_of(case, p)]
    return {"i": dots, "column": parameters, "residual": entries}


def entries_of(case: Case, p: Arch) -> list[Currents]:
    """Return what the residual path hands to the tail."""
    pool = case.layer.max_pool
    return [] if case.stored is None else list(residual(case.stored, None if pool is None else ("max", pool), p.lanes))


def memory_after(case: Case, fields: dict[str, int]) -> bytes:
    """Return the memory that golden leaves."""
    memory = bytearray([FILL]) * MEMORY_BYTES

    def write(offset: int, content: bytes) -> None:
        memory[BASE + offset : BASE + offset + len(content)] = content

    out = tail(case.layer, case.sums(), case.stored)
    if out.output is not None:
        masks, slots = stored_fibers(out.output, fields["word_log2"])
        write(fields["out_masks"], masks)
        for pixel, content in slots.items():
            write(fields["out_values"] + pixel * fields["out_slot_stride"], content)
    if case.layer.store_currents or case.layer.readout:
        write(fields["currents"], stored_currents(out.currents, case.layer.readout))
    return bytes(memory)


async def take_pieces(dut: Any, memory: bytearray, pauses: Any) -> None:
    """Write the pieces of ``store`` into ``memory``; no byte is written twice."""
    layout = piece_layout(arch())
    written: set[int] = set()
    while True:
        takes = not next(pauses)
        dut.store__ready.value = int(takes)
        await FallingEdge(dut.clk)
        if takes and dut.store__valid.value:
            piece = layout.from_bits(int(dut.store__payload.value))
            content = int(piece.data).to_bytes(layout["data"].width // 8, "little")[: piece.bytes]
            places = range(int(piece.address), int(piece.address) + len(content))
            assert content
            assert not written & set(places)
            written |= set(places)
            memory[places.start : places.stop] = content
        await RisingEdge(dut.clk)


async def take_words(dut: Any, words: list[tuple[int, int, list[int | None]]]) -> None:
    """Collect (tile, column, word of every lane in the map) of every neuron event."""
    p = arch()
    while True:
        await FallingEdge(dut.clk)
        if dut.word_valid.value and not dut.rst.value:
            bits, lanes = int(dut.word_data.value), int(dut.word_lanes.value)
            words.append((int(dut.word_tile.value), int(dut.word_column.value), [
                bits >> n * p.t_max & (1 << p.t_max) - 1 if lanes >> n & 1 else None for n in range(p.lanes)]))


async def begin(dut: Any) -> None:
    """Reset."""
    dut.base.value, dut.layer_number.value = BASE, 3
    await start(dut, ["descriptor__valid", "layer", "layer_start", "i__valid", "column__valid", "residual__valid",
                      "store__ready"])
    dut.rst.value = 0
    for name in ("i", "column", "residual", "store"):
        cocotb.start_soon(watch(dut, name))


@cocotb.test(timeout_time=900, timeout_unit="us")
@cocotb.parametrize(kind=list(range(len(KINDS))), stall=[False, True])
async def matches_golden(dut: Any, kind: int, stall: bool) -> None:
    """Memory and neuron words equal golden after every layer, and nothing else is written."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await begin(dut)
    words: list[tuple[int, int, list[int | None]]] = []
    cocotb.start_soon(take_words(dut, words))
    for _ in range(3):
        case = draw_case(rng, p, KINDS[kind])
        fields = fields_of(case, p)
        memory = bytearray([FILL]) * MEMORY_BYTES
        taker = cocotb.start_soon(take_pieces(dut, memory, stalls(rng, 0.5 if stall else 0.0)))
        await describe(dut, fields, records_of(case))
        dut.layer_start.value = 1
        await RisingEdge(dut.clk)
        dut.layer_start.value = 0
        senders = [cocotb.start_soon(put(dut, name, payloads, stalls(rng, 0.4 if stall else 0.0)))
                   for name, payloads in streams_of(case, fields, p, rng).items() if payloads]
        for sender in senders:
            await sender
        await FallingEdge(dut.clk)
        while not dut.idle.value:
            await FallingEdge(dut.clk)
        await RisingEdge(dut.clk)
        taker.cancel()
        dut.store__ready.value = 0
        assert bytes(memory) == memory_after(case, fields), fields
        spikes = tail(case.layer, case.sums(), case.stored).words
        visits = visits_of(case, fields, p)
        wanted = [] if spikes is None else [
            (visit * fields["row_tiles"] // len(visits), column,
             [None if at is None else int(spikes[column, at[0], at[1]]) for at in visits[visit]])
            for visit, column in itertools.product(range(len(visits)), range(fields["columns"]))]
        assert words == wanted
        words.clear()


@cocotb.test(timeout_time=400, timeout_unit="us")
@cocotb.parametrize(kind=list(range(len(KINDS))))
async def takes_the_documented_cycles(dut: Any, kind: int) -> None:
    """A column takes the cycles of `column_cycles` while no piece is complete; OR-pool and mask cost a column nothing."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await begin(dut)
    dut.store__ready.value = 1
    case = draw_case(rng, p, KINDS[kind])
    while case.steps > 2 or len(case.layer.bias) != 5 or 5 * case.layer.word_width(case.steps) > p.chunk_bits // 2:
        case = draw_case(rng, p, KINDS[kind])
    if KINDS[kind] == "planes":
        case = dataclasses.replace(case, layer=dataclasses.replace(case.layer, store_currents=False))
    fields = fields_of(case, p)
    await describe(dut, fields, records_of(case))
    dut.layer_start.value = 1
    await RisingEdge(dut.clk)
    dut.layer_start.value = 0
    payloads = streams_of(case, fields, p, rng)
    for name in ("i", "residual"):
        if payloads[name]:
            cocotb.start_soon(put(dut, name, payloads[name]))
    taken = await put(dut, "column", payloads["column"])
    assert [after - before for before, after in itertools.pairwise(taken[:5])] == column_cycles(case, fields, p)[1:5]


def column_cycles(case: Case, fields: dict[str, int], p: Arch) -> list[int]:
    """Return the cycles of the columns of the first tile: passes, residual, currents, digits, or the requantiser."""
    identity = [record[6 * 4] >> 4 & 1 for record in records_of(case)]
    passes = sum(1 if one else 1 + len(planes) for one, planes in zip(identity, case.planes, strict=True))
    present = sum(at is not None for at in next(iter(pixels(fields, p.lanes))))
    adds, leaves = case.stored is not None, case.layer.store_currents or case.layer.readout
    pieces, at = piece_count(p, fields["steps"]), 0
    for lane in range(p.lanes):
        at = max(at, lane + 1 if adds else 0) + (pieces if lane < present else 1)
    currents = at if leaves else p.lanes if adds else 0
    scale = case.layer.requantise
    busy = [0] * fields["columns"] if scale is None else [0, *(int(shift) + 1 for shift in scale.shift[:-1])]
    digit, made = case.layer.digit, 0
    if digit is not None:
        made = len(digit.taken(case.steps)) * (max(digit.bits, p.stream_bits - digit.low) if digit.clip else digit.bits)
    return [max(2 + passes + currents + made, before) for before in busy]
