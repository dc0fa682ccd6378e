"""One file per command; each defines ``command`` and imports what it needs when it runs. Here: options that they share."""

from typing import Any

import click

from golden.arch import ParameterError, load_preset

TOPS = ("ftp", "imc")


def _legal_top(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if value not in TOPS:
        raise ParameterError(f"top: unknown name, not {value!r}; legal: {', '.join(TOPS)}; try: --top {TOPS[0]}")
    return value


def preset_of_top(top: str, text: str) -> Any:
    """Return the build called ``text`` of a top: an `Arch` or an `ImcArch`."""
    if top == "imc":
        from golden.imc.arch import load_preset as load_imc_preset

        return load_imc_preset(text)
    return load_preset(text)


top_option = click.option("--top", default=TOPS[0], metavar="|".join(TOPS), show_default=True, callback=_legal_top,
                          help="Accelerator.")
