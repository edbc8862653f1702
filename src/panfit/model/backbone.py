"""Backbone: photo -> feature map (the trunk), and attended map -> features (the head); decision D4.

Trunks: small, AlexNet, ResNet-50, any vision backbone of Hugging Face; the identity where maps come from a feature
store. Imports torch, panfit.config and panfit.errors only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from panfit.config import BackboneConfig
from panfit.errors import ConfigError
from panfit.model import hugging_face
from panfit.model.alexnet import AlexNetHead, AlexNetTrunk
from panfit.model.attention import Gates
from panfit.model.heads import FlattenHead, Head, MaskHead, PoolHead
from panfit.model.initialize import drawn_from
from panfit.model.resnet import ResNetTrunk
from panfit.model.small import SmallTrunk
from panfit.model.views import Views
from panfit.model.weights import load_weights

NUM_MASKS = 2
"""Masks a channel of the mask head: one that starts on the middle of the photo, one that starts almost even."""


@dataclass(frozen=True)
class TrunkRequest:
    """What a trunk is built for: see `build_backbone`."""

    input_shape: tuple[int, int, int]
    trunk_config: dict[str, Any] | None
    pretrained: bool


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
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head
        self.map_shape = map_shape
        self.frozen = frozen
        if frozen:
            trunk.requires_grad_(False)
            trunk.eval()

    @property
    def trunk_config(self) -> dict[str, Any] | None:
        """A Hugging Face trunk's own settings; None for the others, whose settings say all."""
        return self.trunk.trunk_config if isinstance(self.trunk, hugging_face.HuggingFaceTrunk) else None

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

    def attended(self, feature_map: Tensor, gates: Gates, views: Views) -> Tensor:
        """The head on the gated maps: maps (Q, C, H, W), gates (Q, K, ...) -> features (R, E) of the views."""
        return self.head.attended(feature_map, gates, views)


def _small(config: BackboneConfig, request: TrunkRequest) -> nn.Module:
    return SmallTrunk(config)


def _alexnet(config: BackboneConfig, request: TrunkRequest) -> nn.Module:
    return AlexNetTrunk()


def _resnet50(config: BackboneConfig, request: TrunkRequest) -> nn.Module:
    return ResNetTrunk()


def _hugging_face(config: BackboneConfig, request: TrunkRequest) -> nn.Module:
    assert config.hf_model is not None  # BackboneConfig sees to it
    return hugging_face.build_trunk(
        config.hf_model,
        input_side=request.input_shape[2],
        trunk_config=request.trunk_config,
        pretrained=request.pretrained,
    )


def _pool(map_shape: tuple[int, int, int], dropout: float) -> Head:
    return PoolHead(map_shape)


def _flatten(map_shape: tuple[int, int, int], dropout: float) -> Head:
    return FlattenHead(map_shape)


def _mask(map_shape: tuple[int, int, int], dropout: float) -> Head:
    return MaskHead(map_shape, NUM_MASKS)


TRUNKS: dict[str, Callable[[BackboneConfig, TrunkRequest], nn.Module]] = {
    "small": _small,
    "alexnet": _alexnet,
    "resnet50": _resnet50,
    "hf": _hugging_face,
}
HEADS: dict[str, Callable[[tuple[int, int, int], float], Head]] = {
    "pool": _pool,
    "flatten": _flatten,
    "mask": _mask,
    "alexnet": AlexNetHead,
}
OWN_HEADS = {"small": "pool", "alexnet": "alexnet", "resnet50": "pool", "hf": "pool"}  # decision D4


def build_backbone(
    config: BackboneConfig,
    input_shape: tuple[int, int, int],
    *,
    generator: torch.Generator,
    dropout: float = 0.5,
    trunk_config: dict[str, Any] | None = None,
    pretrained: bool = True,
) -> Backbone:
    """The backbone that ``config`` names.

    Args:
        config: name, weights, source, frozen, head and the small trunk's sizes.
        input_shape: (channels, height, width) of one photo, or of one stored map.
        generator: where initial weights come from.
        dropout: between AlexNet's fc6 and fc7.
        trunk_config: a Hugging Face trunk's own settings, if they are known.
        pretrained: load pre-trained weights, where ``config`` names some.

    Raises:
        ConfigError: inputs that the trunk cannot take; weights that do not fit; a Hugging Face model that is not there.
        MissingExtraError: a Hugging Face trunk without `transformers`.
    """
    is_stored = config.source == "stored"
    request = TrunkRequest(input_shape, trunk_config, pretrained)
    with drawn_from(generator):
        trunk = nn.Identity() if is_stored else TRUNKS[config.name](config, request)
        map_shape = _map_shape(trunk, input_shape)
        head = HEADS[OWN_HEADS[config.name] if config.head == "own" else config.head](map_shape, dropout)
    if pretrained and config.weights is not None:
        # A stored map's trunk is elsewhere: of the file, only the head's own tensors are wanted.
        load_weights([head] if is_stored else [trunk, head], config.weights, whole_file=not is_stored)
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
