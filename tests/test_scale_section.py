"""The chapter on scale: growth with what is taken for nothing taken off, and what misses its target."""

import json
from pathlib import Path
from typing import Any

import pytest

from panfit.reproduce.document import main
from panfit.reproduce.scale_section import CHART, growth, scale_chart, scale_mark, scale_section

SIZES = {"users": 4, "train_likes": 127, "val_likes": 13, "test_likes": 23, "items": 237}


def run(stage: str, scale: float, wall_s: float, mb: float | None = 100.0, **details: Any) -> dict[str, Any]:
    made = {"commit": "c0ffeec0ffeec0ffee", "dirty": False, "created_at": "2027-01-01T00:00:00"}
    told = {"stage": stage, "scale": scale, "wall_s": wall_s, "cpu_s": wall_s * 2, "details": details}
    return {**told, "anonymous_mb": mb, "peak_mb": mb, **made}


def study(*runs: dict[str, Any]) -> dict[str, Any]:
    hardware = {"processor": "Abacus", "cores": 2, "threads": 2, "torch": "2.13"}
    scales = sorted({each["scale"] for each in runs})
    return {
        "case": "scale", "floor": 0.001, "map": [256, 6, 6], "recipe": "configs/r.toml", "changes": ["a.b=1"],
        "stages": {"import": "what it does", "metrics": "numbers", "train": "an epoch"},
        "sizes": {f"{scale:g}": SIZES for scale in scales}, "runs": list(runs), "hardware": hardware,
        "commit": "c0ffee", "dirty": False, "created_at": "2027-01-01T00:00:00",
    }  # fmt: skip


STUDY = study(
    run("import", 0.001, 2.0),
    run("import", 0.1, 2.0 + 0.99),
    run("import", 1.0, 2.0 + 9.99),
    run("import", 10.0, 2.0 + 9.99 * (9.999 / 0.999) ** 1.5),
    run("metrics", 1.0, 3.0, metrics_s=1.25),
    run("train", 1.0, 3.0, mb=4567.0, likes=127326),
)


def test_growth_is_told_without_what_comes_for_nothing() -> None:
    grown = growth(STUDY, "import")
    assert grown[1.0] == pytest.approx(1.0)
    assert grown[10.0] == pytest.approx(1.5)
    assert growth(STUDY, "train") == {}
    no_more = study(run("import", 0.001, 2.0), run("import", 0.1, 2.1), run("import", 1.0, 4.0))
    assert growth(no_more, "import") == {1.0: None}  # .1 s more than nothing is noise
    assert growth(study(run("import", 0.1, 2.1), run("import", 1.0, 4.0)), "import") == {1.0: None}


def test_the_chapter() -> None:
    text = scale_section([{"case": "another"}, STUDY])
    assert "| import | 10 | 318.3 (636.7) | 1.50 | 100 MB | 100 MB |  |" in text
    assert "| metrics | 1 | 3.0 (6.0) | – | 100 MB | 100 MB | metrics s 1.25 |" in text
    assert "- memory of train at scale 1: 4,567 MB (less than 4,000 MB ✗)" in text
    assert "- metrics at scale 1: 1.25 s (less than 1 s ✗)" in text
    assert "Abacus" in text
    assert "`c0ffeec0ff`" in text
    assert "evaluate" not in text
    assert scale_section([{"case": "another"}]) == ""


def test_the_chart_and_its_mark() -> None:
    pytest.importorskip("matplotlib")
    (chart,) = scale_chart([STUDY]).values()
    assert chart.endswith(scale_mark([STUDY]))
    assert "<image" not in chart
    assert "import" in chart
    assert chart == scale_chart([STUDY])[CHART]
    assert scale_mark([STUDY]) != scale_mark([study(*STUDY["runs"][1:])])
    assert scale_chart([]) == {}


def test_make_results_writes_chapter_and_chart(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "README.md").write_text("<!-- results:begin -->\n<!-- results:end -->\n", "utf-8")
    folder = tmp_path / "results" / "benchmarks"
    folder.mkdir(parents=True)
    (folder / "scale.json").write_text(json.dumps(STUDY), "utf-8")
    assert main(["--root", str(tmp_path)]) == 0
    assert f"(images/{CHART})" in (tmp_path / "docs" / "benchmarks.md").read_text("utf-8")
    assert main(["--root", str(tmp_path), "--check"]) == 0
    (tmp_path / "docs" / "images" / CHART).unlink()
    assert main(["--root", str(tmp_path), "--check"]) == 1
