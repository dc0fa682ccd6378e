"""The generated folders of a core of tiles and of a tile: manifest, modules, checker, stable bytes, lint, cells of blocks."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from golden.imc.arch import IMC_PRESETS
from hdl.generate import LICENCE, modules, top_block
from hdl.imc.macro_checks import checks, rules
from spikeloom.cli import run
from verif.test_generate import MANIFEST_KEYS, check_modules, lint

ARCH = IMC_PRESETS["tiny-ci"]
TOPS = {"imc": "spikeloom_imc", "imc-tile": "spikeloom_imc_tile"}
MACRO = "spikeloom_imc_macro"


@pytest.fixture(scope="module", params=TOPS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what ``generate`` writes for a top; its name is the folder's."""
    out = tmp_path_factory.mktemp("generated") / str(request.param)
    assert run(["generate", "--top", str(request.param), "--preset", ARCH.name, "-o", str(out), "--quiet"]) == 0
    return out


def test_manifest(folder: Path) -> None:
    """The manifest names every file with its SHA-256, the top with its ports, the parameters, and the macro as a black box."""
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest) == MANIFEST_KEYS | {"black_boxes", "simulation"}
    assert manifest["simulation"] == {f"{MACRO}_checks.sv": manifest["files"][f"{MACRO}_checks.sv"]}
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in os.listdir(folder) if name != "manifest.json"} == manifest["files"]
    assert manifest["top"] == TOPS[folder.name] and manifest["black_boxes"] == {MACRO: ARCH.tiles}
    names = {port["name"]: port["width"] for port in manifest["ports"]}
    assert {"aclk", "aresetn", "irq", "s_axi_ctrl_awaddr"} <= set(names)
    assert manifest["parameters"]["rows"] == ARCH.rows and manifest["config_hash"] == ARCH.hash
    written = {path.stem for path in folder.glob("*.v")}
    assert set(manifest["modules"]) == written - {"spikeloom_ram_1r1w", MACRO}


def test_one_module_per_file(folder: Path) -> None:
    """Each Verilog file is a module of its own; the macro's has nothing but ports."""
    check_modules(folder)
    box = (folder / f"{MACRO}.v").read_text()
    assert not re.search(r"\b(assign|always|initial)\b", re.sub(r"//.*", "", box)) and "blackbox" in box


def test_checker(folder: Path) -> None:
    """The macro's checker has one licence, the prefix, and every rule of a build; only simulation and lint read it."""
    name = f"{MACRO}_checks"
    text = (folder / f"{name}.sv").read_text()
    assert text.startswith(f"// SPDX-License-Identifier: {LICENCE}\n// spikeloom ") and text.count("SPDX") == 1
    assert re.findall(r"^module (\w+)", text, re.M) == [name] and f"bind {MACRO} {name} " in text
    assert re.findall(r"(\w+): assert ", text) == [rule.label for rule in rules(ARCH)]
    assert all(word.startswith(MACRO.upper()) for word in re.findall(r"`(?:ifndef|define) (\w+)", text))
    assert checks(ARCH, "mine_imc_macro") in text.replace("spikeloom_", "mine_").replace("SPIKELOOM_", "MINE_")
    core = (folder / f"{TOPS[folder.name]}.core").read_text()
    assert re.findall(r"^  (\w+):\n    files:\n      - \S+_checks.sv\n    file_type", core, re.M) == ["checks"]
    assert re.findall(r"^  (\w+):\n(?:    default_tool.*\n)?    filesets: \[(.*)\]", core, re.M) == [
        ("default", "rtl"), ("sim", "rtl, checks"), ("lint", "waivers, rtl, checks")]
    assert name not in modules(top_block(ARCH, folder.name), "spikeloom")[0]


def test_same_bytes_in_another_process(folder: Path, tmp_path: Path) -> None:
    """A second process with another hash seed writes the same bytes."""
    script = "import sys; from spikeloom.cli import run; sys.exit(run(sys.argv[1:]))"
    subprocess.run([sys.executable, "-c", script, "generate", "--top", folder.name, "--preset", ARCH.name,
                    "-o", tmp_path / "again", "--quiet"], check=True, env={**os.environ, "PYTHONHASHSEED": "7"},
                   cwd=Path(__file__).parents[2])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}


def test_lint_target(folder: Path, tmp_path: Path) -> None:
    """FuseSoC runs Verilator -Wall on the core without a warning that is not waived, and a loose wire fails."""
    done = lint(folder, tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in folder.iterdir():
        text = path.read_text()
        (broken / path.name).write_text(text.replace("endmodule", "wire loose; assign irq = loose;\nendmodule")
                                        if path.stem == TOPS[folder.name] and path.suffix == ".v" else text)
    assert lint(broken, tmp_path).returncode != 0


def test_cells_of_every_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tile becomes cells of an ice40: the report counts those of every block, of B1 to B5, B9 and B13 too, and their sum."""
    monkeypatch.setenv("SPIKELOOM_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "cells.json"
    assert run(["synth", "--top", "imc-tile", "--preset", ARCH.name, "--target", "ice40", "--json", str(out), "--quiet"]) == 0
    found = json.loads(out.read_text())
    for kind, total in found["top"].items():
        assert total == sum(block["count"] * block[kind] for block in found["blocks"].values()), kind
    assert {f"spikeloom_{name}" for name in (
        "word_lines", "converter", "calibrator", "shift_add", "signed_combine", "write_verify", "event_counters")} <= {
            name for name, block in found["blocks"].items() if block["luts"] and block["ffs"]}
    assert MACRO not in found["blocks"]
