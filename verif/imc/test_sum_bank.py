"""Bank of sums against golden: parts in any order, vectors one behind the other, parts that are missing or too many."""

import dataclasses
import itertools
import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.imc.arch import IMC_PRESETS, ImcArch
from golden.imc.sum_bank import Sums, sum_bank
from hdl.imc.sum_bank import SumBank
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import NEVER, cycle, get, idle, reset, stalls, word

TINY = dataclasses.replace(IMC_PRESETS["tiny-ci"], channels=5, stream_bits=20, tiles=2, fan_in=2, crossbars=4)
ARCHS = {"five channels": TINY, "one channel": dataclasses.replace(TINY, channels=1, tiles=1, fan_in=1),
         "spikesim": IMC_PRESETS["spikesim"]}
Vector = list[tuple[int, int]]


@pytest.mark.parametrize("name", ARCHS)
def test_sum_bank(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(SumBank(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new", "caught"), [
    pytest.param("Mux(fresh, 0, old.sum) +", "old.sum +", "matches_golden", id="first part is added"),
    pytest.param("finish.eq(ending & ~clear & ~stage.busy)", "finish.eq(ending & ~clear)", "matches_golden",
                 id="ends before its last part"),
    pytest.param("(stage.leave & ~again) | finish | clear", "(stage.leave & ~again) | clear", "numbers_come_round",
                 id="old words are not renewed"),
])
def test_mutants_are_caught(old: str, new: str, caught: str) -> None:
    """Sums of another vector and a vector that ends too early are caught."""
    outcome = simulate(mutant(SumBank, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True,
                       all_tests=True)
    assert any(caught in name for name in outcome.failed), outcome.failed


def test_word_on_its_way_is_caught() -> None:
    """A part that misses the write of the part before it is caught."""
    outcome = simulate(SumBank(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True,
                       replace=(r"word = same \? written :", "word = 1'h0 ? written :"))
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


def test_golden_forgets_the_order() -> None:
    """The sums of a vector are those of its parts, whatever their order; errors are counted by hand."""
    rng = random.Random(1)
    words = [(key, rng.randint(-9, 9)) for key in range(4) for _ in range(3)]
    wanted = {key: sum(part for other, part in words if other == key) for key in range(4)}
    for _ in range(50):
        rng.shuffle(words)
        got = sum_bank(words, parts=3, keys=4)
        assert dict(got.sums) == wanted
        assert (got.miss, got.dup) == (False, False)
    assert sum_bank([(0, 1), (0, 2), (1, 5), (0, 4), (1, 6), (2, 1)], parts=2, keys=3) == Sums(
        sums=((0, 3), (1, 11)), miss=True, dup=True)


def draw(rng: random.Random, p: ImcArch, *, parts: int, keys: int) -> Vector:
    """Return a vector whose sums fit ``stream_bits``; key after key, in layers, or mixed. Sums on the way may wrap."""
    top = 1 << min(p.stream_bits, SumBank.i_layout(p)["d"].width) - 1
    words: Vector = []
    for key in rng.sample(range(p.channels), keys):
        wide = rng.choice((2, 100, top // parts))
        some = [rng.randrange(-wide, wide) for _ in range(parts)]
        corners = ([top - 1, *[0] * (parts - 1)], [-top, *[0] * (parts - 1)], [top - 1] * (parts - parts // 2)
                   + [1 - top] * (parts // 2) if parts % 2 else some)
        words += [(key, part) for part in rng.choice((some, some, *corners))]
    order = rng.choice(("sorted", "layers", "mixed"))
    if order == "mixed":
        rng.shuffle(words)
    return [words[n * parts + m] for m in range(parts) for n in range(keys)] if order == "layers" else words


def damage(rng: random.Random, vector: Vector) -> Vector:
    """Return the vector with a part left out or one too many at its end, or as it is."""
    kind = rng.choice(("whole", "less", "more"))
    if kind == "less":
        return [word for n, word in enumerate(vector) if n != len(vector) - 1 - rng.randrange(min(3, len(vector)))]
    return [*vector, rng.choice(vector)] if kind == "more" else vector


async def send(dut: Any, p: ImcArch, vectors: list[Vector], rng: random.Random, density: float) -> list[list[int]]:
    """Send vectors, the ends with the last part or later; return the cycles in which parts were accepted."""
    layout, pauses = SumBank.i_layout(p), stalls(rng, density)
    taken: list[list[int]] = []
    for vector in vectors:
        taken.append([])
        for number, (key, d) in enumerate(vector):
            dut.i__valid.value = 0
            while next(pauses):
                await RisingEdge(dut.clk)
            dut.i__valid.value, dut.i__payload.value = 1, word(layout, {"key": key, "d": d})
            await FallingEdge(dut.clk)
            while not dut.i__ready.value:
                await FallingEdge(dut.clk)
            taken[-1].append(cycle())
            with_last = number == len(vector) - 1 and not (density and rng.randrange(2))
            dut.vector_end.value = int(with_last)
            await RisingEdge(dut.clk)
            dut.vector_end.value = 0
        dut.i__valid.value = 0
        if not (vector and with_last):
            for _ in range(rng.choice((0, 0, 3))):
                await RisingEdge(dut.clk)
            dut.vector_end.value = 1
            await RisingEdge(dut.clk)
            dut.vector_end.value = 0
    return taken


async def begin(dut: Any, p: ImcArch) -> None:
    """Reset; the bank is busy for as many cycles as it has words."""
    for name in ("settings", "vector_end"):
        getattr(dut, name).value = 0
    await reset(dut)
    assert await settle(dut) == p.channels
    assert (int(dut.err_miss.value), int(dut.err_dup.value)) == (0, 0)


async def settle(dut: Any) -> int:
    """Wait until the bank rests; return the cycles that took."""
    await FallingEdge(dut.clk)
    start = cycle()
    while dut.busy.value:
        await FallingEdge(dut.clk)
    await RisingEdge(dut.clk)
    return cycle() - start - 1


async def run(dut: Any, p: ImcArch, vectors: list[Vector], rng: random.Random, *, parts: int, keys: int,
              density: float = 0.0) -> tuple[list[list[int]], list[int], bool, bool]:
    """Run vectors one behind the other and compare their sums; return cycles in and out, and golden's errors."""
    dut.settings.value = word(SumBank.settings_layout(p), {"parts": parts, "keys": keys})
    wanted = [sum_bank(vector, parts=parts, keys=keys) for vector in vectors]
    sums = [entry for vector in wanted for entry in vector.sums]
    sender, left = cocotb.start_soon(send(dut, p, vectors, rng, density)), list[int]()
    got = await get(dut, "o", len(sums), stalls(rng, density) if density else NEVER, left)
    taken = await sender
    await settle(dut)
    words = [SumBank.o_layout(p).from_bits(bits) for bits in got]
    assert [(int(out.key), int(out.d)) for out in words] == sums
    return taken, left, any(vector.miss for vector in wanted), any(vector.dup for vector in wanted)


@cocotb.test(timeout_time=150, timeout_unit="us")
@cocotb.parametrize(density=[0.0, 0.5])
async def matches_golden(dut: Any, density: float) -> None:
    """Sums of whole vectors equal golden and raise no error; without stalls parts come in and sums leave as documented."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    await begin(dut, p)
    most = p.tiles * p.crossbars
    for parts, keys in [(1, 1), (1, p.channels), (min(3, most), p.channels), (most, 1)] + [
            (rng.randint(1, min(8, most)), rng.randint(1, min(8, p.channels))) for _ in range(8)]:
        count = 1 + 40 // (parts * keys)
        vectors = [draw(rng, p, parts=parts, keys=keys) for _ in range(count)]
        taken, left, _, _ = await run(dut, p, vectors, rng, parts=parts, keys=keys, density=density)
        assert (int(dut.err_miss.value), int(dut.err_dup.value)) == (0, 0), (parts, keys)
        if density:
            continue
        for vector, cycles in zip(vectors, taken, strict=True):
            assert cycles == [*range(cycles[0], cycles[0] + parts * keys)]
            ends = [cycles[n] for n, (key, _) in enumerate(vector) if key not in {other for other, _ in vector[n + 1:]}]
            assert left[:keys] == [end + 2 for end in ends]
            left = left[keys:]
        assert {after[0] - before[-1] for before, after in itertools.pairwise(taken)} <= {2}
    await idle(dut, "o", 10)


@cocotb.test(timeout_time=120, timeout_unit="us")
async def numbers_come_round(dut: Any) -> None:
    """A key that rests for as many vectors as there are numbers is as empty as any other."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    await begin(dut, p)
    numbers, other = 1 << p.channels.bit_length(), min(1, p.channels - 1)
    for key in {0, p.channels - 1}:
        vectors = [[(key if n % numbers == 0 else other, rng.randint(-9, 9)) for _ in range(2)] for n in range(2 * numbers + 1)]
        await run(dut, p, vectors, rng, parts=2, keys=1)
    assert (int(dut.err_miss.value), int(dut.err_dup.value)) == (0, 0)


@cocotb.test(timeout_time=120, timeout_unit="us")
@cocotb.parametrize(density=[0.0, 0.5])
async def errors_stay_and_nothing_hangs(dut: Any, density: float) -> None:
    """Parts that are missing or too many set their error, which stays; the sums of all vectors still equal golden."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    await begin(dut, p)
    seen, most = [False, False], p.tiles * p.crossbars
    for _ in range(10):
        parts, keys = rng.randint(1, min(4, most)), rng.randint(1, min(4, p.channels))
        vector = damage(rng, draw(rng, p, parts=parts, keys=keys))
        whole = draw(rng, p, parts=parts, keys=keys)
        vectors = [vector, whole, rng.choice((whole, []))]
        _, _, *errors = await run(dut, p, vectors, rng, parts=parts, keys=keys, density=density)
        seen = [before or now for before, now in zip(seen, errors, strict=True)]
        assert [bool(dut.err_miss.value), bool(dut.err_dup.value)] == seen
    dut.rst.value = 1
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    await RisingEdge(dut.clk)
    assert (int(dut.err_miss.value), int(dut.err_dup.value)) == (0, 0)


@cocotb.test(timeout_time=10, timeout_unit="us")
@cocotb.parametrize(twice=[False, True])
async def an_end_behind_an_end_is_an_error(dut: Any, twice: bool) -> None:
    """The end of a vector without parts is one, also while the end before it waits."""
    p = ImcArch(**parameters_of_bench())
    await begin(dut, p)
    dut.settings.value = word(SumBank.settings_layout(p), {"parts": 1, "keys": 1})
    dut.i__valid.value, dut.i__payload.value, dut.vector_end.value = 1, 0, 1
    await RisingEdge(dut.clk)
    dut.i__valid.value, dut.vector_end.value = 0, int(twice)
    await RisingEdge(dut.clk)
    dut.vector_end.value = 0
    await get(dut, "o", 1)
    await settle(dut)
    assert bool(dut.err_miss.value) == twice
