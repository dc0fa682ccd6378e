"""Run-time settings of a tile, from how weights lie in its cells and how vectors are run."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from golden.imc.arch import ImcArch


@dataclass(frozen=True, kw_only=True)
class Times:
    """Cycles that the macro needs; 0 counts as 1.

    t_pre, t_settle, t_guard : precharge, rows driven until columns are sampled, rest behind the conversions of a phase
    t_mux, t_dac, t_flash : a column is selected, a trial code settles, a thermometer is read
    hold : sampled columns are good for so long; 0: for ever
    """

    t_pre: int = 1
    t_settle: int = 2
    t_guard: int = 1
    t_mux: int = 1
    t_dac: int = 1
    t_flash: int = 1
    hold: int = 0


def tile_settings(p: ImcArch, scheme: str, *, bits: int = 1, signed: bool = False, skip: bool = False, flash: bool = False,
                  adc_bits: int, average_log2: int = 0, outputs: int | None = None, gain: bool = False,
                  times: Times = Times()) -> dict[str, Any]:
    """Return the fields of `hdl.imc.tile.Tile.settings_layout` but those of the calibrator.

    outputs : that are given of each vector; None: all that the tile has
    """
    places = p.places(scheme)
    return {
        **dataclasses.asdict(times), "bits": bits, "group_log2": p.group_rows.bit_length() - 1,
        "groups": p.rows // p.group_rows, "skip": skip, "flash": flash, "adc_bits": adc_bits, "average_log2": average_log2,
        "width_log2": len(places).bit_length() - 1, "is_signed": signed, "popcount": scheme == "offset",
        "dummy": scheme == "dummy", "outputs": p.outputs(scheme) if outputs is None else outputs, "use_gain": gain,
        "places": {k: {"shift": place.shift, "negate": place.negate, "used": 1} for k, place in enumerate(places) if place},
    }
