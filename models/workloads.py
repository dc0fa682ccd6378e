"""What is shipped, as ``workloads.toml`` says it: facts of every network that need neither torch nor its data."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from golden.arch import PRESETS, Arch, ParameterError

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """A shipped network; its torch module (with ``_`` for ``-``) and its checkpoint, if it is trained, bear its name.

    data : name in `models.datasets.SPLITS`, or ``"seeded"`` (`models.datasets.seeded`)
    preset : the smallest preset that runs it, or which its accuracy is of
    top : ``"ftp"`` or, where only that runs it, ``"imc"``
    steps : T that it was trained for
    input_kind, input_bits, input_scale : as `golden.lower.lower` takes them
    weight_sparsity : share of weights that are zero; with ``silent``, of the layers that do not read the image
    accuracy_golden : of the integer network on the whole test split; None for random weights
    images : how many are shown when nothing else is asked for
    shape : of an image, [C, H, W]; None: as the checkpoint says
    ranks : whether its convolutions are tensor trains, whose ranks training may choose
    silent : of random weights, share of silent words that every layer is calibrated to; None: as `models.published` says
    """

    name: str
    source: str
    data: str
    preset: str
    steps: int
    input_kind: str
    input_bits: int
    input_scale: float
    weight_sparsity: float
    accuracy_golden: float | None = None
    images: int = 20
    ranks: bool = False
    top: str = "ftp"
    silent: float | None = None
    shape: list[int] | None = None

    @property
    def trained(self) -> bool:
        """Whether there is a checkpoint; else the weights are random."""
        return self.accuracy_golden is not None

    @property
    def arch(self) -> Arch:
        """The build of ``preset``."""
        return PRESETS[self.preset]

    @property
    def checkpoint(self) -> Path:
        """The captured file of a trained network."""
        return FOLDER / f"{self.name}.safetensors"


def shipped() -> dict[str, Shipped]:
    """Return every shipped network by name."""
    table = tomllib.loads((FOLDER / "workloads.toml").read_text())
    return {name: Shipped(name=name, **entry) for name, entry in table.items()}


def find(name: str) -> Shipped:
    """Return a shipped network; raise `ParameterError` for any other name."""
    found = shipped()
    if name not in found:
        raise ParameterError(f"workload: unknown name {name!r}; legal: {', '.join(found)} or a FILE.safetensors; "
                             "try: spikeloom list")
    return found[name]
