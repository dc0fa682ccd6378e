"""Charts as SVG text, drawn here so that a report needs no package and is one file."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from statistics import fmean

COLOURS = ("#3b6ea8", "#e08b2c", "#4f9d69", "#b0413e", "#7d5ba6", "#8a8a8a")
WIDTH, HEIGHT = 960, 280
LEFT, RIGHT, TOP, BOTTOM = 76, 8, 44, 34
TICKS = 5
LABELS = 'font-family="system-ui,sans-serif" font-size="11"'


def bars(title: str, labels: Sequence[str], series: Mapping[str, Sequence[float]], *, log: bool = False) -> str:
    """Return a chart of grouped bars, one group per label and one bar per series.

    series : values from 0 by name, as many as labels
    log : whether the axis is logarithmic; values below 1 have no bar then
    """
    top = max((value for values in series.values() for value in values), default=0) or 1.0
    ticks = _decades(top) if log else _steps(top)
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def height(value: float) -> float:
        if log:
            return plot_height * math.log10(value) / math.log10(ticks[-1]) if value > 1 else 0.0
        return plot_height * value / ticks[-1]

    out = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
           f'<text x="{LEFT}" y="16" class="title">{escape(title)}</text>']
    for tick in ticks:
        y = HEIGHT - BOTTOM - height(tick)
        out += [f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>',
                f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_text(tick)}</text>']
    group = plot_width / max(1, len(labels))
    width = 0.8 * group / max(1, len(series))
    for number, (name, values) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        for place, (label, value) in enumerate(zip(labels, values, strict=True)):
            x, tall = LEFT + group * (place + 0.1) + width * number, height(value)
            out.append(f'<rect x="{x:.1f}" y="{HEIGHT - BOTTOM - tall:.1f}" width="{width:.1f}" height="{tall:.1f}" '
                       f'fill="{colour}"><title>{escape(f"{label}, {name}: {_text(value)}")}</title></rect>')
        x = LEFT + number * 150
        out += [f'<rect x="{x}" y="24" width="10" height="10" fill="{colour}"/>',
                f'<text x="{x + 15}" y="33">{escape(name)}</text>']
    for place, label in enumerate(labels):
        out.append(f'<text x="{LEFT + group * (place + 0.5):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">'
                   f'{escape(label)}</text>')
    return "\n".join([*out, "</svg>"])


def lines(title: str, axis: str, series: Mapping[str, Sequence[tuple[float, Sequence[float]]]]) -> str:
    """Return a chart of shares, 0 to 1, over the numbers x that the series have, evenly spaced: a file of its own, too.

    series : (x, shares) by name; a line goes through the means, a bar from the smallest to the largest share
    """
    places = {x: n for n, x in enumerate(sorted({x for points in series.values() for x, _ in points}))}
    bottom, right = HEIGHT - BOTTOM - 14, WIDTH - RIGHT - 20

    def across(x: float) -> float:
        return LEFT + 20 + (right - LEFT - 20) * places[x] / max(1, len(places) - 1)

    def up(share: float) -> float:
        return bottom - (bottom - TOP) * share

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" '
           f'{LABELS}><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
           f'<text x="{LEFT}" y="16" font-size="14" font-weight="600">{escape(title)}</text>']
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        out += [f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(tick):.1f}" y2="{up(tick):.1f}" stroke="#d8dde3"/>',
                f'<text x="{LEFT - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">{tick:.0%}</text>']
    for x in places:
        out.append(f'<text x="{across(x):.1f}" y="{bottom + 16}" text-anchor="middle">{x:g}</text>')
    out.append(f'<text x="{(LEFT + right) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(axis)}</text>')
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        means = [(across(x), up(fmean(shares))) for x, shares in points]
        out.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in means)}" fill="none" stroke="{colour}" '
                   'stroke-width="2"/>')
        for (x, y), (place, shares) in zip(means, points, strict=True):
            told = escape(f"{name} {place:g}: {', '.join(f'{share:.2%}' for share in shares)}")
            high, low = up(max(shares)), up(min(shares))
            out += [f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="{colour}"/>',
                    f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"><title>{told}</title></circle>']
        if name:
            x = LEFT + number * 200
            out += [f'<rect x="{x}" y="24" width="10" height="10" fill="{colour}"/>',
                    f'<text x="{x + 15}" y="33">{escape(name)}</text>']
    return "\n".join([*out, "</svg>"])


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _decades(top: float) -> list[float]:
    return [10.0**n for n in range(max(1, math.ceil(math.log10(top))) + 1)]


def _steps(top: float) -> list[float]:
    """Return ticks from 0 to at least ``top``, a round step apart."""
    decade = 10.0 ** math.floor(math.log10(top / TICKS))
    step = next(decade * factor for factor in (1, 2, 2.5, 5, 10) if decade * factor * TICKS >= top)
    return [step * n for n in range(math.ceil(top / step - 1e-9) + 1)]
