"""LinearTaste: a logistic regression for each user on the colors that an outfit's items have, slot by slot.

scikit-learn is imported only when the model is fitted; a fitted model scores without it.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panfit.baselines.plain import FloatArray, PlainModel
from panfit.errors import ConfigError, MissingExtraError
from panfit.features.inputs import ItemInputs
from panfit.outfits import ABSENT, Outfits
from panfit.rival_config import LinearConfig

PHOTOS_PER_BLOCK = 256
"""Photos counted at a time."""
MAX_ITERATIONS = 1000
"""Of a user's regression; scikit-learn warns where they do not suffice."""


class LinearTaste(PlainModel):
    """y = w_u x + c_u, x the slots' color histograms side by side, zeros in an empty slot.

    A user's w_u and c_u are scikit-learn's logistic regression of his train likes against random outfits. A user
    without train likes, or without negatives, keeps zeros: all outfits tie.

    Attributes:
        histograms: (N, F) of each item, as `color_histograms` makes them; F = bins^3.
        weights: (M, S*F) w_u.
        bias: (M,) c_u.
    """

    histograms: Tensor
    weights: Tensor
    bias: Tensor

    def buffer_sizes(self) -> dict[str, tuple[int, ...]]:
        num_users, num_colors = self.shape.num_users, self.config.linear.bins**3
        return {
            "histograms": (self.num_items, num_colors),
            "weights": (num_users, len(self.shape.slots) * num_colors),
            "bias": (num_users,),
        }

    def fit_likes(self, likes: Outfits, negatives: Outfits, inputs: ItemInputs) -> None:
        """Measure every photo, then fit one user after the other.

        Raises:
            ConfigError: the inputs are no photos.
            MissingExtraError: scikit-learn is not installed.
        """
        try:
            from sklearn.linear_model import LogisticRegression
        except ImportError:
            raise MissingExtraError("scikit-learn", "text") from None
        self.histograms.copy_(torch.from_numpy(color_histograms(_photos(inputs), self.config.linear)))
        self.weights.zero_()
        self.bias.zero_()
        for user in np.intersect1d(likes.users, negatives.users).tolist():
            liked = self._features(likes.take(likes.users == user))  # (n, S*F)
            others = self._features(negatives.take(negatives.users == user))  # (n', S*F)
            is_liked = np.repeat([1, 0], [len(liked), len(others)])  # (n + n',)
            regression = LogisticRegression(C=self.config.linear.strength, max_iter=MAX_ITERATIONS)
            regression.fit(torch.cat([liked, others]).double().cpu().numpy(), is_liked)
            self.weights[user] = torch.from_numpy(regression.coef_[0])  # (S*F,)
            self.bias[user] = float(regression.intercept_[0])

    def score(self, outfits: Outfits) -> FloatArray:
        users = torch.from_numpy(outfits.users).to(self.bias.device)  # (B,)
        products = self._features(outfits) * self.weights[users]  # (B, S*F)
        scores: FloatArray = (products.double().sum(1) + self.bias[users].double()).cpu().numpy()  # (B,)
        return scores

    def _features(self, outfits: Outfits) -> Tensor:
        """(B, S*F) the slots' histograms side by side."""
        items = torch.from_numpy(outfits.items).to(self.histograms.device)  # (B, S)
        worn = (items != ABSENT)[:, :, None]  # (B, S, 1)
        return (self.histograms[items] * worn).flatten(1)  # (B, S*F)


def color_histograms(photos: NDArray[np.uint8], config: LinearConfig) -> NDArray[np.float32]:
    """The colors of the middle of each photo, where the garment is: (N, 3, H, W) -> (N, F), F = bins^3.

    Red, green and blue each fall into ``config.bins`` equal bins; a cell holds the square root of its share of the
    pixels, so that the dot product of two histograms is how far they overlap (Bhattacharyya's coefficient).
    """
    bins, num_colors = config.bins, config.bins**3
    rows, columns = (_middle(side, config.middle) for side in photos.shape[2:])
    histograms = np.empty((len(photos), num_colors), dtype=np.float32)  # (N, F)
    for start in range(0, len(photos), PHOTOS_PER_BLOCK):
        block = photos[start : start + PHOTOS_PER_BLOCK, :, rows, columns].astype(np.int64)  # (n, 3, h, w)
        red, green, blue = np.moveaxis(block * bins // 256, 1, 0)  # (n, h, w) each
        cells = ((red * bins + green) * bins + blue).reshape(len(block), -1)  # (n, h*w)
        own_cells = cells + np.arange(len(block))[:, None] * num_colors  # (n, h*w) of n histograms laid end to end
        counts = np.bincount(own_cells.ravel(), minlength=len(block) * num_colors)  # (n*F,)
        histograms[start : start + len(block)] = np.sqrt(counts / cells.shape[1]).reshape(len(block), -1)  # (n, F)
    return histograms


def _middle(side: int, share: float) -> slice:
    """The middle ``share`` of a side, at least one pixel of it."""
    length = max(1, round(side * share))
    start = (side - length) // 2
    return slice(start, start + length)


def _photos(inputs: ItemInputs) -> NDArray[np.uint8]:
    """The items' photos (N, 3, H, W). Raises ConfigError where the inputs are feature maps."""
    if not isinstance(inputs.source, np.ndarray):
        raise ConfigError(
            f'method = "linear" counts the colors of photos; the items\' inputs are {inputs.kind}. '
            'Set backbone.source = "images"'
        )
    return inputs.source
