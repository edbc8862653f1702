"""User-aware attention on the trunk's map (PAN Eq. 2, 3): which channels, then which places, this user looks at.

One module serves all categories (decision D4). Its gates multiply the map; the head multiplies and pools in one go
where it can (`panfit.model.heads`). Imports torch and panfit.config only.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from panfit.config import AttentionConfig
from panfit.errors import ConfigError
from panfit.model.hashing import relaxed_code


@dataclass(frozen=True)
class Gates:
    """What the map is multiplied by, exactly as applied.

    Attributes:
        channel: (P, C), C_u of Eq. 2.
        spatial: (P, H * W), S_u of Eq. 3, row-major.
    """

    channel: Tensor
    spatial: Tensor


@dataclass(frozen=True)
class Views:
    """Which (item, user) pairs have to be encoded, and which of them each asked-for pair is.

    Attributes:
        items: (Q,) rows of the feature map.
        users: (Q, D) user embeddings.
        of_pair: (P,) row among the Q for each of the P pairs, or slice(None) where they are the same.
    """

    items: Tensor
    users: Tensor
    of_pair: Tensor | slice


def _sigmoid(logits: Tensor) -> Tensor:
    """As printed. (P, K) -> (P, K) in (0, 1)."""
    return torch.sigmoid(logits)


def _mean(logits: Tensor) -> Tensor:
    """Divided by its mean: it cannot win by opening everywhere, so it keeps selecting. (P, K), mean 1 a row."""
    gate = torch.sigmoid(logits)
    return gate / gate.mean(1, keepdim=True)


def _double(logits: Tensor) -> Tensor:
    """In (0, 2): logits of zero leave the map as it is. (P, K) -> (P, K)."""
    return 2 * torch.sigmoid(logits)


def _residual(logits: Tensor) -> Tensor:
    """F + F * A = F * (1 + A). (P, K) -> (P, K) in (1, 2)."""
    return 1 + torch.sigmoid(logits)


GATES: dict[str, Callable[[Tensor], Tensor]] = {  # decision D5
    "sigmoid": _sigmoid,
    "mean": _mean,
    "double": _double,
    "residual": _residual,
}
CHANNEL_MLPS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "linear": nn.Identity}  # decision D2


def _embedding(user_embedding: Tensor, beta: float | Tensor) -> Tensor:
    return user_embedding


USER_INPUTS: dict[str, Callable[[Tensor, float | Tensor], Tensor]] = {
    "embedding": _embedding,
    "code": relaxed_code,
}  # D1


class ChannelAttention(nn.Module):
    """C_u = gate(W1c(W0c(F_avg)) + W1c(W0c(F_max)) + W_cu u) (PAN Eq. 2; decisions D2, D5).

    W1c W0c is one two-layer perceptron without bias, shared by the two descriptors. W_cu starts at zero: training
    starts at plain CBAM.
    """

    def __init__(self, config: AttentionConfig, channels: int, user_dim: int) -> None:
        super().__init__()
        hidden = max(1, channels // config.reduction)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),  # W0c
            CHANNEL_MLPS[config.channel_mlp](),
            nn.Linear(hidden, channels, bias=False),  # W1c
        )
        self.user = nn.Linear(user_dim, channels, bias=False)  # W_cu
        nn.init.zeros_(self.user.weight)
        self.gate = GATES[config.gate]

    def item_half(self, feature_map: Tensor) -> Tensor:
        """The terms of Eq. 2 that no user changes; once an item is enough. (N, C, H, W) -> (N, C)."""
        places = feature_map.flatten(2)  # (N, C, H*W)
        descriptors = torch.stack([places.mean(2), places.amax(2)])  # (2, N, C): F_avg, F_max
        return self.mlp(descriptors).sum(0)  # type: ignore[no-any-return]  # (N, C)

    def forward(self, item_half: Tensor, user: Tensor) -> Tensor:
        """(P, C) user-free half of each pair's item and (P, D) user -> C_u (P, C)."""
        return self.gate(item_half + self.user(user))  # (P, C)


class SpatialAttention(nn.Module):
    """S_u = gate(f([F_avg; F_max]) + W_su u) on the channel-gated map (PAN Eq. 3; decisions D3, D5).

    f is a k x k convolution without bias. W_su is (HW x D), a map for each user, or (1 x D), a number; it starts at
    zero.
    """

    def __init__(self, config: AttentionConfig, map_shape: tuple[int, int, int], user_dim: int) -> None:
        super().__init__()
        if config.kernel_size % 2 == 0:
            raise ConfigError(f"attention.kernel_size must be odd, not {config.kernel_size}")
        _, height, width = map_shape
        self.convolution = nn.Conv2d(2, 1, config.kernel_size, padding=config.kernel_size // 2, bias=False)
        self.user = nn.Linear(user_dim, {"map": height * width, "scalar": 1}[config.user_map], bias=False)  # W_su
        nn.init.zeros_(self.user.weight)
        self.gate = GATES[config.gate]

    def forward(self, feature_map: Tensor, channel_gate: Tensor, user: Tensor) -> Tensor:
        """Maps (P, C, H, W), C_u (P, C), users (P, D) -> S_u (P, H * W)."""
        descriptors = channel_descriptors(feature_map, channel_gate)  # (P, 2, H, W)
        return self.gate(self.convolution(descriptors).flatten(1) + self.user(user))  # (P, H*W)


def channel_descriptors(feature_map: Tensor, channel_gate: Tensor) -> Tensor:
    """Mean and maximum over channels of the gated map, without keeping the gated map for the gradient.

    Maps (P, C, H, W), gates (P, C) -> (P, 2, H, W). The mean is a product of the gate with the map. The maximum is
    found without gradient and then looked up, so that only the winners, not the whole product, are remembered.
    """
    num_pairs, channels, height, width = feature_map.shape
    places = feature_map.flatten(2)  # (P, C, H*W)
    mean = torch.bmm(channel_gate[:, None, :], places) / channels  # (P, 1, H*W)
    with torch.no_grad():
        winner = (places * channel_gate[:, :, None]).argmax(1)  # (P, H*W)
    best = places.gather(1, winner[:, None, :]) * channel_gate.gather(1, winner)[:, None, :]  # (P, 1, H*W)
    return torch.cat([mean, best], dim=1).view(num_pairs, 2, height, width)


class UserAwareAttention(nn.Module):
    """Channel attention, then spatial attention on what it leaves (PAN sec. 2.2).

    Args:
        config: gate, channel_mlp, reduction, kernel_size, user_map, user_input.
        map_shape: (C, H, W) of the trunk's map.
        user_dim: D, length of a user embedding.
    """

    def __init__(self, config: AttentionConfig, map_shape: tuple[int, int, int], user_dim: int) -> None:
        super().__init__()
        self.channel = ChannelAttention(config, map_shape[0], user_dim)
        self.spatial = SpatialAttention(config, map_shape, user_dim)
        self.user_input = USER_INPUTS[config.user_input]

    def views(self, pair_items: Tensor, pair_users: Tensor) -> Views:
        """Every pair is encoded on its own: (P,) items, (P, D) users."""
        return Views(pair_items, pair_users, slice(None))

    def item_half(self, feature_map: Tensor) -> Tensor:
        """The user-free half of Eq. 2. (N, C, H, W) -> (N, C)."""
        return self.channel.item_half(feature_map)

    def forward(self, feature_map: Tensor, item_half: Tensor, user_embedding: Tensor, *, beta: float | Tensor) -> Gates:
        """Maps (P, C, H, W), their halves (P, C) and users (P, D) -> gates (P, C) and (P, H * W)."""
        user = self.user_input(user_embedding, beta)  # (P, D)
        channel = self.channel(item_half, user)  # (P, C)
        return Gates(channel, self.spatial(feature_map, channel, user))


class IdentityAttention(nn.Module):
    """No attention (Table 2 without AN, and FHN): gates of one; an item is encoded once for all its viewers."""

    def views(self, pair_items: Tensor, pair_users: Tensor) -> Views:
        """Each distinct item once: (P,) items, (P, D) users."""
        items, of_pair = torch.unique(pair_items, return_inverse=True)  # (Q,), (P,)
        return Views(items, pair_users.new_zeros(len(items), pair_users.shape[1]), of_pair)

    def item_half(self, feature_map: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C), nothing to prepare."""
        return feature_map.new_zeros(feature_map.shape[:2])

    def forward(self, feature_map: Tensor, item_half: Tensor, user_embedding: Tensor, *, beta: float | Tensor) -> Gates:
        """Maps (P, C, H, W) -> gates of one, (P, C) and (P, H * W)."""
        num_pairs, channels, height, width = feature_map.shape
        return Gates(feature_map.new_ones(num_pairs, channels), feature_map.new_ones(num_pairs, height * width))


def build_attention(
    config: AttentionConfig, *, map_shape: tuple[int, int, int], user_dim: int
) -> UserAwareAttention | IdentityAttention:
    """The attention that ``config.kind`` names. Raises ConfigError for an even kernel_size."""
    if config.kind == "none":
        return IdentityAttention()
    return UserAwareAttention(config, map_shape, user_dim)
