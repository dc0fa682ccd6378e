"""``spikeloom verify --random``: random networks are exact on one build; a broken accelerator is found and shrunk."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from golden.arch import PRESETS
from golden.network import Network
from hdl.image import build_image
from spikeloom.cli import run as command_line
from verif.system import System
from verif.verify import Maker, describe, random_networks, run_network, smaller

ARCH = PRESETS["tiny"]
NETWORKS = 50
ATTEMPTS = 8
BROKEN = {
    "equal does not fire": (r"assign fire_0 = (\\?\S+) +\| +\\?\S+ *;", r"assign fire_0 = \1 ;"),
    "correction of step 1 dropped": (r"- \$signed\(corrected_1\)", r"- $signed(24'd0)"),
}


@cache
def drawn() -> tuple[Network, ...]:
    """Return the networks of `test_random_networks`."""
    return tuple(Maker(ARCH, seed).network(f"random-{seed}") for seed in range(NETWORKS))


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
    assert {(n.leak_shift, n.decay_input) for n in neurons} == {(0, False), (0, True), (1, False), (1, True), (2, False)}
    assert {n.compare for n in neurons} == {">", ">="}
    assert {n.reset for n in neurons} == {"hard", "soft", "soft_delayed"}
    assert {layer.min_spikes for layer in layers} == {1, 2}
    for kind in ("residual", "max_pool", "or_pool"):
        assert any(getattr(layer, kind) is not None for layer in layers), kind
    densities = [float((sweep.weight != 0).float().mean()) for sweep in passes]
    assert min(densities) == 0
    assert max(densities) > 0.99
    assert any((sweep.weight == 0).flatten(1).all(1).any() and (sweep.weight != 0).any() for sweep in passes)
    assert any(len(layer.bias) % 2 and len(layer.bias) > 1 for layer in layers)
    plans = [plan for network in drawn() for plan in build_image(network, ARCH).plans]
    assert any(plan.column_tiles > 1 for plan in plans)
    assert any(plan.weight_bytes > ARCH.buffer_bytes for plan in plans)


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
    for seed in range(ATTEMPTS):
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
