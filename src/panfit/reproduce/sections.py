"""The paper's tables in docs/results.md and in README.md: from result files to their sections, long and short."""

import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from panfit.errors import DataError
from panfit.evaluate import Difference
from panfit.page import markdown_table
from panfit.reproduce.recipe import default_recipe
from panfit.reproduce.rows import CEILING, TABLES, Row, Table
from panfit.reproduce.table import Content, TableReport, commits_of, hardware_of, make_report, measured_line
from panfit.reproduce.words import (
    NONE,
    SURE,
    changed_since,
    claim_sentence,
    data_name,
    duration,
    head,
    interval,
    is_sure,
    lead,
    mean_and_spread,
    number,
    papers_margin,
    scores_table,
    seeds,
    signed,
    steps_table,
    title_of,
)
from panfit.results import Column

COMPACT = ("fitb", "auc", "ndcg", "hard_auc")
"""Our columns in the short table."""
MEASURES = {
    "": ("the attention’s maximum lies there", None),
    "mass_": ("attention there, over the place’s share of the garment", 1.0),
    "pairs_": ("a pixel there gets more than one elsewhere", 0.5),
}
"""Prefix of what a file's "pointing" holds (`panfit.pointing.Pointing`) -> what it is, and its chance if fixed."""
POINTING = (
    "Does attention look where the user cares? Through his own eyes, another user’s, and nobody’s, which are the mean "
    "of all. The interval is the mean of the seeds’ own, over users, and p is the largest of theirs."
)


def study_of(file: Content) -> str:
    """The study that a result file's recipe, "study.row", names; "" for one of none."""
    study, dot, _ = str(file["recipe"]).partition(".")
    return study if dot else ""


def table_reports(files: Sequence[Content]) -> list[TableReport]:
    """The paper's tables as far as they have been run, by table and recipe.

    Args:
        files: all results of one data set and split.

    Raises:
        DataError: results that are said to be of a table, but of none of its rows.
    """
    reports = []
    for table in TABLES.values():
        recipes = sorted({str(file["recipe"]) for file in files if study_of(file) == table.name})
        reports += [_report(table, recipe, files) for recipe in recipes]
    return reports


def section_title(report: TableReport) -> str:
    """The section's heading; names the recipe unless it is the usual one for the data."""
    usual = report.recipe == default_recipe(report.dataset).replace("/", ".")
    return title_of(report) if usual else f"{title_of(report)}, recipe {report.recipe}"


def table_section(report: TableReport, files: Sequence[Content]) -> str:
    """A table in full: beside the paper, its claim, row by row, where attention looks, how it was made.

    Args:
        report: the table.
        files: those that it was made from may be among others.
    """
    rows = _rows(report.table, f"{report.table.name}.{report.recipe}", files)
    columns = [name for name in report.columns if not name.startswith("pointing")]
    facts = ", ".join(f"{count} {what}" for count, what in report.facts)
    parts = [f"{lead(report)} On test: {facts}.", scores_table(report, columns)]
    parts += [claim_sentence(report.margin, report)] if report.margin else []
    parts += [steps_table(report)] if report.steps else []
    pointing = pointing_table(rows)
    parts += [POINTING, pointing] if pointing else []
    return "\n\n".join([*parts, made_line([file for of_row in rows.values() for file in of_row])])


def compact_table(report: TableReport) -> str:
    """A table in short: the paper's AUC, and our means."""
    rows = [
        [
            line.row.title,
            number(line.paper.auc if line.paper else None),
            *(number(line.mean(name)) for name in COMPACT),
            str(len(line.seeds)),
        ]
        for line in report.lines
    ]
    paper = f"the paper’s AUC, {data_name(report.paper_dataset)}"
    return markdown_table(["row", paper, *map(head, COMPACT), "seeds"], rows)


def short_claim(report: TableReport) -> str:
    """The table's claim in a line; "" while a row of it is missing."""
    margin = report.margin
    if margin is None:
        return ""
    ours = "; ".join(
        f"{head(name)} {signed(found.value)}{SURE * is_sure(found)}" for name, found in margin.differences.items()
    )
    rows = f"{margin.better.title} − {margin.worse.title}"
    return f"{rows}, {seeds(margin.num_seeds)}: {ours}.{papers_margin(margin, report)}"


def pointing_table(rows: Mapping[Row, Sequence[Content]]) -> str:
    """Where attention looks, of the rows that have some in a drawn world; "" if there are none."""
    lines = []
    for row, files in rows.items():
        for prefix, (measure, chance) in MEASURES.items():
            eyes = [_pointing(files, f"{prefix}{name}") for name in ("own", "another", "nobody")]
            if not all(eyes):
                continue
            chances = [chance] if chance is not None else _pointing(files, "chance")
            lines.append([
                row.title,
                measure,
                *map(mean_and_spread, eyes),
                number(statistics.mean(chances)) if chances else NONE,
                _own_minus_another(files, prefix),
                str(len(eyes[0])),
            ])  # fmt: skip
    header = ["row", "where the user truly looks", "own eyes", "another’s", "nobody’s", "chance", "own − another’s"]
    return markdown_table([*header, "seeds"], lines) if lines else ""


def made_line(files: Sequence[Content]) -> str:
    """What code and machine results are of, and how long the trainings took."""
    commits = commits_of(files)
    told = [f"panfit commit {', '.join(commits) or 'unknown'}{changed_since(commits)}"]
    told += [f"{name} {value}" for name, value in hardware_of(files).items()]
    trained = {(file["model"], file["recipe"], file["seed"]): float(file["seconds"]) for file in files}
    told.append(f"{duration(sum(trained.values()))} of training in {len(trained)} runs")
    return f"Made by {'; '.join(told)}."


def anchor(title: str) -> str:
    """The name under which GitHub links a heading."""
    return "#" + re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _report(table: Table, recipe: str, files: Sequence[Content]) -> TableReport:
    rows = _rows(table, recipe, files)
    first = next(file for of_row in rows.values() for file in of_row)
    facts = [(f"{first[what]:,}", what) for what in ("users", "questions")]
    ceiling = [file for file in files if file["model"] == CEILING.name]
    runs = {row: {file["seed"] for file in of_row} for row, of_row in rows.items()}
    num_seeds = max(map(len, runs.values()))
    making: dict[str, Any] = {"recipe": recipe.partition(".")[2], "smoke": False, "settings": {}, "differing": {}}
    return make_report(
        table,
        rows,
        str(first["dataset"]),
        facts=facts,
        ceiling=measured_line(CEILING, ceiling) if ceiling else None,
        num_seeds=num_seeds,
        done=sum(map(len, runs.values())),
        total=num_seeds * len(rows),
        **making,
    )


def _rows(table: Table, recipe: str, files: Sequence[Content]) -> dict[Row, list[Content]]:
    """The rows that have results, in the table's order, and their files."""
    of_recipe = [file for file in files if file["recipe"] == recipe]
    strange = sorted({str(file["model"]) for file in of_recipe} - {row.name for row in table.rows})
    if strange:
        raise DataError(f"results of {recipe} whose model is no row of {table.name}: {', '.join(strange)}")
    rows = {row: [file for file in of_recipe if file["model"] == row.name] for row in table.rows}
    return {row: of_row for row, of_row in rows.items() if of_row}


def _own_minus_another(files: Sequence[Content], prefix: str) -> str:
    """The mean over seeds of a difference in pointing, of its interval's ends, and the largest p."""
    values, ps = (_pointing(files, prefix + name) for name in ("difference", "p_value"))
    lows, highs = (_pointing(files, f"{prefix}difference_ci95", place) for place in (0, 1))
    if not (values and ps and lows and highs):
        return NONE
    found = Difference(statistics.mean(values), (statistics.mean(lows), statistics.mean(highs)), max(ps))
    return f"{signed(found.value)} ({interval(found)})"


def _pointing(files: Sequence[Content], name: str, place: int | None = None) -> list[float]:
    """One number of each file's "pointing"; of a pair the one at a place."""
    if place is None:
        return Column(name, "random", ("pointing", name)).values(files)
    held = [(file.get("pointing") or {}).get(name) for file in files if file["negatives"] == "random"]
    return [float(pair[place]) for pair in held if pair is not None and pair[place] is not None]
