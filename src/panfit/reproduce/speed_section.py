"""docs/benchmarks.md and its charts, made from the result files of benchmarks/speed alone (`make bench`).

A speed result is told by its key "speed", the case's short name. Numbers that a case keeps in nested objects are told
as they are called there. matplotlib is imported only when a chart is drawn.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from panfit.charts import require_matplotlib
from panfit.page import markdown_table

Content = Mapping[str, Any]

ORDER = ("import", "loading", "decoding", "extraction", "frozen-closet", "frozen-stored", "end-to-end", "evaluation")
"""In which the page shows them; what is not named here comes last."""
TITLE = "# Benchmarks: speed and memory\n\nMade by `make bench` from the files under `results/benchmarks`.\n"
READING = (
    "Each case does one thing three ways in one process, in turns, the best of several rounds: panfit; plainly, as "
    "published codes do it (an item is loaded, or decoded, and encoded anew for every slot of every outfit, "
    "float32, by a per-sample Dataset; metrics are loops over users); and as fast as the machine allows, which is "
    "said under each case. *Times plain* is plain’s time over panfit’s, *batched* the same where plain puts outfits"
    " through the model a batch at a time rather than one by one; *of the ceiling* the ceiling’s time over "
    "panfit’s; what was aimed at stands in parentheses, and ✗ marks what misses it. *Memory* is the most anonymous "
    "memory of the process while panfit worked; mapped files, whose pages the system can drop, are not counted. "
    "Wall-clock seconds of an otherwise idle machine. The search, tables and two-stage benchmarks are in "
    "[results.md](results.md#search-and-tables)."
)
RATIOS, SHARES = "benchmarks-ratios.svg", "benchmarks-shares.svg"
"""Under docs/images."""
TOLD = {
    "speed", "case", "ceiling", "ratio_to_plain", "ratio_to_plain_batched", "target", "share_of_ceiling",
    "target_share", "anonymous_mb", "commit", "dirty", "hardware", "peak_mb", "created_at",
}  # fmt: skip
"""What stands in the table or the footnote, and not in a case's list."""
INK, SOFT, LINE, OURS, GOAL = "#1f2328", "#59636e", "#d1d9e0", "#2a78d6", "#bc4c00"


def speed_files(files: Sequence[Content]) -> list[Content]:
    """The speed results among all results, in the page's order."""
    place = {case: row for row, case in enumerate(ORDER)}
    found = [file for file in files if "speed" in file]
    return sorted(found, key=lambda file: (place.get(file["speed"], len(ORDER)), file["speed"]))


def speed_page(files: Sequence[Content]) -> str:
    """What docs/benchmarks.md says between its markers; "" without speed results."""
    shown = speed_files(files)
    if not shown:
        return ""
    rows = [
        [
            f"[{file['speed']}](#{file['speed']})",
            _aimed(file["ratio_to_plain"], file.get("target"), "{:.3g}"),
            _aimed(file.get("ratio_to_plain_batched"), None, "{:.3g}"),
            _aimed(file["share_of_ceiling"], file.get("target_share"), "{:.0%}"),
            "–" if file.get("anonymous_mb") is None else f"{file['anonymous_mb']:.0f} MB",
        ]
        for file in shown
    ]
    parts = [
        READING,
        markdown_table(["case", "times plain", "batched", "of the ceiling", "memory"], rows),
        f"![Times as fast as plain](images/{RATIOS})",
        f"![Share of the machine’s ceiling](images/{SHARES})",
    ]
    for file in shown:
        lines = "\n".join(f"- {name}: {value}" for name, value in _numbers(file))
        parts.append(
            f"## {file['speed']}\n\n{file['case']}. The ceiling: {file['ceiling']}.\n\n{lines}\n\n{_made(file)}"
        )
    return "\n\n".join(parts)


def speed_charts(files: Sequence[Content]) -> dict[str, str]:
    """Image name -> SVG, light on light and dark pages alike; each ends with `chart_mark`. {} without speed results.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    shown = speed_files(files)
    if not shown:
        return {}
    names = [str(file["speed"]) for file in shown]
    ratios = [(file["ratio_to_plain"], file.get("target")) for file in shown]
    shares = [(file["share_of_ceiling"], file.get("target_share")) for file in shown]
    return {
        RATIOS: _bars(names, ratios, "times as fast as plain", log=True) + chart_mark(files),
        SHARES: _bars(names, shares, "share of the ceiling", log=False) + chart_mark(files),
    }


def chart_mark(files: Sequence[Content]) -> str:
    """The last line of a chart, by which a stale one is known whatever matplotlib drew it."""
    keys = ("speed", "ratio_to_plain", "target", "share_of_ceiling", "target_share")
    told = [[file.get(key) for key in keys] for file in speed_files(files)]
    return f"<!-- of results {hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]} -->\n"


def _aimed(value: float | None, target: float | None, form: str) -> str:
    """A number, what it was to be, and a mark where it is less."""
    if value is None:
        return "–"
    if target is None:
        return form.format(value)
    return f"{form.format(value)} ({form.format(target)}){'' if value >= target else ' ✗'}"


def _numbers(file: Content, prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in file.items():
        if not prefix and key in TOLD:
            continue
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{name}, ")
        elif isinstance(value, float):
            yield name, f"{value:.4g}"
        elif value is not None:
            yield name, str(value)


def _made(file: Content) -> str:
    hardware = file["hardware"]
    of = f"`{str(file['commit'])[:10]}`{' with changes that were not committed' if file['dirty'] else ''}"
    return (
        f"*{hardware['processor']}, {hardware['cores']} cores, {hardware['threads']} threads, torch "
        f"{hardware['torch']}; code {of}; {file['created_at'][:10]}; peak memory of the process, plain included, "
        f"{file['peak_mb']} MB.*"
    )


def _bars(names: Sequence[str], values: Sequence[tuple[Any, Any]], title: str, *, log: bool) -> str:
    """A bar a case, a tick where it was to reach."""
    matplotlib = require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 0.42 * len(names) + 0.9), layout="constrained", facecolor="white")
    axis = figure.subplots()
    start = 1.0 if log else 0.0
    for place, (value, target) in enumerate(values):
        if value is not None:
            axis.barh(place, value - start, 0.55, left=start, color=OURS)
            text = f"{value:.3g}" if log else f"{value:.0%}"
            axis.annotate(text, (max(value, start), place), (5, 0), textcoords="offset points", va="center", color=INK)
        if target is not None:
            axis.plot([target, target], [place - 0.38, place + 0.38], color=GOAL, linewidth=2)
    if log:
        axis.set_xscale("log")
    axis.axvline(start if log else 1.0, color=SOFT, linewidth=0.9)
    axis.set_title(f"{title} (orange: the target)", loc="left", fontsize=10.5, color=INK)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(colors=SOFT, labelcolor=INK, length=0)
    axis.grid(axis="x", color=LINE, linewidth=0.7)
    axis.set_axisbelow(True)
    axis.margins(x=0.12)
    for side in axis.spines.values():
        side.set_visible(False)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue().rstrip() + "\n"
