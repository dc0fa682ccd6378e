"""The build for which networks are lowered that run on a core of tiles."""

import dataclasses

from golden.arch import PRESETS, Arch, ParameterError
from golden.imc.arch import ImcArch

# Bits of a weight that lowering has, the most first.
WEIGHT_BITS = (8, 4)


def lowering_arch(p: ImcArch) -> Arch:
    """Return the build for which networks are lowered: weights and widths of a core of tiles.

    Raises ParameterError for weights that lowering does not make.
    """
    bits = next((bits for bits in WEIGHT_BITS if bits <= p.weight_bits), None)
    if bits is None:
        raise ParameterError(f"preset: weight_bits of {p.name}, not {p.weight_bits}; legal: {min(WEIGHT_BITS)} and more, for "
                             f"networks that are lowered; try: weight_bits = {min(WEIGHT_BITS)}")
    return dataclasses.replace(PRESETS["loas"], name=p.name, weight_bits=bits, t_max=p.t_max, stream_bits=p.stream_bits,
                               buffer_bytes=1 << 30, acc_bits=p.stream_bits, membrane_bits=p.membrane_bits)
