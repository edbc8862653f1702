"""A reproduced table in words and as Markdown: what its pages say, in one place.

Knows no model and runs nothing: a `TableReport` in, text out.
"""

import statistics
from collections.abc import Sequence

from panfit.evaluate import Difference
from panfit.page import markdown_table
from panfit.reproduce.rows import SOURCE
from panfit.reproduce.table import COMPARED, PAPERS, Line, Margin, TableReport

HEADS = {
    "fitb": ("FITB", ""),
    "auc": ("AUC", ""),
    "ndcg": ("NDCG", ""),
    "hard_auc": ("AUC", "hard negatives"),
    "relaxed_auc": ("AUC", "relaxed codes"),
    "pointing_own": ("pointing", "own eyes"),
    "pointing_another": ("pointing", "another’s eyes"),
    "pointing_nobody": ("pointing", "nobody’s eyes"),
}
"""Column -> its name, and what is special about it."""
DATA_NAMES = {"polyvore-630": "Polyvore-630", "polyvore-519": "Polyvore-519"}
NONE = "–"
READING = (
    "FITB: the right one of four items is found. AUC and NDCG: a user’s likes come before other outfits; hard "
    "negatives are other users’ likes. All of binary codes on test, unless it says relaxed."
)
SPREADS = "Mean ± standard deviation over seeds."
CEILINGS = "The ceiling is what a scorer reaches that knows every user’s true taste."
SURE = "\\*"
"""In Markdown, behind a difference whose 95 % interval leaves out 0."""
MARGINS = (
    "Each row minus the row above it. A user’s values are averaged over the seeds; then users are drawn with "
    "replacement, which gives the 95 % interval and the two-sided p: how the difference varies between users, not "
    "between seeds."
)


def render_markdown(report: TableReport) -> str:
    """The page as Markdown."""
    parts = [f"# {title_of(report)}", *(["**SMOKE RUN: these numbers mean nothing.**"] if report.smoke else [])]
    parts += [lead(report), progress(report), *([claim_sentence(report.margin, report)] if report.margin else [])]
    parts += ["## The table", scores_table(report, report.columns), reading(report)]
    if report.steps:
        parts += ["## Row by row", MARGINS, steps_table(report)]
    making = [f"- {name}: {text}" for name, text in making_facts(report)]
    parts += ["## How this was made", "\n".join(making)]
    if report.differing:
        settings = [[key, *values] for key, values in report.differing.items()]
        parts += ["What the rows differ in:", markdown_table(["setting", *report.settings], settings)]
    return "\n\n".join(parts) + "\n"


def scores_table(report: TableReport, columns: Sequence[str]) -> str:
    """Every row's numbers: the paper's, then ours in the given columns."""
    lines = [*report.lines, *([report.ceiling] if report.ceiling else [])]
    rows = [
        [
            line.row.title,
            *(number(getattr(line.paper, name, None)) for name in PAPERS),
            *(mean(line, name) for name in columns),
            str(len(line.seeds)) if line is not report.ceiling else NONE,
        ]
        for line in lines
    ]
    return markdown_table(["row", *(f"paper {head(name)}" for name in PAPERS), *map(head, columns), "seeds"], rows)


def steps_table(report: TableReport) -> str:
    """Each row minus the row above it."""
    columns = compared(report)
    steps = [
        [
            f"{step.better.title} − {step.worse.title}",
            *(_step(step, name) for name in columns),
            str(step.num_seeds),
        ]
        for step in report.steps
    ]
    return markdown_table(["rows", *map(head, columns), "seeds"], steps)


def title_of(report: TableReport) -> str:
    return f"{report.table.title} on {data_name(report.dataset)}"


def lead(report: TableReport) -> str:
    lead = (
        f"{report.table.question} The paper’s {report.table.title}, run again with the recipe “{report.recipe}” and "
        f"{seeds(report.num_seeds)} a row, beside what the paper reports on {data_name(report.paper_dataset)}."
    )
    if not report.is_papers_data:
        lead += " The paper’s numbers are of other data: compare the order of the rows and the margins, not the values."
    return lead


def progress(report: TableReport) -> str:
    done = f"{report.done} of {report.total} runs are done"
    return f"{done}." if report.done == report.total else f"{done}; this page is written anew after each."


def claim_sentence(margin: Margin, report: TableReport) -> str:
    """The table's claim in a sentence: our margin, and the paper's."""
    parts = [f"{head(name)} {signed(found.value)} ({interval(found)})" for name, found in margin.differences.items()]
    sentence = f"{margin.better.title} minus {margin.worse.title}, {seeds(margin.num_seeds)}: {'; '.join(parts)}."
    return sentence + papers_margin(margin, report)


def papers_margin(margin: Margin, report: TableReport) -> str:
    """A further sentence with the paper's margin; "" where it has none."""
    if margin.paper is None:
        return ""
    paper = ", ".join(f"{head(name)} {signed(getattr(margin.paper, name))}" for name in PAPERS)
    return f" The paper’s margin on {data_name(report.paper_dataset)}: {paper}."


def reading(report: TableReport) -> str:
    sentences = [READING, SPREADS if report.num_seeds > 1 else ""]
    if report.ceiling is not None:
        sentences.append(CEILINGS)
    if any(name.startswith("pointing") for name in report.columns):
        sentences.append("Pointing: how often the attention’s maximum lies where the user truly looks.")
    return " ".join([*filter(None, sentences), *report.notes])


def making_facts(report: TableReport) -> list[tuple[str, str]]:
    data = ", ".join(f"{count} {what}" for count, what in report.facts)
    seconds = ", ".join(f"{line.row.title} {duration(line.seconds)}" for line in report.lines if line.seeds)
    machine = [(name, text) for name, text in report.hardware.items()]
    return [
        ("data", f"{report.dataset}: {data}"),
        ("runs", progress(report)),
        *([("training", f"{seconds}, all seeds together")] if seconds else []),
        ("panfit commit", f"{', '.join(report.commits) or 'not in a checkout'}{changed_since(report.commits)}"),
        *machine,
        ("the paper", SOURCE),
    ]


def changed_since(commits: Sequence[str]) -> str:
    """What the "+" behind a commit means, where one has it."""
    return " (+: changed since)" if any(commit.endswith("+") for commit in commits) else ""


def data_name(dataset: str) -> str:
    return DATA_NAMES.get(dataset, dataset)


def head(column: str) -> str:
    return ", ".join(filter(None, HEADS[column]))


def compared(report: TableReport) -> list[str]:
    return [name for name in COMPARED if any(name in step.differences for step in report.steps)]


def number(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"


def seeds(count: int) -> str:
    return f"{count} seed{'s' * (count > 1)}"


def signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def interval(found: Difference) -> str:
    low, high = found.ci95
    return f"{signed(low)} to {signed(high)}, p\N{NO-BREAK SPACE}{found.p_value:.3f}"


def is_sure(found: Difference) -> bool:
    """Whether the 95 % interval leaves out 0."""
    low, high = found.ci95
    return low > 0 or high < 0


def mean(line: Line, column: str) -> str:
    """Of a column, and the spread over seeds where there are several."""
    return mean_and_spread(line.values.get(column, ()))


def mean_and_spread(values: Sequence[float]) -> str:
    """Of one value a seed; a single one has no spread."""
    if not values:
        return NONE
    return number(statistics.mean(values)) + (f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else "")


def _step(step: Margin, column: str) -> str:
    found = step.differences.get(column)
    ours = NONE if found is None else f"{signed(found.value)} ({interval(found)})"
    paper = getattr(step.paper, column, None)
    return ours if paper is None else f"{ours}; paper {signed(paper)}"


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
