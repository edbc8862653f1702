"""PAN wired: shapes, distinct pairs, fast path against one pair at a time, gradients everywhere, determinism."""

from typing import Any

import pytest
import torch
from torch import Tensor

from panfit import outfits
from panfit.config import Config
from panfit.errors import ConfigError
from panfit.model import batch as batch_module
from panfit.model.batch import distinct_pairs
from panfit.model.pan import OutfitBatch, Pan, PanShape

SLOTS = (("top", "top"), ("top2", "top"), ("bottom", "bottom"), ("shoe", "shoe"))
NUM_USERS, NUM_SLOTS, BITS, TEXT_DIM = 6, len(SLOTS), 8, 9
CATEGORIES = torch.tensor([0, 0, 1, 1, 2, 2, 0])  # of the N = 7 distinct items
NUM_ITEMS = len(CATEGORIES)


def make(*, text_dim: int | None = TEXT_DIM, input_shape: tuple[int, int, int] = (3, 32, 48), **settings: Any) -> Pan:
    values: dict[str, dict[str, Any]] = {
        "backbone": {"width": 4, "palette": 3, "statistics": True},
        "attention": {"reduction": 2, "kernel_size": 3},
        "model": {
            "code_bits": BITS,
            "image_hidden": 11,
            "text_hidden": 10,
            "dropout": 0.0,
            "input_dropout": 0.0,
            "user_init_std": 0.5,
            "encoder_init_std": 0.0,
        },
    }
    for section, its in settings.items():
        values[section] = {**values[section], **its}
    shape = PanShape(
        num_users=NUM_USERS,
        slots=SLOTS,
        categories=("top", "bottom", "shoe"),
        text_dim=text_dim,
        input_shape=input_shape,
    )
    model = Pan(Config.parse(values), shape, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    for parameter in model.attention.parameters():  # W_cu and W_su start at zero: wake them up
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return model


def make_batch(model: Pan) -> OutfitBatch:
    generator = torch.Generator().manual_seed(3)
    text_dim = model.shape.text_dim
    return OutfitBatch(
        inputs=torch.randn(NUM_ITEMS, *model.shape.input_shape, generator=generator),
        categories=CATEGORIES,
        text=None if text_dim is None else torch.randn(NUM_ITEMS, text_dim, generator=generator),
        users=torch.tensor([4, 1, 4, 0, 1]),
        items=torch.tensor([[0, 1, 2, 4], [0, -1, 2, 5], [1, 0, 3, 4], [6, -1, -1, 5], [6, -1, 3, -1]]),
    )


def test_absent_is_the_packages() -> None:
    assert batch_module.ABSENT == outfits.ABSENT


def test_distinct_pairs_names_each_once_and_puts_them_back() -> None:
    users = torch.tensor([4, 1, 4])
    items = torch.tensor([[0, 1], [0, -1], [1, 1]])
    pair_users, pair_items, slot_pairs = distinct_pairs(users, items)
    pairs = list(zip(pair_users.tolist(), pair_items.tolist(), strict=True))
    assert sorted(pairs) == [(1, 0), (4, 0), (4, 1)]
    for row in range(3):
        for slot in range(2):
            if items[row, slot] < 0:
                assert slot_pairs[row, slot] == -1
            else:
                assert pairs[int(slot_pairs[row, slot])] == (users[row], items[row, slot])


@pytest.mark.parametrize("text_dim", [None, TEXT_DIM])
def test_shapes(text_dim: int | None) -> None:
    model = make(text_dim=text_dim)
    batch = make_batch(model)
    output = model(batch)
    num_outfits, modalities = len(batch.users), 1 if text_dim is None else 2
    channels, height, width = model.backbone.map_shape
    num_pairs = len(output.pair_items)
    assert num_pairs == 12, "of 14 filled slots, two pairs of user 4's outfits share"
    assert output.score.shape == output.general.shape == output.personal.shape == (num_outfits,)
    assert output.personal_by_item.shape == (num_outfits, NUM_SLOTS)
    assert output.general_by_pair.shape == (num_outfits, NUM_SLOTS, NUM_SLOTS)
    assert output.user_codes.shape == output.binary_user_codes.shape == (num_outfits, BITS)
    assert output.item_codes.shape == output.binary_item_codes.shape == (num_outfits, NUM_SLOTS, modalities, BITS)
    assert output.channel_map.shape == (num_outfits, NUM_SLOTS, channels, 1, 1)
    assert output.spatial_map.shape == (num_outfits, NUM_SLOTS, 1, height, width)
    assert output.pair_image_codes.shape == (num_pairs, BITS)
    assert (output.pair_text_codes is None) == (text_dim is None)
    assert output.pair_users.shape == (num_pairs,)


def one_at_a_time(model: Pan, batch: OutfitBatch, row: int, slot: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes (V, D), channel gate (C,) and spatial gate (H, W) of one slot: its map gated and headed by itself."""
    item = int(batch.items[row, slot])
    feature_map = model.feature_maps(batch.inputs)[item : item + 1]  # (1, C, H, W)
    user = model.user_embeddings(batch.users[row : row + 1])  # (1, D)
    gates = model.attention(feature_map, model.attention.item_half(feature_map), user[:, None], beta=1.0)
    _, height, width = model.backbone.map_shape
    spatial = gates.spatial.view(1, 1, height, width)
    attended = feature_map * gates.channel[0, :, :, None, None] * spatial
    category = batch.categories[item : item + 1]
    logits = [model.image_encoder(model.backbone.head(attended), category)]
    if model.text_encoder is not None:
        assert batch.text is not None
        logits.append(model.text_encoder(batch.text[item : item + 1], category))
    return torch.tanh(torch.cat(logits)), gates.channel[0, 0], spatial[0, 0]


@pytest.mark.parametrize("head", ["pool", "flatten", "mask"])
@pytest.mark.parametrize("kind", ["pan", "none"])
def test_a_batch_equals_one_item_at_a_time_in_value_and_gradient(kind: str, head: str) -> None:
    model = make(attention={"kind": kind}, backbone={"head": head}).double().eval()
    batch = make_batch(model)
    batch = OutfitBatch(batch.inputs.double(), CATEGORIES, batch.text.double(), batch.users, batch.items)  # type: ignore[union-attr]
    output = model(batch)
    channels, height, width = model.backbone.map_shape
    codes = torch.zeros_like(output.item_codes)
    channel = torch.zeros(*batch.items.shape, channels, 1, 1, dtype=torch.float64)
    spatial = torch.zeros(*batch.items.shape, 1, height, width, dtype=torch.float64)
    for row, slot in (batch.items >= 0).nonzero().tolist():
        codes[row, slot], channel[row, slot, :, 0, 0], spatial[row, slot, 0] = one_at_a_time(model, batch, row, slot)
    scores = model.predictor(torch.tanh(model.user_embeddings(batch.users)), codes, batch.items >= 0)
    torch.testing.assert_close(output.item_codes, codes)
    torch.testing.assert_close(output.channel_map, channel)
    torch.testing.assert_close(output.spatial_map, spatial)
    torch.testing.assert_close(output.score, scores.score)
    upstream = torch.randn(len(batch.users), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    weights = list(model.parameters())
    gradients = torch.autograd.grad(output.score, weights, upstream)
    torch.testing.assert_close(gradients, torch.autograd.grad(scores.score, weights, upstream))


def test_parts_add_up() -> None:
    output = make()(make_batch(make()))
    total = output.personal_by_item.sum(1) + output.general_by_pair.sum((1, 2))
    torch.testing.assert_close(output.score, total)
    torch.testing.assert_close(output.score, output.general + output.personal)
    assert (output.general_by_pair[:, 0, 1] == 0).all(), "two tops do not pair (decision D14)"


def test_relaxed_straight_through_and_binary_are_arguments() -> None:
    model = make().eval()
    batch = make_batch(model)
    relaxed, steep = model(batch), model(batch, beta=3.0)
    straight, binary = model(batch, straight_through=True), model(batch, binary=True)
    torch.testing.assert_close(steep.item_codes, torch.tanh(3 * torch.atanh(relaxed.item_codes)), rtol=1e-3, atol=1e-4)
    assert torch.equal(binary.item_codes, relaxed.binary_item_codes)
    assert torch.equal(binary.user_codes, relaxed.binary_user_codes)
    assert torch.equal(straight.score, binary.score)
    filled = batch.items >= 0
    assert set(binary.item_codes[filled].unique().tolist()) == {-1.0, 1.0}
    assert not binary.item_codes[~filled].any()
    assert not straight.score.equal(relaxed.score)


def test_a_saved_beta_is_used_where_a_call_names_none() -> None:
    model = make(attention={"user_input": "code"}).eval()
    batch = make_batch(model)
    wanted = model(batch, beta=2.5)
    assert not torch.equal(model(batch).score, wanted.score)
    model.beta.fill_(2.5)
    assert torch.equal(model(batch).score, wanted.score)
    assert torch.equal(model.user_codes(batch.users), wanted.user_codes)


def test_users_see_the_same_item_differently_and_text_the_same() -> None:
    model = make().eval()
    output = model(make_batch(model))
    pairs = list(zip(output.pair_users.tolist(), output.pair_items.tolist(), strict=True))
    one, other = pairs.index((4, 0)), pairs.index((1, 0))
    assert not torch.equal(output.pair_image_codes[one], output.pair_image_codes[other])
    assert output.pair_text_codes is not None
    assert torch.equal(output.pair_text_codes[one], output.pair_text_codes[other])


@pytest.mark.parametrize("kind", ["pan", "none"])
def test_the_trunk_sees_each_item_once_and_the_encoder_each_pair_once(kind: str) -> None:
    model = make(attention={"kind": kind})
    batch = make_batch(model)
    seen: dict[str, int] = {}
    for name in ("backbone.trunk", "image_encoder", "text_encoder"):
        model.get_submodule(name).register_forward_hook(
            lambda _, inputs, __, name=name: seen.__setitem__(name, seen.get(name, 0) + len(inputs[0]))
        )
    output = model(batch)
    # Without attention an item is the same for all its viewers.
    assert seen == {
        "backbone.trunk": NUM_ITEMS,
        "image_encoder": len(output.pair_items) if kind == "pan" else NUM_ITEMS,
        "text_encoder": NUM_ITEMS,
    }


def test_kept_maps_and_encode_items_give_the_same_codes() -> None:
    model = make().eval()
    batch = make_batch(model)
    output = model(batch)
    maps = model.feature_maps(batch.inputs)
    kept = model(OutfitBatch(maps, batch.categories, batch.text, batch.users, batch.items, are_maps=True))
    assert torch.equal(kept.score, output.score)
    rows = output.pair_items
    assert batch.text is not None
    encoding = model.encode_items(
        maps[rows], CATEGORIES[rows], batch.text[rows], model.user_embeddings(output.pair_users)
    )
    codes = model.item_codes(encoding)  # (P, V, D)
    torch.testing.assert_close(codes[:, 0], output.pair_image_codes)
    assert output.pair_text_codes is not None
    torch.testing.assert_close(codes[:, 1], output.pair_text_codes)


GRADIENT_CASES: dict[str, Any] = {
    **{f"gate-{gate}": {"attention": {"gate": gate}} for gate in ("sigmoid", "mean", "double", "residual")},
    "linear": {"attention": {"channel_mlp": "linear"}},
    "scalar": {"attention": {"user_map": "scalar"}},
    "code": {"attention": {"user_input": "code"}},
    "none": {"attention": {"kind": "none"}},
    "flatten": {"backbone": {"head": "flatten"}},
    "mask": {"backbone": {"head": "mask"}},
    "attributes": {"backbone": {"attributes": 7}},
    "feature-batch": {"model": {"feature_norm": "batch"}},
    "full": {"model": {"pair_weight": "full", "learn_alpha": True}},
    "layer": {"model": {"code_norm": "layer"}},
    "batch": {"model": {"code_norm": "batch"}},
    "alexnet": {"backbone": {"name": "alexnet"}},
}


@pytest.mark.parametrize("case", list(GRADIENT_CASES))
@pytest.mark.parametrize("straight_through", [False, True])
def test_every_parameter_gets_a_finite_gradient_that_is_not_zero(
    case: str, straight_through: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("panfit.model.alexnet.FC_DIM", 12)  # the real 57 million parameters say no more
    monkeypatch.setattr("panfit.model.alexnet.AlexNetHead.dim", 12)
    model = make(input_shape=(3, 64, 64), **GRADIENT_CASES[case])
    output = model(make_batch(model), straight_through=straight_through)
    (output.score * torch.tensor([1.0, -1.0, 0.5, 2.0, -0.7])).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_gradients_reach_the_user_weights_of_a_fresh_model() -> None:
    model = make()
    fresh = Pan(model.config, model.shape, generator=torch.Generator().manual_seed(7))
    fresh(make_batch(fresh)).score.square().sum().backward()
    for name, parameter in fresh.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_parameter_groups_hold_every_parameter_once() -> None:
    model = make()
    groups = model.parameter_groups()
    assert list(groups) == ["user", "trunk", "attention", "image_encoder", "text_encoder", "predictor"]
    grouped = [id(parameter) for group in groups.values() for parameter in group]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    assert all(groups.values())
    bare = make(text_dim=None, attention={"kind": "none"}, backbone={"frozen": True}).parameter_groups()
    assert [name for name, group in bare.items() if not group] == ["trunk", "attention", "text_encoder"]


def test_a_seed_means_the_same_weights_and_the_global_generator_is_left_alone() -> None:
    config, shape = make().config, make().shape
    state = torch.random.get_rng_state()
    one, same, other = (
        Pan(config, shape, generator=torch.Generator().manual_seed(seed)).state_dict() for seed in (5, 5, 6)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    drawn = ["user_encoder.embedding.weight", "image_encoder.networks.2.5.weight", "text_encoder.networks.0.0.weight"]
    assert not any(torch.equal(one[name], other[name]) for name in drawn)


def test_half_precision_rounds_codes_but_not_scores() -> None:
    model = make().eval()
    batch = make_batch(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(batch)
        binary = model(batch, binary=True)
        output.score.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    assert output.score.dtype == output.item_codes.dtype == torch.float32
    torch.testing.assert_close(output.score, model(batch).score, rtol=0.2, atol=0.2)
    exact = model.predictor(binary.user_codes, binary.item_codes, batch.items >= 0)
    assert torch.equal(binary.score, exact.score)


def test_refuses_what_does_not_fit() -> None:
    model = make()
    good = make_batch(model)
    text = good.text
    cases = {
        r"inputs \(7, 3, 32, 40\); wanted \(N, 3, 32, 48\)": OutfitBatch(
            good.inputs[..., :40], good.categories, text, good.users, good.items
        ),
        r"categories \(6,\) for 7 inputs": OutfitBatch(good.inputs, CATEGORIES[:6], text, good.users, good.items),
        r"must bring text": OutfitBatch(good.inputs, CATEGORIES, None, good.users, good.items),
        r"text \(7, 4\); wanted \(7, 9\)": OutfitBatch(
            good.inputs, CATEGORIES, torch.zeros(7, 4), good.users, good.items
        ),
        r"items \(5, 3\) for 5 users": OutfitBatch(good.inputs, CATEGORIES, text, good.users, good.items[:, :3]),
    }
    for message, batch in cases.items():
        with pytest.raises(ValueError, match=message):
            model(batch)
    with pytest.raises(ConfigError, match="odd"):
        make(attention={"kernel_size": 4})
