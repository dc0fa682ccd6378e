"""Limits of a memory image: what no address, stride or descriptor field holds is refused."""

from dataclasses import replace

import numpy as np
import pytest

from golden.arch import PRESETS, ParameterError
from golden.limits import check
from golden.network import Input, Layer, Network, Neuron, Pass, input_planes
from hdl.image import build_image
from hdl.plan import word_log2

LOAS = PRESETS["loas"]


def single(height: int, width: int, columns: int, steps: int = 1, layers: int = 1) -> Network:
    """Return layers of 1x1 kernels without a weight that read the input and store currents."""
    spec = Input(kind="static", channels=1, height=height, width=width, bits=1, scale=1.0, plane_bits=1)
    zeros = np.zeros((columns, 1, 1, 1), np.int8)
    passes = tuple(Pass(source=name, weight=zeros, planes=planes) for name, planes in input_planes(spec, steps))
    return Network(name="single", steps=steps, input=spec, layers=tuple(
        Layer(name=f"layer{n}", passes=passes, bias=np.zeros(columns, np.int64), store_currents=True,
              neuron=Neuron(threshold=np.ones(columns, np.int64), leak_shift=0)) for n in range(layers)))


def test_largest_maps_are_built() -> None:
    """Maps of 2^18 - 1 pixels and 2^16 - 1 columns have an image."""
    assert build_image(single(511, 513, 1), LOAS).plans[0].row_tiles == -(-511 * 513 // LOAS.lanes)
    assert build_image(single(1, 65535, 1), LOAS).plans[0].width == 65535


@pytest.mark.parametrize(("network", "message"), [
    (single(512, 512, 1), "layer layer0: needs 262144 pixels of a map, not more than 262143; legal: at most 262143 on this "
                          "build; try: a preset with larger limits or a smaller layer"),
    (single(1, 65536, 1), "layer layer0: needs 65536 rows or columns of a map, not more than 65535; legal: at most 65535"),
    (single(8, 8, 65536), "layer layer0: needs 65536 channels, not more than 65535; legal: at most 65535"),
    (single(400, 400, 512, 16), "network: needs 5417285056 bytes of memory, not more than 4294967296; legal: at most "
                                "4294967296; try: fewer layers or smaller maps"),
    (single(1, 1, 1, 1, 4100), "network: needs 1049664 bytes of program, not more than 1048576; legal: at most 1048576"),
], ids=["pixels", "width", "channels", "memory", "program"])
def test_too_large_networks_are_refused(network: Network, message: str) -> None:
    """What the limits of the arithmetic let through and no field or address holds is refused in one line."""
    if len(network.layers[0].bias) < 65536:
        check(network, LOAS)
    with pytest.raises(ParameterError, match=f"^{message}"):
        build_image(network, LOAS)


@pytest.mark.parametrize(("bits", "log2"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (9, 4), (16, 4)])
def test_word_log2(bits: int, log2: int) -> None:
    """A word is stored in the next power of two."""
    assert word_log2(bits) == log2


def test_a_build_limits_a_layer() -> None:
    """Chunks of a row beyond the build's are refused with the limit."""
    small = replace(LOAS, max_chunks=2)
    spec = Input(kind="static", channels=1, height=4, width=4, bits=1, scale=1.0, plane_bits=1)
    passes = tuple(Pass(source=name, weight=np.ones((1, 1, 2, 2), np.int8), planes=planes)
                   for name, planes in input_planes(spec, 1))
    layer = Layer(name="wide", passes=passes, bias=np.zeros(1, np.int64), readout=True)
    network = Network(name="wide", steps=1, input=spec, layers=(layer,))
    with pytest.raises(ParameterError, match="layer wide: needs 4 row chunks, not more than 2; legal: at most 2 on this"):
        build_image(network, small)
    assert build_image(network, LOAS).plans[0].chunks == 4
