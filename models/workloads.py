"""What is shipped, as ``workloads.toml`` says it: facts of every network that need neither torch nor its data."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from golden.arch import ParameterError

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """A shipped network; the file of its torch module (with ``_`` for ``-``) and its checkpoint bear its name.

    data : name in `models.datasets.SPLITS`
    preset : the smallest preset that runs it
    steps : T that it was trained for
    input_kind, input_bits, input_scale : as `golden.lower.lower` takes them
    accuracy_golden : of the integer network on the whole test split
    weight_sparsity : share of weights that are zero
    """

    name: str
    source: str
    data: str
    preset: str
    steps: int
    input_kind: str
    input_bits: int
    input_scale: float
    accuracy_golden: float
    weight_sparsity: float

    @property
    def checkpoint(self) -> Path:
        """The captured file."""
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
