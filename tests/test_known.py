"""Membership of outfits among likes, and rows that say the same, against plain sets and dicts."""

import numpy as np
import pytest

from panfit.data import known as module
from panfit.data.known import KnownOutfits, first_places, rows_of
from panfit.outfits import ABSENT, IntArray, Outfits


def outfits(rng: np.random.Generator, count: int, *, slots: int = 3) -> Outfits:
    """Of few users and items, so that many say the same; some slots are empty."""
    items = rng.integers(0, 4, (count, slots))
    items[:, 1:][rng.random((count, slots - 1)) < 0.3] = ABSENT
    return Outfits(rng.integers(0, 3, count), items)


@pytest.mark.parametrize(
    ("num_known", "num_asked", "slots"), [(31, 57, 3), (5, 200, 2), (40, 11, 4), (0, 7, 3), (9, 0, 3)]
)
def test_membership_agrees_with_a_set(num_known: int, num_asked: int, slots: int) -> None:
    rng = np.random.default_rng(num_known)
    parts = [outfits(rng, num_known, slots=slots), outfits(rng, num_known // 2, slots=slots)]
    asked = outfits(rng, num_asked, slots=slots)
    plain = {tuple(row) for row in rows_of(parts).tolist()}
    found = KnownOutfits(parts).contains(asked.users, asked.items)
    assert found.tolist() == [tuple(row) in plain for row in rows_of([asked]).tolist()]


def test_a_shared_hash_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes of two bits, whatever the salt but the fifth: likes collide, and questions do with likes."""
    true_keys = module._keys

    def poor(rows: IntArray, salt: int) -> object:
        return true_keys(rows, salt) % np.uint64(4 if salt < 5 else 1 << 20)

    monkeypatch.setattr(module, "_keys", poor)
    rng = np.random.default_rng(0)
    part, asked = outfits(rng, 50), outfits(rng, 300)
    plain = {tuple(row) for row in rows_of([part]).tolist()}
    found = KnownOutfits([part]).contains(asked.users, asked.items)
    assert found.tolist() == [tuple(row) in plain for row in rows_of([asked]).tolist()]


@pytest.mark.parametrize(("num_rows", "num_columns"), [(0, 2), (1, 3), (97, 1), (60, 4)])
def test_first_places_agree_with_a_dict(num_rows: int, num_columns: int) -> None:
    rows = np.random.default_rng(num_rows).integers(-1, 3, (num_rows, num_columns))
    first: dict[tuple[int, ...], int] = {}
    assert first_places(rows).tolist() == [
        first.setdefault(tuple(row), place) for place, row in enumerate(rows.tolist())
    ]
