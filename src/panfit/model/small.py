"""A small trunk for small photos (48-96 pixels) and small data, and its color palette. Not in the paper.

Imports torch and panfit.config only.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panfit.config import BackboneConfig

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of the normalized photos that a trunk is given; torchvision's constants
IMAGENET_STD = (0.229, 0.224, 0.225)
PALETTE_TEMPERATURE = 0.1  # in squared units of normalized RGB: about a twentieth of a channel's range is "the same"
SPREAD_DRAWS = 8  # candidates for each new palette color, of which the one farthest from the others is kept


class SmallTrunk(nn.Module):
    """Four 3x3 convolutions, each with batch normalization and ReLU; the first strides, two are followed by pooling.

    (N, 3, H, W) -> (N, 4w + palette, H / 8, W / 8). Batch rather than group normalization: it trains better here, and
    in evaluation its running statistics make an item's map independent of its company, so that maps can be kept.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        width = config.width
        self.stages = nn.Sequential(
            _stage(3, width, stride=2),  # H/2
            _stage(width, 2 * width),
            nn.MaxPool2d(2),  # H/4
            _stage(2 * width, 4 * width),
            nn.MaxPool2d(2),  # H/8
            _stage(4 * width, 4 * width),
        )
        self.palette = Palette(config.palette) if config.palette else None

    def forward(self, photos: Tensor) -> Tensor:
        """Normalized photos (N, 3, H, W) -> map (N, C, H / 8, W / 8)."""
        feature_map: Tensor = self.stages(photos)  # (N, 4w, H/8, W/8)
        if self.palette is None:
            return feature_map
        colors = self.palette(photos, feature_map.shape[2:])  # (N, K, H/8, W/8)
        return torch.cat([feature_map, colors], dim=1)


def _stage(channels_in: int, channels_out: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class Palette(nn.Module):
    """A soft color histogram of every place of the map: which share of its pixels is near which learned color."""

    def __init__(self, num_colors: int) -> None:
        super().__init__()
        self.colors = nn.Parameter(_spread_colors(num_colors))  # (K, 3), normalized RGB

    def forward(self, photos: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Normalized photos (N, 3, H, W) -> shares (N, K, *grid), summing to 1 at each place."""
        pixels = F.avg_pool2d(photos, 2)  # (N, 3, H/2, W/2): colors need no more detail
        # |x - c|^2 less |x|^2, which no color changes, so that softmax does not see it.
        distance = self.colors.square().sum(1).view(1, -1, 1, 1) - 2 * F.conv2d(pixels, self.colors[:, :, None, None])
        shares = torch.softmax(-distance / PALETTE_TEMPERATURE, dim=1)  # (N, K, H/2, W/2)
        return F.adaptive_avg_pool2d(shares, (grid[0], grid[1]))  # (N, K, *grid)


def _spread_colors(num_colors: int) -> Tensor:
    """Colors far from one another: each is the farthest of a few drawn from the cube (best-candidate sampling)."""
    colors = torch.rand(1, 3)  # (1, 3) RGB
    for _ in range(num_colors - 1):
        candidates = torch.rand(SPREAD_DRAWS * len(colors), 3)
        nearest = torch.cdist(candidates, colors).amin(1)
        colors = torch.cat([colors, candidates[nearest.argmax()][None]])
    return (colors - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)  # (K, 3)
