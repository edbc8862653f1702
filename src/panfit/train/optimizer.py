"""Named parameter groups, each with its own learning rate; rates and beta depend on the step alone (D7, D15)."""

import math

import torch
from torch import nn

from panfit.config import OptimizerConfig, TrainConfig

FHN_FIRST_HALVING = 11
FHN_HALVING_PERIOD = 21
"""FHN's plateau rule, as its code works, halves every rate after epoch 11 and then every 21 epochs (literature 2.4)."""


def build_optimizer(groups: dict[str, list[nn.Parameter]], config: OptimizerConfig) -> torch.optim.Optimizer:
    """One optimizer over the named groups; a group without trainable parameters is left out.

    Args:
        groups: name -> parameters; each name is a learning rate's name in ``config``.
    """
    decays = {"user": config.weight_decay_codes, "predictor": config.weight_decay_codes}
    settings = [
        {
            "params": trainable,
            "lr": getattr(config, name),
            "weight_decay": decays.get(name, config.weight_decay),
            "name": name,
        }
        for name, parameters in groups.items()
        if (trainable := [parameter for parameter in parameters if parameter.requires_grad])
    ]
    if config.name == "sgd":
        return torch.optim.SGD(settings, momentum=config.momentum)
    return torch.optim.AdamW(settings)


def rate_factor(config: OptimizerConfig, *, step: int, steps_per_epoch: int, num_epochs: int) -> float:
    """What every learning rate is multiplied by at a step (counted from 0 over the whole run), 0..1."""
    warmup = min(1.0, (step + 1) / (config.warmup_steps + 1))
    if config.schedule == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * step / (steps_per_epoch * num_epochs)))
    if config.schedule == "fhn":
        epoch = step // steps_per_epoch + 1  # FHN counts epochs from 1
        halvings = 0 if epoch <= FHN_FIRST_HALVING else 1 + (epoch - FHN_FIRST_HALVING - 1) // FHN_HALVING_PERIOD
        return warmup * 0.5**halvings
    return warmup


def set_rates(optimizer: torch.optim.Optimizer, config: OptimizerConfig, factor: float) -> None:
    """Give every named group its own rate times ``factor``."""
    for group in optimizer.param_groups:
        group["lr"] = getattr(config, group["name"]) * factor


def beta_at(config: TrainConfig, epoch: int) -> float:
    """The sharpness of tanh(beta x) in an epoch, counted from 0 (decision D7).

    sqrt: sqrt(epoch + 1), FHN's; constant: 1; late: 1, then in equal steps up to ``beta_final`` over the last third.
    """
    if config.beta == "sqrt":
        return math.sqrt(epoch + 1)
    if config.beta == "constant":
        return 1.0
    start = config.epochs * 2 // 3
    share = max(0, epoch + 1 - start) / (config.epochs - start)
    return 1 + (config.beta_final - 1) * share
