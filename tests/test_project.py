"""The project's promises: nothing of one machine in it, dates that have not passed, short files, a true file tree."""

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LONGEST = 350
"""Lines of a source file that are still read in one sitting; aim at 300."""

MACHINE = re.compile(
    r"""(?<![\w.<])/(?:[h]ome|[r]oot|[w]ork|[m]nt|[U]sers|[o]pt)/   # absolute paths of one machine
    | [p]ypi\. | [p]ythonhosted | [p]ytorch\.org/whl                # package indexes: pip knows its own
    | \b(?:\d{1,3}\.){3}\d{1,3}:\d+                                 # a host and a port
    """,
    re.VERBOSE,
)
PROMISE = re.compile(r"\b(?:TO" r"DO|FIX" r"ME)\b(?P<date>\((?P<year>\d{4})-(?P<month>\d\d)\))?")


def tracked(*patterns: str) -> list[Path]:
    """Files that git tracks, or would track."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return sorted({ROOT / line for line in done.stdout.splitlines() if (ROOT / line).is_file()})


def texts(*patterns: str) -> list[tuple[str, str]]:
    """(path, text) of the tracked text files."""
    found = []
    for path in tracked(*patterns):
        try:
            found.append((str(path.relative_to(ROOT)), path.read_text("utf-8")))
        except UnicodeDecodeError:
            assert path.suffix in {".png", ".jpg", ".npy", ".safetensors"}, f"{path} is not UTF-8"
    return found


def test_nothing_of_one_machine_is_tracked() -> None:
    assert [(name, found.group()) for name, text in texts() if (found := MACHINE.search(text))] == []


@pytest.mark.parametrize("line", ["see /" + "home/ann/x", "cd /" + "root/", "index = https://py" + "pi.example"])
def test_the_search_for_machines_finds_them(line: str) -> None:
    assert MACHINE.search(line)
    assert not MACHINE.search("photos/home/x and ../shared/data/closet and </work/>")


def test_promises_carry_dates_that_have_not_passed() -> None:
    now = datetime.now(UTC)
    for name, text in texts():
        if name.endswith("swagger-ui-bundle.js"):
            continue  # another project's, as it came
        for promise in PROMISE.finditer(text):
            assert promise["date"], f"{name}: a promise without a date, such as (2030-01)"
            assert (int(promise["year"]), int(promise["month"])) >= (now.year, now.month), f"{name}: a date has passed"


def test_a_source_file_is_read_in_one_sitting() -> None:
    lengths = {name: text.count("\n") for name, text in texts("src/*.py")}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_the_readmes_tree_is_true() -> None:
    tree = re.search(r"```\nsrc/panfit/\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert tree, "README.md shows no file tree"
    told, folder = set(), ""
    for line in tree[1].splitlines():
        found = re.fullmatch(r"(?P<indent> +)(?P<name>[\w./]+) {2,}(?P<phrase>\S.*)", line)
        assert found, f"not a line of the tree: {line!r}"
        if found["name"].endswith("/"):
            folder = found["name"]
        else:
            told.add(folder * (len(found["indent"]) > 2) + found["name"])
    there = {
        str(path.relative_to(ROOT / "src" / "panfit"))
        for path in tracked("src/panfit")
        if path.name != "py.typed" and (path.name != "__init__.py" or path.parent.name == "panfit")
        if not {"static", "templates", "versions"} & set(path.parts)  # a page's files, a database's steps
    }
    assert told == there
