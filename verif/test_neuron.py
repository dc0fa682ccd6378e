"""The neuron step against SpikingJelly and snnTorch: no differing spike where float32 is exact (networks F4)."""

import pytest
import torch
from torch import Tensor

from golden.lower import spikingjelly_neuron
from golden.network import Neuron
from golden.neuron import neuron

CELLS = 256
STEPS = (4, 8, 10)
SPIKINGJELLY = [(k, decay_input, compare, reset) for k in (0, 1, 2) for decay_input in (False, True)
                for compare in (">=", ">") for reset in ("hard", "soft")
                if not (decay_input and k != 1) and not (compare == ">" and reset == "soft")]
SNNTORCH = [(k, mechanism, delay) for k in (0, 1, 2) for mechanism, delay in
            (("zero", True), ("zero", False), ("subtract", True))]
NEURON_STEPS = (len(SPIKINGJELLY) + len(SNNTORCH)) * sum(STEPS) * CELLS * 64 * 2


def currents(steps: int, seed: int) -> Tensor:
    """Return sums of random int8 weights over random spikes, int64 [T, 64, 2 * CELLS], in the exact range."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for fan_in, rate in ((9, 0.3), (64, 0.2)):
        weight = torch.randint(-127, 128, (64, fan_in), generator=generator)
        spikes = (torch.rand(steps, fan_in, CELLS, generator=generator) < rate).to(torch.int64)
        parts.append(torch.stack([weight @ step for step in spikes]))
    x = torch.cat(parts, 2)
    assert int(x.abs().max()) * 2 ** steps <= 2 ** 24
    return x


def parameters(threshold: int, k: int, compare: str, reset: str, decay_input: bool = False) -> Neuron:
    return Neuron(threshold=torch.full((64,), threshold), leak_shift=k, compare=compare, reset=reset,
                  decay_input=decay_input)


def test_at_least_ten_million_neuron_steps() -> None:
    assert NEURON_STEPS >= 10_000_000


@pytest.mark.parametrize(("k", "decay_input", "compare", "reset"), SPIKINGJELLY)
def test_spikingjelly(k: int, decay_input: bool, compare: str, reset: str) -> None:
    for steps in STEPS:
        p = parameters(64, k, compare, reset, decay_input)
        x = currents(steps, 10 * steps + k)
        node = spikingjelly_neuron(64.0, p)
        expected = torch.stack([node(step.float()) for step in x])
        assert expected.any()
        assert not expected.all()
        assert int((neuron(x, p) != expected).sum()) == 0


def leaky(x: Tensor, threshold: int, beta: float, mechanism: str, delay: bool) -> Tensor:
    import snntorch

    node = snntorch.Leaky(beta=beta, threshold=float(threshold), reset_mechanism=mechanism, reset_delay=delay)
    memory, out = node.reset_mem(), []
    for step in x:
        spike, memory = node(step.float(), memory)
        out.append(spike)
    return torch.stack(out)


@pytest.mark.parametrize(("k", "mechanism", "delay"), SNNTORCH)
def test_snntorch(k: int, mechanism: str, delay: bool) -> None:
    for steps in STEPS:
        x = currents(steps, 20 * steps + k)
        p = parameters(64, k, ">", "hard" if mechanism == "zero" else "soft_delayed")
        expected = leaky(x, 64, 2.0 ** -k, mechanism, delay)
        assert expected.any()
        assert not expected.all()
        assert int((neuron(x, p) != expected).sum()) == 0


@pytest.mark.parametrize("k", [1, 2, 3])
def test_slow_leak_is_exact(k: int) -> None:
    x = currents(4, k)
    p = Neuron(threshold=torch.full((64,), 64), leak_shift=k, compare=">", reset="hard", leak="1-2^-k")
    assert int((neuron(x, p) != leaky(x.double().float(), 64, 1 - 2.0 ** -k, "zero", True)).sum()) == 0


def small(seed: int) -> Tensor:
    return torch.randint(-4, 9, (8, 64, 500), generator=torch.Generator().manual_seed(seed))


def test_floor_under_strict_compare_is_caught() -> None:
    """Control: rounding down with ``>`` is wrong, and the comparison above sees it."""
    x = small(1)
    v, naive = torch.zeros_like(x[0]), []
    for step in x:
        h = (v >> 1) + step
        naive.append(h > 4)
        v = torch.where(h > 4, 0, h)
    expected = leaky(x, 4, 0.5, "zero", True)
    assert int((neuron(x, parameters(4, 1, ">", "hard")) != expected).sum()) == 0
    assert float((torch.stack(naive) != expected).float().mean()) > 0.01


def test_soft_is_not_soft_delayed() -> None:
    """Control: SpikingJelly's soft reset and snnTorch's differ, so one cannot stand for the other."""
    x = small(2)
    delayed, soft = (neuron(x, parameters(4, 1, ">", reset)) for reset in ("soft_delayed", "soft"))
    assert int((delayed != leaky(x, 4, 0.5, "subtract", True)).sum()) == 0
    assert float((delayed != soft).float().mean()) > 0.01


def test_no_reset_delay_differs() -> None:
    """Control: snnTorch's ``reset_delay=False`` under subtraction is none of ours, which is why lowering refuses it."""
    x = small(3)
    expected = leaky(x, 4, 0.5, "subtract", False)
    for reset in ("soft", "soft_delayed", "hard"):
        assert int((neuron(x, parameters(4, 1, ">", reset)) != expected).sum()) > 0
