"""Tables that programs write into Markdown pages, between two lines that mark their place."""

from golden.arch import ParameterError


def cut(text: str, begin: str, end: str) -> tuple[str, str, str]:
    """Return what is before, between and behind two lines; raise `ParameterError` unless each of them is there once."""
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ParameterError(f"table: the page must have one line {begin} and one {end}, not "
                             f"{text.count(begin)} and {text.count(end)}")
    before, _, rest = text.partition(begin)
    between, _, behind = rest.partition(end)
    return before, between, behind


def replaced(text: str, table: str, begin: str, end: str) -> str:
    """Return a page with another table between the two lines."""
    before, _, behind = cut(text, begin, end)
    return f"{before}{begin}\n{table}\n{end}{behind}"
