"""One step: every weight learns, every photo and every (user, item) pair is computed once, triplets are sound."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from panfit.config import Config
from panfit.features.inputs import ItemInputs, build_inputs
from panfit.model.attention import UserAwareAttention, UserMap
from panfit.model.pan import Pan
from panfit.outfits import Dataset, Outfits
from panfit.train.learner import build_pan
from panfit.train.step import Triplets, TripletSource, outfits_of, step_terms
from panfit.train.step_inputs import StepInputs
from tests.photos import tiny_config, with_photos

CPU = torch.device("cpu")


@pytest.fixture
def dataset(tiny_dataset: Dataset, tmp_path: Path) -> Dataset:
    return with_photos(tiny_dataset, tmp_path)


def items_of(model: Pan, inputs: ItemInputs) -> StepInputs[Pan]:
    return StepInputs(model, inputs, generator=None, device=CPU)


def draw(config: Config, dataset: Dataset, model: Pan, inputs: ItemInputs, *, epoch: int = 5) -> Triplets:
    source = TripletSource(
        dataset.likes["train"],
        dataset.split_items("train"),
        tuple(slot.category for slot in dataset.slots),
        config=config,
    )
    return source.draw(
        dataset.likes["train"],
        items_of(model, inputs),
        epoch=epoch,
        beta=1.5,
        rng=np.random.default_rng(1),
        generator=torch.Generator().manual_seed(2),
    )


def one_step(config: Config, dataset: Dataset) -> tuple[Pan, dict[str, torch.Tensor], Triplets, Any]:
    inputs = build_inputs(dataset, config)
    model = build_pan(config, dataset, inputs)
    triplets = draw(config, dataset, model, inputs)
    batch = items_of(model, inputs).batch(*outfits_of(triplets))
    output = model(batch, beta=1.5)
    return model, step_terms(output, batch, triplets, config=config), triplets, output


@pytest.mark.parametrize("gate", ["sigmoid", "mean", "double", "residual"])
@pytest.mark.parametrize("hard_codes", [False, True])
def test_every_weight_gets_a_finite_gradient_that_is_not_zero(dataset: Dataset, gate: str, hard_codes: bool) -> None:
    config = tiny_config(
        attention={"gate": gate},
        model={"dropout": 0.0, "learn_alpha": True, "encoder_init_std": 0.0, "user_init_std": 0.5},
        loss={"lambda_user": 0.3, "lambda_vse": 0.2, "lambda_quantization": 0.1},
    )
    inputs = build_inputs(dataset, config)
    model = build_pan(config, dataset, inputs)
    assert isinstance(model.attention, UserAwareAttention)
    assert isinstance(model.attention.spatial.user, UserMap)
    with torch.no_grad():  # at zero, Eq. 2-3's user terms hide the users from the attention's other weights
        model.attention.channel.user.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(4))
        model.attention.spatial.user.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(5))
    triplets = draw(config, dataset, model, inputs)
    assert triplets.mined.any()
    assert triplets.other_valid.any()
    batch = items_of(model, inputs).batch(*outfits_of(triplets))
    output = model(batch, beta=1.5, straight_through=hard_codes)
    step_terms(output, batch, triplets, config=config)["total"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_a_step_runs_the_trunk_once_a_photo_and_attention_once_a_pair(dataset: Dataset) -> None:
    config = tiny_config()
    inputs = build_inputs(dataset, config)
    model = build_pan(config, dataset, inputs)
    triplets = draw(config, dataset, model, inputs)
    users, items = outfits_of(triplets)
    photos_seen, pairs_seen = [], []
    model.backbone.trunk.register_forward_hook(lambda module, args, result: photos_seen.append(len(args[0])))
    model.image_encoder.register_forward_hook(lambda module, args, result: pairs_seen.append(len(args[0])))
    model(items_of(model, inputs).batch(users, items))
    distinct_pairs = {(user, item) for user, outfit in zip(users, items, strict=True) for item in outfit}
    assert photos_seen == [len(np.unique(items))]
    assert pairs_seen == [len(distinct_pairs)]


def test_triplets_hold_no_known_like_as_a_negative(dataset: Dataset) -> None:
    config = tiny_config(negatives={"per_like": 5, "hard_ratio": 0.5})
    inputs = build_inputs(dataset, config)
    triplets = draw(config, dataset, build_pan(config, dataset, inputs), inputs)
    known = dataset.known_likes()
    likes = {tuple(outfit) for outfit in dataset.likes["train"].items.tolist()}
    for row, user in enumerate(triplets.likes.users):
        for k in range(5):
            outfit = tuple(triplets.negatives[row, k].tolist())
            if triplets.negative_valid[row, k]:
                assert (user, *outfit) not in known
            if triplets.mined[row, k]:
                assert outfit in likes
    for row in np.flatnonzero(triplets.other_valid).tolist():
        assert (triplets.other_users[row], *triplets.likes.items[row].tolist()) not in known


@pytest.mark.parametrize(
    ("changes", "mines", "has_others"),
    [
        ({"negatives": {"hard_ratio": 0.0}}, False, True),
        ({"loss": {"lambda_user": 0.0}}, True, False),
        ({"negatives": {"hard_ratio": 0.0}, "loss": {"lambda_user": 0.0}}, False, False),
        ({"negatives": {"hard_ratio": 1.0}}, True, True),
    ],
)
def test_ablations_are_values(dataset: Dataset, changes: dict[str, Any], mines: bool, has_others: bool) -> None:
    _, terms, triplets, _ = one_step(tiny_config(**changes), dataset)
    assert triplets.mined.any() == mines
    assert (len(triplets.other_users) > 0) == has_others
    assert (terms["user"].item() > 0) == has_others


def test_before_the_warmup_is_over_nothing_is_mined(dataset: Dataset) -> None:
    config = tiny_config(negatives={"warmup_epochs": 3})
    inputs = build_inputs(dataset, config)
    model = build_pan(config, dataset, inputs)
    assert not draw(config, dataset, model, inputs, epoch=2).mined.any()
    assert draw(config, dataset, model, inputs, epoch=3).mined.any()


@pytest.mark.parametrize("compare", ["score", "personal"])
def test_terms_equal_a_plain_reading_of_the_output(dataset: Dataset, compare: str) -> None:
    config = tiny_config(negatives={"compare": compare, "per_like": 3})
    _, terms, triplets, output = one_step(config, dataset)
    num_likes, per_like = triplets.negative_valid.shape
    costs, row = [], num_likes
    for b in range(num_likes):
        for k in range(per_like):
            part = output.personal if compare == "personal" and triplets.mined[b, k] else output.score
            if triplets.negative_valid[b, k]:
                costs.append(torch.log(1 + torch.exp(part[row] - part[b])).item())
            row += 1
    others = []
    for b in np.flatnonzero(triplets.other_valid).tolist():
        others.append(torch.log(1 + torch.exp(output.score[row] - output.score[b])).item())
        row += 1
    assert row == len(output.score)
    assert terms["bpr"].item() == pytest.approx(np.mean(costs), rel=1e-5)
    assert terms["user"].item() == pytest.approx(np.mean(others), rel=1e-5)
    total = terms["bpr"] + 0.1 * terms["user"] + 0.1 * terms["vse"]
    assert terms["total"].item() == pytest.approx(total.item(), rel=1e-5)


@pytest.mark.parametrize("first", [[], [40], [60, 5], [5, 7, 40, 60]])
def test_a_batch_keeps_empty_slots_and_each_item_once(dataset: Dataset, first: list[int]) -> None:
    inputs = build_inputs(dataset, tiny_config())
    model = build_pan(tiny_config(), dataset, inputs).eval()
    outfits = Outfits(np.array([0, 1]), np.array([[5, -1, 60], [5, 40, -1]]))
    items = items_of(model, inputs)
    items.add(np.array(first, dtype=np.int64))  # whatever was asked for before
    batch = items.batch(outfits.users, outfits.items)
    assert batch.items.tolist() == [[0, -1, 2], [0, 1, -1]]
    torch.testing.assert_close(batch.inputs, model.feature_maps(inputs.batch(np.array([5, 40, 60]))))
    assert batch.categories.tolist() == [0, 1, 2]


def test_mining_by_loss_and_the_forward_pass_share_the_trunks_maps(dataset: Dataset) -> None:
    config = tiny_config(negatives={"choose": "loss"})
    inputs = build_inputs(dataset, config)
    model = build_pan(config, dataset, inputs)
    seen: list[int] = []
    model.backbone.trunk.register_forward_hook(lambda module, args, result: seen.append(len(args[0])))
    likes = dataset.likes["train"]
    source = TripletSource(likes, dataset.split_items("train"), ("top", "bottom", "shoe"), config=config)
    items = items_of(model, inputs)
    generator = torch.Generator().manual_seed(2)
    triplets = source.draw(likes, items, epoch=5, beta=1.5, rng=np.random.default_rng(1), generator=generator)
    users, outfits = outfits_of(triplets)
    batch = items.batch(users, outfits)
    assert sum(seen) == len(np.unique(outfits))
    assert batch.inputs.requires_grad
    step_terms(model(batch, beta=1.5), batch, triplets, config=config)["total"].backward()
    assert all(weight.grad is not None for weight in model.backbone.trunk.parameters())
