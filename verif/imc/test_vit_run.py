"""Vision transformers on the RTL: every result of every operation equals golden, for every kind of reuse."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Signal
from amaranth.lib import data

from golden.arch import ParameterError
from golden.imc.arch import IMC_PRESETS, Error, ImcArch
from golden.imc.devices import Cells
from golden.imc.kv_write import crossbar_jobs
from golden.imc.macro import build
from golden.imc.reuse_buffer import MODES
from golden.imc.vit import Vit
from golden.imc.vit_crossbars import VitCrossbars, layer_of
from golden.imc.vit_lower import lower
from hdl.imc import vit_program
from hdl.imc.layer import FIELDS
from hdl.imc.token_unit import TokenUnit
from hdl.imc.transformer_fields import LOAD, WORK, leaves
from models.vit import VitSize
from verif.imc.macro_shell import actions, macro_tables, told
from verif.imc.system import OPERATE, STORE, ImcSystem, Script
from verif.imc.vit_networks import random_vit
from verif.imc.vit_run import DEVICE, Ran, hybrid, program_of, run_vit

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


@pytest.mark.parametrize(("stuck", "error"), [(0.0, 0), (1.0, Error.CELLS), (None, Error.SILENT)])
def test_errors_of_commands(stuck: float | None, error: int, tmp_path: Path) -> None:
    """A store whose cells fail, or whose comparisons are not answered (None), ends with its error, and reuse of what is not
    there with another one; a wider word, and a wider number, are refused; the next operation runs.
    """
    net, _ = random_vit(0, (2,), "identity", size=SIZE)
    network, tiles = lower(net), hybrid(SMALL)
    crossbars = VitCrossbars(network, *tiles)
    steps = program_of(SMALL, network, crossbars, SIZE.side).steps
    store, add = (next(step for step in steps if step.name.endswith(name)) for name in ("1.k.0", "stream2"))
    assert store.load is not None and add.work is not None
    script, settings = Script(), DEVICE.settings(crossbars.dynamic.arch.cell_bits)
    script.writing(settings, SMALL.cell_bits)
    for bank in range(2):
        script.map(bank, 0, np.full(1024, (1 << SMALL.rows) - 1, np.uint32))
    for prefix, fields in (("LOAD", store.load), ("WORK", add.work)):
        for name, value in fields.items():
            script.write(f"{prefix}_{name.upper()}", value)
    if stuck is not None:
        script.macros(macro_tables(tmp_path / "macros", {}))
        script.actions(actions(tmp_path / "actions", ones(crossbars, stuck), SMALL.cols))
    ends = [script.start(STORE)]
    script.write("WORK_DIRECT", 0)
    script.write("WORK_REUSE_REUSE", 1)
    script.write("WORK_REUSE_MODE", 1)
    ends.append(script.start(OPERATE))
    script.write("WORK_TOKENS", 1 << 12)
    ends.append(script.start(OPERATE))
    script.write("WORK_REUSE_COUNT", SMALL.tokens * SMALL.features * 2)
    ends.append(script.start(STORE))
    script.numbers(2, [256])
    ends.append(script.start(OPERATE))
    script.write("WORK_DIRECT", 1)
    ends.append(script.start(OPERATE))
    result = ImcSystem(SMALL, optimise="-O0").run(script)
    assert [result.reads[code] for _, code, _ in ends] == [
        error, Error.REUSE, Error.SETTINGS, Error.SETTINGS, Error.PACKET, 0]
    assert result.failure is None


def ones(crossbars: VitCrossbars, stuck: float) -> Iterator[tuple[int, Any]]:
    """Yield the actions of a store of a tensor of -1, on cells of which a share conducts nothing."""
    p, settings = crossbars.dynamic.arch, DEVICE.settings(crossbars.dynamic.arch.cell_bits)
    entry = crossbars.written(layer_of("scores.0", np.full((4, 4), -1, np.int64), x_bits=8, x_signed=True), "scores.0")
    for r, row in enumerate(entry.macros):
        for c, macro in enumerate(row):
            empty = build(p, macro.adc, np.zeros((p.rows, p.cols), np.int64), tile=macro.tile)
            cells = Cells(empty, DEVICE.response, np.full((p.rows, p.cols), bool(stuck)))
            for job in crossbar_jobs(p, entry.mapped, r, c):
                yield macro.tile, told(cells, settings, job)[0]


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


def test_steps_set_every_field() -> None:
    """Layers, operations and writes set all their registers, whatever ran before."""
    net, _ = random_vit(0, (2,), "activation", size=SIZE)
    network, tiles = lower(net), hybrid(SMALL)
    program = program_of(SMALL, network, VitCrossbars(network, *tiles), SIZE.side)
    wanted = {"layer": FIELDS, "work": WORK, "load": LOAD}
    found = [(kind, set(part.fields if kind == "layer" else part)) for step in program.steps for kind in wanted
             if (part := getattr(step, kind)) is not None]
    assert {kind for kind, _ in found} == {*wanted}
    assert all(names == {field.name for field in wanted[kind]} for kind, names in found)
    view = data.View(TokenUnit.work_layout(SMALL), Signal(TokenUnit.work_layout(SMALL)))
    assert [*leaves(view)] == [field.name for field in WORK]


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
