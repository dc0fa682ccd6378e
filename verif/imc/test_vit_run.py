"""Vision transformers on the RTL: every result of every operation equals golden, for every kind of reuse."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from golden.arch import ParameterError
from golden.imc.arch import IMC_PRESETS, ImcArch
from golden.imc.reuse_buffer import MODES
from golden.imc.vit import Vit
from golden.imc.vit_lower import lower
from hdl.imc import vit_program
from models.vit import VitSize
from verif.imc.vit_networks import random_vit
from verif.imc.vit_run import Ran, hybrid, run_vit

SMALL = dataclasses.replace(IMC_PRESETS["trex-fefet"], name="small", rows=16, cols=16, group_rows=16, mux=4, adc_bits=6,
                            tiles=2, crossbars=256, channels=64, map_words=4096, membranes=64, tokens=16, features=32)
TREES = dataclasses.replace(SMALL, name="trees", rows=8, group_rows=8, adc_bits=5, tiles=4, fan_in=2)
SIZE = VitSize(side=4, dim=8, heads=2, depth=3)
# More tokens, and more channels, than a crossbar of the trees has rows.
WIDE = VitSize(side=6, dim=16, heads=2, depth=1)


def ran(p: ImcArch, size: VitSize, reuse: tuple[int, ...], variant: str, seed: int, images: int = 1) -> tuple[Vit, Ran]:
    """Return a random network and what golden and the RTL made of random images."""
    net, pixels = random_vit(seed, reuse, variant, size=size, images=images)
    network = lower(net)
    return network, run_vit(p, network, pixels, *hybrid(p), optimise="-O0")


def checked(network: Vit, done: Ran, reuse: tuple[int, ...]) -> None:
    """Everything is equal; encoders with attention write K and V, the other ones pulse nothing."""
    steps = [step for image in done.compared for step in image]
    assert [(step.name, step.first) for step in steps if step.mismatches] == []
    assert np.array_equal(done.logits, np.concatenate([np.asarray(trace.logits) for trace in done.traces]))
    assert sum(step.numbers > 0 for step in steps) > 8 * len(network.encoders)
    for encoder in range(1, len(network.encoders) + 1):
        own = [step for step in steps if step.encoder == encoder]
        pulses, words = (sum(step.counters[name] for step in own) for name in ("pulses", "reads"))
        assert (pulses > 0, words > 0) == ((False, False) if encoder in reuse else (True, True)), encoder


@pytest.mark.parametrize("variant", MODES)
def test_every_reuse(variant: str, seed: int) -> None:
    """All variants of reuse, for two images one after the other, on two tiles; two encoders write the same crossbars."""
    network, done = ran(SMALL, SIZE, (2,), variant, seed, images=2)
    checked(network, done, (2,))


def test_trees(seed: int) -> None:
    """Row blocks of static and dynamic crossbars that meet in trees, more tokens than a crossbar has rows."""
    network, done = ran(TREES, WIDE, (), "skip", seed)
    checked(network, done, ())


def test_what_is_wrong_is_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A factor of the program that golden does not have is a mismatch, first where it counts."""
    real = vit_program.vit_program

    def broken(*given: Any, **options: Any) -> Any:
        made = real(*given, **options)
        steps = [dataclasses.replace(step, work={**step.work, "eps": 1 << 30}) if step.work and step.name.endswith("1.norm2")
                 else step for step in made.steps]
        return dataclasses.replace(made, steps=tuple(steps))

    monkeypatch.setattr("verif.imc.vit_run.vit_program", broken)
    _, done = ran(SMALL, SIZE, (2, 3), "identity", seed)
    assert next(step.name for step in done.compared[0] if step.mismatches) == "encoders.1.norm2"


@pytest.mark.parametrize(("change", "message"), [
    ({"tokens": 3}, "tokens must be 4 and more; this network has 4, not 3"),
    ({"features": 4}, "features must be 8 and more; this network has 8, not 4"),
    ({"map_words": 300}, "map_words must be "),
    ({"crossbars": 4}, "crossbars of a tile, not "),
])
def test_refusals(change: dict[str, Any], message: str) -> None:
    """A network that a core does not hold is refused in one line."""
    with pytest.raises(ParameterError) as error:
        ran(dataclasses.replace(SMALL, **change), SIZE, (), "skip", 0)
    assert message in str(error.value) and "\n" not in str(error.value)
