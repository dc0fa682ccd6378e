"""Spike times of the float network: what the modules of `golden.layers.TIMES` compute, in numpy."""

import math
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from golden.arch import tick
from golden.store import Captured, Node
from golden.window import windows

Times = NDArray[np.float32]


def float_times(captured: Captured, node: Node, operands: list[Times]) -> Times:
    """Return the result [B, ...] of one operation of `golden.store.TIMES` on times [B, C, H, W]; the race returns logits.

    Source: networks 3.1 to 3.3; `models.ttfs`.
    """
    p, weight, t = node.args, captured.tensor(node, "weight"), operands[0]
    if node.op == "ttfs_race":
        return -t.reshape(len(t), -1)
    if node.op == "ttfs_concat":
        return np.concatenate(operands, axis=1)
    if node.op == "ttfs_earliest":
        earliest: Times = reduce(np.minimum, _windows(t, p["kernel"], p["stride"], p["padding"], np.inf))
        return earliest
    if node.op == "ttfs_add":
        unit, (a, b) = tick(p["resolution"]), operands
        never = (a > (p["windows"][0] - 0.5) * unit) | (b > (p["windows"][1] - 0.5) * unit)
        return np.where(never, sum(p["windows"]) * unit, a + b).astype(np.float32)
    unit, end = tick(p["resolution"]), p["window"] * tick(p["resolution"])
    if node.op == "ttfs_fire":
        return _fire(t, np.asarray(weight), p)
    if node.op == "ttfs_delay":
        t = t + _on_ticks(np.maximum(np.asarray(captured.tensor(node, "bias")), 0), unit)[:, None, None]
    elif node.op == "ttfs_encode":
        bias = np.asarray(captured.tensor(node, "bias"))[:, None, None]
        currents = _convolve(t, np.asarray(weight), 1, p["padding"]) + bias
        t = _on_ticks(np.maximum(reduce(np.maximum, _windows(currents, p["pool"], p["pool"], 0, -np.inf)), 0), unit)
    else:
        t = _on_ticks(t, unit)
    late: Times = np.minimum(t, end).astype(np.float32)
    return late


def _on_ticks(t: Times, unit: float) -> Times:
    return np.asarray(np.floor(t / unit + 0.5) * unit, np.float32)


def _windows(x: Times, kernel: int, stride: int, padding: int, fill: float) -> list[Times]:
    framed = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), constant_values=fill)
    return windows(framed, (kernel, kernel), stride=stride, padding=0)


def _convolve(x: Times, weight: Times, stride: int, padding: int) -> Times:
    """Return the convolution [B, N, H', W'] of x [B, C, H, W]."""
    columns, _, height, width = weight.shape
    framed = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    rows = np.stack(windows(framed, (height, width), stride=stride, padding=0), axis=2)
    out: Times = np.einsum("bckyx,nck->bnyx", rows, weight.reshape(columns, -1, height * width), optimize=True)
    return out


def _fire(t: Times, weight: Times, p: dict[str, int]) -> Times:
    """Return the ticks at which neurons of threshold 1 fire, or with ``exact`` the times within them.

    A membrane that is not there at the last tick is never.
    """
    unit, window = tick(p["resolution"]), p["window"]
    here = t < (window - 0.5) * unit
    ticks = np.where(here, np.rint(t / unit), window)
    sum_wz, sum_w, out, late = np.zeros(1), np.zeros(1) - 1, np.zeros(1), np.ones(1, bool)
    for n in range(window):
        z = math.exp(n * unit)
        came = _convolve((ticks == n).astype(np.float32), weight, p["stride"], p["padding"])
        fires = late & (z * sum_w >= sum_wz)
        when = np.log(sum_wz / np.where(fires, sum_w, 1), where=fires, out=np.zeros(fires.shape)) if p["exact"] else n * unit
        out, late = np.where(fires, when, out), late & ~fires
        sum_w, sum_wz = sum_w + came, sum_wz + came * z
    return np.where(late, window * unit, out).astype(np.float32)
