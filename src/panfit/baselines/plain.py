"""What a plain baseline is: buffers and no gradient, one pass over the likes, one score an outfit, no codes.

Plain baselines tell how far an outfit's score can be guessed without deep features; what PAN is worth is what it adds.
Imports torch, numpy, panfit.config, panfit.outfits, panfit.model.batch and panfit.features.inputs only.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from panfit.config import Config
from panfit.features.inputs import ItemInputs
from panfit.model.batch import PanShape
from panfit.outfits import Outfits

FloatArray = NDArray[np.float64]

BATCH_OUTFITS = 1024
"""Outfits whose features are held at a time."""


class PlainModel(nn.Module):
    """A baseline that looks at the train likes once. A subclass names its buffers, fills them and scores.

    It is its own `panfit.evaluate.Scorer`: what it knows of users and items is in its buffers, inputs are not needed.

    Args:
        config: everything; a subclass reads its own section.
        shape: what the data decides, ``num_items`` included.
        generator, trunk_config, pretrained: taken as every model takes them; here is no chance and no trunk.

    Raises:
        ValueError: a shape without ``num_items``.
    """

    def __init__(
        self,
        config: Config,
        shape: PanShape,
        *,
        generator: torch.Generator | None = None,
        trunk_config: dict[str, Any] | None = None,
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        if shape.num_items is None:
            raise ValueError(f"{type(self).__name__} keeps a row for each item: shape.num_items must say how many")
        self.config = config
        self.shape = shape
        self.num_items = shape.num_items
        for name, sizes in self.buffer_sizes().items():
            self.register_buffer(name, torch.zeros(sizes))

    @property
    def trunk_config(self) -> None:
        """There is no Hugging Face trunk whose config a checkpoint would keep."""
        return None

    def buffer_sizes(self) -> dict[str, tuple[int, ...]]:
        """Name -> sizes of what the model keeps, float32; zeros until it is fitted or read from a checkpoint."""
        raise NotImplementedError

    def fit_likes(self, likes: Outfits, negatives: Outfits, inputs: ItemInputs) -> None:
        """Fill the buffers in place from likes (B), negatives (B') of the same users, and the items' inputs."""
        raise NotImplementedError

    def score(self, outfits: Outfits) -> FloatArray:
        """(B,) scores of a few outfits at once, higher is better."""
        raise NotImplementedError

    def scores(self, outfits: Outfits, *, binary: bool) -> FloatArray:
        """(B,) scores of any number of outfits. There are no codes: ``binary`` changes nothing."""
        blocks = np.split(np.arange(len(outfits)), range(BATCH_OUTFITS, len(outfits), BATCH_OUTFITS))  # (b,) each
        return np.concatenate([self.score(outfits.take(rows)) for rows in blocks])  # (B,)

    def both(self, outfits: Outfits) -> tuple[FloatArray, FloatArray]:
        """(relaxed (B,), binary (B,)): the one score twice."""
        scores = self.scores(outfits, binary=True)  # (B,)
        return scores, scores
