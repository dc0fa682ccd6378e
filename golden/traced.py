"""What stands for the tensors of a model while `golden.capture` walks its trace, and how LIF sharing is recognised there."""

from dataclasses import dataclass, field, replace
from typing import Any

from golden.network import SHARES


@dataclass(frozen=True)
class Value:
    """A captured node's output inside the trace: at which unrolled step, or summed over which steps and scaled."""

    name: str
    step: int | None = None
    summed: tuple[int, ...] = ()
    scale: float = 1.0


@dataclass(frozen=True)
class State:
    """What is never data: a membrane, passed around by the user's code, or a tensor of the user's."""

    what: str = "a membrane"


@dataclass(frozen=True, kw_only=True)
class Part(State):
    """Groups of the channels of a tensor, or one of them, or its spikes; data only when joined again.

    value : the tensor
    groups : how many there are; None: as many as are joined
    number : of the group, None: all of them
    path : of the neurons whose spikes it is
    """

    what: str = "a part of the channels of a tensor"
    value: Value
    groups: int | None
    number: int | None = None
    path: str = ""


class Size:
    """A shape or size, legal only as the argument of a flattening view."""


def parts(name: str, arguments: list[Any]) -> Part | None:
    """Return the groups of channels of ``chunk``, ``tensor_split`` or ``split``; None for a call that makes no equal ones.

    arguments : (tensor, groups or size or sizes, dimension); a size leaves open how many groups there are
    """
    if len(arguments) != 3 or not isinstance(arguments[0], Value) or arguments[2] != 1:
        return None
    value, given = arguments[0], arguments[1]
    if isinstance(given, list) and name == "split" and len({*given}) == 1:
        return Part(value=value, groups=len(given))
    if type(given) is not int:
        return None
    return Part(value=value, groups=None if name == "split" else given)


@dataclass
class Sharing:
    """The groups of channels that neurons took and that are not joined yet, by the path of the neurons."""

    taken: dict[str, list[Part]] = field(default_factory=dict)

    def take(self, path: str, part: Part) -> Part:
        """Return the spikes that the neurons at ``path`` make of a group."""
        spikes = replace(part, path=path, what="spikes of a part of the channels of a tensor")
        self.taken.setdefault(path, []).append(spikes)
        return spikes

    def join(self, arguments: list[Any]) -> Part | None:
        """Return the last group of ``cat`` along channels, where the same neurons took all groups in order and nothing else
        since they were joined before; None for another call.
        """
        along = len(arguments) == 2 and arguments[1] == 1 and isinstance(arguments[0], list)
        groups: list[Part] = arguments[0] if along else []
        if not groups or not all(isinstance(group, Part) for group in groups):
            return None
        first, last = groups[0], groups[-1]
        wanted = [replace(first, number=number) for number in range(len(groups))]
        known = first.groups in (None, len(groups)) and len(groups) in SHARES[1:]
        if not known or groups != wanted or self.taken.pop(first.path, []) != groups:
            return None
        return replace(last, groups=len(groups))
