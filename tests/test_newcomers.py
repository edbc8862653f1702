"""A newcomer's embedding is the posterior mean of the tastes; his file brings him back, to his own model only."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import newcomers
from panfit.data.splits import complete
from panfit.encode import ItemCoder
from panfit.errors import CheckpointError, DataError
from panfit.features.inputs import ItemInputs
from panfit.ids import OutfitIds
from panfit.model.pan import OutfitBatch, Pan
from panfit.newcomer_file import model_fingerprint, read_newcomer, write_newcomer
from panfit.newcomers import Newcomer, NewcomerFitter, check_opinions, distinct_outfits, group_tastes
from panfit.outfits import ABSENT, Dataset, IntArray, Outfits, Split
from panfit.scoring import OutfitScorer
from tests.test_scoring import NUM_USERS, draw_outfits, make

BETA = 1.4
NOTHING = np.zeros((0, 4), dtype=np.int64)


@pytest.fixture(scope="module")
def world() -> tuple[Pan, ItemInputs]:
    return make()


def fitter_of(world: tuple[Pan, ItemInputs], **options: Any) -> NewcomerFitter:
    model, inputs = world
    eyes = model.user_embeddings(torch.arange(NUM_USERS))
    options = {"num_references": 5} | options
    return NewcomerFitter(ItemCoder(model, inputs, beta=BETA), eyes, draw_outfits(60).items, **options)


def likes_of(world: tuple[Pan, ItemInputs], user: int, count: int) -> IntArray:
    """The ``count`` of 60 outfits that lie furthest further up the user's scale than up any other user's."""
    model, inputs = world
    outfits = draw_outfits(60).items
    scorer = OutfitScorer(model, inputs, beta=BETA)
    scores = np.array([scorer.scores(Outfits(np.full(60, row), outfits), binary=True) for row in range(NUM_USERS)])
    scores -= scores.mean(axis=1, keepdims=True)  # (M, 60)
    own = scores[user] - np.delete(scores, user, axis=0).max(axis=0)  # (60,)
    return outfits[np.argsort(-own)[:count]]


def plain_weights(
    world: tuple[Pan, ItemInputs], fitter: NewcomerFitter, likes: IntArray, dislikes: IntArray
) -> list[float]:
    """Each user's posterior probability, a comparison at a time, with the scores of Pan.forward."""
    model, inputs = world
    model.eval()

    def scores(user: int, outfits: IntArray) -> list[float]:
        if not len(outfits):
            return []
        batch = OutfitBatch(
            inputs=inputs.batch(np.arange(len(inputs))),
            categories=inputs.categories,
            text=inputs.text,
            users=torch.full((len(outfits),), user),
            items=torch.from_numpy(outfits),
        )
        with torch.no_grad():
            found: list[float] = model(batch, beta=BETA, binary=True).score.tolist()
        return found

    def evidence(better: float, worse: float) -> float:
        return math.log(1 / (1 + math.exp(worse - better)))

    found = []
    for user in range(NUM_USERS):
        others = scores(user, fitter.references)
        total = 0.0
        for like in scores(user, likes):
            total += sum(evidence(like, other) for other in others) / len(others)
        for dislike in scores(user, dislikes):
            total += sum(evidence(other, dislike) for other in others) / len(others)
        found.append(math.exp(total) / NUM_USERS)
    return [value / sum(found) for value in found]


def test_weights_are_the_posterior_of_plain_loops(world: tuple[Pan, ItemInputs]) -> None:
    fitter = fitter_of(world)
    outfits = draw_outfits(40).items
    likes, dislikes = outfits[30:34], outfits[35:38]
    for given, refused in [(likes, dislikes), (likes, NOTHING), (NOTHING, dislikes)]:
        wanted = plain_weights(world, fitter, given, refused)
        assert max(wanted) > 1.2 / NUM_USERS  # or the test could not tell a posterior from the prior
        np.testing.assert_allclose(fitter.weights(given, refused), wanted, rtol=1e-4)
        eyes = world[0].user_embeddings(torch.arange(NUM_USERS)).detach()  # (M, D)
        embedding = sum((weight * eye for weight, eye in zip(wanted, eyes, strict=True)), torch.zeros(24))
        torch.testing.assert_close(fitter.fit(given, refused), embedding, rtol=1e-4, atol=1e-5)


def test_of_nothing_known_it_is_the_mean_user(world: tuple[Pan, ItemInputs]) -> None:
    mean = world[0].user_embeddings(torch.arange(NUM_USERS)).detach().mean(0)
    assert torch.equal(fitter_of(world).fit(NOTHING, NOTHING), mean)
    assert torch.equal(fitter_of(world, max_tastes=3).fit(NOTHING, NOTHING), mean)


def test_order_and_repetition_change_nothing(world: tuple[Pan, ItemInputs]) -> None:
    likes, dislikes = draw_outfits(30).items[10:16], draw_outfits(30).items[16:20]
    swapped = likes.copy()
    swapped[2, [0, 1]] = swapped[2, [1, 0]]  # two tops in the other order are one outfit
    wanted = fitter_of(world).fit(likes, dislikes)
    assert torch.equal(fitter_of(world).fit(likes[::-1], dislikes[[2, 0, 3, 1]]), wanted)
    assert torch.equal(fitter_of(world).fit(np.concatenate([likes, likes[2:4]]), dislikes), wanted)
    torch.testing.assert_close(fitter_of(world).fit(np.concatenate([likes, swapped]), dislikes), wanted)
    assert torch.equal(
        fitter_of(world).fit(np.concatenate([swapped, likes]), dislikes),
        fitter_of(world).fit(np.concatenate([likes, swapped]), dislikes),
    )


def test_an_earlier_newcomer_changes_nothing(world: tuple[Pan, ItemInputs]) -> None:
    fitter, likes = fitter_of(world), draw_outfits(30).items[10:16]
    fitter.fit(likes[:2], NOTHING)
    assert torch.equal(fitter.fit(likes, NOTHING), fitter_of(world).fit(likes, NOTHING))


@pytest.mark.parametrize("user", range(NUM_USERS))
def test_likes_of_a_user_lead_to_him(world: tuple[Pan, ItemInputs], user: int) -> None:
    likes = likes_of(world, user, 12)
    fitter = fitter_of(world, num_references=60)
    assert fitter.weights(likes, NOTHING).argmax() == user
    assert fitter.weights(NOTHING, likes)[user] < 1 / NUM_USERS  # and as dislikes, away from him
    eyes = world[0].user_embeddings(torch.arange(NUM_USERS)).detach()  # (M, D)
    distance = torch.linalg.vector_norm(eyes - fitter.fit(likes, NOTHING), dim=1)  # (M,)
    assert distance.argmin() == user
    assert fitter.weights(likes, NOTHING)[user] > fitter.weights(likes[:2], NOTHING)[user]  # more likes, surer


def test_the_model_stays_as_it_was(world: tuple[Pan, ItemInputs]) -> None:
    model = world[0].train()
    before = model_fingerprint(model)
    fitter_of(world).fit(draw_outfits(30).items[:3], NOTHING)
    assert model.training
    assert model_fingerprint(model) == before
    assert all(weight.grad is None for weight in model.parameters())


def test_without_attention_and_text_too() -> None:
    for options, text in [({"attention": {"kind": "none"}}, True), ({}, False)]:
        found = make(options, text=text)
        fitter = fitter_of(found)
        likes = draw_outfits(40).items[30:33]
        np.testing.assert_allclose(
            fitter.weights(likes, NOTHING), plain_weights(found, fitter, likes, NOTHING), rtol=1e-4
        )


def test_many_users_become_tastes_of_the_same_mean(rng: np.random.Generator) -> None:
    sizes = [5, 9]
    centers = np.array([[10.0] * 6, [-10.0] * 6])  # (T, D)
    users = np.repeat(centers, sizes, axis=0) + rng.normal(size=(14, 6))  # (M, D)
    embeddings = torch.from_numpy(users.astype(np.float32))
    tastes = group_tastes(embeddings, 2)
    order = np.argsort(tastes.shares)
    np.testing.assert_allclose(tastes.shares[order], [5 / 14, 9 / 14])
    means = torch.stack([embeddings[:5].mean(0), embeddings[5:].mean(0)])  # (T, D)
    torch.testing.assert_close(tastes.embeddings[torch.from_numpy(order)], means)
    assert torch.equal(group_tastes(embeddings, 2).embeddings, tastes.embeddings)
    assert torch.equal(group_tastes(embeddings, 14).embeddings, embeddings)
    assert len(group_tastes(embeddings.new_ones(14, 6), 3).embeddings) < 4  # users that are all alike


def test_a_taste_counts_as_the_users_it_stands_for(world: tuple[Pan, ItemInputs]) -> None:
    model, inputs = world
    eyes = model.user_embeddings(torch.tensor([1, 1, 1, 1, 1, 4])).detach()  # (M, D)
    outfits = draw_outfits(60).items
    users, clusters = (
        NewcomerFitter(ItemCoder(model, inputs), eyes, outfits, max_tastes=count, num_references=5) for count in (6, 2)
    )
    assert (len(users.tastes.shares), len(clusters.tastes.shares)) == (6, 2)
    likes = outfits[:2]
    assert 0.05 < clusters.weights(likes, NOTHING).min() < 0.45  # neither taste is ruled out
    torch.testing.assert_close(clusters.fit(likes, NOTHING), users.fit(likes, NOTHING))


def test_references_are_drawn_by_seed(world: tuple[Pan, ItemInputs]) -> None:
    first, again, other = (fitter_of(world, seed=seed).references for seed in (3, 3, 4))
    assert first.shape == (5, 4)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_blocks_of_tastes_change_nothing(world: tuple[Pan, ItemInputs], monkeypatch: pytest.MonkeyPatch) -> None:
    likes, dislikes = draw_outfits(30).items[10:13], draw_outfits(30).items[20:22]
    wanted = fitter_of(world).weights(likes, dislikes)
    monkeypatch.setattr("panfit.newcomers.BLOCK_TASTES", 3)
    np.testing.assert_allclose(fitter_of(world).weights(likes, dislikes), wanted, rtol=1e-5)


def test_prepared_or_not_is_the_same(world: tuple[Pan, ItemInputs]) -> None:
    likes = draw_outfits(30).items[10:13]
    prepared = fitter_of(world)
    prepared.prepare()
    assert torch.equal(prepared.fit(likes, NOTHING), fitter_of(world).fit(likes, NOTHING))


def test_distinct_outfits() -> None:
    outfits = np.array([[2, 1, 5, ABSENT], [1, 2, 5, ABSENT], [0, ABSENT, 4, 6], [2, 1, 5, ABSENT]])
    wanted = [[0, ABSENT, 4, 6], [1, 2, 5, ABSENT]]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]):
        assert sorted(distinct_outfits(outfits[order]).tolist()) == wanted


def test_what_is_liked_cannot_be_disliked() -> None:
    likes: list[OutfitIds] = [("t1", None, "b1", "s1"), ("t1", "t2", "b1", "s1")]
    check_opinions(likes, [("t1", "t3", "b1", "s1")])
    with pytest.raises(DataError, match="2 outfit") as caught:
        check_opinions(likes, [("t2", "t1", "b1", "s1"), ("t4", None, "b1", "s1"), likes[0]])
    assert [problem.row for problem in caught.value.problems] == [1, 3]


def test_wrong_shapes_are_refused(world: tuple[Pan, ItemInputs]) -> None:
    coder = ItemCoder(*world)
    eyes = torch.zeros(2, 24)
    for embeddings, liked in [(eyes[:0], draw_outfits().items), (eyes[0], draw_outfits().items), (eyes, NOTHING)]:
        with pytest.raises(ValueError, match="wanted embeddings"):
            NewcomerFitter(coder, embeddings, liked)
    with pytest.raises(ValueError, match="must be positive"):
        NewcomerFitter(coder, eyes, draw_outfits().items, num_references=0)
    with pytest.raises(ValueError, match="wanted outfits"):
        fitter_of(world).fit(NOTHING[:, :3], NOTHING)


NEWCOMER = Newcomer(
    "Zoë", (("t1", None, "b\u00e9", "s1"),), (("t2", "t3", "b1", None),), torch.tensor([0.1, -1 / 3, 1e-30, 0.0])
)


def test_a_file_brings_him_back(tmp_path: Path) -> None:
    path = write_newcomer(tmp_path / "zoe.json", NEWCOMER, model="abc")
    found = read_newcomer(path, model="abc")
    assert (found.name, found.likes, found.dislikes) == (NEWCOMER.name, NEWCOMER.likes, NEWCOMER.dislikes)
    assert torch.equal(found.embedding, NEWCOMER.embedding)
    assert [each.name for each in tmp_path.iterdir()] == ["zoe.json"]


def test_of_another_model_he_is_refused_or_made_again(tmp_path: Path) -> None:
    path = write_newcomer(tmp_path / "zoe.json", NEWCOMER, model="abc")
    with pytest.raises(CheckpointError, match="another model"):
        read_newcomer(path, model="abd")
    asked = []

    def refit(likes: Sequence[OutfitIds], dislikes: Sequence[OutfitIds]) -> Tensor:
        asked.append((likes, dislikes))
        return torch.ones(7)

    assert torch.equal(read_newcomer(path, model="abd", refit=refit).embedding, torch.ones(7))
    assert asked == [(NEWCOMER.likes, NEWCOMER.dislikes)]
    assert torch.equal(read_newcomer(path, model="abc", refit=refit).embedding, NEWCOMER.embedding)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format 2"),
        ({"name": None}, '"name"'),
        ({"model": 3}, '"name" and "model"'),
        ({"likes": [["t1"], "t2"]}, '"likes"'),
        ({"dislikes": [[4]]}, '"dislikes"'),
        ({"embedding": [0.5, "1"]}, '"embedding"'),
        ({"embedding": []}, '"embedding"'),
        ({"embedding": [float("nan")]}, "not finite"),
        ({"embedding": [1e99]}, "not finite"),
    ],
)
def test_a_damaged_file_says_what_is_wrong(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = write_newcomer(tmp_path / "zoe.json", NEWCOMER, model="abc")
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), "utf-8")
    with pytest.raises(DataError, match=said) as caught:
        read_newcomer(path, model="abc")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe\x00", b"[" * 100_000])
def test_what_is_no_newcomer(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "zoe.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        read_newcomer(path, model="abc")


def test_files_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_newcomer(tmp_path / "nobody.json", model="abc")
    with pytest.raises(DataError, match="cannot be written"):
        write_newcomer(tmp_path / "nowhere" / "zoe.json", NEWCOMER, model="abc")


def test_a_fingerprint_sees_every_weight() -> None:
    model, _ = make()
    before = model_fingerprint(model)
    assert before == model_fingerprint(make()[0])
    for weight in model.parameters():
        with torch.no_grad():
            weight.view(-1)[-1] += 1e-3
            assert model_fingerprint(model) != before
            weight.view(-1)[-1] -= 1e-3


def test_the_study_holds_a_fold_out(tiny_dataset: Dataset) -> None:
    dataset = complete(tiny_dataset, seed=0)
    seen = newcomers.without(dataset, 2)
    splits: tuple[Split, ...] = ("train", "val")
    for split in splits:
        assert set(dataset.likes[split].users) == {0, 1, 2, 3, 4}
        assert set(seen.likes[split].users) == {0, 1, 3, 4}
    assert set(seen.negatives["val", "random"].users) == {0, 1, 3, 4}
    assert set(seen.likes["test"].users) == set(seen.fitb["test"].outfits.users) == {0, 1, 2, 3, 4}
    asked = newcomers.of_users(seen, np.array([2]))
    for outfits in (asked.likes["test"], asked.negatives["test", "hard"], asked.fitb["test"].outfits):
        assert set(outfits.users) == {2}
    more, fewer = (newcomers.draw_likes(dataset, 2, count, 1) for count in (2, 1))
    own = {tuple(outfit) for outfit in dataset.likes["train"].take(dataset.likes["train"].users == 2).items}
    assert {tuple(outfit) for outfit in more} == own
    assert np.array_equal(more[:1], fewer)


def test_the_study_tells_the_share_of_the_way() -> None:
    mean, own, full = (
        {name: np.array(values) for name in newcomers.MEASURES}
        for values in ([0.3, 0.5, 0.7], [0.6, 0.8, 1.0], [0.7, 0.9, 1.1])
    )
    shown = newcomers.summary(own, mean, full)["auc_hard"]
    assert shown["value"] == 0.8
    assert shown["share_of_the_way"] == 0.75
    assert shown["share_ci95"] == [0.75, 0.75]  # every user is three quarters there
    assert shown["ci95"][0] < 0.8 < shown["ci95"][1]
