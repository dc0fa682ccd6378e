"""Every legal size generates and simulates, pairwise; everything else is refused with the legal set."""

import dataclasses
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from golden.arch import CHUNK_BITS, DATA_BITS, LANES, LEAKS, PRESETS, WEIGHT_BITS, Arch, LifParams, ParameterError, load_preset
from golden.network import Network, Neuron
from hdl.image import build_image
from verif.system import System
from verif.verify import Maker, run_network

FACTORS: dict[str, tuple[Any, ...]] = {
    "chunk_bits": CHUNK_BITS, "lanes": LANES, "weight_bits": WEIGHT_BITS, "leak": LEAKS, "t_class": ("low", "high"),
    "data_bits": DATA_BITS}
PAIRS = (("chunk_bits", "weight_bits"), ("lanes", "weight_bits"), ("chunk_bits", "t_class"), ("lanes", "t_class"),
         ("leak", "t_class"), ("chunk_bits", "leak"), ("weight_bits", "leak"), ("weight_bits", "t_class"))
T_MAX = {"low": (1, 4, 2, 7, 3, 8, 5, 6), "high": (16, 9, 12, 15, 10, 13, 11, 14)}
DRAWS = 6
ROW_BITS = 3072


def legal(sizes: dict[str, Any]) -> bool:
    """Return whether the sizes go together: a beat holds at least a chunk."""
    return bool(sizes["data_bits"] >= sizes["chunk_bits"])


def covered(sizes: dict[str, Any], pairs: tuple[tuple[str, str], ...]) -> set[tuple[Any, ...]]:
    """Return the pairs of values, and the single values, that one build covers."""
    return {(a, sizes[a], b, sizes[b]) for a, b in pairs} | set(sizes.items())


def cost(sizes: dict[str, Any]) -> tuple[int, int]:
    """Return what makes a build slow: bits of all lanes, and the width of the bus."""
    return sizes["lanes"] * sizes["chunk_bits"] * (2 if sizes["t_class"] == "high" else 1), sizes["data_bits"]


def covering(pairs: tuple[tuple[str, str], ...]) -> list[dict[str, Any]]:
    """Return builds that cover ``pairs``, chosen greedily: most uncovered pairs first, then the cheaper build."""
    every = [sizes for values in itertools.product(*FACTORS.values())
             if legal(sizes := dict(zip(FACTORS, values, strict=True)))]
    missing = set().union(*(covered(sizes, pairs) for sizes in every))
    chosen = []
    while missing:
        best = min(every, key=lambda sizes: (-len(covered(sizes, pairs) & missing), cost(sizes)))
        missing -= covered(best, pairs)
        chosen.append(best)
    return chosen


def builds(pairs: tuple[tuple[str, str], ...]) -> Iterator[Arch]:
    """Yield one small `Arch` per build of `covering`; each class of t_max goes through its values in turn."""
    turns = {name: itertools.cycle(values) for name, values in T_MAX.items()}
    for number, sizes in enumerate(covering(pairs)):
        values = {**sizes, "t_max": next(turns[sizes["t_class"]])}
        del values["t_class"]
        yield Arch(name=f"size{number}", max_chunks=64, row_value_lines=ROW_BITS // sizes["chunk_bits"],
                   weight_bytes=768, pool_channels=24, outstanding=16, burst_beats=32, buffer_bytes=1 << 24,
                   fifo_depth=max(8, sizes["chunk_bits"] // 16), steps_per_cycle=(1, 2, 4)[number % 3], **values)


BUILDS = tuple(builds(PAIRS))


class SizedMaker(Maker):
    """Draws small networks for any build, with the leak that it has."""

    def smallest(self) -> tuple[Network, Tensor]:
        """Return the network with the least memory out of several, and an image for it."""
        networks = [self.network(f"{self.arch.name}-{number}") for number in range(DRAWS)]
        network = min(networks, key=lambda n: build_image(n, self.arch).size)
        return network, self.image(network.input, network.steps)

    def _neuron(self, currents: Tensor) -> Neuron:
        neuron = super()._neuron(currents)
        if self.arch.leak == "2^-k":
            return neuron
        return dataclasses.replace(neuron, leak=self.arch.leak, leak_shift=self.random.randint(0, 3), decay_input=False)


@pytest.mark.parametrize("arch", BUILDS, ids=lambda a: f"{a.chunk_bits}x{a.lanes}-w{a.weight_bits}-t{a.t_max}-"
                                                       f"d{a.data_bits}-{a.leak}")
def test_size(arch: Arch) -> None:
    """A random network is exact on a build of this size."""
    network, x = SizedMaker(arch, 3).smallest()
    assert any(layer.neuron for layer in network.layers)
    assert run_network(network, x, System(arch, optimise="-O0"), stall_seed=5) is None


def test_coverage() -> None:
    """The list covers every value, every pair of `PAIRS`, and t_max from 1 to 16."""
    sizes = covering(PAIRS)
    found = set().union(*(covered(entry, PAIRS) for entry in sizes))
    for a, b in PAIRS:
        assert {(a, x, b, y) for x in FACTORS[a] for y in FACTORS[b]} <= found
    assert all((name, value) in found for name, values in FACTORS.items() for value in values)
    assert {1, 16} <= {arch.t_max for arch in BUILDS}
    assert sorted(sum(T_MAX.values(), ())) == list(range(1, 17))
    assert sizes == covering(PAIRS)


def test_a_broken_size_is_seen() -> None:
    """A neuron whose compare is inverted is found on the smallest build."""
    arch = BUILDS[0]
    broken, count = re.subn(r"assign fire_0 = ([^;]+);", r"assign fire_0 = ~(\1);", System(arch).design)
    assert count == 1
    network, x = SizedMaker(arch, 3).smallest()
    failure = run_network(network, x, System(arch, broken, optimise="-O0"))
    assert failure is not None
    assert failure["mismatches"] > 0


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
    assert str(error.value) == f"buffer_bytes must be at least {need}, what the row, weight and pool stores take, not 262144"


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
