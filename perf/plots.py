"""Charts drawn by matplotlib, as SVG text for a page or for a file of its own; the same input gives the same bytes.

Nothing else imports matplotlib: what needs no chart runs where the extra ``plots`` is not installed.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from io import StringIO
from statistics import fmean
from xml.etree import ElementTree

from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator, NullFormatter, PercentFormatter

SVG = "http://www.w3.org/2000/svg"
INCHES = (10, 3.4)
# Distance of series that have the same x, where neighbouring x are 1 apart: bars of one would hide those of another.
BESIDE = 0.04
LOOK = {
    "axes.axisbelow": True, "axes.grid": True, "axes.grid.axis": "y", "axes.spines.right": False, "axes.spines.top": False,
    "figure.constrained_layout.use": True, "figure.titlesize": 12, "figure.titleweight": "bold",
    "font.sans-serif": ["DejaVu Sans"], "font.size": 9, "grid.color": "#d8dde3", "legend.frameon": False,
    "svg.fonttype": "none"}

ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")


def bars(title: str, axis: str, quantity: str, labels: Sequence[str], series: Mapping[str, Sequence[float]], *,
         log: bool = False) -> Figure:
    """Return a chart of grouped bars, one group per label and one bar per series.

    axis, quantity : what the labels and the values are
    series : values from 0 by name, as many as labels
    log : whether the axis is logarithmic, from 1; values up to 1 have no bar then
    """
    with _look(title):
        figure, width = Figure(figsize=INCHES), 0.8 / max(1, len(series))
        axes = figure.subplots()
        for number, (name, values) in enumerate(series.items()):
            places = [place + width * (number - (len(series) - 1) / 2) for place in range(len(labels))]
            drawn = axes.bar(places, [max(value, 1) - 1 for value in values] if log else values, width,
                             bottom=1 if log else 0, label=name)
            for bar, label, value in zip(drawn, labels, values, strict=True):
                bar.set_gid(f"{label}, {name}: {_text(value)}")
        top = max((value for values in series.values() for value in values), default=0)
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_ylim(1, max(10, 2 * top))
        else:
            axes.set_ylim(0, 1.05 * top or 1)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, place: _text(value)))
        axes.set_xticks(range(len(labels)), labels)
        axes.tick_params("x", length=0)
        axes.margins(x=0.01)
        _words(figure, title, axis, quantity, [*series])
        return figure


def lines(title: str, axis: str, quantity: str, series: Mapping[str, Sequence[tuple[float, Sequence[float]]]], *,
          shares: bool = True) -> Figure:
    """Return a chart over the numbers x that the series have, evenly spaced.

    axis, quantity : what x and the values are
    series : (x, values) by name; a line goes through the means, a bar from the smallest to the largest value
    shares : values are shares, 0 to 1, of the whole
    """
    places = {x: n for n, x in enumerate(sorted({x for points in series.values() for x, _ in points}))}
    with _look(title):
        figure = Figure(figsize=INCHES)
        axes = figure.subplots()
        for number, (name, points) in enumerate(series.items()):
            across = [places[x] + BESIDE * (number - (len(series) - 1) / 2) for x, _ in points]
            means = [fmean(values) for _, values in points]
            (line,) = axes.plot(across, means, label=name or None, clip_on=False)
            axes.vlines(across, [min(values) for _, values in points], [max(values) for _, values in points],
                        color=line.get_color(), clip_on=False)
            for place, mean, (x, values) in zip(across, means, points, strict=True):
                told = ", ".join(f"{value:.2%}" if shares else f"{value:.2f}" for value in values)
                axes.plot(place, mean, "o", color=line.get_color(), markersize=5, clip_on=False,
                          gid=f"{name} {x:g}: {told}".lstrip())
        if shares:
            axes.set_ylim(0, 1)
            axes.yaxis.set_major_locator(MultipleLocator(0.25))
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xticks(range(len(places)), [f"{x:g}" for x in places])
        _words(figure, title, axis, quantity, [name for name in series if name])
        return figure


def svg(figure: Figure) -> str:
    """Return a chart as an element that stands in an HTML page or is a file; bars and points tell their values.

    No two charts of different titles have an id in common.
    """
    text = StringIO()
    with _look(title := figure.get_suptitle()):
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ElementTree.fromstring(text.getvalue())
    used, told = {*re.findall(r"#(\w+)", text.getvalue())}, {artist.get_gid() for artist in figure.findobj()}
    for element in root.findall(".//*[@id]"):
        if (name := element.get("id")) in told:
            label = ElementTree.Element(f"{{{SVG}}}title")
            label.text = name
            element.insert(0, label)
        if name not in used:
            del element.attrib["id"]
    root.attrib |= {"role": "img", "aria-label": title}
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _look(title: str) -> AbstractContextManager[None]:
    """Return the settings of every chart, whatever the user's are; ids of a chart's parts come from its title."""
    return style.context(["petroff10", LOOK | {"svg.hashsalt": title}], after_reset=True)


def _words(figure: Figure, title: str, axis: str, quantity: str, names: Sequence[str]) -> None:
    figure.suptitle(title, x=0.01, ha="left")
    figure.axes[0].set(xlabel=axis, ylabel=quantity)
    if names:
        figure.legend(loc="outside lower center", ncols=len(names))


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
