"""The sections on newcomers, faithfulness and search say what the files say, and nothing where there are none."""

import json
from pathlib import Path
from typing import Any

from panfit.reproduce.beyond import faithfulness_section, newcomers_section, search_section
from panfit.results import read_results

RESULTS = Path(__file__).parent.parent / "results"


def measured(value: float) -> dict[str, Any]:
    return {"value": value, "ci95": [value - 0.01, value + 0.02], "share_of_the_way": 0.456}


def test_no_files_no_sections() -> None:
    other = {"case": "something else", "ratio_to_plain": 3.0}
    assert newcomers_section([other]) == faithfulness_section([other]) == search_section([other]) == ""


def test_newcomers() -> None:
    point = {name: measured(0.6) for name in ("auc_hard", "auc_random", "fitb", "ndcg")}
    file = {
        "case": "newcomers", "dataset": "shop", "users": 7, "folds": [0], "draws": 3,
        "curve": [{"likes": 0, **point}, {"likes": 5, **point}],
        "trained_with": dict.fromkeys(("auc_hard", "auc_random", "fitb", "ndcg"), 0.75),
        "fit_cpu_s": {"0": 0.0, "5": 0.0371},
    }  # fmt: skip
    text = newcomers_section([file])
    assert "### Newcomers of shop\n\n7 users held out, 1 fold, 3 draws" in text
    assert "| 5 | 0.600 (0.590–0.620) | 0.600 (0.590–0.620) |" in text
    assert "| 46% | 37 |" in text
    assert "| trained | 0.750 | 0.750 |" in text


def test_faithfulness() -> None:
    values = {"own": measured(0.9), "elsewhere": measured(0.3), "another": measured(0.4)}
    case = {
        "marks": "truth",
        "fill": "mean",
        "codes": "binary",
        "ratio": 3.0,
        "above_elsewhere": measured(0.6),
        **values,
    }
    file = {"case": "hide", "dataset": "w", "users": 6, "garments_per_category": 2, "places_elsewhere": 4,
            "share_hidden": 0.2, "cases": [case]}  # fmt: skip
    text = faithfulness_section([file])
    assert "| true regions | mean | binary | 0.900 | 0.300 | 0.400 | 3.00 | 0.590 to 0.620 |" in text
    assert "20% of a garment’s pixels" in text


def test_search() -> None:
    hardware = {"threads": 2}
    files = [
        {"case": "search", "fast_ms": 2.345, "queries": 9, "ratio_to_plain": 33.81, "hardware": {"threads": 1}},
        {"case": "tables", "table_s": [3.0, 1.0, 2.0], "share_of_ceiling": 0.51, "ratio_to_plain": 31.5,
         "anonymous_mb": 1900.0, "hardware": hardware},
        {"case": "two", "table_s": 4.0, "recall_at_10": 0.97, "recall_at_100": 0.91, "two_stage_ms": 99.6,
         "ratio_to_plain": 40.2, "shortlisted": 667, "prototypes": 17, "share_of_ceiling": None},
    ]  # fmt: skip
    lines = search_section(files).splitlines()[2:]
    assert lines[0] == (
        "- search (1 thread): 2.3 ms a query, 33.8 times as fast as a float32 matrix product, the same items"
    )
    assert "- tables (2 threads): 2.0 s, 31.5 times as fast as one item at a time, 51% of" in lines[1]
    assert "- two: recall@10 0.970, recall@100 0.910, in 100 ms against 4.0 s, 40 times less" in lines[2]


def test_the_results_that_are_there_can_be_told() -> None:
    files = read_results(RESULTS)
    assert newcomers_section(files)
    assert faithfulness_section(files)
    assert search_section(files)
    assert all("case" in json.loads(path.read_text("utf-8")) for path in (RESULTS / "newcomers").glob("*.json"))
