"""A result knows its commit, and whether the code was changed since."""

import os
import subprocess
from pathlib import Path

import pytest

from panfit.pedigree import peak_mb, pedigree


def git(folder: Path, *arguments: str) -> str:
    names = {f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    command = ["git", "-C", str(folder), *arguments]
    environment = os.environ | names | {"GIT_CONFIG_GLOBAL": os.devnull}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A project whose code lies in src/panfit."""
    code = tmp_path / "project" / "src" / "panfit"
    code.mkdir(parents=True)
    (code / "code.py").write_text("a = 1\n")
    (code / "results.py").write_text("b = 1\n")
    git(tmp_path / "project", "init", "-q")
    git(tmp_path / "project", "add", "-A")
    git(tmp_path / "project", "commit", "-q", "-m", "first")
    return code


def test_commit_and_clean(checkout: Path) -> None:
    found = pedigree(checkout)
    assert found["commit"] == git(checkout, "rev-parse", "HEAD")
    assert found["dirty"] is False


def test_written_results_do_not_make_it_dirty(checkout: Path) -> None:
    root = checkout.parent.parent
    for path in ("results/closet/pan.json", "docs/results.md", "README.md"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("new")
    assert pedigree(checkout)["dirty"] is False


@pytest.mark.parametrize("path", ["src/panfit/code.py", "src/panfit/results.py", "src/panfit/new.py", "configs/a.toml"])
def test_changed_code_makes_it_dirty(checkout: Path, path: str) -> None:
    changed = checkout.parent.parent / path
    changed.parent.mkdir(exist_ok=True)
    changed.write_text("c = 2\n")
    assert pedigree(checkout)["dirty"] is True


def test_outside_a_checkout_there_is_no_commit(checkout: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "site-packages"
    elsewhere.mkdir()
    installed = checkout.parent.parent / ".venv" / "panfit"  # inside a checkout that does not track it
    installed.mkdir(parents=True)
    (installed / "code.py").write_text("a = 1\n")
    for folder in (elsewhere, installed):
        found = pedigree(folder)
        assert (found["commit"], found["dirty"]) == (None, None)


def test_without_git(checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pedigree(checkout)["commit"] is None


def test_hardware_is_named() -> None:
    hardware = pedigree()["hardware"]
    assert hardware["cores"] >= 1
    assert hardware["torch"]
    peak = peak_mb()
    assert peak is None or 10 < peak < 1e6
