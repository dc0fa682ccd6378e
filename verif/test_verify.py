"""``spikeloom verify --random``: random networks are exact on one build; a broken accelerator is found and shrunk."""

import dataclasses
import itertools
import json
import re
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from golden.arch import LEAKS, PRESETS, Arch, ParameterError
from golden.network import Network, Plane, input_words
from golden.run import run
from golden.store import OPERANDS
from hdl.ftp import Ftp
from hdl.image import build_image
from hdl.parallel_lif import ParallelLif
from hdl.tppe import Tppe
from spikeloom.blocks import ROOT, bench, defines_block
from spikeloom.blocks import blocks as block_names
from spikeloom.cli import run as command_line
from spikeloom.commands.verify import OF
from verif.chunks import LOOM
from verif.modules import ModuleMaker
from verif.mutant import mutant
from verif.sim import converted
from verif.system import System
from verif.verify import (
    MODULES,
    Maker,
    blocks,
    build_of,
    describe,
    random_network,
    random_networks,
    run_network,
    shrink,
    smaller,
)

ARCH = PRESETS["tiny"]
NETWORKS = 90
ATTEMPTS = 8
DECAYS = {"2^-k": ((0, False), (0, True), (1, False), (1, True), (2, False)),
          "1-2^-k": ((0, False), (1, False), (2, False), (3, False))}
CLASHES = 16
# A small loom that holds every network that is drawn.
WEAVE = dataclasses.replace(
    LOOM, name="weave-wide", t_max=16, acc_bits=24, membrane_bits=32, requantise=True, digit=True, max_chunks=128,
    row_value_lines=512, pixel_chunks=512, pixel_lines=1024, weight_bytes=1024, buffer_bytes=1 << 17)
WEAVE_NETWORKS = 24
BROKEN = {
    "equal does not fire": ("hdl.neuron_stage", ParallelLif, "~(strict & (above == 0))", "(above != 0)"),
    "correction of step 1 dropped": ("hdl.array", Tppe, "- missing)", "- (missing if b != 1 else 0))"),
}


@cache
def drawn() -> tuple[Network, ...]:
    """Return the networks of `test_random_networks`."""
    return tuple(random_network(build_of(ARCH, seed), seed)[0] for seed in range(NETWORKS))


@cache
def broken(what: str) -> System:
    """Return an accelerator with one block broken in its source."""
    user, cls, old, new = BROKEN[what]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{user}.{cls.__name__}", mutant(cls, old, new))
        design, _ = converted(Ftp(ARCH), "spikeloom")
    assert design != System(ARCH).design
    return System(ARCH, design, optimise="-O0")


def test_random_networks() -> None:
    """Every spike of every random network is the same on the RTL as in golden."""
    report = random_networks(NETWORKS, 0)
    assert report["failures"] == []
    (block,) = report["blocks"]
    assert block.keys() == {"name", "tests", "passed", "failed", "seconds"}
    assert (block["name"], block["tests"], block["passed"], block["failed"]) == ("random", NETWORKS, NETWORKS, 0)
    assert report["seed"] == 0


def test_random_networks_on_the_loom() -> None:
    """The same holds with dataflow loom: spans, teams, deals, pools, passes, stored currents, residuals, requantisers."""
    failures: dict[int, Any] = {}
    system, plans = System(WEAVE), []
    for seed in range(WEAVE_NETWORKS):
        network, x = random_network(WEAVE, seed)
        failure = run_network(network, x, system, stall_seed=seed % 4 and seed)
        failures |= {seed: failure} if failure else {}
        plans += build_image(network, WEAVE).plans
    assert failures == {}
    assert {plan.in_line for plan in plans if plan.tiling and plan.out_height > 1} == {False, True}
    tilings = [plan.tiling for plan in plans if plan.tiling]
    for field in ("span_log2", "teams_log2", "deal", "merge"):
        assert len({getattr(tiling, field) for tiling in tilings}) > 1
    assert {tiling.groups for tiling in tilings} >= {1, 2, 3, 4}


@pytest.mark.parametrize(("arch", "clash", "exact"), [
    pytest.param(ARCH, "w_en && w_addr == r_addr", True, id="same address"),
    pytest.param(WEAVE, "w_en && w_addr == r_addr", True, id="same address, loom"),
    pytest.param(ARCH, "w_en && w_addr >> 1 == r_addr >> 1", False, id="a neighbour too")])
def test_no_block_reads_what_is_being_written(arch: Arch, clash: str, exact: bool) -> None:
    """RAMs that return the inverse of a word that is written in the same cycle change nothing, as their contract says.

    Where a neighbour of the written word is inverted too, the networks show it.
    """
    design, count = re.subn(r"r_data <= storage\[r_addr\]", f"r_data <= {clash} ? ~storage[r_addr] : storage[r_addr]",
                            System(arch).design)
    assert count == 1
    system = System(arch, design, optimise="-O0")
    networks = [random_network(arch, seed) for seed in range(NETWORKS) if build_of(arch, seed) == arch][:CLASHES]
    assert (not any(run_network(network, x, system) for network, x in networks)) == exact


def test_what_is_drawn() -> None:
    """The networks that run have every shape and every neuron that `Maker` promises."""
    integer = [network for seed, network in enumerate(drawn()) if seed % MODULES != MODULES - 1]
    layers = [layer for network in integer for layer in network.layers]
    passes = [sweep for layer in layers for sweep in layer.passes]
    neurons = [layer.neuron for layer in layers if layer.neuron]
    assert {1, ARCH.t_max} <= {network.steps for network in integer}
    assert {2, 6} <= {sum(bool(layer.passes) for layer in network.layers) for network in integer}
    assert any(network.input.height != network.input.width for network in integer)
    assert {network.input.kind for network in integer} == {"static", "steps"}
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
    scales = [layer.requantise for layer in layers if layer.requantise]
    assert {scale.signed for scale in scales} == {False, True} and {1, 8, 16} <= {scale.bits for scale in scales}
    assert any(build_of(ARCH, seed).skip_taps and 0 < (sweep.weight != 0).any(0).any(0).sum() < sweep.weight[0, 0].numel()
               for seed, network in enumerate(drawn()) for layer in network.layers for sweep in layer.passes)
    digits = [layer.digit for layer in layers if layer.digit]
    assert {digit.clip for digit in digits} == {False, True} and {digit.step is None for digit in digits} == {False, True}
    assert any(layer.digit and not layer.passes for layer in layers) and any(scale.step for scale in scales)
    assert any(Plane() in sweep.planes and sweep.source == other.source for layer in layers
               for sweep, other in itertools.pairwise(layer.passes))
    assert any(layer.sum_pool for layer in layers) and any(layer.ttfs and layer.readout for layer in layers)
    heads = [layer.attention for layer in layers if layer.attention]
    assert len(heads) > 1 and {p.heads for p in heads} != {1}
    lowered_ones = [network for seed, network in enumerate(drawn()) if seed % MODULES == MODULES - 1]
    assert any(layer.attention for network in lowered_ones for layer in network.layers)
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

    def pretend(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        ran.append(words[-1])
        (results,) = (word.split("=", 1)[1] for word in words if word.startswith("--junitxml"))
        Path(results).write_text('<testsuites><testsuite tests="4" failures="0" errors="0" time="0.5"/></testsuites>')
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr("verif.verify.subprocess.run", pretend)
    report = blocks(3)
    assert report["failures"] == []
    assert [block["name"] for block in report["blocks"]] == block_names()
    assert all((b["tests"], b["passed"], b["failed"], b["seconds"]) == (4, 4, 0, 0.5) for b in report["blocks"])
    assert sorted(ran) == sorted({str(bench(name)) for name in block_names()})
    assert all(bench(name).exists() for name in block_names())
    tiles = [block["name"] for block in blocks(3, of=OF["imc"])["blocks"]]
    assert tiles == [name for name in block_names() if name.startswith("imc.")] and len(tiles) > 40
    assert [block["name"] for block in blocks(3, of=OF["imc-tile"])["blocks"]] == ["imc.imc_tile"]


@pytest.mark.parametrize("crash", [False, True])
def test_a_failing_bench_says_why(crash: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    """A bench that fails, or that ends without results, is reported with the end of its output and its command."""
    found = {"tail": tmp_path / "verif" / "test_tail.py", "core": tmp_path / "verif" / "test_good.py"}
    found["tail"].parent.mkdir()
    found["core"].write_text("def test_good(): pass\n")
    found["tail"].write_text("print('a')\nraise SystemExit('cannot start')" if crash else
                             "def test_sum():\n    assert 1 + 1 == 3, 'one of the sums'\ndef test_good(): pass\n")
    (tmp_path / "conftest.py").write_text("def pytest_addoption(parser): parser.addoption('--seed')\n")
    monkeypatch.setattr("verif.verify.block_names", lambda: list(found))
    monkeypatch.setattr("verif.verify.bench_of", found.get)
    monkeypatch.setattr("verif.verify.HERE", tmp_path / "verif")
    assert command_line(["verify", "--seed", "3", "--json", str(tmp_path / "report.json")]) == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert [(b["name"], b["passed"], b["failed"]) for b in report["blocks"]] == [("tail", 0 if crash else 1, 1), ("core", 1, 0)]
    (failure,) = report["failures"]
    assert failure["blocks"] == ["tail"]
    assert failure["command"] == "python -m pytest verif/test_tail.py --seed 3"
    assert any(("cannot start" if crash else "one of the sums") in line for line in failure["output"])
    shown = capsys.readouterr().out
    assert f"tail; repeat: {failure['command']}\n" in shown
    assert all(line in shown for line in failure["output"])


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
        network, x = random_network(ARCH, seed)
        failure = run_network(network, x, system, stall_seed=seed % 4 and seed)
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


@cache
def lowered() -> tuple[Network, ...]:
    """Return the lowered modules of 60 seeds, on both leaks."""
    return tuple(ModuleMaker(build_of(ARCH, seed), seed).network("module") for seed in range(60))


def test_what_modules_are_drawn() -> None:
    """The modules use every layer that capture knows, but those of spike times, and every way in which spikes join."""
    makers = [ModuleMaker(build_of(ARCH, seed), seed) for seed in range(60)]
    nodes = [node for maker in makers for node in maker.captured().nodes]
    assert {node.op for node in nodes} == {*OPERANDS}
    assert {node.args["class"] for node in nodes if node.op == "neuron"} == {"IFNode", "LIFNode", "Leaky"}
    layers = [layer for network in lowered() for layer in network.layers]
    convolutions = [p for layer in layers for p in layer.passes if not layer.readout]
    assert {1, 2, 3} <= {p.stride for p in convolutions} and {0, 1, 2} <= {p.padding for p in convolutions}
    assert {1, 2, 3, 4, 5} <= {p.weight.shape[2] for p in convolutions}
    assert {len(layer.bias) for layer in layers if layer.neuron} >= {1, 3, 5, 7, 9}
    assert any(network.input.height != network.input.width for network in lowered())
    assert {1, 4, ARCH.t_max} <= {network.steps for network in lowered()}
    assert {(layer.neuron.compare, layer.neuron.reset) for layer in layers if layer.neuron} == {
        (">=", "hard"), (">=", "soft"), (">", "hard"), (">", "soft_delayed")}
    assert {(layer.neuron.leak, layer.neuron.leak_shift) for layer in layers if layer.neuron} == {
        *((leak, k) for leak, decays in DECAYS.items() for k, _ in decays)}
    for kind in ("residual", "max_pool", "or_pool"):
        assert any(getattr(layer, kind) is not None for layer in layers), kind
    assert any(layer.residual and layer.passes and layer.neuron for layer in layers)
    assert any(plane.shift and len(plane.steps) == 1 and p.source in {layer.name for layer in layers}
               for layer in layers for p in layer.passes for plane in p.planes)


def test_modules_spike() -> None:
    """Most neuron layers of the lowered modules have neurons that spike and neurons that do not."""
    mixed = total = attending = 0
    for seed, network in enumerate(lowered()):
        x = Maker(build_of(ARCH, seed), seed).image(network.input, network.steps)
        for name, layer in run(network, input_words(x, network.input, network.steps)).layers.items():
            if layer.words is not None:
                total += 1
                mixed += bool((layer.words != 0).any() and (layer.words == 0).any())
                attending += bool(network.layer(name).attention is not None and (layer.words != 0).any())
    assert mixed > total / 2 and attending


def test_one_in_four_is_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any four seeds in a row one is a module that was lowered, and the same one when it is drawn again."""
    for start in range(8):
        kinds = [bool(random_network(ARCH, seed)[0].float_info) for seed in range(start, start + MODULES)]
        assert sum(kinds) == 1
    one, two = (random_network(ARCH, MODULES - 1) for _ in range(2))
    assert describe(one[0]) == describe(two[0]) and torch.equal(one[1], two[1])


def test_only_limits_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that lowering refuses for another reason than a limit of the build is an error."""
    def refuse(*_: Any, **__: Any) -> Network:
        raise ParameterError("conv0: Conv2d: reads multi-bit currents of conv1; legal: the input or spikes")

    monkeypatch.setattr("verif.modules.lower", refuse)
    with pytest.raises(ParameterError, match="multi-bit currents"):
        ModuleMaker(ARCH, 3).network("module")


def test_lowered_modules_shrink() -> None:
    """Every step of shrinking a lowered module is a smaller network that the build takes."""
    network = next(n for n in lowered() if len(n.layers) >= 4 and any(layer.residual for layer in n.layers))
    candidates = list(smaller(network))
    assert len(candidates) >= len(network.layers)
    assert all(cost(candidate) < cost(network) for candidate in candidates)
    assert all(build_image(candidate, ARCH).size > 0 for candidate in candidates)


def test_a_failure_of_a_lowered_module_is_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that needs two layers and one weight of the second leaves these of a larger lowered module."""
    def fails(network: Network, x: Tensor, system: System) -> dict[str, Any] | None:
        guilty = len(network.layers) > 1 and any(p.weight.any() for p in network.layers[1].passes)
        return {"layer": network.layers[1].name, "mismatches": 1} if guilty else None

    monkeypatch.setattr("verif.verify.run_network", fails)
    network = next(n for n in lowered() if len(n.layers) > 4 and fails(n, torch.zeros(1), System(ARCH)))
    small, why = shrink(network, torch.zeros(1), System(ARCH))
    assert len(small.layers) == 2 and cost(small) < cost(network)
    assert why == {"layer": network.layers[1].name, "mismatches": 1}


def cost(network: Network) -> tuple[int, int]:
    """Return (layers, non-zero weights and biases)."""
    return len(network.layers), sum(int(layer.bias.count_nonzero()) + sum(int(p.weight.count_nonzero())
                                                                          for p in layer.passes)
                                    for layer in network.layers)
