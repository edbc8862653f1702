"""Popularity: everybody likes what many wear. Imports torch and the plain baselines' own base only."""

import numpy as np
import torch
from torch import Tensor

from panfit.baselines.plain import FloatArray, PlainModel
from panfit.features.inputs import ItemInputs
from panfit.outfits import Outfits


class Popularity(PlainModel):
    """The mean over an outfit's worn items of log(1 + train likes of the item); the user does not matter.

    Where the test items were never seen in training (every split of its own items, decision D9), all counts are 0 and
    all outfits tie: AUC .5 and FITB one over the number of candidates, by construction.

    Attributes:
        counts: (N,) how often the train likes wear each item.
    """

    counts: Tensor

    def buffer_sizes(self) -> dict[str, tuple[int, ...]]:
        return {"counts": (self.num_items,)}

    def fit_likes(self, likes: Outfits, negatives: Outfits, inputs: ItemInputs) -> None:
        """Count what the likes wear; the negatives and the items' looks do not matter."""
        counts = np.bincount(likes.items[likes.mask], minlength=self.num_items)  # (N,)
        self.counts.copy_(torch.from_numpy(counts))

    def score(self, outfits: Outfits) -> FloatArray:
        popularity = np.log1p(self.counts.double().cpu().numpy())  # (N,)
        worn = np.where(outfits.mask, popularity[outfits.items], 0)  # (B, S)
        mean: FloatArray = worn.sum(axis=1) / outfits.mask.sum(axis=1)  # (B,)
        return mean
