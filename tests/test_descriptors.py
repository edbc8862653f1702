"""Mean and maximum over channels: equal to the product written out, in value and gradient, in blocks of any size."""

import pytest
import torch
from torch import Tensor

from panfit.model import descriptors
from panfit.model.descriptors import channel_descriptors

ROWS, WIDTH, CHANNELS, PLACES = 5, 3, 4, 7


def draw() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    places = torch.randn(ROWS, CHANNELS, PLACES, generator=generator, dtype=torch.float64)
    gate = torch.rand(ROWS, WIDTH, CHANNELS, generator=generator, dtype=torch.float64)
    return places.requires_grad_(), gate.requires_grad_()


def plain(places: Tensor, gate: Tensor) -> Tensor:
    gated = places[:, None] * gate[..., None]  # (Q, K, C, L)
    return torch.stack([gated.mean(2), gated.amax(2)], dim=2)


@pytest.mark.parametrize("block", [1, 2 * WIDTH * CHANNELS * PLACES, 2**20])
def test_equals_the_product_written_out(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(descriptors.BLOCK, "cpu", block)
    places, gate = draw()
    got, wanted = channel_descriptors(places, gate), plain(places, gate)
    torch.testing.assert_close(got, wanted)
    upstream = torch.randn(got.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    gradients = torch.autograd.grad(got, [places, gate], upstream)
    torch.testing.assert_close(gradients, torch.autograd.grad(wanted, [places, gate], upstream))


def test_equal_winners_share_the_gradient() -> None:
    places = torch.zeros(1, CHANNELS, PLACES, requires_grad=True)  # as behind a ReLU that let nothing through
    gate = torch.rand(1, WIDTH, CHANNELS, generator=torch.Generator().manual_seed(3)).requires_grad_()
    got = torch.autograd.grad(channel_descriptors(places, gate).sum(), [places, gate])
    torch.testing.assert_close(got, torch.autograd.grad(plain(places, gate).sum(), [places, gate]))
