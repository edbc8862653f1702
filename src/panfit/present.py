"""How results look on a terminal: nouns and results -> rich tables. Prints nothing; the command line does that."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from panfit.evaluate import Comparison, Result
from panfit.outfits import Dataset

if TYPE_CHECKING:  # it brings torch, which `check` does not need
    from panfit.reproduce.table import TableReport

TITLES = {"fitb": "FITB", "auc": "AUC", "ndcg": "NDCG", "ndcg_plain": "NDCG (plain)"}


def summary_table(summary: Mapping[str, Any]) -> Table:
    """What `check` counted: one row a fact, nested facts with a path."""
    table = _table(None, "fact", ">value")
    for key, value in _flat(summary):
        table.add_row(escape(key), escape(f"{value:,}" if isinstance(value, int) else str(value)))
    return table


def result_table(results: Sequence[Result], names: Sequence[str]) -> Table:
    """Three lines a run: binary codes, their 95 % intervals, relaxed codes. It fits a terminal of 80 columns."""
    first = results[0]
    title = f"{first.dataset}, {first.split} split, {first.negatives} negatives, {first.users} users"
    table = _table(title, "codes", *(f">{name}" for name in TITLES.values()))
    letters = ["A ", "B "] if len(results) > 1 else [""]
    if len(results) > 1:
        lines = [f"{letter}= {escape(name)}" for letter, name in zip(letters, names, strict=True)]
        table.caption, table.caption_justify = "\n".join(lines), "left"
    for letter, result in zip(letters, results, strict=True):
        table.add_section()
        table.add_row(f"{letter}binary", *(f"{getattr(result, metric):.4f}" for metric in TITLES))
        table.add_row("  95 %", *(_interval(result.ci95.get(metric)) for metric in TITLES), style="dim")
        table.add_row(f"{letter}relaxed", *(f"{result.relaxed[metric]:.4f}" for metric in TITLES))
    return table


def comparison_table(comparison: Comparison) -> Table:
    """The paired differences of two runs, A and B of the table above it; binary codes."""
    title = f"A minus B, {comparison.users} users in common"
    table = _table(title, "metric", ">difference", ">95 %", ">p")
    for metric, name in TITLES.items():
        difference = comparison.differences[metric]
        low, high = difference.ci95
        table.add_row(name, f"{difference.value:+.4f}", f"{low:+.4f} to {high:+.4f}", f"{difference.p_value:.3f}")
    return table


def reproduction_table(report: "TableReport") -> Table:
    """A reproduced table: ours, its spread over seeds, the paper's under it. It fits a terminal of 80 columns."""
    smoke = "SMOKE, the numbers mean nothing: " if report.smoke else ""
    title = (
        f"{smoke}{report.table.title} on {report.dataset}, recipe {report.recipe}, {report.done} of {report.total} runs"
    )
    columns = [name for name in ("fitb", "auc", "ndcg", "hard_auc") if name in report.columns]
    table = _table(title, "row", *(f">{TITLES.get(name, 'AUC hard')}" for name in columns))
    lines = [*report.lines, *([report.ceiling] if report.ceiling else [])]
    for line in lines:
        table.add_section()
        table.add_row(line.row.title, *(_number(line.mean(name)) for name in columns))
        if line.spread("auc") is not None:
            table.add_row("  ±", *(_number(line.spread(name)) for name in columns), style="dim")
        if line.paper is not None:
            table.add_row("  paper", *(_number(getattr(line.paper, name, None)) for name in columns), style="dim")
    table.caption, table.caption_justify = f"the paper's numbers are of {report.paper_dataset}", "left"
    return table


def outfit_table(
    dataset: Dataset, user: str, outfits: Iterable[Sequence[str | None]], scores: Iterable[float]
) -> Table:
    """Outfits with their scores, best first; an item's title stands under its id."""
    table = _table(f"outfits for {escape(user)}", ">#", ">score", *(slot.name for slot in dataset.slots))
    catalogue = dataset.catalogue
    for place, (outfit, score) in enumerate(zip(outfits, scores, strict=True), start=1):
        cells = []
        for item_id in outfit:
            row = None if item_id is None else catalogue.row_of.get(item_id)  # None: a photo that is in no catalogue
            title = None if row is None else catalogue.titles[row]
            cells.append(escape(item_id or "-") + (f"\n[dim]{escape(title)}[/dim]" if title else ""))
        table.add_row(str(place), f"{score:.3f}", *cells)
    return table


def similar_table(title: str, ids: Sequence[str], likeness: Iterable[float], *, dataset: Dataset | None) -> Table:
    """What is alike, most alike first; with a data set, of items, whose titles stand beside."""
    table = _table(escape(title), ">#", ">likeness", "id", *([] if dataset is None else ["title"]))
    for place, (name, value) in enumerate(zip(ids, likeness, strict=True), start=1):
        titles = [] if dataset is None else [dataset.catalogue.titles[dataset.catalogue.row_of[name]] or ""]
        table.add_row(str(place), f"{value:.3f}", escape(name), *map(escape, titles))
    return table


def _table(title: str | None, *columns: str) -> Table:
    """A table; a column whose name starts with > is right-aligned."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.3f}-{interval[1]:.3f}"


def _flat(values: Mapping[str, Any], path: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{key} / ")
        elif isinstance(value, (list, tuple)):
            yield f"{path}{key}", ", ".join(map(str, value))
        else:
            yield f"{path}{key}", value
