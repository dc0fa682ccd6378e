"""Blocks broken on purpose in their Amaranth source, for negative controls that survive a change of the Verilog."""

import inspect
import sys
from typing import Any

from hdl.block import Block


def mutant(cls: type[Block], old: str, new: str) -> Any:
    """Return ``cls`` with the text ``old``, which its file holds exactly once, replaced by ``new``."""
    text = inspect.getsource(sys.modules[cls.__module__])
    assert text.count(old) == 1, f"{cls.__module__}: {text.count(old)} times {old!r}, not 1"
    space: dict[str, Any] = {"__name__": f"{cls.__module__}_mutant"}
    exec(compile(text.replace(old, new), f"<mutant of {cls.__module__}>", "exec"), space)
    return space[cls.__name__]
