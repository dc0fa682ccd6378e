"""Bar charts as SVG text, drawn here so that a report needs no package and is one file."""

import math
from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ("#3b6ea8", "#e08b2c", "#4f9d69", "#b0413e", "#7d5ba6", "#8a8a8a")
WIDTH, HEIGHT = 960, 280
LEFT, RIGHT, TOP, BOTTOM = 76, 8, 44, 34
TICKS = 5


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


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _decades(top: float) -> list[float]:
    return [10.0**n for n in range(max(1, math.ceil(math.log10(top))) + 1)]


def _steps(top: float) -> list[float]:
    """Return ticks from 0 to at least ``top``, a round step apart."""
    decade = 10.0 ** math.floor(math.log10(top / TICKS))
    step = next(decade * factor for factor in (1, 2, 2.5, 5, 10) if decade * factor * TICKS >= top)
    return [step * n for n in range(math.ceil(top / step - 1e-9) + 1)]
