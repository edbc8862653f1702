"""WALL: outfits of every taste, for somebody of whom nothing is known to like some of."""

import numpy as np

from panfit.ids import OutfitIds
from panfit.outfits import ABSENT
from panfit.recommend import Recommender
from panfit.shortlist import taste_prototypes

TASTES = 12
MAX_OUTFITS = 240


def make_wall(
    recommender: Recommender, *, tastes: int = TASTES, most: int = MAX_OUTFITS, seed: int = 0
) -> list[OutfitIds]:
    """Train likes of users of each taste in turn, no item twice while others are left.

    Args:
        recommender: its users are grouped by their embeddings (`taste_prototypes`).
        tastes: groups of users.
        most: outfits.
        seed: which likes come first.

    Returns:
        distinct outfits; any stretch of ``tastes`` of them is of different groups while these last.
    """
    likes = recommender.dataset.likes["train"]
    everybody = recommender.people.everybody()  # (M, D)
    prototypes = taste_prototypes(everybody, tastes, seed=seed)[1:]  # (P, D), the mean aside
    distances = (everybody[:, None] - prototypes[None]).square().sum(dim=2)  # (M, P)
    groups = distances.argmin(dim=1).cpu().numpy()[likes.users]  # (B,)
    order = np.random.default_rng(seed).permutation(len(likes))  # (B,)
    queues = [order[groups[order] == group].tolist() for group in range(len(prototypes))]
    wall: list[tuple[int, ...]] = []
    seen: set[tuple[int, ...]] = set()
    for worn_again in (False, True):  # first outfits of which no piece was shown yet
        worn: set[int] = set()
        left = [iter(queue) for queue in queues]
        while left and len(wall) < most:
            for queue in list(left):
                for row in queue:
                    outfit = tuple(likes.items[row].tolist())
                    pieces = set(outfit) - {ABSENT}
                    if outfit not in seen and (worn_again or not pieces & worn):
                        break
                else:
                    left.remove(queue)
                    continue
                wall.append(outfit)
                seen.add(outfit)
                worn |= pieces
    return [recommender.dataset.catalogue.ids(outfit) for outfit in wall[:most]]
