"""Every legal size generates and simulates, pairwise; everything else is refused with the legal set."""

import dataclasses
import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from golden.arch import PRESETS, Arch, LifParams, ParameterError, load_preset
from verif import sizes as sizes_module
from verif.sizes import EVERY_PAIR, FACTORS, builds, covered, covering, legal, smallest, title, verify_sizes
from verif.system import System
from verif.verify import run_network

# `spikeloom verify --sizes` builds every pair of every value; here t_max has two classes.
LOW, HIGH = 8, 16
T_MAX = {LOW: (1, 4, 2, 7, 3, 8, 5, 6), HIGH: (16, 9, 12, 15, 10, 13, 11, 14)}
LARGE = {"chunk_bits": 16, "data_bits": 512, "lanes": 32, "dataflow": "lockstep"}
SHORT = covering(EVERY_PAIR, {**FACTORS, "t_max": (LOW, HIGH)})


def short_builds() -> list[Arch]:
    """Return the builds of the short form; each class of t_max goes through its values in turn."""
    turns = {limit: itertools.cycle(values) for limit, values in T_MAX.items()}
    return list(builds([{**sizes, "t_max": next(turns[sizes["t_max"]])} for sizes in SHORT]))


def steps_of(every: list[Arch]) -> dict[str, list[int]]:
    """Return the T that each build runs: its t_max, and on the widest also a T that is no build's t_max."""
    left = sorted(set(range(1, 17)) - {arch.t_max for arch in every}, reverse=True)
    widest = sorted(every, key=lambda arch: -arch.t_max)[: len(left)]
    more = {arch.name: [steps] for arch, steps in zip(widest, left, strict=True)}
    return {arch.name: [arch.t_max, *more.get(arch.name, [])] for arch in every}


BUILDS = short_builds()
STEPS = steps_of(BUILDS)


@pytest.mark.parametrize("arch", BUILDS, ids=title)
def test_size(arch: Arch) -> None:
    """A random network is exact on a build of this size, at T = t_max and at a T that is no build's t_max."""
    for steps in STEPS[arch.name]:
        network, x = smallest(arch, 3, steps)
        assert network.steps == steps
        assert any(layer.neuron for layer in network.layers)
        assert run_network(network, x, System(arch, optimise="-O0"), stall_seed=5) is None


def test_short_form() -> None:
    """The short form covers every value, every legal pair, and T from 1 to 16; the list is always the same."""
    factors = {**FACTORS, "t_max": (LOW, HIGH)}
    found = set().union(*(covered(entry, EVERY_PAIR) for entry in SHORT))
    for a, b in EVERY_PAIR:
        assert {(a, x, b, y) for x in factors[a] for y in factors[b]
                if legal({**LARGE, a: x, b: y})} <= found
    assert all((name, value) in found for name, values in factors.items() for value in values)
    assert {1, 16} <= {arch.t_max for arch in BUILDS}
    assert all(steps <= arch.t_max for arch in BUILDS for steps in STEPS[arch.name])
    assert {steps for many in STEPS.values() for steps in many} == set(range(1, 17))
    assert covering(EVERY_PAIR, factors) == SHORT


def test_complete_form() -> None:
    """`spikeloom verify --sizes` has every legal pair of every two sizes, T and leak included."""
    chosen = covering(EVERY_PAIR)
    found = set().union(*(covered(entry, EVERY_PAIR) for entry in chosen))
    for a, b in itertools.combinations(FACTORS, 2):
        wanted = {(a, x, b, y) for x in FACTORS[a] for y in FACTORS[b]}
        missing = wanted - found
        assert all(not legal({**LARGE, a: x, b: y}) for _, x, _, y in missing)
        assert not missing or (a, b) in {("chunk_bits", "data_bits"), ("lanes", "dataflow")}
    assert len(FACTORS["lanes"]) * len(FACTORS["t_max"]) <= len(chosen) <= 110
    assert [title(arch) for arch in builds(chosen)] == [title(arch) for arch in builds(covering(EVERY_PAIR))]


def test_a_broken_size_is_seen() -> None:
    """A neuron whose compare is inverted is found on the smallest build."""
    arch = BUILDS[0]
    broken, count = re.subn(r"assign fire_0 = ([^;]+);", r"assign fire_0 = ~(\1);", System(arch).design)
    assert count == 1
    network, x = smallest(arch, 3, arch.t_max)
    failure = run_network(network, x, System(arch, broken, optimise="-O0"))
    assert failure is not None
    assert failure["mismatches"] > 0


def test_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing size is reported with its sizes and with the command that runs it alone."""
    ran: list[Arch] = []

    def fail_once(network: Any, x: Any, system: System, stall_seed: int) -> dict[str, Any] | None:
        ran.append(system.arch)
        return {"layer": "layer0", "mismatches": 3} if system.arch.name == "size2" else None

    monkeypatch.setattr(sizes_module, "run_network", fail_once)
    monkeypatch.setattr(sizes_module, "covering", lambda pairs: SHORT[:3])
    report = verify_sizes(7)
    second = list(builds(SHORT[:3]))[1]
    assert ran == list(builds(SHORT[:3]))
    (block,), (failure,) = report["blocks"], report["failures"]
    assert (block["name"], block["tests"], block["passed"], block["failed"]) == ("sizes", 3, 2, 1)
    assert failure["build"] == title(second)
    assert failure["command"] == "spikeloom verify --sizes 2 --seed 7"
    ran.clear()
    assert verify_sizes(7, only=2)["failures"] == report["failures"]
    assert ran == [second]
    with pytest.raises(ParameterError) as error:
        verify_sizes(7, only=4)
    assert str(error.value) == "sizes: build 4 does not exist; legal: 1..3; try: --sizes"


ILLEGAL = [
    ({"chunk_bits": 48}, "chunk_bits must be one of 16, 32, 64, 128, 256, not 48"),
    ({"chunk_bits": 8}, "chunk_bits must be one of 16, 32, 64, 128, 256, not 8"),
    ({"chunk_bits": 512}, "chunk_bits must be one of 16, 32, 64, 128, 256, not 512"),
    ({"lanes": 0}, "lanes must be one of 1, 2, 4, 8, 16, 32, not 0"),
    ({"lanes": 3}, "lanes must be one of 1, 2, 4, 8, 16, 32, not 3"),
    ({"lanes": 64}, "lanes must be one of 1, 2, 4, 8, 16, 32, not 64"),
    ({"weight_bits": 2}, "weight_bits must be one of 4, 8, not 2"),
    ({"weight_bits": 16}, "weight_bits must be one of 4, 8, not 16"),
    ({"data_bits": 32}, "data_bits must be one of 64, 128, 256, 512, not 32"),
    ({"data_bits": 1024}, "data_bits must be one of 64, 128, 256, 512, not 1024"),
    ({"chunk_bits": 128, "data_bits": 64}, "data_bits must be at least chunk_bits (128), not 64"),
    ({"chunk_bits": 256, "fifo_depth": 16, "data_bits": 128}, "data_bits must be at least chunk_bits (256), not 128"),
    ({"t_max": 0}, "t_max must be in 1..16, not 0"),
    ({"t_max": 17}, "t_max must be in 1..16, not 17"),
    ({"leak": "3/4"}, "leak must be one of 2^-k, 1-2^-k, not '3/4'"),
    ({"steps_per_cycle": 3}, "steps_per_cycle must be one of 1, 2, 4, 8, 16, not 3"),
    ({"acc_bits": 12}, "acc_bits must be in 16..32, not 12"),
    ({"acc_bits": 28}, "acc_bits must be at most stream_bits (24), not 28"),
    ({"membrane_bits": 20}, "membrane_bits must be in 24..32, not 20"),
    ({"address_bits": 24}, "address_bits must be in 32..64, not 24"),
    ({"outstanding": 0}, "outstanding must be in 1..256, not 0"),
    ({"burst_beats": 48}, "burst_beats must be one of 16, 32, 64, 128, 256, not 48"),
    ({"burst_beats": 128}, "burst_beats must be at most 64 with 512 data bits (4 KB boundary), not 128"),
    ({"chunk_bits": 256}, "fifo_depth must be in 16..64, not 8"),
    ({"max_chunks": 1}, "max_chunks must be in 2..1024, not 1"),
    ({"row_value_lines": 0}, "row_value_lines must be in 1..4096, not 0"),
    ({"weight_bytes": 1000}, "weight_bytes must be a multiple of 64 of at least 256, not 1000"),
    ({"pool_channels": 0}, "pool_channels must be in 1..4096, not 0"),
]


@pytest.mark.parametrize(("fields", "message"), ILLEGAL)
def test_illegal(fields: dict[str, Any], message: str) -> None:
    """An illegal size is refused with its legal set, whole message."""
    with pytest.raises(ParameterError) as error:
        Arch(**fields)
    assert str(error.value) == message


def test_illegal_buffer() -> None:
    """Stores beyond the buffer are refused with what they take."""
    loas = PRESETS["loas"]
    with pytest.raises(ParameterError) as error:
        dataclasses.replace(loas, max_chunks=1024)
    need = Arch(max_chunks=1024, buffer_bytes=1 << 30).used_bytes
    assert str(error.value) == (
        f"buffer_bytes must be at least {need}, what the row, weight, pool, resume and residual stores take, not 262144")


def test_illegal_stream() -> None:
    """The widths of the parallel LIF are refused by it."""
    with pytest.raises(ParameterError) as error:
        LifParams(stream_bits=33)
    assert str(error.value) == "stream_bits must be in 8..32, not 33"


def test_toml(tmp_path: Path) -> None:
    """Sizes from a TOML file are legal or refused alike, with the file's name."""
    path = tmp_path / "mine.toml"
    path.write_text('base = "tiny"\nchunk_bits = 64\nlanes = 2\n')
    assert (load_preset(str(path)).chunk_bits, load_preset(str(path)).lanes) == (64, 2)
    path.write_text('base = "tiny"\nchunk_bits = 128\n')
    with pytest.raises(ParameterError) as error:
        load_preset(str(path))
    assert str(error.value) == f"preset: {path}: data_bits must be at least chunk_bits (128), not 64"
