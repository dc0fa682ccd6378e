"""Run a vision transformer on a core of tiles, and compare the result of every operation with golden."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.imc.arch import ImcArch, WriteError
from golden.imc.devices import DEVICES, Cells
from golden.imc.kv_write import crossbar_jobs
from golden.imc.macro import Adc, Macro, build
from golden.imc.run import Placed, Setting
from golden.imc.vit import Operation, Trace, Vit, run
from golden.imc.vit_crossbars import Tiles, VitCrossbars, blocks, layer_of, sram
from hdl.imc.activation import pack, split, unpack
from hdl.imc.event_counters import EVENTS
from hdl.imc.settings import Times
from hdl.imc.vit_program import Region, Step, VitProgram, vit_program
from verif.imc.macro_shell import actions, layer_phases, macro_tables, told, values
from verif.imc.system import DONE, OPERATE, START, STORE, ImcSystem, Result, Script
from verif.system import SystemFailure

Integers = NDArray[np.int64]
DEVICE = DEVICES["sram"]


@dataclass
class Compared:
    """What the comparison of one operation of one image found.

    numbers : that were compared; 0 of a tensor that was written, whose pulses and cells the macros compare
    mismatches : that differ; first : (token, channel, golden, RTL) of the first one
    counters : events, see `hdl.imc.event_counters.EVENTS`
    """

    name: str
    encoder: int
    numbers: int = 0
    mismatches: int = 0
    first: tuple[int, int, int, int] | None = None
    counters: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Ran:
    """What golden and the RTL made of images.

    logits : int64 [images, classes] of the RTL
    """

    traces: list[Trace]
    compared: list[list[Compared]]
    logits: Integers
    result: Result

    @property
    def mismatches(self) -> int:
        """Numbers that differ, of all operations of all images."""
        return sum(step.mismatches for image in self.compared for step in image)


def run_vit(p: ImcArch, network: Vit, pixels: Integers, static: Tiles, dynamic: Tiles, *, times: Times | None = None,
            optimise: str = "-O3", progress: Callable[[int, int], None] = lambda done, of: None) -> Ran:
    """Run images int64 [images, side, side] in golden and on the RTL, and compare them.

    p : of the core, the build of ``static``, with tokens
    """
    images, side = len(pixels), int(pixels.shape[1])
    crossbars = VitCrossbars(network, static, dynamic)
    program, placed = program_of(p, network, crossbars, side, times), _placed(network, crossbars)
    script, traces, reads = Script(), list[Trace](), list[list[dict[str, int]]]()
    memory: dict[int, Cells] = {}
    with tempfile.TemporaryDirectory(prefix="spikeloom-vit-") as name:
        folder = Path(name)
        script.macros(macro_tables(folder / "macros", {macro.tile: macro for entry in placed.values()
                                                       for row in entry.macros for macro in row}))
        script.writing(DEVICE.settings(dynamic.arch.cell_bits), p.cell_bits)
        for region, constant in program.constants:
            _send(script, region, np.asarray(constant), p.rows)
        for image in range(images):
            crossbars.first_image = image
            traces.append(run(network, pixels[image : image + 1], crossbars))
            script.values(values(folder / f"values_{image}", _phases(p, crossbars, traces[-1], image)))
            jobs = {op.name: actions(folder / f"{op.name}_{image}", _writes(crossbars, op, memory), p.cols)
                    for op in traces[-1].of("write")}
            script.image(image)
            reads.append(_play(script, p, program, pixels[image], jobs))
            script.progress(str(image + 1))
            progress(image + 1, 2 * images)
        result = ImcSystem(p, optimise=optimise).run(
            script, progress=lambda text: progress(images + int(text), 2 * images))
    if result.failure or result.violations:
        result.check(complete=False)
    compared, logits = _compare(p, program, traces, reads, result)
    if not any(step.mismatches for image in compared for step in image):
        result.check()
    return Ran(traces, compared, logits, result)


def hybrid(p: ImcArch) -> tuple[Tiles, Tiles]:
    """Return the crossbars that are programmed once and those that are written at run time, ideal, with lossless codes."""
    static, dynamic = (Tiles(arch=arch, setting=Setting(scheme=arch.scheme, adc=Adc(bits=arch.lossless_bits, lossless=True)))
                       for arch in (p, sram(p)))
    return static, dynamic


def program_of(p: ImcArch, network: Vit, crossbars: VitCrossbars, side: int, times: Times | None = None) -> VitProgram:
    """Return what the host writes for images of ``side`` by ``side`` pixels."""
    bits = (crossbars.static.setting.adc.bits, crossbars.dynamic.setting.adc.bits)
    return vit_program(p, crossbars.dynamic.arch, network, _placed(network, crossbars), side=side, times=times or Times(),
                       adc_bits=bits)


def _placed(network: Vit, crossbars: VitCrossbars) -> dict[str, Placed]:
    """Return where all matrices lie."""
    return {**crossbars.placed, **_dynamic(network, crossbars)}


def _dynamic(network: Vit, crossbars: VitCrossbars) -> dict[str, Placed]:
    """Return where K^T and V of each head lie, with nothing in them."""
    first = next(encoder.attention for encoder in network.encoders if encoder.attention is not None)
    tokens, dim = (int(n) for n in network.position.shape)
    width = dim // first.heads
    sizes = {"scores": ((tokens, width), True), "mixed": ((width, tokens), False)}
    return {f"{kind}.{head}": crossbars.written(
        layer_of(f"{kind}.{head}", np.zeros(size, np.int64), x_bits=8, x_signed=signed), f"{kind}.{head}")
        for kind, (size, signed) in sizes.items() for head in range(first.heads)}


def _send(script: Script, region: Region, numbers: Integers, rows: int) -> None:
    """Write a tensor [tokens, channels] to its place."""
    planes = split(numbers.T[:, :, None] & (1 << region.bits) - 1, region.bits)
    script.map(region.bank, region.base, pack(planes, rows).ravel())


def _phases(p: ImcArch, crossbars: VitCrossbars, trace: Trace, image: int) -> Iterator[tuple[int, Macro, Any, Any]]:
    """Yield what `verif.imc.macro_shell.values` takes, of all crossbar operations of an image."""
    for op in trace.of("crossbar"):
        entry = _entry(crossbars, op, image)
        yield from layer_phases(p, entry, blocks(entry.mapped, np.asarray(op.operands["x"][0])),
                                0 if op.name in crossbars.placed else op.encoder, skip=False)


def _entry(crossbars: VitCrossbars, op: Operation, image: int) -> Placed:
    """Return the crossbars of an operation as they are then."""
    if op.name in crossbars.placed:
        return crossbars.placed[op.name]
    layer = layer_of(op.name, op.operands["weight"][0], x_bits=op.operands["x_bits"], x_signed=op.operands["x_signed"])
    return crossbars.written(layer, op.name, image * len(crossbars.network.encoders) + op.encoder - 1)


def _writes(crossbars: VitCrossbars, op: Operation, memory: dict[int, Cells]) -> Iterator[tuple[int, Any]]:
    """Yield what `verif.imc.macro_shell.actions` takes, of a write; cells keep what they have in ``memory``."""
    settings = DEVICE.settings(crossbars.dynamic.arch.cell_bits)
    kind, head = op.name.split(".")[-2:]
    weight = np.asarray(op.operands["weight"][0])
    name = f"{'scores' if kind == 'k' else 'mixed'}.{head}"
    entry = crossbars.written(layer_of(name, weight, x_bits=8, x_signed=True), name)
    p = crossbars.dynamic.arch
    for r, row in enumerate(entry.macros):
        for c, macro in enumerate(row):
            if macro.tile not in memory:
                empty = build(p, macro.adc, np.zeros((p.rows, p.cols), np.int64), tile=macro.tile)
                memory[macro.tile] = Cells(empty, DEVICE.response)
            for job in crossbar_jobs(p, entry.mapped, r, c):
                trace, outcome = told(memory[macro.tile], settings, job)
                assert outcome.error == WriteError.NONE
                yield macro.tile, trace


def _play(script: Script, p: ImcArch, program: VitProgram, pixels: Integers, jobs: Mapping[str, Path]) -> list[dict[str, int]]:
    """Write the commands of an image; return, for each step, where its answers are.

    jobs : what the writes do, by their name
    """
    _send(script, program.pixels, pixels.reshape(-1, 1), p.rows)
    answers = []
    for step in program.steps:
        if step.layer is not None:
            script.context(step.layer.fields["bits"], p.rows // p.group_rows)
            script.load(step.layer)
        for prefix, fields in (("WORK", step.work), ("LOAD", step.load)):
            for name, value in (fields or {}).items():
                script.write(f"{prefix}_{name.upper()}", value)
        if step.load is not None:
            script.actions(jobs[step.name])
        for what, numbers in step.numbers.items():
            script.numbers(what, numbers)
        status, error, waited = script.start(START if step.layer else OPERATE if step.work else STORE)
        packets = 0
        if step.out is not None:
            packets = 1
            script.fetch(step.out.bank, step.out.base, (step.out.bits - 1) * step.out.plane + step.out.tokens * step.out.row)
        elif step.layer is not None:
            packets = step.layer.shape[0] * step.layer.shape[1]
            script.receive(packets)
        answers.append({"status": status, "error": error, "waited": waited, "packets": packets,
                        **{name: script.read(name.upper()) for name in EVENTS}})
    return answers


def _compare(p: ImcArch, program: VitProgram, traces: list[Trace], reads: list[list[dict[str, int]]],
             result: Result) -> tuple[list[list[Compared]], Integers]:
    """Compare every result; return (per image and step, logits of the RTL)."""
    packets, compared, logits = iter(result.packets), list[list[Compared]](), []
    for trace, image in zip(traces, reads, strict=True):
        golden: Mapping[str, Operation] = {op.name: op for op in trace.operations}
        compared.append([])
        for step, places in zip(program.steps, image, strict=True):
            if result.reads[places["status"]] != DONE:
                raise SystemFailure(f"{step.name}: the core stopped with error {result.reads[places['error']]}")
            found = Compared(step.name, step.encoder, counters={name: result.reads[places[name]] for name in EVENTS})
            got = [next(packets) for _ in range(places["packets"])]
            if got:
                numbers = _numbers(p, step, got)
                wanted = golden[step.name].result
                wanted = np.asarray(wanted.e if hasattr(wanted, "e") else wanted)[0]
                _differ(found, wanted if step.out else wanted + np.asarray(golden["readout"].operands["bias"]), numbers)
                if step.out is None:
                    logits.append(numbers.sum(axis=0))
            compared[-1].append(found)
    return compared, np.stack(logits)


def _numbers(p: ImcArch, step: Step, packets: list[NDArray[np.uint32]]) -> Integers:
    """Return what the core gave, [tokens, channels]."""
    out = step.out
    if out is None:
        assert step.layer is not None
        channels, tokens, _ = step.layer.shape
        pairs = np.stack(packets).reshape(tokens, channels, 2).astype(np.int64)
        order = np.argsort(pairs[:, :, 0], axis=1)
        found: Integers = np.take_along_axis(pairs[:, :, 1], order, axis=1).astype(np.uint32).view(np.int32).astype(np.int64)
        return found
    words = np.asarray(packets[0], np.uint32).reshape(-1, -(-p.rows // 32))
    planes = np.concatenate([unpack(words[n * out.plane :][: out.tokens * out.row], 1, out.channels, out.tokens, 1, p.rows)
                             for n in range(out.bits)])[:, :, :, 0]
    number: Integers = (planes << np.arange(out.bits)[:, None, None]).sum(axis=0).T
    return number - (number >> out.bits - 1 << out.bits) if out.signed else number


def _differ(found: Compared, wanted: Integers, got: Integers) -> None:
    """Note how many numbers differ, and the first one."""
    wrong = np.argwhere(wanted != got)
    found.numbers, found.mismatches = wanted.size, len(wrong)
    if len(wrong):
        token, channel = (int(n) for n in wrong[0])
        found.first = token, channel, int(wanted[token, channel]), int(got[token, channel])
