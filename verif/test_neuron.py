"""The neuron step against SpikingJelly and snnTorch: no differing spike where float32 is exact (networks F4)."""

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from golden.network import Neuron
from golden.neuron import neuron
from golden.to_torch import spikingjelly_neuron

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


def exact(x: list[int], p: Neuron, threshold: int) -> list[int]:
    """Return the spikes of one neuron from the formula itself: rational membranes, nothing rounded."""
    keep = Fraction(1, 1 << p.leak_shift) if p.leak == "2^-k" else 1 - Fraction(1, 1 << p.leak_shift)
    v, spikes = Fraction(0), []
    for current in x:
        h = keep * (v + current) if p.decay_input else keep * v + current
        fire = h > threshold if p.compare == ">" else h >= threshold
        spikes.append(int(fire))
        v = (Fraction(0) if p.reset == "hard" else h - threshold) if fire else h
    return spikes


STRICT_SOFT = [("2^-k", k, decay_input) for k, decay_input in ((0, False), (0, True), (1, False), (1, True), (2, False))] + [
    ("1-2^-k", k, False) for k in (0, 1, 2, 3)]
RATIONAL_STEPS, RATIONAL_CELLS = 16, 7000


@pytest.mark.parametrize(("leak", "k", "decay_input"), STRICT_SOFT)
def test_strict_soft_is_exact(leak: str, k: int, decay_input: bool, seed: int) -> None:
    """``>`` with the plain soft reset, which no library has, spikes as exact rationals do; 10^6 neuron steps in all."""
    generator = torch.Generator().manual_seed(seed)
    thresholds = torch.randint(1, 9, (RATIONAL_CELLS,), generator=generator)
    x = torch.randint(-4, 10, (RATIONAL_STEPS, RATIONAL_CELLS), generator=generator)
    p = Neuron(threshold=thresholds, leak_shift=k, decay_input=decay_input, compare=">", reset="soft", leak=leak)
    got = neuron(x, p)
    expected = [exact(x[:, cell].tolist(), p, int(thresholds[cell])) for cell in range(RATIONAL_CELLS)]
    assert got.T.tolist() == expected
    assert got.any() and not got.all()
    assert len(STRICT_SOFT) * got.numel() >= 1_000_000


@pytest.mark.parametrize("wrong", [{"compare": ">="}, {"reset": "soft_delayed"}, {"reset": "hard"}, {"decay_input": True}])
def test_exact_reference_tells_variants_apart(wrong: dict[str, Any]) -> None:
    """Control: the rational reference of one variant differs from golden of its neighbours."""
    x = torch.randint(-4, 10, (8, 200), generator=torch.Generator().manual_seed(1))
    fields: dict[str, Any] = {"threshold": torch.full((200,), 4), "leak_shift": 1, "compare": ">", "reset": "soft"}
    expected = [exact(x[:, cell].tolist(), Neuron(**fields), 4) for cell in range(200)]
    assert neuron(x, Neuron(**fields)).T.tolist() == expected
    assert neuron(x, Neuron(**fields | wrong)).T.tolist() != expected


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
