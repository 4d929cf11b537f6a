"""A figure twice: inline SVG in the page's colours, and PNG and PDF for papers."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from limbeck.files import atomic


SERIES = 8  # colours that the page defines as --series-0 ...
FORMATS = ("png", "pdf")
DOTS_PER_INCH = 300  # of a PNG
_NOTHING = dict.fromkeys(("Date", "Creator", "Format", "Type"))


@dataclass(frozen=True)
class Palette:
    """Colours to draw with.

    Attributes:
        ink: Of text.
        grid: Of lines behind.
        series: Of groups, by their number.
        on_paper: Whether the figure stands alone, and so names its groups itself.
    """

    ink: str
    grid: str
    series: tuple[str, ...]
    on_paper: bool

    def of(self, number: int) -> str:
        """Return the colour of a group."""
        return self.series[number % SERIES]


#: Stand-ins, which :meth:`Picture.svg` replaces by the page's variables.
PAGE = Palette("#010203", "#040506", tuple(f"#0a0b{16 + at:02x}" for at in range(SERIES)), False)
#: The page's own by day.
PAPER = Palette(
    "#1b2330",
    "#d9dee6",
    ("#5a6475", "#2563b8", "#b45309", "#0f7a55", "#8a2f9e", "#b3261e", "#0e7490", "#6b6b00"),
    True,
)


def plain_settings(palette: Palette) -> dict[Any, Any]:
    """Return matplotlib's settings for a figure in a palette."""
    return {
        "svg.fonttype": "none",
        "pdf.fonttype": 42,
        "font.family": "sans-serif",
        "font.size": 9.0,
        "axes.edgecolor": palette.grid,
        "axes.labelcolor": palette.ink,
        "text.color": palette.ink,
        "xtick.color": palette.ink,
        "ytick.color": palette.ink,
        "grid.color": palette.grid,
        "path.simplify": True,
    }


@dataclass(frozen=True)
class Picture:
    """One figure of a report.

    Attributes:
        name: Its own among the figures of a report; files and ids are called by it.
        title: What it shows, for who cannot see it.
        draw: Draws it with a palette.
        settings: Matplotlib's settings for a palette.
        keeps_colours: Whether it has colours of its own, on white, on page and paper alike.
        drawn: The SVG where the page has one drawn otherwise.
    """

    name: str
    title: str
    draw: Callable[[Palette], Figure]
    settings: Callable[[Palette], dict[Any, Any]] = plain_settings
    keeps_colours: bool = False
    drawn: Markup | None = None

    @property
    def file_name(self) -> str:
        """Its name as a file's, without an ending.

        Example:
            >>> Picture("loss/task [a]", "", lambda _: Figure()).file_name
            'loss-task-a'
        """
        return re.sub(r"[^\w.]+", "-", self.name).strip("-.")

    def svg(self) -> Markup:
        """Return an ``<svg>`` element without size, metadata or addresses, its ids its own."""
        if self.drawn is not None:
            return self.drawn
        with mpl.rc_context({**self.settings(PAGE), "svg.hashsalt": f"limbeck {self.name}"}):
            figure = self.draw(PAGE)
            if not self.keeps_colours:
                for part in (figure, *figure.axes):
                    part.patch.set_visible(False)
            buffer = io.StringIO()
            FigureCanvasSVG(figure).print_svg(buffer, metadata=_NOTHING)
        return inline(buffer.getvalue(), self.file_name, self.title)

    def save(self, folder: Path) -> list[Path]:
        """Write it as PNG (300 dots an inch) and PDF, each whole or not at all.

        Raises:
            StorageError: If a file cannot be written.
        """
        paths = [folder / f"{self.file_name}.{ending}" for ending in FORMATS]
        with mpl.rc_context(self.settings(PAPER)):
            figure = self.draw(PAPER)
            for path in paths:
                with atomic(path) as aside:
                    metadata = {"CreationDate": None} if path.suffix == ".pdf" else {}
                    figure.savefig(
                        aside, format=path.suffix[1:], dpi=DOTS_PER_INCH, metadata=metadata
                    )
        return paths


def inline(text: str, name: str, title: str) -> Markup:
    """Return an SVG document of matplotlib as an element of the page.

    Args:
        text: The document; matplotlib has escaped the names in it.
        name: Put before every id: two figures may have the same.
        title: What it shows.
    """
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    prefix = re.sub(r"\W+", "-", name)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'href="#', f'href="#{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-")
    text = text.replace(PAGE.ink, "currentColor").replace(PAGE.grid, "var(--grid)")
    for number, colour in enumerate(PAGE.series):
        text = text.replace(colour, f"var(--series-{number})")
    return Markup(text.replace("<svg", f"<svg {label(title)}", 1).strip())


def label(title: str) -> str:
    """Return the attributes that give a drawing its name."""
    return f'role="img" aria-label="{escape(title)}" focusable="false"'


def plain(text: str) -> str:
    """Return a name as matplotlib takes it: dollars are no mathematics."""
    return str(text).replace("$", r"\$")
