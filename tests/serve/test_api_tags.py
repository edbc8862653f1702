"""ETag and If-None-Match: the same answer is told to be the same, another one is another."""

from collections.abc import Iterator

import pytest

from panfit.serve.api.tags import CatalogueState
from tests.serve.shop_service import Shop, make_recommender, open_shop, outfit

ADDRESSES = [
    "/v1/users?limit=3",
    "/v1/users/ann",
    "/v1/slots",
    "/v1/items?limit=3",
    "/v1/items/top-0",
    "/v1/recommendations?user=ann&top=3",
    "/v1/similar-users?user=ann",
    "/v1/similar-items?user=ann&item=top-0",
    "/v1/explanation.png?user=ann&item=top-0&item=bottom-0&item=",
]
ABOUT = [address for address in ADDRESSES if "user=ann" in address]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.mark.parametrize("address", ADDRESSES)
def test_what_is_held_is_not_sent_again(shop: Shop, address: str) -> None:
    first = shop.client.get(address)
    assert first.status_code == 200
    tag = first.headers["etag"]
    assert tag.startswith('"')
    assert tag.endswith('"')
    for held in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = shop.client.get(address, headers={"If-None-Match": held})
        assert again.status_code == 304
        assert again.content == b""
        assert again.headers["etag"] == tag
        assert again.headers["cache-control"] == first.headers["cache-control"] == "private, no-cache"
    for held in ('"other"', tag.strip('"'), "", tag[:-2] + '"'):
        other = shop.client.get(address, headers={"If-None-Match": held})
        assert other.status_code == 200
        assert other.content == first.content


def test_every_answer_has_a_tag_of_its_own(shop: Shop) -> None:
    addresses = [*ADDRESSES, "/v1/recommendations?user=ann&top=4", "/v1/recommendations?user=new-user&top=3"]
    tags = {shop.client.get(address).headers["etag"] for address in addresses}
    assert len(tags) == len(addresses)


@pytest.mark.parametrize("address", ABOUT)
def test_a_newcomers_tag_changes_with_him(shop: Shop, address: str) -> None:
    newcomer = shop.client.post("/v1/newcomers", json={"likes": [outfit(1, 1, 1)]}).json()
    address = address.replace("user=ann", f"user={newcomer['id']}")
    tag = shop.client.get(address).headers["etag"]
    assert shop.client.get(address, headers={"If-None-Match": tag}).status_code == 304
    shop.client.post(f"/v1/newcomers/{newcomer['id']}/likes", json={"outfits": [outfit(2, 2, 2)]})
    changed = shop.client.get(address, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag
    shop.client.delete(f"/v1/newcomers/{newcomer['id']}")
    assert shop.client.get(address, headers={"If-None-Match": "*"}).status_code == 404


def test_the_state_is_of_the_model_and_of_what_is_offered(tmp_path_factory: pytest.TempPathFactory) -> None:
    recommender, same = (make_recommender(tmp_path_factory.mktemp("shop")) for _ in range(2))
    state = CatalogueState(recommender)
    first = state.state()
    assert state.state() == first == CatalogueState(same).state()
    recommender.withdraw(["top-0"])
    withdrawn = state.state()
    assert withdrawn != first
    recommender.offer(["top-0"])
    assert state.state() == first
    same.pan.predictor.get_parameter(next(name for name, _ in same.pan.predictor.named_parameters())).data.add_(1)
    assert CatalogueState(same).state() != first
