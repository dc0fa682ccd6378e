"""Every legal size, pairwise: small builds that cover all pairs of values, each with a random network."""

import itertools
import time
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from golden.arch import CHUNK_BITS, DATA_BITS, DATAFLOWS, LANES, LEAKS, WEIGHT_BITS, Arch, ParameterError
from golden.network import Network
from hdl.image import build_image
from verif.system import System
from verif.verify import Maker, Progress, describe, run_network, tally

Sizes = dict[str, Any]
Pairs = tuple[tuple[str, str], ...]

FACTORS: dict[str, tuple[Any, ...]] = {
    "chunk_bits": CHUNK_BITS, "lanes": LANES, "weight_bits": WEIGHT_BITS, "leak": LEAKS, "t_max": tuple(range(1, 17)),
    "data_bits": DATA_BITS, "dataflow": DATAFLOWS}
EVERY_PAIR: Pairs = tuple(itertools.combinations(FACTORS, 2))
DRAWS = 6
ROW_BITS = 3072
LOOM_ROWS, LOOM_ROW_BITS, LOOM_LINES = 4, 16384, 512


def legal(sizes: Mapping[str, Any]) -> bool:
    """Return whether the sizes go together: a beat holds at least a chunk, and a loom has four lanes."""
    return bool(sizes["data_bits"] >= sizes["chunk_bits"] and (sizes["dataflow"] == "lockstep" or sizes["lanes"] >= 4))


def cost(sizes: Mapping[str, Any]) -> tuple[int, int]:
    """Return what makes a build slow: bits of all lanes, and the width of the bus."""
    rows = 1 if sizes["dataflow"] == "lockstep" else LOOM_ROWS
    return rows * sizes["lanes"] * (sizes["chunk_bits"] + 16 * sizes["t_max"]), sizes["data_bits"]


def covered(sizes: Mapping[str, Any], pairs: Pairs) -> set[tuple[Any, ...]]:
    """Return the pairs of values, and the single values, that one build covers."""
    return {(a, sizes[a], b, sizes[b]) for a, b in pairs} | set(sizes.items())


def covering(pairs: Pairs, factors: Mapping[str, tuple[Any, ...]] = FACTORS) -> list[Sizes]:
    """Return builds that cover every legal value of ``pairs``, chosen greedily.

    The build with the most uncovered pairs comes first, of several the cheapest; so the list is the same each time.
    """
    every = sorted((sizes for values in itertools.product(*factors.values())
                    if legal(sizes := dict(zip(factors, values, strict=True)))), key=cost)
    places: dict[tuple[Any, ...], int] = {}
    bits = [sum(1 << places.setdefault(item, len(places)) for item in covered(sizes, pairs)) for sizes in every]
    missing, chosen = (1 << len(places)) - 1, []
    while missing:
        best = max(range(len(every)), key=lambda n: (bits[n] & missing).bit_count())
        missing &= ~bits[best]
        chosen.append(every[best])
    return chosen


def builds(chosen: list[Sizes]) -> Iterator[Arch]:
    """Yield a small `Arch` of each of the sizes; ``steps_per_cycle`` takes turns."""
    for number, sizes in enumerate(chosen, 1):
        loom = sizes["dataflow"] == "loom"
        own = {"rows": LOOM_ROWS, "pixel_chunks": 128, "pixel_lines": LOOM_ROW_BITS // sizes["chunk_bits"]} if loom else {}
        yield Arch(name=f"size{number}", max_chunks=64,
                   row_value_lines=min(LOOM_LINES, (LOOM_ROW_BITS if loom else ROW_BITS) // sizes["chunk_bits"]),
                   weight_bytes=768, pool_channels=24, outstanding=16, burst_beats=32, buffer_bytes=1 << 24,
                   fifo_depth=max(8, sizes["chunk_bits"] // 16), steps_per_cycle=(1, 2, 4)[number % 3], **own, **sizes)


def title(arch: Arch) -> str:
    """Return the sizes of a build in a word."""
    return f"{arch.chunk_bits}x{arch.lanes}-w{arch.weight_bits}-t{arch.t_max}-d{arch.data_bits}-{arch.leak}-{arch.dataflow}"


def smallest(arch: Arch, seed: int, steps: int) -> tuple[Network, Tensor]:
    """Return the network of T = ``steps`` with the least memory out of several, and an image for it."""
    maker = Maker(arch, seed)
    networks = [maker.network(f"{arch.name}-{number}", steps) for number in range(DRAWS)]
    network = min(networks, key=lambda n: build_image(n, arch).size)
    return network, maker.image(network.input, network.steps)


def verify_sizes(seed: int, progress: Progress = lambda done, of: None, only: int | None = None) -> dict[str, Any]:
    """Generate, build and simulate every pair of legal sizes, or only build ``only``, counted from 1.

    Each build runs one random network whose T is the build's ``t_max``. Returns the report of ``verify``.
    """
    every = list(builds(covering(EVERY_PAIR)))
    if only is not None and only > len(every):
        raise ParameterError(f"sizes: build {only} does not exist; legal: 1..{len(every)}; try: --sizes")
    chosen = every if only is None else [every[only - 1]]
    started, failures = time.monotonic(), []
    for number, arch in enumerate(chosen):
        progress(number, len(chosen))
        network, x = smallest(arch, seed, arch.t_max)
        failure = run_network(network, x, System(arch, optimise="-O0"), stall_seed=seed % (1 << 32))
        if failure is not None:
            failures.append({"seed": seed, "build": title(arch), "failure": failure, "small": describe(network),
                             "command": f"spikeloom verify --sizes {arch.name.removeprefix('size')} --seed {seed}"})
    progress(len(chosen), len(chosen))
    return {"blocks": [tally("sizes", len(chosen), len(failures), started)], "seed": seed, "failures": failures}
