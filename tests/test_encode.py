"""ItemCoder: pairs in any order, catalogues that grow, and a fingerprint of all that makes codes and nothing else."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from panfit.encode import ItemCoder
from panfit.features.inputs import ItemInputs
from panfit.model.pan import Pan, PanShape
from tests.test_scoring import NUM_ITEMS, NUM_USERS, SLOTS, TEXT_DIM, make


def everybody(model: Pan) -> Tensor:
    with torch.no_grad():
        return model.eval().user_embeddings(torch.arange(NUM_USERS))  # (U, D)


@pytest.mark.parametrize("binary", [True, False])
def test_pairs_come_back_in_their_order(binary: bool) -> None:
    model, inputs = make()
    coder = ItemCoder(model, inputs, beta=1.3, batch_pairs=5)
    eyes = everybody(model)
    rng = np.random.default_rng(4)
    pair_eyes, pair_items = rng.integers(0, NUM_USERS, 31), rng.integers(0, NUM_ITEMS, 31)
    codes = coder.codes(eyes, pair_eyes, pair_items, binary=binary)  # (P, V, D)
    for place in range(0, 31, 6):
        alone = coder.codes(eyes[[pair_eyes[place]]], np.array([0]), pair_items[[place]], binary=binary)
        torch.testing.assert_close(codes[[place]], alone)
    assert set(codes.flatten().tolist()) <= {-1.0, 1.0} or not binary


def test_a_catalogue_that_grows_keeps_its_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = make()
    assert inputs.text is not None
    assert isinstance(inputs.source, np.ndarray)
    small = ItemInputs(inputs.source[:17], inputs.categories[:17], inputs.text[:17], inputs.images)
    coder = ItemCoder(model, small)
    eyes = everybody(model)[:1]
    nobody_else = np.zeros(NUM_ITEMS, dtype=np.int64)
    coder.codes(eyes, nobody_else[:17], np.arange(17), binary=False)
    seen = []
    trunk = model.feature_maps

    def counted(photos: Tensor) -> Tensor:
        seen.append(len(photos))
        return trunk(photos)

    monkeypatch.setattr(model, "feature_maps", counted)
    coder.extend(small.extended(inputs.source[17:], inputs.categories[17:], inputs.text[17:]))
    grown = coder.codes(eyes, nobody_else, np.arange(NUM_ITEMS), binary=False)  # (N, V, D)
    assert sum(seen) == NUM_ITEMS - 17
    torch.testing.assert_close(
        grown, ItemCoder(model, inputs).codes(eyes, nobody_else, np.arange(NUM_ITEMS), binary=False)
    )
    with pytest.raises(ValueError, match=r"17 inputs .* do not go on from 22"):
        coder.extend(small)


def test_fingerprints_are_of_what_makes_codes() -> None:
    model, inputs = make()
    said = ItemCoder(model, inputs).fingerprint()
    again, _ = make()
    assert ItemCoder(again, inputs).fingerprint() == said
    assert ItemCoder(model, inputs, beta=3.0).fingerprint() == said, "binary codes know no beta"
    assert ItemCoder(model, inputs, map_dtype="float16").fingerprint() != said
    with torch.no_grad():
        next(model.user_encoder.parameters()).add_(1)
        model.beta.fill_(9)
    assert ItemCoder(model, inputs).fingerprint() == said, "a viewer is told by his embedding"


def test_any_weight_makes_another_fingerprint() -> None:
    model, inputs = make({"model": {"code_norm": "batch"}})
    said = {ItemCoder(model, inputs).fingerprint()}
    state = model.state_dict()
    changed = [name for name in state if not name.startswith("user_encoder.") and name != "beta"]
    assert any("running_mean" in name for name in changed)
    for name in changed:
        with torch.no_grad():
            flat = state[name].view(-1)
            flat[-1] = flat[-1] + 1
        said.add(ItemCoder(model, inputs).fingerprint())
    assert len(said) == 1 + len(changed)


@pytest.mark.parametrize(
    "options",
    [
        {"attention": {"gate": "mean"}},
        {"attention": {"channel_mlp": "linear"}},
        {"attention": {"kind": "none"}},
        {"attention": {"user_input": "code"}},
        {"model": {"code_norm": "layer"}},
    ],
)
def test_any_setting_that_matters_makes_another_fingerprint(options: dict[str, dict[str, Any]]) -> None:
    model, inputs = make()
    other, _ = make(options)
    assert ItemCoder(other, inputs).fingerprint() != ItemCoder(model, inputs).fingerprint()


def test_beta_matters_where_attention_is_given_a_code() -> None:
    model, inputs = make({"attention": {"user_input": "code"}})
    assert ItemCoder(model, inputs, beta=1.0).fingerprint() != ItemCoder(model, inputs, beta=2.0).fingerprint()
    without, _ = make({"attention": {"user_input": "code", "kind": "none"}})
    assert ItemCoder(without, inputs, beta=1.0).fingerprint() == ItemCoder(without, inputs, beta=2.0).fingerprint()


def test_more_users_are_the_same_model() -> None:
    model, inputs = make()
    shape = PanShape(
        num_users=NUM_USERS + 3,
        slots=SLOTS,
        categories=("top", "bottom", "shoe"),
        text_dim=TEXT_DIM,
        input_shape=(3, 16, 16),
    )
    larger = Pan(model.config, shape, generator=torch.Generator().manual_seed(8))
    own = {name: value for name, value in model.state_dict().items() if not name.startswith("user_encoder.")}
    larger.load_state_dict(own, strict=False)
    assert ItemCoder(larger, inputs).fingerprint() == ItemCoder(model, inputs).fingerprint()
