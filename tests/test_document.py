"""docs/results.md and README.md say what the result files say: the paper's tables, the study of options, the rest."""

import json
import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from panfit import results
from panfit.config import Config
from panfit.errors import DataError
from panfit.evaluate import METRICS, Result, compare
from panfit.reproduce.document import BEGIN, END, STARS, headline, main, whole_document
from panfit.reproduce.options import options_table
from panfit.reproduce.recipe import config_folder
from panfit.reproduce.rows import PAPER, TABLES
from panfit.reproduce.sections import anchor, made_line, section_title, table_reports
from panfit.reproduce.seeds import averaged
from panfit.results import read_results, write_result
from tests.test_results import make_result

USERS = tuple(f"u{user}" for user in range(12))
PEDIGREE = {
    "commit": "c0ffeec0ffeec0ffee",
    "dirty": False,
    "hardware": {"processor": "Abacus", "cores": 2, "gpu": None},
    "peak_mb": 99.0,
    "created_at": "2027-01-01",
}
POINTING = {
    "chance": 0.25, "own": 0.5, "another": 0.25, "nobody": 0.125, "difference": 0.25, "difference_ci95": [0.125, 0.5],
    "p_value": 0.004, "mass_own": 1.5, "mass_another": 1.0, "mass_nobody": 1.25, "mass_difference": 0.5,
    "mass_difference_ci95": [None, None], "mass_p_value": 1.0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of committed code, whatever state this checkout is in."""
    monkeypatch.setattr(results, "pedigree", lambda: dict(PEDIGREE))


def write(
    folder: Path,
    recipe: str,
    model: str,
    *,
    level: float = 0.5,
    seed: int = 0,
    overrides: tuple[str, ...] = (),
    **extra: Any,
) -> None:
    """Both result files of a run whose users' values are drawn around a level."""
    rng = np.random.default_rng([seed, *f"{model}{recipe}".encode()])
    for kind in ("random", "hard"):
        names = [name for metric in METRICS for name in (metric, f"relaxed_{metric}")]
        values = {name: np.round(level + rng.normal(0, 0.05, len(USERS)), 6) for name in names}
        found = {metric: float(values[metric].mean()) for metric in METRICS}
        result = make_result(
            **found,
            negatives=kind,
            values=values,
            user_ids=USERS,
            num_questions=np.full(len(USERS), 4),
            users=len(USERS),
            questions=4 * len(USERS),
            relaxed={metric: float(values[f"relaxed_{metric}"].mean()) for metric in METRICS},
        )
        config = None
        if model != "ceiling":
            config = Config.read(config_folder() / "small" / "table2-ul_hn_an.toml", [*overrides, f"seed={seed}"])
        write_result(
            folder / "results", result, model=model, recipe=recipe, seed=seed, config=config, seconds=30, extra=extra
        )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A little of everything, and a README.md with a place for it."""
    (tmp_path / "README.md").write_text(f"# panfit\n\nResults:\n\n{BEGIN}\nold\n{END}\n\nmore\n")
    for seed in (0, 1):
        for place, row in enumerate(("linear", "fhn", "pan")):
            looks: dict[str, Any] = {}
            if row == "pan":
                looks["pointing"] = {**POINTING, "own": 0.5 + seed / 4, "p_value": 0.004 / (1 + seed)}
            write(tmp_path, "table1.small", row, level=0.5 + place / 10, seed=seed, **looks)
        bare = ("attention.kind=none",)
        write(tmp_path, "table2.small", "ul_hn", level=0.65, seed=seed, overrides=bare)
        write(tmp_path, "options.base", "pan", level=0.7, seed=seed, pointing=POINTING)
    write(tmp_path, "options.rate.1", "pan", level=0.4, overrides=("optimizer.attention=0.1",), pointing=POINTING)
    write(tmp_path, "options.rate.003", "pan", level=0.7, overrides=("optimizer.attention=0.003",))
    write(tmp_path, "options.bits.64", "pan", level=0.7, seed=1, overrides=("model.code_bits=64",))
    write(tmp_path, "options.bits.256", "pan", level=0.7, overrides=("model.code_bits=256",))
    write(tmp_path, "options.codes.soft.sqrt", "pan", overrides=("train.straight_through_from=1.0", "train.beta=sqrt"))
    write(tmp_path, "options.codes.soft", "pan", overrides=("train.straight_through_from=1.0",))
    write(tmp_path, "options.odd.none", "pan", level=0.6, overrides=("model.code_bits=32", "attention.kind=none"))
    write(tmp_path, "truth", "ceiling", level=0.9)
    write(tmp_path, "closet", "pan", level=0.8)
    write(tmp_path, "codes.soft", "pan", level=0.75)
    (tmp_path / "results" / "speed.json").write_text('{"case": "step", "ratio_to_plain": 2.0}')
    return tmp_path


def contents(project: Path, model: str, recipe: str, kind: str = "random") -> list[dict[str, Any]]:
    """A row's result files, by seed."""
    paths = sorted((project / "results").glob(f"*/{model}-{recipe}-seed*-{kind}.json"))
    return [json.loads(path.read_text("utf-8")) for path in paths]


def mean_of(files: list[dict[str, Any]]) -> Result:
    return averaged([Result.from_json(file) for file in files])


def signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def table_in(text: str, heading: str, number: int = 0) -> dict[str, dict[str, str]]:
    """Row name -> column -> cell, of a table after a heading."""
    found = re.findall(r"(?:^\|.*\|\n?)+", text[text.index(heading) :], re.MULTILINE)[number]
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found.strip().splitlines()]
    assert all(len(row) == len(header) for row in rows)
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows}


# ---- the paper's tables


def test_the_papers_tables_show_means_and_spreads_beside_the_papers_numbers(project: Path) -> None:
    shown = table_in(whole_document(read_results(project / "results")), "### Table 1 on closet")
    assert list(shown) == ["Linear", "FHN", "PAN", "Ceiling"]
    for title, model in (("FHN", "fhn"), ("PAN", "pan")):
        for column, kind, key in (
            ("FITB", "random", "fitb"),
            ("NDCG", "random", "ndcg"),
            ("AUC, hard negatives", "hard", "auc"),
        ):
            values = [file[key] for file in contents(project, model, "table1.small", kind)]
            assert shown[title][column] == f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"
        assert shown[title]["paper AUC"] == f"{PAPER['table1']['polyvore-630'][model].auc:.4f}"
        assert shown[title]["seeds"] == "2"
    assert shown["Linear"]["paper AUC"] == "–"
    assert shown["Ceiling"]["AUC"] == f"{contents(project, 'ceiling', 'truth')[0]['auc']:.4f}"


def test_rows_differ_as_their_results_averaged_over_seeds(project: Path) -> None:
    document = whole_document(read_results(project / "results"))
    steps = table_in(document, "### Table 1 on closet", 1)
    assert list(steps) == ["FHN − Linear", "PAN − FHN"]
    for column, kind, metric in (("NDCG", "random", "ndcg"), ("AUC, hard negatives", "hard", "auc")):
        rows = [mean_of(contents(project, model, "table1.small", kind)) for model in ("pan", "fhn")]
        found = compare(*rows).differences[metric]
        told = f"{signed(found.value)} ({' to '.join(map(signed, found.ci95))}, p\N{NO-BREAK SPACE}{found.p_value:.3f})"
        assert steps["PAN − FHN"][column].startswith(told)
        assert f"PAN minus FHN, 2 seeds: {column} {told}" in document or f"; {column} {told}" in document
    assert steps["PAN − FHN"]["NDCG"].endswith("; paper +0.0153")
    assert steps["PAN − FHN"]["seeds"] == "2"


def test_where_attention_looks_is_told_with_the_seeds_intervals(project: Path) -> None:
    document = whole_document(read_results(project / "results"))
    (row,) = re.findall(r"^\| PAN \| the attention’s maximum.*$", document, re.MULTILINE)
    assert "| 0.6250 ± 0.1768 | 0.2500 ± 0.0000 | 0.1250 ± 0.0000 | 0.2500 |" in row
    assert row.endswith("| +0.2500 (+0.1250 to +0.5000, p\N{NO-BREAK SPACE}0.004) | 2 |")
    assert "pixel there gets more" not in document  # not in these files


def test_a_pointing_interval_is_the_mean_of_the_seeds_and_p_the_largest(tmp_path: Path) -> None:
    for seed, (low, high, p) in enumerate([(0.1, 0.3, 0.5), (0.2, 0.5, 0.25)]):
        looks = {**POINTING, "difference": 0.2 + seed / 10, "difference_ci95": [low, high], "p_value": p}
        write(tmp_path, "table2.small", "ul_hn_an", seed=seed, pointing=looks)
    assert "| +0.2500 (+0.1500 to +0.4000, p\N{NO-BREAK SPACE}0.500) | 2 |" in whole_document(
        read_results(tmp_path / "results")
    )


def test_every_section_is_linked_and_says_what_it_was_made_on(project: Path) -> None:
    document = whole_document(read_results(project / "results"))
    headings = [line.lstrip("# ") for line in document.splitlines() if line.startswith("##")]
    links = re.findall(r"^- \[(.*?)\]\((#.*?)\)", document, re.MULTILINE)
    assert len(links) == 5
    for title, address in links:
        assert title in headings
        assert address == anchor(title)
    assert anchor("What decides, e.g. on my_data-2?") == "#what-decides-eg-on-my_data-2"
    made = "Made by panfit commit c0ffeec0ffee; processor Abacus; cores 2; 3 min of training in 6 runs."
    assert made in document
    assert "On test: 12 users, 48 questions." in document
    dirty = [{**file, "dirty": True} for file in contents(project, "pan", "table1.small")]
    assert "c0ffeec0ffee+ (+: changed since)" in made_line(dirty)


def test_a_table_that_is_not_finished_claims_nothing(tmp_path: Path) -> None:
    write(tmp_path, "table1.small", "pan")
    files = read_results(tmp_path / "results")
    for text in (whole_document(files), headline(files)):
        assert "Table 1 on closet" in text
        assert "−" not in text.replace("PAN − ", "")
    assert STARS not in headline(files)
    assert "| PAN |" in headline(files)


def test_a_recipe_that_is_not_the_usual_one_is_named(tmp_path: Path) -> None:
    for recipe in ("table2.small", "table2.paper"):
        write(tmp_path, recipe, "ul")
    reports = table_reports(read_results(tmp_path / "results"))
    assert [section_title(report) for report in reports] == ["Table 2 on closet, recipe paper", "Table 2 on closet"]
    assert [len(report.lines) for report in reports] == [1, 1]


def test_a_row_that_no_table_has_is_told(tmp_path: Path) -> None:
    write(tmp_path, "table2.small", "fhn")
    with pytest.raises(DataError, match=r"results of table2\.small whose model is no row of table2: fhn"):
        whole_document(read_results(tmp_path / "results"))


# ---- the study of options


def test_options_stand_by_what_they_vary_and_their_variants_after_them(project: Path) -> None:
    table = table_in(whole_document(read_results(project / "results")), "### Options on closet")
    rates, codes, bits = ["rate.003", "rate.1"], ["codes.soft", "codes.soft.sqrt"], ["bits.64", "bits.256"]
    assert list(table) == ["base", *rates, *codes, *bits, "odd.none"]
    assert table["base"]["settings"] == "–"
    assert table["rate.1"]["settings"] == "optimizer.attention = 0.1"
    assert set(table["codes.soft.sqrt"]["settings"].split(", ")) == {
        "train.straight_through_from = 1.0",
        "train.beta = sqrt",
    }
    assert [table[name]["seeds"] for name in ("base", "rate.1", "bits.64")] == ["2", "1", "1"]


def test_options_differ_from_the_base_on_the_seeds_they_share(project: Path) -> None:
    table = table_in(whole_document(read_results(project / "results")), "### Options on closet")
    base = {kind: contents(project, "pan", "options.base", kind) for kind in ("random", "hard")}
    columns = {"AUC": ("random", "auc"), "AUC, hard negatives": ("hard", "auc"), "FITB": ("random", "fitb")}
    for name, seed in (("rate.1", 0), ("bits.64", 1)):
        for column, (kind, metric) in columns.items():
            (own,) = contents(project, "pan", f"options.{name}", kind)
            found = compare(Result.from_json(own), Result.from_json(base[kind][seed])).differences[metric]
            star = "\\*" * (found.ci95[0] > 0 or found.ci95[1] < 0)
            assert table[name][column] == signed(found.value) + star
    assert table["rate.1"]["AUC"].endswith("\\*")  # 0.4 against 0.7
    values = [file["auc"] for file in base["random"]]
    assert table["base"]["AUC"] == f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"
    assert table["rate.1"]["pointing, own / another’s eyes"] == "0.5000 / 0.2500"
    assert table["rate.003"]["pointing, own / another’s eyes"] == "–"


def test_attentions_worth_is_against_the_run_that_differs_in_attention_alone(project: Path) -> None:
    table = table_in(whole_document(read_results(project / "results")), "### Options on closet")
    column = "AUC, with − without attention"
    bare = mean_of(contents(project, "ul_hn", "table2.small"))
    with_attention = mean_of(contents(project, "pan", "options.base"))
    assert table["base"][column].startswith(signed(compare(with_attention, bare).differences["auc"].value))
    one = Result.from_json(contents(project, "ul_hn", "table2.small")[0])
    changed = Result.from_json(contents(project, "pan", "options.rate.1")[0])
    assert table["rate.1"][column].startswith(signed(compare(changed, one).differences["auc"].value))
    assert table["bits.64"][column] == "–"  # nothing of 64 bits has no attention
    assert table["odd.none"][column] == "–"  # it has none itself


def test_runs_on_two_trunks_differ_in_more_than_attention(tmp_path: Path) -> None:
    write(tmp_path, "options.base", "pan", trunk={"pretrain": {"epochs": 20}})
    for epochs, is_same in ((1, False), (20, True)):
        trunk = {"pretrain": {"epochs": epochs}}
        write(tmp_path, "table2.small", "ul_hn", overrides=("attention.kind=none",), trunk=trunk)
        assert ("without attention" in options_table(read_results(tmp_path / "results"))) is is_same


def test_many_settings_are_counted_and_empty_columns_left_out(tmp_path: Path) -> None:
    write(tmp_path, "options.base", "pan")
    many = ("model.code_bits=64", "train.epochs=3", "train.beta=sqrt", "loss.lambda_vse=0.1", "model.dropout=0.5")
    write(tmp_path, "options.paper", "pan", overrides=many)
    table = options_table(read_results(tmp_path / "results"))
    assert f"| paper | {len(many)} settings | 1 |" in table
    assert "pointing" not in table
    assert "without attention" not in table


def test_without_its_base_a_study_has_no_table(tmp_path: Path) -> None:
    write(tmp_path, "options.rate.1", "pan")
    files = read_results(tmp_path / "results")
    assert options_table(files) == ""
    assert "options" not in whole_document(files)


# ---- the files


def test_the_plain_tables_hold_what_has_no_section_of_its_own(project: Path) -> None:
    document = whole_document(read_results(project / "results"))
    plain = table_in(document, "## Recipes, codes")
    assert plain.keys() == {"ceiling", "pan"}
    rest = document[document.index("## Recipes, codes") :]
    assert "| pan | codes.soft |" in rest
    assert "| pan | closet |" in rest
    assert not re.search(r"\| (table\d|options)\.", rest)
    assert "| step | 2 |" in rest


def test_the_readme_has_the_headline_the_first_table_and_the_claims(project: Path) -> None:
    block = headline(read_results(project / "results"))
    assert block.startswith("### closet\n")
    assert "| pan | closet |" in block
    assert not re.search(r"\| (table\d|options|codes)\.", block)
    shown = table_in(block, "### closet", 1)
    assert shown.keys() == {"Linear", "FHN", "PAN"}
    for column, kind, key in (("FITB", "random", "fitb"), ("AUC, hard negatives", "hard", "auc")):
        values = [file[key] for file in contents(project, "pan", "table1.small", kind)]
        assert shown["PAN"][column] == f"{statistics.mean(values):.4f}"
    found = compare(*(mean_of(contents(project, model, "table1.small")) for model in ("pan", "fhn"))).differences["auc"]
    assert "PAN − FHN, 2 seeds: FITB " in block
    assert f"; AUC {signed(found.value)}" in block
    assert "margin on Polyvore-630: FITB +0.0147, AUC +0.0135, NDCG +0.0153." in block
    assert "Table 2 on closet" not in block  # a single row of it claims nothing
    assert block.endswith(STARS)


@pytest.mark.parametrize(("level", "star"), [(0.5, ""), (0.9, "\\*")])
def test_a_claim_has_a_star_where_it_is_sure(tmp_path: Path, level: float, star: str) -> None:
    write(tmp_path, "table1.small", "fhn", level=0.5)
    write(tmp_path, "table1.small", "pan", level=level)
    files = read_results(tmp_path / "results")
    pair = (mean_of(contents(tmp_path, model, "table1.small")) for model in ("pan", "fhn"))
    told = f"; NDCG {signed(compare(*pair).differences['ndcg'].value)}{star}; AUC, hard negatives"
    assert told in headline(files)
    assert told in whole_document(files)


def test_the_same_files_make_the_same_text(project: Path) -> None:
    files = read_results(project / "results")
    shuffled = [files[place] for place in np.random.default_rng(0).permutation(len(files))]
    by_seed = sorted(shuffled, key=lambda file: file.get("seed", 0))  # seeds in order: a spread's digits may depend
    assert whole_document(by_seed) == whole_document(files)
    assert headline(by_seed) == headline(files)


def test_make_results_writes_the_tables_once(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    check, write_tables = ["--check", "--root", str(project)], ["--root", str(project)]
    assert main(check) == 1
    assert "README.md is stale: run make results" in caplog.text
    assert not (project / "docs").exists()
    assert main(write_tables) == 0
    readme, document = (project / "README.md").read_text("utf-8"), (project / "docs" / "results.md").read_text("utf-8")
    assert readme.startswith("# panfit\n\nResults:\n")
    assert readme.endswith(f"{END}\n\nmore\n")
    assert "old" not in readme
    assert "## Benchmarks" in document
    assert "## Benchmarks" not in readme
    assert main(check) == 0
    before = table_in(readme, "### closet")["pan"]["AUC"]
    write(project, "closet", "pan", level=0.95, seed=1)
    assert main(check) == 1
    assert main(write_tables) == 0
    assert table_in((project / "README.md").read_text("utf-8"), "### closet")["pan"]["AUC"] != before


def test_prose_around_the_tables_stays(project: Path) -> None:
    (project / "docs").mkdir()
    (project / "docs" / "results.md").write_text(f"what was tried\n{BEGIN}\n{END}\nwhat failed\n")
    assert main(["--root", str(project)]) == 0
    document = (project / "docs" / "results.md").read_text("utf-8")
    assert document.startswith("what was tried\n")
    assert document.endswith("\nwhat failed\n")
    assert "Table 1 on closet" in document


def test_a_readme_without_place_for_tables(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    (project / "README.md").write_text("# panfit\n")
    assert main(["--root", str(project)]) == 2
    assert "wanted the lines <!-- results:begin -->" in caplog.text


def test_no_results_yet(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n")
    assert main(["--root", str(tmp_path)]) == 0
    assert "No results yet." in (tmp_path / "README.md").read_text("utf-8")
    assert "No results yet." in (tmp_path / "docs" / "results.md").read_text("utf-8")


def test_every_row_of_the_papers_tables_can_be_read_from_files(tmp_path: Path) -> None:
    for table in TABLES.values():
        for row in table.rows:
            write(tmp_path, f"{table.name}.small", row.name)
    reports = table_reports(read_results(tmp_path / "results"))
    assert [[line.row for line in report.lines] for report in reports] == [[*table.rows] for table in TABLES.values()]
    assert all(report.margin is not None for report in reports)
