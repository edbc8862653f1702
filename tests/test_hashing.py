"""Codes: values, signs, gradients, packing (PAN sec. 2.1, 2.2; decision D7)."""

import math

import numpy as np
import pytest
import torch

from panfit.model.hashing import (
    binary_code,
    hash_code,
    pack_codes,
    relaxed_code,
    straight_through_code,
    unpack_codes,
)


def test_relaxed_code_is_tanh_of_beta_x() -> None:
    assert relaxed_code(torch.tensor([0.3, -2.0]), 2.5).tolist() == pytest.approx([math.tanh(0.75), math.tanh(-5.0)])


def test_binary_code_takes_zero_as_plus_one() -> None:
    logits = torch.tensor([-3.0, -1e-38, -0.0, 0.0, 1e-38, 2.0], dtype=torch.float64)
    code = binary_code(logits)
    assert code.tolist() == [-1, -1, 1, 1, 1, 1]
    assert code.dtype == logits.dtype


def test_straight_through_is_sign_forward_and_tanh_backward() -> None:
    logits = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)  # crosses 0
    weight = torch.arange(41, dtype=torch.float64)
    code = straight_through_code(logits, 1.7)
    assert set(code.tolist()) == {-1.0, 1.0}, "exactly, without rounding"
    (gradient,) = torch.autograd.grad((code * weight).sum(), logits)
    (wanted,) = torch.autograd.grad((relaxed_code(logits, 1.7) * weight).sum(), logits)
    torch.testing.assert_close(gradient, wanted)


def test_hash_code_chooses_by_argument() -> None:
    logits = torch.tensor([-0.4, 0.2])
    assert torch.equal(hash_code(logits, beta=2.0), relaxed_code(logits, 2.0))
    assert torch.equal(hash_code(logits, beta=2.0, straight_through=True), binary_code(logits))
    assert torch.equal(hash_code(logits, beta=torch.tensor(2.0)), relaxed_code(logits, 2.0))
    binary = hash_code(logits.requires_grad_(), straight_through=True, binary=True)
    assert not binary.requires_grad, "binary wins: it is for measuring, not for training"


@pytest.mark.parametrize("shape", [(8,), (3, 16), (2, 5, 40)])
def test_packing_is_numpys_and_comes_back(shape: tuple[int, ...]) -> None:
    codes = binary_code(torch.randn(shape, generator=torch.Generator().manual_seed(1)))
    packed = pack_codes(codes)
    wanted = np.packbits(codes.numpy() >= 0, axis=-1, bitorder="little")
    assert packed.dtype == torch.uint8
    assert np.array_equal(packed.numpy(), wanted)
    assert torch.equal(unpack_codes(packed), codes)


def test_packing_refuses_what_it_cannot_pack() -> None:
    with pytest.raises(ValueError, match="12 bits"):
        pack_codes(torch.ones(2, 12))
    with pytest.raises(ValueError, match="uint8"):
        unpack_codes(torch.ones(2, 2))
