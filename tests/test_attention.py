"""Attention: Eq. 2 and 3 against the plain loops in value and gradient, for every gate; fused pooling."""

from typing import Any

import pytest
import torch
from torch import Tensor

from panfit.config import AttentionConfig
from panfit.errors import ConfigError
from panfit.model.attention import GATES, Gates, IdentityAttention, UserAwareAttention, UserMap, build_attention
from panfit.model.heads import PoolHead
from tests import oracles

NUM_ITEMS, NUM_PAIRS, CHANNELS, HEIGHT, WIDTH, DIM = 2, 3, 5, 4, 6, 7
MAP_SHAPE = (CHANNELS, HEIGHT, WIDTH)


def make(**settings: Any) -> UserAwareAttention:
    config = AttentionConfig.model_validate({"kernel_size": 3, "reduction": 2, "query_dim": 3, **settings})
    torch.manual_seed(4)
    attention = build_attention(config, map_shape=MAP_SHAPE, user_dim=DIM).double()
    assert isinstance(attention, UserAwareAttention)
    for weight in attention.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return attention


def draw() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    feature_map = torch.randn(NUM_ITEMS, *MAP_SHAPE, generator=generator, dtype=torch.float64)
    users = torch.randn(NUM_PAIRS, DIM, generator=generator, dtype=torch.float64)
    return feature_map.requires_grad_(), users.requires_grad_(), torch.tensor([1, 0, 1])


@pytest.mark.parametrize("user_map", ["map", "scalar", "query"])
@pytest.mark.parametrize("channel_mlp", ["relu", "linear"])
@pytest.mark.parametrize("gate", list(GATES))
def test_equals_the_plain_loops_in_value_and_gradient(gate: str, channel_mlp: str, user_map: str) -> None:
    attention = make(gate=gate, channel_mlp=channel_mlp, user_map=user_map)
    feature_map, users, items = draw()
    views = attention.views(items, users, num_items=NUM_ITEMS)
    viewed = feature_map.index_select(0, views.items)  # (Q, C, H, W)
    half = attention.item_half(feature_map).index_select(views.items)  # of Q rows
    gates = attention(viewed, half, views.users, beta=1.0)
    pooled = PoolHead(MAP_SHAPE).attended(viewed, gates, views)  # (P, C)
    got = torch.cat([views.select(gates.channel), views.select(gates.spatial), pooled], dim=1)

    weights = list(attention.parameters())
    plain = {name: weight.detach().clone().requires_grad_() for name, weight in attention.named_parameters()}
    w_0, w_1, w_cu, kernel = (
        plain[name] for name in ("channel.mlp.0.weight", "channel.mlp.2.weight", "channel.user.weight",
                                 "spatial.convolution.weight")
    )  # fmt: skip

    def of_user(one: Tensor, user: Tensor) -> list[Any]:
        if user_map == "query":
            names = ("spatial.user.query.weight", "spatial.user.key.weight", "spatial.user.position")
            return oracles.user_query(one, user, *(plain[name] for name in names))
        return oracles.user_map(one, user, plain["spatial.user.weight"])

    rows = []
    for user, item in zip(users, items.tolist(), strict=True):
        one = feature_map[item]
        channel = oracles.channel_gate(one, user, w_0, w_1, w_cu, kind=gate, relu=channel_mlp == "relu")
        spatial = oracles.spatial_gate(one, channel, of_user(one, user), kernel[0], kind=gate)
        attended = oracles.attended_map(one, channel, spatial)
        means = [sum(value for row in plane for value in row) / (HEIGHT * WIDTH) for plane in attended]
        rows.append(torch.stack([*channel, *[value for row in spatial for value in row], *means]))
    wanted = torch.stack(rows)
    torch.testing.assert_close(got, wanted)

    upstream = torch.randn(got.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    gradients = torch.autograd.grad(got, [feature_map, users, *weights], upstream)
    wanted_gradients = torch.autograd.grad(wanted, [feature_map, users, *plain.values()], upstream)
    torch.testing.assert_close(gradients, wanted_gradients)


def look(attention: UserAwareAttention, feature_map: Tensor, users: Tensor, *, beta: float = 1.0) -> Gates:
    """The gates of as many maps as users, each seen by one: (P, 1, C) and (P, 1, H * W)."""
    return attention(feature_map, attention.item_half(feature_map), users[:, None], beta=beta)  # type: ignore[no-any-return]


@pytest.mark.parametrize("user_map", ["map", "query"])
@pytest.mark.parametrize("gate", list(GATES))
def test_one_viewer_may_gate_the_map_in_place(gate: str, user_map: str) -> None:
    """`look_alone` is `look` with C_u in the map: the same S_u, the same pooled features."""
    attention = make(gate=gate, user_map=user_map)
    feature_map, users, _ = (each.detach() for each in draw())
    half = attention.item_half(feature_map)
    viewer = attention.viewer_half(users[:NUM_ITEMS, None], beta=1.0)  # of NUM_ITEMS rows of one viewer
    views = attention.views(torch.arange(NUM_ITEMS), users[:NUM_ITEMS], num_items=NUM_ITEMS)
    with torch.no_grad():
        wanted = attention.look(feature_map, half, viewer)
        pooled = PoolHead(MAP_SHAPE).attended(feature_map, wanted, views)
        written = feature_map.clone()
        got = attention.look_alone(written, half, viewer)
    torch.testing.assert_close(written, feature_map * wanted.channel[:, 0, :, None, None])
    assert (got.channel == 1).all()
    torch.testing.assert_close(got.spatial, wanted.spatial)
    torch.testing.assert_close(PoolHead(MAP_SHAPE).attended(written, got, views), pooled)


@pytest.mark.parametrize("side", [1, 3, 7])
def test_the_convolution_is_a_convolution(side: int) -> None:
    attention = make(kernel_size=side).spatial
    descriptors = torch.randn(3, 2, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    got = descriptors.flatten(1) @ attention.convolution_matrix()
    torch.testing.assert_close(got, attention.convolution(descriptors).flatten(1))


def test_user_weights_start_at_zero_so_that_training_starts_at_plain_cbam() -> None:
    config = AttentionConfig(kernel_size=3)
    attention = build_attention(config, map_shape=MAP_SHAPE, user_dim=DIM)
    assert isinstance(attention, UserAwareAttention)
    assert isinstance(attention.spatial.user, UserMap)
    assert not attention.channel.user.weight.any()
    assert not attention.spatial.user.weight.any()
    feature_map, users, items = (value.detach() for value in draw())
    viewed = feature_map.float()[items]
    one, other = look(attention, viewed, users.float()), look(attention, viewed, -3 * users.float())
    assert torch.equal(one.spatial, other.spatial)
    assert torch.equal(one.channel, other.channel)


def test_a_map_for_each_user_lets_users_look_at_different_places_and_a_number_does_not() -> None:
    feature_map, users, items = (value.detach() for value in draw())
    viewed = feature_map[items]
    rankings = {}
    for user_map in ("map", "scalar"):
        attention = make(user_map=user_map)
        torch.nn.init.zeros_(attention.channel.user.weight)  # only Eq. 3's user term is looked at
        maps = [look(attention, viewed, sign * users).spatial for sign in (1, -1)]
        rankings[user_map] = [each.argsort(2).tolist() for each in maps]
    assert rankings["map"][0] != rankings["map"][1]
    assert rankings["scalar"][0] == rankings["scalar"][1]


def test_gates_keep_their_promises() -> None:
    logits = torch.randn(3, 11, generator=torch.Generator().manual_seed(0))
    assert torch.equal(GATES["double"](torch.zeros(2, 3)), torch.ones(2, 3))
    torch.testing.assert_close(GATES["mean"](logits).mean(1), torch.ones(3))
    assert GATES["sigmoid"](logits).amax() < 1 < GATES["residual"](logits).amin()


def test_user_input_code_is_the_embeddings_relaxed_code() -> None:
    feature_map, users, items = (value.detach() for value in draw())
    viewed = feature_map[items]
    by_code, by_embedding = make(user_input="code"), make(user_input="embedding")
    got = look(by_code, viewed, users, beta=1.5)
    wanted = look(by_embedding, viewed, torch.tanh(1.5 * users))
    assert torch.equal(got.spatial, wanted.spatial)
    assert torch.equal(got.channel, wanted.channel)


def test_no_attention_is_a_value_not_a_branch() -> None:
    attention = build_attention(AttentionConfig(kind="none"), map_shape=MAP_SHAPE, user_dim=DIM)
    assert isinstance(attention, IdentityAttention)
    assert not list(attention.parameters())
    feature_map, users, items = (value.detach() for value in draw())
    views = attention.views(items, users, num_items=NUM_ITEMS)
    assert views.items.tolist() == [0, 1], "an item is encoded once for all its viewers"
    gates = attention(feature_map, attention.item_half(feature_map), views.users, beta=1.0)
    pooled = PoolHead(MAP_SHAPE).attended(feature_map, gates, views)
    torch.testing.assert_close(pooled, feature_map.mean((2, 3)))


def test_an_even_kernel_has_no_middle() -> None:
    with pytest.raises(ConfigError, match="kernel_size must be odd, not 4"):
        build_attention(AttentionConfig(kernel_size=4), map_shape=MAP_SHAPE, user_dim=DIM)
