"""Named groups have their own rates; rates and beta are functions of the step alone."""

import math

import pytest
import torch
from torch import nn

from panfit.config import OptimizerConfig, TrainConfig
from panfit.train.optimizer import beta_at, build_optimizer, rate_factor, set_rates

GROUPS = ("user", "trunk", "attention", "image_encoder", "text_encoder", "predictor")


def parameters() -> dict[str, list[nn.Parameter]]:
    return {name: [nn.Parameter(torch.ones(2))] for name in GROUPS}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_every_group_has_its_own_rate_and_decay(name: str) -> None:
    rates = {group: 0.1 * (index + 1) for index, group in enumerate(GROUPS)}
    config = OptimizerConfig.model_validate({"name": name, **rates, "weight_decay": 0.5, "weight_decay_codes": 0.25})
    optimizer = build_optimizer(parameters(), config)
    found = {group["name"]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups}
    assert found == {group: (rates[group], 0.25 if group in ("user", "predictor") else 0.5) for group in GROUPS}
    set_rates(optimizer, config, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5 * rates[group] for group in GROUPS]


def test_what_is_frozen_is_left_out() -> None:
    groups = parameters()
    groups["trunk"][0].requires_grad_(False)
    groups["text_encoder"] = []
    optimizer = build_optimizer(groups, OptimizerConfig())
    assert [group["name"] for group in optimizer.param_groups] == ["user", "attention", "image_encoder", "predictor"]


def test_fhn_halves_after_epoch_11_and_then_every_21() -> None:
    config = OptimizerConfig(schedule="fhn")
    factors = [rate_factor(config, step=7 * epoch, steps_per_epoch=7, num_epochs=100) for epoch in range(100)]
    halved_after = [epoch for epoch in range(1, 100) if factors[epoch] < factors[epoch - 1]]  # epochs done by then
    assert halved_after == [11, 32, 53, 74, 95]
    assert factors[-1] == 2**-5


def test_cosine_falls_from_one_to_nought() -> None:
    config = OptimizerConfig(schedule="cosine")
    factors = [rate_factor(config, step=step, steps_per_epoch=5, num_epochs=8) for step in range(40)]
    assert factors[0] == 1
    assert factors[20] == pytest.approx(0.5)
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] < 0.01


def test_warmup_rises_step_by_step() -> None:
    config = OptimizerConfig(warmup_steps=3)
    factors = [rate_factor(config, step=step, steps_per_epoch=5, num_epochs=8) for step in range(5)]
    assert factors == [0.25, 0.5, 0.75, 1, 1]


def test_beta_follows_its_schedule() -> None:
    sqrt, constant, late = (TrainConfig(beta=name, epochs=9, beta_final=4) for name in ("sqrt", "constant", "late"))
    assert [beta_at(sqrt, epoch) for epoch in (0, 3, 8)] == [1, 2, 3]
    assert {beta_at(constant, epoch) for epoch in range(9)} == {1}
    assert [beta_at(late, epoch) for epoch in range(9)] == [1, 1, 1, 1, 1, 1, 2, 3, 4]
    assert beta_at(sqrt, 98) == pytest.approx(math.sqrt(99))
