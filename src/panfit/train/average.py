"""The running mean of the weights (`train.ema`): kept beside the trained ones, evaluated and saved in their place."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class RunningMean:
    """The mean of a model's weights and buffers over its steps, each step counting ``decay`` times the one after it.

    Args:
        model: whose tensors are followed.
        decay: `train.ema`; 0: none is kept, and the model itself is what is evaluated.

    Attributes:
        tensors: name -> mean, or None.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay = model, decay
        self.tensors: dict[str, Tensor] | None = None
        if decay:
            self.tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, done: int) -> None:
        """Take in the weights after step ``done``, from 0; it starts fast, so that it forgets the initial ones."""
        if self.tensors is None:
            return
        decay = min(self._decay, (1 + done) / (10 + done))
        for name, tensor in self._model.state_dict().items():
            if tensor.is_floating_point():
                self.tensors[name].lerp_(tensor.detach(), 1 - decay)
            else:
                self.tensors[name].copy_(tensor.detach())

    @contextmanager
    def worn(self) -> Iterator[None]:
        """Inside, the model carries the mean of its weights, if one is kept."""
        if self.tensors is None:
            yield
            return
        own = {name: tensor.detach().clone() for name, tensor in self._model.state_dict().items()}
        self._model.load_state_dict(self.tensors)
        try:
            yield
        finally:
            self._model.load_state_dict(own)
