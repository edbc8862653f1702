"""docs/paper.md is true: every file, function and test it names exists, and no equation is missing."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "paper.md").read_text("utf-8").splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| Paper |"))
]
NAMED = sorted({name for row in ROWS for cell in row for name in re.findall(r"`([^`]+)`", cell)})


def has(path: Path, dotted: str) -> bool:
    """Whether a Python file defines a function, a class or, by a dotted name, a method."""
    body: list[ast.stmt] = ast.parse(path.read_text("utf-8")).body
    for name in dotted.split("."):
        found = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name]
        if not found:
            return False
        body = found[0].body
    return True


@pytest.mark.parametrize("name", NAMED)
def test_what_the_table_names_exists(name: str) -> None:
    path, _, dotted = name.partition("::")
    assert (ROOT / path).is_file()
    assert not dotted or has(ROOT / path, dotted)


def test_the_check_can_fail() -> None:
    path = ROOT / "src" / "panfit" / "model" / "predictor.py"
    assert has(path, "Predictor.forward")
    assert not has(path, "Predictor.backward")
    assert not has(path, "forward")


def test_every_equation_has_code_and_a_test() -> None:
    assert {f"Eq. {number}" for number in range(1, 10)} <= {row[0] for row in ROWS}
    for paper, _, code, _, test, _ in ROWS:
        assert "`src/panfit/" in code, paper
        assert "`tests/test_" in test, paper


def test_every_decision_named_is_written_down() -> None:
    decided = set(re.findall(r"^\| (D\d+) \|", (ROOT / "docs" / "decisions.md").read_text("utf-8"), re.MULTILINE))
    cited = {number for row in ROWS for number in re.findall(r"D\d+", row[-1])}
    assert cited <= decided
