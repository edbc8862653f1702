"""Backbone: photo -> feature map (the trunk), and attended map -> features (the head); decision D4.

Trunks: small, AlexNet, ResNet-50, any vision backbone of Hugging Face; the identity where maps come from a feature
store. Imports torch, panfit.config and panfit.errors only.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from panfit.config import BackboneConfig
from panfit.errors import ConfigError
from panfit.model.heads import FlattenHead, Head, PoolHead
from panfit.model.initialize import drawn_from
from panfit.model.small import SmallTrunk


class Backbone(nn.Module):
    """A trunk and a head.

    Attributes:
        map_shape: (C, H, W) of the trunk's map.
        head_dim: E, length of the head's features.
    """

    def __init__(
        self,
        trunk: nn.Module,
        head: Head,
        *,
        map_shape: tuple[int, int, int],
        frozen: bool,
        trunk_config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head
        self.map_shape = map_shape
        self.trunk_config = trunk_config
        self.frozen = frozen
        if frozen:
            trunk.requires_grad_(False)
            trunk.eval()

    @property
    def head_dim(self) -> int:
        return self.head.dim

    def train(self, mode: bool = True) -> "Backbone":
        """As nn.Module's, but a frozen trunk stays in evaluation mode: its batch statistics are part of the weights."""
        super().train(mode)
        if self.frozen:
            self.trunk.eval()
        return self

    def feature_map(self, inputs: Tensor) -> Tensor:
        """Photos (N, 3, h, w), or stored maps, -> feature maps (N, C, H, W)."""
        feature_map: Tensor = self.trunk(inputs)
        return feature_map

    def attended(self, feature_map: Tensor, channel: Tensor, spatial: Tensor) -> Tensor:
        """The head on the gated map: (P, C, H, W), gates (P, C) and (P, H * W) -> features (P, E)."""
        return self.head.attended(feature_map, channel, spatial)


TRUNKS: dict[str, Callable[[BackboneConfig], nn.Module]] = {"small": SmallTrunk}
HEADS: dict[str, Callable[[tuple[int, int, int]], Head]] = {"pool": PoolHead, "flatten": FlattenHead}


def build_backbone(
    config: BackboneConfig,
    input_shape: tuple[int, int, int],
    *,
    generator: torch.Generator,
    dropout: float = 0.5,
    trunk_config: dict[str, Any] | None = None,
    pretrained: bool = True,
) -> Backbone:
    """The backbone that ``config`` names, for inputs of (channels, height, width).

    Raises:
        ConfigError: inputs that the trunk cannot take.
    """
    with drawn_from(generator):
        trunk = nn.Identity() if config.source == "stored" else TRUNKS[config.name](config)
        map_shape = _map_shape(trunk, input_shape)
        head = HEADS["pool" if config.head == "own" else config.head](map_shape)
    return Backbone(trunk, head, map_shape=map_shape, frozen=config.frozen)


def _map_shape(trunk: nn.Module, input_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """(C, H, W) of the trunk's map, by trying it on one blank input. Raises ConfigError."""
    was_training = trunk.training
    try:
        with torch.no_grad():
            feature_map = trunk.eval()(torch.zeros(1, *input_shape))  # (1, C, H, W)
    except RuntimeError as error:
        raise ConfigError(f"inputs of shape {input_shape} do not pass the trunk: {error}") from None
    finally:
        trunk.train(was_training)
    _, channels, height, width = feature_map.shape
    if not height * width:
        raise ConfigError(f"inputs of shape {input_shape} are too small for the trunk: no place is left of the map")
    return channels, height, width
