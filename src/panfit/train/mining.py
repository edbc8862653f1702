"""User-aware hard negatives (PAN sec. 2.3; decisions D10, D11): a miner points, a loss pays.

Within a batch, the users nearest to u_i are those he is easiest confused with. What they like and he is not known to
like are hard negatives of S1; they themselves are the u_n of S2. Everything here runs without gradients, returns
indices and a validity mask, and imports no model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Choice = Literal["loss", "nearest", "random", "any", "far"]


@dataclass(frozen=True)
class Mined:
    """For each row of the batch, other rows of it.

    Attributes:
        rows: (B, K) int64 rows of the batch, the hardest first; arbitrary where not valid.
        valid: (B, K) bool; False where the pool held fewer than K rows.
    """

    rows: Tensor
    valid: Tensor


@torch.no_grad()
def user_distances(user_codes: Tensor) -> Tensor:
    """(B, D) detached relaxed codes -> (B, B) Euclidean distances (decision D10)."""
    codes = user_codes.detach()  # (B, D)
    # Without the matrix-product shortcut: it rounds the distance of equal users to something else than 0.
    return torch.cdist(codes, codes, compute_mode="donot_use_mm_for_euclid_dist")  # (B, B)


@torch.no_grad()
def near_users(distances: Tensor, users: Tensor, *, k_ratio: float) -> Tensor:
    """Which rows of the batch belong to one of the K-ratio nearest users of each row's user.

    Args:
        distances: (B, B) between the users of the rows.
        users: (B,) user rows; a user may come several times and counts once.
        k_ratio: share of the batch's other users that counts as near, 0..1; at least one does, if there is one.

    Returns:
        (B, B) bool; a row is never near a row of the same user. Ties go to the user who comes first in the batch.
    """
    distinct, inverse = torch.unique(users, return_inverse=True)  # (U,), (B,)
    num_users = len(distinct)
    rows = torch.arange(len(users), device=users.device)  # (B,)
    first = torch.full((num_users,), len(users), dtype=torch.int64, device=users.device)
    first = first.scatter_reduce(0, inverse, rows, reduce="amin")  # (U,) where each user comes first in the batch
    order = first.argsort()  # (U,) users by first appearance, so that ties are broken by it
    between = distances[first[order]][:, first[order]].clone()  # (U, U)
    between.fill_diagonal_(float("inf"))
    num_near = min(num_users - 1, max(1, round(k_ratio * (num_users - 1))))
    nearest = between.argsort(dim=1, stable=True)[:, :num_near]  # (U, k)
    near = torch.zeros(num_users, num_users, dtype=torch.bool, device=users.device)
    near.scatter_(1, nearest, True)  # (U, U) in order of first appearance
    place = order.argsort()[inverse]  # (B,)
    return near[place][:, place]  # (B, B)


def _near(near: Tensor) -> Tensor:
    return near


POOLS: dict[Choice, Callable[[Tensor], Tensor]] = {"any": torch.ones_like, "far": torch.logical_not}
"""Which rows are asked at all, from who is near; the near ones where a choice is not named here."""


@torch.no_grad()
def mine(
    allowed: Tensor,
    near: Tensor,
    distances: Tensor,
    *,
    choose: Choice,
    count: int,
    difficulty: Callable[[Tensor], Tensor],
    generator: torch.Generator,
) -> Mined:
    """For each row, the `count` hardest rows of its pool.

    Args:
        allowed: (B, B) bool; [i, j] False where row j cannot be a negative of row i (the same user, a known like ...).
        near: (B, B) bool, of `near_users`.
        distances: (B, B) between users.
        choose: "loss": highest difficulty among the near; "nearest": least distance among the near; "random": any of
            the near; "any": any allowed row, near or far; "far": any but the near, who are the likeliest to share the
            taste.
        count: K >= 1.
        difficulty: (B, B) pool -> (B, B) scores, higher is harder, read only inside the pool; called for "loss" only.
        generator: breaks draws by chance, on the CPU.

    Returns:
        Mined rows; those outside the pool are not valid.
    """
    pool = allowed & POOLS.get(choose, _near)(near)  # (B, B)
    if choose == "loss":
        hardness = difficulty(pool)  # (B, B)
    elif choose == "nearest":
        hardness = -distances
    else:
        hardness = torch.rand(pool.shape, generator=generator).to(pool.device)
    hardness = hardness.masked_fill(~pool, float("-inf"))  # (B, B)
    best, rows = hardness.sort(dim=1, descending=True, stable=True)
    missing = (0, max(count - len(pool), 0))  # columns, where the batch itself has fewer rows than are asked for
    valid = best[:, :count] > float("-inf")
    return Mined(rows=F.pad(rows[:, :count], missing), valid=F.pad(valid, missing))
