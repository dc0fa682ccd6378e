"""Float kernels: other layers of a network written as convolutions."""

import numpy as np
from numpy.typing import NDArray

from golden.arch import ParameterError
from golden.store import Node

FloatArray = NDArray[np.float64]


def dense_kernel(weight: FloatArray, dilation: list[int], groups: int, channels: int, node: Node) -> FloatArray:
    """Return float64 [N, C, kh, kw] with groups and dilation written out as zeros."""
    n, per_group, kh, kw = weight.shape
    if per_group * groups != channels:
        raise ParameterError(f"{node.path}: Conv2d(in_channels={per_group * groups}): reads {channels} channels")
    dense = np.zeros((n, channels, dilation[0] * (kh - 1) + 1, dilation[1] * (kw - 1) + 1))
    for g in range(groups):
        rows, columns = slice(g * n // groups, (g + 1) * n // groups), slice(g * per_group, (g + 1) * per_group)
        dense[rows, columns, ::dilation[0], ::dilation[1]] = weight[rows]
    return dense


def unpool(weight: FloatArray, k: int) -> FloatArray:
    """Return the kernel that reads the unpooled map where ``weight`` read the average-pooled one."""
    return weight.repeat(k, 2).repeat(k, 3) / k ** 2


def average_outputs(weight: FloatArray, stride: int, k: int) -> FloatArray:
    """Return the kernel, at stride ``stride * k``, whose outputs average k x k outputs of ``weight`` at ``stride``."""
    n, c, kh, kw = weight.shape
    reach = (k - 1) * stride
    out = np.zeros((n, c, kh + reach, kw + reach))
    for i in range(0, reach + 1, stride):
        for j in range(0, reach + 1, stride):
            out[:, :, i:i + kh, j:j + kw] += weight / k ** 2
    return out
