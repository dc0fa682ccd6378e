"""The cycle model of the loom against the RTL: equal on every published layer, with any memory."""

from dataclasses import replace

import numpy as np
import pytest

from golden.arch import PRESETS, ParameterError
from golden.run import run
from hdl.image import build_image
from models.published import NETWORKS
from perf.loom import cycles
from perf.loom_lanes import NEVER, Lanes
from perf.machine import UNKNOWN, check_layer
from verif.bench_loas import program
from verif.chunks import LOOM
from verif.loas_layers import layers
from verif.simulate import Memory, memory_of, run_words
from verif.system import System
from verif.test_lockstep import DIVISOR, FAST, IDEAL, KERNELS, MEMORIES, SLOW, case_of, counted, predictions, shaped
from verif.ttsnn_table import LOCKSTEP

# Layers at full size on preset loom: row tiles that share columns, lanes that split them, a 1x1 kernel.
FULL = {"alexnet": 1, "vgg16": 10, "resnet19": 17}
# Rows, K, columns and weights: one pixel and one column; a stream that is read before the rows are walked; chunks of 3 to 5
# lines of weights; columns that the tail is too slow for, before columns that the lanes are too slow for.
SHAPES = {"one": (1, 720, 1, 4), "walk": (16, 36, 2, 20), "lines": (64, 576, 12, 3456), "tail": (64, 288, 96, 4000)}


@pytest.mark.parametrize("memory", MEMORIES, ids=str)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_layer(network: str, memory: Memory) -> None:
    """Every layer of a network, narrowed, takes the cycles that the model predicts; with slower memories a part of them."""
    own = [layer.reduced(DIVISOR) for layer in layers(network)[:: MEMORIES[memory]]]
    found = {layer.name: counted(case_of(layer), LOOM, memory) for layer in own}
    assert {name: model for name, (model, _) in found.items()} == {name: rtl for name, (_, rtl) in found.items()}


@pytest.mark.parametrize("memory", MEMORIES, ids=str)
def test_teams(memory: Memory) -> None:
    """Lanes that split the columns of a map of one pixel take the cycles that the model predicts."""
    case = case_of(replace(layers("resnet19")[1].reduced(DIVISOR), rows=1))
    tiling = build_image(program(case), LOOM).plans[0].tiling
    assert tiling is not None
    assert 1 << tiling.teams_log2 == LOOM.lanes
    model, rtl = counted(case, LOOM, memory)
    assert model == rtl


@pytest.mark.parametrize("memory", [IDEAL, FAST], ids=str)
@pytest.mark.parametrize("network", FULL)
def test_full_size(network: str, memory: Memory) -> None:
    """Layers of full size take the cycles that the model predicts on preset loom."""
    model, rtl = counted(case_of(layers(network)[FULL[network] - 1]), PRESETS["loom"], memory)
    assert model == rtl


@pytest.mark.parametrize("memory", [IDEAL, SLOW], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape: str, memory: Memory) -> None:
    """What the published layers hide behind the stream takes the cycles that the model predicts."""
    rows, inner, columns, weights = SHAPES[shape]
    case = case_of(replace(layers("resnet19")[1], rows=rows, inner=inner, columns=columns, weights=weights))
    weight = case.weight.copy()
    if shape == "tail":
        weight[:, : len(weight[0]) // 2] = 0
    model, rtl = counted(replace(case, weight=weight), LOOM, memory)
    assert model == rtl


@pytest.mark.parametrize("memory", MEMORIES, ids=str)
def test_two_layers(memory: Memory) -> None:
    """The record of a layer is fetched while the one before runs."""
    case = case_of(layers("alexnet")[1].reduced(DIVISOR))
    network = program(case)
    (layer,), words = network.layers, {"input.0": case.words}
    network = replace(network, layers=(layer, replace(layer, name="again")))
    image = build_image(network, LOOM)
    contents, _ = memory_of(image, [image.input_block(words)])
    output = run(network, words).layers["again"].output
    assert output is not None
    stored = output.reshape(len(output), -1).T != 0
    model = cycles(LOOM, contents, image.stats, [stored, stored], latency=memory.latency, bandwidth=memory.bandwidth)
    assert model == run_words(network, [words], System(LOOM), memory=memory).result.runs[0].counters["cycles"]


def test_model_sees_operands_and_memory() -> None:
    """Fewer weights, other spikes and another memory are other cycles: the comparisons above can fail."""
    assert len(set(predictions(LOOM))) == 5


def test_other_programs_are_refused() -> None:
    """A layer without a neuron is not guessed."""
    case = case_of(layers("alexnet")[0].reduced(DIVISOR))
    network = program(case)
    image = build_image(replace(network, layers=(replace(network.layers[0], neuron=None, store_currents=True),)), LOOM)
    contents, _ = memory_of(image, [image.input_block({"input.0": case.words})])
    stored = np.zeros((case.layer.rows, case.layer.columns), bool)
    with pytest.raises(ParameterError, match="cycle model: layer 0: must have a neuron and one pass of input spikes, not 1"):
        cycles(LOOM, contents, image.stats, [stored], latency=1, bandwidth=0)


def test_skipped_taps_are_refused() -> None:
    """The image of a build that skips taps is not a loom's."""
    case = shaped(KERNELS[0])
    image = build_image(program(case), LOCKSTEP)
    contents, _ = memory_of(image, [image.input_block({"input.0": case.words})])
    stored = np.zeros((case.layer.rows, case.layer.columns), bool)
    with pytest.raises(ParameterError, match="cycle model: layer 0: a loom walks every tap, not 0xffffff45 left out; legal: "):
        cycles(LOOM, contents, image.stats, [stored], latency=1, bandwidth=0)


def test_words_of_a_layer_are_refused() -> None:
    """What a layer stored is not in the image, so its matches are not known."""
    layer = dict.fromkeys(UNKNOWN, 0) | {"passes": 1, "neuron": 1}
    check_layer(0, layer, {"identity": 1, "input": 1})
    with pytest.raises(ParameterError, match="cycle model: layer 3: must have a neuron and one pass of input spikes"):
        check_layer(3, layer, {"identity": 1, "input": 0})


def test_lanes_drift() -> None:
    """A chunk takes a cycle a match, one without matches none; sums that nobody takes hold a lane."""
    lanes = Lanes(LOOM, 1)
    lanes.put(0, 0, [3, 1, 0, 0], 1, end=False)
    assert lanes.done == [6, 4, -1, -1]
    lanes.put(1, 0, [1, 0, 0, 0], 1, end=True)
    assert lanes.done == [7, 5, 5, 5]
    assert (lanes.have[0], lanes.idle_at) == ([9], 9)
    for column in range(LOOM.window_columns - 1):
        lanes.put(2 + column, 0, [0] * 4, 0, end=True)
    lanes.put(20, 0, [0] * 4, 0, end=True)
    assert lanes.idle_at > NEVER
    lanes.take(100, 0)
    assert lanes.done == [24] * 4
    assert lanes.have[0][-1] == 102


def test_room() -> None:
    """A team has room for as many chunks and lines of weights as its slowest lane."""
    lanes = Lanes(LOOM, 1)
    for now in range(LOOM.window_chunks):
        assert lanes.room(0) == 0
        lanes.put(now, 0, [50, 0, 0, 0], 2, end=False)
    assert lanes.room(0) == max(lanes.issued[0][0], lanes.free[0][0]) + 1
    assert lanes.free[0][0] == lanes.free[0][1] == 53
    assert lanes.room(0, 2) == max(lanes.free[0][2], lanes.room(0)) + 1


def test_streams_wait_for_each_other() -> None:
    """Where sums wait for a column of the other stream, it is not known when there is room, until that column is taken."""
    lanes = Lanes(LOOM, 2)
    for now in range(LOOM.window_columns + LOOM.window_chunks + 3):
        lanes.put(now, 0, [1, 1], 1, end=True)
    assert lanes.room(0) < now
    lanes.put(now, 0, [1, 1], 1, end=True)
    assert (lanes.room(0) >= NEVER, lanes.idle_at >= NEVER, lanes.room(1)) == (True, True, 0)
    lanes.take(90, 0)
    assert 90 < lanes.room(0) < NEVER <= lanes.idle_at
