"""The hardware blocks: which files of ``hdl/`` define one, and the bench that exercises each."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = {"": "hdl", "bus.": "hdl/bus", "imc.": "hdl/imc"}
# Blocks that only run as the whole accelerator: on workloads, and on programs and buses that are broken.
BENCHES = {"core": "simulate", "ftp": "simulate", "sequencer": "errors", "imc.imc": "core", "imc.core_control": "core",
           "imc.tile_control": "imc_tile"}


def defines_block(text: str) -> bool:
    """Return whether a source text defines a class that inherits from ``Block``; nothing is imported."""
    classes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]
    return any(isinstance(base, ast.Name) and base.id == "Block" for node in classes for base in node.bases)


def blocks() -> list[str]:
    """Return the names of the hardware blocks: stems of files in ``hdl/``, and ``bus.<stem>`` or ``imc.<stem>``."""
    return [prefix + path.stem for prefix, folder in FOLDERS.items() for path in sorted((ROOT / folder).glob("*.py"))
            if defines_block(path.read_text())]


def purpose(stem: str, top: str) -> str:
    """Return what a block of a top is, the beginning of its file's docstring; nothing of a module that is no block."""
    for folder in sorted(FOLDERS.values(), reverse=top != "ftp"):
        path = ROOT / folder / f"{stem}.py"
        if path.exists():
            text = ast.get_docstring(ast.parse(path.read_text())) or ""
            return text.partition("\n")[0].partition(":")[0].rstrip(".")
    return ""


def bench(block: str) -> Path:
    """Return the file with the bench of a block."""
    folder, stem = ROOT / "verif", block.removeprefix("bus.")
    if block.startswith("imc."):
        folder, stem = folder / "imc", block.removeprefix("imc.")
    return folder / f"test_{BENCHES.get(block, stem)}.py"
