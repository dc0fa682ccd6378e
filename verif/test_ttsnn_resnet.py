"""The published ResNet18 of TT-SNN: its counts are those of the torch modules, and the page says them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from golden.arch import PRESETS, ParameterError
from golden.limits import check
from hdl.image import build_image
from models.ttsnn import STEPS, StepConv2d, TtSnn
from verif import ttsnn_resnet
from verif.ttsnn_resnet import (
    BLOCKS,
    CHANNELS,
    CLASSES,
    CROSS,
    KINDS,
    POINT,
    RANK,
    SIZE,
    SPIKING,
    WIDTHS,
    Core,
    convolutions,
    cores,
    cycles,
    program,
    rest,
)

MODULES = {"dense": ("dense", ""), "STT merged": ("stt", "merged"), "PTT merged": ("ptt", "merged"),
           "HTT merged": ("htt", "merged"), "STT cores": ("stt", "pipeline"), "PTT cores": ("ptt", "pipeline"),
           "HTT cores": ("htt", "pipeline")}
PAGE = Path(__file__).parents[1] / "docs" / "ttsnn.md"


def weights(module: nn.Module) -> int:
    """Return the weights of a module that are not 0."""
    assert isinstance(module.weight, torch.Tensor)
    return int(torch.count_nonzero(module.weight))


@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_the_modules(kind: str) -> None:
    """Weights that are not 0, and multiplications of a step with them, are those of the modules of `models.ttsnn`.

    But the identities of an un-merged HTT: the model has no program where there is no core.
    """
    train, how = MODULES[kind]
    ranks = [round(RANK * columns) for _, columns, _, _ in convolutions()]
    model = TtSnn(train, channels=CHANNELS, classes=CLASSES, widths=WIDTHS, blocks=[BLOCKS] * len(WIDTHS), ranks=ranks).eval()
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 1, 2)
    model = model.replaced(how) if how else model
    absent = {module.convs[1] for module in model.modules() if isinstance(module, StepConv2d) and how == "pipeline"}
    found = {"parameters": 0, "operations": 0}

    def count(module: nn.Module, given: object, output: torch.Tensor) -> None:
        found["operations"] += weights(module) * output[:, 0].numel() // STEPS

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module not in absent:
            found["parameters"] += weights(module)
            module.register_forward_hook(count)
    with torch.no_grad():
        model.logits(torch.zeros(1, CHANNELS, SIZE, SIZE))
    every = [core for shape in convolutions() for core in cores(kind, *shape)]
    parameters, operations = rest()
    assert found == {"parameters": parameters + sum(core.parameters for core in every),
                     "operations": operations + sum(core.operations for core in every)}
    assert f"| {kind} | {found['parameters']:,} | " in PAGE.read_text()
    assert f" | {found['operations']:,} | " in PAGE.read_text()


def test_crosses_of_the_last_stage_fit_preset_loas() -> None:
    """Five taps of 512 channels fit the rows of the preset, nine do not."""
    loas, weight = PRESETS["loas"], np.ones((512, 512, 9), np.int8)
    crosses = weight * np.isin(np.arange(9), CROSS)
    network = program(Core(512, 512, 6, CROSS), crosses.reshape(512, 512, 3, 3))
    check(network, loas)
    assert build_image(network, loas).plans[0].needs["row_lines"] == loas.row_value_lines
    with pytest.raises(ParameterError, match=r"^conv: bits of one row's 4608 words, each stored 8 bits wide: needs 36864;"):
        check(program(Core(512, 512, 6, ttsnn_resnet.FULL), weight.reshape(512, 512, 3, 3)), loas)


def test_cycles_of_a_core() -> None:
    """No core is faster than its matches dealt evenly to the lanes, and a cross is shorter than nine taps."""
    cross, point = Core(64, 32, 6, CROSS), Core(64, 32, 6, POINT)
    assert cycles(point) > SPIKING * point.operations / ttsnn_resnet.LOAS.lanes
    assert cycles(point) < cycles(cross) < cycles(Core(64, 32, 6, ttsnn_resnet.FULL))
