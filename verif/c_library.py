"""Compile C for a test as a user's strictest compiler would, into a library that a simulator carries."""

import ctypes
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from verif import sim

LANGUAGES = {"c": ("-x", "c", "-std=c99"), "c++": ("-x", "c++", "-std=c++17")}
FLAGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-O1"]


def c_blocks(page: Path) -> list[str]:
    """Return the C blocks of a page."""
    return re.findall(r"^```c\n(.*?)^```", page.read_text(), re.M | re.S)


def compiled(source: Path, include: Path, work: Path, language: str = "c") -> Path:
    """Compile one C file without a warning into ``work`` and return the object."""
    out = work / f"{source.stem}.o"
    done = subprocess.run([sim.compiler(), *FLAGS, *LANGUAGES[language], "-fPIC", "-I", str(include), "-c", "-o", str(out),
                           str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def library(sources: Sequence[Path], include: Path, work: Path, language: str = "c") -> Path:
    """Compile C files without a warning, and link them into a library in ``work``."""
    out = work / "driver.so"
    subprocess.run([sim.compiler(), "-shared", "-o", str(out), *(
        str(compiled(source, include, work, language)) for source in sources)], check=True)
    return out


def encoded(shared: Path, values: NDArray[np.int64], size: int) -> bytes:
    """Return the input block of so many bytes that ``encode`` of a library makes of quantised values."""
    block = (ctypes.c_uint8 * size)(*[255] * size)
    flat = values.flatten().tolist()
    ctypes.CDLL(str(shared)).encode((ctypes.c_int32 * len(flat))(*flat), block)
    return bytes(block)
