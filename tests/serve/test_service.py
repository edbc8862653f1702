"""Whoever an id means: a user of the model, a newcomer made of what the database holds now, or nobody."""

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
import torch

from panfit.errors import UnknownIdError
from panfit.features.inputs import ItemInputs
from panfit.newcomers import Newcomer
from panfit.outfits import Dataset
from panfit.recommend import Recommender
from panfit.serve.engine import Engine
from panfit.serve.likes import LikesStore
from panfit.serve.service import KEPT_NEWCOMERS, Service
from panfit.serve.settings import ServeConfig
from tests.test_recommend import CONFIG, draw_photos, make_model


@pytest.fixture
def service(tiny_dataset: Dataset, tmp_path: Path) -> Iterator[Service]:
    categories = torch.from_numpy(tiny_dataset.catalogue.category_rows.copy())
    inputs = ItemInputs(draw_photos(tiny_dataset), categories, None, CONFIG.images)
    engine = Engine(Recommender(make_model(tiny_dataset), tiny_dataset, inputs))
    config = ServeConfig(database=f"sqlite:///{tmp_path / 'likes.db'}")
    likes = LikesStore(config.database)
    likes.open()
    engine.start()
    yield Service(engine, likes, config)
    engine.stop()
    likes.close()


def outfits_of(service: Service) -> list[tuple[str | None, ...]]:
    return [service.dataset.catalogue.ids(row) for row in service.dataset.likes["train"].items.tolist()]


def test_a_user_of_the_model_is_himself(service: Service) -> None:
    assert anyio.run(service.user, "u1") == "u1"


@pytest.mark.parametrize("nobody", ["u-1", "", "new-", "new-" + "0" * 32, "../likes.db", "new-" + "F" * 32])
def test_nobody(service: Service, nobody: str) -> None:
    with pytest.raises(UnknownIdError):
        anyio.run(service.user, nobody)


def test_a_newcomer_is_what_the_library_makes_of_his_opinions(service: Service) -> None:
    liked, disliked = outfits_of(service)[:3], outfits_of(service)[5:6]
    profile = service.likes.create("eve", liked, disliked)
    eve = anyio.run(service.user, profile.id)
    assert isinstance(eve, Newcomer)
    assert (eve.name, list(eve.likes), list(eve.dislikes)) == ("eve", liked, disliked)
    torch.testing.assert_close(
        eve.embedding, service.engine.recommender.newcomer(liked, disliked).embedding, rtol=0, atol=0
    )
    assert anyio.run(service.user, profile.id) is eve, "the same state is made once"


def test_a_newcomer_follows_the_database(service: Service) -> None:
    profile = service.likes.create("eve")
    before = anyio.run(service.user, profile.id)
    service.likes.put(profile.id, outfits_of(service)[:2], liked=True)  # as another process may
    after = anyio.run(service.user, profile.id)
    assert isinstance(before, Newcomer)
    assert isinstance(after, Newcomer)
    assert not torch.equal(before.embedding, after.embedding)
    service.likes.forget(profile.id)
    service.forget(profile.id)
    with pytest.raises(UnknownIdError):
        anyio.run(service.user, profile.id)
    assert not service._newcomers


def test_opinions_on_items_that_are_gone_do_not_count(service: Service) -> None:
    known = outfits_of(service)[0]
    profile = service.likes.create("eve", [known, ("sold-out", *known[1:])], [(*known[:2], "gone")])
    eve = anyio.run(service.user, profile.id)
    assert isinstance(eve, Newcomer)
    assert (eve.likes, eve.dislikes) == ((known,), ())
    assert service.known(profile).gone == 2


def test_newcomers_held_are_bounded(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    assert KEPT_NEWCOMERS > 100
    monkeypatch.setattr("panfit.serve.service.KEPT_NEWCOMERS", 2)
    profiles = [service.likes.create(name) for name in "abc"]
    made = [anyio.run(service.newcomer, profile) for profile in profiles]
    assert anyio.run(service.newcomer, profiles[2]) is made[2]
    assert anyio.run(service.newcomer, profiles[0]) is not made[0]
