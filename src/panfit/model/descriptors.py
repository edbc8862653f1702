"""Mean and maximum over channels of a gated map (the descriptors of PAN Eq. 3), without ever keeping the gated map.

Imports torch only.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

BLOCK = {"cpu": 2**19}
"""Elements of the gated map that exist at a time: on a CPU as many as stay in the cache; elsewhere `OTHER_BLOCK`."""
OTHER_BLOCK = 2**26
STRIDES = 16
"""Stretches of channels that are compared in one step."""


def channel_descriptors(places: Tensor, channel_gate: Tensor | None) -> Tensor:
    """Maps (Q, C, L) of L places and gates (Q, K, C) of K viewers -> mean and maximum over channels (Q, K, 2, L).

    Gates of None: the map is gated already, for one viewer.
    """
    if channel_gate is None:
        ones = places.new_ones(1, 1, places.shape[1]).expand(len(places), 1, -1)  # (Q, 1, C)
        mean = torch.bmm(ones, places) / places.shape[1]  # (Q, 1, L)
        return torch.stack([mean, _highest(places[:, None])], dim=2)
    mean = torch.bmm(channel_gate, places) / places.shape[1]  # (Q, K, L)
    if torch.is_grad_enabled():
        maximum: Tensor = _GatedMaximum.apply(places, channel_gate)  # type: ignore[no-untyped-call]  # (Q, K, L)
    else:
        maximum = _maximum(places, channel_gate)
    return torch.stack([mean, maximum.to(mean.dtype)], dim=2)


class _GatedMaximum(torch.autograd.Function):
    """max_c gate[q, k, c] map[q, c, l]. The products are made again for the gradient, block by block.

    Equal winners share the gradient, as torch.amax has it.
    """

    @staticmethod
    def forward(ctx: Any, places: Tensor, gate: Tensor) -> Tensor:
        maximum = _maximum(places, gate)  # (Q, K, L)
        ctx.save_for_backward(places, gate, maximum)
        return maximum

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        places, gate, maximum = ctx.saved_tensors
        of_places, of_gate = torch.empty_like(places), torch.empty_like(gate)
        for rows in _blocks(places, gate):
            wins = _products(places, gate, rows).eq_(maximum[rows, :, None])  # (q, K, C, L) 1 or 0
            wins *= (gradients[0][rows] / wins.sum(2))[:, :, None]
            of_places[rows] = (wins * gate[rows, :, :, None]).sum(1)  # (q, C, L)
            of_gate[rows] = (wins * places[rows, None]).sum(3)  # (q, K, C)
        return of_places, of_gate


def _maximum(places: Tensor, gate: Tensor) -> Tensor:
    """(Q, K, L)."""
    return torch.cat([_highest(_products(places, gate, rows)) for rows in _blocks(places, gate)])


def _highest(products: Tensor) -> Tensor:
    """torch.amax over channels, (q, K, C, L) -> (q, K, L), many channels in steps of `STRIDES`.

    Comparing a few long stretches of memory is fast on a CPU; going down a small map's short rows one by one is not.
    """
    while products.shape[2] > STRIDES and products.shape[2] % STRIDES == 0:
        products = products.unflatten(2, (STRIDES, -1)).amax(2)  # (q, K, C / 16, L)
    return products.amax(2)


def _products(places: Tensor, gate: Tensor, rows: slice) -> Tensor:
    """(q, K, C, L)."""
    return places[rows, None] * gate[rows, :, :, None]


def _blocks(places: Tensor, gate: Tensor) -> Iterator[slice]:
    elements = gate.shape[1] * places.shape[1] * places.shape[2]  # of one row
    step = max(1, BLOCK.get(places.device.type, OTHER_BLOCK) // elements)
    return (slice(first, first + step) for first in range(0, len(places), step))
