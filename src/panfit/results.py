"""Result files with a pedigree, and the tables of docs/results.md and README.md made from them (`make results`).

    results/<dataset>/<model>-<recipe>-seed<k>-<negatives>.json      one evaluation of one trained model
    results/<anything>/<name>.json with a key "case"                 one benchmark

A table's row is a model and a recipe: mean and spread over its seeds. Nothing in a table is typed. Run as a module:
``python -m panfit.results`` writes the tables between the marker comments, ``--check`` exits with 1 if they are stale.
"""

import argparse
import json
import logging
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from panfit.config import Config
from panfit.errors import DataError, PanfitError, Problem
from panfit.evaluate import Result
from panfit.files import write_aside
from panfit.outfits import Kind
from panfit.page import markdown_table
from panfit.pedigree import pedigree

LOGGER = logging.getLogger("panfit")

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
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


def results_table(
    folder: str | Path, *, dataset: str | None = None, split: str = "test", headline: bool = False
) -> str:
    """Markdown tables of a results folder, one a data set, best AUC first; "" where there is nothing.

    Args:
        folder: as `write_result` filled it.
        dataset: only this one's table.
        split: which split's results.
        headline: leave out the rows of studies, whose recipe is named "study.row".

    Raises:
        DataError: files that are not results, or results of two versions of one data set.
    """
    files = [content for content in read_results(folder) if "case" not in content and content["split"] == split]
    files = [content for content in files if dataset in (None, content["dataset"])]
    files = [content for content in files if not (headline and "." in content["recipe"])]
    files.sort(key=lambda content: str(content["dataset"]))
    tables = []
    for name, group in groupby(files, key=lambda content: str(content["dataset"])):
        of_dataset = list(group)
        checksums = {content["checksum"] for content in of_dataset}
        if len(checksums) > 1:
            raise DataError(
                f"the results of {name!r} are of {len(checksums)} different versions of the data: remove the old ones"
            )
        tables.append(_dataset_table(name, of_dataset, split))
    return "\n\n".join(tables)


def benchmarks_table(folder: str | Path) -> str:
    """Markdown table of the benchmarks of a results folder; "" where there are none."""
    files = [content for content in read_results(folder) if "case" in content]
    rows = [[_cell(content.get(key)) for key in BENCHMARK_KEYS] for content in files]
    return markdown_table([key.replace("_", " ") for key in BENCHMARK_KEYS], rows) if rows else ""


def stale_files(root: str | Path) -> dict[Path, str]:
    """Path -> the text that it should have, for those of docs/results.md and README.md that the results have outrun.

    Raises:
        DataError: as `results_table`; or a README.md without the marker comments.
    """
    root = Path(root)
    tables = results_table(root / "results") or "No results yet."
    headline = results_table(root / "results", headline=True) or "No results yet."
    benchmarks = benchmarks_table(root / "results")
    document = root / "docs" / "results.md"
    whole = f"{tables}\n\n## Benchmarks\n\n{benchmarks}" if benchmarks else tables
    stale = {}
    for path, block in ((document, whole), (root / "README.md", headline)):
        text = path.read_text("utf-8") if path.exists() else ""
        if path == document and BEGIN not in text:
            text = f"# Results\n\nMade by `make results` from the files under `results/`.\n\n{BEGIN}\n{END}\n"
        wanted = _with_block(path, text, block)
        if not path.exists() or wanted != path.read_text("utf-8"):
            stale[path] = wanted
    return stale


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m panfit.results [--check] [--root DIR]``: the exit status."""
    parser = argparse.ArgumentParser(prog="python -m panfit.results", description="Write the tables of the results.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a table is stale")
    parser.add_argument("--root", type=Path, default=Path(), help="the project's folder")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        stale = stale_files(options.root)
    except PanfitError as error:
        LOGGER.error("error: %s", error)
        return 2
    for path, text in stale.items():
        if options.check:
            LOGGER.error("%s is stale: run make results", path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_aside(path, text)
            LOGGER.info("wrote %s", path)
    return 1 if options.check and stale else 0


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


def _with_block(path: Path, text: str, block: str) -> str:
    before, found_begin, rest = text.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not found_begin or not found_end:
        raise DataError(f"{path}: wanted the lines {BEGIN} and {END} around the place of the tables; add them")
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def _rounded(values: list[Any]) -> list[Any]:
    return [round(value, DIGITS) if isinstance(value, float) else value for value in values]


if __name__ == "__main__":
    sys.exit(main())
