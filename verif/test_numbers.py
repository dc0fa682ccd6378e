"""README's table is what ``docs/numbers.json`` says, and that is what the product does."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from golden.arch import PRESETS, ParameterError
from spikeloom.catalogue import workloads
from verif import numbers
from verif.numbers import BEGIN, DEMO, END, FILE, README, Row, main, measure, parts, render, shown
from verif.page import replaced
from verif.test_readme import blocks, session

AGAIN = "try: make numbers"
# What an independent count of the baselines gives, with the same spikes and weights of the same seed.
COUNTED = {
    "alexnet": {"loas_paper": 43_663, "gamma": 153_271, "sparten": 268_394, "gospa": 200_386},
    "vgg16": {"loas_paper": 475_051, "gamma": 1_656_335, "sparten": 1_742_567, "gospa": 1_519_731}}


@pytest.fixture
def stored() -> dict[str, Any]:
    """Return the committed numbers."""
    values: dict[str, Any] = json.loads(FILE.read_text())
    return values


def reports(stored: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """Return the reports of a part by command."""
    return {report["command"]: report for report in stored[name]["rows"]}


def tour() -> dict[str, list[str]]:
    """Return what README prints under each command of its tour, which `verif.test_readme` runs."""
    return {command: lines for block in blocks(README.read_text(), "console") for command, lines in session(block)}


def claimed(report: dict[str, Any]) -> list[str]:
    """Return the lines that ``simulate`` prints for a stored report."""
    return [f"mismatches {report['mismatches']} of {report['neuron_steps']:,} neuron steps",
            f"cycles per image {report['cycles_per_image']:,.0f}"]


def test_readme_is_rendered(stored: dict[str, Any]) -> None:
    """The table is exactly what the numbers render to; another number, date or machine is another table."""
    table = shown(README.read_text())
    assert table == render(stored), "try: python -m verif.numbers --only ''"
    for path, value in ((("simulate", "rows", 1, "cycles_per_image"), 1.0), (("simulate", "date"), "1970-01-01"),
                        (("list", "machine"), "abacus")):
        other = copy.deepcopy(stored)
        place: Any = other
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        assert render(other) != table


def test_every_part_is_measured_in_full(stored: dict[str, Any]) -> None:
    """The committed numbers are those of all commands at their full size."""
    expected = {name: [row.command for row in rows] for name, rows in parts().items()}
    assert {name: list(reports(stored, name)) for name in stored} == expected, AGAIN
    assert list(stored) == list(parts())


def test_demo_agrees_with_the_tour(stored: dict[str, Any]) -> None:
    """The demo's numbers are those that README prints and `verif.test_readme` compares with a run."""
    report, printed = reports(stored, "simulate")[DEMO], tour()[DEMO]
    assert set(claimed(report)) <= set(printed), AGAIN
    assert not set(claimed({**report, "cycles_per_image": report["cycles_per_image"] + 1})) <= set(printed)


def test_configurations_are_those_of_the_tree(stored: dict[str, Any]) -> None:
    """Every part was measured on the presets as they are."""
    fresh = {name: arch.hash for name, arch in PRESETS.items()}
    assert all(part["configurations"] == fresh for part in stored.values()), AGAIN
    assert f"configuration {fresh['tiny']}" in README.read_text(), "try: python -m verif.test_readme"


def test_claims_hold(stored: dict[str, Any]) -> None:
    """No mismatch anywhere, the accuracy of PyTorch, and the speeds that the project promises."""
    assert reports(stored, "list")["spikeloom list"]["workloads"] == workloads()
    for report in reports(stored, "simulate").values():
        assert report["mismatches"] == 0 and report["accuracy_rtl"] == report["accuracy_golden"]
    for report in reports(stored, "networks").values():
        assert report["mismatches"] == 0 and report["accuracy_rtl"] == report["accuracy_golden"]
    for report in reports(stored, "verify").values():
        (block,) = report["blocks"]
        assert (block["failed"], block["passed"]) == (0, block["tests"])
    assert reports(stored, "synth")["spikeloom synth --preset tiny --target ecp5 --flat"]["flat"]["fits"]
    loas = {command.split()[3]: report for command, report in reports(stored, "loas").items() if "--preset loom" in command}
    assert loas["alexnet"]["totals"]["rtl_cycles"] <= 38_000 and loas["vgg16"]["totals"]["rtl_cycles"] <= 390_000
    assert loas["resnet19"]["totals"]["rtl_cycles"] <= 1.20 * loas["resnet19"]["bound_cycles"]
    for report in reports(stored, "loas").values():
        totals = report["totals"]
        assert totals["mismatches"] == report["network_mismatches"] == 0 and totals["model_cycles"] == totals["rtl_cycles"]
    assert all(report["ratio"] >= 0.5 for report in reports(stored, "bench").values())
    assert all(report["build_seconds"] < 180 and report["found_seconds"] < 2
               for report in reports(stored, "build").values())


@pytest.mark.parametrize("network", COUNTED)
def test_baselines_are_those_of_another_count(stored: dict[str, Any], network: str) -> None:
    """With the given spikes every baseline is within 2 % of an independent count."""
    for command, report in reports(stored, "loas").items():
        if network in command:
            found = report["totals"]["baselines"]
            assert all(abs(found[name] - value) <= 0.02 * value for name, value in COUNTED[network].items()), command


def test_one_part_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--only`` measures one part, tells what it runs, keeps the others, and writes the page."""
    file, page = tmp_path / "numbers.json", tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nbehind\n")
    kept = {"date": "1970-01-01", "machine": "abacus", "versions": {"beads": "10"}, "configurations": {"tiny": "0"},
            "rows": [{"command": "spikeloom bench sim --preset loas", "shipped_cycles_per_second": 1234.0,
                      "bare_cycles_per_second": 2468.0, "ratio": 0.5}]}
    file.write_text(json.dumps({"bench": kept}))
    assert main(["--only", "list", "--file", str(file), "--readme", str(page)]) == 0
    assert re.fullmatch(r"spikeloom list\nlist done in \d+ s\n", capsys.readouterr().out)
    values = json.loads(file.read_text())
    assert list(values) == ["list", "bench"] and values["bench"] == kept
    assert values["list"]["rows"][0]["workloads"] == workloads()
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n| what |") and text.endswith(f".\n{END}\nbehind\n")
    assert "| 1,234 cycles per second; a bare C++ loop on the same model 2,468, ratio 0.50 |" in text
    assert "abacus; beads 10; configurations tiny 0: bench." in text and ": list." in text


def test_failed_command_stores_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    """A command that fails gives no number; what was measured before stays."""
    file, page = tmp_path / "numbers.json", tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    table = {"list": [Row("a", "spikeloom list", (), lambda report: "")],
             "verify": [Row("b", "spikeloom simulate nothing", (), lambda report: "")]}
    monkeypatch.setattr(numbers, "parts", lambda images=0, networks=0: table)
    assert main(["--file", str(file), "--readme", str(page)]) == 1
    assert "simulate nothing --json -: must succeed, not exit with 2: " in capsys.readouterr().err
    assert list(json.loads(file.read_text())) == ["list"] and "| a |" in page.read_text()


def test_smaller_runs_say_so() -> None:
    """A run with fewer images or networks is a row with another command; the demo is not listed twice."""
    small = parts(5, 3)
    assert "--images 5" in small["simulate"][1].command and "5 images" in small["simulate"][1].what
    assert "--random 3 " in small["verify"][0].command
    commands = [row.command for row in parts(20, 3)["simulate"]]
    assert len(commands) == len(set(commands)) == len(PRESETS) and DEMO in commands


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}{BEGIN}{BEGIN}"])
def test_page_without_markers(text: str) -> None:
    """A page that has not one place for the table is refused."""
    with pytest.raises(ParameterError, match="the page must have one line"):
        replaced(text, "table", BEGIN, END)


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown parts and stored commands that nothing runs are refused in one line."""
    assert main(["--only", "list,fly", "--file", str(tmp_path / "x")]) == 1
    assert capsys.readouterr().err == (
        "spikeloom: --only: unknown part, not 'fly'; legal: list,simulate,networks,verify,loas,bench,build,synth\n")
    assert not (tmp_path / "x").exists()
    with pytest.raises(ParameterError, match="unknown command, not 'spikeloom fly'"):
        render({"list": {"rows": [{"command": "spikeloom fly"}]}})


def test_spikes_are_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder of spikes stands in for DIR in what runs, not in what is stored; without one the part stays as it is."""
    seen: list[list[str]] = []
    file, page = tmp_path / "numbers.json", tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n")

    def answer(words: list[str], environ: dict[str, str]) -> dict[str, Any]:
        seen.append(words)
        return {"cells": 1}

    row = Row("a", f"spikeloom bench loas --data {numbers.DATA}", ("cells",), lambda report: f"{report['cells']} cells")
    monkeypatch.setattr(numbers, "_json", answer)
    monkeypatch.setattr(numbers, "parts", lambda images=0, networks=0: {"loas": [row]})
    assert main(["--file", str(file), "--readme", str(page)]) == 0
    assert "loas stays as it is; try: python -m verif.numbers --only loas --data DIR" in capsys.readouterr().out
    assert not seen and not file.exists()
    assert main(["--file", str(file), "--readme", str(page), "--data", str(tmp_path)]) == 0
    assert [words[1:] for words in seen] == [["-m", "spikeloom", "bench", "loas", "--data", str(tmp_path), "--json", "-"]]
    assert "| 1 cells | `spikeloom bench loas --data DIR` |" in page.read_text() and str(tmp_path) not in file.read_text()


def test_build_is_measured_cold_and_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build starts from an empty cache of its own and is found again in it."""
    seen: list[tuple[str, bool]] = []

    def answer(words: list[str], environ: dict[str, str]) -> dict[str, Any]:
        folder = Path(environ["SPIKELOOM_CACHE"])
        seen.append((words[1], any(folder.iterdir())))
        (folder / "build").touch()
        return {"seconds": float(len(seen)), "mismatches": 0}

    monkeypatch.setattr(numbers, "_json", answer)
    row = parts()["build"][0]
    report = measure(row)
    assert seen == [("-c", False), ("-c", True), ("-m", True)]
    assert (report["build_seconds"], report["found_seconds"], report["command"]) == (1.0, 2.0, row.command)
