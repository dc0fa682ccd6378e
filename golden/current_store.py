"""Stored currents: bytes of a layer's currents, or of their sums over all steps."""

import numpy as np
from array_api_compat import array_namespace

from golden.formats import CURRENT_BYTES
from golden.network import Array


def stored_currents(currents: Array, readout: bool) -> bytes:
    """Return the region of stored currents ``[y][x][c][t]``, or of the read-out ``[y][x][c]``: little-endian int32."""
    xp = array_namespace(currents)
    ordered = xp.permute_dims(xp.sum(currents, axis=0), (1, 2, 0)) if readout else xp.permute_dims(currents, (2, 3, 1, 0))
    assert CURRENT_BYTES == 4
    return np.asarray(ordered).astype("<i4").tobytes()
