"""ANSWERS: what a Recommender is asked and what it answers, as types."""

from collections.abc import Iterable, Sequence
from typing import Literal, TypedDict

from panfit.encode import FloatArray
from panfit.ids import OutfitIds
from panfit.newcomers import Newcomer, User

Codes = Literal["binary", "relaxed"]
Source = Literal["known", "composed"]
Search = Literal["auto", "exact", "two-stage"]
Answer = tuple[list[OutfitIds], FloatArray]
"""Outfits of item ids, None where nothing is worn, and their scores (n,), falling."""
Answers = tuple[list[list[OutfitIds]], list[FloatArray]]
"""A list of outfits and a list of scores, one a user."""
Alike = tuple[list[str], FloatArray]
"""Ids, and how alike they are (n,), falling."""
Users = list[User] | list[str] | list[Newcomer] | tuple[User, ...]


class Options(TypedDict, total=False):
    """The keywords of `Recommender.recommend`, which explains them."""

    among: Iterable[Sequence[str | None]] | None
    exclude_known: bool
    codes: Codes
    source: Source


class Filters(TypedDict, total=False):
    """The keywords that `Recommender.complete`, which explains them, and `Recommender.compose` share."""

    slots: Sequence[str] | None
    among: Iterable[str] | None
    exclude: Iterable[str]
    repeat: int | None
    width: int
    search: Search
