"""AlexNet under torchvision's parameter names, and its fully connected layers as a head on maps of any size.

PAN sec. 3.2 (backbone, visual feature of 4096); decision D4. Imports torch only.
"""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from panfit.model.heads import Head
from panfit.model.memory import channels_last

FC6_SIDE = 6
"""Side of the map that fc6 was trained on: 224-pixel photos."""
FC_DIM = 4096


class AlexNetTrunk(nn.Module):
    """Photos (N, 3, h, w) -> pool5 (N, 256, H, W): 6 x 6 of 224 pixels, 8 x 8 of FHN's 291."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
        )

    def forward(self, photos: Tensor) -> Tensor:
        pool5: Tensor = self.features(channels_last(photos))
        return pool5


class AlexNetHead(Head):
    """fc6 and fc7 as convolutions, averaged over the places that they fit: (P, 256, H, W) -> (P, 4096).

    conv 6x6 - ReLU - Dropout - conv 1x1 - ReLU - mean (FHN). Their parameters keep the names and shapes of the linear
    layers that they are in torchvision; the 1000-way layer after them is left out. A map smaller than 6 x 6 is first
    stretched to it, as torchvision does.
    """

    dim = FC_DIM

    def __init__(self, map_shape: tuple[int, int, int], dropout: float) -> None:
        super().__init__()
        self.channels = map_shape[0]
        self.classifier = nn.ModuleDict(
            {
                "1": nn.Linear(self.channels * FC6_SIDE**2, FC_DIM),  # fc6
                "4": nn.Linear(FC_DIM, FC_DIM),  # fc7
            }
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, attended: Tensor) -> Tensor:
        if min(attended.shape[2:]) < FC6_SIDE:
            attended = F.adaptive_avg_pool2d(attended, FC6_SIDE)  # (P, 256, 6, 6)
        fc6, fc7 = cast(nn.Linear, self.classifier["1"]), cast(nn.Linear, self.classifier["4"])
        kernel = fc6.weight.unflatten(1, (self.channels, FC6_SIDE, FC6_SIDE))  # (4096, 256, 6, 6)
        hidden = self.dropout(F.relu(F.conv2d(attended, kernel, fc6.bias)))  # (P, 4096, H - 5, W - 5)
        places = F.relu(fc7(hidden.movedim(1, -1)))  # (P, H - 5, W - 5, 4096)
        return places.mean((1, 2))  # (P, 4096)
