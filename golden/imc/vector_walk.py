"""Vectors of a layer, in the order in which crossbars compute them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from golden.walker import Fields


@dataclass(frozen=True, kw_only=True)
class Vector:
    """The inputs of one output pixel at one step, or of one member of its window.

    top, left : pixel of the first tap, outside of the map where it is padded
    step : from ``first_step`` on
    key : ``step * pixels + row * conv_width + column`` of the sums, for the macro
    first, last : member of its window
    starts, ends : first and last of the steps that are run; a vector whose sums serve all steps is both
    end : last vector of the layer
    membrane : where the membrane of channel 0 lies
    window : number of the output pixel, row-major
    """

    top: int
    left: int
    step: int
    key: int
    first: bool
    last: bool
    starts: bool
    ends: bool
    end: bool
    membrane: int
    window: int


def vector_walk(layer: Fields) -> Iterator[Vector]:
    """Yield all vectors: with ``time_inner`` all steps of a window, then the next window, else all windows of a step.

    With ``once`` there are those of the first step alone, whose sums serve all steps.

    layer : steps, first_step, time_inner, once, out_height, out_width, pool_kernel, pool_stride, pool_mode, stride, padding,
        conv_width, pixels, channels, share_log2, membrane, as in the register map of a core; ``first_step + steps <= 16``

    The members of a window follow each other, row-major. Without a pool of sums each of them has membranes of its own, with one
    the window has. Time inside, the membranes of all windows lie in the same place. A pixel has one for each of
    ``channels >> share_log2``.

    Source: imc 10, B0, and 1.5, TIME_OUTER and TIME_INNER.
    """
    members = list(product(range(layer["pool_kernel"]), repeat=2))
    windows = list(product(range(layer["out_height"]), range(layer["out_width"])))
    steps = range(1 if layer["once"] else layer["steps"])
    neurons = 1 if layer["pool_mode"] else len(members)
    order = product(range(len(windows)), steps) if layer["time_inner"] else (
        (window, step) for step, window in product(steps, range(len(windows))))
    for window, step in order:
        for member, place in enumerate(members):
            row, column = (at * layer["pool_stride"] + offset for at, offset in zip(windows[window], place, strict=True))
            neuron = (0 if layer["time_inner"] else window * neurons) + (0 if layer["pool_mode"] else member)
            last, ends, time = member == len(members) - 1, step == steps[-1], step + layer["first_step"]
            yield Vector(
                top=row * layer["stride"] - layer["padding"], left=column * layer["stride"] - layer["padding"], step=time,
                key=time * layer["pixels"] + row * layer["conv_width"] + column, first=member == 0, last=last,
                starts=step == 0, ends=ends, end=last and ends and window == len(windows) - 1,
                membrane=layer["membrane"] + neuron * (layer["channels"] >> layer["share_log2"]), window=window)
