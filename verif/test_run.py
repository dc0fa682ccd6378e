"""The integer network's runner against torch float64 convolutions, which are exact on these integers."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from golden.network import (
    Input,
    Layer,
    Network,
    Neuron,
    Pass,
    Plane,
    Pool,
    input_planes,
    input_words,
    map_arrays,
    spike_planes,
)
from golden.neuron import neuron
from golden.or_pool import or_pool
from golden.run import Trace, convolve, logits, mask, max_pool, pack, predict, run, unpack
from verif.chunks import WIDE
from verif.verify import Maker

ARCHS = {"2^-k": WIDE, "1-2^-k": replace(WIDE, leak="1-2^-k", t_max=8, name="slow")}
NETWORKS = 16


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weights(n: int, c: int, kh: int, kw: int, seed: int) -> Tensor:
    g = generator(seed)
    weight = torch.randint(-127, 128, (n, c, kh, kw), generator=g)
    return (weight * (torch.rand(weight.shape, generator=g) < 0.5)).to(torch.int8)


@pytest.mark.parametrize(("kernel", "stride", "padding", "steps"),
                         [((1, 1), 1, 0, 1), ((3, 3), 1, 1, 4), ((5, 4), 2, 2, 3), ((2, 3), 3, 0, 16),
                          ((3, 3), 2, 1, 7)])
def test_convolve_spikes(kernel: tuple[int, int], stride: int, padding: int, steps: int) -> None:
    words = torch.randint(0, 1 << steps, (5, 9, 7), generator=generator(steps))
    words[torch.rand(words.shape, generator=generator(1)) < 0.4] = 0
    weight = weights(6, 5, *kernel, seed=2)
    sums, matches = convolve(words, Pass(source="a", weight=weight, stride=stride, padding=padding,
                                         planes=spike_planes(steps)), steps)
    expected = F.conv2d(unpack(words, steps).double(), weight.double(), None, stride, padding)
    assert torch.equal(sums.double(), expected)
    counted = F.conv2d((words != 0).double()[None], (weight != 0).double(), None, stride, padding).sum()
    assert matches == int(counted)


@pytest.mark.parametrize("bits", [2, 4, 8, 11])
def test_static_input_is_one_convolution(bits: int) -> None:
    spec = Input(kind="static", channels=3, height=6, width=5, bits=bits, scale=1.0, plane_bits=4)
    x = torch.randint(-(1 << (bits - 1)), 1 << (bits - 1), (3, 6, 5), generator=generator(bits))
    weight = weights(4, 3, 3, 3, seed=bits)
    words = input_words(x, spec, 3)
    total = sum(convolve(words[source], Pass(source=source, weight=weight, padding=1, planes=planes), 3)[0]
                for source, planes in input_planes(spec, 3))
    expected = F.conv2d(x.double()[None], weight.double(), None, 1, 1).expand(3, -1, -1, -1)
    assert isinstance(total, Tensor)
    assert torch.equal(total.double(), expected)


@pytest.mark.parametrize("bits", [1, 5])
def test_stepwise_input(bits: int) -> None:
    steps = 4
    spec = Input(kind="steps", channels=2, height=4, width=4, bits=bits, scale=1.0, plane_bits=4)
    low, high = (0, 2) if bits == 1 else (-16, 16)
    x = torch.randint(low, high, (steps, 2, 4, 4), generator=generator(bits))
    weight = weights(3, 2, 3, 3, seed=bits)
    words = input_words(x, spec, steps)
    total = sum(convolve(words[source], Pass(source=source, weight=weight, planes=planes), steps)[0]
                for source, planes in input_planes(spec, steps))
    assert isinstance(total, Tensor)
    assert torch.equal(total.double(), F.conv2d(x.double(), weight.double()))


def test_pools() -> None:
    words = torch.randint(0, 16, (3, 7, 6), generator=generator(0))
    currents = torch.randint(-50, 0, (4, 3, 7, 6), generator=generator(1))
    for pool in (Pool(kernel=2, stride=2), Pool(kernel=3, stride=2, padding=1), Pool(kernel=3, stride=1)):
        window = (pool.kernel, pool.stride, pool.padding)
        expected = F.max_pool2d(unpack(words, 4).double(), *window)
        assert torch.equal(unpack(or_pool(words, pool), 4).double(), expected)
        assert torch.equal(max_pool(currents, pool).double(), F.max_pool2d(currents.double(), *window))


def test_mask_and_pack() -> None:
    words = torch.arange(16).reshape(16, 1, 1)
    assert torch.equal(pack(unpack(words, 4)), words)
    assert mask(words, 2, 4).flatten().tolist() == [0, 0, 0, 3, 0, 5, 6, 7, 0, 9, 10, 11, 12, 13, 14, 15]


def network(residual: bool = True) -> Network:
    spec = Input(kind="static", channels=2, height=6, width=6, bits=8, scale=1.0, plane_bits=4)
    first = tuple(Pass(source=source, weight=weights(4, 2, 3, 3, 1), padding=1, planes=planes)
                  for source, planes in input_planes(spec, 4))
    lif = Neuron(threshold=torch.tensor([500, 900, 300, 700]), leak_shift=1, decay_input=True)
    second = Pass(source="a", weight=weights(4, 4, 1, 1, 2), planes=tuple(Plane(steps=(t,), shift=2) for t in range(4)))
    return Network(name="net", steps=4, input=spec, layers=(
        Layer(name="a", passes=first, bias=torch.tensor([5, -7, 0, 100]), store_currents=True, neuron=lif),
        Layer(name="b", passes=(second,), bias=torch.zeros(4, dtype=torch.int64), neuron=lif, min_spikes=2,
              residual="a" if residual else None, or_pool=Pool(kernel=2, stride=2)),
        Layer(name="c", passes=(Pass(source="b", weight=weights(3, 4, 3, 3, 3), planes=spike_planes(4)),),
              bias=torch.tensor([1, 2, 3]), readout=True)))


def test_tail_order() -> None:
    x = torch.randint(-128, 128, (2, 6, 6), generator=generator(9))
    net = network()
    trace = run(net, input_words(x, net.input, 4))
    a, b, c = (trace.layers[name] for name in "abc")
    dense = F.conv2d(x.double()[None], net.layers[0].passes[0].weight.double(), None, 1, 1)[0]
    bias = net.layers[0].bias[:, None, None]
    assert torch.equal(a.currents, (dense.long() + bias).expand(4, -1, -1, -1))
    assert net.layers[0].neuron is not None
    assert a.words is not None
    assert b.words is not None
    assert torch.equal(unpack(a.words, 4), neuron(a.currents, net.layers[0].neuron))
    sums = 4 * F.conv2d(unpack(a.words, 4).double(), net.layers[1].passes[0].weight.double()).long()
    assert torch.equal(b.sums, sums)
    assert torch.equal(b.currents, sums + a.currents)
    assert b.output is not None
    assert torch.equal(b.output, or_pool(mask(b.words, 2, 4), Pool(kernel=2, stride=2)))
    assert c.words is None
    assert c.output is None
    assert c.readout is not None
    assert torch.equal(c.readout, c.currents.sum(0))
    assert c.readout.shape == (3, 1, 1)
    assert logits(trace).tolist() == c.readout.flatten().tolist()


def test_a_missing_residual_is_seen() -> None:
    """Control: the comparison of `test_tail_order` depends on the residual."""
    x = torch.randint(-128, 128, (2, 6, 6), generator=generator(9))
    with_it, without = (run(network(r), input_words(x, network().input, 4)).layers["b"].currents for r in (True, False))
    assert not torch.equal(with_it, without)


def test_ties_go_to_the_lowest_class() -> None:
    net = network()
    trace = run(net, {name: torch.zeros_like(w) for name, w in
                      input_words(torch.zeros(2, 6, 6, dtype=torch.int64), net.input, 4).items()})
    tied = trace.layers["c"].readout
    assert tied is not None
    tied[:] = torch.tensor([4, 9, 9])[:, None, None]
    assert predict(trace) == 1


def differences(a: Trace, b: Trace) -> list[str]:
    """Return ``layer.field`` of every field that differs in value, type of element or shape."""
    assert a.layers.keys() == b.layers.keys()
    found = []
    for name, layer in a.layers.items():
        for field in fields(layer):
            one, other = (np.asarray(getattr(trace.layers[name], field.name)) for trace in (a, b))
            if one.dtype != other.dtype or not np.array_equal(one, other):
                found.append(f"{name}.{field.name}")
    return found


def kinds(trace: Trace) -> set[type[Any]]:
    """Return the types of all arrays of a trace."""
    values = [getattr(layer, field.name) for layer in trace.layers.values() for field in fields(layer)]
    return {type(value) for value in values if value is not None and not isinstance(value, int)}


@pytest.mark.parametrize("leak", ARCHS)
def test_numpy_and_torch_are_equal(leak: str) -> None:
    """Both kinds give the same traces, whichever kind the network holds; a changed threshold or weight is seen."""
    seen: set[Any] = set()
    noticed = 0
    for seed in range(NETWORKS):
        maker = Maker(ARCHS[leak], seed)
        net = maker.network(f"random-{seed}")
        x = maker.image(net.input, net.steps)
        reference = run(net, input_words(x, net.input, net.steps))
        words = input_words(x.numpy(), net.input, net.steps)
        trace = run(net, words)
        assert kinds(reference) == {Tensor} and kinds(trace) == {np.ndarray}
        assert differences(reference, trace) == []
        assert differences(reference, run(map_arrays(net, np.asarray), words)) == []
        for layer in net.layers:
            seen |= {"residual" if layer.residual else "", "max-pool" if layer.max_pool else "",
                     "or-pool" if layer.or_pool else ""}
            if layer.neuron is not None:
                n = layer.neuron
                seen |= {(n.leak_shift, n.decay_input), n.compare, n.reset}
        noticed += bool(differences(reference, run(map_arrays(net, lambda array: array - 1), words)))
    shifts = {(k, d) for k in (0, 1) for d in (False, True)} | {(2, False)}
    assert seen >= (shifts if leak == "2^-k" else {(k, False) for k in range(4)})
    assert seen >= {"residual", "max-pool", "or-pool", ">", ">=", "hard", "soft", "soft_delayed"}
    assert noticed == NETWORKS


def test_kinds_do_not_mix() -> None:
    """A function that is given both kinds refuses, so a copy from one to the other is never silent."""
    p = Neuron(threshold=np.array([3]), leak_shift=0)
    with pytest.raises(TypeError, match="Multiple namespaces"):
        neuron(torch.zeros(2, 1, 1, dtype=torch.int64), p)
