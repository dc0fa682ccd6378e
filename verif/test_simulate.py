"""``spikeloom simulate``: digits and captured files are exact on the RTL, and the comparison can fail."""

import dataclasses
import json
import shlex
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import verif.simulate
from golden.arch import PRESETS
from golden.run import Trace
from golden.run import run as golden_run
from hdl.image import Image
from models.workloads import find
from spikeloom.cli import run as command_line
from verif.compare import LayerResult, compare
from verif.simulate import Memory, repeat, run_images, simulate
from verif.system import Result, Run, System
from verif.workload import Images, Workload, load_workload

ARCH = PRESETS["tiny"]
IMAGES = {"tiny": 4, "loas": 2}
KEYS = {"workload", "preset", "top", "T", "images", "layers", "neuron_steps", "mismatches", "first_mismatch",
        "accuracy_rtl", "accuracy_golden", "accuracy_float", "weight_sparsity", "cycles_per_image", "matches",
        "lane_utilisation", "simulated_cycles_per_second", "decision_ticks"}
FIRST_KEYS = {"image", "layer", "in", "channel", "y", "x", "t", "golden", "rtl", "cycle", "command"}
LAYER_KEYS = {"name", "neuron_steps", "mismatches", "spikes_changed", "cycles", "matches", "non_silent"}
NEURONS = {"lif1": 16 * 8 * 8, "lif2": 32 * 8 * 8, "fc": 0}


@cache
def digits() -> Workload:
    """Return the shipped workload."""
    return load_workload("digits", ARCH)


@cache
def one_image() -> tuple[Image, Run, Trace]:
    """Return image, run and golden trace of the first digit."""
    done = run_images(digits(), System(ARCH), 1)
    assert done.golden == done.rtl
    assert not any(layer.mismatches for layer in done.compared[0])
    return done.image, done.result.runs[0], golden_run(digits().network, digits().words(0))


def compared(run: Run) -> dict[str, LayerResult]:
    """Return what the comparison finds in a run, by layer."""
    image, _, trace = one_image()
    return {layer.name: layer for layer in compare(digits().network, image, trace, run, ARCH.lanes)}


def with_words(run: Run, **columns: Any) -> Run:
    """Return the run with other records of the neuron monitor."""
    assert run.words is not None
    return dataclasses.replace(run, words=dataclasses.replace(run.words, **columns))


def row_of(run: Run, layer: int, channel: int, pixel: int, member: int) -> tuple[int, int]:
    """Return (row, lane) of the only record of one neuron; ``pixel`` counts pixels after pooling."""
    words = run.words
    assert words is not None
    tile, lane = divmod(pixel, ARCH.lanes)
    rows = np.nonzero((words.layer == layer) & (words.tile == tile) & (words.member == member)
                      & (words.column == channel) & words.lanes[:, lane])[0]
    assert len(rows) == 1
    return int(rows[0]), lane


@pytest.mark.parametrize("preset", IMAGES)
def test_digits(preset: str) -> None:
    """Every neuron of every layer at every step is compared and equal; the report is complete."""
    images = IMAGES[preset]
    report = simulate("digits", preset, images)
    assert report.keys() >= KEYS
    assert all(layer.keys() == LAYER_KEYS for layer in report["layers"])
    assert {layer["name"]: layer["neuron_steps"] for layer in report["layers"]} == {
        name: neurons * 4 * images for name, neurons in NEURONS.items()}
    assert [layer["mismatches"] for layer in report["layers"]] == [0, 0, 0]
    assert (report["mismatches"], report["first_mismatch"]) == (0, None)
    assert report["neuron_steps"] == sum(NEURONS.values()) * 4 * images
    assert report["accuracy_rtl"] == report["accuracy_golden"]
    assert sum(layer["cycles"] for layer in report["layers"]) == report["cycles_per_image"]
    assert all(layer["cycles"] > 0 for layer in report["layers"])
    assert sum(layer["matches"] for layer in report["layers"]) == report["matches"]
    assert [layer["non_silent"] is None for layer in report["layers"]] == [False, False, True]
    assert (report["workload"], report["preset"], report["top"], report["T"], report["images"]) == (
        "digits", preset, "ftp", 4, images)
    assert report["weight_sparsity"] >= 0.9
    cycles = report["counters"]["cycles"]
    assert (cycles / images, report["matches"] / (PRESETS[preset].lanes * cycles)) == (
        report["cycles_per_image"], report["lane_utilisation"])
    assert 0 < report["lane_utilisation"] <= 1


def test_golden_runs_once_and_progress_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image is run once in golden; progress grows through golden's images and the simulator's to the total."""
    runs: list[Trace] = []

    def count(*arguments: Any) -> Trace:
        runs.append(golden_run(*arguments))
        return runs[-1]

    monkeypatch.setattr(verif.simulate, "run", count)
    seen: list[tuple[int, int]] = []
    images = 60
    assert simulate("digits", "tiny", images, progress=lambda done, of: seen.append((done, of)))["mismatches"] == 0
    assert len(runs) == images
    done = [number for number, _ in seen]
    assert {of for _, of in seen} == {2 * images} and done == sorted(done)
    assert done[: images + 1] == [*range(images + 1)] and done[-1] == 2 * images
    assert any(images < number < 2 * images for number in done)


def test_repeat_is_a_shell_line() -> None:
    """Every option that matters is in the command that repeats a run, quoted for a shell."""
    line = repeat("my net.safetensors", "it's.toml", 3, steps=2, data=Path("a b.npz"), inject="weight-bit", leak_nearest=True,
                  memory="16:9")
    assert shlex.split(line) == ["spikeloom", "simulate", "my net.safetensors", "--preset", "it's.toml", "--images", "3", "--T",
                                 "2", "--data", "a b.npz", "--inject", "weight-bit", "--memory", "16:9", "--leak", "nearest"]
    assert repeat("digits", "tiny", 1, steps=None, data=None, inject=None, leak_nearest=False) == (
        "spikeloom simulate digits --preset tiny --images 1")


def attempt(words: list[str], folder: Path) -> dict[str, Any]:
    """Run a command line that must find mismatches, and return its report."""
    assert command_line([*words, "--quiet", "--json", str(folder / "report.json")]) == 1
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    assert report["mismatches"] > 0
    assert report["first_mismatch"].keys() == FIRST_KEYS
    return report


def test_injected_weight_bit(tmp_path: Path) -> None:
    """A flipped weight bit ends in mismatches and exit code 1, and the printed command repeats it."""
    report = attempt(["simulate", "digits", "--images", "2", "--inject", "weight-bit"], tmp_path)
    first = report["first_mismatch"]
    assert report["layers"][0]["mismatches"] > 0
    assert (first["layer"], first["in"], first["channel"], first["golden"] ^ first["rtl"]) == ("lif1", "spike", 0, 1)
    again = attempt(shlex.split(first["command"])[1:], tmp_path)["first_mismatch"]
    assert {**again, "command": ""} == {**first, "command": ""}


def static_images(x: Images, path: Path) -> int:
    """Write images that are shown at every step; return the expected T."""
    np.savez(path, x=x, y=np.arange(len(x)))
    return 4


def binary_frames(x: Images, path: Path) -> int:
    """Write binary frames step by step, without labels; return the expected T."""
    levels = np.array([0.2, 0.4, 0.6])
    np.savez(path, x=(x[:, None] > levels[:, None, None, None]).astype(np.uint8))
    return 3


def grey_frames(x: Images, path: Path) -> int:
    """Write frames of several levels step by step; return the expected T."""
    np.savez(path, x=np.stack([x, x[..., ::-1]], 1))
    return 2


@pytest.mark.parametrize("write", [static_images, binary_frames, grey_frames])
def test_captured_file(write: Callable[[Images, Path], int], tmp_path: Path) -> None:
    """A captured file with its data goes through the same door, ``[N,C,H,W]`` and ``[N,T,C,H,W]``."""
    shutil.copy(find("digits").checkpoint, tmp_path / "net.safetensors")
    steps = write(digits().x[:2], tmp_path / "x.npz")
    code = command_line(["simulate", str(tmp_path / "net.safetensors"), "--data", str(tmp_path / "x.npz"), "--quiet",
                         "--json", str(tmp_path / "report.json")])
    report = json.loads((tmp_path / "report.json").read_text())
    assert (code, report["mismatches"], report["first_mismatch"]) == (0, 0, None)
    assert report.keys() >= KEYS
    assert (report["workload"], report["T"], report["images"]) == ("net", steps, 2)
    assert {layer["name"]: layer["neuron_steps"] for layer in report["layers"]} == {
        name: neurons * steps * 2 for name, neurons in NEURONS.items()}
    assert (report["accuracy_rtl"] is not None) == (write is static_images)
    assert report["accuracy_rtl"] == report["accuracy_golden"]


def test_memory_of_the_command(tmp_path: Path) -> None:
    """The command's memory is the simulated one; an unknown one is refused."""
    cycles = []
    for words in ([], ["--memory", "ideal"], ["--memory", "4:20"]):
        code = command_line(["simulate", "digits", "--images", "1", "--quiet", "--json", str(tmp_path / "r.json"), *words])
        report = json.loads((tmp_path / "r.json").read_text())
        assert (code, report["mismatches"]) == (0, 0)
        cycles.append(report["cycles_per_image"])
    assert cycles[1] < min(cycles[0], cycles[2]) and cycles[0] != cycles[2]
    assert command_line(["simulate", "digits", "--images", "1", "--memory", "0"]) == 2


@pytest.mark.parametrize("memory", [
    {"latency": 1}, {"bandwidth": 8, "latency": 10}, {"bandwidth": 1}, {"stall_seed": 12}, {"stall_seed": 13},
    {"latency": 300, "stall_seed": 6}], ids=str)
def test_memory_does_not_matter(memory: dict[str, Any]) -> None:
    """Latency, bandwidth and random stalls of the memory change cycles and nothing else."""
    image, plain, _ = one_image()
    done = run_images(digits(), System(ARCH), 1, memory=Memory(**memory))
    (run,) = done.result.runs
    assert [layer.mismatches for layer in done.compared[0]] == [0, 0, 0]
    for tensor in image.tensors.values():
        masks = slice(tensor.masks, tensor.masks + tensor.pixels * tensor.mask_stride)
        assert run.dump[masks] == plain.dump[masks]
    for region in image.currents.values():
        assert run.dump[region.base : region.base + region.size] == plain.dump[region.base : region.base + region.size]
    assert run.words is not None
    assert plain.words is not None
    for name in ("layer", "tile", "member", "column", "lanes", "data"):
        assert np.array_equal(getattr(run.words, name), getattr(plain.words, name)), name
    assert run.counters["cycles"] != plain.counters["cycles"]
    assert run.counters["matches"] == plain.counters["matches"]


@pytest.mark.parametrize(("layer", "channel", "y", "x", "t"), [
    ("lif1", 5, 6, 3, 2), ("lif1", 0, 0, 0, 0), ("lif2", 31, 7, 7, 3), ("lif2", 4, 5, 2, 1)])
def test_one_flipped_spike(layer: str, channel: int, y: int, x: int, t: int) -> None:
    """One flipped bit of one recorded word is one mismatch, reported at its place."""
    _, run, trace = one_image()
    assert run.words is not None
    pixel, member = (y * 8 + x, 0) if layer == "lif1" else (y // 2 * 4 + x // 2, y % 2 * 2 + x % 2)
    row, lane = row_of(run, int(layer == "lif2"), channel, pixel, member)
    data = run.words.data.copy()
    data[row, lane] ^= 1 << t
    found = compared(with_words(run, data=data))
    words = trace.layers[layer].words
    assert words is not None
    golden = int(words[channel, y, x]) >> t & 1
    assert {name: result.mismatches for name, result in found.items()} == {
        name: int(name == layer) for name in NEURONS}
    assert found[layer].first == {"layer": layer, "in": "spike", "channel": channel, "y": y, "x": x, "t": t, "golden": golden,
                                  "rtl": 1 - golden, "cycle": int(run.words.cycle[row])}


def test_first_mismatch_is_the_earliest() -> None:
    """Of several differences the one that left its neuron first is reported; all are counted."""
    _, run, _ = one_image()
    assert run.words is not None
    data = run.words.data.copy()
    places = [row_of(run, 0, 15, 63, 0), row_of(run, 0, 3, 8, 0), row_of(run, 0, 1, 40, 0)]
    for row, lane in places:
        data[row, lane] ^= 0b1111
    found = compared(with_words(run, data=data))["lif1"]
    assert found.mismatches == 12
    assert found.first is not None
    assert found.first["cycle"] == min(int(run.words.cycle[row]) for row, _ in places)
    assert (found.first["channel"], found.first["y"], found.first["x"], found.first["t"]) == (3, 1, 0, 0)


@pytest.mark.parametrize("number", [0, 1])
def test_a_missing_record_is_a_failure(number: int) -> None:
    """A neuron that was not recorded is not taken for equal."""
    _, run, _ = one_image()
    assert run.words is not None
    row = int(np.nonzero(run.words.layer == number)[0][37])
    names = [field.name for field in dataclasses.fields(run.words)]
    shorter = with_words(run, **{name: np.delete(getattr(run.words, name), row, 0) for name in names})
    with pytest.raises(AssertionError, match=f"layer lif{number + 1}: neuron words are missing in the record"):
        compared(shorter)


@pytest.mark.parametrize("layer", ["lif1", "lif2"])
def test_one_flipped_bit_of_a_fiber(layer: str) -> None:
    """One flipped bit among the stored words of a layer is found in the fiber of its pixel."""
    image, run, trace = one_image()
    tensor, output = image.tensors[layer], trace.layers[layer].output
    assert output is not None
    y, x = (int(v) for v in np.argwhere((output != 0).any(0))[-1])
    channel = int(np.argwhere(output[:, y, x])[0, 0])
    memory = bytearray(run.dump)
    memory[tensor.values + (y * tensor.width + x) * tensor.slot_stride] ^= 1
    found = compared(dataclasses.replace(run, dump=bytes(memory)))
    golden = int(output[channel, y, x])
    assert found[layer].mismatches == 1
    assert found[layer].first == {"layer": layer, "in": "fiber", "channel": channel, "y": y, "x": x, "t": 0,
                                  "golden": golden & 1, "rtl": 1 - (golden & 1), "cycle": None}


def test_one_flipped_mask_bit() -> None:
    """One flipped mask bit is found at its channel, or at the words that it moves."""
    image, run, trace = one_image()
    tensor, output = image.tensors["lif2"], trace.layers["lif2"].output
    assert output is not None
    memory = bytearray(run.dump)
    memory[tensor.masks] ^= 0x80
    found = compared(dataclasses.replace(run, dump=bytes(memory)))["lif2"]
    assert found.mismatches > 0
    assert found.first is not None
    assert found.first.keys() == FIRST_KEYS - {"image", "command"}
    assert [found.first[key] for key in ("in", "y", "x", "cycle")] == ["fiber", 0, 0, None]
    assert found.first["golden"] ^ found.first["rtl"] == 1


def test_one_flipped_bit_of_the_readout() -> None:
    """One flipped bit of a logit is found."""
    image, run, _ = one_image()
    region = image.currents["fc"]
    memory = bytearray(run.dump)
    memory[region.base + 4 * 7] ^= 1
    found = compared(dataclasses.replace(run, dump=bytes(memory)))["fc"]
    assert found.mismatches == 1
    assert found.first is not None
    assert abs(found.first["golden"] - found.first["rtl"]) == 1
    assert {**found.first, "golden": 0, "rtl": 0} == {
        "layer": "fc", "in": "readout", "channel": 7, "y": 0, "x": 0, "t": None, "golden": 0, "rtl": 0, "cycle": None}


def test_stopped_run_is_no_pass() -> None:
    """A run that did not end does not reach the comparison."""
    _, run, _ = one_image()
    stopped = Result(runs=(dataclasses.replace(run, timeout=True),), bus_error=None, violations=(), read_beats=0,
                     write_beats=0, simulated_cycles_per_second=0.0, log="")
    with pytest.raises(AssertionError, match="start 0: no irq after"):
        stopped.check()
