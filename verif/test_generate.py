"""The generated folder: stable bytes, complete manifest, lint by FuseSoC, refusals that change nothing."""

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import In, Out

from golden.arch import PRESETS, Arch, ParameterError
from golden.formats import HEADER, pack, unpack
from hdl.block import Block
from hdl.bus.fifo import Fifo
from hdl.bus.register_map import REGISTERS, resets
from hdl.folder import write_folder
from hdl.generate import LICENCE, WAIVERS, files, generate, modules, ports, rams, totals
from verif import sim
from verif.mutant import mutant

ARCH = PRESETS["tiny"]
MANIFEST_KEYS = {"license", "version", "preset", "config_hash", "top", "parameters", "ports", "modules", "rams",
                 "files", "tools"}


class TwoQueues(Block):
    """Two equal queues and a third one, for counting."""

    def __init__(self) -> None:
        super().__init__({"a": In(8), "b": Out(8)})

    def build(self) -> Module:
        """Return the queues, unconnected but for the output."""
        m = Module()
        m.submodules.x, m.submodules.y, m.submodules.z = x, _, _ = Fifo(8, 4), Fifo(8, 4), Fifo(8, 16)
        m.d.comb += [self.b.eq(x.o.payload), x.i.payload.eq(self.a)]
        return m


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the accelerator of ``tiny``."""
    out = tmp_path_factory.mktemp("generated") / "tiny"
    generate(ARCH, out)
    return out


def lint(folder: Path, work: Path) -> subprocess.CompletedProcess[str]:
    """Run the lint target of the core file in ``folder``."""
    fusesoc = Path(sys.executable).parent / "fusesoc"
    core = next(folder.glob("*.core")).stem
    environ = {**sim.environment(), **dict.fromkeys(("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"), str(work))}
    return subprocess.run([fusesoc, "--cores-root", folder, "run", "--target", "lint", core], cwd=work,
                          capture_output=True, text=True, env=environ)


def test_manifest(folder: Path) -> None:
    """The manifest names every file with its SHA-256, the top with its ports, and the parameters."""
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest) == MANIFEST_KEYS
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in os.listdir(folder) if name != "manifest.json"} == manifest["files"]
    assert manifest["top"] == "spikeloom_ftp"
    names = {port["name"]: port["width"] for port in manifest["ports"]}
    assert {"aclk", "aresetn", "irq", "s_axi_ctrl_awaddr", "m_axi_araddr"} <= set(names)
    assert names["m_axi_rdata"] == ARCH.data_bits
    assert manifest["parameters"]["lanes"] == ARCH.lanes and manifest["config_hash"] == ARCH.hash
    assert set(manifest["modules"]) == {path.stem for path in folder.glob("*.v")} - {"spikeloom_ram_1r1w"}


def check_modules(folder: Path) -> None:
    """Assert that each Verilog file has the licence, one module of its own name, and no path or source line."""
    for path in folder.glob("*.v"):
        text = path.read_text()
        assert text.startswith(f"// SPDX-License-Identifier: {LICENCE}\n// spikeloom ")
        assert re.findall(r"^module (\w+)", text, re.M) == [path.stem]
        assert "src =" not in text and str(Path.home()) not in text and ".py" not in text


def test_one_module_per_file(folder: Path) -> None:
    """Each Verilog file is a module of its own."""
    check_modules(folder)


def test_same_bytes_in_another_process(folder: Path, tmp_path: Path) -> None:
    """A second process with another hash seed writes the same bytes."""
    script = "import sys; from spikeloom.cli import run; sys.exit(run(sys.argv[1:]))"
    subprocess.run([sys.executable, "-c", script, "generate", "--preset", "tiny", "-o", tmp_path / "again", "--quiet"],
                   check=True, env={**os.environ, "PYTHONHASHSEED": "7"}, cwd=Path(__file__).parents[1])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}


def test_prefix_reaches_every_module() -> None:
    """Another prefix renames modules, instances, RAMs, header and core."""
    written = files(TwoQueues(), ARCH, "mine")
    assert not any(b"spikeloom_" in content for content in written.values())
    assert b"#define MINE_MAGIC " in written["registers.h"] and "mine_two_queues.core" in written


def test_lint_target(folder: Path, tmp_path: Path) -> None:
    """FuseSoC runs Verilator -Wall on the core without a warning that is not waived."""
    done = lint(folder, tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_lint_target_can_fail(folder: Path, tmp_path: Path) -> None:
    """A wire that nothing drives fails the lint target."""
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in folder.iterdir():
        text = path.read_text()
        (broken / path.name).write_text(text.replace("endmodule", "wire loose; assign irq = loose;\nendmodule")
                                        if path.name == "spikeloom_ftp.v" else text)
    assert lint(broken, tmp_path).returncode != 0


def test_waivers_are_those_of_the_benches() -> None:
    """Each lint waiver of the folder is one of the central list, word for word."""
    assert {rule: sim.WAIVERS.get(rule) for rule in WAIVERS} == WAIVERS


def test_design_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal sources and parameters give the stored text; anything else, mutants above all, is converted anew."""
    made: list[type[Block]] = []
    convert = sim.converted

    def count(block: Block, prefix: str) -> tuple[str, str]:
        made.append(type(block))
        return convert(block, prefix)

    monkeypatch.setenv("SPIKELOOM_CACHE", str(tmp_path))
    monkeypatch.setattr(sim, "converted", count)
    monkeypatch.setattr(sim, "sources", lambda: "one")
    first = sim.design(Fifo(8, 4))
    assert first == sim.design(Fifo(8, 4)) == convert(Fifo(8, 4), "spikeloom")
    assert made == [Fifo]
    next(tmp_path.glob("design-*.json")).write_text("half of a fi")
    assert first == sim.design(Fifo(8, 4)) == sim.design(Fifo(8, 4))
    assert made == [Fifo] * 2
    assert sim.design(Fifo(8, 16)) != first
    assert sim.design(Fifo(8, 4), "mine")[1] == "mine_fifo"
    assert made == [Fifo] * 4
    broken = mutant(Fifo, "total != depth)", "total != depth - 1)")
    for _ in range(2):
        made.clear()
        assert sim.design(broken(8, 4)) != first
        sim.design(TwoQueues())
        assert made == [broken, TwoQueues]
    for found in ("two", None, None):
        made.clear()
        monkeypatch.setattr(sim, "sources", lambda found=found: found)
        assert sim.design(Fifo(8, 4)) == first
        assert made == [Fifo]


def test_sources(tmp_path: Path) -> None:
    """A change of one byte changes the hash; after a change that this process may not have loaded there is none."""
    for room in ("hdl", "golden"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "a.py").write_text("a = 1\n")
    assert sim.sources(tmp_path) is None
    hashes = set()
    for path, text in ((tmp_path / "hdl" / "a.py", "a = 1\n"), (tmp_path / "hdl" / "a.py", "a = 2\n"),
                       (tmp_path / "golden" / "a.py", "a = 2\n")):
        path.write_text(text)
        for each in tmp_path.glob("*/a.py"):
            os.utime(each, (0, sim.LOADED - 3600))
        sim.hash_of.cache_clear()
        hashes.add(sim.sources(tmp_path))
    assert len(hashes) == 3 and None not in hashes


def test_totals() -> None:
    """Modules and RAMs count through the hierarchy."""
    _, instances, top = modules(TwoQueues(), "p")
    assert dict(totals(instances, top)) == {
        "p_two_queues": 1, "p_fifo": 2, "p_fifo_2": 1, "p_ram_1r1w:4x8": 2, "p_ram_1r1w:16x8": 1}
    assert rams(instances, top) == [{"depth": 4, "width": 8, "count": 2}, {"depth": 16, "width": 8, "count": 1}]
    deep = {"top": {"a": 2}, "a": {"b": 3, "r_ram_1r1w:2x4": 1}, "b": {"r_ram_1r1w:2x4": 5}}
    assert rams(deep, "top") == [{"depth": 2, "width": 4, "count": 2 * (1 + 3 * 5)}]


def test_ports() -> None:
    """Names, directions and widths come from the Verilog, keywords included."""
    text = ("module x(a, \\program , b);\n  input a;\n  wire a;\n  output [7:0] \\program ;\n  input [0:0] b;\n"
            "endmodule\n")
    assert [(p["name"], p["direction"], p["width"]) for p in ports(text)] == [
        ("a", "input", 1), ("program", "output", 8), ("b", "input", 1)]


def test_again_into_the_same_folder(tmp_path: Path) -> None:
    """A generated folder is replaced; files that the second manifest does not name are gone."""
    write_folder(tmp_path / "out", {"old.v": b"1", "manifest.json": b'{"files": {"old.v": ""}}'})
    write_folder(tmp_path / "out", {"new.v": b"2", "manifest.json": b'{"files": {"new.v": ""}}'})
    assert sorted(os.listdir(tmp_path / "out")) == ["manifest.json", "new.v"]


def test_foreign_files(tmp_path: Path) -> None:
    """A folder with a file that is not ours is refused untouched; with force the file stays."""
    (tmp_path / "thesis.tex").write_text("important")
    content = {"new.v": b"2", "manifest.json": b'{"files": {"new.v": ""}}'}
    with pytest.raises(ParameterError) as error:
        write_folder(tmp_path, content)
    assert str(error.value) == (f"{tmp_path}: holds files that are not ours, not an empty folder (thesis.tex); "
                                "legal: an empty or generated folder; try: --force")
    assert os.listdir(tmp_path) == ["thesis.tex"]
    write_folder(tmp_path, content, force=True)
    assert sorted(os.listdir(tmp_path)) == ["manifest.json", "new.v", "thesis.tex"]


@pytest.mark.parametrize("listed", [True, False], ids=["of the new manifest", "of the old manifest"])
def test_a_folder_in_the_place_of_a_file(listed: bool, tmp_path: Path) -> None:
    """A folder that has the name of a file to replace or remove is refused, also with force, and no file changes."""
    old = {"a.v": b"1", "z.v": b"1", "manifest.json": b'{"files": {"a.v": "", "z.v": ""}}'}
    write_folder(tmp_path, old)
    (tmp_path / "z.v").unlink()
    (tmp_path / "z.v").mkdir()
    new = {"a.v": b"2", "manifest.json": b'{"files": {"a.v": ""}}', **({"z.v": b"2"} if listed else {})}
    with pytest.raises(ParameterError) as error:
        write_folder(tmp_path, new, force=True)
    assert str(error.value) == (f"{tmp_path}: z.v must be a file or absent, not a folder; legal: an empty or generated "
                                "folder; try: another --out")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == {
        "a.v": b"1", "manifest.json": old["manifest.json"]}
    assert sorted(os.listdir(tmp_path)) == ["a.v", "manifest.json", "z.v"]


LARGEST: dict[str, Any] = {"lanes": 32, "chunk_bits": 256, "t_max": 16, "weight_bits": 8,
                           "max_chunks": 1024, "row_value_lines": 4096,
                           "weight_bytes": (1 << 24) - 64, "pool_channels": 4096, "resume_tiles": 4096, "acc_bits": 32,
                           "stream_bits": 32, "membrane_bits": 32}
IN_HEADER = {"chunks": "max_chunks", "row_lines": "row_value_lines"}


def test_every_legal_size_has_a_field_that_holds_it() -> None:
    """What a build can have, its registers can say and a program's header can ask for; the next larger is refused."""
    arch = Arch(**LARGEST, fifo_depth=16, buffer_bytes=1 << 40)
    held = [(f.name, f.width) for register in REGISTERS if register.name.startswith("LIMITS_") for f in register.fields]
    values = asdict(arch)
    held += [(IN_HEADER.get(f.name, f.name), f.width) for f in HEADER if IN_HEADER.get(f.name, f.name) in values]
    assert {name for name, _ in held} == {*LARGEST}
    for name, width in held:
        assert LARGEST[name] < 1 << width, name
    for name, value in LARGEST.items():
        more = {name: value + 64 if name == "weight_bytes" else value + 1}
        with pytest.raises(ParameterError, match=f"^{name} must be "):
            replace(arch, **more)
    unpacked = unpack(HEADER, pack(HEADER, 64, {f.name: LARGEST[IN_HEADER.get(f.name, f.name)] for f in HEADER
                                                if IN_HEADER.get(f.name, f.name) in LARGEST}))
    assert {name: unpacked[name] for name in ("weight_bytes", "lanes", "chunks")} == {
        "weight_bytes": LARGEST["weight_bytes"], "lanes": 32, "chunks": 1024}
    limits = {register.name: register.fields for register in REGISTERS}["LIMITS_BUFFER"]
    assert resets(arch)["LIMITS_BUFFER"] == LARGEST["weight_bytes"] << limits[0].lsb


def test_foreign_manifest(tmp_path: Path) -> None:
    """A manifest of another program is a file like any other."""
    (tmp_path / "manifest.json").write_text('{"name": "some web page"}')
    with pytest.raises(ParameterError, match="holds files that are not ours"):
        write_folder(tmp_path, {"manifest.json": b"{}"})


def test_unwritable_folder(tmp_path: Path) -> None:
    """A folder below a file is refused."""
    (tmp_path / "file").touch()
    with pytest.raises(ParameterError) as error:
        write_folder(tmp_path / "file" / "out", {"manifest.json": b"{}"})
    assert str(error.value) == f"{tmp_path}/file/out: cannot be written (Not a directory); legal: a writable folder"


def test_bad_names(tmp_path: Path) -> None:
    """An unknown top and a prefix that is no identifier are refused before anything is written."""
    with pytest.raises(ParameterError) as error:
        generate(ARCH, tmp_path / "out", top="gpu")
    assert str(error.value) == "top: unknown name, not 'gpu'; legal: ftp, imc, imc-tile; try: --top ftp"
    with pytest.raises(ParameterError) as error:
        generate(ARCH, tmp_path / "out", prefix="9 lives")
    assert str(error.value) == ("prefix: a Verilog identifier, not '9 lives'; legal: letters, digits and _; "
                                "try: --prefix spikeloom")
    assert not (tmp_path / "out").exists()
