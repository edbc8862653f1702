"""User-aware attention on the trunk's map (PAN Eq. 2, 3): which channels, then which places, this user looks at.

One module serves all categories (decision D4). Its gates multiply the map; the head multiplies and pools in one go
where it can (`panfit.model.heads`). Imports torch and panfit.config only.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panfit.config import AttentionConfig
from panfit.errors import ConfigError
from panfit.model.descriptors import channel_descriptors
from panfit.model.hashing import relaxed_code
from panfit.model.views import Views, lay_out, lay_out_items


@dataclass(frozen=True, eq=False)
class Gates:
    """What the map is multiplied by, exactly as applied; Q rows of K viewers, as `Views` has them.

    Attributes:
        channel: (Q, K, C), C_u of Eq. 2.
        spatial: (Q, K, H * W), S_u of Eq. 3, row-major.
    """

    channel: Tensor
    spatial: Tensor


def _sigmoid(logits: Tensor) -> Tensor:
    """As printed. (..., K) -> (..., K) in (0, 1)."""
    return torch.sigmoid(logits)


def _mean(logits: Tensor) -> Tensor:
    """Divided by its mean: it cannot win by opening everywhere, so it keeps selecting. (..., K), mean 1."""
    gate = torch.sigmoid(logits)
    return gate / gate.mean(-1, keepdim=True)


def _double(logits: Tensor) -> Tensor:
    """In (0, 2): logits of zero leave the map as it is. (..., K) -> (..., K)."""
    return 2 * torch.sigmoid(logits)


def _softmax(logits: Tensor) -> Tensor:
    """Softmax times the number of places (or channels): the sharpest way to select. (..., K), mean 1."""
    return torch.softmax(logits, -1) * logits.shape[-1]


def _residual(logits: Tensor) -> Tensor:
    """F + F * A = F * (1 + A). (..., K) -> (..., K) in (1, 2)."""
    return 1 + torch.sigmoid(logits)


GATES: dict[str, Callable[[Tensor], Tensor]] = {  # decision D5
    "sigmoid": _sigmoid,
    "mean": _mean,
    "double": _double,
    "residual": _residual,
    "softmax": _softmax,
}
CHANNEL_MLPS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "linear": nn.Identity}  # decision D2


def _embedding(user_embedding: Tensor, beta: float | Tensor) -> Tensor:
    return user_embedding


USER_INPUTS: dict[str, Callable[[Tensor, float | Tensor], Tensor]] = {
    "embedding": _embedding,
    "code": relaxed_code,
}  # D1


@dataclass(frozen=True, eq=False)
class ItemHalf:
    """What attention needs of an item and no user changes; computed once an item.

    Attributes:
        channel: (N, C) the user-free terms of Eq. 2.
        keys: (N, Q, H * W) what a user's query is held against (decision D28), or None where users do not ask.
    """

    channel: Tensor
    keys: Tensor | None

    def index_select(self, rows: Tensor) -> "ItemHalf":
        """The halves of the items in (n,) rows."""
        keys = None if self.keys is None else self.keys.index_select(0, rows)  # (n, Q, H*W)
        return ItemHalf(self.channel.index_select(0, rows), keys)


@dataclass(frozen=True, eq=False)
class ViewerHalf:
    """What attention needs of its viewers and no item changes; computed once for all that they look at.

    Attributes:
        channel: (Q or 1, K, C) W_cu u of Eq. 2.
        asked: what Eq. 3 takes of the user, (Q or 1, K, ...): W_su u, or his query (decision D28).
        convolution: (2 H W, H W) f of Eq. 3.
    """

    channel: Tensor
    asked: Tensor
    convolution: Tensor


class UserMap(nn.Module):
    """W_su u of Eq. 3: a map for each user, (HW x D), or a number, (1 x D) (decision D3). It starts at zero."""

    def __init__(self, places: int, user_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(places, user_dim))  # W_su

    def keys(self, feature_map: Tensor) -> None:
        """A map asks nothing of the item."""

    def ask(self, user: Tensor) -> Tensor:
        """Users (Q, K, D) -> logits (Q, K, H * W) or (Q, K, 1)."""
        return F.linear(user, self.weight)

    def answer(self, asked: Tensor, keys: Tensor | None) -> Tensor:
        """The logits, whatever the item."""
        return asked


class UserQuery(nn.Module):
    """The user asks each place what it shows: (W_q u) . (W_k x_l + e_l) / sqrt(Q) (decision D28, not in the paper).

    x_l is the map's column at place l, normalized over channels; e_l a learned position. With x_l ignored it is a W_su
    of rank Q; with x_l a user finds the collar of a top and the heel of a shoe by what they look like. W_q starts at
    zero.
    """

    def __init__(self, config: AttentionConfig, channels: int, places: int, user_dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(user_dim, config.query_dim, bias=False)  # W_q
        nn.init.zeros_(self.query.weight)
        self.key = nn.Linear(channels, config.query_dim, bias=False)  # W_k
        self.position = nn.Parameter(torch.randn(config.query_dim, places))  # e

    def keys(self, feature_map: Tensor) -> Tensor:
        """Maps (N, C, H, W) -> keys (N, Q, H * W)."""
        columns = feature_map.flatten(2).transpose(1, 2)  # (N, H*W, C)
        columns = F.layer_norm(columns, columns.shape[2:])  # (N, H*W, C)
        keys: Tensor = self.key(columns).transpose(1, 2) + self.position  # (N, Q, H*W)
        return keys / math.sqrt(keys.shape[1])

    def ask(self, user: Tensor) -> Tensor:
        """Users (Q, K, D) -> queries (Q, K, Q')."""
        return self.query(user)  # type: ignore[no-any-return]

    def answer(self, asked: Tensor, keys: Tensor | None) -> Tensor:
        """Queries (Q, K, Q'), keys (Q, Q', H * W) -> logits (Q, K, H * W)."""
        assert keys is not None
        return torch.matmul(asked, keys)  # (Q, K, H*W)


def _user_term(config: AttentionConfig, map_shape: tuple[int, int, int], user_dim: int) -> UserMap | UserQuery:
    channels, height, width = map_shape
    if config.user_map == "query":
        return UserQuery(config, channels, height * width, user_dim)
    return UserMap({"map": height * width, "scalar": 1}[config.user_map], user_dim)


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

    def forward(self, item_half: Tensor, user_term: Tensor) -> Tensor:
        """(Q, C) user-free half of each row's item and (Q, K, C) W_cu u -> C_u (Q, K, C)."""
        return self.gate(item_half[:, None] + user_term)  # (Q, K, C)


class SpatialAttention(nn.Module):
    """S_u = gate(f([F_avg; F_max]) + W_su u) on the channel-gated map (PAN Eq. 3; decisions D3, D5).

    f is a k x k convolution without bias. In W_su's place may stand a query that each place answers (`UserQuery`).
    """

    taps: Tensor

    def __init__(self, config: AttentionConfig, map_shape: tuple[int, int, int], user_dim: int) -> None:
        super().__init__()
        if config.kernel_size % 2 == 0:
            raise ConfigError(f"attention.kernel_size must be odd, not {config.kernel_size}")
        _, height, width = map_shape
        self.convolution = nn.Conv2d(2, 1, config.kernel_size, padding=config.kernel_size // 2, bias=False)
        self.user = _user_term(config, map_shape, user_dim)
        self.gate = GATES[config.gate]
        self.register_buffer("taps", _taps(height, width, config.kernel_size), persistent=False)

    def convolution_matrix(self) -> Tensor:
        """f as a matrix (2 H W, H W): on maps this small one matrix product is far faster than a convolution."""
        weights = torch.cat([self.convolution.weight.flatten(), self.convolution.weight.new_zeros(1)])
        return weights[self.taps]

    def forward(
        self, feature_map: Tensor, channel_gate: Tensor | None, viewer_half: ViewerHalf, keys: Tensor | None
    ) -> Tensor:
        """Maps (Q, C, H, W), C_u (Q, K, C), viewers, the items' keys or None -> S_u (Q, K, H * W).

        C_u of None: the map is gated already.
        """
        descriptors = channel_descriptors(feature_map.flatten(2), channel_gate)  # (Q, K, 2, H*W)
        logits = descriptors.flatten(2) @ viewer_half.convolution  # (Q, K, H*W)
        return self.gate(logits + self.user.answer(viewer_half.asked, keys))  # (Q, K, H*W)


def _taps(height: int, width: int, side: int) -> Tensor:
    """Which weight of a (2, side, side) kernel joins an input to an output place, (2 H W, H W); 2 side^2: none does."""
    rows, columns = torch.arange(height), torch.arange(width)
    dy = (rows[:, None] - rows + side // 2)[:, None, :, None]  # (H, 1, H, 1): input row, output row
    dx = (columns[:, None] - columns + side // 2)[None, :, None, :]  # (1, W, 1, W)
    tap = (dy * side + dx).expand(height, width, height, width)
    reached = (dy >= 0) & (dy < side) & (dx >= 0) & (dx < side)  # (H, W, H, W)
    planes = [torch.where(reached, plane * side**2 + tap, 2 * side**2) for plane in range(2)]
    return torch.stack(planes).view(2 * height * width, height * width)


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

    def views(self, pair_items: Tensor, pair_users: Tensor, *, num_items: int) -> Views:
        """Every pair is seen in its own way: (P,) items of N, (P, D) users."""
        return lay_out(pair_items, pair_users, num_items=num_items)

    def item_half(self, feature_map: Tensor) -> ItemHalf:
        """The user-free half of Eq. 2 and 3 of maps (N, C, H, W)."""
        return ItemHalf(self.channel.item_half(feature_map), self.spatial.user.keys(feature_map))

    def forward(
        self, feature_map: Tensor, item_half: ItemHalf, user_embedding: Tensor, *, beta: float | Tensor
    ) -> Gates:
        """Maps (Q, C, H, W), their halves and users (Q or 1, K, D) -> gates (Q, K, C) and (Q, K, H * W)."""
        return self.look(feature_map, item_half, self.viewer_half(user_embedding, beta=beta))

    def viewer_half(self, user_embedding: Tensor, *, beta: float | Tensor) -> ViewerHalf:
        """The item-free half of Eq. 2 and 3 of users (Q or 1, K, D)."""
        user = self.user_input(user_embedding, beta)  # (Q or 1, K, D)
        return ViewerHalf(self.channel.user(user), self.spatial.user.ask(user), self.spatial.convolution_matrix())

    def look(self, feature_map: Tensor, item_half: ItemHalf, viewer_half: ViewerHalf) -> Gates:
        """Maps (Q, C, H, W) and both halves -> gates (Q, K, C) and (Q, K, H * W)."""
        channel = self.channel(item_half.channel, viewer_half.channel)  # (Q, K, C)
        return Gates(channel, self.spatial(feature_map, channel, viewer_half, item_half.keys))

    def look_alone(self, feature_map: Tensor, item_half: ItemHalf, viewer_half: ViewerHalf) -> Gates:
        """`look` of one viewer (K = 1), in fewer passes over the map: C_u is multiplied into it, in place.

        The gates that come back are what is left to multiply by: ones, and S_u.
        """
        channel = self.channel(item_half.channel, viewer_half.channel)  # (Q, 1, C)
        feature_map.mul_(channel[:, 0, :, None, None])  # (Q, C, H, W)
        ones = channel.new_ones(1, 1, 1).expand_as(channel)  # (Q, 1, C), one number
        return Gates(ones, self.spatial(feature_map, None, viewer_half, item_half.keys))


class IdentityAttention(nn.Module):
    """No attention (Table 2 without AN, and FHN): gates of one; an item is encoded once for all its viewers."""

    def views(self, pair_items: Tensor, pair_users: Tensor, *, num_items: int) -> Views:
        """Each distinct item is seen once: (P,) items, (P, D) users."""
        return lay_out_items(pair_items, pair_users)

    def item_half(self, feature_map: Tensor) -> ItemHalf:
        """Maps (N, C, H, W): nothing to prepare."""
        return ItemHalf(feature_map.new_zeros(feature_map.shape[:2]), None)

    def forward(
        self, feature_map: Tensor, item_half: ItemHalf, user_embedding: Tensor, *, beta: float | Tensor
    ) -> Gates:
        """Maps (Q, C, H, W), users (Q or 1, K, D) -> gates of one, (Q, K, C) and (Q, K, H * W)."""
        return self.look(feature_map, item_half, self.viewer_half(user_embedding, beta=beta))

    def viewer_half(self, user_embedding: Tensor, *, beta: float | Tensor) -> ViewerHalf:
        """Users (Q or 1, K, D): nothing to prepare."""
        nothing = user_embedding.new_zeros(*user_embedding.shape[:2], 0)  # (Q or 1, K, 0)
        return ViewerHalf(nothing, nothing, nothing)

    def look(self, feature_map: Tensor, item_half: ItemHalf, viewer_half: ViewerHalf) -> Gates:
        """Maps (Q, C, H, W) and both halves -> gates of one, (Q, K, C) and (Q, K, H * W)."""
        places = len(feature_map), viewer_half.channel.shape[1]  # Q, K
        height, width = feature_map.shape[2:]
        return Gates(feature_map.new_ones(*places, feature_map.shape[1]), feature_map.new_ones(*places, height * width))

    def look_alone(self, feature_map: Tensor, item_half: ItemHalf, viewer_half: ViewerHalf) -> Gates:
        """`look`: there is nothing to multiply by."""
        return self.look(feature_map, item_half, viewer_half)


def build_attention(
    config: AttentionConfig, *, map_shape: tuple[int, int, int], user_dim: int
) -> UserAwareAttention | IdentityAttention:
    """The attention that ``config.kind`` names. Raises ConfigError for an even kernel_size."""
    if config.kind == "none":
        return IdentityAttention()
    return UserAwareAttention(config, map_shape, user_dim)
