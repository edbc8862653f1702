"""A table's numbers: result files of every row and seed -> means, spreads, and paired differences, beside the paper's.

Everything a page or a terminal shows of a reproduction is in a `TableReport`, which is made of result files alone.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from panfit.evaluate import Difference, Result, compare
from panfit.outfits import Dataset, Kind
from panfit.reproduce.rows import Row, Scores, Table
from panfit.reproduce.seeds import averaged
from panfit.results import COLUMNS, Column

FITB, AUC, NDCG, HARD_AUC, RELAXED_AUC = COLUMNS
COLUMN_OF: dict[str, Column] = {
    "fitb": FITB,
    "auc": AUC,
    "ndcg": NDCG,
    "hard_auc": HARD_AUC,
    "relaxed_auc": RELAXED_AUC,
    "pointing_own": Column("own eyes", "random", ("pointing", "own")),
    "pointing_another": Column("another's", "random", ("pointing", "another")),
    "pointing_nobody": Column("nobody's", "random", ("pointing", "nobody")),
}
"""What is shown of a row, and where its result files hold it."""
PAPERS = ("fitb", "auc", "ndcg")
"""The columns that the paper has too."""
COMPARED: dict[str, tuple[Kind, str]] = {
    "fitb": ("random", "fitb"),
    "auc": ("random", "auc"),
    "ndcg": ("random", "ndcg"),
    "hard_auc": ("hard", "auc"),
}
"""Column -> the negatives and the metric that two rows are compared on."""

HARDWARE = ("processor", "cores", "threads", "gpu", "system", "python", "torch")
"""What is told of the machine, as `pedigree` names it."""

Content = Mapping[str, Any]
"""What a result file holds."""


@dataclass(frozen=True)
class Line:
    """One row, measured.

    Attributes:
        row: which.
        paper: the paper's numbers; None where it has none.
        seeds: that have been run.
        values: column -> one value a seed; a column that nothing was measured for is not there.
        seconds: of training, all seeds together.
    """

    row: Row
    paper: Scores | None
    seeds: tuple[int, ...]
    values: Mapping[str, Sequence[float]]
    seconds: float

    def mean(self, column: str) -> float | None:
        """Over seeds; None where nothing was measured."""
        return statistics.mean(self.values[column]) if column in self.values else None

    def spread(self, column: str) -> float | None:
        """The standard deviation over seeds; None for fewer than two."""
        values = self.values.get(column, ())
        return statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class Margin:
    """One row above another, on the seeds that both have run.

    Attributes:
        better, worse: the two rows; nothing says that the first truly is the better one.
        differences: column -> better minus worse, each user's values averaged over seeds, users resampled.
        paper: the paper's margin between the two, or None.
        num_seeds, num_users: that were compared.
    """

    better: Row
    worse: Row
    differences: Mapping[str, Difference]
    paper: Scores | None
    num_seeds: int
    num_users: int


@dataclass(frozen=True)
class TableReport:
    """A table as far as it has come.

    Attributes:
        table: which of the paper's.
        dataset: the data set's name.
        paper_dataset: whose of the paper's numbers stand beside.
        facts: what the data set holds: (how many, of what).
        recipe: the settings' name.
        smoke: whether it only shows that everything runs.
        num_seeds: that each row is to run.
        done, total: runs.
        lines: the rows, in the table's order.
        ceiling: what the true tastes reach, where they are known.
        steps: each row above the row before it.
        margin: the table's claim; None while a row of it is missing.
        settings: row -> its settings as TOML.
        differing: setting -> its value in each row, for those in which rows differ.
        hardware: what the runs were made on.
        commits: of the code, "+" behind one that was changed since.
        notes: what a reader should know besides.
    """

    table: Table
    dataset: str
    paper_dataset: str
    facts: Sequence[tuple[str, str]]
    recipe: str
    smoke: bool
    num_seeds: int
    done: int
    total: int
    lines: Sequence[Line]
    ceiling: Line | None
    steps: Sequence[Margin]
    margin: Margin | None
    settings: Mapping[str, str]
    differing: Mapping[str, Sequence[str]]
    hardware: Mapping[str, str]
    commits: Sequence[str]
    notes: Sequence[str]

    @property
    def is_papers_data(self) -> bool:
        """Whether the paper's numbers are of this very data set."""
        return self.dataset == self.paper_dataset

    @property
    def columns(self) -> list[str]:
        """The columns in which anything was measured; the paper's three always."""
        lines = [*self.lines, *([self.ceiling] if self.ceiling else [])]
        return [name for name in COLUMN_OF if name in PAPERS or any(name in line.values for line in lines)]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready object."""
        return {
            "table": self.table.name,
            "dataset": self.dataset,
            "recipe": self.recipe,
            "smoke": self.smoke,
            "seeds": self.num_seeds,
            "runs": {"done": self.done, "total": self.total},
            "paper": {"dataset": self.paper_dataset, "rows": {name: vars(row) for name, row in self._paper().items()}},
            "rows": {line.row.name: _line_json(line) for line in self.lines},
            "ceiling": None if self.ceiling is None else _line_json(self.ceiling),
            "differences": [_margin_json(step) for step in self.steps],
            "margin": None if self.margin is None else _margin_json(self.margin),
            "notes": list(self.notes),
        }

    def _paper(self) -> Mapping[str, Scores]:
        return self.table.paper[self.paper_dataset]


def make_report(
    table: Table,
    files: Mapping[Row, Sequence[Content]],
    dataset: str,
    *,
    facts: Sequence[tuple[str, str]],
    ceiling: Line | None,
    notes: Sequence[str] = (),
    **making: Any,
) -> TableReport:
    """Everything there is to show.

    Args:
        table: which.
        files: row -> its result files so far; the rows in the table's order.
        dataset: the name of the data set that they are of.
        facts: what it holds: (how many, of what).
        ceiling: what the true tastes reach, where they are known.
        notes: what a reader should know besides.
        making: the fields of the `TableReport` that say how it was made.
    """
    paper_dataset = table.column(dataset)
    paper = table.paper[paper_dataset]
    steps = [measured_margin(row, before, files, paper) for before, row in pairwise(files)]
    claim = [row for name in table.margin for row in files if row.name == name]
    known = [file for of_row in files.values() for file in of_row]
    return TableReport(
        table=table,
        dataset=dataset,
        paper_dataset=paper_dataset,
        facts=facts,
        lines=[measured_line(row, of_row, paper=paper.get(row.name)) for row, of_row in files.items()],
        ceiling=ceiling,
        steps=[step for step in steps if step is not None],
        margin=measured_margin(claim[0], claim[1], files, paper) if len(claim) == 2 else None,
        hardware=hardware_of(known),
        commits=commits_of(known),
        notes=notes,
        **making,
    )


def measured_line(row: Row, files: Sequence[Content], *, paper: Scores | None = None) -> Line:
    """A row's numbers from the result files of all its seeds."""
    values = {name: column.values(files) for name, column in COLUMN_OF.items()}
    seconds = {int(file["seed"]): float(file["seconds"]) for file in files}  # the same in both files of a run
    return Line(
        row=row,
        paper=paper,
        seeds=tuple(sorted(seconds)),
        values={name: found for name, found in values.items() if found},
        seconds=sum(seconds.values()),
    )


def measured_margin(
    better: Row, worse: Row, files: Mapping[Row, Sequence[Content]], paper: Mapping[str, Scores]
) -> Margin | None:
    """The paired difference of two rows; None if they have no seed in common, or only one user to resample."""
    seeds = set.intersection(*({int(file["seed"]) for file in files[row]} for row in (better, worse)))
    if not seeds:
        return None
    differences: dict[str, Difference] = {}
    num_users = 0
    for kind in ("random", "hard"):
        results = [_mean_result(files[row], kind, seeds) for row in (better, worse)]
        if results[0] is None or results[1] is None:
            continue
        found = compare(results[0], results[1])
        num_users = max(num_users, found.users)
        columns = {name: metric for name, (negatives, metric) in COMPARED.items() if negatives == kind}
        differences |= {
            name: found.differences[metric] for name, metric in columns.items() if metric in found.differences
        }
    if num_users < 2:
        return None
    both = better.name in paper and worse.name in paper
    return Margin(
        better=better,
        worse=worse,
        differences=differences,
        paper=paper[better.name].minus(paper[worse.name]) if both else None,
        num_seeds=len(seeds),
        num_users=num_users,
    )


def commits_of(files: Sequence[Content]) -> list[str]:
    """Of the code that made them, "+" behind one that was changed since."""
    return list(dict.fromkeys(f"{file['commit'][:12]}{'+' * bool(file['dirty'])}" for file in files if file["commit"]))


def hardware_of(files: Sequence[Content]) -> dict[str, str]:
    """What they were made on; several machines stand beside one another."""
    found = {name: [file["hardware"].get(name) for file in files] for name in HARDWARE}
    return {name: " / ".join(dict.fromkeys(map(str, values))) for name, values in found.items() if any(values)}


def facts_of(dataset: Dataset) -> list[tuple[str, str]]:
    """What the data set holds: (how many, of what)."""
    return [
        (f"{len(dataset.user_ids):,}", "users"),
        (f"{len(dataset.catalogue):,}", "items"),
        (f"{len(dataset.likes['train']):,}", "train outfits"),
        (f"{len(dataset.likes['test']):,}", "test outfits"),
        (f"{len(dataset.fitb['test']):,}", "questions"),
    ]


def _mean_result(files: Sequence[Content], kind: str, seeds: set[int]) -> Result | None:
    results = [Result.from_json(file) for file in files if file["negatives"] == kind and file["seed"] in seeds]
    return averaged(results, resamples=0) if results else None


def _line_json(line: Line) -> dict[str, Any]:
    measured = {
        name: {"mean": line.mean(name), "std": line.spread(name), "values": list(values)}
        for name, values in line.values.items()
    }
    return {"title": line.row.title, "seeds": list(line.seeds), "seconds": round(line.seconds, 1), **measured}


def _margin_json(margin: Margin) -> dict[str, Any]:
    shown = {
        name: {"difference": found.value, "ci95": list(found.ci95), "p_value": found.p_value}
        for name, found in margin.differences.items()
    }
    return {
        "rows": [margin.better.name, margin.worse.name],
        "seeds": margin.num_seeds,
        "users": margin.num_users,
        **shown,
        "paper": None if margin.paper is None else vars(margin.paper),
    }
