"""SERVICE: model and likes together: whoever an id means, as the Recommender takes him. Knows nothing of HTTP."""

from collections import OrderedDict
from dataclasses import dataclass

import anyio.to_thread
import numpy as np

from panfit.ids import OutfitIds
from panfit.newcomers import Newcomer, User
from panfit.outfits import Dataset
from panfit.serve.engine import Engine
from panfit.serve.likes import LikesStore, Profile, is_newcomer_id
from panfit.serve.queries import Fit
from panfit.serve.settings import ServeConfig

KEPT_NEWCOMERS = 4096
"""Newcomers whose embeddings are held; others are made again from their likes."""


@dataclass(frozen=True)
class Known:
    """The opinions of a profile that are about outfits the catalogue still has.

    Attributes:
        likes, dislikes: outfits of item ids.
        gone: how many opinions are left out, because an item is no longer there.
    """

    likes: tuple[OutfitIds, ...]
    dislikes: tuple[OutfitIds, ...]
    gone: int


class Service:
    """What all of a service's addresses share.

    Args:
        engine: started.
        likes: open.
        config: limits and secrets.
    """

    def __init__(self, engine: Engine, likes: LikesStore, config: ServeConfig) -> None:
        self.engine, self.likes, self.config = engine, likes, config
        self._newcomers: OrderedDict[tuple[str, int], Newcomer] = OrderedDict()

    @property
    def dataset(self) -> Dataset:
        """As it is now: it grows when items are added."""
        return self.engine.recommender.dataset

    def is_newcomer(self, user_id: str) -> bool:
        """Whether an id has a newcomer's form; the model's users come first."""
        return user_id not in self.dataset.user_row_of and is_newcomer_id(user_id)

    async def user(self, user_id: str) -> User:
        """The user of the model, or the newcomer, whom an id means. Raises UnknownIdError."""
        if not self.is_newcomer(user_id):
            self.engine.recommender.people.check(user_id)
            return user_id
        return await self.newcomer(await self.profile(user_id))

    async def profile(self, newcomer_id: str) -> Profile:
        """A newcomer's likes and dislikes as the database has them now. Raises UnknownIdError."""
        return await anyio.to_thread.run_sync(self.likes.get, newcomer_id)

    async def newcomer(self, profile: Profile) -> Newcomer:
        """The newcomer of a profile; of one state of his opinions, the same object each time while it is held."""
        key = profile.id, profile.version
        found = self._newcomers.pop(key, None)
        if found is None:
            known = self.known(profile)
            found = await self.engine.ask(Fit(profile.name, known.likes, known.dislikes))
        self._newcomers[key] = found
        while len(self._newcomers) > KEPT_NEWCOMERS:
            self._newcomers.popitem(last=False)
        return found

    def forget(self, newcomer_id: str) -> None:
        """Hold nothing more of a newcomer who was erased."""
        for key in [key for key in self._newcomers if key[0] == newcomer_id]:
            self.engine.forget(self._newcomers.pop(key))

    def known(self, profile: Profile) -> Known:
        """What of a profile's opinions the catalogue still understands."""
        there = self.dataset.catalogue.row_of
        sides: dict[bool, list[OutfitIds]] = {True: [], False: []}
        gone = 0
        for opinion in profile.opinions:
            if all(item is None or item in there for item in opinion.outfit):
                sides[opinion.liked].append(opinion.outfit)
            else:
                gone += 1
        return Known(tuple(sides[True]), tuple(sides[False]), gone)


def train_likes(dataset: Dataset, user_id: str) -> list[OutfitIds]:
    """The distinct outfits that a user of the model is known to like from the training."""
    likes = dataset.likes["train"]
    rows = np.flatnonzero(likes.users == dataset.user_row(user_id))  # (n,)
    return list(dict.fromkeys(dataset.catalogue.ids(outfit) for outfit in likes.items[rows].tolist()))
