"""PEOPLE: who may be asked about, users of the model and newcomers -> embeddings f_u, and the outfits they know.

Never imports train.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from panfit.encode import FloatArray, device_of
from panfit.errors import CheckpointError
from panfit.ids import Ids
from panfit.model.pan import Pan
from panfit.newcomers import Newcomer, User
from panfit.outfits import Dataset

KEPT_EMBEDDINGS = 1024
"""Of the users who were asked about last: a look into the table takes longer than a search."""


class People:
    """The users of a data set, and whoever is new to it. The model stays as it is.

    Args:
        dataset: whose users and train likes.
        model: trained on them; only PAN's users have embeddings, and only PAN can take in newcomers.
    """

    def __init__(self, dataset: Dataset, model: nn.Module) -> None:
        self._dataset = dataset
        self._model = model
        self._ids = Ids(dataset)
        self._embeddings: OrderedDict[str, Tensor] = OrderedDict()
        self._known: dict[int, set[tuple[int, ...]]] = {}
        for user, *items in dataset.known_likes(["train"]):
            self._known.setdefault(user, set()).add(tuple(sorted(items)))

    @property
    def pan(self) -> Pan:
        """The model, where it is PAN. Raises CheckpointError for a rival, which has no maps and no codes to show."""
        if not isinstance(self._model, Pan):
            raise CheckpointError(
                f"this run is of {type(self._model).__name__}: only PAN has maps and codes, to complete, compose and "
                "explain with and to take in newcomers"
            )
        return self._model

    def check(self, user: User) -> None:
        """Raise UnknownIdError for a user who is not there, CheckpointError for a newcomer of another model."""
        if not isinstance(user, Newcomer):
            self._ids.user_row(user)
        elif len(user.embedding) != self.pan.config.model.code_bits:
            raise CheckpointError(f"the newcomer {user.name!r} was made for another model: make him again")

    def embedding(self, user: User) -> Tensor:
        """(D,) f_u of a user id (PAN Eq. 1) or a newcomer. Raises UnknownIdError, CheckpointError."""
        self.check(user)
        if isinstance(user, Newcomer):
            return user.embedding.to(device_of(self.pan))
        found = self._embeddings.pop(user, None)
        if found is None:
            row = torch.tensor([self._ids.user_row(user)], device=device_of(self.pan))  # (1,)
            with torch.no_grad():
                found = self.pan.user_embeddings(row)[0]
        self._embeddings[user] = found
        while len(self._embeddings) > KEPT_EMBEDDINGS:
            self._embeddings.popitem(last=False)
        return found

    def everybody(self) -> Tensor:
        """(M, D) f_u of the model's users."""
        with torch.no_grad():
            return self.pan.user_embeddings(torch.arange(len(self._dataset.user_ids), device=device_of(self.pan)))

    def known(self, user: User) -> set[tuple[int, ...]]:
        """Outfits, each as its sorted item rows, on which a user has an opinion already."""
        if isinstance(user, Newcomer):
            rows = self._ids.outfit_rows([*user.likes, *user.dislikes])  # (B, S)
            return {tuple(sorted(outfit)) for outfit in rows.tolist()}
        return self._known.get(self._ids.user_row(user), set())

    def similar(self, user: User, top: int) -> tuple[list[str], FloatArray]:
        """(user ids, cosines of their f_u with this user's (n,), falling), himself aside."""
        mine = self.embedding(user)  # (D,)
        cosines = cosine_similarity(self.everybody(), mine[None])  # (M,)
        himself = None if isinstance(user, Newcomer) else self._ids.user_row(user)
        order = [row for row in torch.argsort(-cosines, stable=True).tolist() if row != himself][:top]
        return [self._dataset.user_ids[row] for row in order], cosines[order].double().cpu().numpy()
