"""Neurons of a layer one at a time, in any order of neurons and steps: the membrane lies in memory between their steps."""

from array_api_compat import array_namespace

from golden.network import Array, Neuron
from golden.neuron import step


def membrane(x: Array, v: Array, owed: Array, *, threshold: Array, first: Array, p: Neuron) -> tuple[Array, Array, Array]:
    """Return (spikes, membranes, owed) of one timestep of some neurons, all int64 [N].

    x, threshold : int64 [N]
    v, owed : int64 [N] as the step before left them
    first : bool [N], the neuron starts at rest, whatever lies in memory
    p : all but its threshold, ``leak="2^-k"``

    As long as the steps of each neuron are in their order, the spikes are those of `golden.neuron.neuron`.

    Source: imc 10, B8; DESIGN 3, neuron step.
    """
    xp = array_namespace(x)
    nothing = xp.zeros_like(v)
    return step(x, xp.where(first, nothing, v), xp.where(first, nothing, owed), threshold, p)
