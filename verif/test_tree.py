"""The tree keeps its own rules: who imports whom, which block has a twin and a bench, how long files are."""

import ast
import importlib
import io
import os
import re
import subprocess
import sys
import tokenize
import tomllib
from pathlib import Path

import pytest

from spikeloom.blocks import bench, blocks, defines_block

ROOT = Path(__file__).parents[1]
ROOMS = ("golden", "hdl", "models", "perf", "spikeloom", "synth", "verif")
MAY_IMPORT = {
    "models": ("models", "golden.arch"),
    "golden": ("golden",),
    "hdl": ("hdl", "golden.arch", "golden.formats", "golden.fiber", "golden.kept_taps", "golden.imc.arch"),
    "synth": ("synth", "hdl", "golden.arch"),
    "perf": ("perf", "golden"),
}
NEVER = {"golden": ("amaranth", "cocotb", "sklearn"), "hdl": ("torch", "cocotb"), "models": ("amaranth", "cocotb"),
         "synth": ("torch", "cocotb"), "perf": ("amaranth", "cocotb")}
PLAIN = {f"golden/{name}.py": ("torch", "amaranth") for name in ("arch", "formats", "fiber", "kept_taps", "imc/arch")}
MODELS_READERS = {"spikeloom/catalogue.py"}
TORCH_READERS = {"golden/capture.py", "golden/layers.py", "golden/float_run.py", "golden/to_torch.py"}

# A block whose golden function has another name, with the file that holds it.
TWINS = {
    "fiber_writer": "compressor",
    "neuron_stage": "parallel_lif",
    "sequencer": "run",
    "core": "run",
    "ftp": "run",
    "imc.core": "imc.run",
    "imc.core_control": "imc.run",
    "imc.transformer": "imc.token_unit",
    "imc.imc": "imc.run",
    "imc.registers": "imc.run",
    "imc.imc_tile": "imc.writable_tile",
    "imc.tile_control": "imc.writable_tile",
    "imc.tile_registers": "imc.writable_tile",
    "imc.cell_access": "imc.write_verify",
}
BLOCK_LINES = 180
COMMAND_LINES = 60
FUNCTION_LINES = 60


def python_files(*rooms: str) -> list[Path]:
    """Return the Python files of rooms, relative to the checkout."""
    return sorted(path.relative_to(ROOT) for room in rooms for path in (ROOT / room).rglob("*.py"))


def imported(text: str) -> set[str]:
    """Return the modules that a file imports anywhere, functions included; a package's members as modules."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} if "." in node.module else {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def breaches(path: Path, text: str) -> list[str]:
    """Return the imports of a file that the table forbids."""
    room, found = path.parts[0], []
    for name in sorted(imported(text)):
        base = name.split(".")[0]
        allowed = MAY_IMPORT.get(room)
        if base in ROOMS and allowed is not None and not any(f"{name}.".startswith(f"{a}.") for a in allowed):
            found.append(name)
        if base in (*NEVER.get(room, ()), *PLAIN.get(path.as_posix(), ())):
            found.append(name)
        if base == "torch" and room == "golden" and path.as_posix() not in TORCH_READERS:
            found.append(name)
        if base == "models" and room == "spikeloom" and path.as_posix() not in MODELS_READERS:
            found.append(name)
    return found


def code_lines(text: str) -> int:
    """Return the lines with code: no blanks, comments or docstrings."""
    lines: set[int] = set()
    skip = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skip:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


@pytest.mark.parametrize("path", python_files(*(room for room in ROOMS if (ROOT / room).is_dir())), ids=str)
def test_imports(path: Path) -> None:
    """Imports go only the way of the table."""
    assert breaches(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize(("path", "line"), [
    ("hdl/x.py", "from golden.run import run"),
    ("hdl/x.py", "from golden import network"),
    ("hdl/x.py", "def f():\n    import torch.nn"),
    ("golden/x.py", "from hdl.block import Block"),
    ("golden/x.py", "import amaranth"),
    ("golden/arch.py", "import torch"),
    ("golden/run.py", "from torch import Tensor"),
    ("models/x.py", "from golden.lower import lower"),
    ("synth/x.py", "import verif.sim"),
    ("spikeloom/commands/x.py", "from models import digits"),
])
def test_imports_can_fail(path: str, line: str) -> None:
    """Each kind of forbidden import is found."""
    assert breaches(Path(path), line)


@pytest.mark.parametrize("block", [block for block in blocks() if not block.startswith("bus.")])
def test_block_has_twin(block: str) -> None:
    """A computing block has a golden function in a file of its name."""
    assert (ROOT / "golden" / f"{TWINS.get(block, block).replace('.', '/')}.py").is_file()


@pytest.mark.parametrize("block", blocks())
def test_block_has_bench(block: str) -> None:
    """A block has a bench in a file of its name, or one that runs the whole accelerator."""
    assert bench(block).is_file()


def test_blocks_are_found() -> None:
    """The search for blocks sees them and passes over other files."""
    assert {"fast_prefix_sum", "parallel_lif", "ftp", "bus.registers"} <= {*blocks()}
    assert not {"block", "generate", "image", "bus.register_map"} & {*blocks()}
    assert not bench("registers_of_another").exists()
    assert bench("core") != bench("imc.core") == bench("imc.imc")


def test_base_loads_without_torch() -> None:
    """Hardware, command line, lowering, golden run, and what compile and list read, load where torch does not exist."""
    paths = [path for path in python_files("hdl", "spikeloom", "synth", "golden") if path.as_posix() not in TORCH_READERS]
    paths += map(Path, ("models/workloads.py", "models/datasets.py", "models/published.py",
                        "models/statten_sizes.py", "verif/workload.py",
                        "verif/synthetic_workload.py"))
    names = [".".join(path.with_suffix("").parts) for path in paths]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
    script = f"import importlib, sys; sys.modules['torch'] = None\nfor name in {names}: importlib.import_module(name)"
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, cwd=ROOT)
    broken = subprocess.run([sys.executable, "-c", script.replace(str(names), "['golden.float_run']")], cwd=ROOT,
                            capture_output=True)
    assert broken.returncode != 0


@pytest.mark.parametrize("room", [room for room in ROOMS if (ROOT / room / "__init__.py").is_file()])
def test_packages_are_this_checkout(room: str) -> None:
    """Imports find this checkout, not an installed copy."""
    assert Path(importlib.import_module(room).__file__ or "").parents[1] == ROOT


def test_packages_are_declared() -> None:
    """pyproject.toml lists exactly the packages of the tree."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {".".join(path.parent.parts) for path in python_files(*ROOMS) if path.name == "__init__.py"}
    assert set(listed) == there


def test_package_data_is_declared() -> None:
    """pyproject.toml names the files of the packages that are no Python."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    named = {path for package, globs in patterns.items() for glob in globs
             for path in (ROOT / package.replace(".", "/")).glob(glob)}
    there = {path for room in ROOMS for path in (ROOT / room).rglob("*.*") if path.suffix not in (".py", ".pyc")}
    assert there == named


@pytest.mark.parametrize("path", python_files("hdl"), ids=str)
def test_block_lines(path: Path) -> None:
    """A block is a screenful or two of code."""
    text = (ROOT / path).read_text()
    if defines_block(text):
        assert code_lines(text) <= BLOCK_LINES


def test_command_lines() -> None:
    """A command's file is thin."""
    long = [path.name for path in (ROOT / "spikeloom" / "commands").glob("*.py")
            if code_lines(path.read_text()) > COMMAND_LINES]
    assert long == []


def test_code_lines() -> None:
    """Comments, blanks and docstrings do not count, the lines of a long statement do."""
    text = '"""Title.\n\nMore.\n"""\n\n# why\nx = (1,\n     2)\n\n\ndef f():\n    """Do."""\n    return x\n'
    assert code_lines(text) == 4


def test_function_lines() -> None:
    """No function of the golden model or the tools is longer than a screen; blocks have a budget of their own."""
    long = [f"{path}:{node.name}" for path in python_files("golden", "spikeloom", "synth")
            for node in ast.walk(ast.parse((ROOT / path).read_text()))
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno > FUNCTION_LINES]
    assert long == []


FORBIDDEN = {
    "waiver in the code": r"#\s*(noqa|type:\s*ignore(?!\[))",
    "note to self": r"\b(TODO|FIXME|XXX)\b",
    "path of a machine": r"(?<![\w.])/(home|Users|work|root)/\w",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_text(what: str) -> None:
    """No file of the tree holds what the rules forbid."""
    tracked = [path for path in python_files(*ROOMS) if path != Path("verif/test_tree.py")]
    tracked += [path.relative_to(ROOT) for pattern in ("*.md", "docs/**/*.md", "Makefile", "*.toml")
                for path in ROOT.glob(pattern)]
    assert [str(path) for path in tracked if re.search(FORBIDDEN[what], (ROOT / path).read_text())] == []


@pytest.mark.parametrize(("what", "text"), [
    ("waiver in the code", "x = 1  # noqa: F401"), ("waiver in the code", "x = y  # type: ignore"),
    ("note to self", "# TODO later"), ("path of a machine", 'open("/home/me/x")')])
def test_text_can_fail(what: str, text: str) -> None:
    """Each forbidden text is found."""
    assert re.search(FORBIDDEN[what], text)


def test_no_dump_modules() -> None:
    """No file is named after nothing."""
    assert [path for path in python_files(*ROOMS) if path.stem in ("utils", "util", "helpers", "common", "misc")] == []


def test_own_models_folder_is_harmless(tmp_path: Path) -> None:
    """The command line, started in a folder with a ``models`` of its own, does not import that one."""
    (tmp_path / "models").mkdir()
    for name in ("models/__init__.py", "golden.py", "hdl.py"):
        (tmp_path / name).write_text("raise SystemExit('the user\\'s file was imported')\n")
    program = Path(sys.executable).parent / "spikeloom"
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for arguments in (["list"], ["generate", "--preset", "nope", "-o", "out"]):
        done = subprocess.run([program, *arguments], cwd=tmp_path, env=environ, capture_output=True, text=True)
        assert "was imported" not in done.stdout + done.stderr
        assert done.returncode == (0 if arguments == ["list"] else 2), done.stderr
