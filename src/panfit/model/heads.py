"""Heads: attended map -> one feature vector for the item encoders (decision D4). Imports torch only.

A head takes the map and the gates rather than their product, so that a head that pools never has to write the product.
"""

import torch
from torch import Tensor, nn

from panfit.model.attention import Gates
from panfit.model.views import Views


class Head(nn.Module):
    """Attended map (P, C, H, W) -> features (P, E). A subclass says E in ``dim`` and how in `forward`."""

    dim: int

    def attended(self, feature_map: Tensor, gates: Gates, views: Views) -> Tensor:
        """Features of the gated maps of R views: maps (Q, C, H, W), gates (Q, K, ...) -> (R, E).

        This is the plain path: it writes every view's map.
        """
        channel, spatial = views.select(gates.channel), views.select(gates.spatial)  # (R, C), (R, H*W)
        gated = feature_map.index_select(0, views.rows) * channel[:, :, None, None]  # (R, C, H, W)
        features: Tensor = self(gated * spatial.view(len(spatial), 1, *feature_map.shape[2:]))  # (R, E)
        return features


class PoolHead(Head):
    """Mean over places; E = C. What ResNet-50 does behind its last map."""

    def __init__(self, map_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.dim = map_shape[0]

    def forward(self, attended: Tensor) -> Tensor:
        return attended.mean((2, 3))  # (R, C)

    def attended(self, feature_map: Tensor, gates: Gates, views: Views) -> Tensor:
        """The same numbers as the plain path: the channel gate can wait until the places are summed."""
        places = feature_map.flatten(2)  # (Q, C, H*W)
        pooled = torch.bmm(gates.spatial, places.transpose(1, 2)) / places.shape[2]  # (Q, K, C)
        return views.select(pooled * gates.channel)  # (R, C)


class FlattenHead(Head):
    """Every place keeps its own weights; E = C * H * W."""

    def __init__(self, map_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = map_shape
        self.dim = channels * height * width

    def forward(self, attended: Tensor) -> Tensor:
        return attended.flatten(1)  # (R, C*H*W)


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
        return torch.einsum("pcl,mcl->pmc", attended.flatten(2), masks).flatten(1)  # (R, M*C)

    def attended(self, feature_map: Tensor, gates: Gates, views: Views) -> Tensor:
        """The same numbers as the plain path: masks are applied once an item, the channel gate after the sum."""
        masked = feature_map.flatten(2)[:, None] * self.mask_logits.softmax(2)  # (Q, M, C, H*W)
        pooled = torch.bmm(gates.spatial, masked.flatten(1, 2).transpose(1, 2))  # (Q, K, M*C)
        num_masks = len(self.mask_logits)
        return views.select(pooled * gates.channel.repeat(1, 1, num_masks))  # (R, M*C)
