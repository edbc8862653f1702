"""docs/results.md, docs/benchmarks.md and the results in README.md, made from result files alone (`make results`).

No number is typed.

    results/<dataset>/<row>-table1.<recipe>-...          the paper's tables, beside the paper's numbers
    results/<dataset>/pan-options.<row>-...              what decides whether attention works
    all other results, and the benchmarks                plain tables

``python -m panfit.reproduce.document`` writes between the marker comments; ``--check`` exits with 1 if they are stale.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from panfit.errors import DataError, PanfitError
from panfit.files import write_aside
from panfit.reproduce import beyond, options
from panfit.reproduce.rows import TABLES
from panfit.reproduce.scale_section import CHART, scale_chart, scale_mark, scale_section
from panfit.reproduce.sections import (
    anchor,
    compact_table,
    made_line,
    section_title,
    short_claim,
    study_of,
    table_reports,
    table_section,
)
from panfit.reproduce.speed_section import RATIOS, SHARES, TITLE, chart_mark, speed_charts, speed_page
from panfit.reproduce.words import CEILINGS, MARGINS, READING, SPREADS, SURE, data_name
from panfit.results import benchmarks_table, read_results, results_tables

LOGGER = logging.getLogger("panfit")

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
SPLIT = "test"
STUDIES = (*TABLES, options.STUDY)
"""What has a section of its own in docs/results.md."""
STARS = f"{SURE} the 95 % interval over users leaves out 0."
PAPERS = "The paper’s tables"
NOTHING = "No results yet."

Contents = Sequence[dict[str, Any]]


def whole_document(files: Contents) -> str:
    """All that docs/results.md says between its markers.

    Args:
        files: as `read_results` gives them.
    """
    known: list[str] = []  # a line a section
    papers: list[str] = []
    studies: list[str] = []
    for name, of_dataset in _by_dataset(files).items():
        for report in table_reports(of_dataset):
            title = section_title(report)
            papers.append(f"### {title}\n\n{table_section(report, of_dataset)}")
            known.append(": ".join(filter(None, [f"[{title}]({anchor(title)})", short_claim(report)])))
        table = options.options_table(of_dataset)
        if table:
            made = made_line([file for file in of_dataset if study_of(file) == options.STUDY])
            studies.append(f"### Options on {data_name(name)}\n\n{table}\n\n{made}")
    plain = results_tables(files, split=SPLIT, without=STUDIES)
    benchmarks = benchmarks_table(files)
    chapters = {
        PAPERS: [f"{READING} {SPREADS} {CEILINGS}", f"**Row by row.** {MARGINS}", *papers] if papers else [],
        "What decides whether attention works": [options.READING, *studies] if studies else [],
        "Recipes, codes, and a world without signal": list(plain.values()),
        "Newcomers": _present(beyond.newcomers_section(files)),
        "Are explanations faithful?": _present(beyond.faithfulness_section(files)),
        "Search and tables": _present(beyond.search_section(files)),
        "Benchmarks": [benchmarks] if benchmarks else [],
    }
    known += [f"[{title}]({anchor(title)})" for title, parts in chapters.items() if parts and title != PAPERS]
    whole = ["\n\n".join([f"## {title}", *parts]) for title, parts in chapters.items() if parts]
    return "\n\n".join(["\n".join(f"- {line}" for line in known), STARS, *whole]) if whole else NOTHING


def headline(files: Contents) -> str:
    """What README.md says between its markers: the rows that belong to no study, and the paper's tables in short."""
    plain = results_tables(files, split=SPLIT, headline=True)
    parts: list[str] = []
    any_claim = False
    for name, of_dataset in _by_dataset(files).items():
        reports = table_reports(of_dataset)
        if name in plain or reports:
            parts.append(plain.get(name, f"### {data_name(name)}"))
        links = [f"[{title_of}](docs/results.md{anchor(title_of)})" for title_of in map(section_title, reports)]
        for report, link in zip(reports, links, strict=True):
            if report.table.name == "table1":
                parts.append(f"{link}, our means beside the paper:\n\n{compact_table(report)}")
        claims = [
            f"- {link}: {short_claim(report)}" for report, link in zip(reports, links, strict=True) if report.margin
        ]
        parts += ["\n".join(claims)] if claims else []
        any_claim |= bool(claims)
    return "\n\n".join([*parts, *([STARS] if any_claim else [])]) or NOTHING


def stale_files(root: str | Path) -> dict[Path, str]:
    """Path -> the text that it should have, for those files that the results have outrun.

    They are docs/results.md and README.md; where speed or scale was measured, docs/benchmarks.md and its charts, too.

    Raises:
        DataError: files that are not results, or of two versions of one data set; a README.md without the markers.
    """
    root = Path(root)
    files = read_results(root / "results")
    document = root / "docs" / "results.md"
    stale = {}
    for path, block in ((document, whole_document(files)), (root / "README.md", headline(files))):
        text = path.read_text("utf-8") if path.exists() else ""
        if path == document and BEGIN not in text:
            text = f"# Results\n\nMade by `make results` from the files under `results/`.\n\n{BEGIN}\n{END}\n"
        wanted = _with_block(path, text, block)
        if not path.exists() or wanted != path.read_text("utf-8"):
            stale[path] = wanted
    return stale | _stale_benchmarks(root / "docs", files)


def _stale_benchmarks(docs: Path, files: Contents) -> dict[Path, str]:
    """As `stale_files`: the page of speed and scale, and its charts."""
    block = "\n\n".join(filter(None, [speed_page(files), scale_section(files)]))
    path = docs / "benchmarks.md"
    if not block:
        return {}
    text = path.read_text("utf-8") if path.exists() else f"{TITLE}\n{BEGIN}\n{END}\n"
    wanted = _with_block(path, text, block)
    stale = {} if path.exists() and wanted == text else {path: wanted}
    images = docs / "images"
    parts = (
        (speed_page, (RATIOS, SHARES), chart_mark, speed_charts),
        (scale_section, (CHART,), scale_mark, scale_chart),
    )
    for text_of, names, mark, draw in parts:
        charts = [images / name for name in names] if text_of(files) else []
        if not all(chart.exists() and chart.read_text("utf-8").endswith(mark(files)) for chart in charts):
            stale |= {images / name: drawing for name, drawing in draw(files).items()}
    return stale


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m panfit.reproduce.document [--check] [--root DIR]``: the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m panfit.reproduce.document", description="Write the tables of the results."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a table is stale")
    parser.add_argument("--root", type=Path, default=Path(), help="the project's folder")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        stale = stale_files(chosen.root)
    except PanfitError as error:
        LOGGER.error("error: %s", error)
        return 2
    for path, text in stale.items():
        if chosen.check:
            LOGGER.error("%s is stale: run make results", path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_aside(path, text)
            LOGGER.info("wrote %s", path)
    return 1 if chosen.check and stale else 0


def _present(text: str) -> list[str]:
    return [text] if text else []


def _by_dataset(files: Contents) -> dict[str, Contents]:
    """Data set -> its results on the split that is shown."""
    shown = [file for file in files if "case" not in file and file["split"] == SPLIT]
    names = sorted({str(file["dataset"]) for file in shown})
    return {name: [file for file in shown if file["dataset"] == name] for name in names}


def _with_block(path: Path, text: str, block: str) -> str:
    before, found_begin, rest = text.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not found_begin or not found_end:
        raise DataError(f"{path}: wanted the lines {BEGIN} and {END} around the place of the tables; add them")
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


if __name__ == "__main__":
    sys.exit(main())
