"""What a command prints and writes: text for a person, JSON for a program, progress for a terminal."""

import contextlib
import functools
import importlib
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from golden.arch import ParameterError

Advance = Callable[[int, int], None]


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json`` and ``--quiet``, handed to the command as one `Output` called ``output``."""

    @functools.wraps(function)
    def called(*, json_path: str | None, quiet: bool, **options: Any) -> Any:
        return function(output=Output(json_path, quiet=quiet), **options)

    quiet = click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
    path = click.option("--json", "json_path", metavar="FILE|-", help="Write the result as JSON; - prints only that.")
    return path(quiet(called))


def check_file(option: str, path: Path, legal: str = "FILE") -> None:
    """Raise `ParameterError` unless a file can be written, or written anew, at ``path``."""
    target = path.resolve()
    good = str(path) != "-" and (not target.exists() or (target.is_file() and os.access(target, os.W_OK)))
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError:
        good = False
    if not good:
        raise ParameterError(f"{option}: a file in a writable folder, not {str(path)!r}; legal: {legal}")


def need_charts() -> None:
    """Raise ModuleNotFoundError unless the package that draws charts is installed; for commands that draw when all is done."""
    importlib.import_module("perf.plots")


def replace_file(path: Path, text: str) -> None:
    """Write a text file under a temporary name beside ``path``, then rename it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


class Output:
    """Where results go.

    json_path : file for the JSON result, ``"-"`` for standard output, or None
    quiet : nothing but errors and JSON
    """

    def __init__(self, json_path: str | None = None, *, quiet: bool = False) -> None:
        self._json_path, self.quiet = json_path, quiet
        if quiet:
            warnings.simplefilter("ignore")
        if json_path is not None and json_path != "-":
            check_file("--json", Path(json_path), "FILE or -")

    def say(self, text: str = "") -> None:
        """Print a line for a person: to standard output, or to standard error when that carries JSON."""
        stream = sys.stderr if self._json_path == "-" else sys.stdout
        if not self.quiet and stream is not None:
            print(text, file=stream)

    def table(self, head: list[str], rows: list[list[Any]]) -> None:
        """Print rows in columns, numbers to the right."""
        texts = [head, *([f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows)]
        widths = [max(len(row[column]) for row in texts) for column in range(len(head))]
        numeric = [any(isinstance(row[column], int) for row in rows) for column in range(len(head))]
        for row in texts:
            cells = [cell.rjust(width) if right else cell.ljust(width)
                     for cell, width, right in zip(row, widths, numeric, strict=True)]
            self.say("  ".join(cells).rstrip())

    def result(self, values: dict[str, Any]) -> None:
        """Write the JSON result, under a temporary name first."""
        if self._json_path is None:
            return
        text = json.dumps(values, indent=2) + "\n"
        if self._json_path == "-":
            sys.stdout.write(text)
            return
        replace_file(Path(self._json_path).resolve(), text)

    @contextlib.contextmanager
    def progress(self, title: str) -> Iterator[Advance]:
        """Yield ``advance(done, total)``, which draws a bar when standard error is a terminal."""
        if self.quiet or sys.stderr is None or not sys.stderr.isatty():
            yield lambda done, total: None
            return
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title, total=None)

            def advance(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            yield advance


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
