"""ANSWERS: what a Recommender is asked and what it answers, as types."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True, eq=False)
class Ranking:
    """One user's order of C outfits.

    Attributes:
        order: (C,) their places, best first; ties by place.
        scores: (C,) y of Eq. 4, by place.
    """

    order: NDArray[np.int32]
    scores: FloatArray

    @property
    def nbytes(self) -> int:
        return self.order.nbytes + self.scores.nbytes


@dataclass(frozen=True, eq=False)
class Completed:
    """Outfits that are finished, best first, with PAN Eq. 4's parts.

    Attributes:
        outfits: n outfits of item ids in slot order, None where nothing is worn.
        scores, general, personal: (n,); ``scores`` are ``general + personal``, to float32's precision.
    """

    outfits: list[OutfitIds]
    scores: FloatArray
    general: FloatArray
    personal: FloatArray


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
