"""STYLIST: a trained model and a catalogue -> outfits completed and composed. What a `Recommender` is built on.

Never imports train.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, Unpack, overload

import numpy as np
from torch import nn

from panfit.answers import Alike, Answer, Answers, Completed, Filters, Search, Users
from panfit.choices import choices_of, open_slots
from panfit.codes import CachedScores, CodeTables
from panfit.complete import Completer, Unfinished
from panfit.compose import WIDTH
from panfit.features.inputs import ItemInputs
from panfit.ids import Ids
from panfit.methods import make_scorer
from panfit.model.pan import Pan
from panfit.new_items import Arrivals, NewItem
from panfit.newcomers import Newcomer, User
from panfit.outfits import Dataset
from panfit.people import People
from panfit.scoring import OutfitScorer
from panfit.shortlist import NUM_PROTOTYPES, Progress, Shortlister, taste_prototypes
from panfit.unseen import UnseenInputs

T = TypeVar("T")

CACHE_BYTES = 256 << 20
"""How much memory the tables of users' codes may take."""


class Stylist:
    """A trained model, its data set, and the items to choose from.

    Wherever a user is asked for, a user id or a `Newcomer` may stand; or a list of them, which gives a list of outfits
    and a list of scores, one a user. A user's codes of the items are made when they are first needed, and kept packed.

    Args:
        model: PAN, a rival or a plain baseline, trained on the data set's users and slots.
        dataset: translates ids.
        inputs: the data set's items, as the model sees them.
        beta: of the relaxed codes (decision D7): as trained.
        cache_bytes: bound on the codes kept in memory.
        cache: the folder where whole tables of codes are kept for later processes; None: in memory alone.
        trunk_weights: of the trunk that made stored maps, for new photos; None: where ``backbone.weights`` says.
    """

    def __init__(
        self,
        model: nn.Module,
        dataset: Dataset,
        inputs: ItemInputs,
        *,
        beta: float = 1.0,
        cache_bytes: int = CACHE_BYTES,
        cache: Path | None = None,
        trunk_weights: str | Path | None = None,
    ) -> None:
        self.model = model
        self.dataset = dataset
        self.inputs = inputs
        self.ids = Ids(dataset)
        self.people = People(dataset, model)
        self.scorer = make_scorer(model, inputs, beta=beta)
        self._offered = np.ones(len(dataset.catalogue), dtype=np.bool_)  # (N,)
        if isinstance(self.scorer, OutfitScorer):
            tables = CodeTables(self.scorer.coder, max_bytes=cache_bytes, folder=cache)
            self._cached_scores = CachedScores(tables)
            self._completer = Completer(tables)
            unseen = UnseenInputs(self.pan, inputs, trunk_weights=trunk_weights)
            self._arrivals = Arrivals(dataset, tables, unseen)

    @property
    def pan(self) -> Pan:
        """The model, where it is PAN. Raises CheckpointError for a rival, which has no maps and no codes to show."""
        return self.people.pan

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
        search: Search = "auto",
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
            search: "exact" encodes every candidate as the user sees it; "two-stage" only a shortlist, of which the best
                are exact (`prepare`); "auto": two-stage after `prepare`, where very many are still to be encoded.

        Returns:
            (outfits, scores) as `recommend` gives them; ties by the items' order in the catalogue.

        Raises:
            UnknownIdError: a user, an item or a slot that the data set does not have.
            DataError: given items of the wrong slot or twice, no open slot, nothing left to choose from.
            CheckpointError: the run is not PAN's.
            ValueError: top, repeat or width below 1; two-stage without `prepare`.
        """
        users = [user] if isinstance(user, str | Newcomer) else list(user)
        options = Filters(slots=slots, among=among, exclude=exclude, repeat=repeat, width=width, search=search)
        found = [(each.outfits, each.scores) for each in self.finish(self._unfinished(users, given, top, **options))]
        return (
            found[0]
            if isinstance(user, str | Newcomer)
            else ([ids for ids, _ in found], [scores for _, scores in found])
        )

    def unfinished(self, user: User, given: Mapping[str, str], top: int = 10, **filters: Unpack[Filters]) -> Unfinished:
        """One question of `complete`, checked but not answered: several may then be answered at once (`finish`).

        It holds as long as items are neither added nor withdrawn. The arguments, and what is raised, are those of
        `complete`.
        """
        return self._unfinished([user], given, top, **filters)[0]

    def finish(self, asked: Sequence[Unfinished]) -> list[Completed]:
        """Answer questions of different users about different outfits together: to the last bit what `complete` says.

        Raises ValueError: two-stage without `prepare`.
        """
        assert self.pan is not None  # a rival is refused
        ids = self.dataset.catalogue.ids
        return [
            Completed([ids(outfit) for outfit in each.outfits.tolist()], each.scores, each.general, each.personal)
            for each in self._completer.finish(asked)
        ]

    def is_light(self, asked: Unfinished) -> bool:
        """Whether a question takes no longer than a millisecond: one slot is open, and the user's codes are there."""
        return self._completer.is_light(asked)

    def _unfinished(
        self,
        users: Sequence[User],
        given: Mapping[str, str],
        top: int,
        *,
        slots: Sequence[str] | None = None,
        among: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
        repeat: int | None = None,
        width: int = WIDTH,
        search: Search = "auto",
    ) -> list[Unfinished]:
        """`unfinished` for each of some users."""
        check_top(top)
        if width < 1 or (repeat is not None and repeat < 1):
            raise ValueError(f"width and repeat must be at least 1, not {width} and {repeat}")
        assert self.pan is not None  # a rival is refused
        for user in users:
            self.people.check(user)
        worn = self.ids.given_rows(given)  # (S,)
        choices = choices_of(
            self.dataset,
            worn,
            open_slots(self.dataset, worn, None if slots is None else [self.ids.slot(name) for name in slots]),
            offered=self._offered,
            among=None if among is None else self.ids.item_rows(among),
            exclude=self.ids.item_rows(exclude),
        )  # {slot: (n,) item rows}
        return [Unfinished(self.people.embedding(user), worn, choices, top, repeat, width, search) for user in users]

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
        search: Search = "auto",
    ) -> Answer | Answers:
        """Whole outfits, around given items or from nothing, out of the catalogue or one's own wardrobe.

        A beam search: exact where ``width`` is at least the number of outfits there are. The arguments are those of
        `complete`; an item appears in at most ``repeat`` of the answers, more often only where too few would be found.
        """
        return self.complete(
            user, given or {}, top, slots=slots, among=among, exclude=exclude, repeat=repeat, width=width, search=search
        )

    @property
    def progress(self) -> Progress | None:
        """Told (items done, items in all) whenever many items are encoded for somebody; None: nobody is."""
        return self._completer.tables.progress if isinstance(self.scorer, OutfitScorer) else None

    @progress.setter
    def progress(self, told: Progress | None) -> None:
        if isinstance(self.scorer, OutfitScorer):
            self._completer.tables.progress = told

    @overload
    def similar_items(self, user: User, item: str, top: int = 10) -> Alike: ...
    @overload
    def similar_items(self, user: Users, item: str, top: int = 10) -> list[Alike]: ...

    def similar_items(self, user: User | Users, item: str, top: int = 10) -> Alike | list[Alike]:
        """Which items of its category look most like an item to this user; of a list of users, a list of answers.

        Returns:
            (item ids, shares of equal bits (n,) between 0 and 1, falling), the item itself and withdrawn ones aside.

        Raises:
            UnknownIdError: a user or an item that the data set does not have.
            CheckpointError: the run is not PAN's.
        """
        check_top(top)
        self._check_users(user)
        row = self.ids.item_row(item)
        of_category = self.dataset.catalogue.category_rows  # (N,)
        others = self._offered & (of_category == of_category[row])  # (N,)
        others[row] = False

        def nearest(each: User) -> Alike:
            eyes = self.people.embedding(each)  # (D,)
            rows, shares = self._completer.nearest(eyes, row, np.flatnonzero(others), top)
            return [self.dataset.catalogue.item_ids[found] for found in rows.tolist()], shares

        return self._each(user, nearest)

    def prepare(self, prototypes: int = NUM_PROTOTYPES, *, seed: int = 0, progress: Progress | None = None) -> int:
        """Make the tables of a few taste prototypes, so that a new user of a large catalogue is answered at once.

        Args:
            prototypes: clusters of users (k-means of f_u); the mean user comes on top.
            seed: of the clustering.
            progress: told (items done, items in all).

        Returns:
            how many prototypes there are now, the mean user among them.

        Raises:
            CheckpointError: the run is not PAN's.
        """
        eyes = taste_prototypes(self.people.everybody(), prototypes, seed=seed)  # (1 + P, D)
        shortlister = Shortlister(self._completer.tables, eyes)
        shortlister.prepare(progress=progress)
        self._completer.shortlister = shortlister
        return len(eyes)

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

    def withdraw(self, item_ids: Iterable[str]) -> None:
        """Items that are sold out or gone: nothing that is recommended, completed or composed wears them any more."""
        self._offered[self.ids.item_rows(item_ids)] = False

    def offer(self, item_ids: Iterable[str]) -> None:
        """The opposite of `withdraw`; all items are offered at first."""
        self._offered[self.ids.item_rows(item_ids)] = True

    @property
    def withdrawn(self) -> tuple[str, ...]:
        """The items that are not offered, in the catalogue's order."""
        return tuple(self.dataset.catalogue.item_ids[row] for row in np.flatnonzero(~self._offered).tolist())

    def _answer(self, user: User | Users, one: Callable[[User], Answer]) -> Answer | Answers:
        self._check_users(user)  # all of them, before anything is scored
        found = self._each(user, one)
        if isinstance(found, list):
            return [outfits for outfits, _ in found], [scores for _, scores in found]
        return found

    @staticmethod
    def _each(user: User | Users, one: Callable[[User], T]) -> T | list[T]:
        """One answer, or of a list of users a list of them."""
        return one(user) if isinstance(user, str | Newcomer) else [one(each) for each in user]

    def _check_users(self, user: User | Users) -> None:
        for each in [user] if isinstance(user, str | Newcomer) else user:
            self.people.check(each)


def check_top(top: int) -> None:
    """Raise ValueError below 1."""
    if top < 1:
        raise ValueError(f"top must be at least 1, not {top}")
