"""What follows the sums against golden: pools, neurons, scale, read-out, words and their places, stalls, cycles."""

import dataclasses
import random
from collections.abc import Iterable
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge
from numpy.typing import NDArray

from golden.imc.arch import ImcArch
from golden.imc.post import SECOND_BITS, Done, post, unfit
from golden.imc.vector_walk import Vector, vector_walk
from golden.network import Layer, Neuron, Pool, Requantise
from golden.parallel_lif import RESETS
from golden.run import run_tail, unpack
from hdl.imc.activation import unpack as unpack_words
from hdl.imc.lane import Lane
from hdl.imc.layer import vector_layout
from hdl.imc.post import Post
from verif.imc.layers import CORES, TAILS, arch, corners, draw_layer, layer_word, vector_word
from verif.layers import start
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import NEVER, cycle, put, stalls, watch, word

TREES = "two trees of two"
ARCHS = {"one tile": CORES["one tile"], TREES: dataclasses.replace(CORES[TREES], stream_bits=30, membrane_bits=30),
         "tokens": dataclasses.replace(CORES["one tile"], tokens=4, features=40)}
# Cycles of a vector beyond those of its sums, as often as they serve, and words: nothing emitted, read-out, neurons, scale;
# more of a scale in a build with tokens.
BESIDE = {"nothing": 3, "readout": 7, "neurons": 9, "scale": 11}
FACTOR = 2
Sums = NDArray[np.int64]


@pytest.mark.parametrize("name", ARCHS)
def test_post(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Post(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("m.d.comb += clear.eq(i.p.first)", "m.d.comb += clear.eq(1)", id="members forget"),
    pytest.param("i.p.starts & layer.fresh", "i.p.starts", id="always at rest"),
    pytest.param("takes & move", "i.valid & move", id="a sum ahead of its vector"),
    pytest.param("(turn == b)", "(b == 0)", id="spikes of another step"),
    pytest.param("~holds(seconds.r_data, SCALE_LAYOUT.size)", "0", id="a shift that is cut"),
    pytest.param(" & (self.group_base == 0)", "", id="every group at rest"),
    pytest.param(" | (lane.p.channel == fed)", " | 1", id="groups in another order"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """Spikes of members and sums that are lost, and membranes that do not last, are caught."""
    p = CORES[TREES]
    simulate(mutant(Post, old, new)(p), __name__, parameters=dataclasses.asdict(p), expect_failure=True,
             test_filter="stall=0.5")


def draw(rng: random.Random, layer: dict[str, int]) -> tuple[Sums, Sums, Sums]:
    """Return the sums [steps * pixels, channels] of a layer, biases and second words."""
    n, top = layer["channels"], rng.choice((4, 1 << 10, 1 << 20))
    low, high = rng.choice(((-top, top), (0, top), (-top, 0)))
    sums = [[rng.randint(low, high) for _ in range(n)] for _ in range(layer["steps"] * layer["pixels"])]
    biases = [rng.randint(-top // 2, top // 2) for _ in range(n)]
    seconds = [rng.randint(1, top) if rng.random() < 0.9 else -rng.randint(1, top) & 0xFFFF_FFFF for _ in range(n)]
    if layer["scale"]:
        most = min(31, 16 + (top * layer["pool_kernel"] ** 2).bit_length())
        seconds = [rng.choice((1, 0xFFFF, 0x8000, rng.randrange(1 << 16))) | rng.randint(16, most) << 16 for _ in range(n)]
    return np.asarray(sums, np.int64), np.asarray(biases, np.int64), np.asarray(seconds, np.int64)


def vectors_of(layer: dict[str, int], sums: Any) -> list[tuple[Vector, Any]]:
    """Return the vectors of a layer with their sums."""
    return [(v, sums[v.key - layer["first_step"] * layer["pixels"]]) for v in vector_walk(layer)]


def rest(p: ImcArch, kind: Any = np) -> tuple[Any, Any]:
    """Return a membrane memory at rest."""
    return kind.zeros(p.membranes, dtype=kind.int64), kind.zeros(p.membranes, dtype=kind.int64)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("time_inner", [0, 1])
def test_golden_is_the_tail(kind: Any, tail: str, time_inner: int, seed: int) -> None:
    """Words and read-outs of whole layers are those of the integer network's tail, in NumPy and torch."""
    rng, p = random.Random(seed), CORES["one tile"]
    for _ in range(12):
        steps, pooled = 1 if tail == "scale" else rng.randint(1, 4), 1 if tail == "readout" else rng.randint(1, 3)
        layer = draw_layer(rng, p, most=80, tail=tail, time_inner=time_inner, steps=steps, pool=pooled, first_step=0, fresh=1,
                           per_step=0)
        sums, biases, seconds = draw(rng, layer)
        seconds = np.tile(seconds[: layer["channels"] >> layer["share_log2"]], 1 << layer["share_log2"])
        vectors = vectors_of(layer, kind.asarray(sums))
        done = [*post(layer, vectors, biases=kind.asarray(biases), seconds=kind.asarray(seconds), memory=rest(p, kind),
                      rows=p.rows)]
        height, size = layer["pixels"] // layer["conv_width"], (layer["out_height"], layer["out_width"])
        maps = np.moveaxis(sums.reshape(layer["steps"], height, layer["conv_width"], layer["channels"]), 3, 1)
        maps = np.stack([maps[0]] * len(maps)) if layer["once"] else maps
        trace = run_tail(tail_of(layer, biases, seconds), layer["steps"], maps, 0, {})
        if tail == "readout":
            sent = [d.readout for d in done if d.readout]
            assert np.asarray(sent).T.reshape(-1, *size).tolist() == np.asarray(trace.readout).tolist()
            continue
        planes, words = layer["word_bits"] if tail == "scale" else layer["steps"], dict(w for d in done for w in d.writes)
        memory = np.asarray([[words[layer["out_base"] + at]] for at in range(planes * layer["out_plane"])], np.uint32)
        got = unpack_words(memory, planes, layer["channels"], *size, p.rows)
        assert np.array_equal(got, unpack(trace.output, planes)), layer


def tail_of(layer: dict[str, int], biases: Sums, seconds: Sums) -> Layer:
    """Return the layer of the integer network whose tail it is."""
    window = Pool(kernel=layer["pool_kernel"], stride=layer["pool_stride"])
    pools = ("or_pool", "max_pool", "sum_pool") if layer["pool_kernel"] > 1 else ()
    kind: dict[str, Any] = {"readout": True} if layer["readout"] else {"requantise": Requantise(
        multiplier=seconds & 0xFFFF, shift=seconds >> 16 & 31, bits=layer["word_bits"],
        signed=bool(layer["word_signed"]))} if layer["scale"] else {"neuron": Neuron(
            threshold=(seconds ^ 1 << 31) - (1 << 31), leak_shift=layer["leak_shift"],
            decay_input=bool(layer["decay_input"]), compare=">" if layer["strict"] else ">=",
            reset=RESETS[layer["reset"]], share=1 << layer["share_log2"])}
    chosen: dict[str, Any] = {pools[layer["pool_mode"]]: window} if pools else {}
    return Layer(name="tail", passes=(), bias=biases, **kind, **chosen)


class Monitor:
    """What leaves the block, vector after vector: `Done`, the cycle in which it was released, key and steps of its neurons."""

    def __init__(self, dut: Any, p: ImcArch, pauses: Iterable[bool]) -> None:
        self.dut, self.p, self.pauses = dut, p, iter(pauses)
        self.done: list[tuple[Done, int, tuple[int, list[int]] | None]] = []
        self.unfit = False

    async def watch(self) -> None:
        """Collect for ever."""
        dut, writes, readout = self.dut, list[tuple[int, int]](), dict[int, int]()
        spikes, keys = dict[int, list[int]](), set[int]()
        while True:
            takes = not next(self.pauses)
            dut.readout__ready.value = int(takes)
            await FallingEdge(dut.clk)
            if dut.write.value:
                writes.append((int(dut.address.value), int(dut.word.value)))
            if dut.steps.value:
                spikes.setdefault(int(dut.stepped_step.value), []).append(int(dut.stepped.value) << 1 | int(dut.spikes.value))
                keys.add(int(dut.stepped_key.value))
            if takes and dut.readout__valid.value:
                out = Lane.o_layout(self.p).from_bits(int(dut.readout__payload.value))
                readout[int(out.channel)] = int(out.d)
            self.unfit |= bool(dut.unfit.value)
            if dut.released.value:
                assert len(keys) <= 1
                self.done.append((Done(writes=tuple(writes), readout=tuple(readout[c] for c in sorted(readout)),
                                       spikes=tuple(tuple(seen & 1 for seen in sorted(spikes[t])) for t in sorted(spikes))),
                                  cycle(), (next(iter(keys)), sorted(spikes)) if keys else None))
                writes, readout, spikes, keys = [], {}, {}, set()
            await RisingEdge(dut.clk)


async def parameters(dut: Any, p: ImcArch, biases: Sums, seconds: Sums) -> None:
    """Write what the host writes."""
    layout = Post(p).signature.members["parameters"].shape
    for second, numbers in enumerate((biases, seconds)):
        for channel, number in enumerate(numbers.tolist()):
            dut.parameters.value = word(layout, {
                "valid": 1, "second": second, "channel": channel, "number": number & 0xFFFF_FFFF})
            await RisingEdge(dut.clk)
    dut.parameters.value = 0


async def lane(dut: Any, p: ImcArch, layer: dict[str, int], number: int, vectors: list[tuple[Vector, Any]], monitor: Monitor,
               pauses: Iterable[bool]) -> None:
    """Offer a lane's sums of each vector, those of the next one when it is released."""
    own = [c for c in range(layer["channels"]) if c // layer["outputs"] % (p.tiles // p.fan_in) == number]
    for count, (_, sums) in enumerate(vectors):
        await put(dut, f"sums__{number}", [word(Lane.o_layout(p), {"channel": c, "d": int(sums[c])}) for c in own], pauses)
        while len(monitor.done) <= count:
            await RisingEdge(dut.clk)


async def run(dut: Any, p: ImcArch, rng: random.Random, layer: dict[str, int], monitor: Monitor, memory: tuple[Sums, Sums],
              stall: float, wide: int | None = None) -> None:
    """Compare all vectors of a layer, or, where a channel's second word is ``wide``, what is told of that."""
    sums, biases, seconds = draw(rng, layer)
    if wide is not None:
        seconds[rng.randrange(len(seconds))] = wide
    vectors = vectors_of(layer, sums)
    dut.layer.value = layer_word(layer)
    await parameters(dut, p, biases, seconds)
    began, factors = cycle(), np.asarray([rng.choice((0, 65793, rng.randrange(65793))) for _ in range(layer["pixels"])])
    server = cocotb.start_soon(serve(dut, p, factors.tolist()))
    for number in range(p.tiles // p.fan_in):
        cocotb.start_soon(lane(dut, p, layer, number, vectors, monitor,
                               stalls(rng, rng.choice((stall, 0.75))) if stall else NEVER))
    await put(dut, "i", [vector_word(p, v) for v, _ in vectors], stalls(rng, stall) if stall else NEVER)
    wanted = [*post(layer, vectors, biases=biases, seconds=seconds, memory=memory, rows=p.rows, factors=factors)]
    server.cancel()
    assert monitor.unfit == unfit(layer, seconds, membrane_bits=p.membrane_bits), (layer, wide)
    if wide is not None:
        monitor.done.clear()
        monitor.unfit = False
        return
    assert [done for done, _, _ in monitor.done] == wanted, layer
    assert [seen for _, _, seen in monitor.done] == [
        (v.key, [*range(v.step, v.step + len(d.spikes))]) if d.spikes else None
        for (v, _), d in zip(vectors, wanted, strict=True)]
    if not stall:
        last = began - 1
        for done, (_, at, _) in zip(wanted, monitor.done, strict=True):
            kind = ("readout" if done.readout else "neurons" if done.spikes else "scale" if done.writes else "nothing")
            turns = layer["steps"] if layer["once"] and kind in ("readout", "neurons") else 1
            assert at - last == turns * layer["channels"] + len(done.writes) + BESIDE[kind] + (
                FACTOR if p.tokens and kind == "scale" else 0), (kind, layer)
            last = at
    monitor.done.clear()


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def matches_golden(dut: Any, stall: float) -> None:
    """Words, spikes and read-outs of corner and random layers equal golden; without stalls in the documented cycles."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    streams = ["i", *(f"sums__{number}" for number in range(p.tiles // p.fan_in))]
    await start(dut, ["layer", "parameters", "factor", "readout__ready", "ended", *(f"{name}__valid" for name in streams)])
    dut.rst.value = 0
    for name in (*streams, "readout"):
        cocotb.start_soon(watch(dut, name))
    monitor = Monitor(dut, p, stalls(rng, stall))
    cocotb.start_soon(monitor.watch())
    cocotb.start_soon(toggle(dut.ended, dut.clk, stalls(rng, stall)))
    memory = rest(p)
    for layer in corners(rng, p, 6, most=40):
        await run(dut, p, rng, layer | {"fresh": 1}, monitor, memory, stall)
        if not layer["fresh"]:
            await run(dut, p, rng, layer, monitor, memory, stall)
    top = 1 << p.membrane_bits - 1
    for tail, wide in ((tail, wide) for tail in TAILS for wide in (top - 1, -top & 0xFFFF_FFFF, 1 << SECOND_BITS, 1 << 30, 9)):
        layer = draw_layer(rng, p, most=2, tail=tail, channels=2, fresh=1)
        await run(dut, p, rng, layer, monitor, memory, stall, wide)


async def serve(dut: Any, p: ImcArch, factors: list[int]) -> None:
    """Give the factor of the token of the vector that is offered, in the cycle after."""
    while True:
        await FallingEdge(dut.clk)
        window = int(vector_layout(p).from_bits(int(dut.i__payload.value)).window) if dut.i__valid.value else 0
        await RisingEdge(dut.clk)
        dut.factor.value = factors[window]


async def toggle(signal: Any, clock: Any, pauses: Iterable[bool]) -> None:
    """Drive a signal low where pauses are True."""
    for pause in pauses:
        signal.value = int(not pause)
        await RisingEdge(clock)
