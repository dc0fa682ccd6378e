"""One file per command; each defines ``command`` and imports what it needs when it runs. Here: options that they share."""

from collections.abc import Callable
from typing import Any

import click

from golden.arch import ParameterError, load_preset

TOPS = ("ftp", "imc")
# Tops of commands that make hardware; a tile of its own runs no networks.
HARDWARE = (*TOPS, "imc-tile")


def _top_option(*tops: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option ``--top`` with its legal values, the first of which is usual."""
    def legal(context: click.Context, parameter: click.Parameter, value: str) -> str:
        if value not in tops:
            raise ParameterError(f"top: unknown name, not {value!r}; legal: {', '.join(tops)}; try: --top {tops[0]}")
        return value

    return click.option("--top", default=tops[0], metavar="|".join(tops), show_default=True, callback=legal,
                        help="Accelerator.")


top_option = _top_option(*TOPS)
hardware_option = _top_option(*HARDWARE)
# Of commands that run one kind of machine alone.
ftp_option = _top_option("ftp")


def preset_of_top(top: str, text: str) -> Any:
    """Return the build called ``text`` of a top: an `Arch` or an `ImcArch`."""
    if top != "ftp":
        from golden.imc.arch import load_preset as load_imc_preset

        return load_imc_preset(text)
    return load_preset(text)
