"""QUERIES: what a service asks its Recommender, each as one value; and how each is answered.

A query can be compared: equal ones that wait together are answered once. Never imports the web.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from panfit.answers import Alike, Filters, Ranking, Source
from panfit.complete import Unfinished
from panfit.encode import FloatArray
from panfit.explain import Explanation
from panfit.ids import OutfitIds
from panfit.new_items import Worn
from panfit.newcomers import Newcomer, User
from panfit.recommend import Recommender


@dataclass(frozen=True, eq=False)
class Ranked:
    """Outfits, best first, with PAN Eq. 4's parts; ``scores`` are ``general + personal``, to float32's precision.

    Attributes:
        outfits: n outfits of item ids in slot order.
        scores, general, personal: (n,).
    """

    outfits: list[OutfitIds]
    scores: FloatArray
    general: FloatArray
    personal: FloatArray


@dataclass(frozen=True)
class Recommend:
    """`Recommender.recommend`."""

    user: User
    top: int = 10
    source: Source = "known"
    exclude_known: bool = True

    def answer(self, recommender: Recommender) -> Ranked:
        found = recommender.recommend(self.user, self.top, source=self.source, exclude_known=self.exclude_known)
        return _ranked(recommender, self.user, *found)

    def chosen(self, recommender: Recommender, ranking: Ranking) -> Ranked:
        """`answer` among known outfits, where the user's ranking of them (`Recommender.rank`) is there already."""
        found = recommender.choose(self.user, ranking, self.top, exclude_known=self.exclude_known)
        return _ranked(recommender, self.user, *found)


@dataclass(frozen=True)
class Complete:
    """`Recommender.complete`; with ``repeat``, `Recommender.compose`. ``given``: pairs of slot name and item id."""

    user: User
    given: tuple[tuple[str, str], ...] = ()
    top: int = 10
    slots: tuple[str, ...] | None = None
    among: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    repeat: int | None = None

    def answer(self, recommender: Recommender) -> Ranked:
        found = recommender.complete(self.user, dict(self.given), self.top, **self._filters())
        return _ranked(recommender, self.user, *found)

    def asked(self, recommender: Recommender) -> Unfinished:
        """The question, checked, so that it can be answered together with others. Raises as `Recommender.complete`."""
        return recommender.unfinished(self.user, dict(self.given), self.top, **self._filters())

    def _filters(self) -> Filters:
        return Filters(slots=self.slots, among=self.among, exclude=self.exclude, repeat=self.repeat)


@dataclass(frozen=True)
class Score:
    """`Recommender.score` of catalogue outfits, with its parts, in the order they were asked for."""

    user: User
    outfits: tuple[OutfitIds, ...]

    def answer(self, recommender: Recommender) -> Ranked:
        scores = recommender.score(self.user, self.outfits)  # (B,)
        return _ranked(recommender, self.user, list(self.outfits), scores)


@dataclass(frozen=True, eq=False)
class ScorePhotos:
    """`Recommender.score` of one outfit in which photos are worn: (1,) its score. Never equal to another."""

    user: User
    outfit: Worn

    def answer(self, recommender: Recommender) -> FloatArray:
        return recommender.score(self.user, [self.outfit])


@dataclass(frozen=True)
class Explain:
    """`Recommender.explain`."""

    user: User
    outfit: OutfitIds
    against: User | None = None

    def answer(self, recommender: Recommender) -> Explanation:
        return recommender.explain(self.user, self.outfit, against=self.against)


@dataclass(frozen=True)
class Fit:
    """`Recommender.newcomer`: likes and dislikes -> somebody who can be asked about."""

    name: str
    likes: tuple[OutfitIds, ...] = ()
    dislikes: tuple[OutfitIds, ...] = ()

    def answer(self, recommender: Recommender) -> Newcomer:
        return recommender.newcomer(self.likes, self.dislikes, name=self.name)


@dataclass(frozen=True)
class SimilarUsers:
    """`Recommender.similar_users`."""

    user: User
    top: int = 10

    def answer(self, recommender: Recommender) -> Alike:
        return recommender.similar_users(self.user, self.top)


@dataclass(frozen=True)
class SimilarItems:
    """`Recommender.similar_items`."""

    user: User
    item: str
    top: int = 10

    def answer(self, recommender: Recommender) -> Alike:
        return recommender.similar_items(self.user, self.item, self.top)


Query = Recommend | Complete | Score | ScorePhotos | Explain | Fit | SimilarUsers | SimilarItems


def finished(recommender: Recommender, asked: Sequence[Unfinished]) -> list[Ranked]:
    """What `Complete.answer` gives to each of these questions, to the last bit, computed together."""
    answers = recommender.finish(asked)
    return [Ranked(each.outfits, each.scores, each.general, each.personal) for each in answers]


def _ranked(recommender: Recommender, user: User, outfits: list[OutfitIds], scores: FloatArray) -> Ranked:
    general, personal = recommender.score_parts(user, outfits)  # (n,), (n,)
    return Ranked(outfits, scores, general, personal)
