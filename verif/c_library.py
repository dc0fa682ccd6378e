"""Compile C for a test as a user's strictest compiler would, into a library that a simulator carries."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

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
