"""Spike word of one neuron: all timesteps of the neuron step at once."""

from collections.abc import Sequence

import numpy as np

from golden.arch import LifParams, ParameterError
from golden.network import Neuron
from golden.neuron import neuron

RESETS = ("hard", "soft", "soft_delayed")


def parallel_lif(x: Sequence[int], *, threshold: int, leak_shift: int, decay_input: bool, strict: bool, reset: int,
                 steps: int, params: LifParams) -> int:
    """Return the spike word of one neuron that starts at rest: bit t is the spike of timestep t.

    x : ``stream_bits`` signed currents, one per timestep; those from ``steps`` on are ignored
    threshold : signed, ``membrane_bits``
    leak_shift : 0..``params.k_max``
    reset : place in `RESETS`
    steps : 1..``params.t_max``; bits from ``steps`` on are 0

    The caller keeps the membrane inside ``membrane_bits``; lowering proves it for every channel.

    Source: DESIGN 3, neuron step; LoAS section IV-D, the P-LIF.
    """
    if not 1 <= steps <= params.t_max:
        raise ParameterError(f"steps must be in 1..{params.t_max}, not {steps!r}")
    if not 0 <= leak_shift <= params.k_max:
        raise ParameterError(f"leak_shift must be in 0..{params.k_max}, not {leak_shift!r}")
    step = Neuron(threshold=np.array([threshold], np.int64), leak_shift=leak_shift, decay_input=decay_input,
                  compare=">" if strict else ">=", reset=RESETS[reset], leak=params.leak)
    spikes = neuron(np.array(x[:steps], np.int64)[:, None], step)
    return sum(int(spike) << t for t, spike in enumerate(spikes[:, 0]))
