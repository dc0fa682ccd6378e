"""``make setup``: which environment it makes, which torch it keeps or takes, and what it refuses.

The recipe runs as it is, with a Python that writes down how it is called; what the recipe asks it about versions is
answered by the real interpreter.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from spikeloom import tools
from verif.test_tree import ROOMS, ROOT, python_files

INDEX = "https://example.org/cpu"
FAKE = '''#!{python}
import json, os, pathlib, shutil, subprocess, sys
me, args, home = pathlib.Path(sys.argv[0]), sys.argv[1:], pathlib.Path({home!r})
inside = me.parent.name == "bin"
with open(home / "calls", "a") as file:
    file.write(json.dumps(["venv" if inside else "base", *args]) + "\\n")
if args[0] == "-c":
    sites = [home / "venv-site"] * inside
    if not inside or (me.parent.parent / "site").exists():
        sites.append(home / "base-site")
    version = (me.parent.parent if inside else home) / "version"
    lines = "import sys; sys.version_info = " + (version.read_text() if version.exists() else "(3, 11, 7)")
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, sites))
    sys.exit(subprocess.run([sys.executable, "-S", "-c", lines + "; " + args[1]]).returncode)
if args[:2] == ["-m", "venv"]:
    folder = pathlib.Path(args[-1]) / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(me, folder / "python")
    if (home / "no-ensurepip").exists():
        sys.exit(1)
    shutil.copy(me, folder / "pip")
    if "--system-site-packages" in args:
        (folder.parent / "site").touch()
if "--index-url" in args and (home / "real").exists():
    sys.exit(subprocess.run([sys.executable, *args, "--target", home / "real"]).returncode)
'''


@dataclass(frozen=True)
class Checkout:
    """A copy of what `make setup` reads, and the Python that it is given."""

    folder: Path

    def torch(self, site: str, version: str) -> None:
        """Let ``base-site`` or ``venv-site`` have a torch."""
        (self.folder / site).mkdir()
        (self.folder / site / "torch.py").write_text(f"__version__ = {version!r}\n")

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``make setup``."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "PIP_"))}
        environ["PIP_CONFIG_FILE"] = os.devnull
        return subprocess.run(["make", "setup", f"PYTHON={self.folder / 'python'}", *arguments], cwd=self.folder,
                              env=environ, capture_output=True, text=True)

    @property
    def calls(self) -> list[list[str]]:
        """Every call of Python but the questions it was asked."""
        lines = map(json.loads, (self.folder / "calls").read_text().splitlines())
        return [line for line in lines if line[1] != "-c"]

    @property
    def pips(self) -> list[list[str]]:
        """Arguments of every ``pip install``, without those that are always there."""
        always = ["venv", "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        installs = [call for call in self.calls if "pip" in call]
        assert all(call[:len(always)] == always for call in installs)
        return [call[len(always):] for call in installs]

    @property
    def constraints(self) -> list[str]:
        """Lines of the constraints that the environment is made with."""
        return (self.folder / ".venv" / "constraints.txt").read_text().splitlines()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Return a checkout whose Python is 3.11 and has no torch."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "python").write_text(FAKE.format(python=sys.executable, home=str(tmp_path)))
    (tmp_path / "python").chmod(0o755)
    return Checkout(tmp_path)


REST = [["-c", ".venv/constraints.txt", "-e", ".[torch,sim,synth,plots,dev]"],
        ["-c", ".venv/constraints.txt", "--no-deps", "spikingjelly"]]
ALL = (ROOT / "constraints.txt").read_text().splitlines()
PINNED = next(line for line in ALL if line.startswith("torch=="))


def kept(version: str) -> list[str]:
    """Return the constraints of an environment that keeps a torch."""
    return [f"torch=={version}" if line == PINNED else line for line in ALL if not re.match("sympy|mpmath", line)]


def test_no_torch(checkout: Checkout) -> None:
    """Without a torch the pinned one comes with the rest; a second run does nothing."""
    done = checkout.make()
    assert done.returncode == 0, done.stderr
    assert checkout.calls[0] == ["base", "-m", "venv", ".venv"]
    assert checkout.pips == REST and checkout.constraints == ALL
    assert "keeping" not in done.stdout
    before = len(checkout.calls)
    assert checkout.make().returncode == 0 and len(checkout.calls) == before


def test_torch_index(checkout: Checkout) -> None:
    """TORCH_INDEX gives torch alone, at the pinned version; its dependencies come from the usual index."""
    assert checkout.make(f"TORCH_INDEX={INDEX}").returncode == 0
    assert checkout.pips == [["-c", "constraints.txt", "--index-url", INDEX, "--no-deps", "torch"], *REST]
    assert checkout.constraints == ALL


@pytest.mark.parametrize("index", [(), (f"TORCH_INDEX={INDEX}",)])
def test_torch_of_the_base_is_kept(checkout: Checkout, index: tuple[str, ...]) -> None:
    """The environment sees the packages of a Python that has torch; nothing asks for another torch."""
    checkout.torch("base-site", "2.6.0+cu124")
    done = checkout.make(*index)
    assert done.returncode == 0 and "keeping torch 2.6.0+cu124" in done.stdout
    assert checkout.calls[0] == ["base", "-m", "venv", "--system-site-packages", ".venv"]
    assert checkout.pips == REST and checkout.constraints == kept("2.6.0+cu124")


@pytest.mark.parametrize("index", [(), (f"TORCH_INDEX={INDEX}",)])
def test_torch_of_the_environment_is_kept(checkout: Checkout, index: tuple[str, ...]) -> None:
    """An environment that has torch keeps it, and is not made anew."""
    assert checkout.make().returncode == 0
    (checkout.folder / ".venv" / ".spikeloom").unlink()
    (checkout.folder / "calls").unlink()
    checkout.torch("venv-site", "2.12.1")
    assert "keeping torch 2.12.1" in checkout.make(*index).stdout
    assert checkout.pips == REST == [call[6:] for call in checkout.calls]
    assert checkout.constraints == kept("2.12.1")


@pytest.mark.parametrize("site", ["base-site", "venv-site"])
def test_old_torch_is_not_kept(checkout: Checkout, site: str) -> None:
    """A torch that is older than pyproject.toml allows is replaced in the environment."""
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["torch"][0]
    assert oldest == "torch>=2.6"
    checkout.torch(site, "2.5.1")
    assert checkout.make().returncode == 0
    assert checkout.calls[0] == ["base", "-m", "venv", ".venv"] and checkout.constraints == ALL


def test_old_python(checkout: Checkout) -> None:
    """A Python that is too old is refused in one line before anything is made."""
    (checkout.folder / "version").write_text("(3, 9, 2)")
    done = checkout.make()
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == (
        "spikeloom: Python: 3.11 or newer is needed, not 3.9; try: make setup PYTHON=python3.11")
    assert checkout.calls == [] and not (checkout.folder / ".venv").exists()
    (checkout.folder / "version").write_text("(3, 12, 0)")
    assert checkout.make().returncode == 0


def test_old_environment(checkout: Checkout) -> None:
    """An environment with a Python that is too old is refused; the line says how to be rid of it."""
    assert checkout.make().returncode == 0
    (checkout.folder / ".venv" / ".spikeloom").unlink()
    (checkout.folder / ".venv" / "version").write_text("(3, 10, 1)")
    done = checkout.make()
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == ("spikeloom: Python: 3.11 or newer is needed, not 3.10; "
                                           "try: rm -r .venv && make setup PYTHON=python3.11")
    assert checkout.pips == REST


def test_half_made_environment(checkout: Checkout) -> None:
    """Where the venv module lacks pip the set-up stops, and the next one finishes the environment."""
    (checkout.folder / "no-ensurepip").touch()
    assert checkout.make().returncode != 0 and checkout.pips == []
    (checkout.folder / "no-ensurepip").unlink()
    assert checkout.make().returncode == 0 and checkout.pips == REST


def torch_index(folder: Path) -> str:
    """Return the address of an index with nothing but a torch, whose version has a local part."""
    package = folder / "torch"
    package.mkdir(parents=True)
    name = f"{PINNED.replace('==', '-')}+cpu-py3-none-any.whl"
    (package / "index.html").write_text(f'<a href="{name}">{name}</a>')
    with zipfile.ZipFile(package / name, "w") as wheel:
        info = f"{PINNED.replace('==', '-')}+cpu.dist-info"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {PINNED[7:]}+cpu\n"
                                           "Requires-Dist: sympy>=1.13\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return folder.as_uri()


def test_index_needs_nothing_but_torch(checkout: Checkout) -> None:
    """The real pip takes torch from an index that has nothing else; with dependencies it would stop there."""
    index = torch_index(checkout.folder / "index")
    (checkout.folder / "real").mkdir()
    done = checkout.make(f"TORCH_INDEX={index}")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (checkout.folder / "real").iterdir()] == [f"torch-{PINNED[7:]}+cpu.dist-info"]
    makefile = checkout.folder / "Makefile"
    makefile.write_text(makefile.read_text().replace(" --no-deps torch", " torch"))
    done = checkout.make(f"TORCH_INDEX={index}")
    assert done.returncode != 0 and "sympy" in done.stderr


def test_plan_names_every_package_once(checkout: Checkout) -> None:
    """``make -n setup`` shows the index where it is given, and only there."""
    plain, given = (checkout.make("-n", *more).stdout for more in ((), (f"TORCH_INDEX={INDEX}",)))
    assert "--index-url" not in plain
    assert given.count(f"--index-url {INDEX} --no-deps torch") == 1
    assert not (checkout.folder / ".venv").exists()


def test_extras() -> None:
    """The set-up installs every extra; doctor asks for every one but that of developers."""
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    assert extras == set(re.findall(r"\w+", REST[0][-1]))
    assert {tool.extra for tool in tools.TOOLS if isinstance(tool, tools.Wheel)} == extras - {"dev"} | {""}


def importers(pattern: str) -> set[str]:
    """Return the files but tests with a line that matches."""
    return {path.as_posix() for path in python_files(*ROOMS) if not path.name.startswith("test_")
            and re.search(pattern, (ROOT / path).read_text(), re.M)}


def test_charts_are_an_extra() -> None:
    """One file imports matplotlib, and the files that draw with it import that one when they draw."""
    assert importers(r"^\s*(import|from) matplotlib") == {"perf/plots.py"}
    assert importers(r"^(import|from) perf.plots|^from perf import .*plots") == set()
    assert importers(r"^ +from perf.plots import") == {"perf/report.py", "perf/imc_report.py", "perf/trex_report.py"}
