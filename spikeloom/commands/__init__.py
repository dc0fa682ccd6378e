"""One file per command; each defines ``command`` and imports what it needs when it runs. Here: options that they share."""

import click

from golden.arch import ParameterError

TOPS = ("ftp",)


def _legal_top(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if value not in TOPS:
        raise ParameterError(f"top: unknown name, not {value!r}; legal: {', '.join(TOPS)}; try: --top {TOPS[0]}")
    return value


top_option = click.option("--top", default=TOPS[0], metavar="|".join(TOPS), show_default=True, callback=_legal_top,
                          help="Accelerator.")
