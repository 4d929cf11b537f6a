"""Intervals in pairs, one above the other, around a line at zero: inline SVG, and for papers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from limbeck.report.pictures import Palette, Picture, label, plain


WIDTH, LEFT, RIGHT = 460.0, 76.0, 14.0  # of the drawing, of its words, of its margin
_TITLE, _LINE, _GAP, _AXIS = 18.0, 17.0, 8.0, 36.0
_LONGEST = 52  # letters of a title
_STYLES = (("1", "none"), ("2", "5 2"))  # colour of the page and dashes


class Interval(NamedTuple):
    """A value in its interval; ends may be infinite, and None is a value that is not shown."""

    name: str
    value: float | None
    lower: float
    upper: float


class Pair(NamedTuple):
    """Two intervals that belong together, the first above the second."""

    title: str
    first: Interval
    second: Interval


def pairs_picture(pairs: Sequence[Pair], unit: str, *, name: str, title: str) -> Picture:
    """Return the figure of pairs of intervals: on the page as :func:`pairs_svg` draws it."""
    drawn = pairs_svg(pairs, unit, title=title)
    return Picture(name, title, lambda palette: _figure(pairs, unit, palette), drawn=drawn)


def _figure(pairs: Sequence[Pair], unit: str, palette: Palette) -> Figure:
    """Draw the same intervals with matplotlib."""
    figure = Figure(figsize=(4.6, 0.9 + 0.75 * len(pairs)), layout="constrained")
    axes = figure.subplots()
    ends, names = _ends(pairs), []
    for place, pair in enumerate(pairs):
        names.append((3 * place - 0.85, plain(pair.title)))
        for row, (one, (colour, _)) in enumerate(zip(pair[1:], _STYLES, strict=True)):
            y, shade = 3 * place + row, palette.of(int(colour))
            reach = [min(max(end, ends[0]), ends[1]) for end in (one.lower, one.upper)]
            axes.plot(reach, [y, y], color=shade, linewidth=2, linestyle="--" if row else "-")
            caps = [end for end in (one.lower, one.upper) if math.isfinite(end)]
            axes.plot(caps, [y] * len(caps), "|", color=shade, markersize=8, markeredgewidth=2)
            if one.value is not None:
                axes.plot([one.value], [y], "o", color=shade, markersize=5)
            names.append((y, plain(one.name)))
    axes.axvline(0.0, color=palette.ink, linewidth=0.8)
    axes.set_xlim(*ends)
    axes.set_ylim(3 * len(pairs) - 1.4, -1.3)
    axes.set_yticks([y for y, _ in names], [name for _, name in names])
    for text in axes.get_yticklabels()[::3]:
        text.set_fontweight("bold")
    axes.set_xlabel(unit)
    axes.grid(visible=True, axis="x", linewidth=0.5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    return figure


def pairs_svg(pairs: Sequence[Pair], unit: str, *, title: str = "Intervals") -> Markup:
    """Draw pairs of intervals on one axis that holds zero.

    Args:
        pairs: At least one.
        unit: What the axis counts.
        title: What it shows, for who cannot see it.

    Returns:
        An ``<svg>`` element in the page's colours, without ids; an infinite end runs to the edge
        and has no cap.
    """
    ends = _ends(pairs)
    height = len(pairs) * (_TITLE + 2 * _LINE + _GAP)
    parts = [_axis(ends, height, unit)]
    for place, pair in enumerate(pairs):
        top = place * (_TITLE + 2 * _LINE + _GAP)
        title = pair.title if len(pair.title) <= _LONGEST else f"{pair.title[: _LONGEST - 3]}..."
        parts.append(_text(0.0, top + 13, title, 'font-weight="600"'))
        for row, (one, (colour, dashes)) in enumerate(zip(pair[1:], _STYLES, strict=True)):
            parts.append(_interval(one, ends, top + _TITLE + (row + 0.5) * _LINE, colour, dashes))
    return Markup(
        '<svg {} viewBox="0 0 {} {}" font-size="12" fill="currentColor">\n{}\n</svg>'
    ).format(
        Markup(label(title)), _number(WIDTH), _number(height + _AXIS), Markup("\n").join(parts)
    )


def _ends(pairs: Sequence[Pair]) -> tuple[float, float]:
    """Return the ends of the axis: all that is finite, zero, and a little room."""
    numbers = [n for pair in pairs for one in pair[1:] for n in one[1:] if n is not None]
    shown = [0.0, *filter(math.isfinite, numbers)]
    room = 0.06 * (max(shown) - min(shown)) or 1.0
    return min(shown) - room, max(shown) + room


def _at(value: float, ends: tuple[float, float]) -> float:
    inside = min(max(value, ends[0]), ends[1])
    return LEFT + (WIDTH - LEFT - RIGHT) * (inside - ends[0]) / (ends[1] - ends[0])


def _axis(ends: tuple[float, float], height: float, unit: str) -> Markup:
    parts = [_line((LEFT, height), (WIDTH - RIGHT, height), 'stroke="var(--grid)"')]
    ticks = MaxNLocator(nbins=6, steps=[1, 2, 5, 10]).tick_values(*ends)
    for tick in (float(f"{one:.6g}") for one in ticks if ends[0] <= one <= ends[1]):
        x = _at(tick, ends)
        said = f"{tick:+g}".replace("-", "\u2212") if tick else "0"
        parts.append(_text(x, height + 15, said, 'text-anchor="middle"'))
        parts.append(_line((x, 0.0), (x, height), 'stroke="var(--grid)" stroke-width="0.6"'))
    zero = _at(0.0, ends)
    parts.append(_line((zero, 0.0), (zero, height), 'stroke="currentColor" class="zero"'))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, height + 31, unit, 'text-anchor="middle"'))
    return Markup("\n").join(parts)


def _interval(
    one: Interval, ends: tuple[float, float], y: float, colour: str, dashes: str
) -> Markup:
    stroke = f'stroke="var(--series-{colour})" stroke-width="2"'
    start, end = _at(one.lower, ends), _at(one.upper, ends)
    parts = [_text(0.0, y + 4, one.name, "")]
    parts.append(_line((start, y), (end, y), f'{stroke} stroke-dasharray="{dashes}" class="reach"'))
    caps = [x for x, value in ((start, one.lower), (end, one.upper)) if math.isfinite(value)]
    parts += [_line((x, y - 5), (x, y + 5), f'{stroke} class="cap"') for x in caps]
    if one.value is not None:
        dot = Markup('<circle cx="{}" cy="{}" r="4" fill="var(--series-{})"/>')
        parts.append(dot.format(_number(_at(one.value, ends)), _number(y), colour))
    return Markup("\n").join(parts)


def _line(start: tuple[float, float], end: tuple[float, float], how: str) -> Markup:
    numbers = map(_number, (*start, *end))
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" {}/>').format(*numbers, Markup(how))


def _text(x: float, y: float, text: str, how: str) -> Markup:
    return Markup('<text x="{}" y="{}" {}>{}</text>').format(
        _number(x), _number(y), Markup(how), text
    )


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
