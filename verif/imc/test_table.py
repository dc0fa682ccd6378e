"""The table of docs/imc.md is what its command measures."""

from pathlib import Path

import pytest

from golden.imc.arch import IMC_PRESETS
from golden.imc.macro import Adc
from verif.imc import table
from verif.imc.table import HEAD, Line, lines, main, measure

PAGE = Path(__file__).parents[2] / "docs" / "imc.md"


def cells(line: object) -> list[str]:
    """Return the cells of a line of a table."""
    return [cell.strip() for cell in str(line).strip("|").split("|")]


def rows() -> dict[tuple[str, str], list[str]]:
    """Return the rows of the page's table by preset and converter."""
    _, _, rest = PAGE.read_text().partition(f"{HEAD}\n")
    found = [cells(line) for line in rest.partition("\n\n")[0].splitlines()[1:]]
    return {(row[0], row[2]): row for row in found}


def stand_in(p: object, images: int, *, flash: bool, full_scale: int = 0) -> Line:
    """Return a line without a run."""
    return Line(preset=getattr(p, "name", ""), scheme="twos", adc=Adc(flash=flash, bits=4, full_scale=full_scale), lossless=7,
                cycles=1234.4, phases=5, conversions=6, images=images, mismatches=0, neuron_steps=1000 * images, accuracy=0.5)


def test_the_page_is_of_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row of the committed page is a line of the command, in its order, without a mismatch."""
    bits = {(p.name, flash): min(widest, p.lossless_bits) for p in IMC_PRESETS.values()
            for flash, widest in ((False, p.adc_bits), (True, p.flash_bits)) if widest}
    monkeypatch.setattr(table, "measure", stand_in)
    legal = [(f"`{line.preset}`", cells(line)[2].replace("4 bits", f"{bits[line.preset, line.adc.flash]} bits"))
             for line in lines(list(IMC_PRESETS), 1)]
    assert list(rows()) == [row for row in legal if row in rows()] and rows()
    assert all(row[8].startswith("0 of ") for row in rows().values())


def test_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A run prints the table, numbers rounded as shown, and what was measured where."""
    monkeypatch.setattr(table, "measure", stand_in)
    assert main(["--images", "3", "--presets", "spikesim"]) == 0
    head, rule, *printed, empty, said = capsys.readouterr().out.splitlines()
    assert head == HEAD and len(cells(rule)) == len(cells(HEAD)) and not empty and "`digits`" in said
    assert printed[0] == "| `spikesim` | twos | SAR, 4 bits | 7 bits | 1,234 | 5 | 6 | 3 | 0 of 3,000 | 50.00% |"
    assert [cells(line)[2] for line in printed] == ["SAR, 4 bits", "flash, 4 bits", "flash, 4 bits, up to 15"]


@pytest.mark.parametrize("flash", [False, True])
def test_the_page_is_what_one_image_takes(flash: bool) -> None:
    """Cycles, phases and conversions of any image are those of the page."""
    line = measure(IMC_PRESETS["spikesim"], 1, flash=flash)
    assert not line.mismatches and line.neuron_steps == 12_288
    found = cells(line)
    assert rows()[found[0], found[2]][:7] == found[:7]


@pytest.mark.parametrize("words", [["--images", "0"], ["--images", "361"], ["--presets", "loas"]])
def test_bad_input(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What the table does not measure is refused."""
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "invalid choice" in capsys.readouterr().err
