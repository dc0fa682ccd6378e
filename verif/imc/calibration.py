"""What a core of tiles calibrates before it runs: golden finds the numbers, a script lets the core find them too."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from golden.arch import ParameterError
from golden.imc.arch import ImcArch
from golden.imc.calibrator import Calibrated, gains, offsets, trims
from golden.imc.correction import Correction
from golden.imc.macro import Effects, Macro, build
from golden.imc.run import Placed, Setting
from hdl.imc.host_port import Target
from hdl.imc.layer import machine_layout
from hdl.imc.program import LayerProgram
from verif.imc.macro_shell import values
from verif.imc.setting import LOG2, way_fields, widest
from verif.imc.system import CALIBRATE, DONE, Result, Script
from verif.system import SystemFailure

Numbers = NDArray[np.int64]
# The kind of the numbers that columns ought to give, in packets.
WANTED = 3
# Largest limit that its register holds.
LARGEST = (1 << machine_layout()["limit"].width) - 1


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """One command of the core, and what golden finds in its place.

    crossbar : the one whose columns are measured for gains, else 0, which stands for the reference of a tile
    macros : by tile, its crossbar there
    wanted : by tile, codes int64 [cols] that its columns ought to give
    found : by tile
    """

    way: str
    pedestal: int
    limit: int
    crossbar: int
    macros: dict[int, Macro]
    wanted: dict[int, Numbers]
    found: dict[int, Calibrated]

    @property
    def failed(self) -> list[int]:
        """Tiles that have a number beyond the limit."""
        return [tile for tile, found in self.found.items() if bool(np.asarray(found.failed).any())]


def free_crossbar(p: ImcArch, placed: Sequence[Placed]) -> int:
    """Return the first crossbar of every tile behind the layers of a network."""
    return sum(entry.crossbars(p) for entry in placed)


def calibrate(p: ImcArch, setting: Setting, ways: Sequence[str], free: int) -> tuple[Setting, list[Calibration]]:
    """Return a setting with what the calibrations find one after the other, in torch, and those.

    Offsets and trim codes are found on a pedestal in the middle of the codes, by the widest limit. Gains undo drift: they are
    what `reference` gave when it was written over what it gives now, so that every tile needs one crossbar for it.

    free : crossbar of every tile for the reference
    Raises ParameterError where a build has no crossbar left for it.
    """
    done: list[Calibration] = []
    trim: dict[int, Numbers] = {}
    correction = dict.fromkeys(range(p.tiles), Correction())
    for way in ways:
        done.append(_gains(p, setting, trim, correction, free) if way == "gains" else _levels(p, setting, way, trim))
        for tile, one in done[-1].found.items():
            if way == "trims":
                trim[tile] = one.numbers
            else:
                correction[tile] = replace(correction[tile], **{way.removesuffix("s"): one.numbers})
    if not ways:
        return setting, done
    return replace(setting, trims={tile: torch.from_numpy(codes) for tile, codes in trim.items()}, corrections={
        tile: Correction(**{name: torch.from_numpy(numbers) for name, numbers in vars(one).items() if numbers is not None})
        for tile, one in correction.items()}), done


def _levels(p: ImcArch, setting: Setting, way: str, trim: dict[int, Numbers]) -> Calibration:
    """Return offsets or trim codes of every tile's ADCs."""
    empty = np.zeros((p.rows, p.cols), np.int64)
    macros = {tile: build(p, setting.adc, empty, setting.effects, tile=tile) for tile in range(p.tiles)}
    pedestal, limit = widest(p, setting.adc)
    found = {tile: trims(macro, pedestal=pedestal, log2=LOG2, limit=limit) if way == "trims" else
             offsets(macro, pedestal=pedestal, log2=LOG2, limit=limit, trim=trim.get(tile))
             for tile, macro in macros.items()}
    return Calibration(way=way, pedestal=pedestal, limit=limit, crossbar=0, macros=macros, wanted={}, found=found)


def reference(p: ImcArch, setting: Setting, effects: Effects, tile: int, crossbar: int) -> Macro:
    """Return the crossbar of a tile on which gains are measured: as many rows of full cells as the codes hold."""
    most = (1 << p.cell_bits) - 1
    rows = max(1, (setting.adc.full_scale or p.group_levels) // most)
    levels = np.where(np.arange(p.rows)[:, None] < rows, most, 0) * np.ones(p.cols, np.int64)
    return build(p, setting.adc, levels, effects, tile=crossbar * p.tiles + tile, bank=tile)


def _driven(p: ImcArch) -> Numbers:
    """Return the word lines int64 [rows] of a measurement: the first group."""
    return (np.arange(p.rows) < p.group_rows).astype(np.int64)


def _gains(p: ImcArch, setting: Setting, trim: dict[int, Numbers], correction: dict[int, Correction],
           crossbar: int) -> Calibration:
    """Return gains of every tile's columns."""
    if crossbar >= p.crossbars:
        raise ParameterError(f"macro: crossbars of a tile, not all {p.crossbars} of {p.name}; legal: one that is free for "
                             f"calibrate=gains; try: crossbars = {crossbar + 1}")
    written = replace(setting.effects, drift_time=1, drift=0, drift_spread=0, read_noise=0, comparator_noise=0)
    limit, lines = min((1 << p.gain_bits) - 1, LARGEST), _driven(p)
    macros, wanted, found = dict[int, Macro](), dict[int, Numbers](), dict[int, Calibrated]()
    for tile in range(p.tiles):
        code, offset = trim.get(tile), correction[tile].offset
        macros[tile] = reference(p, setting, setting.effects, tile, crossbar)
        codes = reference(p, setting, written, tile, crossbar).convert(lines, trim=code)
        wanted[tile] = np.clip(codes - (0 if offset is None else np.repeat(offset, p.mux)), 0, (1 << p.adc_bits) - 1)
        found[tile] = gains(macros[tile], lines=lines, reference=wanted[tile], log2=LOG2, limit=limit, trim=code, offset=offset)
    return Calibration(way="gains", pedestal=0, limit=limit, crossbar=crossbar, macros=macros, wanted=wanted, found=found)


def refuse(calibrations: Sequence[Calibration]) -> None:
    """Raise ParameterError where a core would stop, as what it finds is beyond the limit."""
    for one in calibrations:
        if one.failed:
            raise ParameterError(f"macro: calibrate={one.way}, not on tile {one.failed[0]}; legal: gains below 2, of columns "
                                 "that give something; try: less drift")


def check(result: Result, ends: Sequence[tuple[int, int]]) -> None:
    """Raise `SystemFailure` unless the commands whose STATUS and ERROR are at ``ends`` ended well."""
    for status, error in ends:
        if result.reads[status] != DONE:
            raise SystemFailure(f"calibration: the core stopped with error {result.reads[error]}")


def tables(p: ImcArch, calibrations: Sequence[Calibration]) -> dict[int, Macro]:
    """Return the crossbars that calibrations use, by the numbers of `verif.imc.macro_shell`."""
    return {one.crossbar * p.tiles + tile: macro for one in calibrations for tile, macro in one.macros.items()}


def play(script: Script, p: ImcArch, one: Calibration, program: LayerProgram, path: Path) -> tuple[int, int]:
    """Let the core calibrate as ``one`` says, with the settings of a layer; return the places of STATUS and ERROR.

    path : of a file for what the columns give
    """
    script.load(program)
    for name, value in way_fields(one.way, one.pedestal, one.limit).items():
        script.write(f"MACHINE_{name.upper()}", value)
    if one.way == "gains":
        phases = np.arange(p.mux << LOG2)
        lines = np.broadcast_to(_driven(p), (len(phases), p.rows))
        script.context(1, 1)
        script.values(values(path, [(one.crossbar * p.tiles + tile, macro, phases, lines)
                                    for tile, macro in one.macros.items()]))
        script.write("LAYER_CROSSBAR", one.crossbar)
        for tile, codes in one.wanted.items():
            for adc in range(p.adcs):
                script.send(Target.TILE, tile | WANTED << 6 | adc << 8,
                            codes[adc * p.mux : (adc + 1) * p.mux].tolist())
    status, error, _ = script.start(CALIBRATE)
    return status, error
