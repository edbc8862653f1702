"""Any vision backbone of Hugging Face as a trunk, from a local folder or the hub. Needs the extra "backbones".

`transformers` is imported when a trunk is built, not before. Imports torch and panfit.errors only.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from panfit.errors import ConfigError, MissingExtraError

PREFIX_TOKENS = 16
"""A transformer may put up to this many tokens (class, registers) before its patches."""


class HuggingFaceTrunk(nn.Module):
    """Photos (N, 3, h, w) -> last hidden state as a map (N, C, H, W); tokens of square patches are laid out again."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @property
    def trunk_config(self) -> dict[str, Any]:
        """The model's own settings, enough to build it again without a hub."""
        settings: dict[str, Any] = self.model.config.to_diff_dict()  # type: ignore[union-attr, operator]
        return settings

    def forward(self, photos: Tensor) -> Tensor:
        hidden: Tensor = self.model(pixel_values=photos).last_hidden_state  # (N, C, H, W) or (N, T, C)
        return hidden if hidden.ndim == 4 else _tokens_to_map(hidden)


def _tokens_to_map(tokens: Tensor) -> Tensor:
    """(N, prefix + H * H, C) -> (N, C, H, H): photos are square, hence so is the grid of patches."""
    side = int(tokens.shape[1] ** 0.5)
    prefix = tokens.shape[1] - side**2
    if prefix > PREFIX_TOKENS:
        raise ConfigError(f"{tokens.shape[1]} tokens are no square grid of patches behind a few others")
    patches = tokens[:, prefix:].transpose(1, 2)  # (N, C, H*H)
    return patches.reshape(*patches.shape[:2], side, side)  # (N, C, H, H)


def build_trunk(name: str, *, input_side: int, trunk_config: dict[str, Any] | None, pretrained: bool) -> nn.Module:
    """The vision model ``name`` with the weights that come with it.

    Args:
        name: a folder with config.json and weights (initial weights where it has none), or a name of the hub.
        input_side: pixels; must be the model's own where it has one.
        trunk_config: the model's settings if they are known: then ``name`` is not asked and weights are initial.
        pretrained: False for initial weights.

    Raises:
        MissingExtraError: transformers is not installed.
        ConfigError: no such model, not a vision model, or one for photos of another size.
    """
    try:
        import transformers
    except ImportError:
        raise MissingExtraError("transformers", "backbones") from None
    auto_config: Any = transformers.AutoConfig
    auto_model: Any = transformers.AutoModel
    try:
        if trunk_config is not None:
            settings = dict(trunk_config)
            config = auto_config.for_model(settings.pop("model_type"), **settings)
        else:
            config = auto_config.from_pretrained(name)
        if trunk_config is None and pretrained and _has_weights(name):
            model = auto_model.from_pretrained(name)
        else:
            model = auto_model.from_config(getattr(config, "vision_config", config))
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"backbone.hf_model = {name!r} cannot be loaded: {error}") from error
    model = getattr(model, "vision_model", model)  # CLIP and its like: the text half is not ours
    side = getattr(model.config, "image_size", input_side)
    if side not in (input_side, [input_side, input_side], (input_side, input_side)):
        raise ConfigError(f"backbone.hf_model = {name!r} takes photos of images.size = {side}, not {input_side}")
    trunk = HuggingFaceTrunk(model)
    _leave_out_unused(trunk, torch.zeros(1, 3, input_side, input_side))
    return trunk


def _has_weights(name: str) -> bool:
    folder = Path(name)
    return not folder.is_dir() or any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))


def _leave_out_unused(trunk: nn.Module, photos: Tensor) -> None:
    """Parameters that the map does not depend on (poolers, the class token's last norm) shall not train."""
    parameters = list(trunk.parameters())
    was_training = trunk.training
    with torch.enable_grad():
        feature_map = trunk.eval()(photos)
    trunk.train(was_training)
    gradients: Sequence[Tensor | None] = torch.autograd.grad(feature_map.sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            parameter.requires_grad_(False)
