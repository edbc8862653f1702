"""The terms of the objective, PAN Eq. 6-9: scores and codes in, named scalars out.

Losses pay; they do not choose. Which triplets they see is decided in `triplets` and `mining`. Imports torch and the
settings only, no model. An empty selection costs a zero that still carries a graph, so that ``backward`` always works.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from panfit.config import LossConfig


def bpr_loss(positive_scores: Tensor, negative_scores: Tensor, valid: Tensor) -> Tensor:
    """PAN Eq. 6: the mean over S1 of log(1 + exp(-(y_ij - y_ik))).

    Args:
        positive_scores: (B, K) scores of the liked outfits O_j, one column for each negative.
        negative_scores: (B, K) scores of the outfits O_k that the same users are not known to like.
        valid: (B, K) bool; False drops a triplet.

    Returns:
        () the mean over the valid triplets, 0 if there is none. PAN sec. 2.3; FHN takes the mean where Eq. 6 has a sum.
    """
    return _ranking_loss(positive_scores, negative_scores, valid)


def user_specific_loss(own_scores: Tensor, other_scores: Tensor, valid: Tensor) -> Tensor:
    """PAN Eq. 7: the mean over S2 of log(1 + exp(-(y_mk - y_nk))), two users and one outfit.

    Args:
        own_scores: (B,) scores of outfits O_k for the users u_m who like them.
        other_scores: (B,) scores of the same outfits for users u_n who are not known to like them.
        valid: (B,) bool; False drops a triplet.

    Returns:
        () the mean over the valid triplets, 0 if there is none. PAN sec. 2.3; decision D11.
    """
    return _ranking_loss(own_scores, other_scores, valid)


def _ranking_loss(preferred: Tensor, other: Tensor, valid: Tensor) -> Tensor:
    if preferred.shape != other.shape or preferred.shape != valid.shape:
        raise ValueError(
            f"scores {tuple(preferred.shape)}, {tuple(other.shape)}, valid {tuple(valid.shape)} must agree"
        )
    each = F.softplus(other - preferred)  # (...)
    return (each * valid).sum() / valid.sum().clamp(min=1)


def visual_semantic_loss(image_codes: Tensor, text_codes: Tensor, items: Tensor, *, margin: float) -> Tensor:
    """PAN Eq. 8 with d read as a similarity: s(v, f) = <v, f> / D (decision D12).

    For each row r, hinges max(0, m - s(v_r, f_r) + s(v_r, f_k)) and max(0, m - s(v_r, f_r) + s(v_k, f_r)) are averaged
    over the rows k of *other* items, added, and averaged over r (FHN's normalization).

    Args:
        image_codes: (R, D) relaxed visual codes v, in [-1, 1].
        text_codes: (R, D) relaxed text codes f.
        items: (R,) the item of each row; an item may come several times (with several users), and is never its own
            negative.
        margin: m >= 0.

    Returns:
        () the loss; 0 where no row has a negative.
    """
    if image_codes.shape != text_codes.shape or items.shape != image_codes.shape[:1]:
        raise ValueError(f"codes {tuple(image_codes.shape)}, {tuple(text_codes.shape)} and items {tuple(items.shape)}")
    similarity = image_codes @ text_codes.T / image_codes.shape[1]  # (R, R): [r, k] = s(v_r, f_k)
    matching = similarity.diagonal()  # (R,)
    differs = items[:, None] != items[None, :]  # (R, R)
    hinges = F.relu(margin - matching[:, None] + similarity) + F.relu(
        margin - matching[:, None] + similarity.T
    )  # (R, R)
    per_row = (hinges * differs).sum(dim=1) / differs.sum(dim=1).clamp(min=1)  # (R,)
    return per_row.sum() / differs.any(dim=1).sum().clamp(min=1)


def quantization_loss(codes: Tensor) -> Tensor:
    """The mean of (|c| - 1)^2 over relaxed codes of any shape: 0 where sign() changes nothing. Not in the paper."""
    return (codes.abs() - 1).square().mean()


def total_loss(terms: dict[str, Tensor], config: LossConfig) -> Tensor:
    """PAN Eq. 9: l_BPR + lambda_1 l_u + lambda_2 l_vse (+ the quantization penalty, whose weight is 0 in the paper).

    Args:
        terms: the named scalars "bpr", "user", "vse", "quantization".

    Returns:
        () the weighted sum.
    """
    weighted = [
        terms["bpr"],
        config.lambda_user * terms["user"],
        config.lambda_vse * terms["vse"],
        config.lambda_quantization * terms["quantization"],
    ]
    return torch.stack(weighted).sum()
