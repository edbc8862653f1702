"""RECOMMEND: a trained model -> a user's best outfits, completions, compositions, and scores. Ids in, ids out.

recommender = panfit.load("runs/closet")
outfits, scores = recommender.recommend("u001", top=10)
recommender.complete("u001", {"top": "top-1", "bottom": "bottom-2"}, top=10)
me = recommender.newcomer(likes=[("top-1", "bottom-2", "shoe-3")])  # goes wherever a user id goes

Never imports train.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Unpack, overload

import numpy as np
from torch import nn

from panfit.answers import Answer, Answers, Codes, Filters, Options, Users
from panfit.choices import choices_of, open_slots
from panfit.codes import CachedScores, CodeTables
from panfit.complete import Completer
from panfit.compose import WIDTH
from panfit.encode import FloatArray
from panfit.features.inputs import ItemInputs
from panfit.ids import Ids
from panfit.methods import make_scorer
from panfit.model.pan import Pan
from panfit.new_items import Arrivals, NewItem, Wearable, WornIds
from panfit.newcomers import Newcomer, User
from panfit.outfits import ABSENT, Dataset, IntArray, Outfits
from panfit.people import People
from panfit.scoring import OutfitScorer
from panfit.unseen import Photo, UnseenInputs

CACHE_BYTES = 256 << 20
"""How much memory a Recommender's tables of users' codes may take."""


class Recommender:
    """A trained model, its data set, and the outfits and items to choose from.

    Wherever a user is asked for, a user id or a `Newcomer` may stand; or a list of them, which gives a list of outfits
    and a list of scores, one a user. A user's codes of the items are made when they are first needed, and kept packed.

    Args:
        model: PAN, a rival or a plain baseline, trained on the data set's users and slots.
        dataset: translates ids.
        inputs: the data set's items, as the model sees them.
        beta: of the relaxed codes (decision D7): as trained.
        cache_bytes: bound on the kept codes.
        trunk_weights: of the trunk that made stored maps, for new photos; None: where ``backbone.weights`` says.

    Attributes:
        candidates: (C, S) the distinct outfits that anybody likes, in any split, in the data set's order.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: Dataset,
        inputs: ItemInputs,
        *,
        beta: float = 1.0,
        cache_bytes: int = CACHE_BYTES,
        trunk_weights: str | Path | None = None,
    ) -> None:
        self.model = model
        self.dataset = dataset
        self.inputs = inputs
        self.ids = Ids(dataset)
        self.people = People(dataset, model)
        self.scorer = make_scorer(model, inputs, beta=beta)
        self.candidates = _distinct(np.concatenate([likes.items for likes in dataset.likes.values()]))  # (C, S)
        self._offered = np.ones(len(dataset.catalogue), dtype=np.bool_)  # (N,)
        if isinstance(self.scorer, OutfitScorer):
            tables = CodeTables(self.scorer.coder, max_bytes=cache_bytes)
            self._cached_scores = CachedScores(tables)
            self._completer = Completer(tables)
            unseen = UnseenInputs(self.pan, inputs, trunk_weights=trunk_weights)
            self._arrivals = Arrivals(dataset, tables, unseen)

    @property
    def pan(self) -> Pan:
        """The model, where it is PAN. Raises CheckpointError for a rival, which has no maps and no codes to show."""
        return self.people.pan

    @overload
    def recommend(self, user: User, top: int = 10, **options: Unpack[Options]) -> Answer: ...
    @overload
    def recommend(self, user: Users, top: int = 10, **options: Unpack[Options]) -> Answers: ...

    def recommend(
        self,
        user: User | Users,
        top: int = 10,
        *,
        among: Iterable[Sequence[str | None]] | None = None,
        exclude_known: bool = True,
        codes: Codes = "binary",
    ) -> Answer | Answers:
        """A user's best outfits among known ones; `compose` makes new ones.

        Args:
            user: a user id or newcomer; or a list of them.
            top: how many; fewer come back where there are fewer candidates.
            among: outfits to choose from instead of ``candidates``, repetitions dropped.
            exclude_known: leave out what the user is known to like (his train likes; a newcomer's likes and dislikes).
            codes: "binary", the product, or "relaxed".

        Returns:
            (outfits, scores): item ids in slot order, None where nothing is worn; scores (n,) falling, ties in the
            order of the candidates.

        Raises:
            UnknownIdError: a user or an item that the data set does not have.
            DataError: an outfit of ``among`` that does not fit the slots.
            ValueError: top below 1.
        """
        _check_top(top)
        candidates = self.candidates if among is None else _distinct(self.ids.outfit_rows(among))  # (C, S)
        return self._answer(user, lambda each: self._best(each, candidates, top, exclude_known, codes))

    @overload
    def complete(self, user: User, given: Mapping[str, str], top: int = 10, **filters: Unpack[Filters]) -> Answer: ...
    @overload
    def complete(self, user: Users, given: Mapping[str, str], top: int = 10, **filters: Unpack[Filters]) -> Answers: ...

    def complete(
        self,
        user: User | Users,
        given: Mapping[str, str],
        top: int = 10,
        *,
        slots: Sequence[str] | None = None,
        among: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
        repeat: int | None = None,
        width: int = WIDTH,
    ) -> Answer | Answers:
        """The best ways to fill an outfit's open slots.

        One open slot is an exact search (PAN Eq. 4 is linear in its code); several are composed (`compose`).

        Args:
            user: a user id or newcomer; or a list of them.
            given: {slot name: item id}, what is worn already.
            top: how many; fewer come back where there are fewer.
            slots: names of the slots to fill; every open one if not given, of two of one category only the first.
            among: item ids to choose from, such as somebody's own wardrobe; the whole catalogue if not given.
            exclude: item ids not to choose.
            repeat: in how many answers a chosen item may appear; None: in all.
            width: of the beam, where several slots are open.

        Returns:
            (outfits, scores) as `recommend` gives them; ties by the items' order in the catalogue.

        Raises:
            UnknownIdError: a user, an item or a slot that the data set does not have.
            DataError: given items of the wrong slot or twice, no open slot, nothing left to choose from.
            CheckpointError: the run is not PAN's.
            ValueError: top, repeat or width below 1.
        """
        _check_top(top)
        if width < 1 or (repeat is not None and repeat < 1):
            raise ValueError(f"width and repeat must be at least 1, not {width} and {repeat}")
        assert self.pan is not None  # a rival is refused
        worn = self.ids.given_rows(given)  # (S,)
        choices = choices_of(
            self.dataset,
            worn,
            open_slots(self.dataset, worn, None if slots is None else [self.ids.slot(name) for name in slots]),
            offered=self._offered,
            among=None if among is None else self.ids.item_rows(among),
            exclude=self.ids.item_rows(exclude),
        )  # {slot: (n,) item rows}

        def fill(each: User) -> Answer:
            outfits, scores = self._completer.fill(
                self.people.embedding(each), worn, choices, top=top, repeat=repeat, width=width
            )
            return [self.dataset.catalogue.ids(outfit) for outfit in outfits.tolist()], scores

        return self._answer(user, fill)

    @overload
    def compose(
        self, user: User, top: int = 10, *, given: Mapping[str, str] | None = None, **filters: Unpack[Filters]
    ) -> Answer: ...
    @overload
    def compose(
        self, user: Users, top: int = 10, *, given: Mapping[str, str] | None = None, **filters: Unpack[Filters]
    ) -> Answers: ...

    def compose(
        self,
        user: User | Users,
        top: int = 10,
        *,
        given: Mapping[str, str] | None = None,
        slots: Sequence[str] | None = None,
        among: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
        repeat: int | None = 2,
        width: int = WIDTH,
    ) -> Answer | Answers:
        """Whole outfits, around given items or from nothing, out of the catalogue or one's own wardrobe.

        A beam search: exact where ``width`` is at least the number of outfits there are. The arguments are those of
        `complete`; an item appears in at most ``repeat`` of the answers, more often only where too few would be found.
        """
        return self.complete(
            user, given or {}, top, slots=slots, among=among, exclude=exclude, repeat=repeat, width=width
        )

    def score(
        self, user: User, outfits: Iterable[Wearable | Sequence[Wearable]], *, codes: Codes = "binary"
    ) -> FloatArray:
        """(B,) how much a user likes each outfit: y of Eq. 4.

        Args:
            user: a user id or a newcomer.
            outfits: B outfits in slot order: item ids; photos, as pathlib.Path, PIL image or `Photo` with a title; None
                where nothing is worn. Or a single outfit that holds a photo: [photo, photo, photo].
            codes: "binary", the product, or "relaxed".

        Raises:
            UnknownIdError: a user or an item that the data set does not have.
            DataError: outfits that do not fit the slots, photos that cannot be used; all of them.
            CheckpointError: photos for a rival, or for stored maps whose trunk cannot be had.
        """
        self.people.check(user)
        worn = WornIds(self.dataset)
        rows = worn.worn_rows(outfits)  # (B, S)
        return self._scores(user, rows, codes, worn.photos)

    def add_items(self, items: Iterable[NewItem]) -> None:
        """New items join the catalogue, in memory: from now on they are completed with, scored and withdrawn as any.

        Raises:
            DataError: ids that are there already, unknown categories, photos that cannot be used, no title where the
                model reads titles; all of them, and then no item joins.
            CheckpointError: the run is not PAN's, or the trunk that made its stored maps cannot be had.
        """
        assert self.pan is not None  # a rival is refused
        self.dataset = self._arrivals.join(self.dataset, items)
        self.inputs = self._completer.tables.coder.inputs
        self.ids, self.people = Ids(self.dataset), People(self.dataset, self.model)
        more = len(self.inputs) - len(self._offered)
        self._offered = np.append(self._offered, np.ones(more, dtype=np.bool_))  # (N,)
        self._completer = Completer(self._completer.tables)

    def similar_users(self, user: User, top: int = 10) -> tuple[list[str], FloatArray]:
        """Whose taste is nearest: (user ids, cosines of their f_u with this user's (n,), falling), himself aside.

        Raises:
            UnknownIdError: the user is not in the data set.
            CheckpointError: the run is not PAN's.
        """
        _check_top(top)
        return self.people.similar(user, top)

    def similar_items(self, user: User, item: str, top: int = 10) -> tuple[list[str], FloatArray]:
        """Which items of its category look most like an item to this user.

        Returns:
            (item ids, shares of equal bits (n,) between 0 and 1, falling), the item itself and withdrawn ones aside.

        Raises:
            UnknownIdError: a user or an item that the data set does not have.
            CheckpointError: the run is not PAN's.
        """
        _check_top(top)
        self.people.check(user)
        row = self.ids.item_row(item)
        of_category = self.dataset.catalogue.category_rows  # (N,)
        others = self._offered & (of_category == of_category[row])  # (N,)
        others[row] = False
        rows, shares = self._completer.nearest(self.people.embedding(user), row, np.flatnonzero(others), top)
        return [self.dataset.catalogue.item_ids[each] for each in rows.tolist()], shares

    def withdraw(self, item_ids: Iterable[str]) -> None:
        """Items that are sold out or gone: nothing that is recommended, completed or composed wears them any more."""
        self._offered[self.ids.item_rows(item_ids)] = False

    def offer(self, item_ids: Iterable[str]) -> None:
        """The opposite of `withdraw`; all items are offered at first."""
        self._offered[self.ids.item_rows(item_ids)] = True

    def _answer(self, user: User | Users, one: Callable[[User], Answer]) -> Answer | Answers:
        if isinstance(user, str | Newcomer):
            self.people.check(user)
            return one(user)
        for each in user:  # all checked before anything is scored
            self.people.check(each)
        found = [one(each) for each in user]
        return [outfits for outfits, _ in found], [scores for _, scores in found]

    def _best(self, user: User, candidates: IntArray, top: int, exclude_known: bool, codes: Codes) -> Answer:
        keep = self._offered[candidates].all(axis=1, where=candidates != ABSENT)  # (C,)
        if exclude_known:
            known = self.people.known(user)
            keep &= np.array([tuple(sorted(outfit)) not in known for outfit in candidates.tolist()], dtype=np.bool_)
        candidates = candidates[keep]
        scores = self._scores(user, candidates, codes)  # (C,)
        best = np.argsort(-scores, kind="stable")[:top]  # (n,)
        return [self.dataset.catalogue.ids(outfit) for outfit in candidates[best].tolist()], scores[best]

    def _scores(self, user: User, outfits: IntArray, codes: Codes, photos: Sequence[Photo] = ()) -> FloatArray:
        """Outfits (B, S) of rows, beyond the N items' those of photos, -> (B,) scores for one user."""
        if codes not in ("binary", "relaxed"):
            raise ValueError(f'codes must be "binary" or "relaxed", not {codes!r}')
        if not len(outfits):
            return np.zeros(0)
        if photos:
            assert self.pan is not None  # a rival is refused
            return self._arrivals.scores(self.people.embedding(user), outfits, photos, binary=codes == "binary")
        if isinstance(self.scorer, OutfitScorer):
            return self._cached_scores(self.people.embedding(user), outfits, binary=codes == "binary")
        assert isinstance(user, str)  # a newcomer has been refused
        users = np.full(len(outfits), self.ids.user_row(user), dtype=np.int64)  # (B,)
        return self.scorer.scores(Outfits(users, outfits), binary=codes == "binary")


def _distinct(outfits: IntArray) -> IntArray:
    """(B, S) outfits -> (C, S), each once, in the order of first appearance; two tops in either order are the same."""
    _, first = np.unique(np.sort(outfits, axis=1), axis=0, return_index=True)
    return outfits[np.sort(first)]


def _check_top(top: int) -> None:
    if top < 1:
        raise ValueError(f"top must be at least 1, not {top}")
