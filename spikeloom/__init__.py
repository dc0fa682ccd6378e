"""Trained spiking networks, bit-exact on generated Verilog.

The functions of `HOMES` are public: ``spikeloom.capture(model, example, "net.safetensors")`` and so on. Each of them is
imported when it is first used, so ``generate``, ``lower`` and ``compile`` work where torch is not installed.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

HOMES = {
    "capture": ("golden.capture", "capture"),
    "lower": ("golden.lower", "lower"),
    "compile": ("spikeloom.program", "compile_workload"),
    "simulate": ("verif.simulate", "simulate"),
    "generate": ("hdl.generate", "generate"),
}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'spikeloom' has no attribute {name!r}")
    module, function = HOMES[name]
    return getattr(importlib.import_module(module), function)


def __dir__() -> list[str]:
    return sorted([*globals(), *HOMES])
