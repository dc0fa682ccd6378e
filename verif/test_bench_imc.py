"""``spikeloom bench imc``: events are those of the RTL, prices and shares SpikeSim's, the page is what the command measures."""

import copy
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from golden.arch import ParameterError
from golden.imc.arch import IMC_PRESETS
from golden.imc.run import place, run, run_images
from golden.network import map_arrays
from perf import imc_energy, imc_events
from perf.imc_energy import COSTS, SPIKESIM_ENERGY, area, energy, shares, spikesim_area
from perf.imc_events import EVENTS
from perf.imc_report import SHARING, charts, exit_table, page, sweep_table, tables
from spikeloom.cli import run as command_line
from verif import bench_imc
from verif.html_page import Page
from verif.imc import levers, sweep, vgg9_page
from verif.imc.setting import calibrated_setting, setting_of
from verif.imc.sweep import Point, Runs, Sweep
from verif.system import SystemFailure

P = IMC_PRESETS["spikesim"]
NAME = "vgg9-digits"
# SpikeSim's VGG9 in percent as its formulas give them (imc 2.1).
PUBLISHED_ENERGY = {"maps": 47.9, "tree": 19.0, "ADC": 15.7, "crossbar": 15.3, "mux": 0.7, "neuron": 0.6, "membrane": 0.6}
PUBLISHED_AREA = {"tree": 30.9, "maps": 30.6 + 0.43, "membrane": 26.9, "sums": 7.6, "ADC": 3.2, "mux": 0.2, "crossbar": 0.13}


@pytest.fixture
def stored() -> dict[str, Any]:
    """Return the committed report."""
    report: dict[str, Any] = json.loads((vgg9_page.DOCS / "vgg9.json").read_text())
    return report


@pytest.fixture(scope="module")
def runs() -> Runs:
    """Return golden runs of two images."""
    return Runs(NAME, P, 2)


def test_images_together_are_images_alone() -> None:
    """Several images in one go have the draws and spikes of each by itself, in numpy and torch; other numbers have others."""
    runs, setting = Runs("digits", P, 2), setting_of(P, "bits=4,read_noise=0.4,comparator_noise=0.2,offset=1,once=0,seed=4")
    workload = runs.at_steps(None)
    words = [workload.words(n) for n in range(2)]
    torched = [{name: torch.from_numpy(word) for name, word in entry.items()} for entry in words]
    network = map_arrays(workload.network, torch.asarray)
    together = run_images(network, P, setting, torched, first=3, placed=place(network, P, setting))
    alone = [run(workload.network, P, setting, entry, image=3 + n) for n, entry in enumerate(words)]
    for one, other in zip(alone, together, strict=True):
        for name, layer in one.layers.items():
            assert np.array_equal(layer.sums, other.layers[name].sums.numpy())
    elsewhere = run(workload.network, P, setting, words[0], image=4)
    assert not np.array_equal(elsewhere.layers["lif2"].sums, alone[0].layers["lif2"].sums)


def test_crossbars_of_a_tile_share_its_adcs() -> None:
    """Offsets are those of a tile, so that one calibration serves all its crossbars; cells vary on their own."""
    runs, setting = Runs("digits", P, 1), setting_of(P, "offset=2,proportional=0.1,seed=1")
    macros = [macro for entry in place(runs.at_steps(None).network, P, setting) for row in entry.macros for macro in row]
    assert {macro.bank for macro in macros} == {0, 1} and len(macros) == 15
    for macro in macros:
        twin = next(other for other in macros if other.bank == macro.bank)
        assert np.array_equal(macro.thresholds, twin.thresholds)
        assert macro is twin or not np.array_equal(macro.conductance, twin.conductance)
    assert not np.array_equal(macros[0].thresholds, next(m for m in macros if m.bank).thresholds)


def test_prices_are_those_of_spikesim() -> None:
    """What a PE cycle of SpikeSim costs and the area of its VGG9 have the published shares."""
    assert sum(SPIKESIM_ENERGY.values()) == pytest.approx(828.5, abs=0.05)
    for published, parts in ((PUBLISHED_ENERGY, SPIKESIM_ENERGY), (PUBLISHED_AREA, spikesim_area())):
        found = shares(parts)
        assert all(abs(100 * found[name] - value) < 0.1 for name, value in published.items()), found
    assert set(SPIKESIM_ENERGY) == set(COSTS) and set(spikesim_area()) == set(imc_energy.AREAS)


def independent(events: dict[str, float], rows: int) -> tuple[float, float]:
    """Return least and most nJ of events, from the numbers of imc 2.1 alone."""
    both = 0.094245 * events["conversions"] + 19.64 * events["outputs"] / 8
    both += 397 * rows * (events["read"] + events["words"]) / 576
    adc = 2.03084 * events["comparisons"] / 15
    least = 1.76423 * events["phases"] + (0.025 + 1.15e-6) * events["outputs"] + (1.274 * 4 + 4.64) / 64 * events["steps"]
    most = 8 * 1.76423 * events["phases"] + (1.6 + 1.15e-6) * events["outputs"] + (1.274 * 4 + 4.64) * events["steps"]
    return (both + least + adc) / 1e3, (both + most + max(adc, 2.03084 * events["code_bits"] / 4)) / 1e3


def test_energies_of_the_page(stored: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Energies in the report are what another sum of its events gives; another price is another energy."""
    for lever in stored["levers"]:
        least, most = independent(lever["events"], stored["rows"])
        assert lever["energy_pj"]["least"] / 1e3 == pytest.approx(least, rel=1e-12)
        assert lever["energy_pj"]["most"] / 1e3 == pytest.approx(most, rel=1e-12)
        assert lever["seconds"] == lever["cycles"] / 250e6 and not lever["mismatches"]
    usual = stored["levers"][0]
    assert usual["energy_of_steps"][-1] == pytest.approx(usual["energy_pj"]["least"], rel=1e-12)
    monkeypatch.setitem(imc_energy.COSTS, "mux", dataclasses.replace(COSTS["mux"], least=1.0))
    assert sum(energy(usual["events"], P).values()) != pytest.approx(usual["energy_pj"]["least"])


def test_areas() -> None:
    """Areas are what is there times the area of one."""
    found = area(P, crossbars=256, map_words=100, membranes=10)
    assert found["crossbar"] == 256 * 26.2144 and found["ADC"] == 4 * 8 * 693.633 and found["mux"] == 4 * 8 * 45.9
    assert found["maps"] == pytest.approx(2 * 100 * 64 * 0.7391) and found["membrane"] == pytest.approx(10 * 32 * 0.7391)
    assert found["sums"] == pytest.approx(4 * (13411.41 + 484.6)) and found["tree"] == 216830 * 2


def test_the_page_is_what_an_image_takes(stored: dict[str, Any], runs: Runs) -> None:
    """A way of running has the events, cycles and membranes of the report again, without a mismatch on the RTL."""
    ways = {lever["name"]: lever for lever in stored["levers"]}
    assert list(ways) == [lever.name for lever in levers.levers(P, NAME)]
    for way in (levers.Lever(name="zero-skip", macro="skip=1"), levers.Lever(name="time outside", time_inner=False),
                levers.Lever(name=SHARING, source=f"{NAME}-shared")):
        found = levers.measure(runs, way, stored["rtl"])
        assert found["mismatches"] == 0 and found["neuron_steps"] == 27_904
        assert {name: found[name] for name in ("events", "cycles", "membranes", "energy")} == {
            name: ways[way.name][name] for name in ("events", "cycles", "membranes", "energy")}
    assert ways[SHARING]["membranes"] * 2 == ways["as usual"]["membranes"]
    assert ways["zero-skip"]["events"]["skipped"] == ways["as usual"]["events"]["zero"] > 0


def test_events_that_are_wrong_are_seen(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that golden counts twice are not those of the RTL."""
    driven = imc_events._driven
    monkeypatch.setattr(imc_events, "_driven", lambda *words: (2 * rows for rows in driven(*words)))
    with pytest.raises(SystemFailure, match=r"layer lif1: events of golden .* counters of the RTL"):
        levers.measure(runs, levers.Lever(name="as usual"), 1)


def test_sweep() -> None:
    """A sweep runs what is drawn once for each seed; trimmed comparators bring back what offsets took."""
    runs = Runs("digits", P, 4)
    item = Sweep(title="t", axis="a", series={
        "": [Point(x=0), Point(x=1, macro="bits=1"), Point(x=2, macro="proportional=0.3", drawn=True)]})
    steps: list[int] = []
    found = sweep.measure(runs, item, 2, lambda: steps.append(1))["series"][0]["points"]
    assert len(steps) == sweep.count(item, 2) == 4 and [len(point["accuracies"]) for point in found] == [1, 1, 2]
    assert found[0]["accuracy"] == 1 > found[1]["accuracy"]
    offset = [runs.accuracy(Point(x=2, macro=f"offset=2{how}"), 1) for how in ("", ",calibrate=trims")]
    assert offset[0] < offset[1] == 1


def test_every_sweep_is_legal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every point of every preset is a setting that the preset has."""
    for p in IMC_PRESETS.values():
        for item in sweep.sweeps(p).values():
            for point in (point for points in item.series.values() for point in points):
                assert calibrated_setting(p, point.macro or None)[0].adc.bits >= 1 and (point.steps or 1) <= p.t_max


def test_exits(runs: Runs) -> None:
    """The lowest margin stops at once, one above all of the first step goes on; shares of steps add up."""
    found = sweep.exits(runs, runs.traces(setting_of(P, None)))
    assert all(sum(stop["shares"]) == pytest.approx(1) for stop in found)
    assert found[0]["steps"] == 1.0 < found[-1]["steps"] and found[0]["shares"] == [1, 0, 0, 0]


def test_page(stored: dict[str, Any], tmp_path: Path) -> None:
    """The committed page and its figures are what the committed report renders to; another number is another page."""
    texts = vgg9_page.files(stored, (vgg9_page.DOCS / "vgg9.md").read_text())
    assert all((vgg9_page.DOCS / name).read_text() == text for name, text in texts.items()), "python -m verif.imc.vgg9_page"
    assert len(texts) == 1 + len(stored["sweeps"]) == 8
    other = copy.deepcopy(stored)
    other["sweeps"]["stuck"]["series"][0]["points"][1]["accuracies"] = [0.125]
    changed = vgg9_page.files(other, texts["vgg9.md"])
    assert changed["figures/vgg9-stuck.svg"] != texts["figures/vgg9-stuck.svg"]
    (tmp_path / "vgg9.json").write_text(json.dumps(other))
    (tmp_path / "vgg9.md").write_text(texts["vgg9.md"])
    assert vgg9_page.main(["--docs", str(tmp_path)]) == 0
    assert (tmp_path / "figures" / "vgg9-stuck.svg").read_text() == changed["figures/vgg9-stuck.svg"]


def test_sweeps_that_are_measured_anew(stored: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The page measures sweeps by name, in the order of the command, and refuses another build than the report's."""
    monkeypatch.setattr(Runs, "accuracy", lambda runs, point, seed: point.x / 10 if "gains" in point.macro else 0.0)
    found = vgg9_page.measured({**stored, "images": 1}, "drift", lambda text: None)
    assert [*found["sweeps"]] == [*sweep.sweeps(P)]
    assert [series["points"][-1]["accuracy"] for series in found["sweeps"]["drift"]["series"]] == pytest.approx([0.0, 0.006])
    with pytest.raises(ParameterError, match=r"vgg9: build of the report, not 396f49a0; legal: 0; try: spikeloom bench imc"):
        vgg9_page.measured({**stored, "configuration": "0"}, "drift", lambda text: None)


def test_report(stored: dict[str, Any]) -> None:
    """The HTML page has every chart, table and source; early exit's energy lies between those of one step and of all."""
    text = page(stored, {"date": "1970-01-01"})
    read, drawn = Page(text), charts(stored)
    assert text.count("<svg ") == len(stored["sweeps"]) == len(drawn) and text.count("<h2>") == len(tables(stored)) + 1
    assert all(chart in text for chart in drawn.values())
    assert read.loads == [] and len(read.ids) == len({*read.ids}) and read.tables[0] == [["date", "1970-01-01"]]
    shown = [*map(sweep_table, stored["sweeps"].values()), *tables(stored).values()]
    assert read.tables[1:-2] == [
        [head, *([f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows)]
        for head, rows in shown]
    assert [row[2] for row in read.tables[-2][1:]] == [cost.source for cost in COSTS.values()]
    energies = [int(row[2].replace(",", "")) for row in exit_table(stored)[1]]
    usual = [round(part / 1e3) for part in stored["levers"][0]["energy_of_steps"]]
    assert energies[0] == usual[0] and all(usual[0] <= part <= usual[-1] for part in energies)


def test_command_line(stored: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                      capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints tables and writes page, figures and JSON; a mismatch is its exit code."""
    monkeypatch.setattr(bench_imc, "bench_imc", lambda *words, **options: stored)
    words = ["bench", "imc", "--html", str(tmp_path / "r.html"), "--figures", str(tmp_path / "f"), "--sweep", "adc,stuck",
             "--json", str(tmp_path / "r.json")]
    assert command_line(words) == 0
    printed = capsys.readouterr().out
    assert "Bottlenecks of the review" in printed and "zero-skip" in printed
    assert json.loads((tmp_path / "r.json").read_text()) == stored and "<svg " in (tmp_path / "r.html").read_text()
    assert sorted(path.name for path in (tmp_path / "f").iterdir()) == ["adc.svg", "stuck.svg"]
    monkeypatch.setattr(bench_imc, "bench_imc", lambda *words, **options: {**stored, "mismatches": 1})
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "perf.plots")
    assert command_line(["bench", "imc", "--quiet"]) == 1


@pytest.mark.parametrize(("words", "message"), [
    (["--sweep", "speed"], "--sweep: unknown name, not 'speed'; legal: adc, variation, stuck, steps, calibration, noise, "
                           "drift, all, none; try: --sweep adc,steps"),
    (["digit"], "workload: unknown name 'digit'"),
    (["--images", "361"], "images: must be in 1..360, the images of vgg9-digits, not 361; try: --images 360"),
    (["--rtl", "400", "--images", "1"], "images: must be in 1..360, the images of vgg9-digits, not 400; try: --images 360"),
    (["--images", "0"], "--images: must be an integer, not 0"),
    (["--preset", "loas"], "preset: unknown name 'loas'"),
    (["--html", "/nowhere/r.html"], "--html: a file in a writable folder, not '/nowhere/r.html'"),
])
def test_bad_input(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Bad input is one line that says what is legal."""
    assert command_line(["bench", "imc", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"spikeloom: {message}") and error.count("\n") == 1
    assert set(EVENTS) >= set(imc_events.COUNTED)
