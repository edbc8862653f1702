"""What the paper does not measure, as Markdown from result files alone: newcomers, faithfulness, search and tables.

Benchmarks are told apart by the keys they hold, never by their names.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from panfit.page import markdown_table

Content = Mapping[str, Any]

MEASURES = {"auc_hard": "AUC, hard negatives", "auc_random": "AUC", "fitb": "FITB", "ndcg": "NDCG"}
NEWCOMERS_READING = (
    "Every user is held out once: a model that never saw his train and validation likes takes him in as a newcomer, "
    "from so many of his likes, and he answers the test split’s questions. *Trained* is the user’s own embedding in a "
    "model trained with everybody; the way goes from no likes (the mean user) to there. 95 % intervals over users."
)
FAITHFUL_READING = (
    "A part of a garment is hidden in its photo, and the personal score of the garment is taken again. How much does "
    "it change when what the user’s own map marks is hidden, when as much is hidden elsewhere on the garment, and when "
    "what the map of a user of another taste marks is? The true regions are what the user truly cares about. Means of "
    "the absolute change, and the 95 % interval of own − elsewhere over users."
)
SEARCH_READING = (
    "One line a benchmark; `benchmarks/` holds their code, and the files under `results/benchmarks` the rest."
)


def newcomers_section(files: Sequence[Content]) -> str:
    """The likes-to-quality curve of each data set; "" without any."""
    parts = []
    for file in (file for file in files if "curve" in file and "trained_with" in file):
        rows = []
        for point in file["curve"]:
            cells = [_interval(point[measure]) for measure in MEASURES]
            way = "–" if point["likes"] == 0 else f"{point['auc_hard']['share_of_the_way']:.0%}"
            seconds = file["fit_cpu_s"].get(str(point["likes"]))
            rows.append([str(point["likes"]), *cells, way, "–" if seconds is None else f"{1000 * seconds:.0f}"])
        rows.append(["trained", *(f"{file['trained_with'][measure]:.3f}" for measure in MEASURES), "100%", "–"])
        header = ["likes", *MEASURES.values(), "share of the way, hard negatives", "ms of one core"]
        folds = len(file["folds"])
        about = (
            f"{file['users']} users held out, {folds} fold{'s' if folds > 1 else ''}, {file['draws']} draws of likes."
        )
        parts.append(f"### Newcomers of {file['dataset']}\n\n{about}\n\n{markdown_table(header, rows)}")
    return "\n\n".join([NEWCOMERS_READING, *parts]) if parts else ""


def faithfulness_section(files: Sequence[Content]) -> str:
    """What hiding a marked region changes; "" without results."""
    parts = []
    for file in (file for file in files if "places_elsewhere" in file):
        rows = [
            [
                {"truth": "true regions"}.get(case["marks"], f"{case['marks']} map"),
                case["fill"],
                case["codes"],
                *(f"{case[which]['value']:.3f}" for which in ("own", "elsewhere", "another")),
                f"{case['ratio']:.2f}",
                "{:.3f} to {:.3f}".format(*case["above_elsewhere"]["ci95"]),
            ]
            for case in file["cases"]
        ]
        header = ["marks", "hidden by", "codes", "own", "elsewhere", "another’s", "own / elsewhere", "own − elsewhere"]
        about = (
            f"{file['dataset']}, {file['users']} users, {file['garments_per_category']} test garments of each "
            f"category; {file['share_hidden']:.0%} of a garment’s pixels are hidden."
        )
        parts.append(f"{about}\n\n{markdown_table(header, rows)}")
    return "\n\n".join([FAITHFUL_READING, *parts]) if parts else ""


def search_section(files: Sequence[Content]) -> str:
    """Search, tables and two stages, a line each; "" without results."""
    lines = []
    for file in files:
        threads = (file.get("hardware") or {}).get("threads")
        on = f" ({threads} thread{'s' if threads != 1 else ''})" if threads else ""
        if "fast_ms" in file and "queries" in file:
            lines.append(
                f"{file['case']}{on}: {file['fast_ms']:.2g} ms a query, {file['ratio_to_plain']:.3g} times as fast as "
                "a float32 matrix product, the same items"
            )
        elif "table_s" in file and "recall_at_10" in file:
            lines.append(
                f"{file['case']}{on}: recall@10 {file['recall_at_10']:.3f}, recall@100 {file['recall_at_100']:.3f}, in "
                f"{file['two_stage_ms']:.0f} ms against {file['table_s']:.1f} s, {file['ratio_to_plain']:.0f} times "
                f"less; {file['shortlisted']} items shortlisted by the nearest of {file['prototypes']} prototypes"
            )
        elif "table_s" in file and "share_of_ceiling" in file:
            hot = sorted(file["table_s"])[len(file["table_s"]) // 2]
            lines.append(
                f"{file['case']}{on}: {hot:.1f} s, {file['ratio_to_plain']:.3g} times as fast as one item at a time, "
                f"{file['share_of_ceiling']:.0%} of what the machine's memory and arithmetic allow, in "
                f"{file['anonymous_mb'] / 1000:.1f} GB of its own memory"
            )
        elif "fit_cpu_s" in file and "target_s" in file:
            lines.append(f"{file['case']}{on}: {file['fit_cpu_s']:.2g} s")
    return "\n\n".join([SEARCH_READING, "\n".join(f"- {line}" for line in lines)]) if lines else ""


def _interval(measured: Mapping[str, Any]) -> str:
    low, high = measured["ci95"]
    return f"{measured['value']:.3f} ({low:.3f}–{high:.3f})"
