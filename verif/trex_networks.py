"""Networks of ``spikeloom bench trex``: shipped, or trained once and kept beside the simulator builds."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from golden.imc.vit_lower import FloatVit
from models import datasets, digits, training, vit, vit_digits
from models.vit import Vit, VitSize
from verif.sim import cache_folder

Integers = NDArray[np.int64]
Advance = Callable[[int, int], None]
# Whose text decides what training gives.
SOURCES = (vit, vit_digits, training, digits, datasets)
SHIPPED = Path(vit.__file__).parent
# File of a network without reuse and of one that reuses, both of seed 0; which set the latter has is in its metadata.
SHIPPED_FILES = ("vit-digits.safetensors", "vit-digits-reuse.safetensors")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is trained: a seed, epochs without reuse and with it, sizes."""

    seed: int = 0
    epochs: int = vit_digits.EPOCHS
    reuse_epochs: int = vit_digits.REUSE_EPOCHS
    size: VitSize = vit_digits.SIZE


def folder() -> Path:
    """Return the folder of trained networks, ``trex`` beside the simulator builds, made where it is not there."""
    path = cache_folder() / "trex"
    path.mkdir(parents=True, exist_ok=True)
    return path


def facts(recipe: Recipe, reuse: tuple[int, ...], variant: str) -> dict[str, str]:
    """Return what says which network a file holds."""
    numbers = {"seed": recipe.seed, "epochs": recipe.epochs, "reuse_epochs": recipe.reuse_epochs if reuse else 0}
    return {**{name: str(number) for name, number in numbers.items()}, "size": json.dumps(dataclasses.asdict(recipe.size)),
            "reuse": json.dumps(reuse), "variant": variant if reuse else ""}


@dataclass(frozen=True)
class Trained:
    """A network and the largest magnitudes of what it computes; a file has both, so that its integers are always the same."""

    model: Vit
    peaks: dict[str, float]

    @property
    def floats(self) -> FloatVit:
        """What lowering takes."""
        model = self.model
        return FloatVit(tensors={name: tensor.numpy() for name, tensor in model.state_dict().items()}, peaks=self.peaks,
                        heads=model.size.heads, depth=model.size.depth, patch=model.size.patch, sources=model.sources,
                        variant=model.variant)


def network(recipe: Recipe, reuse: tuple[int, ...] = (), variant: str = "activation",
            progress: Advance = lambda done, of: None, say: Callable[[str], None] = lambda text: None) -> Trained:
    """Return a trained network, from a shipped file, a file of an earlier call, or training, in this order.

    say : is told when it is trained, which takes a while
    """
    wanted = facts(recipe, reuse, variant)
    for path in (*(SHIPPED / name for name in SHIPPED_FILES), kept := _kept(wanted)):
        if path.exists() and (found := load(path, wanted, Vit(recipe.size, reuse, variant))) is not None:
            return found
    base = network(recipe, progress=progress, say=say) if reuse else None
    say(f"training, about two minutes of a core; kept as {kept}")
    if base is not None:
        model = vit_digits.adapt(base.model, reuse, variant, recipe.seed, progress,
                                 epochs=recipe.reuse_epochs)
    else:
        model = vit_digits.train(recipe.seed, progress, size=recipe.size, epochs=recipe.epochs)
    found = measured(model, torch.from_numpy(datasets.digits()[0]))
    save(kept, found, wanted)
    return found


def measured(model: Vit, x: torch.Tensor) -> Trained:
    """Return a network with its peaks on images [N, 1, side, side]."""
    peaks: dict[str, float] = {}
    model.eval()
    with torch.no_grad():
        model(x, peaks)
    return Trained(model, peaks)


def save(path: Path, found: Trained, wanted: dict[str, str]) -> None:
    """Write a network under a temporary name, then rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    save_file({name: tensor.contiguous() for name, tensor in found.model.state_dict().items()}, temporary,
              metadata={**wanted, "peaks": json.dumps(found.peaks)})
    temporary.replace(path)


def load(path: Path, wanted: dict[str, str], model: Vit) -> Trained | None:
    """Return a file's network, in ``model``, if it is the wanted one."""
    with safe_open(path, framework="pt") as file:
        told = dict(file.metadata())
    peaks = told.pop("peaks")
    if told != wanted:
        return None
    model.load_state_dict(load_file(path))
    return Trained(model.eval(), json.loads(peaks))


def pixels(x: torch.Tensor) -> Integers:
    """Return images [N, 1, side, side] of 0..1 as the integers 0..16 that the first layer reads, [N, side, side]."""
    return np.asarray((x[:, 0] * 16).round().to(torch.int64))


def _kept(wanted: dict[str, str]) -> Path:
    texts = [Path(str(module.__file__)).read_text() for module in SOURCES]
    digest = hashlib.sha256(json.dumps([wanted, texts, torch.__version__], sort_keys=True).encode()).hexdigest()
    return folder() / f"vit-{digest[:16]}.safetensors"

