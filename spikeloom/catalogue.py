"""The shipped networks: what there is, and training one anew."""

import hashlib
import importlib
import re
from collections.abc import Callable
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

from golden.arch import ParameterError
from models.published import published
from models.statten_sizes import FIRST, drawn
from models.workloads import Shipped, shipped
from spikeloom.output import check_file

# Whose weights EVBMF takes ranks from.
DENSE = "ttsnn-dense-digits"


def workloads() -> list[dict[str, Any]]:
    """Return what is known of every network.

    Name, source, preset, T, weight sparsity; shape of the input; golden accuracy on the whole test split and SHA-256 of the
    checkpoint, None without one; shapes of the weights by layer, or else the layers of a published table.
    """
    return [{"name": entry.name, "source": entry.source, "preset": entry.preset, "steps": entry.steps,
             "accuracy_golden": entry.accuracy_golden, "weight_sparsity": entry.weight_sparsity, **_weights(entry),
             "layers": [asdict(layer) for layer in published(entry.name)]} for entry in shipped().values()]


def _weights(entry: Shipped) -> dict[str, Any]:
    """Return hash, input and shapes of what was trained, or those of weights that are drawn, with the share of their zeros."""
    from golden.store import load
    from golden.synthetic import drawn_count

    if not entry.trained:
        shapes = drawn(entry.name)
        sizes = {layer: prod(shape) for layer, shape in shapes.items()}
        zeros = sum(size - drawn_count(size, entry.weight_sparsity) for layer, size in sizes.items() if layer != FIRST)
        found = {"weight_sparsity": zeros / sum(sizes.values())} if sizes else {}
        return {"sha256": None, "input": entry.shape, "shapes": shapes, **found}
    captured = load(entry.checkpoint)
    return {"sha256": hashlib.sha256(entry.checkpoint.read_bytes()).hexdigest(), "input": list(captured.example_shape),
            "shapes": {name.removesuffix(".weight"): list(tensor.shape) for name, tensor in captured.tensors.items()
                       if name.endswith(".weight") and tensor.ndim > 1}}


def preset_of(name: str) -> str:
    """Return the preset on which a network runs when none is asked for: its own, or ``"tiny"`` for a file."""
    found = shipped().get(name)
    return "tiny" if found is None else found.preset


def train(name: str, out: Path | None, seed: int, progress: Callable[[int, int], None], ranks: str | None = None
          ) -> dict[str, Any]:
    """Train a shipped network, write it as a captured file and return what a report needs.

    ranks : of tensor trains: one for all convolutions, or one for each, with commas, or ``evbmf`` of the shipped dense network,
    or ``evbmf:FILE`` of another one that is captured
    """
    trained = [entry.name for entry in shipped().values() if entry.trained]
    if name not in trained:
        what = "must have been trained on data of its own" if name in shipped() else "unknown name"
        raise ParameterError(f"workload: {what}, not {name!r}; legal: {', '.join(trained)}; try: spikeloom list")
    chosen = {} if ranks is None else {"ranks": _ranks(shipped()[name], ranks)}
    import torch

    from golden.capture import capture
    from models.datasets import SPLITS

    path = out or Path("build") / f"{name}.safetensors"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(f"--out: {path}: cannot be written ({error.strerror}); legal: a writable folder") from None
    check_file("--out", path)
    module = importlib.import_module(f"models.{name.replace('-', '_')}")
    model = module.train(seed, progress, **chosen)
    _, _, x, y = map(torch.from_numpy, SPLITS[shipped()[name].data]())
    captured = capture(model, module.example(), path)
    weights = [tensor for key, tensor in captured.tensors.items() if key.endswith(".weight") and tensor.ndim > 1]
    zeros, count = sum(int((w == 0).sum()) for w in weights), sum(w.size for w in weights)
    return {"workload": name, "file": str(path), "seed": seed, "ranks": [*model.ranks] if shipped()[name].ranks else None,
            "accuracy_float": module.accuracy(model, x, y),
            "accuracy_golden": accuracy_golden(path, shipped()[name]), "weight_sparsity": zeros / count,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _ranks(entry: Shipped, text: str) -> list[int]:
    """Return the rank of every 3x3 convolution of the blocks that ``--ranks`` asks for."""
    if not entry.ranks:
        names = ", ".join(other.name for other in shipped().values() if other.ranks)
        raise ParameterError(f"--ranks: must be left out for {entry.name}, which has no tensor trains, not {text!r}; "
                             f"legal: for {names}; try: spikeloom train {names.partition(',')[0]} --ranks 8")
    import torch

    from golden.store import load
    from models.ttsnn import WIDTHS, TtSnn, ranks

    kernels = TtSnn("dense").dense_kernels()
    if text.partition(":")[0] == "evbmf":
        path = shipped()[DENSE].checkpoint if text == "evbmf" else Path(text.removeprefix("evbmf:"))
        tensors = load(path).tensors
        found = {name: tensors.get(f"{name}.weight") for name in kernels}
        wrong = [name for name, tensor in found.items() if tensor is None or tensor.shape != kernels[name].shape]
        if wrong:
            raise ParameterError(f"--ranks: {path}: must have {wrong[0]} as {DENSE} has it, {[*kernels[wrong[0]].shape]}, "
                                 f"not {'none' if (tensor := found[wrong[0]]) is None else [*tensor.shape]}; legal: a captured "
                                 f"network of its shape; try: spikeloom train {DENSE}")
        return ranks({name: torch.from_numpy(tensor) for name, tensor in found.items()})
    chosen = [int(word) for word in text.split(",")] if re.fullmatch(r"\d{1,4}(,\d{1,4})*", text) else []
    if len(chosen) not in (1, len(kernels)) or not 1 <= min(chosen) <= max(chosen) <= max(WIDTHS):
        raise ParameterError(f"--ranks: must be one rank, or {len(kernels)} with commas, of 1..{max(WIDTHS)} (a convolution of "
                             f"rank 0 passes nothing on), not {text!r}; legal: N, N,...,N, evbmf, evbmf:FILE; try: --ranks 8")
    return chosen * (len(kernels) // len(chosen))


def accuracy_golden(path: Path, facts: Shipped) -> float:
    """Return the share of the whole test split that a captured file, lowered as ``facts`` say, classifies right."""
    from golden.store import load
    from models.datasets import SPLITS
    from verif.workload import shipped_workload

    _, _, x, y = SPLITS[facts.data]()
    return shipped_workload(facts, load(path), facts.arch, x, y, steps=facts.steps).accuracy()
