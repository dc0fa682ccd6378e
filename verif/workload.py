"""A workload: a shipped name or a captured file with its data, lowered for one build. Loads without torch."""

import warnings
import zlib
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from golden.arch import Arch, ParameterError
from golden.lower import lower, quantise_input
from golden.network import Network, input_words
from golden.store import Captured, load

if TYPE_CHECKING:
    from models.workloads import Shipped

Images = NDArray[np.float32]
Labels = NDArray[np.int64]
# Bits of a quantised value that no float32 is clipped to in practice.
WIDE = 62
# Images of the networks that have no data of their own.
SEEDED = 20


@dataclass(frozen=True)
class Workload:
    """A lowered network and the images to show it.

    captured : the float network that it was lowered from; None for random integer weights
    x : float32 [N, C, H, W] (shown at every step) or [N, T, C, H, W]
    y : int64 [N] labels, or None
    shown : images that are shown when nothing else is asked for, or all of fewer
    """

    name: str
    network: Network
    captured: Captured | None
    x: Images
    y: Labels | None
    shown: int = 20

    def words(self, index: int) -> dict[str, NDArray[np.int64]]:
        """Return the operand words of image ``index``."""
        network = self.network
        return input_words(quantise_input(self.x[index], network.input), network.input, network.steps)

    def accuracy(self) -> float:
        """Return the share of all images that golden classifies as ``y``."""
        from golden.run import predict, run

        assert self.y is not None
        right = sum(predict(run(self.network, self.words(index))) == int(label) for index, label in enumerate(self.y))
        return right / len(self.y)

    def check_images(self, images: int) -> int:
        """Return ``images``; raise `ParameterError` unless there are so many."""
        if not 1 <= images <= len(self.x):
            raise ParameterError(f"images: must be in 1..{len(self.x)}, the images of {self.name}, not {images}; "
                                 f"try: --images {len(self.x)}")
        return images

    def check_labels(self, classes: int) -> None:
        """Raise `ParameterError` when a label is none of ``classes``, the read-outs of the network."""
        if self.y is not None and int(self.y.max()) >= classes:
            raise ParameterError(f"data: y must be in 0..{classes - 1}, the classes of {self.name}, not {int(self.y.max())}")

    def warn_of_clipping(self, data: Path) -> None:
        """Warn when the input quantisation clips values of ``x``, which came from ``data``."""
        spec = self.network.input
        clipped = int((quantise_input(self.x, spec) != quantise_input(self.x, replace(spec, bits=WIDE))).sum())
        if clipped:
            low, high = (0, 1) if spec.bits == 1 else (-(1 << spec.bits - 1), (1 << spec.bits - 1) - 1)
            warnings.warn(f"data: {data}: {clipped:,} of {self.x.size:,} values of x were clipped to "
                          f"{low * spec.scale:g}..{high * spec.scale:g}, the range of the input of {self.name}",
                          ClippedInputWarning, stacklevel=3)


class ClippedInputWarning(UserWarning):
    """Some input values lie outside the range of the input quantisation and were clipped to it."""


def load_workload(source: str, arch: Arch, *, steps: int | None = None, data: Path | None = None,
                  leak_nearest: bool = False) -> Workload:
    """Return the workload ``source``, lowered for ``arch``.

    steps : T; None takes the number of frames in ``data``, or the workload's own (4 for a captured file without T)
    data : ``.npz`` with ``x`` [N,C,H,W] or [N,T,C,H,W] and optional ``y`` [N]; a captured file needs it
    Raises `ParameterError` for anything that cannot be used; warns with `ClippedInputWarning`.
    """
    if source.endswith(".safetensors"):
        captured, name = load(source), Path(source).stem
        if data is None:
            raise ParameterError(f"workload: {source}: no images, not None; legal: --data FILE.npz with x; "
                                 "try: spikeloom simulate --help")
        x, y = read_data(data, captured.example_shape)
        kind = "steps" if x.ndim == 5 else "static"
        frames = x.shape[1] if kind == "steps" else None
        if steps is not None and frames is not None and steps != frames:
            raise ParameterError(f"T: must be {frames}, the frames in {data}, not {steps}")
        steps = steps or frames or captured.steps or 4
        binary = bool(((x == 0) | (x == 1)).all()) and kind == "steps"
        network = lower(captured, steps, arch, name=name, input_kind=kind, input_bits=1 if binary else 8,
                        input_scale=1.0 if binary else None, calibration=x, leak_nearest=leak_nearest)
        return Workload(name, network, captured, x, y)
    from models.datasets import SPLITS
    from models.workloads import find

    facts = find(source)
    if not facts.trained:
        return _synthetic(facts, arch, steps or facts.steps, data, leak_nearest)
    captured = load(facts.checkpoint)
    steps = steps or facts.steps
    if data is None:
        _, _, x, y = SPLITS[facts.data]()
    else:
        x, y = read_data(data, captured.example_shape, frames=steps if facts.input_kind == "steps" else 0)
    workload = shipped_workload(facts, captured, arch, x, y, steps=steps, leak_nearest=leak_nearest)
    if data is not None:
        workload.warn_of_clipping(data)
    return workload


def _synthetic(facts: "Shipped", arch: Arch, steps: int, data: Path | None, leak_nearest: bool) -> Workload:
    from models.datasets import seeded
    from verif.synthetic_workload import synthetic_network

    network = synthetic_network(facts, arch, steps, leak_nearest=leak_nearest)
    spec = network.input
    shape = (spec.channels, spec.height, spec.width)
    x, y = (seeded(SEEDED, shape), None) if data is None else read_data(data, shape, frames=0)
    workload = Workload(facts.name, network, None, x, y, facts.images)
    if data is not None:
        workload.warn_of_clipping(data)
    return workload


def shipped_workload(facts: "Shipped", captured: Captured, arch: Arch, x: Images, y: Labels | None, *, steps: int,
                     leak_nearest: bool = False) -> Workload:
    """Return a workload of a captured network that is quantised as the shipped one that ``facts`` describes."""
    network = lower(captured, steps, arch, name=facts.name, input_kind=facts.input_kind,
                    input_bits=facts.input_bits, input_scale=facts.input_scale, leak_nearest=leak_nearest)
    return Workload(facts.name, network, captured, x, y, facts.images)


def read_data(path: Path, shape: tuple[int, int, int], *, frames: int | None = None) -> tuple[Images, Labels | None]:
    """Return ``x`` and ``y`` of an ``.npz`` file.

    shape : (C, H, W) of one image
    frames : 0 for images [N, C, H, W] alone, T for [N, T, C, H, W] alone, None for either
    Raises `ParameterError` for a file that cannot be read, for another shape, for x that is not real and finite in
    float32 (booleans are 0 and 1), for y that are no labels.
    """
    names, arrays = read_arrays(path, "x and optional y", ("x", "y"))
    x, y = arrays.get("x"), arrays.get("y")
    if x is None:
        raise ParameterError(f"data: {path}: must hold an array x, not {names}")
    one = ", ".join(map(str, shape))
    forms = {0: f"[N, {one}]", None: f"[N, {one}] or [N, T, {one}]"}
    dimensions = {0: (4,), None: (4, 5)}.get(frames, (5,))
    good = x.ndim in dimensions and x.shape[-3:] == shape and x.size and (not frames or x.shape[1] == frames)
    if not good or x.dtype.kind not in "biuf":
        raise ParameterError(f"data: {path}: x must be real numbers {forms.get(frames, f'[N, {frames}, {one}]')}, "
                             f"not {x.dtype} {list(x.shape)}")
    with np.errstate(over="ignore"):
        real = x.astype(np.float32)
    if not np.isfinite(real).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(real))[0])
        raise ParameterError(f"data: {path}: x must be finite float32 numbers, not {x[place]} at {list(place)}")
    if y is None:
        return real, None
    if y.shape != x.shape[:1] or y.dtype.kind not in "iu":
        raise ParameterError(f"data: {path}: y must be integers [{len(x)}], not {y.dtype} {list(y.shape)}")
    if int(y.min()) < 0 or int(y.max()) >= 1 << 31:
        raise ParameterError(f"data: {path}: y must be the numbers of classes, 0 or more, not "
                             f"{int(y.min()) if int(y.min()) < 0 else int(y.max())}")
    return real, y.astype(np.int64)


def read_arrays(path: Path, legal: str, wanted: Container[str]) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """Return the names of the arrays in an ``.npz`` file, and those arrays that are ``wanted``.

    legal : what the file should hold, for the message of the `ParameterError` when it cannot be read
    """
    try:
        with open(path, "rb") as file:
            found = np.load(file, allow_pickle=False)
            if not isinstance(found, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            names = sorted(found.files)
            return names, {name: np.asarray(found[name]) for name in names if name in wanted}
    except (OSError, ValueError, EOFError, RuntimeError, MemoryError, BadZipFile, zlib.error) as error:
        text = str(error).partition(". ")[0] if isinstance(error, ValueError) else str(error)
        what = " ".join(text.split()) or type(error).__name__
        raise ParameterError(f"data: {path}: cannot be read ({what}); legal: a .npz file with {legal}; "
                             "try: numpy.savez") from None
