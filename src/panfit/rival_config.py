"""Settings of the rivals of the paper's Table 1 and of two plain baselines (decision D27). Imports pydantic only."""

from typing import Annotated, Literal

from pydantic import Field

from panfit.settings import Positive, Settings, Share, Weight


class SiameseConfig(Settings):
    """SiameseNet: items that are worn together lie close (Veit et al., ICCV 2015)."""

    loss: Literal["contrastive", "cosine"] = "contrastive"
    """contrastive: y d^2 + (1 - y) max(0, margin - d)^2 (Veit); cosine: mean max(0, cos_neg - margin) - mean cos_pos,
    as re-implemented by Han et al. (2017)."""
    embedding_dim: Positive = 256
    """E, of the L2-normalized embedding. Veit: 256; Han: 512."""
    margin: Weight = 1.0
    """Veit: 1; Han: 0.8."""


class BiLstmConfig(Settings):
    """Bi-LSTM: an outfit is a sentence, read forward and backward (Han et al., ACM MM 2017)."""

    hidden: Positive = 512
    """Units of each LSTM, and length of an item's embedding."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Of the LSTMs' inputs and outputs (Han: keep 0.7)."""
    init: Annotated[float, Field(gt=0)] = 0.08
    """Initial weights are uniform in -init..init."""
    lambda_vse: Weight = 1.0
    """Of the visual-semantic loss; 0: the model needs no text."""
    vse_margin: Weight = 0.2
    pool_items: Positive = 4096
    """Items that a score's softmax runs over, the same for every outfit: all of the catalogue, or so many of it."""


class CsnConfig(Settings):
    """CSN: type-aware embeddings, a learned mask for each pair of categories (Vasileva et al., ECCV 2018)."""

    embedding_dim: Positive = 64
    margin: Weight = 0.3
    """Of the triplets. The released code's default; its help text says .2."""
    lambda_norm: Weight = 5e-4
    """Of the general embedding's length."""
    lambda_mask: Weight = 5e-4
    """Of the masks' L1 norm."""
    lambda_vse: Weight = 5e-3
    """Of the visual-semantic loss; together with lambda_text = 0 at 0: the model needs no text."""
    lambda_text: Weight = 5e-5
    """Of text-text similarity: two items of one category lie closer than a third of another."""
    lambda_image: Weight = 5e-5
    """Of image-image similarity."""


class LinearConfig(Settings):
    """A logistic regression for each user on color histograms of the worn items: what plain statistics reach.

    The defaults were chosen on the closet's validation likes.
    """

    bins: Annotated[int, Field(ge=2, le=16)] = 3
    """Bins of each of red, green and blue; bins^3 colors."""
    negatives: Positive = 10
    """Random outfits for each like."""
    strength: Annotated[float, Field(gt=0)] = 1.0
    """scikit-learn's C: the inverse of the regularization."""
    middle: Share = 0.5
    """Share of each side of the photo that is measured, around its middle. 1: all of it."""
