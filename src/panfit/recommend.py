"""RECOMMEND: a trained model -> a user's best outfits, completions, compositions, and scores. Ids in, ids out.

recommender = panfit.load("runs/closet")
outfits, scores = recommender.recommend("u001", top=10)
recommender.complete("u001", {"top": "top-1", "bottom": "bottom-2"}, top=10)
me = recommender.newcomer(likes=[("top-1", "bottom-2", "shoe-3")])  # goes wherever a user id goes

Never imports train.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, overload

import numpy as np
import torch
from torch import Tensor, nn

from panfit.choices import choices_of, open_slots
from panfit.codes import CachedScores, CodeTables
from panfit.complete import Completer
from panfit.compose import WIDTH
from panfit.encode import FloatArray, to_device
from panfit.errors import CheckpointError
from panfit.features.inputs import ItemInputs
from panfit.ids import Ids, OutfitIds
from panfit.methods import make_scorer
from panfit.model.pan import Pan
from panfit.newcomers import Newcomer, User
from panfit.outfits import ABSENT, Dataset, IntArray, Outfits
from panfit.scoring import OutfitScorer

Codes = Literal["binary", "relaxed"]
Answer = tuple[list[OutfitIds], FloatArray]
"""Outfits of item ids, None where nothing is worn, and their scores (n,), falling."""
Answers = tuple[list[list[OutfitIds]], list[FloatArray]]
"""A list of outfits and a list of scores, one a user."""
Users = list[User] | list[str] | list[Newcomer] | tuple[User, ...]

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
    ) -> None:
        self.model = model
        self.dataset = dataset
        self.inputs = inputs
        self.ids = Ids(dataset)
        self.scorer = make_scorer(model, inputs, beta=beta)
        self.candidates = _distinct(np.concatenate([likes.items for likes in dataset.likes.values()]))  # (C, S)
        self._offered = np.ones(len(dataset.catalogue), dtype=np.bool_)  # (N,)
        self._known: dict[int, set[tuple[int, ...]]] = {}
        for user, *items in dataset.known_likes(["train"]):
            self._known.setdefault(user, set()).add(tuple(sorted(items)))
        if isinstance(self.scorer, OutfitScorer):
            tables = CodeTables(self.scorer.coder, max_bytes=cache_bytes)
            self._cached_scores = CachedScores(tables)
            self._completer = Completer(tables)

    @property
    def pan(self) -> Pan:
        """The model, where it is PAN. Raises CheckpointError for a rival, which has no maps and no codes to show."""
        if not isinstance(self.model, Pan):
            raise CheckpointError(
                f"this run is of {type(self.model).__name__}: only PAN has maps and codes to complete, compose and "
                "explain with"
            )
        return self.model

    # fmt: off
    @overload
    def recommend(
        self, user: User, top: int = 10, *, among: Iterable[Sequence[str | None]] | None = None,
        exclude_known: bool = True, codes: Codes = "binary",
    ) -> Answer: ...
    @overload
    def recommend(
        self, user: Users, top: int = 10, *, among: Iterable[Sequence[str | None]] | None = None,
        exclude_known: bool = True, codes: Codes = "binary",
    ) -> Answers: ...
    # fmt: on

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

    # fmt: off
    @overload
    def complete(
        self, user: User, given: Mapping[str, str], top: int = 10, *, slots: Sequence[str] | None = None,
        among: Iterable[str] | None = None, exclude: Iterable[str] = (), repeat: int | None = None, width: int = WIDTH,
    ) -> Answer: ...
    @overload
    def complete(
        self, user: Users, given: Mapping[str, str], top: int = 10, *, slots: Sequence[str] | None = None,
        among: Iterable[str] | None = None, exclude: Iterable[str] = (), repeat: int | None = None, width: int = WIDTH,
    ) -> Answers: ...
    # fmt: on

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
                self.embedding(each), worn, choices, top=top, repeat=repeat, width=width
            )
            return [self.dataset.catalogue.ids(outfit) for outfit in outfits.tolist()], scores

        return self._answer(user, fill)

    # fmt: off
    @overload
    def compose(
        self, user: User, top: int = 10, *, given: Mapping[str, str] | None = None, slots: Sequence[str] | None = None,
        among: Iterable[str] | None = None, exclude: Iterable[str] = (), repeat: int | None = 2, width: int = WIDTH,
    ) -> Answer: ...
    @overload
    def compose(
        self, user: Users, top: int = 10, *, given: Mapping[str, str] | None = None, slots: Sequence[str] | None = None,
        among: Iterable[str] | None = None, exclude: Iterable[str] = (), repeat: int | None = 2, width: int = WIDTH,
    ) -> Answers: ...
    # fmt: on

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

    def score(self, user: User, outfits: Iterable[Sequence[str | None]], *, codes: Codes = "binary") -> FloatArray:
        """(B,) how much a user likes each outfit: y of Eq. 4.

        Args:
            user: a user id or a newcomer.
            outfits: B outfits of item ids in slot order, None where nothing is worn.
            codes: "binary", the product, or "relaxed".

        Raises:
            UnknownIdError: a user or an item that the data set does not have.
            DataError: outfits that do not fit the slots; all of them.
        """
        self._check_user(user)
        return self._scores(user, self.ids.outfit_rows(outfits), codes)

    def withdraw(self, item_ids: Iterable[str]) -> None:
        """Items that are sold out or gone: nothing that is recommended, completed or composed wears them any more."""
        self._offered[self.ids.item_rows(item_ids)] = False

    def offer(self, item_ids: Iterable[str]) -> None:
        """The opposite of `withdraw`; all items are offered at first."""
        self._offered[self.ids.item_rows(item_ids)] = True

    def embedding(self, user: User) -> Tensor:
        """(D,) f_u of a user id (PAN Eq. 1) or a newcomer."""
        if isinstance(user, Newcomer):
            return user.embedding
        with torch.no_grad():
            row = to_device(np.array([self.ids.user_row(user)]), self.pan)  # (1,)
            return self.pan.user_embeddings(row)[0]

    def _answer(self, user: User | Users, one: Callable[[User], Answer]) -> Answer | Answers:
        if isinstance(user, str | Newcomer):
            self._check_user(user)
            return one(user)
        for each in user:  # all checked before anything is scored
            self._check_user(each)
        found = [one(each) for each in user]
        return [outfits for outfits, _ in found], [scores for _, scores in found]

    def _check_user(self, user: User) -> None:
        if isinstance(user, Newcomer):
            if len(user.embedding) != self.pan.config.model.code_bits:
                raise CheckpointError(f"the newcomer {user.name!r} was made for another model: make him again")
        else:
            self.ids.user_row(user)

    def _best(self, user: User, candidates: IntArray, top: int, exclude_known: bool, codes: Codes) -> Answer:
        keep = self._offered[candidates].all(axis=1, where=candidates != ABSENT)  # (C,)
        if exclude_known:
            known = self._known_to(user)
            keep &= np.array([tuple(sorted(outfit)) not in known for outfit in candidates.tolist()], dtype=np.bool_)
        candidates = candidates[keep]
        scores = self._scores(user, candidates, codes)  # (C,)
        best = np.argsort(-scores, kind="stable")[:top]  # (n,)
        return [self.dataset.catalogue.ids(outfit) for outfit in candidates[best].tolist()], scores[best]

    def _known_to(self, user: User) -> set[tuple[int, ...]]:
        """Outfits, each as its sorted item rows, that a user has an opinion on already."""
        if isinstance(user, Newcomer):
            rows = self.ids.outfit_rows([*user.likes, *user.dislikes])
            return {tuple(sorted(outfit)) for outfit in rows.tolist()}
        return self._known.get(self.ids.user_row(user), set())

    def _scores(self, user: User, outfits: IntArray, codes: Codes) -> FloatArray:
        """Outfits (B, S) of rows -> (B,) scores for one user."""
        if codes not in ("binary", "relaxed"):
            raise ValueError(f'codes must be "binary" or "relaxed", not {codes!r}')
        if not len(outfits):
            return np.zeros(0)
        if isinstance(self.scorer, OutfitScorer):
            return self._cached_scores(self.embedding(user), outfits, binary=codes == "binary")
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
