"""The golden macro at the ports of a tile: Python answers every strobe, and notes what breaks the contract."""

import dataclasses
import random
from typing import Any

import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge
from numpy.typing import NDArray

from golden.imc.arch import ImcArch, Mode
from golden.imc.devices import Cells
from golden.imc.macro import Macro
from golden.imc.writable_tile import written
from hdl.imc.tile import Tile
from verif.stream import cycle

Codes = NDArray[np.int64]


@dataclasses.dataclass
class PlayedMacro:
    """A crossbar per number, and what it saw.

    crossbars : golden macros, all of one build, which answer
    image : coordinate of all noise
    late : most cycles that comparators take beyond one
    cells : crossbars whose cells move, in place of those of ``crossbars``; the tile then has a port for the mode
    sampled : column values with their noise, by (crossbar, phase)
    compared : (crossbar, phase, column, conversion, code) of every comparison of a successive approximation
    """

    p: ImcArch
    crossbars: dict[int, Macro]
    image: int = 0
    late: int = 0
    cells: dict[int, Cells] = dataclasses.field(default_factory=dict)
    sampled: dict[tuple[int, int], Codes] = dataclasses.field(default_factory=dict)
    compared: list[tuple[int, int, int, int, int]] = dataclasses.field(default_factory=list)
    errors: list[str] = dataclasses.field(default_factory=list)

    async def serve(self, dut: Any) -> None:
        """Answer for ever; `cmp_rdy` is low and `cmp` random when nothing was asked."""
        p, rng = self.p, random.Random(1)
        values, place, column, n = np.zeros(p.cols, np.int64), (0, 0), -1, 0
        precharged, lines = False, 0
        while True:
            dut.cmp.value, dut.cmp_rdy.value = rng.getrandbits(p.adcs), 0
            await FallingEdge(dut.clk)
            if self.cells and (dut.wl_go.value or dut.pre.value or dut.cmp_en.value or dut.ref_on.value) and (
                    int(dut.mode.value) != Mode.COMPUTE):
                self.errors.append(f"cycle {cycle()}: computes in mode {int(dut.mode.value)}")
            precharged = (precharged or bool(dut.pre.value)) and not dut.sample.value
            if dut.wl_go.value and not lines and not (precharged or dut.sample.value):
                self.errors.append(f"cycle {cycle()}: rows are driven without a precharge")
            lines = int(dut.wl_go.value)
            if int(dut.wl_en.value).bit_count() > p.group_rows or (dut.wl_en.value and not lines):
                self.errors.append(f"cycle {cycle()}: rows {int(dut.wl_en.value):#x}")
            if dut.sample.value:
                place, column = self._place(dut), -1
                values = self._sample(dut, *place)
                self.sampled[place] = values
            if not dut.cmp_en.value:
                await RisingEdge(dut.clk)
                continue
            flash = int(self._settings(dut).flash)
            bits = int(self._settings(dut).adc_bits)
            if int(dut.col_sel.value) != column:
                column, n = int(dut.col_sel.value), -1
            cdac = int(dut.cdac.value)
            code = np.asarray([cdac >> p.adc_bits * g & (1 << p.adc_bits) - 1 for g in range(p.adcs)])
            n += flash or int(code[0]) == 1 << bits - 1
            columns = np.arange(p.adcs) * p.mux + column
            trim = np.asarray([int(dut.trim.value) >> p.trim_bits * g & (1 << p.trim_bits) - 1 for g in range(p.adcs)])
            macro = self._macro(place[0])
            at: dict[str, Any] = {"image": self.image, "phase": place[1], "conversion": n, "trim": trim}
            if flash:
                outputs = macro.thermometer(values[columns], columns, **at)
                await RisingEdge(dut.clk)
                width = (1 << p.flash_bits) - 1
                dut.therm.value = sum(int(one) << g * width + j for (g, j), one in np.ndenumerate(outputs))
                continue
            self.compared += [(*place, int(c), int(n), int(t)) for c, t in zip(columns, code, strict=True)]
            answers = macro.compare(values[columns], columns, code, **at)
            for _ in range(rng.randint(0, self.late)):
                await RisingEdge(dut.clk)
                await FallingEdge(dut.clk)
                if int(dut.cdac.value) != cdac:
                    self.errors.append(f"cycle {cycle()}: the code changed while the comparators work")
            await RisingEdge(dut.clk)
            dut.cmp.value, dut.cmp_rdy.value = sum(int(one) << g for g, one in enumerate(answers)), 1
            await RisingEdge(dut.clk)

    def _settings(self, dut: Any) -> Any:
        return Tile.settings_layout(self.p).from_bits(int(dut.settings.value))

    def _macro(self, crossbar: int) -> Macro:
        return written(self.cells[crossbar]) if crossbar in self.cells else self.crossbars[crossbar]

    def _place(self, dut: Any) -> tuple[int, int]:
        """Return (crossbar, phase) of the sample."""
        settings = self._settings(dut)
        key, bit, group = (int(getattr(dut, name).value) for name in ("key", "phase_bit", "phase_group"))
        if dut.ref_on.value:
            return 0, key
        return int(dut.crossbar.value), (key * int(settings.bits) + bit) * int(settings.groups) + group

    def _sample(self, dut: Any, crossbar: int, phase: int) -> Codes:
        """Return the column values that are sampled."""
        macro, column = self._macro(crossbar), np.arange(self.p.cols)
        if dut.ref_on.value:
            value = np.full(self.p.cols, int(dut.ref_level.value) * macro.step >> 1)
        else:
            lines = int(dut.wl_en.value)
            value = macro.columns(np.asarray([lines >> r & 1 for r in range(self.p.rows)]))
        return np.asarray(macro.sample(value, column, image=self.image, phase=phase))
