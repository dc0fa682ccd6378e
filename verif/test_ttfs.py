"""Time-to-first-spike neurons: golden against exact rationals over the same ticks, the block against golden."""

import dataclasses
import random
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import FallingEdge, RisingEdge
from numpy.typing import NDArray

from golden.arch import FRACTION_BITS, Arch, mantissas
from golden.formats import NEVER
from golden.network import Ttfs as Neurons
from golden.ttfs import numbers, race, ttfs
from hdl.ttfs import Ttfs
from verif.chunks import TINY, TTFS, arch, packed, signed
from verif.layers import layer_word
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import NEVER as NO_PAUSE
from verif.stream import cycle, get, idle, put, reset, stalls

ARCHS = {
    "63 ticks": TTFS,
    "15 ticks, narrow": replace(TINY, requantise=True, ttfs=True, acc_bits=16, buffer_bytes=16384),
    "one lane": replace(TTFS, lanes=1),
}
BROKEN = ARCHS["15 ticks, narrow"]
LATENCY = 4


@pytest.mark.parametrize("name", ARCHS)
def test_ttfs(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Ttfs(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize("broken", [
    pytest.param(("membrane.eq(after >> 1)", "membrane.eq(after)"), id="octave not halved"),
    pytest.param(("fires.eq(judged & (membrane >= 0))", "fires.eq(judged & (membrane > 0))"), id="strict threshold"),
    pytest.param(("fires & (earliness == 0)", "fires"), id="last spike instead of the first"),
    pytest.param(("earliness, NEVER)", "earliness, 0)"), id="never is 0"),
    pytest.param(("Cat(fraction, membrane[", "Cat(Const(0, FRACTION_BITS), membrane["), id="ties without the fraction"),
    pytest.param(("(rank > best)", "(rank >= best)"), id="last index of ties"),
    pytest.param(("now <= best[", "now <= 1 + best["), id="race stopped too early"),
    pytest.param(("[column.eq(0), tile", "[column.eq(column), tile"), id="best of the tile before"),
    pytest.param(("stopped.eq(absent | fires", "stopped.eq(fires"), id="lanes without a row are waited for"),
])
def test_mutants_are_caught(broken: tuple[str, str]) -> None:
    """A wrong membrane, spike, tie or end of the race is caught."""
    outcome = simulate(mutant(Ttfs, *broken)(BROKEN), __name__, parameters=dataclasses.asdict(BROKEN), expect_failure=True)
    assert any("matches_golden" in name or "cycles" in name for name in outcome.failed)


def by_definition(arrivals: list[int], threshold: int, resolution: int) -> tuple[int | None, Fraction]:
    """Return (tick of the first spike, D in units of its octave; of the last tick when there is none), in rationals."""
    table = [Fraction(m) for m in mantissas(resolution)[:-1]]
    sum_wz, sum_w, octave = Fraction(0), Fraction(0), Fraction(1)
    above = Fraction(-1)
    for tick, arriving in enumerate(arrivals):
        octave = Fraction(2) ** (tick >> resolution)
        z = table[tick % len(table)] * octave
        sum_wz, sum_w = sum_wz + arriving * z, sum_w + arriving
        above = z * (sum_w - threshold) - sum_wz
        if above >= 0:
            return tick, above / octave
    return None, above / octave


def draw_arrivals(rng: random.Random, window: int, limit: int) -> list[int]:
    """Return sums of weights per tick, sparse or dense, of one sign or both, at most ``limit`` in absolute sum."""
    each, density, low = limit // window, rng.choice((0.05, 0.3, 1.0)), rng.choice((-1.0, 0.0, -0.5))
    return [round(rng.uniform(low, 1) * each * rng.choice((1, 1, 0.1))) if rng.random() < density else 0
            for _ in range(window)]


@pytest.mark.parametrize("resolution", range(4))
def test_golden_is_exact(kind: Any, resolution: int, seed: int) -> None:
    """Spike ticks and D, its fraction included, equal rationals for every window."""
    rng = random.Random(seed + resolution)
    fired = 0
    for window in (1, 2, 3, 9, 18, 27, 63):
        arrivals = [draw_arrivals(rng, window, 2000) for _ in range(60)]
        thresholds = [rng.choice((1, 2, rng.randint(1, 400))) for _ in range(60)]
        p = Neurons(threshold=kind.asarray(thresholds), window=window, resolution=resolution, bits=6)
        spikes = ttfs(kind.asarray(np.array(arrivals).T), p)
        for n, (arriving, threshold) in enumerate(zip(arrivals, thresholds, strict=True)):
            tick, above = by_definition(arriving, threshold, resolution)
            fired += tick is not None
            assert spikes.earliness[n] == (0 if tick is None else window - tick)
            last = window - 1 if tick is None else tick
            if last >> resolution <= FRACTION_BITS:
                assert int(spikes.membrane[n]) + Fraction(int(spikes.fraction[n]), 1 << FRACTION_BITS) == above
    assert fired > 50


def test_a_neuron_that_needs_all_inputs_fires() -> None:
    """Four equal weights of 0.3 fire at 2.048 in the differential equation, and here at the tick behind it."""
    arrivals = np.zeros((18, 1), np.int64)
    arrivals[0] = 4 * 30
    spikes = ttfs(arrivals, Neurons(threshold=np.array([100]), window=18, resolution=1, bits=5))
    assert 18 - int(spikes.earliness[0]) == 6
    assert 5 * np.log(2) / 2 < np.log(4 * 0.3 / (4 * 0.3 - 1)) < 6 * np.log(2) / 2


def test_race_by_definition(seed: int) -> None:
    """The largest score is the earliest spike, then the largest D, then the lowest index; none of no spikes too."""
    rng, winners, ties = random.Random(seed), set(), 0
    for trial in range(300):
        window, resolution = rng.choice((4, 9, 18)), rng.randrange(2)
        arrivals = [draw_arrivals(rng, window, rng.choice((30, 400))) for _ in range(6)]
        arrivals += rng.sample(arrivals, 2)
        thresholds = [rng.choice((1, 30, 10_000 if trial % 5 == 0 else 50))] * 8
        found = [by_definition(arriving, threshold, resolution)
                 for arriving, threshold in zip(arrivals, thresholds, strict=True)]
        ranks = [(0 if tick is None else window - tick, above) for tick, above in found]
        scores = race(ttfs(np.array(arrivals).T, Neurons(
            threshold=np.array(thresholds), window=window, resolution=resolution, bits=6))).tolist()
        winner = scores.index(max(scores))
        assert winner == ranks.index(max(ranks))
        assert max(scores) >> 8 == ranks[winner][0]
        winners.add(winner)
        ties += sum(rank[0] == ranks[winner][0] for rank in ranks) > 1
    assert len(winners) >= 6 and ties > 30


@dataclass(frozen=True)
class Work:
    """One layer: its fields, thresholds [columns], arrivals [tiles, window, columns, lanes]; rows [tiles] of each tile."""

    layer: dict[str, int]
    threshold: NDArray[np.int64]
    arrivals: NDArray[np.int64]
    rows: list[int]

    def expected(self) -> list[tuple[list[int], int]]:
        """Return golden's numbers of the lanes that hold a row, and the ticks scanned, of every column of every tile."""
        out = []
        p = Neurons(threshold=self.threshold, window=self.layer["window"], resolution=self.layer["resolution"], bits=6)
        for tile, rows in enumerate(self.rows):
            spikes = ttfs(self.arrivals[tile], p)
            shown = race(spikes) if self.layer["readout"] else numbers(spikes)
            best = np.zeros(self.arrivals.shape[3], np.int64)
            for column, early in enumerate(spikes.earliness):
                stop = np.maximum(early, best if column else 0) if self.layer["readout"] else early
                slot = max(1, int(stop[:rows].min()))
                best = np.maximum(best, early)
                out.append((shown[column, :rows].tolist(), p.window - slot + 1))
        return out


def works(rng: random.Random, p: Arch) -> list[Work]:
    """Return layers of 1 to 3 tiles and 1 to 12 columns, every resolution, windows up to the most, with and without race."""
    out = []
    for number in range(24):
        window = rng.choice((1, 2, 3, 9, p.ttfs_slots - 1, rng.randrange(1, p.ttfs_slots)))
        tiles, columns, last = rng.randint(1, 3), rng.randint(1, 12), rng.randint(1, p.lanes)
        limit = (1 << p.acc_bits - 1) - 1 if number % 3 == 0 else 1000
        threshold = np.array([rng.choice((1, limit // 3, rng.randint(1, limit // 20 + 1))) for _ in range(columns)])
        spread = min(2 * limit // 3, limit - 1)
        arrivals = np.array([[[draw_arrivals(rng, window, spread) for _ in range(p.lanes)] for _ in range(columns)]
                             for _ in range(tiles)]).transpose(0, 3, 1, 2)
        if number % 2 and columns > 2:
            threshold[1:], arrivals[:, :, 1] = threshold[0], arrivals[:, :, 0]
            arrivals[:, :, 2] = arrivals[:, ::-1, 0] if number % 4 == 1 else arrivals[:, :, 0]
        layer = {"window": window, "resolution": rng.randrange(4), "readout": number % 2, "columns": columns,
                 "row_tiles": tiles, "last_lanes": last - 1}
        if number % 2 and (window - 1) >> layer["resolution"] > FRACTION_BITS:
            layer["resolution"] = 3
        out.append(Work(layer, threshold, arrivals, [*[p.lanes] * (tiles - 1), last]))
    return [*out, late_tie(p)]


def late_tie(p: Arch) -> Work:
    """Return a race of two columns that fire at the last of 15 ticks, whose D differ by 2^-6 of a unit."""
    arrivals = np.zeros((1, 15, 2, p.lanes), np.int64)
    arrivals[0, 12], arrivals[0, 0, 1], arrivals[0, 1, 1] = 150, 1, -1
    layer = {"window": 15, "resolution": 0, "readout": 1, "columns": 2, "row_tiles": 1, "last_lanes": p.lanes - 1}
    return Work(layer, np.array([100, 100]), arrivals, [p.lanes])


async def serve(dut: Any, p: Arch, work: Work, rng: random.Random, pause: float, full: list[int]) -> None:
    """Play the sums of all lanes: a column is full, its slots are read with latency 1, ``clear`` takes it away."""
    for tile in range(len(work.rows)):
        for column in range(work.layer["columns"]):
            while rng.random() < pause:
                await RisingEdge(dut.clk)
            dut.full.value = 1
            full.append(cycle())
            cleared = False
            while not cleared:
                await FallingEdge(dut.clk)
                cleared, slot = bool(dut.clear.value), int(dut.slot.value) if dut.read.value else None
                await RisingEdge(dut.clk)
                if slot is not None:
                    tick = work.layer["window"] - slot
                    sums = work.arrivals[tile, tick, column] if 0 <= tick < work.layer["window"] else np.zeros(p.lanes, int)
                    dut.sums.value = packed(map(int, sums), p.acc_bits)
            dut.full.value = 0


async def run_layer(dut: Any, p: Arch, work: Work, rng: random.Random, stall: bool
                    ) -> tuple[list[list[int]], list[int], list[int]]:
    """Return (numbers of all lanes, cycle of ``full``, cycle of the output) of every column."""
    dut.layer.value, dut.start.value = layer_word(work.layer), 1
    await RisingEdge(dut.clk)
    dut.start.value = 0
    count, full, at = work.layer["columns"] * len(work.rows), list[int](), list[int]()
    cocotb.start_soon(serve(dut, p, work, rng, 0.3 if stall else 0.0, full))
    cocotb.start_soon(put(dut, "threshold", [int(t) & 0xFFFFFFFF for _ in work.rows for t in work.threshold],
                          stalls(rng) if stall else NO_PAUSE))
    got = await get(dut, "o", count, stalls(rng) if stall else NO_PAUSE, at=at)
    return [[signed(bits >> p.acc_bits * lane & (1 << p.acc_bits) - 1, p.acc_bits) for lane in range(p.lanes)]
            for bits in got], full, at


async def begin(dut: Any) -> None:
    """Reset the block with all inputs at rest."""
    for name in ("layer", "start", "full", "sums"):
        getattr(dut, name).value = 0
    dut.threshold__payload.value = 0
    await reset(dut, ("threshold", "o"))


@cocotb.test(timeout_time=4, timeout_unit="ms")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """Numbers and scores of every column and tile equal golden, with and without stalls on every handshake."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await begin(dut)
    seen = set()
    for work in works(rng, p):
        got, _, _ = await run_layer(dut, p, work, rng, stall)
        for number, (lanes, (wanted, _)) in enumerate(zip(got, work.expected(), strict=True)):
            assert lanes[: len(wanted)] == wanted, (number, work.layer)
            seen |= set(wanted)
    assert NEVER in seen and len(seen) > 10
    await idle(dut, "o", 10)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def takes_the_documented_cycles(dut: Any) -> None:
    """A column's numbers leave ``ticks + 4`` cycles after its sums are full; the next one starts in that cycle."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await begin(dut)
    for work in works(rng, p):
        _, full, at = await run_layer(dut, p, work, rng, False)
        ticks = [count for _, count in work.expected()]
        assert [out - into for into, out in zip(full, at, strict=True)][1:] == [count + LATENCY for count in ticks][1:]
        assert full[1:] == at[:-1]
