"""The cycle model of the lockstep array against the RTL: equal on every published layer, with any memory."""

from dataclasses import replace

import numpy as np
import pytest

from golden.arch import PRESETS, Arch, ParameterError
from golden.network import Neuron
from golden.run import run
from hdl.image import build_image
from models.published import NETWORKS
from perf.bus import Fifo
from perf.lockstep import cycles
from perf.operand import Operand
from verif.bench_loas import Case, cases, jobs, measure, modelled, program
from verif.loas_layers import Layer, layers
from verif.simulate import Memory, memory_of
from verif.system import System
from verif.ttsnn_table import LOCKSTEP

DIVISOR = 8
IDEAL, FAST, SLOW = Memory(latency=1), Memory(bandwidth=64), Memory(latency=37, bandwidth=5)
# One of how many layers each memory is tried with.
MEMORIES = {IDEAL: 1, FAST: 2, SLOW: 4}
# Taps of a 3x3 kernel that have weights: a cross, two in the middle, the outermost ones, one, and none, which keeps the first.
KERNELS = ((1, 3, 4, 5, 7), (4, 5), (0, 8), (8,), ())
# Layers at full size on preset loas: one row tile of absent lanes, FIFOs that fill behind the tail, a 1x1 kernel.
FULL = {"alexnet": 1, "vgg16": 10, "resnet19": 17}


def counted(case: Case, arch: Arch, memory: Memory) -> tuple[int, int]:
    """Return the cycles of the model and of the RTL."""
    (job,) = jobs([case], arch, memory)
    found = measure(job, System(arch), memory)
    assert found["mismatches"] == 0
    return found["model_cycles"], found["rtl_cycles"]


def case_of(layer: Layer) -> Case:
    """Return a layer with its seeded operands."""
    (case,) = cases([layer])
    return case


@pytest.mark.parametrize("memory", MEMORIES, ids=str)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_layer(network: str, memory: Memory) -> None:
    """Every layer of a network, narrowed, takes the cycles that the model predicts; with slower memories a part of them."""
    own = [layer.reduced(DIVISOR) for layer in layers(network)[:: MEMORIES[memory]]]
    found = {layer.name: counted(case_of(layer), PRESETS["tiny"], memory) for layer in own}
    assert {name: model for name, (model, _) in found.items()} == {name: rtl for name, (_, rtl) in found.items()}


@pytest.mark.parametrize("memory", [IDEAL, FAST], ids=str)
@pytest.mark.parametrize("network", FULL)
def test_full_size(network: str, memory: Memory) -> None:
    """Layers of full size take the cycles that the model predicts on preset loas."""
    model, rtl = counted(case_of(layers(network)[FULL[network] - 1]), PRESETS["loas"], memory)
    assert model == rtl


def shaped(kept: tuple[int, ...]) -> Case:
    """Return a layer of few channels, so that nothing hides the walk over its rows, with weights at some taps alone."""
    case = case_of(layers("resnet19")[3].reduced(4 * DIVISOR))
    weight = np.zeros_like(case.weight).reshape(case.layer.channels, 9, case.layer.columns)
    weight[:, kept, :] = case.weight.reshape(weight.shape)[:, kept, :]
    return replace(case, weight=weight.reshape(case.weight.shape))


@pytest.mark.parametrize("memory", MEMORIES, ids=str)
@pytest.mark.parametrize("kept", KERNELS, ids=str)
def test_skipped_taps(kept: tuple[int, ...], memory: Memory) -> None:
    """Taps that the build skips take the cycles that the model predicts: first ones, last ones, and any between."""
    model, rtl = counted(shaped(kept), LOCKSTEP, memory)
    assert model == rtl


def test_a_skipped_tap_takes_its_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model in which skipped taps take no time is seen."""
    steps = Operand.steps
    monkeypatch.setattr(Operand, "steps", lambda self, tile: ((*step[:-1], 0) for step in steps(self, tile)))
    for kept in KERNELS[:3:2]:
        model, rtl = counted(shaped(kept), LOCKSTEP, IDEAL)
        assert model < rtl


def predictions(arch: Arch) -> list[int]:
    """Return the cycles of a layer: as it is, with fewer weights, with other spikes, and with two other memories."""
    case = case_of(layers("alexnet")[3].reduced(DIVISOR))

    def predicted(other: Case, memory: Memory = IDEAL) -> int:
        network = program(other)
        return modelled(other, network, build_image(network, arch), arch, memory)

    fewer, louder = case.weight.copy(), case.words.copy()
    fewer[:, :4] = 0
    louder[:8] = 15
    return [predicted(case), predicted(replace(case, weight=fewer)), predicted(replace(case, words=louder)),
            predicted(case, FAST), predicted(case, SLOW)]


def test_model_sees_operands_and_memory() -> None:
    """Fewer weights, other spikes and another memory are other cycles: the comparisons above can fail."""
    assert len(set(predictions(PRESETS["tiny"]))) == 5


def test_other_programs_are_refused() -> None:
    """A layer without a neuron is not guessed."""
    arch, case = PRESETS["tiny"], case_of(layers("alexnet")[0].reduced(DIVISOR))
    network = program(case)
    layer = replace(network.layers[0], neuron=None, store_currents=True)
    assert isinstance(network.layers[0].neuron, Neuron)
    image = build_image(replace(network, layers=(layer,)), arch)
    contents, _ = memory_of(image, [image.input_block({"input.0": case.words})])
    stored = np.zeros((case.layer.rows, case.layer.columns), bool)
    with pytest.raises(ParameterError, match="cycle model: layer 0: must have a neuron and one pass of input spikes, not 1"):
        cycles(arch, contents, image.stats, [stored], latency=1, bandwidth=0)


def test_silent_output_is_shorter() -> None:
    """Fewer stored words are fewer writes."""
    arch, case = PRESETS["tiny"], case_of(layers("alexnet")[0].reduced(DIVISOR))
    network = program(case)
    image = build_image(network, arch)
    contents, _ = memory_of(image, [image.input_block({"input.0": case.words})])
    output = run(network, {"input.0": case.words}).layers[case.layer.name].output
    assert output is not None
    stored = output.reshape(len(output), -1).T != 0
    times = [cycles(arch, contents, image.stats, [which], latency=1, bandwidth=0) for which in (stored, stored & False)]
    assert stored.any() and times[1] < times[0]


def test_fifo() -> None:
    """A payload shows two cycles after it came, one follows the other, and a full queue takes none."""
    fifo = Fifo(2)
    shown = []
    for push in ([1], [2], [], [], []):
        shown.append((fifo.ready, fifo.head if fifo.valid else None))
        fifo.step(push, pop=fifo.valid and len(shown) > 3)
    assert shown == [(True, None), (True, None), (False, 1), (False, 1), (True, 2)]
