"""NEWCOMERS: a few likes -> a user, without touching the model. Never imports train."""

from dataclasses import dataclass

from torch import Tensor

from panfit.ids import OutfitIds


@dataclass(frozen=True, eq=False)
class Newcomer:
    """A user whom the model was not trained with. Goes wherever a user id goes.

    Attributes:
        name: what results call him.
        likes: the outfits he is known to like; they are not recommended again.
        dislikes: the outfits he is known not to like.
        embedding: (D,) his f_u, in PAN Eq. 1's place.
    """

    name: str
    likes: tuple[OutfitIds, ...]
    dislikes: tuple[OutfitIds, ...]
    embedding: Tensor


User = str | Newcomer
"""Who is asked about: a user id, or a newcomer."""
