"""The report's charts: matplotlib draws; the page's own colors and letters are put in, so that they follow its theme.

Each function returns an inline ``<svg>`` without any outside reference.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from panfit.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, LINE, ACCENT, SECOND, CARD = (f"#01010{number}" for number in range(1, 7))
THEME = {
    INK: "var(--ink)", SOFT: "var(--soft)", LINE: "var(--line)",
    ACCENT: "var(--accent)", SECOND: "var(--second)", CARD: "var(--card)",
}  # fmt: skip
SERIES = {f"#0101{10 + number}": f"var(--series-{number})" for number in range(1, 7)}
"""Stand-in colors, which `_inline` replaces by the page's variables."""


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval, and a second value beside it (the relaxed codes')."""

    value: float
    low: float
    high: float
    second: float


def interval_chart(
    panels: Mapping[str, Mapping[str, Interval]], *, ceilings: Mapping[str, float], chance: Mapping[str, float]
) -> str:
    """Panel -> row -> a dot with its interval; a dashed line at each panel's ceiling, a dotted one at chance."""
    rows = list(next(iter(panels.values())))
    figure, axes = _figure(len(panels), width=9.2, height=0.62 * len(rows) + 1.0, share_y=True)
    for axis, (name, values) in zip(axes, panels.items(), strict=True):
        for place, row in enumerate(rows):
            found, color = values[row], _series(place)
            axis.plot([found.low, found.high], [place, place], color=color, linewidth=2.2, solid_capstyle="round")
            axis.plot(found.second, place + 0.24, "o", color="none", markeredgecolor=color, markersize=5.5)
            axis.plot(found.value, place, "o", color=color, markersize=8)
        axis.axvline(ceilings[name], color=INK, linewidth=1.1, dashes=(4, 3))
        axis.axvline(chance[name], color=SOFT, linewidth=1.0, linestyle=":")
        axis.set_title(name, loc="left", fontsize=10.5, color=INK, pad=18, fontweight="bold")
        for label, where in (("ceiling", ceilings[name]), ("chance", chance[name])):
            axis.annotate(
                label, (where, 1), (0, 4), xycoords=("data", "axes fraction"), textcoords="offset points",
                ha="center", va="bottom", fontsize=8.5, color=SOFT,
            )  # fmt: skip
        axis.set_yticks(range(len(rows)), rows)
        axis.set_ylim(len(rows) - 0.45, -0.55)
        axis.grid(axis="x", color=LINE, linewidth=0.7)
    return _inline(figure, "Test results of each recipe with 95 % intervals, beside the ceiling and chance")


def curve_chart(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, x_label: str, y_label: str) -> str:
    """Name -> (x, y) as lines, each with its name at its end."""
    figure, (axis,) = _figure(1, width=9.2, height=3.3)
    ends = []
    for place, (name, (x, y)) in enumerate(curves.items()):
        axis.plot(x, y, color=_series(place), linewidth=2, solid_capstyle="round", solid_joinstyle="round")
        ends.append((float(y[-1]), float(x[-1]), name, _series(place)))
    low, high = axis.get_ylim()
    last = max(end[1] for end in ends)
    heights = _apart([end[0] for end in ends], (high - low) / 13)
    for (_, _, name, color), height in zip(ends, heights, strict=True):
        axis.annotate(
            name, (last, height), (10, 0), textcoords="offset points", va="center", fontsize=9, color=color,
            annotation_clip=False,
        )  # fmt: skip
    axis.set_xlabel(x_label, color=SOFT, fontsize=9.5)
    axis.set_ylabel(y_label, color=SOFT, fontsize=9.5)
    axis.grid(axis="y", color=LINE, linewidth=0.7)
    return _inline(figure, f"{y_label} by {x_label}")


@dataclass(frozen=True)
class Bar:
    """A value with its spread, and another source's value beside it; either may be missing."""

    value: float | None
    spread: float
    other: float | None


def bar_chart(
    panels: Mapping[str, Mapping[str, Bar]], *, starts: Mapping[str, float], ceilings: Mapping[str, float], accent: str
) -> str:
    """Panel -> row -> a bar, and under it a paler one of the other source; both begin where guessing ends.

    Args:
        panels: every one with the same rows.
        starts: panel -> where its bars begin; a value below it goes to the left.
        ceilings: panel -> a dashed line; may lack some.
        accent: the row that stands out.
    """
    rows = list(next(iter(panels.values())))
    figure, axes = _figure(len(panels), width=9.6, height=0.55 * len(rows) + 0.75, share_y=True)
    for axis, (name, bars) in zip(axes, panels.items(), strict=True):
        start = starts[name]
        for place, row in enumerate(rows):
            bar, color = bars[row], ACCENT if row == accent else SECOND
            if bar.value is not None:
                axis.barh(place - 0.13, bar.value - start, 0.36, left=start, color=color, linewidth=0)
                reach = max(bar.value, start) + bar.spread
                if bar.spread:
                    low, high = bar.value - bar.spread, bar.value + bar.spread
                    axis.plot([low, high], [place - 0.13] * 2, color=INK, linewidth=1.1, solid_capstyle="butt")
                _label(axis, f"{bar.value:.3f}", reach, place - 0.13, INK)
            if bar.other is not None:
                axis.barh(place + 0.2, bar.other - start, 0.18, left=start, color=SOFT, alpha=0.45, linewidth=0)
                _label(axis, f"{bar.other:.3f}", max(bar.other, start), place + 0.2, SOFT)
        if name in ceilings:
            axis.axvline(ceilings[name], color=INK, linewidth=1.1, dashes=(4, 3))
        axis.axvline(start, color=SOFT, linewidth=0.9)
        axis.set_title(name, loc="left", fontsize=10.5, color=INK, pad=9, fontweight="bold")
        axis.set_yticks(range(len(rows)), rows)
        axis.set_ylim(len(rows) - 0.55, -0.5)
        axis.set_xticks([])
        low, high = axis.get_xlim()
        axis.set_xlim(low, high + 0.13 * (high - low))  # room for the labels
    return _inline(figure, "Ours beside the paper's, a bar for each row")


def _label(axis: "Axes", text: str, x: float, y: float, color: str) -> None:
    axis.annotate(
        text, (x, y), (4, 0), textcoords="offset points", va="center_baseline", fontsize=8.5, color=color,
        annotation_clip=False, bbox={"facecolor": CARD, "edgecolor": "none", "pad": 1.0}, zorder=4,
    )  # fmt: skip


def require_matplotlib() -> Any:
    """matplotlib.pyplot's headless relatives. Raises MissingExtraError."""
    try:
        import matplotlib
    except ImportError:
        raise MissingExtraError("matplotlib", "plots") from None
    return matplotlib


def _figure(num_panels: int, *, width: float, height: float, share_y: bool = False) -> "tuple[Figure, list[Axes]]":
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")  # not pyplot: no global state, no window
    axes = list(figure.subplots(1, num_panels, squeeze=False, sharey=share_y)[0])
    for axis in axes:
        axis.set_facecolor("none")
        axis.tick_params(colors=SOFT, labelcolor=INK, labelsize=9.5, length=0, pad=6)
        for side in axis.spines.values():
            side.set_visible(False)
    return figure, axes


def _series(place: int) -> str:
    return list(SERIES)[place % len(SERIES)]


def _apart(values: Sequence[float], gap: float) -> list[float]:
    """The values moved up as little as it takes for labels at them to be ``gap`` apart."""
    moved = list(values)
    order = sorted(range(len(values)), key=values.__getitem__)
    for below, above in pairwise(order):
        moved[above] = max(moved[above], moved[below] + gap)
    return moved


def _inline(figure: "Figure", label: str) -> str:
    """A figure as an <svg> for a page: letters stay letters, colors are the page's, nothing refers outside."""
    matplotlib = require_matplotlib()
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for unwanted in (
        r"<metadata>.*?</metadata>",
        r"<style.*?</style>",
        r' xmlns(:\w+)?="[^"]*"',
        r'(?<=<g) id="[^"]*"',
    ):
        text = re.sub(unwanted, "", text, flags=re.DOTALL)
    text = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{label}">', text)
    for stand_in, variable in {**THEME, **SERIES}.items():
        text = text.replace(stand_in, variable)
    return text
