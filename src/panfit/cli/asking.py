"""Whom and what a command line means: a user or a newcomer, given items, a file of ids."""

from pathlib import Path
from typing import TYPE_CHECKING

from panfit.errors import DataError, Problem, UnknownIdError

if TYPE_CHECKING:  # they bring torch, which a mistake on the command line does not need
    from panfit.newcomers import User
    from panfit.recommend import Recommender


def whoever(recommender: "Recommender", user: str | None, newcomer: Path | None) -> "User":
    """The user or the newcomer that is asked about. Raises UnknownIdError unless just one is named."""
    if (user is None) == (newcomer is None):
        raise UnknownIdError(
            "name whom to ask about: --user ID, or --newcomer FILE for somebody made by `panfit newcomer`"
            + ("" if user is None else "; not both")
        )
    if newcomer is not None:
        return recommender.read_newcomer(newcomer)
    assert user is not None
    return user


def given_items(pairs: list[str]) -> dict[str, str]:
    """["top=t-1", ...] -> {slot name: item id}. Raises DataError with every pair that is none, or comes twice."""
    given: dict[str, str] = {}
    problems = []
    for pair in pairs:
        slot, equals, item_id = (part.strip() for part in pair.partition("="))
        if not (equals and slot and item_id) or slot in given:
            found = f"{pair!r}, a second item for the slot" if slot in given else repr(pair)
            problems.append(Problem("--item", found, "SLOT=ID", "Name each slot once, as in --item top=t-17."))
        given[slot] = item_id
    if problems:
        raise DataError("the given items cannot be read", problems)
    return given


def ids_in_file(path: Path | None) -> list[str] | None:
    """Item ids, one a line; blank lines and those that start with # do not count. None without a file.

    Raises:
        DataError: a file that is not text, or names no item.
        OSError: a file that cannot be read.
    """
    return None if path is None else _lines(path, "item", "one item id a line")


def outfits_in_file(path: Path | None) -> list[tuple[str | None, ...]]:
    """Outfits, ID,ID,ID a line, nothing between two commas where nothing is worn; as `ids_in_file` reads."""
    if path is None:
        return []
    lines = _lines(path, "outfit", "one outfit a line, ID,ID,ID in slot order")
    return [tuple(item_id.strip() or None for item_id in line.split(",")) for line in lines]


def _lines(path: Path, what: str, wanted: str) -> list[str]:
    """A text file's lines that say something. Raises DataError where there is none."""
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file; wanted {wanted}") from None
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise DataError(f"{path}: names no {what}; wanted {wanted}")
    return lines
