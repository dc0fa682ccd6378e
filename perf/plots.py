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


def lines(title: str, axis: str, series: Mapping[str, Sequence[tuple[float, Sequence[float]]]], *, shares: bool = True) -> str:
    """Return a chart over the numbers x that the series have, evenly spaced: a file of its own, too.

    series : (x, values) by name; a line goes through the means, a bar from the smallest to the largest value
    shares : values are shares, 0 to 1, of the whole; else the chart is from the integer below the least to that above the most
    """
    places = {x: n for n, x in enumerate(sorted({x for points in series.values() for x, _ in points}))}
    bottom, right = HEIGHT - BOTTOM - 14, WIDTH - RIGHT - 20
    every = [value for points in series.values() for _, values in points for value in values]
    low, high = (0, 1) if shares else (math.floor(min(every)), math.ceil(max(every)))
    ticks = [n / 4 for n in range(5)] if shares else [*map(float, range(low, high + 1, max(1, (high - low) // 6)))]
    scale, told = (".0%", ".2%") if shares else ("g", ".2f")

    def across(x: float) -> float:
        return LEFT + 20 + (right - LEFT - 20) * places[x] / max(1, len(places) - 1)

    def up(value: float) -> float:
        return bottom - (bottom - TOP) * (value - low) / max(1, high - low)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" '
           f'{LABELS}><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
           f'<text x="{LEFT}" y="16" font-size="14" font-weight="600">{escape(title)}</text>']
    for tick in ticks:
        out += [f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(tick):.1f}" y2="{up(tick):.1f}" stroke="#d8dde3"/>',
                f'<text x="{LEFT - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">'
                f'{tick:{scale}}</text>']
    for x in places:
        out.append(f'<text x="{across(x):.1f}" y="{bottom + 16}" text-anchor="middle">{x:g}</text>')
    out.append(f'<text x="{(LEFT + right) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(axis)}</text>')
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        means = [(across(x), up(fmean(values))) for x, values in points]
        out.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in means)}" fill="none" stroke="{colour}" '
                   'stroke-width="2"/>')
        for (x, y), (place, values) in zip(means, points, strict=True):
            text = escape(f"{name} {place:g}: {', '.join(f'{value:{told}}' for value in values)}")
            bar = f'y1="{up(min(values)):.1f}" y2="{up(max(values)):.1f}"'
            out += [f'<line x1="{x:.1f}" x2="{x:.1f}" {bar} stroke="{colour}"/>',
                    f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"><title>{text}</title></circle>']
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
