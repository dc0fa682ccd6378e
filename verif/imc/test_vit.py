"""A vision transformer in integers: operations are functions of their operands, crossbars are exact, reuse writes nothing."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from golden.arch import ParameterError
from golden.imc.arch import IMC_PRESETS
from golden.imc.kv_write import WriteMemory, kv_writes
from golden.imc.macro import Adc, Effects
from golden.imc.reuse_buffer import MODES
from golden.imc.run import Setting
from golden.imc.vit import Trace, Vit, patches, replayed, run
from golden.imc.vit_crossbars import Tiles, VitCrossbars, sram
from golden.imc.vit_lower import exponentials, factor, gelu_table, lower
from models.vit import VitSize
from verif.imc.vit_networks import SMALL, random_vit

FEFET = IMC_PRESETS["trex-fefet"]
SRAM = sram(FEFET)
IDEAL = Effects()


def hybrid(network: Vit, static: Effects = IDEAL, dynamic: Effects = IDEAL) -> VitCrossbars:
    """Return macros of FeFET and SRAM with codes that lose nothing."""
    fefet, sram_tiles = (
        Tiles(arch=p, setting=Setting(scheme=p.scheme, adc=Adc(bits=p.lossless_bits, lossless=True), effects=effects))
        for p, effects in ((FEFET, static), (SRAM, dynamic)))
    return VitCrossbars(network, fefet, sram_tiles)


def equal(one: Any, other: Any) -> bool:
    """Return whether two results hold the same numbers."""
    if hasattr(one, "__dataclass_fields__"):
        return all(equal(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__)
    if isinstance(one, tuple):
        return all(equal(*pair) for pair in zip(one, other, strict=True))
    return bool(np.array_equal(one, other))


@pytest.mark.parametrize("variant", MODES)
def test_operations_are_functions(variant: str, seed: int) -> None:
    """Every operation gives its result again; encoders that reuse have no attention, the other ones have all of it."""
    net, images = random_vit(seed, (2, 4), variant)
    trace = run(lower(net), images)
    assert all(equal(replayed(op), op.result) for op in trace.operations)
    names = [op.name for op in trace.operations]
    assert len(names) == len({*names}) and trace.logits.shape == (2, 10)
    for encoder in range(1, 5):
        kinds = [op.kind for op in trace.operations if op.encoder == encoder]
        assert ("softmax" in kinds) == ("write" in kinds) == (encoder in (1, 3)), encoder
        assert kinds.count("residual_add") == (1 if variant == "skip" and encoder in (2, 4) else 2)
    tables = sum(op.name.endswith(".tact") for op in trace.operations)
    assert tables == (2 if variant == "activation" else 0)


def test_a_changed_operand_is_seen(seed: int) -> None:
    """An operation with another operand has another result, so a comparison of results is one."""
    net, images = random_vit(seed, (2, 4))
    trace = run(lower(net), images)
    for kind in ("crossbar", "scale", "norm", "lookup", "residual_add"):
        op = trace.of(kind)[-1]
        name = "a" if kind == "residual_add" else "x"
        changed = replace(op, operands={**op.operands, name: op.operands[name][..., ::-1]})
        assert not equal(replayed(changed), op.result), kind


@pytest.mark.parametrize("size", [SMALL, VitSize(side=6, dim=96, heads=1, depth=2)], ids=["small", "several row blocks"])
def test_ideal_crossbars_are_exact(size: VitSize, seed: int) -> None:
    """Static FeFET and dynamic SRAM crossbars give all sums of integer products, so every result is equal."""
    net, images = random_vit(seed, (2,), size=size)
    network = lower(net)
    ideal, analog = run(network, images), run(network, images, hybrid(network))
    assert [op.name for op in ideal.operations] == [op.name for op in analog.operations]
    assert all(equal(a.result, b.result) for a, b in zip(ideal.operations, analog.operations, strict=True))


@pytest.mark.parametrize(("static", "dynamic"), [(Effects(proportional=0.2), IDEAL), (IDEAL, Effects(offset=2))],
                         ids=["weights vary", "converters of K and V are off"])
def test_effects_change_sums(static: Effects, dynamic: Effects, seed: int) -> None:
    """What is not ideal reaches the sums, of static crossbars alone or of dynamic ones first."""
    net, images = random_vit(seed)
    network = lower(net)
    ideal, analog = run(network, images), run(network, images, hybrid(network, static, dynamic))
    first = next(b.name for a, b in zip(ideal.operations, analog.operations, strict=True)
                 if b.kind == "crossbar" and not equal(a.result, b.result))
    assert first == ("embed" if dynamic == IDEAL else "encoders.1.scores.0")


def test_noise_is_of_an_image(seed: int) -> None:
    """An image has the same noise alone as among others: draws are keyed by its number."""
    net, images = random_vit(seed, (2, 4))
    network = lower(net)
    effects = Effects(seed=seed, read_noise=0.5)
    both = run(network, images, hybrid(network, effects, effects))
    alone = hybrid(network, effects, effects)
    alone.first_image = 1
    assert np.array_equal(run(network, images[1:], alone).logits, both.logits[1:])


def written(trace: Trace) -> dict[int, tuple[int, int]]:
    """Return (words, pulses) of each encoder for both images, in crossbars that are empty at first."""
    memory = WriteMemory(SRAM)
    done = [kv_writes(trace, memory, SMALL.depth, image) for image in range(2)]
    return {number: (sum(one[number].words for one in done), sum(one[number].pulses for one in done)) for number in done[0]}


def test_reuse_writes_nothing(seed: int) -> None:
    """K and V take words and pulses in encoders with attention, none at all in those that reuse."""
    net, images = random_vit(seed, (2, 4))
    words = 2 * 2 * SMALL.tokens * SMALL.dim
    for number, (count, pulses) in written(run(lower(net), images)).items():
        assert (count, pulses > 0) == ((words, True) if number in (1, 3) else (0, False))


def test_a_write_of_an_encoder_that_reuses_is_counted(seed: int) -> None:
    """The control: an encoder that computes attention though it reuses has writes, which the count shows."""
    net, images = random_vit(seed)
    network = lower(net)
    wrong = replace(network.encoders[1], reuse=replace(network.encoders[1].reuse, reuse=True, src=1))
    first = replace(network.encoders[0], reuse=replace(network.encoders[0].reuse, keep=True))
    trace = run(replace(network, encoders=(first, wrong, *network.encoders[2:])), images)
    assert written(trace)[2][0] > 0


def test_wrong_sources_are_refused(seed: int) -> None:
    """Encoder 1 has nothing to reuse; another source than the kept one is an error."""
    with pytest.raises(ParameterError, match=r"reuse must be encoders 2\.\.4; .*, not \[1\]"):
        random_vit(seed, (1,))
    net, images = random_vit(seed, (2, 4))
    with pytest.raises(ParameterError, match="encoder 2: source must be None, the one that is kept, not 3"):
        run(lower(replace(net, sources={2: 3, 4: 3})), images)


def test_patches() -> None:
    """Patches lie in raster order, and their pixels too."""
    found = patches(np.arange(16).reshape(1, 4, 4), 2)
    assert found.tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]]


def test_tables() -> None:
    """Hand-made entries: exponentials end at 0, GELU of -1, 0 and 1 and its saturation; factors keep 16 bits."""
    table = exponentials(1.0)
    assert table[:3].tolist() == [255, 94, 35] and table[-1] == 0
    gelu = gelu_table(1 / 64, 1 / 64)
    assert gelu[[0, 64, 192]].tolist() == [0, 54, -10] and gelu_table(1.0, 1 / 64)[127] == 127
    found = factor(np.asarray([0.5, 3.0, 1e-4]))
    assert found.mult.tolist() == [32768, 49152, 53687] and found.shift.tolist() == [16, 14, 29]
    with pytest.raises(ParameterError, match=r"scale: factor, not 7e\+04"):
        factor(7e4)
