"""Run a captured float network in torch, the reference that lowering is compared with."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from golden.dynamics import dynamics
from golden.network import Array
from golden.store import Captured, Node


@dataclass(frozen=True, kw_only=True)
class FloatTrace:
    """The float network's run on a batch.

    logits : float32 [B, classes], summed over the steps
    spikes : bool [T, B, ...] per neuron node name
    """

    logits: Tensor
    spikes: dict[str, Tensor]


def float_run(captured: Captured, x: Array, steps: int) -> FloatTrace:
    """Run the captured float network in float32 from rest.

    x : [B, C, H, W], shown at every step, or [B, T, C, H, W]
    """
    batch = torch.as_tensor(x)
    frames = batch.movedim(1, 0) if batch.dim() == 5 else batch.expand(steps, *batch.shape)
    values: dict[str, Tensor] = {}
    spikes: dict[str, Tensor] = {}
    for node in captured.nodes:
        operands = [values[name] for name in node.inputs]
        if node.op == "input":
            values[node.name] = frames.to(torch.float32)
        elif node.op == "output":
            return FloatTrace(logits=operands[0].sum(0).flatten(1), spikes=spikes)
        elif node.op == "neuron":
            values[node.name] = _float_neuron(node, operands[0])
            spikes[node.name] = values[node.name] > 0
        elif node.op == "add":
            values[node.name] = operands[0] + operands[-1]
        elif node.op == "flatten":
            values[node.name] = operands[0].flatten(2)
        else:
            flat = _float_layer(captured, node, operands[0].flatten(0, 1))
            values[node.name] = flat.reshape(*operands[0].shape[:2], *flat.shape[1:])
    raise AssertionError("a captured network ends in its output")


def _float_layer(captured: Captured, node: Node, x: Tensor) -> Tensor:
    arrays = {role: captured.tensor(node, role) for role in ("weight", "bias", "mean", "var")}
    tensors = {role: torch.as_tensor(a, dtype=torch.float32) for role, a in arrays.items() if a is not None}
    bias, p = tensors.get("bias"), node.args
    if node.op == "conv":
        return F.conv2d(x, tensors["weight"], bias, p["stride"], p["padding"], p["dilation"], p["groups"])
    if node.op == "linear":
        return F.linear(x, tensors["weight"], bias)
    if node.op == "batchnorm":
        return F.batch_norm(x, tensors["mean"], tensors["var"], tensors.get("weight"), bias, eps=p["eps"])
    if node.op == "maxpool":
        return F.max_pool2d(x, p["kernel"], p["stride"], p["padding"])
    return F.avg_pool2d(x, p["kernel"], p["stride"], p["padding"])


def _float_neuron(node: Node, x: Tensor) -> Tensor:
    found = dynamics(node)
    v, owed, out = torch.zeros_like(x[0]), torch.zeros_like(x[0]), []
    for current in x:
        h = found.decay * v + found.gain * current - owed
        fire = h > found.threshold if found.compare == ">" else h >= found.threshold
        out.append(fire.to(x.dtype))
        if found.reset == "hard":
            v = torch.where(fire, 0.0, h)
        elif found.reset == "soft":
            v = torch.where(fire, h - found.threshold, h)
        else:
            v, owed = h, torch.where(fire, found.threshold, 0.0)
    return torch.stack(out)
