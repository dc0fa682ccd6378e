"""The commands of README and of the own-network page run as printed, with the output that is printed.

``python -m verif.test_readme`` writes the output of README's commands anew.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from verif.sim import cache_folder
from verif.test_tree import ROOT

README = ROOT / "README.md"
PAGE = ROOT / "docs" / "own-network.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
NOT_RUN = {
    "make demo": "makes .venv again, and this test runs inside it; the demo's own command is a block of its own",
    "make test": "would run this test inside itself",
}
ANY = "..."
VARIES = ("spikeloom doctor",)
LONG = 120


def blocks(text: str, kind: str) -> list[str]:
    """Return the contents of the fenced blocks of one kind."""
    return [body for name, body in BLOCK.findall(text) if name == kind]


def session(block: str) -> list[tuple[str, list[str]]]:
    """Return (command, printed lines) of a console block."""
    commands: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            commands.append((line[2:], []))
        else:
            commands[-1][1].append(line)
    return commands


def execute(command: str, folder: Path) -> tuple[int, list[str]]:
    """Run a command in a folder, with the environment's programs first on the path; return exit code and lines."""
    environ = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
               "SPIKELOOM_CACHE": str(cache_folder())}
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environ, capture_output=True, text=True,
                          timeout=900, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


def agrees(printed: list[str], lines: list[str]) -> bool:
    """Return whether lines are as printed; ``...`` stands for any number of lines, or for any part of one line."""
    pattern = "".join(r"(?:.*\n)*?" if line == ANY else re.escape(line).replace(re.escape(ANY), ".*") + r"\n"
                      for line in printed)
    return re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in lines)) is not None


def test_readme_starts_with_two_commands() -> None:
    """The first block is the two commands, and every ``sh`` command that is not run says why."""
    first, *rest = blocks(README.read_text(), "sh")
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make demo", "make test"]
    commands = [line.split("#")[0].strip() for block in [first, *rest] for line in block.splitlines()]
    assert set(commands) == set(NOT_RUN)
    assert README.read_text().index("```sh") == README.read_text().index("```")


def test_demo_is_the_printed_command() -> None:
    """What ``make demo`` runs is a command of the tour, and the tour has nothing else than console blocks."""
    recipe = re.search(r"^demo: setup\n\t\$\(VENV\)/bin/(.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert recipe is not None
    tour = [command for block in blocks(README.read_text(), "console") for command, _ in session(block)]
    assert recipe[1] in tour
    assert {name for name, _ in BLOCK.findall(README.read_text())} == {"sh", "console"}


@pytest.mark.parametrize("number", range(len(blocks(README.read_text(), "console"))))
def test_tour(number: int, tmp_path: Path) -> None:
    """Every command of a console block succeeds in an empty folder and prints what is printed."""
    for command, printed in session(blocks(README.read_text(), "console")[number]):
        code, lines = execute(command, tmp_path)
        assert code == 0, f"{command}: exit {code}: {lines}"
        assert agrees(printed, lines), f"{command} prints\n" + "\n".join(lines) + "\ntry: python -m verif.test_readme"


def test_numbers_come_with_commands() -> None:
    """Every number of the table stands beside a command whose options exist."""
    table = re.search(r"^## Numbers\n(.*?)^## ", README.read_text(), re.M | re.S)
    assert table is not None
    rows = [line.split("|")[1:-1] for line in table[1].splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 3
    for _, result, command in rows:
        assert re.search(r"\d", result)
        text = command.strip().strip("`")
        words = text.split()
        assert words[0] == "spikeloom"
        group = " ".join(word for word in words[:3] if re.fullmatch("[a-z]+", word) and word != "digits")
        code, lines = execute(f"{group} --help", ROOT)
        assert code == 0
        assert all(word in "\n".join(lines) for word in words if word.startswith("--")), text


def test_tppe_page(capsys: pytest.CaptureFixture[str]) -> None:
    """The example of the TPPE page prints what it says."""
    (block,) = blocks((ROOT / "docs" / "tppe.md").read_text(), "python")
    exec(compile(block, "tppe.md", "exec"), {})
    said = block.splitlines()[-1].partition("# ")[2]
    assert capsys.readouterr().out == f"{said}\n" and said


def test_own_network(tmp_path: Path) -> None:
    """The commands of the own-network page work on the files that its Python blocks write."""
    text = PAGE.read_text()
    program = "\n".join(blocks(text, "python"))
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    commands = [line for block in blocks(text, "") for line in block.splitlines()]
    assert [command.split()[:2] for command in commands] == [["spikeloom", "simulate"], ["spikeloom", "compile"]]
    results = [execute(command, tmp_path) for command in commands]
    assert [code for code, _ in results] == [0, 0], results
    assert any(line.startswith("mismatches 0 of ") for line in results[0][1])
    assert (tmp_path / "out" / "program.bin").stat().st_size > 0


@pytest.mark.parametrize(("printed", "same"), [
    (["a", "b 1", "c"], True), (["a", ANY], True), ([ANY, "c"], True), (["a", ANY, "c"], True), ([ANY], True),
    (["a", ANY, "b 1", "c"], True), (["a", "b 2", "c"], False), (["a", "c"], False), ([ANY, "b 1"], False),
    (["b 1", ANY], False), ([], False), (["a", "b ...", "c"], True), (["a", "c ...", "c"], False)])
def test_agreement_can_fail(printed: list[str], same: bool) -> None:
    """Missing, added and changed lines are seen."""
    assert agrees(printed, ["a", "b 1", "c"]) == same


def shown(command: str, lines: list[str]) -> list[str]:
    """Return what README prints of a command's output: all lines, without those that vary between machines."""
    if command in VARIES:
        return [ANY]
    kept: list[str] = []
    for line in lines:
        if len(line) < LONG or line.startswith("first mismatch"):
            kept.append(re.sub(r"^(random .* )[\d.]+$", rf"\1{ANY}", line.rstrip()))
        elif not kept or kept[-1] != ANY:
            kept.append(ANY)
    return kept


def rewrite(match: re.Match[str]) -> str:
    """Return a console block with the output that its commands have."""
    if match[1] != "console":
        return match[0]
    with tempfile.TemporaryDirectory() as name:
        parts: list[Any] = []
        for command, _ in session(match[2]):
            parts += [f"$ {command}", *shown(command, execute(command, Path(name))[1])]
    return "```console\n" + "\n".join(parts) + "\n```"


if __name__ == "__main__":
    README.write_text(BLOCK.sub(rewrite, README.read_text()))
