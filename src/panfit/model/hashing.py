"""Codes: logits -> relaxed code in (-1, 1), or binary code in {-1, +1}; packing (PAN sec. 2.1, 2.2; decision D7).

Relaxed, straight-through and binary are three functions of the same logits, chosen by arguments, never three models.
Imports torch only.
"""

from typing import Any

import torch
from torch import Tensor

BITS_PER_BYTE = 8


def relaxed_code(logits: Tensor, beta: float | Tensor) -> Tensor:
    """tanh(beta x), the differentiable stand-in for sign(x). (..., D) -> (..., D) in (-1, 1). FHN; decision D7."""
    return torch.tanh(beta * logits)  # (..., D)


def binary_code(logits: Tensor) -> Tensor:
    """sign(x) with sign(0) = +1, so that every bit is one of two. (..., D) -> (..., D) in {-1, +1}; no gradient."""
    return torch.where(logits >= 0, 1.0, -1.0).to(logits.dtype)  # (..., D)


class _StraightThrough(torch.autograd.Function):
    """Exactly +-1 forward (t + (sign - t).detach() would round), the gradient of tanh(beta x) backward."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, beta: float | Tensor) -> Tensor:
        ctx.beta = beta
        ctx.save_for_backward(logits)
        return binary_code(logits)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (logits,) = ctx.saved_tensors
        return gradients[0] * ctx.beta * (1 - torch.tanh(ctx.beta * logits).square()), None


def straight_through_code(logits: Tensor, beta: float | Tensor) -> Tensor:
    """sign(x) forward, the gradient of tanh(beta x) backward. (..., D) -> (..., D) in {-1, +1}. Option of D7."""
    code: Tensor = _StraightThrough.apply(logits, beta)  # type: ignore[no-untyped-call]
    return code


def hash_code(
    logits: Tensor, *, beta: float | Tensor = 1.0, straight_through: bool = False, binary: bool = False
) -> Tensor:
    """The code that a caller asks for; ``binary`` wins over ``straight_through``. (..., D) -> (..., D)."""
    if binary:
        return binary_code(logits)
    return straight_through_code(logits, beta) if straight_through else relaxed_code(logits, beta)


def pack_codes(codes: Tensor) -> Tensor:
    """Eight bits a byte, as numpy.packbits(codes >= 0, bitorder="little"). (..., D) -> (..., D / 8) uint8.

    Raises ValueError when D is not a multiple of 8.
    """
    num_bits = codes.shape[-1]
    if num_bits % BITS_PER_BYTE:
        raise ValueError(f"{num_bits} bits do not fill whole bytes")
    bits = (codes >= 0).unflatten(-1, (num_bits // BITS_PER_BYTE, BITS_PER_BYTE)).to(torch.uint8)  # (..., D/8, 8)
    packed: Tensor = (bits << _bit_places(codes.device)).sum(-1, dtype=torch.uint8)  # (..., D/8)
    return packed


def unpack_codes(packed: Tensor) -> Tensor:
    """The inverse of `pack_codes`. (..., D / 8) uint8 -> (..., D) float32 in {-1, +1}."""
    if packed.dtype != torch.uint8:
        raise ValueError(f"packed codes are uint8, not {packed.dtype}")
    bits = (packed.unsqueeze(-1) >> _bit_places(packed.device)) & 1  # (..., D/8, 8)
    return bits.flatten(-2).to(torch.float32) * 2 - 1  # (..., D)


def _bit_places(device: torch.device) -> Tensor:
    return torch.arange(BITS_PER_BYTE, dtype=torch.uint8, device=device)  # (8,)
