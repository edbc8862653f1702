"""OutfitScorer equals Pan.forward for every option, runs the trunk once an item, and leaves the model as it was."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from panfit import encode, scoring
from panfit.config import Config
from panfit.features.inputs import ItemInputs
from panfit.model.pan import OutfitBatch, Pan, PanShape
from panfit.outfits import ABSENT, IntArray, Outfits
from panfit.scoring import OutfitScorer

NUM_USERS, NUM_ITEMS, TEXT_DIM = 7, 22, 5
SLOTS = (("top", "top"), ("top2", "top"), ("bottom", "bottom"), ("shoe", "shoe"))
ITEMS_OF = {0: range(9), 1: range(9, 16), 2: range(16, 22)}  # category -> rows
SMALL: dict[str, Any] = {
    "images": {"size": 16},
    "backbone": {"width": 4},
    "model": {"code_bits": 24, "image_hidden": 11, "text_hidden": 9, "user_init_std": 1.0, "encoder_init_std": 0.3},
}


def make(options: dict[str, dict[str, Any]] | None = None, *, text: bool = True) -> tuple[Pan, ItemInputs]:
    """A small model whose every weight matters (those that start at zero included), and its items' photos."""
    sections = {name: SMALL.get(name, {}) | (options or {}).get(name, {}) for name in {*SMALL, *(options or {})}}
    config = Config.parse(sections)
    generator = torch.Generator().manual_seed(5)
    shape = PanShape(
        num_users=NUM_USERS,
        slots=SLOTS,
        categories=("top", "bottom", "shoe"),
        text_dim=TEXT_DIM if text else None,
        input_shape=(3, 16, 16),
    )
    model = Pan(config, shape, generator=generator)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1)
    rng = np.random.default_rng(11)
    inputs = ItemInputs(
        source=rng.integers(0, 256, (NUM_ITEMS, 3, 16, 16), dtype=np.uint8),
        categories=torch.from_numpy(np.repeat([0, 1, 2], [len(rows) for rows in ITEMS_OF.values()])),
        text=torch.randn(NUM_ITEMS, TEXT_DIM, generator=generator) if text else None,
        images=config.images,
    )
    return model, inputs


def draw_outfits(num_outfits: int = 60) -> Outfits:
    """Interleaved users with repeated items; some outfits lack the second top, some the shoes."""
    rng = np.random.default_rng(3)
    columns = [rng.choice(list(ITEMS_OF[category]), num_outfits) for category in (0, 0, 1, 2)]
    items = np.column_stack(columns)
    items[rng.random(num_outfits) < 0.5, 1] = ABSENT
    items[rng.random(num_outfits) < 0.3, 3] = ABSENT
    return Outfits(rng.integers(0, NUM_USERS, num_outfits), items)


def plain_scores(model: Pan, inputs: ItemInputs, outfits: Outfits, *, beta: float, binary: bool) -> np.ndarray:
    """Pan.forward, all at once."""
    batch = OutfitBatch(
        inputs=inputs.batch(np.arange(NUM_ITEMS)),
        categories=inputs.categories,
        text=inputs.text,
        users=torch.from_numpy(outfits.users),
        items=torch.from_numpy(outfits.items),
    )
    model.eval()
    with torch.no_grad():
        scores: np.ndarray = model(batch, beta=beta, binary=binary).score.numpy()
    return scores


OPTIONS: list[dict[str, dict[str, Any]]] = [
    {},
    {"attention": {"kind": "none"}},
    {"attention": {"gate": "mean", "user_map": "scalar", "user_input": "code", "channel_mlp": "linear"}},
    {"model": {"pair_weight": "full", "code_norm": "layer", "learn_alpha": True}},
    {"model": {"code_norm": "batch", "dropout": 0.2}, "backbone": {"head": "flatten"}},
]


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("options", OPTIONS)
def test_equals_the_model(options: dict[str, dict[str, Any]], text: bool) -> None:
    model, inputs = make(options, text=text)
    outfits = draw_outfits()
    scorer = OutfitScorer(model, inputs, beta=1.7, batch_items=5, batch_pairs=13, chunk_pairs=40)
    relaxed, binary = scorer.both(outfits)
    assert relaxed.dtype == np.float64
    assert np.ptp(relaxed) > 0.1
    expected = plain_scores(model, inputs, outfits, beta=1.7, binary=False)
    np.testing.assert_allclose(relaxed, expected, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(binary, plain_scores(model, inputs, outfits, beta=1.7, binary=True), atol=2e-5)
    np.testing.assert_allclose(scorer.scores(outfits, binary=False), relaxed, atol=2e-5)
    np.testing.assert_allclose(scorer.scores(outfits, binary=True), binary, atol=2e-5)


def test_block_sizes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = make()
    outfits = draw_outfits()
    whole = np.stack(OutfitScorer(model, inputs).both(outfits))
    for numbers in (1, 300, 700):  # of the codes that Eq. 4 is given at a time: one outfit's, a few outfits'
        monkeypatch.setattr(scoring, "BLOCK_NUMBERS", numbers)
        np.testing.assert_allclose(np.stack(OutfitScorer(model, inputs).both(outfits)), whole, atol=2e-5)
    for batch_items, batch_pairs, chunk_pairs in [(1, 512, 1000), (64, 1, 1000), (64, 512, 1), (3, 7, 57)]:
        scorer = OutfitScorer(model, inputs, batch_items=batch_items, batch_pairs=batch_pairs, chunk_pairs=chunk_pairs)
        np.testing.assert_allclose(np.stack(scorer.both(outfits)), whole, atol=2e-5)


def test_trunk_once_an_item_and_attention_once_a_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = make()
    seen_items, seen_pairs = [], []
    trunk, encode = model.feature_maps, model.encode_pairs

    def counted_trunk(photos: Tensor) -> Tensor:
        seen_items.append(len(photos))
        return trunk(photos)

    def counted_encode(*arguments: Any, **options: Any) -> Any:
        seen_pairs.append(len(options["pair_items"]))
        return encode(*arguments, **options)

    monkeypatch.setattr(model, "feature_maps", counted_trunk)
    monkeypatch.setattr(model, "encode_pairs", counted_encode)
    scorer = OutfitScorer(model, inputs, batch_items=4, batch_pairs=10, chunk_pairs=50)
    outfits = draw_outfits(40)
    worn = {int(item) for item in outfits.items[outfits.mask]}
    pairs = {(user, item) for user, row in zip(outfits.users, outfits.items, strict=True) for item in row if item >= 0}
    scorer.both(outfits)
    assert sum(seen_items) == len(worn)
    assert max(seen_items) <= 4
    assert sum(seen_pairs) == len(pairs)
    assert max(seen_pairs) <= 10
    scorer.both(draw_outfits(40))
    assert sum(seen_items) == len(worn)  # the maps are kept


def test_items_seen_later_join_those_kept() -> None:
    model, inputs = make()
    outfits = draw_outfits()
    expected = OutfitScorer(model, inputs).both(outfits)[0]
    scorer = OutfitScorer(model, inputs)
    pieces = [scorer.both(outfits.take(np.arange(first, first + 4)))[0] for first in range(0, len(outfits), 4)]
    np.testing.assert_allclose(np.concatenate(pieces), expected, atol=2e-5)


def test_chunks_hold_whole_users_and_every_outfit_once() -> None:
    model, inputs = make()
    outfits = draw_outfits()
    chunks = list(OutfitScorer(model, inputs, chunk_pairs=60)._chunks(outfits))
    assert len(chunks) > 2
    assert sorted(np.concatenate(chunks).tolist()) == list(range(len(outfits)))
    users = [set(outfits.users[rows].tolist()) for rows in chunks]
    assert sum(len(some) for some in users) == len(set().union(*users))
    assert all(outfits.mask[rows].sum() <= 60 or len(some) == 1 for rows, some in zip(chunks, users, strict=True))


def test_a_models_own_maps_take_the_photos_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a frozen trunk gave: same scores, and the trunk stays out of it."""
    model, inputs = make()
    outfits = draw_outfits()
    expected = np.stack(OutfitScorer(model, inputs).both(outfits))
    with torch.no_grad():
        maps = model.eval().feature_maps(inputs.batch(np.arange(NUM_ITEMS)))

    class Maps(ItemInputs):
        def batch(
            self, rows: IntArray, *, generator: torch.Generator | None = None, device: str | torch.device = "cpu"
        ) -> Tensor:
            return maps[torch.from_numpy(rows)]

        @property
        def input_shape(self) -> tuple[int, int, int]:
            return model.backbone.map_shape

    monkeypatch.setattr(model, "feature_maps", None)
    stored = Maps(inputs.source, inputs.categories, inputs.text, inputs.images)
    np.testing.assert_allclose(np.stack(OutfitScorer(model, stored).both(outfits)), expected, atol=2e-5)


def test_float16_maps_are_close(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = make()
    outfits = draw_outfits()
    relaxed = OutfitScorer(model, inputs).both(outfits)[0]
    halved = OutfitScorer(model, inputs, map_dtype="float16")
    np.testing.assert_allclose(halved.both(outfits)[0], relaxed, atol=0.02)
    assert halved.coder.maps._maps.dtype == torch.float16
    monkeypatch.setattr(encode, "FLOAT32_MAP_BYTES", 100)
    scorer = OutfitScorer(model, inputs)
    scorer.both(outfits)
    assert scorer.coder.maps._maps.dtype == torch.float16


def test_leaves_the_model_as_it_was() -> None:
    model, inputs = make({"model": {"code_norm": "batch"}})
    model.train()
    model.backbone.eval()  # a frozen trunk
    modes = {name: module.training for name, module in model.named_modules()}
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    scorer = OutfitScorer(model, inputs)
    first = scorer.both(draw_outfits())[0]
    np.testing.assert_array_equal(scorer.both(draw_outfits())[0], first)  # no dropout
    assert {name: module.training for name, module in model.named_modules()} == modes
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], rtol=0, atol=0)
    with pytest.raises(IndexError):
        scorer.both(Outfits(np.array([0]), np.array([[999, -1, -1, -1]])))
    assert {name: module.training for name, module in model.named_modules()} == modes


def test_no_outfits() -> None:
    model, inputs = make()
    nothing = Outfits(np.zeros(0, dtype=np.int64), np.zeros((0, 4), dtype=np.int64))
    relaxed, binary = OutfitScorer(model, inputs).both(nothing)
    assert relaxed.shape == binary.shape == (0,)


def test_refuses_inputs_of_another_shape() -> None:
    model, inputs = make()
    larger = ItemInputs(np.zeros((NUM_ITEMS, 3, 32, 32), dtype=np.uint8), inputs.categories, inputs.text, inputs.images)
    with pytest.raises(ValueError, match=r"\(3, 32, 32\) for a model of \(3, 16, 16\)"):
        OutfitScorer(model, larger)
