"""The data of a workload: what ``--data`` takes, and what it refuses in one line."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden.arch import PRESETS, ParameterError
from golden.lower import quantise_input
from models.workloads import find
from spikeloom.cli import run
from verif.workload import ClippedInputWarning, load_workload, read_data

ARCH = PRESETS["tiny"]
SHAPE = (1, 8, 8)
GOOD = np.linspace(0, 1, 3 * 64).reshape(3, *SHAPE)
LABELS = np.array([0, 9, 3])


def saved(path: Path, **arrays: Any) -> Path:
    """Write arrays as they are and return the file."""
    np.savez(path, **arrays)
    return path


def with_value(value: float) -> Any:
    """Return images of which one value is another one."""
    x = GOOD.copy()
    x[1, 0, 2, 3] = value
    return x


def broken_file(kind: str) -> bytes:
    """Return the bytes of a file that is no whole ``.npz``."""
    buffer = io.BytesIO()
    np.savez(buffer, x=GOOD)
    content = buffer.getvalue()
    if kind == "empty":
        return b""
    if kind == "truncated":
        return content[: len(content) // 2]
    if kind == "text":
        return b"hello, world"
    if kind == "array":
        buffer = io.BytesIO()
        np.save(buffer, GOOD)
        return buffer.getvalue()
    if kind == "checksum":
        return content[:400] + bytes([content[400] ^ 1]) + content[401:]
    packed = io.BytesIO()
    np.savez_compressed(packed, x=GOOD)
    return packed.getvalue()[:60] + b"\xff" * 8 + packed.getvalue()[68:]


@pytest.mark.parametrize("kind", ["empty", "truncated", "text", "array", "checksum", "deflate"])
def test_a_broken_file_is_one_line(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that cannot be read is exit code 2 and one line, for both commands, and nothing is written."""
    path = tmp_path / "x.npz"
    path.write_bytes(broken_file(kind))
    for words in (["simulate", "digits"], ["compile", "digits", "-o", str(tmp_path / "out")]):
        assert run([*words, "--data", str(path)]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1
        assert captured.err.startswith(f"spikeloom: data: {path}: cannot be read (")
        assert captured.err.endswith("); legal: a .npz file with x and optional y; try: numpy.savez\n")
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize(("arrays", "message"), [
    ({"z": 1}, "must hold an array x, not ['z']"),
    ({"x": GOOD[0]}, "x must be real numbers [N, 1, 8, 8] or [N, T, 1, 8, 8], not float64 [1, 8, 8]"),
    ({"x": GOOD[:0]}, "x must be real numbers [N, 1, 8, 8] or [N, T, 1, 8, 8], not float64 [0, 1, 8, 8]"),
    ({"x": np.zeros((3, 0, 1, 8, 8))}, "x must be real numbers [N, 1, 8, 8] or [N, T, 1, 8, 8], not float64 [3, 0, 1, 8, 8]"),
    ({"x": GOOD[..., :7]}, "x must be real numbers [N, 1, 8, 8] or [N, T, 1, 8, 8], not float64 [3, 1, 8, 7]"),
    ({"x": GOOD + 1j}, "x must be real numbers [N, 1, 8, 8] or [N, T, 1, 8, 8], not complex128 [3, 1, 8, 8]"),
    ({"x": GOOD.astype("U4")}, "x must be real numbers [N, 1, 8, 8] or [N, T, 1, 8, 8], not <U4 [3, 1, 8, 8]"),
    ({"x": with_value(np.nan)}, "x must be finite float32 numbers, not nan at [1, 0, 2, 3]"),
    ({"x": with_value(-np.inf)}, "x must be finite float32 numbers, not -inf at [1, 0, 2, 3]"),
    ({"x": with_value(1e300)}, "x must be finite float32 numbers, not 1e+300 at [1, 0, 2, 3]"),
    ({"x": GOOD, "y": LABELS[:2]}, "y must be integers [3], not int64 [2]"),
    ({"x": GOOD, "y": LABELS + 0.5}, "y must be integers [3], not float64 [3]"),
    ({"x": GOOD, "y": LABELS - 1}, "y must be the numbers of classes, 0 or more, not -1"),
    ({"x": GOOD, "y": np.array([0, 1, 2**63], np.uint64)}, f"y must be the numbers of classes, 0 or more, not {2**63}"),
])
def test_wrong_data(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    """What is no real, finite image or no label is refused with what it is."""
    path = saved(tmp_path / "x.npz", **arrays)
    with pytest.raises(ParameterError) as error:
        read_data(path, SHAPE)
    assert str(error.value) == f"data: {path}: {message}"


def test_good_data(tmp_path: Path) -> None:
    """Numbers of every real type are float32, booleans 0 and 1; other arrays in the file do not matter."""
    for x in (GOOD, GOOD.astype(np.float16), (16 * GOOD).astype(np.uint8), (16 * GOOD).astype(">i8"), GOOD > 0.5,
              np.stack([GOOD > 0.2, GOOD > 0.7], 1)):
        found, labels = read_data(saved(tmp_path / "x.npz", x=x, y=LABELS.astype(np.uint8), z=np.array(["a"])), SHAPE)
        assert found.dtype == np.float32 and np.array_equal(found, x.astype(np.float32))
        assert labels is not None and labels.dtype == np.int64 and np.array_equal(labels, LABELS)
    assert read_data(saved(tmp_path / "x.npz", x=GOOD), SHAPE)[1] is None


def test_spikes_may_be_booleans(tmp_path: Path) -> None:
    """Boolean frames are a binary input like frames of 0 and 1."""
    frames = np.stack([level < GOOD for level in (0.2, 0.5, 0.8)], 1)
    found = [load_workload(str(find("digits").checkpoint), ARCH, data=saved(tmp_path / "x.npz", x=frames.astype(kind)))
             for kind in (bool, np.uint8)]
    assert found[0].network.input == found[1].network.input
    assert (found[0].network.input.kind, found[0].network.input.bits, found[0].network.steps) == ("steps", 1, 3)
    assert np.array_equal(found[0].x, found[1].x)


@pytest.mark.parametrize("words", [["simulate", "digits"], ["compile", "digits", "-o", "out"]])
def test_a_static_network_takes_no_frames(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames for a shipped network that is shown images are refused, not a traceback."""
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "x.npz", x=np.zeros((3, 4, *SHAPE)))
    assert run([*words, "--data", "x.npz"]) == 2
    assert capsys.readouterr() == (
        "", "spikeloom: data: x.npz: x must be real numbers [N, 1, 8, 8], not float64 [3, 4, 1, 8, 8]\n")


def test_frames_of_a_network_that_takes_frames(tmp_path: Path) -> None:
    """A network with frames of its own takes as many as it has steps."""
    path = saved(tmp_path / "x.npz", x=np.zeros((3, 4, *SHAPE)))
    assert read_data(path, SHAPE, frames=4)[0].shape == (3, 4, *SHAPE)
    for frames, shape in ((5, "[N, 5, 1, 8, 8]"), (0, "[N, 1, 8, 8]")):
        with pytest.raises(ParameterError) as error:
            read_data(path, SHAPE, frames=frames)
        assert str(error.value) == f"data: {path}: x must be real numbers {shape}, not float64 [3, 4, 1, 8, 8]"


@pytest.mark.parametrize("words", [["simulate", "digits"], ["compile", "digits", "-o", "out"]])
@pytest.mark.parametrize(("y", "images", "message"), [
    (LABELS + 1, "3", "data: y must be in 0..9, the classes of digits, not 10"),
    (LABELS, "4", "images: must be in 1..3, the images of digits, not 4; try: --images 3"),
])
def test_labels_and_images_are_there(words: list[str], y: Any, images: str, message: str, tmp_path: Path,
                                     capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that no read-out has and more images than the data holds are refused by both commands alike."""
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "x.npz", x=GOOD, y=y)
    assert run([*words, "--data", "x.npz", "--images", images]) == 2
    assert capsys.readouterr() == ("", f"spikeloom: {message}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


def test_clipped_values_are_counted(tmp_path: Path) -> None:
    """What the input quantisation clips is warned of with its number; what it rounds is not."""
    top = 31 * find("digits").input_scale
    x = np.concatenate([GOOD[:2], [with_value(top)[1]]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_workload("digits", ARCH, data=saved(tmp_path / "x.npz", x=x))
    assert int(quantise_input(found.x, found.network.input).max()) == 31
    x[0, 0, 0, :3] = (top + 0.0625, -100, 255)
    path = saved(tmp_path / "x.npz", x=x)
    with pytest.warns(ClippedInputWarning) as seen:
        load_workload("digits", ARCH, data=path)
    assert [str(each.message) for each in seen] == [
        f"data: {path}: 3 of 192 values of x were clipped to -2..1.9375, the range of the input of digits"]


def test_the_warning_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line prints the warning on standard error, and nothing with ``--quiet``."""
    path = saved(tmp_path / "x.npz", x=(255 * GOOD).astype(np.uint8))
    words = ["compile", "digits", "--data", str(path), "--force", "-o", str(tmp_path / "out")]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run(words) == 0
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1
        assert captured.err.startswith(f"spikeloom: warning: data: {path}: ") and " of 192 values of x" in captured.err
        assert run([*words, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
