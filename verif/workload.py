"""A workload: a shipped name or a captured file with its data, lowered for one build. Loads without torch."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from golden.arch import Arch, ParameterError
from golden.lower import lower, quantise_input
from golden.network import Network, input_words
from golden.store import Captured, load

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Workload:
    """A lowered network and the images to show it.

    x : float32 [N, C, H, W] (shown at every step) or [N, T, C, H, W]
    y : int64 [N] labels, or None
    """

    name: str
    network: Network
    captured: Captured
    x: Images
    y: Labels | None

    def words(self, index: int) -> dict[str, NDArray[np.int64]]:
        """Return the operand words of image ``index``."""
        network = self.network
        return input_words(quantise_input(self.x[index], network.input), network.input, network.steps)


def load_workload(source: str, arch: Arch, *, steps: int | None = None, data: Path | None = None,
                  leak_nearest: bool = False) -> Workload:
    """Return the workload ``source``, lowered for ``arch``.

    steps : T; None takes the number of frames in ``data``, or the workload's own (4 for a captured file without T)
    data : ``.npz`` with ``x`` [N,C,H,W] or [N,T,C,H,W] and optional ``y`` [N]; a captured file needs it
    Raises `ParameterError` for anything that cannot be used.
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
    captured = load(facts.checkpoint)
    if data is None:
        _, _, x, y = SPLITS[facts.data]()
    else:
        x, y = read_data(data, captured.example_shape)
    network = lower(captured, steps or facts.steps, arch, name=source, input_kind=facts.input_kind,
                    input_bits=facts.input_bits, input_scale=facts.input_scale, leak_nearest=leak_nearest)
    return Workload(source, network, captured, x, y)


def read_data(path: Path, shape: tuple[int, int, int]) -> tuple[Images, Labels | None]:
    """Return ``x`` and ``y`` of an ``.npz`` file; ``shape`` is (C, H, W) of one image."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise ParameterError(f"data: {path}: cannot be read ({error}); legal: a .npz file with x and optional y") from None
    if "x" not in arrays:
        raise ParameterError(f"data: {path}: must hold an array x, not {sorted(arrays)}")
    x = arrays["x"]
    if x.ndim not in (4, 5) or x.shape[-3:] != shape or not len(x) or not np.issubdtype(x.dtype, np.number):
        raise ParameterError(f"data: {path}: x must be numbers [N, {', '.join(map(str, shape))}] or [N, T, "
                             f"{', '.join(map(str, shape))}], not {x.dtype} {list(x.shape)}")
    y = arrays.get("y")
    if y is not None and (y.shape != x.shape[:1] or not np.issubdtype(y.dtype, np.integer)):
        raise ParameterError(f"data: {path}: y must be integers [{len(x)}], not {y.dtype} {list(y.shape)}")
    return x.astype(np.float32), None if y is None else y.astype(np.int64)
