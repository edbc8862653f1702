"""Two-stage search: prototypes are cluster centers, a shortlist is a prototype's best, and what comes back is exact."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from panfit import complete, shortlist
from panfit.codes import CodeTables
from panfit.encode import Progress
from panfit.model.hashing import unpack_codes
from panfit.newcomers import Newcomer
from panfit.outfits import IntArray
from panfit.recommend import Recommender
from panfit.scoring import OutfitScorer
from panfit.search import CodeIndex, Found
from panfit.shortlist import Shortlister, taste_prototypes
from panfit.sweep import Packed
from tests.contracts.search_contract import SearchContract
from tests.test_complete import make_dataset, make_recommender


class GuidedSearch:
    """Exact search among a shortlist that comes from a table in which every tenth bit is wrong."""

    def __init__(self, packed: NDArray[np.uint8]) -> None:
        self._exact = CodeIndex(packed)
        rng = np.random.default_rng(1)
        wrong = np.packbits(rng.random((len(packed), packed.shape[1] * 8)) < 0.1, axis=1)
        categories = torch.zeros(len(packed), dtype=torch.int64)
        guide = packed ^ wrong
        tables = SimpleNamespace(
            coder=SimpleNamespace(inputs=SimpleNamespace(categories=categories)),
            packed=lambda viewer, rows: guide[rows],
        )
        self._packed = packed
        self._shortlister = Shortlister(cast(CodeTables, tables), torch.eye(2, packed.shape[1]))

    def search(self, queries: NDArray[np.floating], top: int, *, allowed: NDArray[np.bool_] | None = None) -> Found:
        exact = self._exact.search(queries, top, allowed=allowed)  # says what is wrong with a question
        if not exact.rows.size:
            return exact
        candidates = np.arange(len(self._packed)) if allowed is None else np.flatnonzero(allowed)
        found = []
        for query in queries:
            viewer = torch.ones(self._packed.shape[1])
            rows = self._shortlister.shortlist(viewer, query.astype(np.float64), candidates, max(top, 40))
            one = CodeIndex(self._packed[rows]).search(query[None], top)
            found.append((rows[one.rows[0]], one.scores[0]))
        return Found(np.stack([rows for rows, _ in found]), np.stack([scores for _, scores in found]))


class TestTwoStageSearch(SearchContract):
    def make(self, packed: NDArray[np.uint8]) -> GuidedSearch:
        return GuidedSearch(packed)

    def test_most_of_the_best_are_found(self, rng: np.random.Generator) -> None:
        packed = rng.integers(0, 256, (3001, 8), dtype=np.uint8)
        queries = rng.standard_normal((20, 64))
        found = GuidedSearch(packed).search(queries, 10)
        exact = CodeIndex(packed).search(queries, 10)
        recall = np.mean([np.isin(*rows).mean() for rows in zip(exact.rows, found.rows, strict=True)])
        assert 0.5 < recall < 1  # a tenth of the bits is wrong, one in 75 is encoded; by chance it would be 0.01


def test_prototypes_are_the_mean_and_the_centers() -> None:
    generator = torch.Generator().manual_seed(2)
    centers = 10 * torch.randn(4, 6, generator=generator)
    users = centers.repeat_interleave(9, 0) + 0.1 * torch.randn(36, 6, generator=generator)
    found = taste_prototypes(users, 4, seed=3)
    torch.testing.assert_close(found[0], users.mean(0))
    nearest = torch.cdist(users.unflatten(0, (4, 9)).mean(1), found[1:])  # (4, 4)
    assert nearest.min(1).values.max() < 1e-3
    assert sorted(nearest.argmin(1).tolist()) == [0, 1, 2, 3]
    torch.testing.assert_close(taste_prototypes(users, 4, seed=3), found, rtol=0, atol=0)
    assert len(taste_prototypes(users[:3], 16)) == 4  # no more centers than users
    assert len(taste_prototypes(users, 0)) == 1


@pytest.fixture
def recommender() -> Recommender:
    return make_recommender(make_dataset(), text=True)


def test_a_shortlist_is_the_best_of_what_the_nearest_prototype_sees(recommender: Recommender) -> None:
    assert isinstance(recommender.scorer, OutfitScorer)
    tables = CodeTables(recommender.scorer.coder, max_bytes=1 << 20)
    eyes = taste_prototypes(recommender.people.everybody(), 2)
    shortlister = Shortlister(tables, eyes)
    rng = np.random.default_rng(5)
    tops = np.flatnonzero(recommender.dataset.catalogue.category_rows == 0)
    for place in range(len(eyes)):
        query = rng.standard_normal(32)
        scores = unpack_codes(torch.from_numpy(tables.packed(eyes[place], tops))).double().numpy() @ query
        wanted = np.sort(tops[np.argsort(-scores, kind="stable")[:3]])
        np.testing.assert_array_equal(shortlister.shortlist(eyes[place] * 1.01, query, tops, 3), wanted)
        few = tops[[0, 2, 3, 6]]
        assert set(shortlister.shortlist(eyes[place], query, few, 3)) <= set(few)
        np.testing.assert_array_equal(shortlister.shortlist(eyes[place], query, few, 4), few)


def test_several_prototypes_are_asked_in_turn(recommender: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortlist, "NEAREST", 2)
    ranked = {0: [5, 1, 2, 3], 1: [1, 4, 5, 6]}
    shortlister = Shortlister(cast(CodeTables, None), torch.eye(2))
    monkeypatch.setattr(shortlister, "_ranked", lambda place, query, rows, size: np.array(ranked[place][:size]))
    found = shortlister.shortlist(torch.tensor([1.0, 0.5]), np.zeros(8), np.arange(9), 4)
    assert found.tolist() == [1, 2, 4, 5]


@pytest.mark.parametrize("given", [{"top": "top-1", "bottom": "bottom-2"}, {"shoe": "shoe-3"}])
def test_two_stages_give_exact_scores_of_fewer_candidates(
    recommender: Recommender, given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"prepare\(\)"):
        recommender.complete("bob", given, search="two-stage")
    told: list[tuple[int, int]] = []
    recommender.prepare(2, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (3 * 18, 3 * 18)
    exact = recommender.complete("bob", given, 1000, search="exact", width=1000)
    monkeypatch.setattr(complete, "LEAST", 3)
    outfits, scores = recommender.complete("bob", given, 3, search="two-stage", width=3)
    assert 0 < len(outfits) <= 3
    np.testing.assert_array_equal(recommender.score("bob", outfits), scores)
    assert (np.diff(scores) <= 0).all()
    assert set(outfits) <= set(exact[0])
    whole = recommender.complete("bob", given, 1000, search="two-stage", width=1000)
    assert whole[0] == exact[0]
    np.testing.assert_array_equal(whole[1], exact[1])


def test_auto_encodes_a_shortlist_only_where_very_much_is_missing(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender.prepare(1)
    made: list[IntArray] = []
    real = CodeTables._make

    def counted(self: CodeTables, viewer: Tensor, items: IntArray, progress: Progress | None) -> Packed:
        made.append(items)
        return real(self, viewer, items, progress)

    monkeypatch.setattr(CodeTables, "_make", counted)
    monkeypatch.setattr(complete, "LEAST", 2)
    me = Newcomer("me", (), (), torch.randn(16, generator=torch.Generator().manual_seed(6)))
    given = {"top": "top-1", "bottom": "bottom-2"}
    monkeypatch.setattr(complete, "PATIENCE", 5)  # there are 6 shoes
    recommender.complete(me, given, 2, width=2)
    shoes = set(np.flatnonzero(recommender.dataset.catalogue.category_rows == 2).tolist())
    assert len(shoes & set(np.concatenate(made).tolist())) == 2
    recommender.complete(me, given, 2, width=2)  # now only 4 are missing
    assert shoes <= set(np.concatenate(made).tolist())
