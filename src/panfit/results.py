"""Result files with a pedigree, and plain tables of them: a row is a model and a recipe, its numbers are of all seeds.

    results/<dataset>/<model>-<recipe>-seed<k>-<negatives>.json      one evaluation of one trained model
    results/<anything>/<name>.json with a key "case"                 one benchmark

docs/results.md is made of them, and of what `panfit.reproduce.document` makes of the paper's tables.
"""

import json
import logging
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from panfit.config import Config
from panfit.errors import DataError, Problem
from panfit.evaluate import Result
from panfit.files import write_aside
from panfit.outfits import Kind
from panfit.page import markdown_table
from panfit.pedigree import pedigree

LOGGER = logging.getLogger("panfit")

NEEDED = ("model", "recipe", "dataset", "checksum", "split", "negatives", "seed", "fitb", "auc", "ndcg", "relaxed")
"""Keys that a row of a table is made of."""
DIGITS = 6
"""Decimals of per-user values in a file."""
NAME = re.compile(r"[a-z0-9_.+]+")
"""What a model and a recipe may be called: they make a file name, joined by dashes."""


@dataclass(frozen=True)
class Column:
    """A column of numbers: which files of a row it reads, and what it takes from each."""

    title: str
    negatives: str
    keys: tuple[str, ...]

    def values(self, files: Sequence[Mapping[str, Any]]) -> list[float]:
        """The column's number in each of a row's files that has one."""
        found: list[float] = []
        for file in files:
            value: Any = file if file["negatives"] == self.negatives else None
            for key in self.keys:
                value = value.get(key) if isinstance(value, Mapping) else None
            if value is not None:
                found.append(float(value))
        return found


COLUMNS = (
    Column("FITB", "random", ("fitb",)),
    Column("AUC", "random", ("auc",)),
    Column("NDCG", "random", ("ndcg",)),
    Column("AUC, hard negatives", "hard", ("auc",)),
    Column("AUC, relaxed codes", "random", ("relaxed", "auc")),
)
BENCHMARK_KEYS = ("case", "ratio_to_plain", "share_of_ceiling", "target", "peak_mb")


def result_path(folder: str | Path, dataset: str, *, model: str, recipe: str, seed: int, negatives: Kind) -> Path:
    """Where `write_result` puts an evaluation."""
    return Path(folder) / dataset / f"{model}-{recipe}-seed{seed}-{negatives}.json"


def write_result(
    folder: str | Path,
    result: Result,
    *,
    model: str,
    seed: int,
    config: Config | None,
    seconds: float,
    recipe: str = "default",
    peak_mb: float | None = None,
    extra: Mapping[str, Any] | None = None,
    warn: bool = True,
) -> Path:
    """Write one evaluation with everything that is needed to make it again.

    Args:
        folder: the results folder; the file's name follows from the rest. An older file of that name is replaced.
        result: what was measured; brings the data set's name and checksum.
        model: pan, fhn, siamese, bilstm, csn, popularity, linear, ceiling, or an ablation's name.
        seed: of the training.
        config: the run's settings, or None for a model that has none.
        seconds: that the training took, on the hardware that is written down too; the evaluation's own are in
            ``evaluate_seconds``.
        recipe: a word for the settings, the same for all seeds.
        peak_mb: peak memory of the run; None: this process's so far.
        extra: further JSON values to keep.
        warn: log that the code is not committed, where that is so.

    Raises:
        ValueError: a model, recipe or data set whose name does not make a file name.
    """
    for name in (model, recipe):
        if not NAME.fullmatch(name):
            raise ValueError(f"a model's or recipe's name is of a-z, 0-9, '_', '.' and '+', not {name!r}")
    if Path(result.dataset).name != result.dataset:
        raise ValueError(f"the data set's name {result.dataset!r} is no folder's name")
    found = pedigree()
    if found["dirty"] and warn:
        LOGGER.warning("this result is of code that is not committed; its file and the tables will say so")
    shown = result.to_json()
    per_user = {name: _rounded(values) for name, values in shown.pop("per_user").items()}
    content = {
        "model": model,
        "recipe": recipe,
        "seed": seed,
        **shown,
        "seconds": round(seconds, 3),
        "evaluate_seconds": round(result.seconds, 3),
        **found,
        "peak_mb": found["peak_mb"] if peak_mb is None else peak_mb,
        "config": None if config is None else config.model_dump(mode="json"),
        **(extra or {}),
        "per_user": per_user,
    }
    path = result_path(folder, result.dataset, model=model, recipe=recipe, seed=seed, negatives=result.negatives)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (f" {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in content.items())
    write_aside(path, "{\n" + ",\n".join(lines) + "\n}\n")  # a line a key: a diff shows what changed
    return path


def read_results(folder: str | Path) -> list[dict[str, Any]]:
    """Every result file under a folder, in the order of their paths; benchmarks (with a key "case") too.

    Raises:
        DataError: files that are not results; all of them.
    """
    contents, problems = [], []
    for path in sorted(Path(folder).rglob("*.json")):
        remedy = "Remove the file, or run again what wrote it."
        try:
            content = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            problems.append(Problem(str(path), f"no JSON ({error})", "a result", remedy))
            continue
        if not isinstance(content, dict):
            problems.append(Problem(str(path), "no JSON object", "a result", remedy))
            continue
        missing = [] if "case" in content else [key for key in NEEDED if key not in content]
        if missing:
            problems.append(Problem(str(path), f"no {', '.join(missing)}", "a result", remedy))
        contents.append(content)
    if problems:
        raise DataError(f"{len(problems)} file(s) under {folder} are not results", problems)
    return contents


def results_tables(
    files: Sequence[dict[str, Any]], *, split: str = "test", headline: bool = False, without: Sequence[str] = ()
) -> dict[str, str]:
    """Data set -> its Markdown table, under a heading; best AUC first. Those of which there is nothing are left out.

    Args:
        files: as `read_results` gives them.
        split: which split's results.
        headline: leave out the rows of studies, whose recipe is named "study.row".
        without: studies to leave out.

    Raises:
        DataError: results of two versions of one data set.
    """
    tables = {}
    of_split = [content for content in files if "case" not in content and content["split"] == split]
    for name, group in groupby(sorted(of_split, key=_name), key=_name):
        of_dataset = list(group)
        checksums = {content["checksum"] for content in of_dataset}
        if len(checksums) > 1:
            raise DataError(
                f"the results of {name!r} are of {len(checksums)} different versions of the data: remove the old ones"
            )
        studies = [(content, *str(content["recipe"]).partition(".")[:2]) for content in of_dataset]
        shown = [content for content, study, dot in studies if not (dot and (headline or study in without))]
        if shown:
            tables[name] = _dataset_table(name, shown, split)
    return tables


def benchmarks_table(files: Sequence[Mapping[str, Any]]) -> str:
    """Markdown table of the benchmarks among result files; "" where there are none."""
    rows = [[_cell(content.get(key)) for key in BENCHMARK_KEYS] for content in files if "case" in content]
    return markdown_table([key.replace("_", " ") for key in BENCHMARK_KEYS], rows) if rows else ""


def _dataset_table(name: str, files: list[dict[str, Any]], split: str) -> str:
    """One data set's heading, table and footnote."""
    files = sorted(files, key=_row_key)
    rows: list[tuple[float, list[str]]] = []
    any_dirty = False
    for (model, recipe), group in groupby(files, key=_row_key):
        of_row = list(group)
        is_dirty = any(content.get("dirty") for content in of_row)
        any_dirty |= is_dirty
        num_seeds = len({content["seed"] for content in of_row})
        numbers = [column.values(of_row) for column in COLUMNS]
        auc = statistics.mean(numbers[1]) if numbers[1] else -1.0
        mark = " *" if is_dirty else ""
        rows.append((auc, [f"{model}{mark}", recipe, str(num_seeds), *(_spread(values) for values in numbers)]))
    rows.sort(key=lambda row: -row[0])
    header = ["model", "recipe", "seeds", *(column.title for column in COLUMNS)]
    used = [index for index in range(len(header)) if any(cells[index] != "-" for _, cells in rows)]
    table = markdown_table([header[index] for index in used], [[cells[index] for index in used] for _, cells in rows])
    users, questions = files[0].get("users", "?"), files[0].get("questions", "?")
    about = (
        f"{split.capitalize()} split, {users} users, {questions} FITB questions; mean ± standard deviation over seeds."
    )
    note = "\n\n\\* made by code that was not committed." if any_dirty else ""
    return f"### {name}\n\n{about}\n\n{table}{note}"


def _name(content: Mapping[str, Any]) -> str:
    return str(content["dataset"])


def _row_key(content: Mapping[str, Any]) -> tuple[str, str]:
    return str(content["model"]), str(content["recipe"])


def _spread(values: list[float]) -> str:
    """Mean, and standard deviation where there are several; "-" for none."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.3f}"


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _rounded(values: list[Any]) -> list[Any]:
    return [round(value, DIGITS) if isinstance(value, float) else value for value in values]
