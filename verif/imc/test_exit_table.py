"""The table of early exit is golden's: what is shown, phases that are those of the macros, the page, bad input."""

from pathlib import Path

import numpy as np
import pytest
import torch

from golden.imc.arch import IMC_PRESETS
from golden.imc.early_exit import sums_by_step
from golden.imc.run import inputs, place, run
from golden.network import map_arrays
from golden.run import logits
from verif.imc.exit_table import HEAD, THRESHOLDS, WORKLOAD, Shown, lines, main, phases, show
from verif.imc.lowering import lowering_arch
from verif.imc.macro_shell import layer_phases
from verif.imc.setting import setting_of
from verif.inject import operands
from verif.workload import load_workload

PAGE = Path(__file__).parents[2] / "docs" / "imc.md"
P = IMC_PRESETS["spikesim"]


def test_lines() -> None:
    """Two images worked out by hand: one that stops at once, one that needs both steps and is then wrong."""
    shown = Shown(sums=np.array([[[9, 1], [9, 9]], [[2, 1], [2, 8]]]), labels=np.array([0, 0]), once=100, each=10)
    assert [*lines(shown, (0, 2, 3, 1 << 30))] == [
        "| 0 | 1.00 | 100.0% | 110 | 100.00% |", "| 2 | 1.50 | 50.0% | 115 | 50.00% |",
        "| 3 | 1.50 | 50.0% | 115 | 50.00% |", "| none | 2.00 | 0.0% | 120 | 50.00% |"]


def test_phases_and_sums_are_those_of_a_run() -> None:
    """Phases are what the macros are asked for, step by step; the sums of the last step are the logits."""
    setting = setting_of(P, None)
    network = load_workload(WORKLOAD, lowering_arch(P)).network
    plain, shown = place(network, P, setting), show(P, setting, 1)
    words = {name: torch.from_numpy(word) for name, word in load_workload(WORKLOAD, lowering_arch(P)).words(0).items()}
    trace = run(network, P, setting, words, placed=place(map_arrays(network, torch.asarray), P, setting))
    assert shown.sums[0].tolist() == sums_by_step(trace).tolist() and shown.sums[0, -1].tolist() == logits(trace).tolist()
    tensors = {name: np.asarray(word) for name, word in operands(trace).items()}
    counted = {1: 0, network.steps: 0}
    for entry, layer in zip(plain, trace.layers.values(), strict=True):
        for step, x in enumerate(inputs(entry, tensors, network.steps)):
            count = sum(len(phase) for _, _, phase, _ in layer_phases(P, entry, x, step, False))
            assert count == phases(P, entry, np.asarray(layer.sums)[0, 0].size)
            counted[entry.converted] += count
    assert counted == {1: shown.once, network.steps: network.steps * shown.each}


def test_the_page_is_of_the_command() -> None:
    """Every row of the committed page has a threshold of the command, and thresholds cost steps."""
    _, _, rest = PAGE.read_text().partition(f"{HEAD}\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in rest.partition("\n\n")[0].splitlines()[1:]]
    assert [row[0] for row in rows] == [*map(str, THRESHOLDS[:-1]), "none"]
    steps = [float(row[1]) for row in rows]
    assert steps == sorted(steps) and steps[0] == 1 and rows[-1][2] == "0.0%"


@pytest.mark.parametrize("words", [["--images", "0"], ["--images", "361"], ["--preset", "loas"]])
def test_bad_input(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What the table does not measure is refused."""
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "invalid choice" in capsys.readouterr().err
