"""``spikeloom compile --top imc``: the files agree with golden, and the C driver gets the expected result from the RTL."""

import ctypes
import hashlib
import json
import re
import shutil
import struct
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from golden.capture import capture
from golden.imc.arch import IMC_PRESETS, Error
from golden.imc.devices import DEVICES, Cells
from golden.imc.early_exit import early_exit, sums_by_step
from golden.imc.macro import rewritten
from golden.imc.run import place
from golden.imc.run import run as tile_run
from golden.imc.writable_tile import row_jobs
from golden.lower import quantise_input
from golden.network import map_arrays
from golden.run import logits, predict, run
from hdl.generate import LICENCE
from hdl.imc.program_files import DRIVER
from hdl.imc.register_map import ERRORS, OFFSETS
from models.spiking import LIFNode
from spikeloom.imc_program import compile_imc
from verif.c_library import LANGUAGES, c_blocks, compiled, encoded
from verif.c_library import library as linked
from verif.imc.calibration import calibrate, tables
from verif.imc.lowering import lowering_arch
from verif.imc.macro_shell import actions, macro_tables, told, values
from verif.imc.setting import calibrated_setting
from verif.imc.simulate import image_phases
from verif.imc.system import ImcSystem, Script
from verif.inject import operands
from verif.workload import Workload, load_workload

HERE = Path(__file__).parent
GUIDE = HERE.parents[1] / "docs" / "imc.md"
P = IMC_PRESETS["spikesim"]
IMAGES = 2
FILES = {"program.bin", "inputs.bin", "expected.bin", "jobs.bin", "cells.safetensors", "program.json",
         "spikeloom_imc_program.h", *DRIVER}
BINARY = {"program.bin", "inputs.bin", "expected.bin", "jobs.bin", "cells.safetensors", "program.json"}
# Rows of cells that the driver writes in a test: of the first crossbar, and some of the second one.
ROWS = 80


@pytest.fixture(scope="module")
def workload() -> Workload:
    """Return the digits network."""
    return load_workload("digits", lowering_arch(P))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the compiled digits network."""
    out = tmp_path_factory.mktemp("compiled") / "digits"
    compile_imc("digits", "spikesim", out, images=IMAGES)
    return out


def library(folder: Path, work: Path, language: str = "c") -> Path:
    """Compile the driver of ``folder``, the guide's example and what runs them, into a library in ``work``."""
    example = work / "example.c"
    example.write_text(c_blocks(GUIDE)[0])
    return linked([folder / DRIVER[1], example, HERE / "driver_run.c"], folder, work, language)


class Chip:
    """A simulated core with the macros of a network, which a C driver drives.

    expected : what expected.bin holds of the images that ran, without early exit
    """

    def __init__(self, workload: Workload, work: Path, macro: str | None = None) -> None:
        self.workload, self.work, self.script, self.expected = workload, work, Script(), b""
        plain, ways = calibrated_setting(P, macro)
        self.placed = place(workload.network, P, plain)
        self.setting, calibrations = calibrate(P, plain, ways, 0)
        macros = {one.tile: one for entry in self.placed for row in entry.macros for one in row}
        self.script.macros(macro_tables(work / "macros", tables(P, calibrations) | macros))

    def carry(self, shared: Path, *words: object) -> None:
        """Call the driver."""
        self.script.carry(shared, P.rows // P.group_rows, *words)

    def images(self, shared: Path, folder: Path, *mode: object, which: Sequence[int] = range(IMAGES)) -> None:
        """Let the driver classify images, one call each."""
        network = map_arrays(self.workload.network, torch.asarray)
        placed = place(network, P, self.setting)
        for index in which:
            words = {name: torch.from_numpy(word) for name, word in self.workload.words(index).items()}
            found = tile_run(network, P, self.setting, words, image=index, placed=placed)
            sums = logits(found).tolist()
            self.expected += struct.pack(f"<{len(sums) + 2}i", *sums, predict(found), self.workload.network.steps)
            tensors = {name: np.asarray(word) for name, word in operands(found).items()}
            phases = image_phases(P, self.placed, tensors, self.workload.network.steps, self.setting.skip)
            self.script.image(index)
            self.script.values(values(self.work / f"values_{index}", chain(*phases)))
            self.carry(shared, "images", folder, index, 1, self.work / "results.bin", *mode)

    def run(self) -> tuple[list[int], bytes]:
        """Return what the calls gave, as signed numbers, and the results of images."""
        result = ImcSystem(P, monitor=True).run(self.script).check(complete=False)
        results = self.work / "results.bin"
        return [code - (code >> 31 << 32) for code in result.reads], results.read_bytes() if results.exists() else b""


def test_files(folder: Path) -> None:
    """Every file is there, is named with its SHA-256, and says licence, version and configuration."""
    description = json.loads((folder / "program.json").read_text())
    assert {path.name for path in folder.iterdir()} == FILES
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in FILES - {"program.json"}} == description["files"]
    assert (description["license"], description["config_hash"], description["scheme"]) == (LICENCE, P.hash, P.scheme)
    for name in FILES - BINARY:
        first, second = (folder / name).read_text().splitlines()[:2]
        assert f"SPDX-License-Identifier: {LICENCE}" in first and f"configuration {P.hash} (spikesim)" in second


def test_repeatable(folder: Path, tmp_path: Path) -> None:
    """A second run into a folder of ours writes the same bytes, whatever was there."""
    compile_imc("digits", "spikesim", tmp_path / "again", images=1, macro="scheme=diff")
    assert (tmp_path / "again" / "jobs.bin").read_bytes() != (folder / "jobs.bin").read_bytes()
    compile_imc("digits", "spikesim", tmp_path / "again", images=IMAGES)
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == {
        name: (folder / name).read_bytes() for name in FILES}


def test_contents(folder: Path, workload: Workload) -> None:
    """Registers, cells, jobs and expected results are those of the build and of golden."""
    description = json.loads((folder / "program.json").read_text())
    assert all({*layer["registers"]} <= {*OFFSETS} and len(layer["registers"]) > 60 for layer in description["layers"])
    assert all(layer["registers"]["EXIT_STEPS"] == 0 for layer in description["layers"])
    cells = load_file(folder / "cells.safetensors")
    assert len(cells) == 1 + 6 + 8 and all(cell.shape == (64, 64) and cell.max() <= 1 for cell in cells.values())
    jobs = np.fromfile(folder / "jobs.bin", "<u4").reshape(-1, 2 + 2 + 2)
    assert len(jobs) == description["jobs"]["packets"] == 15 * 64
    assert {*jobs[:, 0].tolist()} == {6, 6 | 1 << 4}
    record = struct.Struct("<12i")
    expected = [*record.iter_unpack((folder / "expected.bin").read_bytes())]
    assert record.size == description["expected"]["record_bytes"] and len(expected) == IMAGES
    for index, found in enumerate(expected):
        trace = run(workload.network, workload.words(index))
        assert found == (*logits(trace).tolist(), predict(trace), 4)


def test_program_words(folder: Path) -> None:
    """The program of the driver is what the description says of every layer: registers, biases, second parameters."""
    words = np.fromfile(folder / "program.bin", "<u4").tolist()
    for layer in json.loads((folder / "program.json").read_text())["layers"]:
        flags, count, *packets = words[:4]
        assert flags == layer["fields"]["once"] + 2 * layer["fields"]["readout"]
        pairs, words = words[4:4 + 2 * count], words[4 + 2 * count:]
        assert dict(zip(pairs[::2], pairs[1::2], strict=True)) == {
            OFFSETS[name]: value for name, value in layer["registers"].items()}
        for target, name, size in zip((2, 3), ("biases", "seconds"), packets, strict=True):
            assert words[:size] == [target, *layer[name]]
            words = words[size:]
    assert words == []


def test_early_exit_files(tmp_path: Path, workload: Workload) -> None:
    """Layers are those of the first step, and what is expected is golden's at the step that stops."""
    description = compile_imc("digits", "spikesim", tmp_path / "out", images=IMAGES, exit_margin=15)
    registers = [layer["registers"] for layer in description["layers"]]
    chosen = {"EXIT_STEPS": 4, "EXIT_THRESHOLD": 15, "LAYER_FRESH": 1, "LAYER_FIRST_STEP": 0}
    assert all(chosen.items() <= r.items() for r in registers)
    assert [r["LAYER_STEPS"] for r in registers] == [4, 1, 1] and description["exit_margin"] == 15
    for index, found in enumerate(struct.iter_unpack("<12i", (tmp_path / "out" / "expected.bin").read_bytes())):
        sums = sums_by_step(run(workload.network, workload.words(index)))
        exits = early_exit(sums, 15)
        assert found == (*sums[int(exits.steps) - 1].tolist(), int(exits.label), int(exits.steps))


@pytest.mark.parametrize(("language", "words"), [("c", ()), ("c++", ("sleep",))], ids=("c", "c++ that sleeps"))
def test_driver(folder: Path, tmp_path: Path, workload: Workload, language: str, words: tuple[str, ...]) -> None:
    """The C driver writes rows of cells, and reads from the RTL, image after image, what expected.bin holds."""
    chip, shared = Chip(workload, tmp_path), library(folder, tmp_path, language)
    jobs = [(one, job) for entry in chip.placed for r, row in enumerate(entry.macros) for c, one in enumerate(row)
            for job in row_jobs(entry.mapped.cells(P, r, c))][:ROWS]
    settings, blank = DEVICES["sram"].settings(P.cell_bits), np.zeros((P.rows, P.cols), np.int64)
    cells = {one.tile: Cells(rewritten(one, blank), DEVICES["sram"].response) for one, _ in jobs}
    chip.script.actions(actions(tmp_path / "actions", [
        (one.tile, told(cells[one.tile], settings, job)[0]) for one, job in jobs], P.cols))
    chip.carry(shared, "cells", folder, "sram", ROWS, *words)
    chip.images(shared, folder, *words)
    codes, results = chip.run()
    assert codes == [0] * (1 + IMAGES)
    assert results == (folder / "expected.bin").read_bytes()


def test_driver_with_early_exit(tmp_path: Path, workload: Workload) -> None:
    """The driver stops an image where the core says so."""
    compile_imc("digits", "spikesim", tmp_path / "out", images=IMAGES, exit_margin=15)
    chip, shared = Chip(workload, tmp_path), library(tmp_path / "out", tmp_path)
    chip.images(shared, tmp_path / "out")
    codes, results = chip.run()
    assert codes == [0] * IMAGES
    assert results == (tmp_path / "out" / "expected.bin").read_bytes() != chip.expected
    assert {steps for *_, steps in struct.iter_unpack("<12i", results)} == {2, 4}


def test_calibration(folder: Path, tmp_path: Path, workload: Workload) -> None:
    """The driver lets the core measure offsets: images then are golden's with those, not those of ideal macros."""
    chip, shared = Chip(workload, tmp_path, "offset=2,seed=3,calibrate=offsets"), library(folder, tmp_path)
    chip.carry(shared, "calibrate", folder, "offsets")
    chip.images(shared, folder)
    codes, results = chip.run()
    assert codes == [0] * (1 + IMAGES)
    assert results == chip.expected != (folder / "expected.bin").read_bytes()


def test_lossy(tmp_path: Path, workload: Workload) -> None:
    """With a converter and effects that change sums, expected.bin is what such a core gives, and not what others expect."""
    macro = "flash=1,bits=4,offset=1,comparator_noise=0.5,seed=3"
    compile_imc("digits", "spikesim", tmp_path / "out", images=IMAGES, macro=macro)
    chip = Chip(workload, tmp_path, macro)
    chip.images(library(tmp_path / "out", tmp_path), tmp_path / "out")
    codes, results = chip.run()
    assert codes == [0] * IMAGES and results == (tmp_path / "out" / "expected.bin").read_bytes()
    assert results[:40] != np.asarray(logits(run(workload.network, workload.words(0))), "<i4").tobytes()


def test_own_network(tmp_path: Path) -> None:
    """A captured file with frames of spikes and a read-out of several pixels, on blocks that the driver makes."""
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Conv2d(9, 5, 3, padding=1), LIFNode(), nn.Conv2d(5, 4, (3, 3)))
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_((torch.rand(weight.shape, generator=generator) - 0.3) / 3)
    capture(model.eval(), torch.zeros(1, 9, 5, 4), tmp_path / "own.safetensors")
    x = torch.randint(0, 2, (IMAGES, 3, 9, 5, 4), generator=generator) * 1.0
    np.savez(tmp_path / "x.npz", x=x.numpy())
    out, source = tmp_path / "out", str(tmp_path / "own.safetensors")
    compile_imc(source, "spikesim", out, images=IMAGES, data=tmp_path / "x.npz")
    own = load_workload(source, lowering_arch(P), data=tmp_path / "x.npz")
    shared, inputs = library(out, tmp_path), (out / "inputs.bin").read_bytes()
    blocks = [encoded(shared, quantise_input(image, own.network.input), len(inputs) // IMAGES) for image in own.x[:IMAGES]]
    assert b"".join(blocks) == inputs
    chip = Chip(own, tmp_path)
    chip.images(shared, out)
    codes, results = chip.run()
    assert codes == [0] * IMAGES and results == (out / "expected.bin").read_bytes()
    assert len({*struct.unpack(f"<{4 * 3 * 2}i", results[:4 * 4 * 3 * 2])}) > 12


def test_encode(folder: Path, tmp_path: Path, workload: Workload) -> None:
    """The driver makes the input blocks of inputs.bin from quantised images; one wrong value is seen."""
    shared, inputs = library(folder, tmp_path), (folder / "inputs.bin").read_bytes()
    size = len(inputs) // IMAGES
    for index in range(IMAGES):
        pixels = quantise_input(workload.x[index], workload.network.input)
        assert encoded(shared, pixels, size) == inputs[index * size:(index + 1) * size]
        pixels[0, 3, 4] += 1
        assert encoded(shared, pixels, size) != inputs[index * size:(index + 1) * size]


def register_changed(folder: Path, work: Path, name: str, value: int) -> Path:
    """Return a copy of ``folder`` in whose program the first layer writes another value to a register."""
    copy = Path(shutil.copytree(folder, work / "changed"))
    words = np.fromfile(copy / "program.bin", "<u4")
    at = 4 + 2 * words[4:4 + 2 * int(words[1]):2].tolist().index(OFFSETS[name])
    words[at + 1] = value
    words.tofile(copy / "program.bin")
    return copy


def test_errors(folder: Path, tmp_path: Path, workload: Workload) -> None:
    """A setting beyond the build and a core without patience end in their codes, and the next image is right again."""
    chip, shared = Chip(workload, tmp_path), library(folder, tmp_path)
    wrong = register_changed(folder, tmp_path, "LAYER_KERNEL_HEIGHT", 0)
    chip.carry(shared, "images", wrong, 0, 1, tmp_path / "wrong.bin")
    chip.carry(shared, "cells", folder, "none", 1)
    chip.carry(shared, "nothing")
    chip.images(shared, folder)
    codes, results = chip.run()
    assert codes == [int(Error.SETTINGS), 100, 100, 0, 0]
    assert results == (folder / "expected.bin").read_bytes()


@pytest.mark.parametrize(("name", "code", "text"), [
    ("SPIKELOOM_IMC_NETWORK_CONFIG_HASH", -5, "the network was compiled for other parameters than the core's"),
    ("SPIKELOOM_IMC_MAGIC_RESET", -1, "no core of tiles answers at the registers")])
def test_other_hardware_is_refused(folder: Path, tmp_path: Path, workload: Workload, name: str, code: int, text: str) -> None:
    """The driver starts nothing on hardware that it is not for."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    header = (copy / "spikeloom_imc_program.h").read_text()
    changed = re.sub(rf"^(#define {name}) .*", r"\1 0x12345678u", header, flags=re.M)
    assert changed != header
    (copy / "spikeloom_imc_program.h").write_text(changed)
    shared = library(copy, tmp_path)
    texts = ctypes.CDLL(str(shared)).spikeloom_imc_text
    texts.restype = ctypes.c_char_p
    assert texts(code).decode() == text and [texts(error).decode() for error in Error] == [*ERRORS.values()]
    chip = Chip(workload, tmp_path)
    chip.carry(shared, "images", folder, 0, 1, tmp_path / "results.bin")
    chip.carry(shared, "calibrate", folder, "trims")
    assert chip.run()[0] == [code, code]


@pytest.mark.parametrize(("old", "new"), [
    ("best = index", "best = 0"), ("if (step && layer.flags & ONCE) continue;", ""), ("if (step) {", "if (step > 1) {"),
    ("stop = read_register", "stop = 0 * read_register"),
    ("send(device, layer->second,", "send(device, layer->bias,"), ("device->wait ? SPIKELOOM", "!device->wait ? SPIKELOOM")],
    ids=("class", "first step twice", "step 1", "stop", "thresholds", "interrupt"))
def test_broken_driver_is_seen(tmp_path: Path, workload: Workload, old: str, new: str) -> None:
    """Breaking the driver breaks the comparison."""
    out = tmp_path / "out"
    compile_imc("digits", "spikesim", out, images=IMAGES, exit_margin=15)
    text = (out / DRIVER[1]).read_text()
    assert text.count(old) == 1
    (out / DRIVER[1]).write_text(text.replace(old, new))
    chip = Chip(workload, tmp_path)
    chip.images(library(out, tmp_path), out, "sleep", which=(1,))
    done, results = ImcSystem(P, monitor=True).run(chip.script), tmp_path / "results.bin"
    assert done.failure or any(done.reads) or done.macro.errors or (
        results.read_bytes() != (out / "expected.bin").read_bytes()[-48:])


def test_guide(folder: Path, tmp_path: Path) -> None:
    """Every C block of the guide compiles."""
    blocks = c_blocks(GUIDE)
    assert len(blocks) == 2
    for block in blocks:
        (tmp_path / "block.c").write_text(block)
        for language in LANGUAGES:
            compiled(tmp_path / "block.c", folder, tmp_path, language)
