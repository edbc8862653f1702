"""A reproduced table as one HTML file that opens offline, light and dark, with bar charts where matplotlib is there."""

from html import escape

from panfit.charts import Bar, bar_chart
from panfit.errors import MissingExtraError
from panfit.evaluate import Difference
from panfit.page import definitions, html_page, page_header
from panfit.reproduce.rows import Row, Scores
from panfit.reproduce.table import PAPERS, Line, Margin, TableReport
from panfit.reproduce.words import (
    HEADS,
    MARGINS,
    NONE,
    compared,
    data_name,
    duration,
    head,
    interval,
    is_sure,
    lead,
    making_facts,
    number,
    reading,
    signed,
    title_of,
)

STARTS = {"FITB": 0.25, "AUC": 0.5, "NDCG": 0.0}
"""Where the charts' bars begin: what guessing scores, FITB having four candidates; NDCG at zero."""


def render_html(report: TableReport) -> str:
    """The page as HTML."""
    banner = (
        '<p class="banner">SMOKE <span>This only shows that everything runs: the numbers mean nothing.</span></p>\n'
    )
    header = page_header(
        f"panfit reproduce {report.table.name}",
        title_of(report),
        lead(report),
        _facts(report),
        banner=banner if report.smoke else "",
    )
    return html_page(
        title_of(report), [header, _table_section(report), _steps_section(report), _making_section(report)]
    )


def _facts(report: TableReport) -> list[tuple[str, str]]:
    facts = []
    if report.margin is not None and "auc" in report.margin.differences:
        found = report.margin.differences["auc"]
        facts.append((signed(found.value), f"AUC, {report.table.claim}; 95\N{NO-BREAK SPACE}% {interval(found)}"))
        if report.margin.paper is not None:
            where = data_name(report.paper_dataset)
            facts.append((signed(report.margin.paper.auc), f"AUC, {report.table.claim}, in the paper on {where}"))
    facts.append((f"{report.done} of {report.total}", "runs done" if report.done == report.total else "runs so far"))
    facts.append((duration(sum(line.seconds for line in report.lines)), "of training, all rows and seeds together"))
    return facts


def _table_section(report: TableReport) -> str:
    theirs, ours = data_name(report.paper_dataset), data_name(report.dataset)
    heads = "".join(f"<th>{HEADS[name][0]}</th>" for name in PAPERS)
    columns = _scores(report)
    for place, name in enumerate(columns):
        title, note = map(escape, HEADS[name])
        heads += f"<th{_edge(place)}>{title}{f'<br>{note}' if note else ''}</th>"
    groups = (
        f'<tr class="groups"><th></th><th colspan="{len(PAPERS)}">the paper, {theirs}</th>'
        f'<th class="edge" colspan="{len(columns)}">ours, {escape(ours)}</th><th></th></tr>'
    )
    lines = "".join(_row(line, report) for line in report.lines)
    if report.ceiling is not None:
        lines += _row(report.ceiling, report)
    return (
        '<section>\n<h2>Beside the paper</h2>\n<div class="panel"><table class="beside">'
        f"<thead>{groups}<tr><th>row</th>{heads}<th>seeds</th></tr></thead><tbody>{lines}</tbody></table></div>\n"
        f'<p class="small soft">{escape(reading(report))}</p>\n{_chart(report)}{_pointing(report)}</section>'
    )


def _row(line: Line, report: TableReport) -> str:
    is_ceiling = line is report.ceiling
    cells = "".join(f'<td class="theirs">{number(getattr(line.paper, name, None))}</td>' for name in PAPERS)
    for place, name in enumerate(_scores(report)):
        cells += f"<td{_edge(place)}>{_value(line, name)}</td>"
    kind = "ceiling" if is_ceiling else "proposed" if line.row.name == report.table.margin[0] else ""
    seeds = NONE if is_ceiling else f"{len(line.seeds)}"
    return f'<tr class="{kind}"><td>{_named(line.row)}</td>{cells}<td>{seeds}</td></tr>'


def _named(row: Row) -> str:
    return f"<b>{escape(row.title)}</b><small>{escape(row.note)}</small>"


def _edge(place: int) -> str:
    """The first of our columns stands a little apart from the paper's."""
    return ' class="edge"' if place == 0 else ""


def _chart(report: TableReport) -> str:
    panels = {
        HEADS[name][0]: {
            line.row.title: Bar(line.mean(name), line.spread(name) or 0.0, getattr(line.paper, name, None))
            for line in report.lines
        }
        for name in PAPERS
    }
    ceilings = {} if report.ceiling is None else {HEADS[name][0]: report.ceiling.mean(name) for name in PAPERS}
    accent = next(row.title for row in report.table.rows if row.name == report.table.margin[0])
    try:
        chart = bar_chart(
            panels,
            starts=STARTS,
            ceilings={name: value for name, value in ceilings.items() if value is not None},
            accent=accent,
        )
    except MissingExtraError as error:
        return f'<p class="small soft">No chart here: {escape(str(error))}</p>\n'
    legend = (
        '<p class="legend"><span class="key ours"></span>ours<span class="key theirs"></span>'
        f"the paper, {data_name(report.paper_dataset)}"
        + ('<span class="key dashes"></span>ceiling' if ceilings else "")
        + '<span class="grow"></span>FITB and AUC begin at what guessing scores, NDCG at zero.</p>'
    )
    return f'<div class="panel chart">{chart}{legend}</div>\n'


def _pointing(report: TableReport) -> str:
    """Where attention looks, for the rows that have some, in a drawn world."""
    columns = [name for name in report.columns if name not in _scores(report)]
    if not columns:
        return ""
    heads = "".join(f"<th>{escape(HEADS[name][1])}</th>" for name in columns)
    lines = "".join(
        f"<tr><td>{_named(line.row)}</td>{''.join(f'<td>{_value(line, name)}</td>' for name in columns)}</tr>"
        for line in report.lines
        if any(name in line.values for name in columns)
    )
    return (
        f'<div class="panel"><h3>Does attention look where the user cares?</h3><table><thead><tr><th>row</th>{heads}'
        f"</tr></thead><tbody>{lines}</tbody></table></div>\n"
    )


def _scores(report: TableReport) -> list[str]:
    """The columns of the main table: all but those on where attention looks."""
    return [name for name in report.columns if not name.startswith("pointing")]


def _value(line: Line, column: str) -> str:
    """A mean, and its spread in small."""
    spread = line.spread(column)
    return number(line.mean(column)) + ("" if spread is None else f"<small>± {spread:.4f}</small>")


def _steps_section(report: TableReport) -> str:
    if not report.steps:
        return ""
    columns = compared(report)
    heads = "".join(f"<th>{escape(head(name)).replace(', ', '<br>')}</th>" for name in columns)
    claimed = None if report.margin is None else (report.margin.better, report.margin.worse)
    lines = "".join(_step_row(step, columns) for step in report.steps if (step.better, step.worse) != claimed)
    if report.margin is not None:
        lines += _step_row(report.margin, columns, kind="claim", note=f": {report.table.claim}")
    return (
        f"<section>\n<h2>Row by row</h2>\n<p>{MARGINS} In small, the paper’s own margin.</p>\n"
        f'<div class="panel"><table><thead><tr><th>row</th>{heads}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>\n</section>"
    )


def _step_row(step: Margin, columns: list[str], *, kind: str = "", note: str = "") -> str:
    cells = "".join(_step_cell(step.differences.get(column), step.paper, column) for column in columns)
    against = escape(f"minus {step.worse.title}{note}")
    return f'<tr class="{kind}"><td><b>{escape(step.better.title)}</b><small>{against}</small></td>{cells}</tr>'


def _step_cell(found: Difference | None, paper: Scores | None, column: str) -> str:
    theirs = getattr(paper, column, None)
    small = "" if theirs is None else f"<small>paper {signed(theirs)}</small>"
    if found is None:
        return f"<td>{NONE}{small}</td>"
    low, high = found.ci95
    sure = "sure" if is_sure(found) else "unsure"
    interval = f"{signed(low)} to {signed(high)}"
    return (
        f'<td><span class="{sure}">{signed(found.value)}</span><small>{interval}</small>'
        f"<small>p {found.p_value:.3f}</small>{small}</td>"
    )


def _making_section(report: TableReport) -> str:
    differing = ""
    if report.differing:
        head = "".join(f"<th>{escape(name)}</th>" for name in report.settings)
        lines = "".join(
            f"<tr><td>{escape(key)}</td>{''.join(f'<td>{escape(value) or NONE}</td>' for value in values)}</tr>"
            for key, values in report.differing.items()
        )
        differing = (
            "<h3>What the rows differ in</h3>"
            f'<table class="settings"><thead><tr><th>setting</th>{head}</tr></thead><tbody>{lines}</tbody></table>'
        )
    whole = "".join(
        f"<details><summary>All settings of {escape(name)}</summary><pre>{escape(text)}</pre></details>"
        for name, text in report.settings.items()
    )
    return (
        f'<section>\n<h2>How this was made</h2>\n<div class="panel">{definitions(making_facts(report))}</div>\n'
        f'<div class="panel">{differing}{whole}</div>\n</section>'
    )
