"""Result files hold what is needed to make them again; tables are made from them and from nothing else."""

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from panfit import results
from panfit.config import Config
from panfit.errors import DataError
from panfit.evaluate import METRICS, Result
from panfit.results import benchmarks_table, read_results, results_tables, write_result

CONFIG = Config.parse({"seed": 4, "train": {"epochs": 3}})


def make_result(auc: float = 0.8, **changed: Any) -> Result:
    values = {name: np.array([auc, np.nan, 1 / 3]) for metric in METRICS for name in (metric, f"relaxed_{metric}")}
    fields: dict[str, Any] = {
        "split": "test",
        "negatives": "random",
        "fitb": 0.5,
        "auc": auc,
        "ndcg": 0.7,
        "ndcg_plain": 0.6,
        "relaxed": {"fitb": 0.55, "auc": auc + 0.01, "ndcg": 0.75, "ndcg_plain": 0.65},
        "ci95": {"auc": (auc - 0.1, auc + 0.1)},
        "users": 3,
        "questions": 9,
        "seconds": 1.25,
        "dataset": "closet",
        "checksum": "abc",
        "user_ids": ("u1", "u2", "u3"),
        "values": values,
        "num_questions": np.array([4, 0, 5]),
    }
    return Result(**(fields | changed))


def write(
    folder: Path, auc: float = 0.8, *, model: str = "pan", seed: int = 0, recipe: str = "default", **changed: Any
) -> Path:
    return write_result(
        folder, make_result(auc, **changed), model=model, recipe=recipe, seed=seed, config=CONFIG, seconds=60
    )


def results_table(folder: Path, **options: Any) -> str:
    """The tables of a folder's results."""
    return "\n\n".join(results_tables(read_results(folder), **options).values())


@pytest.fixture(autouse=True)
def clean_code(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Results of committed code, whatever state this checkout is in."""
    found = {"commit": "c0ffee", "dirty": False, "hardware": {"cores": 2}, "peak_mb": 99.0, "created_at": "2027-01-01"}
    monkeypatch.setattr(results, "pedigree", lambda: dict(found))
    return found


def test_a_result_file_says_everything(tmp_path: Path) -> None:
    path = write(tmp_path, seed=4)
    assert path == tmp_path / "closet" / "pan-default-seed4-random.json"
    content = json.loads(path.read_text())
    promised = "model dataset negatives seed fitb auc ndcg relaxed commit config checksum hardware seconds peak_mb"
    assert set(promised.split()) <= set(content)
    assert content["seconds"] == 60
    assert content["evaluate_seconds"] == 1.25
    assert content["peak_mb"] == 99.0
    assert Config.parse(content["config"]) == CONFIG
    assert content["per_user"]["auc"] == [0.8, None, 0.333333]
    assert Result.from_json(content).user_ids == ("u1", "u2", "u3")
    assert len(path.read_text().splitlines()) == len(content) + 2
    assert list(path.parent.iterdir()) == [path]


def test_what_is_given_wins_over_what_is_measured(tmp_path: Path) -> None:
    path = write_result(
        tmp_path, make_result(), model="linear", seed=0, config=None, seconds=1, peak_mb=7.5, extra={"note": "colors"}
    )
    content = json.loads(path.read_text())
    assert (content["peak_mb"], content["config"], content["note"]) == (7.5, None, "colors")


@pytest.mark.parametrize("name", ["", "a/b", "a-b", "Pan", "pan seed"])
def test_names_that_make_no_file_name_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="name is of a-z"):
        write(tmp_path, model=name)
    with pytest.raises(ValueError, match="name is of a-z"):
        write(tmp_path, recipe=name)


def test_a_data_set_whose_name_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder's name"):
        write(tmp_path, dataset="../elsewhere")


def test_a_dirty_tree_is_told(
    tmp_path: Path, clean_code: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path)
    assert "*" not in results_table(tmp_path)
    assert not caplog.records
    monkeypatch.setattr(results, "pedigree", lambda: clean_code | {"dirty": True})
    path = write(tmp_path, seed=1)
    assert "not committed" in caplog.text
    assert json.loads(path.read_text())["dirty"] is True
    assert "| pan * |" in results_table(tmp_path)
    assert "\\* made by code that was not committed" in results_table(tmp_path)


def test_table_is_mean_and_spread_over_seeds(tmp_path: Path) -> None:
    aucs = [0.81, 0.83, 0.88]
    for seed, auc in enumerate(aucs):
        write(tmp_path, auc, seed=seed)
        write(tmp_path, auc - 0.1, seed=seed, negatives="hard", fitb=0.0)
    write(tmp_path, 0.9, model="ceiling")
    write(tmp_path, 0.95, split="val", recipe="other")
    table = results_table(tmp_path)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    header, _, first, second = rows
    assert header == ["model", "recipe", "seeds", "FITB", "AUC", "NDCG", "AUC, hard negatives", "AUC, relaxed codes"]
    mean, spread = statistics.mean(aucs), statistics.stdev(aucs)
    assert first == ["ceiling", "default", "1", "0.500", "0.900", "0.700", "-", "0.910"]
    assert second[:5] == ["pan", "default", "3", "0.500 ± 0.000", f"{mean:.3f} ± {spread:.3f}"]
    assert second[6] == f"{mean - 0.1:.3f} ± {spread:.3f}"
    assert "Test split, 3 users, 9 FITB questions" in table
    assert "0.950" in results_table(tmp_path, split="val")


def test_one_table_a_data_set(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, dataset="wardrobe", checksum="def")
    assert results_table(tmp_path).count("### ") == 2
    assert results_tables(read_results(tmp_path))["wardrobe"].startswith("### wardrobe")
    assert "hard" not in results_table(tmp_path)  # a column without a number is left out
    assert results_table(tmp_path / "nowhere") == ""


def test_two_versions_of_the_data_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, model="fhn", checksum="def")
    with pytest.raises(DataError, match="2 different versions"):
        results_table(tmp_path)


def test_files_that_are_no_results_are_all_told(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text("[]")
    (tmp_path / "c.json").write_text('{"model": "pan"}')
    with pytest.raises(DataError, match="3 file") as caught:
        read_results(tmp_path)
    assert [Path(problem.file).name for problem in caught.value.problems] == ["a.json", "b.json", "c.json"]


def test_benchmarks(tmp_path: Path) -> None:
    write(tmp_path)
    case = {"case": "attention step", "ratio_to_plain": 1.98765, "target": 1.5, "peak_mb": 310}
    (tmp_path / "speed.json").write_text(json.dumps(case))
    assert "| attention step | 1.99 | - | 1.5 | 310 |" in benchmarks_table(read_results(tmp_path))
    assert "attention" not in results_table(tmp_path)
    (tmp_path / "speed.json").unlink()
    assert benchmarks_table(read_results(tmp_path)) == ""


def test_the_headline_leaves_studies_out(tmp_path: Path) -> None:
    for recipe in ("closet", "codes.soft"):
        write(tmp_path, 0.9, recipe=recipe)
    assert "codes.soft" in results_table(tmp_path)
    assert "codes.soft" not in results_table(tmp_path, headline=True)
    assert "| pan | closet |" in results_table(tmp_path, headline=True)


def test_studies_with_a_place_of_their_own_are_left_out(tmp_path: Path) -> None:
    for recipe in ("closet", "codes", "codes.soft", "codes_2.soft"):
        write(tmp_path, 0.9, recipe=recipe)
    write(tmp_path, 0.9, recipe="codes.hard", dataset="wardrobe")
    tables = results_tables(read_results(tmp_path), without=["codes"])
    assert list(tables) == ["closet"]
    assert "codes.soft" not in tables["closet"]
    for recipe in ("closet", "codes", "codes_2.soft"):
        assert f"| pan | {recipe} |" in tables["closet"]
