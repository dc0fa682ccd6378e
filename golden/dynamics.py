"""What a captured neuron does, and which leaks the hardware has."""

from dataclasses import dataclass

from golden.arch import Arch, ParameterError
from golden.store import Node


@dataclass(frozen=True, kw_only=True)
class Dynamics:
    """A library neuron in common words: ``h = decay * v + gain * x`` with ``v`` measured from its reset value.

    share : `golden.network.Neuron`
    """

    decay: float
    gain: float
    threshold: float
    compare: str
    reset: str
    share: int = 1

    def fires_on(self, current: float) -> bool:
        """Whether ``current`` alone reaches the threshold."""
        h = self.gain * current
        return h >= self.threshold if self.compare == ">=" else h > self.threshold


def dynamics(node: Node) -> Dynamics:
    """Return what a captured neuron does, in common words.

    Raises `ParameterError` for a reset that does not exist in hardware, or a threshold that is not above the reset value.
    """
    p = node.args
    if p["class"] == "Leaky":
        if p["reset_mechanism"] == "none" or (p["reset_mechanism"] == "subtract" and not p["reset_delay"]):
            raise ParameterError(f"{node.path}: Leaky: reset_mechanism {p['reset_mechanism']!r} with reset_delay="
                                 f"{p['reset_delay']} does not exist in hardware; legal: 'zero', or 'subtract' with "
                                 "reset_delay=True; try: train with reset_mechanism='zero'")
        found = Dynamics(decay=p["beta"], gain=1.0, threshold=p["threshold"], compare=">",
                         reset="hard" if p["reset_mechanism"] == "zero" else "soft_delayed", share=p.get("share", 1))
    else:
        tau = p.get("tau")
        found = Dynamics(decay=1.0 if tau is None else 1 - 1 / tau,
                         gain=1 / tau if tau is not None and p["decay_input"] else 1.0,
                         threshold=p["v_threshold"] - (p["v_reset"] or 0.0), compare=">=",
                         reset="soft" if p["v_reset"] is None else "hard", share=p.get("share", 1))
    if found.threshold <= 0:
        raise ParameterError(f"{node.path}: {p['class']}: the threshold must be above the reset value, "
                             f"not {found.threshold} from it")
    return found


def check_share(node: Node, channels: int) -> None:
    """Raise `ParameterError` unless the groups of channels that share membranes are equal."""
    share = node.args.get("share", 1)
    if channels % share:
        raise ParameterError(f"{node.path}: {node.args['class']}: groups of {channels} channels that share membranes, not "
                             f"{share}; legal: equal ones; try: {channels - channels % share} channels")


def leaks(arch: Arch) -> dict[float, int]:
    """Return the membrane factors that exist, with their ``leak_shift``."""
    if arch.leak == "2^-k":
        return {2.0 ** -k: k for k in range(arch.lif.k_max + 1)}
    return {1 - 2.0 ** -k: k for k in range(arch.lif.k_max + 1)}


def leak_text(leak: float, key: str) -> str:
    """Return a membrane factor as the argument ``key`` of a library's neuron."""
    if key == "beta":
        return f"beta {leak:g}"
    return "no leak (IFNode)" if leak == 1 else f"tau {1 / (1 - leak):.6g}"
