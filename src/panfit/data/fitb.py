"""Fill-in-the-blank questions: which of the candidates completes this user's outfit? Paper section 3.1."""

from collections.abc import Sequence

import numpy as np

from panfit.data.negatives import Known, allowed
from panfit.outfits import FitbQuestions, IntArray, Outfits

NUM_CANDIDATES = 4
"""Candidates of a question, the true one included."""


def draw_fitb(
    likes: Outfits,
    pools: Sequence[IntArray],
    *,
    known: Known,
    rng: np.random.Generator,
    num_candidates: int = NUM_CANDIDATES,
) -> FitbQuestions:
    """One question for each like: a random filled slot is blanked, and other items of its pool compete with the truth.

    No wrong candidate would complete a known like of the user. A like none of whose slots has enough other items to
    choose from gets no question, so there may be fewer questions than likes.
    """
    kept: list[int] = []
    blanks: list[int] = []
    candidates: list[IntArray] = []
    for row in range(len(likes)):
        for slot in rng.permutation(np.flatnonzero(likes.mask[row])):
            wrong = _wrong_candidates(likes, row, int(slot), pools[slot], num_candidates - 1, known=known, rng=rng)
            if wrong is not None:
                kept.append(row)
                blanks.append(int(slot))
                candidates.append(wrong)
                break
    outfits = likes.take(np.array(kept, dtype=np.int64))
    blank = np.array(blanks, dtype=np.int64)
    truth = outfits.items[np.arange(len(kept)), blank]  # (Q,)
    answer = rng.integers(num_candidates, size=len(kept))  # anywhere: a method that breaks ties by place gains nothing
    wrongs = np.array(candidates, dtype=np.int64).reshape(len(kept), num_candidates - 1)
    table = np.concatenate([wrongs, truth[:, None]], axis=1)  # (Q, K), the truth last
    rows = np.arange(len(kept))
    table[rows, -1] = table[rows, answer]
    table[rows, answer] = truth
    return FitbQuestions(outfits, blank, table, answer.astype(np.int64))


def _wrong_candidates(
    likes: Outfits, row: int, slot: int, pool: IntArray, count: int, *, known: Known, rng: np.random.Generator
) -> IntArray | None:
    """(count,) distinct wrong items for one blank, or None where the pool has not enough."""
    few = min(len(pool), 2 * count + 2)
    for tries in (few, len(pool)):  # a few are nearly always enough; the whole pool only where they were not
        drawn = rng.choice(pool, size=tries, replace=False)
        outfits = np.tile(likes.items[row], (tries, 1))  # (tries, S)
        outfits[:, slot] = drawn
        fits = allowed(np.full(tries, likes.users[row]), outfits, known) & (drawn != likes.items[row, slot])
        if fits.sum() >= count:
            return np.asarray(drawn[fits][:count], dtype=np.int64)
    return None
