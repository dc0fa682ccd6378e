"""``spikeloom verify --random``: random networks are exact on one build; a broken accelerator is found and shrunk."""

import dataclasses
import itertools
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from golden.arch import LEAKS, PRESETS
from golden.network import Network
from hdl.image import build_image
from spikeloom.blocks import ROOT, bench, defines_block
from spikeloom.blocks import blocks as block_names
from spikeloom.cli import run as command_line
from verif.system import System
from verif.verify import Maker, blocks, build_of, describe, random_networks, run_network, smaller

ARCH = PRESETS["tiny"]
NETWORKS = 50
ATTEMPTS = 8
DECAYS = {"2^-k": ((0, False), (0, True), (1, False), (1, True), (2, False)),
          "1-2^-k": ((0, False), (1, False), (2, False), (3, False))}
BROKEN = {
    "equal does not fire": (r"= job\[\d+\] & (\S+ ;\s+assign \S+ += ~)", r"= \1"),
    "correction of step 1 dropped": (r"- \$signed\(corrected_1\)", r"- $signed(1'd0)"),
}


@cache
def drawn() -> tuple[Network, ...]:
    """Return the networks of `test_random_networks`."""
    return tuple(Maker(build_of(ARCH, seed), seed).network(f"random-{seed}") for seed in range(NETWORKS))


@cache
def broken(what: str) -> System:
    """Return an accelerator with one thing wrong."""
    pattern, replacement = BROKEN[what]
    design, count = re.subn(pattern, replacement, System(ARCH).design)
    assert count == 1
    return System(ARCH, design, optimise="-O0")


def test_random_networks() -> None:
    """Every spike of every random network is the same on the RTL as in golden."""
    report = random_networks(NETWORKS, 0)
    assert report["failures"] == []
    (block,) = report["blocks"]
    assert block.keys() == {"name", "tests", "passed", "failed", "seconds"}
    assert (block["name"], block["tests"], block["passed"], block["failed"]) == ("random", NETWORKS, NETWORKS, 0)
    assert report["seed"] == 0


def test_what_is_drawn() -> None:
    """The networks that run have every shape and every neuron that `Maker` promises."""
    layers = [layer for network in drawn() for layer in network.layers]
    passes = [sweep for layer in layers for sweep in layer.passes]
    neurons = [layer.neuron for layer in layers if layer.neuron]
    assert {1, ARCH.t_max} <= {network.steps for network in drawn()}
    assert {2, 6} <= {sum(bool(layer.passes) for layer in network.layers) for network in drawn()}
    assert any(network.input.height != network.input.width for network in drawn())
    assert {network.input.kind for network in drawn()} == {"static", "steps"}
    assert {sweep.weight.shape[2] for sweep in passes} == {1, 2, 3, 4, 5}
    assert {sweep.stride for sweep in passes} == {1, 2, 3}
    assert {sweep.padding for sweep in passes} == {0, 1, 2}
    variants = {leak: [(leak, k, decay_input, compare, reset) for (k, decay_input), compare, reset in
                       itertools.product(decays, (">=", ">"), ("hard", "soft", "soft_delayed"))]
                for leak, decays in DECAYS.items()}
    drawn_variants = Counter((n.leak, n.leak_shift, n.decay_input, n.compare, n.reset) for n in neurons)
    assert drawn_variants.keys() == {*variants["2^-k"], *variants["1-2^-k"]}
    assert {layer.min_spikes for layer in layers} == {1, 2}
    for kind in ("residual", "max_pool", "or_pool"):
        assert any(getattr(layer, kind) is not None for layer in layers), kind
    densities = [float((sweep.weight != 0).float().mean()) for sweep in passes]
    assert min(densities) == 0
    assert max(densities) > 0.99
    assert any((sweep.weight == 0).flatten(1).all(1).any() and (sweep.weight != 0).any() for sweep in passes)
    assert any(len(layer.bias) % 2 and len(layer.bias) > 1 for layer in layers)
    plans = [plan for seed, network in enumerate(drawn()) for plan in build_image(network, build_of(ARCH, seed)).plans]
    assert any(plan.column_tiles > 1 for plan in plans)
    assert any(plan.weight_bytes > ARCH.buffer_bytes for plan in plans)


@pytest.mark.parametrize("leak", LEAKS)
def test_one_in_five_has_the_other_leak(leak: str) -> None:
    """Of any five seeds in a row one runs on the build with the other leak, and the same one when it runs alone."""
    arch = dataclasses.replace(ARCH, leak=leak)
    for start in range(7):
        leaks = [build_of(arch, seed).leak for seed in range(start, start + 5)]
        assert sorted(leaks) == sorted([*[leak] * 4, *(set(LEAKS) - {leak})])


def test_blocks_have_benches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block is reported under the name that ``list`` prints; each bench runs once."""
    ran: list[str] = []

    def pretend(words: list[str], **options: Any) -> None:
        ran.append(words[-1])
        (results,) = (word.split("=", 1)[1] for word in words if word.startswith("--junitxml"))
        Path(results).write_text('<testsuites><testsuite tests="4" failures="1" errors="1" time="0.5"/></testsuites>')

    monkeypatch.setattr("verif.verify.subprocess.run", pretend)
    report = blocks(3)["blocks"]
    assert [block["name"] for block in report] == block_names()
    assert all((block["tests"], block["passed"], block["failed"], block["seconds"]) == (4, 2, 2, 0.5) for block in report)
    assert sorted(ran) == sorted({str(bench(name)) for name in block_names()})
    assert all(bench(name).exists() for name in block_names())


def test_what_a_block_is() -> None:
    """A file is a block when it defines a `Block`; helpers, layouts and tables are none."""
    names = block_names()
    assert {"tail", "walker", "ftp", "bus.fetch", "bus.crc"} <= set(names)
    assert not {"block", "count_ones", "descriptor", "folder", "generate", "image", "program_files", "bus.register_map"
                } & set(names)
    assert defines_block("class A(Block):\n    pass")
    assert not defines_block("from hdl.block import Block\nclass A(Base):\n    x = Block()")
    assert (ROOT / "hdl" / "tail.py").exists()


def test_a_seed_repeats() -> None:
    """The same seed gives the same network and the same image; another seed does not."""
    first, again = (Maker(ARCH, 7).network("a") for _ in range(2))
    assert describe(first) == describe(again)
    assert all(torch.equal(a.weight, b.weight) for one, two in zip(first.layers, again.layers, strict=True)
               for a, b in zip(one.passes, two.passes, strict=True))
    assert describe(first) != describe(Maker(ARCH, 8).network("a"))


@pytest.mark.parametrize("what", BROKEN)
def test_broken_accelerator(what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A mutant fails, with a shrunk case that still fails and the command that repeats it; the exit code is 1."""
    system = broken(what)
    failure: dict[str, Any] | None = None
    for seed in (n for n in range(ATTEMPTS) if build_of(ARCH, n) == ARCH):
        maker = Maker(ARCH, seed)
        network = maker.network(f"random-{seed}")
        failure = run_network(network, maker.image(network.input, network.steps), system,
                              stall_seed=seed % 4 and seed)
        if failure is not None:
            break
    assert failure is not None, f"{what}: {ATTEMPTS} networks pass"
    assert failure["mismatches"] > 0
    assert failure["golden"] != failure["rtl"]
    monkeypatch.setattr("verif.verify.System", lambda arch: system)
    arguments = ["verify", "--random", "1", "--seed", str(seed)]
    assert command_line([*arguments, "--quiet", "--json", str(tmp_path / "report.json")]) == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["blocks"][0]["tests"], report["blocks"][0]["failed"]) == (1, 1)
    (found,) = report["failures"]
    assert found["failure"] == json.loads(json.dumps(failure))
    assert found["command"] == " ".join(["spikeloom", *arguments])
    assert found["small_failure"] is None or found["small_failure"]["mismatches"] > 0
    assert (found["small_failure"] is None) == (found["small"] == describe(network))
    assert len(found["small"]) <= len(describe(network))


def test_smaller_networks_are_smaller() -> None:
    """Every step of shrinking takes a layer, a bias or weights away, and the results are networks."""
    network = next(n for n in drawn() if len(n.layers) == 4)
    size = cost(network)
    candidates = list(smaller(network))
    assert candidates
    assert all(cost(candidate) < size for candidate in candidates)
    assert all(build_image(candidate, ARCH).size > 0 for candidate in candidates)


def cost(network: Network) -> tuple[int, int]:
    """Return (layers, non-zero weights and biases)."""
    return len(network.layers), sum(int(layer.bias.count_nonzero()) + sum(int(p.weight.count_nonzero())
                                                                          for p in layer.passes)
                                    for layer in network.layers)
