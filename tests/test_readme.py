"""The README's commands and its Python run, as they stand there, on a small shop's export."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from panfit.cli import app
from panfit.config import Config
from tests.shop import make_shop

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
QUICK = """
[images]
size = 16
[text]
dim = 8
[backbone]
width = 2
[model]
code_bits = 8
image_hidden = 4
text_hidden = 4
[train]
epochs = 1
batch_size = 8
"""


def block(language: str) -> str:
    """The README's one block of a language."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 1
    return str(blocks[0])


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the README's shop/ and configs/closet.toml (a quick one), to work in."""
    make_shop(tmp_path / "shop")
    likes = tmp_path / "shop" / "likes.csv"
    likes.write_text(re.sub(r"\bu1\b", "ann", likes.read_text("utf-8")), "utf-8")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "closet.toml").write_text(QUICK, "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_and_then_the_python_run(shop: Path) -> None:
    for line in block("sh").splitlines():
        program, *arguments = shlex.split(line)
        assert program == "panfit"
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, (line, result.output, result.exception)
    scope: dict[str, object] = {}
    code = block("python")
    assert len([line for line in code.splitlines() if line]) <= 13
    exec(compile(code, "README.md", "exec"), scope)
    outfits, scores = scope["outfits"], scope["scores"]
    assert len(outfits) == len(scores) == 10  # type: ignore[arg-type]
    assert (shop / "runs" / "again" / "best" / "model.safetensors").is_file()


def test_every_file_that_the_readme_links_to_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_makefile_has_the_targets_that_are_promised() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"`?make ([a-z]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_recipe_that_the_readme_names_is_shipped() -> None:
    assert Config.read(ROOT / "configs" / "closet.toml").train.epochs >= 1
