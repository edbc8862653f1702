"""The one place where initial weights meet randomness: PyTorch's own initializers, fed from the caller's generator.

`nn.Linear`, `nn.Conv2d` and friends draw from torch's global generator and take no other. Rather than repeat their
formulas, the global CPU generator is put aside, seeded from the generator that was passed in, and put back.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def drawn_from(generator: torch.Generator) -> Iterator[None]:
    """Within the block, modules made on the CPU draw their initial weights from ``generator``.

    It advances ``generator`` by one draw and leaves torch's global generator as it was. Build modules on the CPU here
    and move them afterwards, so that a seed means the same weights on every device.
    """
    seed = int(torch.randint(2**62, (), generator=generator).item())
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed: that would reseed accelerators too
        yield


def initialize_linears(module: nn.Module, std: float) -> None:
    """Weights of every linear layer ~ N(0, std), biases 0 (FHN: std .01); std 0 keeps PyTorch's own initial values."""
    if std == 0:
        return
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
