"""docs/benchmarks.md says what the speed results say, with charts that are drawn anew when the numbers change."""

import json
from pathlib import Path
from typing import Any

import pytest

from panfit.reproduce.document import main
from panfit.reproduce.speed_section import RATIOS, chart_mark, speed_charts, speed_page

HARDWARE = {"processor": "Abacus", "cores": 2, "threads": 2, "torch": "2.13", "gpu": None}


def result(case: str, ratio: float, share: float | None, **more: Any) -> dict[str, Any]:
    pedigree = {"commit": "c0ffeec0ffeec0ffee", "dirty": False, "hardware": HARDWARE, "peak_mb": 99.0,
                "created_at": "2027-01-01T00:00:00"}  # fmt: skip
    told = {"speed": case, "case": f"the case of {case}", "ceiling": "the machine", "target": 2.0}
    return told | {"ratio_to_plain": ratio, "share_of_ceiling": share} | pedigree | more


FILES = [
    result(
        "loading",
        3.456,
        0.5,
        target_share=0.85,
        ratio_to_plain_batched=2.1,
        anonymous_mb=123.4,
        seconds={"ours": 1.23456},
    ),
    result("import", 1.5, None),
    {"case": "another benchmark", "ratio_to_plain": 9.0},
]


def test_no_results_no_page() -> None:
    assert speed_page(FILES[2:]) == ""
    assert speed_charts(FILES[2:]) == {}


def test_the_page_marks_what_misses_its_target() -> None:
    page = speed_page(FILES)
    assert page.index("| [import](#import) | 1.5 (2) ✗ | – | – | – |") < page.index("| [loading]")
    assert "| [loading](#loading) | 3.46 (2) | 2.1 | 50% (85%) ✗ | 123 MB |" in page
    assert "- seconds, ours: 1.235" in page
    assert "the case of loading. The ceiling: the machine." in page
    assert "Abacus, 2 cores, 2 threads" in page
    assert "another benchmark" not in page


def test_charts_are_the_same_each_time_and_refer_nowhere() -> None:
    pytest.importorskip("matplotlib")
    charts = speed_charts(FILES)
    assert charts == speed_charts(FILES)
    assert "loading" in charts[RATIOS]
    assert "3.46" in charts[RATIOS]
    assert "<image" not in charts[RATIOS]
    assert charts[RATIOS].endswith(chart_mark(FILES))
    assert chart_mark(FILES) != chart_mark(FILES[1:])


def test_make_results_writes_page_and_charts_and_sees_when_they_are_stale(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "README.md").write_text("<!-- results:begin -->\n<!-- results:end -->\n", "utf-8")
    folder = tmp_path / "results" / "benchmarks"
    folder.mkdir(parents=True)
    (tmp_path / "docs" / "images").mkdir(parents=True)
    for file in FILES[:2]:
        (folder / f"speed-{file['speed']}.json").write_text(json.dumps(file), "utf-8")
    assert main(["--root", str(tmp_path)]) == 0
    page = (tmp_path / "docs" / "benchmarks.md").read_text("utf-8")
    assert page.startswith("# Benchmarks")
    assert f"(images/{RATIOS})" in page
    assert main(["--root", str(tmp_path), "--check"]) == 0
    changed = FILES[0] | {"ratio_to_plain": 4.0}
    (folder / "speed-loading.json").write_text(json.dumps(changed), "utf-8")
    assert main(["--root", str(tmp_path), "--check"]) == 1
    assert main(["--root", str(tmp_path)]) == 0
    assert chart_mark([changed, FILES[1]]) in (tmp_path / "docs" / "images" / RATIOS).read_text("utf-8")
