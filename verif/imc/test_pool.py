"""Pool against golden: all modes and windows, channels one after the other or mixed, members side by side."""

import dataclasses
import itertools
import random
from typing import Any

import cocotb
import numpy as np
import pytest

from golden.arch import ParameterError
from golden.imc.arch import IMC_PRESETS, ImcArch
from golden.imc.pool import MODES, pool
from golden.network import Pool as Window
from hdl.imc.pool import Pool, PoolMode
from verif.mutant import mutant
from verif.sim import parameters_of_bench, simulate
from verif.stream import NEVER, get, idle, put, reset, stalls, word

TINY = dataclasses.replace(IMC_PRESETS["tiny-ci"], channels=6, stream_bits=16)
ARCHS = {"tiny-ci": TINY, "one wide channel": dataclasses.replace(TINY, channels=1, stream_bits=32)}
WINDOWS = (Window(kernel=2, stride=2), Window(kernel=3, stride=2, padding=1), Window(kernel=1, stride=1))
Member = dict[str, int]


@pytest.mark.parametrize("name", ARCHS)
def test_pool(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(Pool(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("old", "new"), [
    pytest.param("Mux(old > d, old, d)", "Mux(stage.word > d.as_unsigned(), old, d)", id="unsigned maximum"),
    pytest.param("old[0] & ~first", "old[0]", id="OR of the window before"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    """A maximum that takes negative values for large ones, and spikes of another window, are caught."""
    outcome = simulate(mutant(Pool, old, new)(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True)
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


def test_word_on_its_way_is_caught() -> None:
    """A member that misses the write of the member before it is caught."""
    outcome = simulate(Pool(TINY), __name__, parameters=dataclasses.asdict(TINY), expect_failure=True,
                       replace=(r"word = same \? written :", "word = 1'h0 ? written :"))
    assert any("matches_golden" in name for name in outcome.failed), outcome.failed


def test_golden_by_hand(kind: Any) -> None:
    """A map of two by three worked out by hand, in NumPy and torch; another mode is refused."""
    x, whole = kind.asarray([[[-3, -1, 4], [-2, -5, 7]]]), Window(kernel=2, stride=1)
    assert [mode.name.lower() for mode in PoolMode] == list(MODES)
    for mode, wanted in {"none": x.tolist(), "max": [[[-1, 7]]], "sum": [[[-11, 5]]], "or": [[[1, 1]]]}.items():
        assert pool(x, mode, whole).tolist() == wanted
    framed = Window(kernel=2, stride=2, padding=1)
    assert pool(x, "max", framed).tolist() == [[[-3, 4], [-2, 7]]]
    assert pool(x, "or", framed).tolist() == [[[1, 1], [0, 1]]]
    with pytest.raises(ParameterError) as error:
        pool(x, "avg", whole)
    assert str(error.value) == "mode must be one of none, max, sum, or, not 'avg'"


def members(x: Any, window: Window) -> list[list[list[Member]]]:
    """Return [window][member][channel] what is sent for a map [C, H, W]; members outside of the map are not."""
    size, (_, height, width) = window.kernel, x.shape
    rows, columns = ((side + 2 * window.padding - size) // window.stride + 1 for side in (height, width))
    out = []
    for y, column in itertools.product(range(rows), range(columns)):
        places = [(y * window.stride - window.padding + dy, column * window.stride - window.padding + dx)
                  for dy, dx in itertools.product(range(size), repeat=2)]
        inside = [place for place in places if 0 <= place[0] < height and 0 <= place[1] < width]
        out.append([[{"channel": c, "d": int(x[c, *place]), "first": int(n == 0), "last": int(n == len(inside) - 1)}
                     for c in range(len(x))] for n, place in enumerate(inside)])
    return out


def draw(rng: random.Random, p: ImcArch, channels: int, mode: str, window: Window) -> Any:
    """Return a map [C, 3, 4] of values of which windows fit ``stream_bits``, its ends among them."""
    top = (1 << p.stream_bits - 1) // (window.kernel ** 2 if mode == "sum" else 1)
    low, high = rng.choice(((-top, top - 1), (-3, 3), (-top, -1), (0, 1)))
    return np.array([[[rng.choice((low, high, rng.randint(low, high))) for _ in range(4)] for _ in range(3)]
                     for _ in range(channels)])


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(density=[0.0, 0.5])
async def matches_golden(dut: Any, density: float) -> None:
    """Values equal golden for all modes, windows and orders of channels; without stalls in the documented cycles."""
    p, rng = ImcArch(**parameters_of_bench()), random.Random(cocotb.RANDOM_SEED)
    dut.settings.value = 0
    await reset(dut)
    for (code, mode), window, inside in itertools.product(enumerate(MODES), WINDOWS, (False, True)):
        x = draw(rng, p, rng.choice((1, p.channels)), mode, window)
        sent = members(x, window)
        flat = [member for group in sent for row in (zip(*group, strict=True) if inside else group) for member in row]
        if mode == "none":
            wanted = [(member["channel"], member["d"]) for member in flat]
        else:
            pooled = pool(x, mode, window)
            wanted = [(c, int(value)) for place in pooled.reshape(len(x), -1).T for c, value in enumerate(place)]
        dut.settings.value = word(Pool.settings_layout(), {"mode": code})
        pauses = [stalls(rng, density) if density else NEVER for _ in range(2)]
        sender = cocotb.start_soon(put(dut, "i", [word(Pool.i_layout(p), member) for member in flat], pauses[0]))
        left: list[int] = []
        got = [Pool.o_layout(p).from_bits(bits) for bits in await get(dut, "o", len(wanted), pauses[1], left)]
        taken = await sender
        assert [(int(out.channel), int(out.d)) for out in got] == wanted, (mode, window, inside)
        if not density:
            assert taken == [*range(taken[0], taken[0] + len(flat))]
            assert left == [at + 2 for at, member in zip(taken, flat, strict=True) if member["last"] or mode == "none"]
    await idle(dut, "o", 10)
