"""``spikeloom bench trex``: the shipped networks keep what the page says, reuse writes nothing, bad input is one line."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import verif.bench_trex
import verif.trex_networks
from golden.arch import ParameterError
from golden.imc.vit import Vit
from golden.imc.vit_lower import FloatVit, lower
from models.vit import VitSize
from perf.trex_report import NAMES, costs, designs, encoders, provenance
from spikeloom.cli import run
from verif.bench_trex import DESIGNS, PAPER, Report, bench_trex, failed
from verif.imc.test_vit_run import SMALL
from verif.imc.vit_run import run_vit
from verif.trex_networks import Recipe
from verif.trex_page import TABLES, main

QUICK = Recipe(seed=3, epochs=1, reuse_epochs=1, size=VitSize(patch=4, dim=8, depth=4))
PAGE = Path(__file__).parents[1] / "docs" / "trex.md"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of trained networks that is empty."""
    monkeypatch.setattr(verif.trex_networks, "folder", lambda: tmp_path)
    return tmp_path


def test_shipped_networks() -> None:
    """At a delay of 0.6 the shipped network loses at most 2 points of the whole test split, and reuse writes no K or V."""
    report = bench_trex(0.6, designs=("none", "tb"))
    none, tb = report["designs"]
    assert not failed(report) and report["images"] == 360 and tb["kv_pulses_on_reused"] == 0
    assert report["points_lost_int8"]["tb"] <= 2 and tb["costs"]["core"]["delay"] <= 0.6
    page = PAGE.read_text()
    for row in (none, tb):
        cells = [NAMES[row["design"]], ", ".join(map(str, row["reuse"])) or "-", f"{row['accuracy_float']:.2%}",
                 f"{row['accuracy_int8']:.2%}"]
        assert f"| {' | '.join(cells)} |" in page
    for head, rows in (costs(report), encoders(report)):
        assert all(f"| {' | '.join(map(str, row))} |" in page for row in rows), head
    for number, one in tb["kv_writes"].items():
        wanted = (0, 0, False) if int(number) in tb["reuse"] else (1024, 128, True)
        assert (one["words"], one["rows"], one["pulses"] > 0) == wanted


def test_designs_at_one_delay(cache: Path) -> None:
    """All designs keep the delay with their own number of encoders; what is trained once is found again."""
    report = bench_trex(0.8, recipe=QUICK, images=10)
    assert [row["design"] for row in report["designs"]] == [*DESIGNS] and not failed(report)
    for row in report["designs"]:
        assert row["costs"]["core"]["delay"] <= (1 if row["design"] == "none" else 0.8) and row["mismatches"] == 0
        assert row["kv_pulses_on_reused"] == 0 and bool(row["reuse"]) == (row["design"] != "none")
    written = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(written) == 4
    again = bench_trex(0.8, recipe=QUICK, images=10)
    assert again == report and written == {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    for table in (designs, costs, encoders, provenance):
        head, rows = table(report)
        assert rows and all(len(row) == len(head) for row in rows)


def test_writes_of_an_encoder_that_reuses_fail(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: an encoder that computes attention though it should reuse is found by its writes."""
    def wrong(net: FloatVit) -> Vit:
        found = lower(net)
        attention = found.encoders[0].attention
        return replace(found, encoders=tuple(replace(one, attention=attention) for one in found.encoders))

    monkeypatch.setattr(verif.bench_trex, "lower", wrong)
    report = bench_trex(0.8, recipe=QUICK, images=5, designs=("none", "tb"))
    assert failed(report) and report["designs"][1]["kv_pulses_on_reused"] > 0


def test_on_the_rtl(cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An image runs on the RTL with golden's pulses and none where attention is reused; a result that differs fails."""
    monkeypatch.setattr(verif.trex_networks, "Recipe", lambda seed: replace(QUICK, seed=seed))
    monkeypatch.setattr(verif.bench_trex, "bench_trex", partial(bench_trex, designs=("tb",)))
    monkeypatch.setattr(verif.bench_trex, "run_vit", partial(run_vit, optimise="-O0"))
    monkeypatch.setattr(verif.bench_trex, "PRESET", SMALL)
    assert run(["bench", "trex", "--delay", "0.8", "--images", "5", "--rtl", "1", "--json", "-"]) == 0
    report: Report = json.loads(capsys.readouterr().out)
    row = report["designs"][0]
    assert row["rtl"]["mismatches"] == 0 and row["rtl"]["numbers"] > 1000 and row["reuse"]
    assert row["rtl"]["kv_pulses"] == {number: one["pulses"] for number, one in row["kv_writes"].items()}
    assert sum(row["rtl"]["kv_pulses"].values()) > 0 and row["rtl"]["kv_pulses_on_reused"] == 0
    assert 0.8 < row["rtl"]["cycles"] / row["costs"]["core"]["cycles"] < 1.25
    assert not failed(report) and failed({"designs": [{**row, "rtl": {**row["rtl"], "mismatches": 1}}]})


def test_sums_that_differ_fail(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: macros that are not ideal differ from integer products, and are counted."""
    rough = verif.bench_trex.effect_tiles("proportional=0.3,seed=1")
    monkeypatch.setattr(verif.bench_trex, "ideal_tiles", lambda: rough)
    report = bench_trex(0.8, recipe=QUICK, images=5, designs=("none",))
    assert failed(report) and report["designs"][0]["mismatches"] > 0


def test_command(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints its tables, writes JSON and a chart, and measures macros that are not ideal."""
    monkeypatch.setattr(verif.trex_networks, "Recipe", lambda seed: replace(QUICK, seed=seed))
    told, chart = tmp_path / "report.json", tmp_path / "chart.svg"
    words = ["bench", "trex", "--delay", "0.8", "--images", "5", "--macro", "proportional=0.02", "--json", str(told),
             "--plot", str(chart), "--seed", "3"]
    assert run(words) == 0
    printed = capsys.readouterr().out
    report: Report = json.loads(told.read_text())
    assert all(name in printed for name in NAMES.values()) and f"{PAPER['edap']:.2f}" in printed
    assert all(0 <= row["accuracy_macro"] <= 1 for row in report["designs"]) and report["seed"] == 3
    assert all(one["source"] for entries in report["constants"].values() for one in entries)
    drawn, curve = chart.read_text(), report["curve"]
    assert len(curve["EDAP gain"]) == QUICK.size.depth - 1 and drawn.count("<title>") == 3 * len(curve["EDAP gain"])
    assert all(f"<title>{name} {round(x, 2):g}: {y:.2f}</title>" in drawn for name, line in curve.items() for x, y in line)
    assert run([*words, "--quiet"]) == 0 and capsys.readouterr().out == ""


@pytest.mark.parametrize(("words", "message"), [
    (["--delay", "2"],
     "--delay: fraction of the delay without reuse, not 2; legal: above 0, at most 1; try: --delay 0.6"),
    (["--delay", "slow"],
     "--delay: fraction of the delay without reuse, not slow; legal: above 0, at most 1; try: --delay 0.6"),
    (["--delay", "0.1"],
     "--delay: fraction of the delay without reuse that some number of encoders reaches, not 0.1; legal: 0.380..1; "
     "try: --delay 0.6"),
    (["--tiles", "moon"], "organisation: unknown name, not 'moon'; legal: core, spatial; try: core"),
    (["--macro", "warp=1"], None),
    (["--images", "361"], None),
])
def test_bad_input(words: list[str], message: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    """Bad input is one line and exit code 2, before anything is trained."""
    assert run(["bench", "trex", *words]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and (message is None or told == f"spikeloom: {message}\n")


def test_page(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page's tables, and its chart, are written from a report; the rest stays, other files are refused in one line."""
    told, page = tmp_path / "report.json", tmp_path / "page.md"
    told.write_text(json.dumps(bench_trex(0.8, recipe=QUICK, images=5, designs=("none",))))
    page.write_text("above\n" + "".join(f"<!-- {name} -->\nold\n<!-- end of {name} -->\n" for name in TABLES) + "below\n")
    assert main([str(told), "--page", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("above\n") and text.endswith("below\n") and "old" not in text and "| no reuse | - |" in text
    assert not page.with_suffix(".svg").exists()
    told.write_text(json.dumps(json.loads(told.read_text()) | {"curve": {"EDAP gain": [(0.5, 2.25)]}}))
    assert main([str(told), "--page", str(page)]) == 0 and page.read_text() == text
    assert "<title>EDAP gain 0.5: 2.25</title>" in page.with_suffix(".svg").read_text()
    told.write_text("{}")
    assert main([str(told), "--page", str(page)]) == 2 and page.read_text() == text
    assert capsys.readouterr().err.count("\n") == 1


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    """Help shows the command of the issue."""
    assert run(["bench", "trex", "--help"]) == 0
    assert "Example: spikeloom bench trex --delay 0.6" in capsys.readouterr().out


def test_foreign_networks_are_refused() -> None:
    """A network without a tensor that lowering needs is told by its name."""
    empty: dict[str, Any] = {"peaks": {"stream": 1.0}, "tensors": {}}
    with pytest.raises(ParameterError, match=r"network: must have a tensor head\.weight"):
        lower(FloatVit(**empty, heads=1, depth=0, patch=2, sources={}, variant="skip"))
