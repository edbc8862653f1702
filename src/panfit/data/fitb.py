"""Fill-in-the-blank questions: which of the candidates completes this user's outfit? Paper section 3.1."""

from collections.abc import Sequence

import numpy as np

from panfit.data.known import KnownOutfits
from panfit.data.negatives import allowed
from panfit.outfits import BoolArray, FitbQuestions, IntArray, Outfits

NUM_CANDIDATES = 4
"""Candidates of a question, the true one included."""
BLOCK = 1024
"""Likes whose draws are looked at together."""


def draw_fitb(
    likes: Outfits,
    pools: Sequence[IntArray],
    *,
    known: KnownOutfits,
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
    mask = likes.mask  # (B, S)
    for first in range(0, len(likes), BLOCK):
        block = range(first, min(first + BLOCK, len(likes)))
        state = rng.bit_generator.state
        drawn = _plain_draws(likes, mask, block, pools, num_candidates - 1, known=known, rng=rng)
        if drawn is not None:
            kept += block
            blanks += drawn[0].tolist()
            candidates += list(drawn[1])
            continue
        rng.bit_generator.state = state  # some draw is not enough: all again, one by one, from the same chance
        for row in block:
            for slot in rng.permutation(np.flatnonzero(mask[row])):
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


def _plain_draws(
    likes: Outfits,
    mask: BoolArray,
    rows: range,
    pools: Sequence[IntArray],
    count: int,
    *,
    known: KnownOutfits,
    rng: np.random.Generator,
) -> tuple[IntArray, IntArray] | None:
    """Blanks (b,) and wrong items (b, count) where each row's first slot and its first few draws are enough, as they
    nearly always are; else None, and the rows have to be drawn one by one. What is drawn, and how, is the same."""
    slots = np.empty(len(rows), dtype=np.int64)  # (b,)
    draws = np.empty((len(rows), _few(count)), dtype=np.int64)  # (b, f)
    for place, row in enumerate(rows):
        slots[place] = rng.permutation(np.flatnonzero(mask[row]))[0]
        pool = pools[slots[place]]
        if len(pool) < draws.shape[1]:
            return None
        draws[place] = rng.choice(pool, size=draws.shape[1], replace=False)
    asked = np.repeat(np.arange(rows.start, rows.stop), draws.shape[1])  # (b * f,)
    outfits = likes.items[asked]  # (b * f, S)
    blank = np.repeat(slots, draws.shape[1])  # (b * f,)
    is_truth = outfits[np.arange(len(asked)), blank] == draws.reshape(-1)  # (b * f,)
    outfits[np.arange(len(asked)), blank] = draws.reshape(-1)
    fits = (allowed(likes.users[asked], outfits, known) & ~is_truth).reshape(draws.shape)  # (b, f)
    if (fits.sum(axis=1) < count).any():
        return None
    first = np.argsort(~fits, axis=1, kind="stable")[:, :count]  # (b, count) those that fit, in the order drawn
    return slots, np.take_along_axis(draws, first, axis=1)


def _few(count: int) -> int:
    """So many items are drawn for so many wrong ones: nearly always enough."""
    return 2 * count + 2


def _wrong_candidates(
    likes: Outfits, row: int, slot: int, pool: IntArray, count: int, *, known: KnownOutfits, rng: np.random.Generator
) -> IntArray | None:
    """(count,) distinct wrong items for one blank, or None where the pool has not enough."""
    few = min(len(pool), _few(count))
    for tries in (few, len(pool)):  # a few are nearly always enough; the whole pool only where they were not
        drawn = rng.choice(pool, size=tries, replace=False)
        outfits = np.tile(likes.items[row], (tries, 1))  # (tries, S)
        outfits[:, slot] = drawn
        fits = allowed(np.full(tries, likes.users[row]), outfits, known) & (drawn != likes.items[row, slot])
        if fits.sum() >= count:
            return np.asarray(drawn[fits][:count], dtype=np.int64)
    return None
