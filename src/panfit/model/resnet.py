"""ResNet-50 up to its last map, under torchvision's parameter names so that its weight files load (PAN Table 2).

Written out because torchvision cannot be imported beside the CPU build of torch. Imports torch only.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panfit.model.memory import channels_last

EXPANSION = 4
"""A bottleneck's output is this many times as wide as its middle."""


class Bottleneck(nn.Module):
    """1x1 - 3x3 (strided) - 1x1, each with batch normalization, plus the shortcut (torchvision's ResNet V1.5)."""

    def __init__(self, channels_in: int, width: int, *, stride: int) -> None:
        super().__init__()
        channels_out = width * EXPANSION
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False), nn.BatchNorm2d(channels_out)
            )
            if stride != 1 or channels_in != channels_out
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        shortcut: Tensor = self.downsample(x)
        return F.relu(out + shortcut, inplace=True)


class ResNetTrunk(nn.Module):
    """Photos (N, 3, h, w) -> layer4 (N, 2048, h / 32, w / 32); 23,508,032 parameters with the default sizes."""

    def __init__(self, depths: tuple[int, ...] = (3, 4, 6, 3), width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.stages = [f"layer{index + 1}" for index in range(len(depths))]
        channels = width
        for index, (name, depth) in enumerate(zip(self.stages, depths, strict=True)):
            middle = width * 2**index
            blocks = []
            for block in range(depth):
                blocks.append(Bottleneck(channels, middle, stride=2 if index and not block else 1))
                channels = middle * EXPANSION
            self.add_module(name, nn.Sequential(*blocks))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, photos: Tensor) -> Tensor:
        x: Tensor = F.relu(self.bn1(self.conv1(channels_last(photos))), inplace=True)
        x = torch.max_pool2d(x, 3, stride=2, padding=1)
        for name in self.stages:
            x = self.get_submodule(name)(x)
        return x
