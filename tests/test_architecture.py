"""Arrows point one way: the contracts of .importlinter hold, and a few habits that it cannot see."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "src" / "panfit").rglob("*.py"))
IDS = [str(path.relative_to(ROOT / "src" / "panfit")) for path in MODULES]


def calls(path: Path) -> Iterator[str]:
    """The plain names that a module calls."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


def test_the_import_contracts_hold() -> None:
    # In a process of its own: it configures logging, and so would silence the loggers of every later test.
    command = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(cache_dir=None))"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_only_the_command_line_prints(path: Path) -> None:
    assert path.parent == ROOT / "src" / "panfit" / "cli" or "print" not in set(calls(path))


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_nothing_is_pickled_and_chance_is_passed_in(path: Path) -> None:
    text = path.read_text("utf-8")
    assert "import pickle" not in text or path.name in {"unpickle.py", "weights.py"}
    for banned in ("np.random.seed", "np.random.rand(", "np.random.randn", "random.random()", "torch.seed("):
        assert banned not in text


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_every_module_says_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert docstring


def test_no_drawer_is_called_utils() -> None:
    drawers = {"utils", "util", "helpers", "helper", "misc", "common"}
    assert not [path for path in MODULES if drawers & set(path.with_suffix("").parts)]
