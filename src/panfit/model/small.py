"""A small trunk for small photos (48-96 pixels) and small data, with plain statistics and a color palette beside it.

Not in the paper. Imports torch and panfit.config only.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panfit.config import BackboneConfig
from panfit.model.memory import channels_last

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of the normalized photos that a trunk is given; torchvision's constants
IMAGENET_STD = (0.229, 0.224, 0.225)
PALETTE_TEMPERATURE = 0.1  # in squared units of normalized RGB: about a twentieth of a channel's range is "the same"
SPREAD_DRAWS = 8  # candidates for each new palette color, of which the one farthest from the others is kept


class SmallTrunk(nn.Module):
    """Four 3x3 convolutions, each with batch normalization and ReLU; the first strides, two are followed by pooling.

    (N, 3, H, W) -> (N, C, H / 8, W / 8), C = 4w + palette + 22 statistics, or what `attributes` reduces them to. Batch
    rather than group normalization: it trains better here, and in evaluation its running statistics make an item's map
    independent of its company, so that maps can be kept.
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
        besides: list[nn.Module] = [Palette(config.palette)] if config.palette else []
        self.besides = nn.ModuleList([*besides, *([Statistics()] if config.statistics else [])])
        channels = 4 * width + config.palette + (Statistics.NUM if config.statistics else 0)
        self.attributes = nn.Conv2d(channels, config.attributes, 1) if config.attributes else nn.Identity()

    def forward(self, photos: Tensor) -> Tensor:
        """Normalized photos (N, 3, H, W) -> map (N, C, H / 8, W / 8)."""
        learned: Tensor = self.stages(channels_last(photos))  # (N, 4w, H/8, W/8)
        beside = [each(photos, learned.shape[2:]).to(learned.dtype) for each in self.besides]
        feature_map: Tensor = self.attributes(torch.cat([learned, *beside], dim=1))  # (N, C, H/8, W/8)
        return feature_map


def _stage(channels_in: int, channels_out: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class Statistics(nn.Module):
    """What can be said of a place without learning: color, lightness, saturation, edges; hues, lightnesses by bin.

    Tastes are often about just these; a trunk of its own needs thousands of photos to get them as exactly. Batch
    normalization (without scale or shift) brings them to one scale.
    """

    HUES, LIGHTNESSES = 8, 6
    NAMES = (
        *("red", "green", "blue", "lightness squared", "saturation", "chroma", "edges across", "edges down"),
        *(f"hue {k}/8" for k in range(HUES)),
        *(f"lightness {k}/5" for k in range(LIGHTNESSES)),
    )
    NUM = len(NAMES)
    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.norm = nn.BatchNorm2d(self.NUM, affine=False)

    def forward(self, photos: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Normalized photos (N, 3, H, W) -> normalized means over each place (N, 22, *grid)."""
        measured: Tensor = self.norm(self.measure(photos, grid))  # (N, 22, *grid)
        return measured

    def measure(self, photos: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Normalized photos (N, 3, H, W) -> plain means over each place (N, 22, *grid)."""
        pixels = photos.float() * self.std + self.mean  # (N, 3, H, W) RGB in 0..1
        red, green, blue = pixels.unbind(1)  # (N, H, W) each
        highest, lowest = pixels.amax(1), pixels.amin(1)  # (N, H, W)
        chroma = highest - lowest
        lightness = 0.299 * red + 0.587 * green + 0.114 * blue  # Rec. 601 luma
        across = F.pad((lightness[:, :, 1:] - lightness[:, :, :-1]).abs(), (0, 1))  # (N, H, W)
        down = F.pad((lightness[:, 1:] - lightness[:, :-1]).abs(), (0, 0, 0, 1))  # (N, H, W)
        hue = _hue(pixels, highest, chroma) * self.HUES  # (N, H, W) in bins, around the circle
        half = self.HUES / 2
        hues = [(1 - ((hue - k + half) % self.HUES - half).abs()).clamp(min=0) * chroma for k in range(self.HUES)]
        steps = self.LIGHTNESSES - 1
        lightnesses = [(1 - (lightness * steps - k).abs()).clamp(min=0) for k in range(self.LIGHTNESSES)]
        plain = [red, green, blue, lightness.square(), chroma / (highest + 1e-3), chroma, across, down]
        stacked = torch.stack([*plain, *hues, *lightnesses], dim=1)  # (N, 22, H, W)
        return F.adaptive_avg_pool2d(stacked, (int(grid[0]), int(grid[1])))  # (N, 22, *grid)


def _hue(pixels: Tensor, highest: Tensor, chroma: Tensor) -> Tensor:
    """Hue of HSV, 0..1 around the circle. RGB (N, 3, H, W), its maximum and range (N, H, W) -> (N, H, W)."""
    red, green, blue = pixels.unbind(1)  # (N, H, W) each
    spread = chroma + 1e-6
    from_green = torch.where(highest == green, (blue - red) / spread + 2, (red - green) / spread + 4)
    return torch.where(highest == red, ((green - blue) / spread) % 6, from_green) / 6  # (N, H, W)


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
