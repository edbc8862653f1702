"""Where a run's chance comes from: every moment of it is seeded by (seed, stage, epoch, step) alone (decision D18)."""

import numpy as np

ORDER, STEP, INITIAL, PRETRAIN_ORDER, PRETRAIN = 1, 2, 3, 4, 5
"""Stages: the order of an epoch's likes; what happens within a step; the initial weights; the first stage's two."""


def chance_seed(*parts: int) -> int:
    """One 63-bit seed from the parts that name a moment of chance."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def own_seed(*parts: int, rank: int, size: int) -> int:
    """`chance_seed` of what may differ between processes (dropout, augmentation); of one alone, just that."""
    return chance_seed(*parts) if size == 1 else chance_seed(*parts, 1 + rank)
