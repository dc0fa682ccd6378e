"""The table of docs/ttfs.md is measured by its command: rows of a short run, and the page keeps the rest of its text."""

from pathlib import Path

import pytest
import torch

from golden.arch import ParameterError
from golden.capture import capture
from models.datasets import digits
from models.ttfs import SKIPS, TtfsNetwork
from models.workloads import find
from verif.page import replaced
from verif.ttfs_table import BEGIN, END, NAMES, PAGE, Row, main, render

ROW = Row("none", 9, 9, 0.5, 4.25, 1234.5)


def test_a_table_has_a_row_for_each_network() -> None:
    """Numbers are rounded as shown; without the RTL there are no cycles."""
    text = render([ROW, Row("add", 18, 54, 0.95, 9.0, None)], 3)
    assert "| none | 9 | 9 | 50.00% | 4.25 | 1,234 |" in text and "| add | 18 | 54 | 95.00% | 9.00 | - |" in text
    assert "3 test images" in text


def test_the_page_has_the_table_of_the_shipped_networks() -> None:
    """The committed page has a row for each shipped network, with the accuracy that the registry promises."""
    _, _, rest = PAGE.read_text().partition(BEGIN)
    lines = [line for line in rest.partition(END)[0].splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    shown = {skip: accuracy for skip, window, _, accuracy, *_ in cells if window == "18"}
    assert shown == {skip: f"{find(NAMES[skip]).accuracy_golden:.2%}" for skip in SKIPS}


def test_only_the_table_changes() -> None:
    """Text around the markers stays; a page without them is refused."""
    assert replaced(f"a\n{BEGIN}\nold\n{END}\nb\n", "new", BEGIN, END) == f"a\n{BEGIN}\nnew\n{END}\nb\n"
    with pytest.raises(ParameterError, match="must have one line"):
        replaced("a", "new", BEGIN, END)


def test_the_command_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A network that is there is measured on the test split and on the RTL, and the page gets its row."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TtfsNetwork("none", window=9, resolution=0, width=4).eval()
    x, y, x_test, y_test = digits()
    capture(model, torch.from_numpy(x[:4]), tmp_path / "none-9.safetensors")
    monkeypatch.setattr("verif.ttfs_table.SPLITS", {"digits": lambda: (x, y, x_test[:5], y_test[:5])})
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    options = ["--skips", "none", "--windows", "9", "--images", "1", "--folder", str(tmp_path), "--page", str(page)]
    assert main(options) == 0
    assert "| none | 9 | 9 | " in page.read_text()
    page.write_text("")
    assert main(options) == 2
    assert capsys.readouterr().err.startswith("spikeloom: table: the page must have one line")
