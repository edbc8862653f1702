"""How time and memory grow with the data: a chapter of docs/benchmarks.md and its chart (`python -m benchmarks.scale`).

A study of scale is told by its keys "floor" and "runs". What a stage takes at the floor it takes for nothing (starting,
importing) and is taken off before growth is told. matplotlib is imported only when the chart is drawn.
"""

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from panfit.charts import require_matplotlib
from panfit.page import markdown_table

Content = Mapping[str, Any]
Run = Mapping[str, Any]

CHART = "scale.svg"
"""Under docs/images."""
TITLE = "Scale: from 1/100 of Polyvore-630 to ten times it"
MEMORY_TARGET_MB, METRICS_TARGET_S, TARGET_SCALE = 4000.0, 1.0, 1.0
MEMORY_STAGES = ("train", "evaluate")
WORTHWHILE = 0.2
"""Growth is told where a stage takes at least this share of its floor more than at the floor."""
INK, SOFT, LINE = "#1f2328", "#59636e", "#d1d9e0"
COLORS = ("#2a78d6", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#9a6700", "#0a7ea4", "#57606a")
READING = (
    "Generated data sets of just Polyvore-630’s counts, and of a part or a multiple of them. Each stage is a process "
    "of its own, started and ended; seconds of the clock, and in parentheses of all processors. *Growth* is the "
    "exponent p of time ∝ size^p from one scale to the next, once what the stage takes at the floor ({floor:g} of "
    "Polyvore-630: starting, importing) is taken off: 1 is linear, less is better; – where hardly anything is left. "
    "*Beside the page cache* is the most anonymous memory; mapped files, whose pages the system can drop, come on top "
    "up to *at most*."
)


def scale_study(files: Sequence[Content]) -> Content | None:
    """The study among all results."""
    return next((file for file in files if "floor" in file and "runs" in file), None)


def growth(study: Content, stage: str, key: str = "wall_s") -> dict[float, float | None]:
    """Scale -> the exponent of growth from the scale before; None where it cannot be told."""
    runs = {run["scale"]: run for run in study["runs"] if run["stage"] == stage}
    floor = runs.get(study["floor"])
    shown = sorted(scale for scale in runs if scale != study["floor"])
    if floor is None:
        return dict.fromkeys(shown[1:])
    found: dict[float, float | None] = {}
    for before, after in pairwise(shown):
        small, large = (runs[scale][key] - floor[key] for scale in (before, after))
        of_size = (after - study["floor"]) / (before - study["floor"])
        is_plain = small >= WORTHWHILE * floor[key] and large > 0
        found[after] = math.log(large / small) / math.log(of_size) if is_plain else None
    return found


def scale_section(files: Sequence[Content]) -> str:
    """The chapter; "" without a study."""
    study = scale_study(files)
    if study is None:
        return ""
    stages = [name for name in study["stages"] if any(run["stage"] == name for run in study["runs"])]
    about = "\n".join(f"- **{name}**: {study['stages'][name]}" for name in stages)
    map_shape = " x ".join(map(str, study["map"]))
    recipe = f"Training is `{study['recipe']}` with {', '.join(f'`{change}`' for change in study['changes'])}."
    parts = [
        f"## {TITLE}",
        READING.format(floor=study["floor"]),
        _sizes(study),
        f"{about}\n\nMaps are {map_shape}, float16. {recipe}",
        f"![Time and memory against scale](images/{CHART})",
        _table(study, stages),
        _targets(study),
        _made(study),
    ]
    return "\n\n".join(part for part in parts if part)


def _sizes(study: Content) -> str:
    rows = [
        [
            f"{float(scale):g}",
            *(f"{size[key]:,}" for key in ("users", "train_likes", "val_likes", "test_likes", "items")),
        ]
        for scale, size in study["sizes"].items()
    ]
    return markdown_table(["scale", "users", "train likes", "val likes", "test likes", "items"], rows)


def _table(study: Content, stages: Sequence[str]) -> str:
    rows = []
    for stage in stages:
        grown = growth(study, stage)
        for run in (run for run in study["runs"] if run["stage"] == stage):
            power = grown.get(run["scale"])
            rows.append(
                [
                    stage,
                    f"{run['scale']:g}",
                    f"{run['wall_s']:.1f} ({run['cpu_s']:.1f})",
                    "–" if power is None else f"{power:.2f}",
                    _mb(run["anonymous_mb"]),
                    _mb(run["peak_mb"]),
                    ", ".join(f"{key.replace('_', ' ')} {value:,}" for key, value in run["details"].items()),
                ]
            )
    return markdown_table(
        ["stage", "scale", "seconds", "growth", "beside the page cache", "at most", "it says itself"], rows
    )


def _mb(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f} MB"


def _targets(study: Content) -> str:
    """What was aimed at, and whether it is reached."""
    at_one = {run["stage"]: run for run in study["runs"] if run["scale"] == TARGET_SCALE}
    lines = []
    for stage in MEMORY_STAGES:
        if stage in at_one and at_one[stage]["anonymous_mb"] is not None:
            found = at_one[stage]["anonymous_mb"]
            lines.append(
                _line(f"memory of {stage} at scale 1", _mb(found), _mb(MEMORY_TARGET_MB), found < MEMORY_TARGET_MB)
            )
    if "metrics" in at_one:
        found = at_one["metrics"]["details"]["metrics_s"]
        lines.append(_line("metrics at scale 1", f"{found:.2f} s", f"{METRICS_TARGET_S:g} s", found < METRICS_TARGET_S))
    return "\n".join(lines)


def _line(what: str, found: str, target: str, is_met: bool) -> str:
    return f"- {what}: {found} (less than {target}{'' if is_met else ' ✗'})"


def _made(study: Content) -> str:
    commits = sorted({str(run["commit"])[:10] for run in study["runs"]})
    hardware = study["hardware"]
    dirty = " with changes that were not committed" if any(run["dirty"] for run in study["runs"]) else ""
    days = sorted({run["created_at"][:10] for run in study["runs"]})
    return (
        f"*{hardware['processor']}, {hardware['cores']} cores, {hardware['threads']} threads, torch "
        f"{hardware['torch']}; code {', '.join(f'`{commit}`' for commit in commits)}{dirty}; {', '.join(days)}.*"
    )


def scale_mark(files: Sequence[Content]) -> str:
    """The last line of the chart, by which a stale one is known whatever matplotlib drew it."""
    study = scale_study(files)
    runs = [] if study is None else study["runs"]
    told = [[run[key] for key in ("stage", "scale", "wall_s", "anonymous_mb")] for run in runs]
    return f"<!-- of results {hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]} -->\n"


def scale_chart(files: Sequence[Content]) -> dict[str, str]:
    """Image name -> SVG, of time and of memory against scale, both logarithmic; {} without a study.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    study = scale_study(files)
    if study is None:
        return {}
    matplotlib = require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.4), layout="constrained", facecolor="white")
    times, memories = figure.subplots(1, 2)
    panels = ((times, "wall_s", "seconds"), (memories, "anonymous_mb", "MB beside the page cache"))
    for axis, key, title in panels:
        for place, stage in enumerate(study["stages"]):
            runs = [run for run in study["runs"] if run["stage"] == stage and run[key] is not None]
            runs = [run for run in runs if run["scale"] != study["floor"]]
            if runs:
                color = COLORS[place % len(COLORS)]
                x, y = [run["scale"] for run in runs], [run[key] for run in runs]
                axis.plot(x, y, "o-", color=color, linewidth=1.8, markersize=4.5, label=stage)
        axis.set_xscale("log")
        axis.set_yscale("log")
        _straight(axis)
        axis.set_title(title, loc="left", fontsize=10.5, color=INK)
        axis.set_xlabel("times Polyvore-630", color=SOFT)
        axis.tick_params(colors=SOFT, labelcolor=INK, length=0, which="both")
        axis.grid(color=LINE, linewidth=0.7)
        axis.set_axisbelow(True)
        for side in axis.spines.values():
            side.set_visible(False)
    memories.axhline(MEMORY_TARGET_MB, color=SOFT, linewidth=1.0, dashes=(4, 3))
    handles, labels = times.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, labelcolor=INK, fontsize=9
    )
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": CHART}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return {CHART: buffer.getvalue().rstrip() + "\n" + scale_mark(files)}


def _straight(axis: Any) -> None:
    """A thin line of growth 1, to compare with, within what the axis shows."""
    low, high = axis.get_xlim()
    bottom, top = axis.get_ylim()
    axis.plot([low, high], [bottom, bottom * high / low], color=SOFT, linewidth=0.9, linestyle=":")
    axis.set_xlim(low, high)
    axis.set_ylim(bottom, top)
