"""Heads: attended map -> one feature vector for the item encoders (decision D4). Imports torch only.

A head takes the map and the gates rather than their product, so that a head that pools never has to write the product.
"""

import torch
from torch import Tensor, nn


class Head(nn.Module):
    """Attended map (P, C, H, W) -> features (P, E). A subclass says E in ``dim`` and how in `forward`."""

    dim: int

    def attended(self, feature_map: Tensor, channel: Tensor, spatial: Tensor) -> Tensor:
        """Features of the gated map: maps (P, C, H, W), gates (P, C) and (P, H * W) -> (P, E)."""
        num_pairs, channels, height, width = feature_map.shape
        gated = feature_map * channel.view(num_pairs, channels, 1, 1)  # (P, C, H, W)
        features: Tensor = self(gated * spatial.view(num_pairs, 1, height, width))  # (P, E)
        return features


class PoolHead(Head):
    """Mean over places; E = C. What ResNet-50 does behind its last map."""

    def __init__(self, map_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.dim = map_shape[0]

    def forward(self, attended: Tensor) -> Tensor:
        return attended.mean((2, 3))  # (P, C)

    def attended(self, feature_map: Tensor, channel: Tensor, spatial: Tensor) -> Tensor:
        """The same number as `forward` of the product: the channel gate can wait until the places are summed."""
        places = feature_map.flatten(2)  # (P, C, H*W)
        pooled = (places @ spatial[:, :, None])[:, :, 0]  # (P, C)
        return pooled * channel / places.shape[2]  # (P, C)


class FlattenHead(Head):
    """Every place keeps its own weights; E = C * H * W."""

    def __init__(self, map_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = map_shape
        self.dim = channels * height * width

    def forward(self, attended: Tensor) -> Tensor:
        return attended.flatten(1)  # (P, C*H*W)


MIDDLE_DEPTH = 4.0
"""The first initial mask weighs a place outside the photo's middle half exp(-4) as much as one inside."""


class MaskHead(Head):
    """Means over places under learned masks, several for each channel; E = masks * C. Not in the paper.

    Between pooling, which forgets where, and flattening, which has a weight for every channel and place. The masks
    start on the middle half of the photo, where a garment fills it, and, growing fainter, on all of it.
    """

    def __init__(self, map_shape: tuple[int, int, int], num_masks: int) -> None:
        super().__init__()
        channels, height, width = map_shape
        self.dim = num_masks * channels
        rows = torch.arange(height)[:, None] - (height - 1) / 2  # (H, 1)
        columns = torch.arange(width)[None, :] - (width - 1) / 2  # (1, W)
        outside = (rows.abs() > height / 4) | (columns.abs() > width / 4)  # (H, W)
        depth = torch.linspace(MIDDLE_DEPTH, 0, num_masks + 1)[:-1]  # (M,)
        logits = -depth[:, None] * outside.float().flatten()  # (M, H*W)
        self.mask_logits = nn.Parameter(logits[:, None, :].repeat(1, channels, 1))  # (M, C, H*W)

    def forward(self, attended: Tensor) -> Tensor:
        masks = self.mask_logits.softmax(2)  # (M, C, H*W)
        return torch.einsum("pcl,mcl->pmc", attended.flatten(2), masks).flatten(1)  # (P, M*C)

    def attended(self, feature_map: Tensor, channel: Tensor, spatial: Tensor) -> Tensor:
        """As `forward` of the product; the channel gate waits until the places are summed."""
        masks = self.mask_logits.softmax(2)  # (M, C, H*W)
        seen = feature_map.flatten(2) * spatial[:, None, :]  # (P, C, H*W)
        return (torch.einsum("pcl,mcl->pmc", seen, masks) * channel[:, None, :]).flatten(1)  # (P, M*C)
