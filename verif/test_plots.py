"""Charts and pages: what a reader sees are the values, the same input gives the same bytes, a page loads nothing.

What is drawn is read back from matplotlib's figure, what a bar or a point tells from the SVG.
"""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from jinja2 import UndefinedError
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from perf import pages, plots
from perf.plots import SVG, bars, lines, svg
from verif.html_page import Page
from verif.test_compile import spikeloom_without

SPEEDS = {"RTL": [1.0, 2.5, 4000.0], "<bound>": [0.0, 1.5, 100.0]}
POINTS = {"SAR & more": [(1, [0.0]), (5, [1.0]), (9, [0.25, 0.75, 0.5])], "flash": [(5, [0.125, 0.25]), (9, [1.0])]}


def speeds(title: str = "t", values: dict[str, list[float]] = SPEEDS, *, log: bool = False) -> Figure:
    """Return a chart of bars."""
    return bars(title, "layer", "cycles", "abc", values, log=log)


def points(title: str = "t") -> Figure:
    """Return a chart of lines."""
    return lines(title, "bits", "accuracy", POINTS)


def tops(figure: Figure) -> dict[str, list[float]]:
    """Return where the bars of each series end."""
    return {str(series.get_label()): [bar.get_y() + bar.get_height() for bar in series.patches]
            for series in figure.axes[0].containers if isinstance(series, BarContainer)}


def drawn(figure: Figure) -> dict[str, list[tuple[str, float]]]:
    """Return (number at the x axis, y) of each point of each named line."""
    axes = figure.axes[0]
    ticks = [tick.get_text() for tick in axes.get_xticklabels()]
    found = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    return {str(line.get_label()): [(ticks[round(x)], y) for x, y in np.asarray(line.get_data()).T] for line in found}


def spreads(figure: Figure) -> list[list[tuple[float, float]]]:
    """Return (smallest, largest) of each point of each line."""
    return [[(segment[0][1], segment[1][1]) for segment in each.get_segments()] for each in figure.axes[0].collections
            if isinstance(each, LineCollection)]


def told(text: str) -> list[str | None]:
    """Return what the parts of a chart tell when one points at them."""
    return [title.text for title in ElementTree.fromstring(text).iter(f"{{{SVG}}}title")]


def words(text: str) -> set[str | None]:
    """Return the words in a chart."""
    return {element.text for element in ElementTree.fromstring(text).iter(f"{{{SVG}}}text")}


def test_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar ends at its value and tells it, on an axis from 0; bars that are mixed up are seen."""
    figure = speeds()
    assert tops(figure) == SPEEDS and figure.axes[0].get_ylim()[0] == 0 and figure.axes[0].get_ylim()[1] > 4000
    colours = [series.patches[0].get_facecolor() for series in figure.axes[0].containers if isinstance(series, BarContainer)]
    assert len({*colours}) == len(SPEEDS)
    text = svg(figure)
    assert told(text) == ["a, RTL: 1", "b, RTL: 2.5", "c, RTL: 4,000", "a, <bound>: 0", "b, <bound>: 1.5", "c, <bound>: 100"]
    assert words(text) >= {"t", "layer", "cycles", "a", "b", "c", "RTL", "<bound>", "0", "4,000"}
    bar = Axes.bar
    monkeypatch.setattr(Axes, "bar", lambda axes, places, values, *rest, **more: bar(axes, places, values[::-1], *rest, **more))
    assert tops(speeds()) != SPEEDS


def test_logarithmic_bars() -> None:
    """A logarithmic axis starts at 1, where values up to 1 end; charts without values have an axis."""
    figure = speeds(log=True)
    assert tops(figure) == {"RTL": [1, 2.5, 4000], "<bound>": [1, 1.5, 100]} and figure.axes[0].get_yscale() == "log"
    assert words(svg(figure)) >= {"1", "10", "100", "1,000"} and told(svg(figure))[3] == "a, <bound>: 0"
    for log in (False, True):
        empty = speeds(values={"x": [0, 0, 0]}, log=log)
        low, high = empty.axes[0].get_ylim()
        assert low == int(log) < high and told(svg(empty)) == ["a, x: 0", "b, x: 0", "c, x: 0"]


def test_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines go through the means, bars span the values, points tell all of them; another mean is seen."""
    means = {"SAR & more": [("1", 0.0), ("5", 1.0), ("9", 0.5)], "flash": [("5", 0.1875), ("9", 1.0)]}
    figure = points()
    assert drawn(figure) == means and figure.axes[0].get_ylim() == (0, 1)
    assert spreads(figure) == [[(0, 0), (1, 1), (0.25, 0.75)], [(0.125, 0.25), (1, 1)]]
    dots = [np.asarray(line.get_ydata())[0] for line in figure.axes[0].lines if line.get_gid()]
    assert dots == [y for line in means.values() for _, y in line]
    text = svg(figure)
    assert told(text) == ["SAR & more 1: 0.00%", "SAR & more 5: 100.00%", "SAR & more 9: 25.00%, 75.00%, 50.00%",
                          "flash 5: 12.50%, 25.00%", "flash 9: 100.00%"]
    assert words(text) >= {"t", "bits", "accuracy", "SAR & more", "flash", "1", "5", "9", "0%", "25%", "50%", "75%", "100%"}
    monkeypatch.setattr(plots, "fmean", max)
    assert drawn(points()) != means


def test_lines_of_other_numbers() -> None:
    """Values that are no shares have an axis that holds them all; one line without a name has no legend."""
    figure = lines("t", "delay", "times", {"": [(0.5, [2.5]), (1, [-1.0])]}, shares=False)
    low, high = figure.axes[0].get_ylim()
    assert low < -1 and high > 2.5 and figure.legends == [] and len(points().legends) == 1
    assert told(svg(figure)) == ["0.5: 2.50", "1: -1.00"] and words(svg(figure)) >= {"delay", "times", "0.5", "1"}


def test_same_bytes() -> None:
    """The same input gives the same bytes, drawn again, anew, and whatever the user's settings are; another value others."""
    for chart in (speeds, points):
        figure = chart()
        text = svg(figure)
        assert text == svg(figure) == svg(chart())
        with matplotlib.rc_context({"font.size": 20, "svg.fonttype": "path", "axes.grid": False, "lines.linewidth": 5}):
            assert text == svg(chart())
    assert svg(speeds()) != svg(speeds(values={**SPEEDS, "RTL": [1.0, 2.5, 4001.0]}))


def test_element() -> None:
    """A chart is one element; charts of other titles have other ids, of which each is used."""
    one, other = svg(points("one")), svg(points("other"))
    assert one.startswith("<svg ") and one.endswith("</svg>\n") and "<!" not in one and "<?" not in one
    root = ElementTree.fromstring(one)
    assert (root.get("role"), root.get("aria-label"), root.tag) == ("img", "one", f"{{{SVG}}}svg")
    ids = Page(one + other).ids
    assert len(ids) == len({*ids}) > 2 and Page(one + other).loads == []
    assert all(f"#{name}" in one + other for name in ids)


def test_pages_are_escaped() -> None:
    """Whatever a cell holds is text; a name that a template has not been given is an error."""
    report: dict[str, Any] = {"workload": "<i>", "preset": "p", "T": 4, "scheme": "twos", "images": 1, "seeds": 1}
    given = {"report": report, "facts": [("<b>", "a & b")], "sweeps": [], "energy_sources": [], "area_sources": [],
             "tables": {"costs": (["x"], [[1234567], ["1234567"], ["a text of more than 24 letters"]])}}
    text = pages.page("imc", **given)
    page = Page(text)
    assert page.tables[:2] == [[["<b>", "a & b"]], [["x"], ["1,234,567"], ["1234567"], ["a text of more than 24 letters"]]]
    assert "bench imc &lt;i&gt; --preset p" in text and text.count('class="text"') == 1 and text.startswith("<!DOCTYPE html>")
    with pytest.raises(UndefinedError, match="facts"):
        pages.page("imc", **{name: value for name, value in given.items() if name != "facts"})


@pytest.mark.parametrize("text", ['<img src="x.png">', '<a href="https://example.org">', "<script>1</script>",
                                  '<use xlink:href="x.svg#a"/>', "<style>b { background: url(x.png) }</style>"])
def test_what_loads_is_found(text: str) -> None:
    """The control: each way to load something is found."""
    assert Page(text).loads


@pytest.mark.parametrize("words", [
    ["loas", "alexnet", "--html", "page.html"], ["imc", "--html", "page.html"], ["imc", "--figures", "figures"],
    ["trex", "--plot", "chart.svg"]], ids=" ".join)
def test_without_matplotlib(tmp_path: Path, words: list[str]) -> None:
    """Where nothing draws charts, a command that needs them says so at once, and leaves nothing behind."""
    done = spikeloom_without(("matplotlib",), tmp_path, "bench", *words, "--json", "report.json")
    assert (done.returncode, done.stdout, done.stderr) == (
        1, "", "spikeloom: matplotlib: not installed; try: pip install 'spikeloom[plots]'\n")
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
