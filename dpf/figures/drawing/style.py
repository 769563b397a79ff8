"""The house style of every figure: colours, fonts, sizes, and how a figure becomes files.

Figures are made with matplotlib's objects alone (no pyplot): nothing is kept open, and no setting of the caller's is
changed. `house_style` is the only place where matplotlib's settings are touched, and it puts them back.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from dpf.errors import UsageError
from dpf.files import write_bytes

#: The eight colours of Okabe & Ito (2008, "Color Universal Design"), distinct with any colour vision.
OKABE_ITO: Final = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky blue": "#56B4E9",
    "bluish green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "reddish purple": "#CC79A7",
}
INK: Final = "#222222"
GREY: Final = "#8C8C8C"
FAINT: Final = "#D9D9D9"
BAND: Final = "#EBEBEB"

#: Each colour has one meaning in all figures.
ACTIVATING: Final = OKABE_ITO["vermillion"]
SUPPRESSING: Final = OKABE_ITO["blue"]
CONTROL: Final = OKABE_ITO["black"]

#: Ten (colour, marker) pairs for classes. Colours return with another marker: eleven hues are not distinct.
CLASSES: Final = (
    *(
        (OKABE_ITO[name], "o")
        for name in ("blue", "orange", "bluish green", "reddish purple", "sky blue", "vermillion")
    ),
    *((OKABE_ITO[name], "^") for name in ("blue", "orange", "bluish green", "reddish purple")),
)

#: Perceptually even maps: one for amounts, one for signed values around zero (blue low, red high).
SEQUENTIAL: Final = "viridis"
DIVERGING: Final = "RdBu_r"

#: Inches: two columns of a journal page (183 mm).
PAGE: Final = 7.2

#: What distances and rankings are drawn by.
STATISTIC: Final = "standardised distance T from the controls (robust SD)"

#: Points.
SMALL: Final = 6.0
TEXT: Final = 7.0

_SETTINGS: Final[dict[str, Any]] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib and has Greek, arrows, sub- and superscripts
    "font.size": TEXT,
    "text.color": INK,
    "text.parse_math": False,  # a `$` in a compound's name is a `$`
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.titlesize": TEXT,
    "axes.titlelocation": "left",
    "axes.titlepad": 4.0,
    "axes.labelsize": TEXT,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "lines.linewidth": 1.2,
    "legend.fontsize": SMALL,
    "legend.title_fontsize": SMALL,
    "legend.frameon": False,
    "legend.handletextpad": 0.5,
    "legend.borderaxespad": 0.2,
    "legend.labelspacing": 0.35,
    "figure.dpi": 300,
    "savefig.dpi": "figure",
    "svg.fonttype": "none",  # text stays text, to be edited and searched
    "svg.hashsalt": "dpf",
    "pdf.fonttype": 42,
}
#: The groups of matplotlib's settings that change what is drawn. The rest (backend, windows, keys) stays the user's.
_GROUPS: Final = (
    *("agg.", "axes.", "errorbar.", "figure.", "font.", "grid.", "hatch.", "image.", "legend.", "lines.", "markers."),
    *("mathtext.", "patch.", "path.", "pcolor.", "pdf.", "savefig.", "scatter.", "svg.", "text.", "xaxis.", "xtick."),
    *("yaxis.", "ytick."),
)
#: Date and software are left out of the files: equal figures are equal bytes.
_METADATA: Final[dict[str, dict[str, str | None]]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": "dpf"},
    "pdf": {"CreationDate": None, "Creator": "dpf", "Producer": None},
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw with dpf's settings, whatever the user's own matplotlib settings are; put theirs back at the end.

    Works as a decorator too. Matplotlib's settings belong to the process: two threads must not draw at once.
    """
    settings: Any = {key: value for key, value in matplotlib.rcParamsDefault.items() if key.startswith(_GROUPS)}
    with matplotlib.rc_context(settings | _SETTINGS):
        yield


def new_figure(width: float, height: float, *, arranged: bool = True) -> Figure:
    """An empty figure of `width` × `height` inches; `arranged`: with constrained layout. Within `house_style`."""
    figure = Figure(figsize=(width, height), layout="constrained" if arranged else None)
    FigureCanvasAgg(figure)
    return figure


def settle(figure: Figure) -> None:
    """Arrange the parts of a figure and keep them there: drawing no longer moves them. Sets every axes' limits too.

    A character that the figures' font lacks is replaced first, wherever a text came from: control characters have no
    place in an SVG.
    """
    for artist in figure.findobj(Text):
        assert isinstance(artist, Text)
        lines = artist.get_text().split("\n")
        if any(ord(letter) not in _glyphs() for line in lines for letter in line):
            artist.set_text("\n".join(map(printable, lines)))
    figure.draw_without_rendering()
    if not isinstance(figure.get_layout_engine(), PlaceHolderLayoutEngine | None):
        figure.set_layout_engine("none")


def save(figure: Figure, path: Path, *, formats: Sequence[str] = ("png", "svg")) -> tuple[Path, ...]:
    """Write a figure, once per format, atomically; equal figures give equal bytes.

    Parameters
    ----------
    path
        Where to, with or without one of the suffixes below: each format gets its own.
    formats
        Any of ``png`` (300 dots an inch), ``svg`` (text stays text), ``pdf``.

    Returns
    -------
    The files written, in the order of `formats`. All are drawn before the first is written.

    Raises
    ------
    UsageError
        A format dpf does not write.
    ProjectError
        The disk is full, or the folder cannot be written.
    """
    unknown = [name for name in formats if name not in _METADATA]
    if unknown:
        raise UsageError("not a format of figures", found=", ".join(unknown), expected=", ".join(_METADATA))
    stem = path.with_suffix("") if path.suffix.removeprefix(".") in _METADATA else path
    with house_style():
        settle(figure)
        drawn = {stem.with_name(f"{stem.name}.{name}"): _bytes(figure, name) for name in formats}
    for target, data in drawn.items():
        write_bytes(target, data)
    return tuple(drawn)


def _bytes(figure: Figure, name: str) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format=name, metadata=_METADATA[name])
    return buffer.getvalue()


def direction_colour(activation: float) -> str:
    """Vermillion for activating (above 0 on the activation axis), blue for suppressing, grey for neither or unknown."""
    return ACTIVATING if activation > 0 else SUPPRESSING if activation < 0 else GREY


def even_ticks(most: int, *, whole: bool = False) -> MaxNLocator:
    """At most about `most` ticks, at steps of 1, 2 or 5 times a power of ten; `whole`: at whole numbers."""
    return MaxNLocator(nbins=most, steps=[1, 2, 5, 10], integer=whole, min_n_ticks=1)


def count_of(count: int, thing: str) -> str:
    """``1 compound``, ``2 compounds``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def text_size(figure: Figure, text: str) -> tuple[float, float]:
    """Width and height that a small text takes in a figure, in points."""
    artist = figure.text(0, 0, text, fontsize=SMALL)
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    extent = artist.get_window_extent(canvas.get_renderer())  # type: ignore[no-untyped-call]
    artist.remove()
    return 72 * extent.width / figure.dpi, 72 * extent.height / figure.dpi


def footnote(figure: Figure, text: str) -> None:
    """Put a note in small grey print below the figure."""
    if text:
        figure.supxlabel(text, x=0.01, ha="left", fontsize=SMALL, color=GREY)


def no_data(axes: Axes, text: str) -> None:
    """Fill axes that have nothing to show with the reason."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY, fontsize=SMALL)


def printable(text: str) -> str:
    """`text` on one line; a character that the figures' font lacks as its number, ``{836f}``, so that names differ.

    Tables keep it as it is.
    """
    glyphs = _glyphs()
    line = " ".join(unicodedata.normalize("NFC", text).split())
    return "".join(letter if ord(letter) in glyphs else f"{{{ord(letter):x}}}" for letter in line)


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(get_font(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))).get_charmap())


def shorten(names: Sequence[str], limit: int = 30) -> list[str]:
    """Names cut to `limit` characters with an ellipsis: at the end, or in the middle where that made two names one.

    Names that are the same even so are numbered.
    """
    whole = [printable(name) for name in names]
    cut = [name if len(name) <= limit else name[: limit - 1].rstrip(" ,-(") + "…" for name in whole]
    met = Counter(cut)
    tail = (limit - 1) // 2
    short = [
        end if len(name) <= limit or met[end] == 1 else f"{name[: limit - 1 - tail]}…{name[-tail:]}"
        for name, end in zip(whole, cut, strict=True)
    ]
    alike: dict[str, list[str]] = {}
    for name, end in zip(whole, short, strict=True):
        if name not in (same := alike.setdefault(end, [])):
            same.append(name)
    return [
        end if len(alike[end]) == 1 else f"{end} #{alike[end].index(name) + 1}"
        for name, end in zip(whole, short, strict=True)
    ]
