"""The page, in process: what it shows, what it refuses, and that all of it works without a script."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
from httpx2 import Response
from PIL import Image

from panfit.recommend import Recommender
from panfit.serve.engine import BusyError
from panfit.serve.page.render import FILES, local
from panfit.serve.page.show import part, url
from panfit.serve.page.visit import MAX_COOKIE_BYTES, MAX_MINE, MAX_WARDROBE, Visit, Visits, add_to_wardrobe
from panfit.serve.page.wall import make_wall
from panfit.serve.session import Session
from tests.serve.shop_service import Shop, item, make_recommender, open_shop, outfit

PART = {"HX-Request": "true"}
EYES = ("ann", "bob/eve?", "Zoë 100%", "..")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path) as shop:
        yield shop


@pytest.fixture(scope="module")
def recommender(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    return make_recommender(tmp_path_factory.mktemp("shop"))


class Html(HTMLParser):
    """A page's elements: (tag, attributes), and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [found for name, found in self.elements if name == tag and wanted.items() <= found.items()]


def show(shop: Shop, path: str, *params: dict[str, Any], status: int = 200, **more: Any) -> Html:
    response = shop.client.get(url(path, *params, **more))
    assert response.status_code == status, response.text
    return Html(response.text)


def csrf(shop: Shop) -> str:
    (first, *_) = show(shop, "/photos", user="ann").all("input", name="csrf")
    assert first["value"]
    return first["value"]


def send(shop: Shop, path: str, *, headers: dict[str, str] | None = None, **fields: Any) -> Response:
    return shop.client.post(path, data={"csrf": csrf(shop)} | fields, headers=headers or {})


def like(shop: Shop, *worn: tuple[str | None, ...], liked: str = "yes", **fields: Any) -> Response:
    for each in worn:
        response = send(shop, "/opinion", item=[name or "" for name in each], liked=liked, **fields)
        assert response.status_code == 303, response.text
    return response


LIKED = (outfit(0, 0, 0), outfit(1, 1, 1), outfit(2, 2, None), outfit(None, 3, 2))


def test_front_page_offers_every_person(shop: Shop) -> None:
    html = show(shop, "/")
    people = [link["href"] for link in html.all("a", class_="person")]
    assert [dict(parse_qsl(urlsplit(href or "").query))["user"] for href in people] == list(
        shop.recommender.dataset.user_ids
    )
    assert len(html.all("h1")) == 1
    found = [link["href"] for link in show(shop, "/people", q="ZOË").all("a", class_="person")]
    assert found == [url("/outfits", user="Zoë 100%")]
    assert "Nobody of that name" in show(shop, "/people", q="nobody at all").text


@pytest.mark.parametrize("user", EYES)
@pytest.mark.parametrize("source", ["known", "composed"])
def test_outfits_are_the_recommenders(shop: Shop, recommender: Recommender, user: str, source: Any) -> None:
    html = show(shop, "/outfits", user=user, source=source, wait="true")
    shown = [dict_of(link["href"]) for link in html.all("a", class_="photos")]
    wanted, _ = recommender.recommend(user, 12, source=source)
    assert [query["item"] for query in shown] == [[name or "" for name in each] for each in wanted]
    assert {query["user"][0] for query in shown} == {user}
    general, personal = recommender.score_parts(user, wanted)
    numbers = [found.get("aria-label") or "" for found in html.all("svg", role="img")]
    assert numbers[0].endswith(f"{general[0]:+.2f}")
    assert numbers[1].endswith(f"{personal[0]:+.2f}")


def dict_of(href: str | None) -> dict[str, list[str]]:
    query: dict[str, list[str]] = {}
    for name, value in parse_qsl(urlsplit(href or "").query, keep_blank_values=True):
        query.setdefault(name, []).append(value)
    return query


def test_slow_answers_come_after_the_page(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panfit.serve.page.desk.SOON_S", 0.0)
    html = show(shop, "/outfits", user="ann")
    (waiting,) = html.all("div", class_="waiting")
    assert not html.all("a", class_="photos")
    (refresh,) = [meta for meta in html.all("meta") if meta.get("http-equiv") == "refresh"]  # without a script
    assert "wait=true" in (refresh["content"] or "")
    assert len(show(shop, waiting["hx-get"] or "").all("a", class_="photos")) == 12
    assert html.all("progress")
    assert show(shop, "/progress").all("progress")


def test_whole_story_without_a_script(shop: Shop) -> None:
    wall = show(shop, "/fresh")
    forms = wall.all("form", action="/opinion")
    assert forms
    assert "3 more likes" in wall.text
    answer = like(shop, *LIKED[:3], back="/fresh")
    assert answer.headers["location"] == "/fresh"
    after = show(shop, "/fresh")
    assert "For you, so far" in after.text
    mine = show(shop, "/outfits", wait="true")
    assert "What suits you" in mine.text
    known = {tuple(each) for each in LIKED[:3]}
    assert not known & {
        tuple(name or None for name in dict_of(a["href"])["item"]) for a in mine.all("a", class_="photos")
    }
    assert "user=" not in "".join(a["href"] or "" for a in mine.all("a", class_="photos"))
    like(shop, LIKED[3], liked="no")
    known_of_me = show(shop, "/me")
    assert len(known_of_me.all("article")) == 4
    assert len(known_of_me.all("button", **{"aria-pressed": "true"})) == 4
    like(shop, LIKED[3], liked="none")
    assert len(show(shop, "/me").all("article")) == 3
    assert "For good?" in show(shop, "/me/erase").text
    assert send(shop, "/me/erase").headers["location"] == "/me/erase"  # not sure
    assert len(show(shop, "/me").all("article")) == 3
    assert send(shop, "/me/erase", sure="yes").headers["location"] == "/"
    assert "Erased for good" in show(shop, "/").text
    assert shop.client.get("/me").headers["location"] == "/fresh"
    assert shop.app.state.service.likes.count() == 0


def test_liking_for_a_user_of_the_model_continues_as_him(shop: Shop) -> None:
    new = outfit(8, 6, 3)
    answer = like(shop, new, user="bob/eve?", back="/outfits?source=composed")
    assert answer.headers["location"] == "/outfits?source=composed"
    assert "You continue as bob/eve?" in show(shop, "/outfits", wait="true").text
    (newcomer,) = profiles(shop)
    dataset = shop.recommender.dataset
    train = dataset.likes["train"]
    rows = train.items[train.users == dataset.user_rows(["bob/eve?"])[0]]
    own = dict.fromkeys(dataset.catalogue.ids(row) for row in rows.tolist())
    assert [each.outfit for each in newcomer.opinions] == [*own, new]
    assert all(each.liked for each in newcomer.opinions)
    like(shop, outfit(7, 5, 1), user="ann", liked="no")
    assert len(profiles(shop)) == 2
    assert send(shop, "/me/switch", place="0").headers["location"] == "/me"
    assert len(show(shop, "/me").all("article")) == len(newcomer.opinions)
    assert send(shop, "/me/switch", place="2").status_code == 422


def profiles(shop: Shop) -> list[Any]:
    visit = Visits(shop.app.state.session, secure=False)
    fields = visit._fields(shop.client.cookies["panfit_page"])
    assert fields is not None
    return [shop.app.state.service.likes.get(each) for each in fields["mine"]]


def test_a_newcomers_id_stands_on_no_page(shop: Shop) -> None:
    like(shop, *LIKED[:3])
    (profile,) = profiles(shop)
    for path in ("/", "/fresh", "/outfits?wait=true", "/me", "/me/erase", "/wardrobe", "/photos"):
        assert profile.id not in shop.client.get(path).text
    assert shop.client.get(url("/outfits", user=profile.id)).status_code == 404


def test_likes_by_htmx_answer_with_parts(shop: Shop) -> None:
    answer = send(shop, "/opinion", headers=PART, item=[name or "" for name in LIKED[0]], liked="yes", back="/fresh")
    assert answer.status_code == 200
    assert answer.headers["HX-Trigger"] == "opinions-changed"
    html = Html(answer.text)
    assert "<html" not in answer.text
    (undo,) = html.all("button", class_="link")
    assert undo["value"] == "none"
    (pressed, other) = html.all("button", name="liked")[:2]
    assert (pressed["aria-pressed"], other["aria-pressed"]) == ("true", "false")
    again = send(shop, "/opinion", headers=PART, item=[name or "" for name in LIKED[0]], liked="no", back="/fresh")
    (undo,) = Html(again.text).all("button", class_="link")
    assert undo["value"] == "yes"  # what it was before
    continued = send(shop, "/opinion", headers=PART, item=[name or "" for name in LIKED[1]], liked="yes", user="ann")
    assert (continued.status_code, continued.headers["HX-Redirect"]) == (204, "/outfits")


def test_look_tells_parts_and_swap(shop: Shop, recommender: Recommender) -> None:
    worn = outfit(1, 1, 1)
    html = show(shop, "/look", user="ann", item=[name or "" for name in worn], against="..", wait="true")
    wanted = recommender.explain("ann", worn, against="..")
    for number in (wanted.score, wanted.general, wanted.personal, *wanted.by_item.values(), *wanted.by_pair.values()):
        assert f"{number:+.2f}" in html.text
    assert wanted.against is not None
    assert f"{wanted.against.score:+.2f}" in html.text
    assert wanted.swap is not None
    swapped = [
        wanted.swap.add if slot == wanted.swap.slot else name for slot, name in zip(wanted.slots, worn, strict=True)
    ]
    (apply,) = [link for link in html.all("a", class_="button") if "/look" in (link["href"] or "")]
    assert dict_of(apply["href"])["item"] == swapped
    pictures = [image["src"] or "" for image in html.all("img") if "/look/heat" in (image["src"] or "")]
    assert len(pictures) == 6
    drawn = [shop.client.get(address) for address in pictures]
    assert {each.status_code for each in drawn} == {200}
    assert len({each.content for each in drawn}) == 6  # each garment, through each pair of eyes
    sizes = {Image.open(BytesIO(each.content)).size for each in drawn}
    assert len(sizes) == 1
    (width, height) = sizes.pop()
    assert abs(width / height - 40 / 50) < 0.01  # the photo's shape, without the ground around it


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"user": "nobody"}, 404),
        ({"user": "ann", "against": "nobody"}, 404),
        ({"user": "ann", "item": ["no item", "", ""]}, 404),
        ({"user": "ann", "item": ["", "", ""]}, 422),
        ({"user": "ann", "item": ["shoe-0", "", ""]}, 422),
        ({"user": "ann", "item": ["top-0"]}, 422),
        ({"user": "ann", "look": "sideways"}, 422),
    ],
)
def test_look_says_what_is_wrong(shop: Shop, query: dict[str, Any], status: int) -> None:
    html = show(shop, "/look", {"item": ["top-0", "bottom-0", "shoe-0"]} | query, status=status)
    assert len(html.all("h1")) == 1
    assert "Traceback" not in html.text


def test_gap_is_filled_as_the_recommender_would(shop: Shop, recommender: Recommender) -> None:
    html = show(shop, "/complete", user="ann", item=["top-0", "bottom-0", "shoe-0"], open="bottom", wait="true")
    wanted, _ = recommender.complete("ann", {"top": "top-0", "shoe": "shoe-0"}, 12, slots=["bottom"])
    assert [dict_of(link["href"])["item"] for link in html.all("a", class_="piece")] == [list(each) for each in wanted]
    assert "was there" in html.text
    show(shop, "/complete", user="ann", item=["top-0", "bottom-0", "shoe-0"], open="hat", status=404)
    show(shop, "/complete", user="ann", item=["top-0", "", ""], open="top", status=422)


def test_wardrobe_is_kept_in_the_cookie_and_composed_from(shop: Shop, recommender: Recommender) -> None:
    own = [item(name) for name in ("top-1", "top-2", "bottom-1", "bottom-2", "shoe-1", "shoe-2")]
    assert send(shop, "/wardrobe", wish="add", piece=own, user="ann").status_code == 303
    html = show(shop, "/wardrobe", user="ann")
    assert len(html.all("button", class_="thumb")) == 6
    composed = show(shop, "/wardrobe/outfits", user="ann", wait="true")
    wanted, _ = recommender.complete("ann", {}, 12, among=own, repeat=3)
    assert [dict_of(link["href"])["item"] for link in composed.all("a", class_="photos")] == [list(x) for x in wanted]
    part_of_page = send(
        shop, "/wardrobe", headers=PART, wish="remove", piece=own[0], user="ann", tray="yes", shown="yes"
    )
    assert part_of_page.status_code == 200
    assert part_of_page.text.count("hx-swap-oob") == 3
    assert len(show(shop, "/wardrobe").all("button", class_="thumb")) == 5
    assert send(shop, "/wardrobe", wish="add", piece="no such thing").status_code == 404
    send(shop, "/wardrobe", wish="empty")
    assert not show(shop, "/wardrobe").all("button", class_="thumb")
    show(shop, "/wardrobe/outfits", user="ann", wait="true", status=422)  # nothing to compose from


def test_rack_is_filtered(shop: Shop) -> None:
    shown = show(shop, "/wardrobe", category="shoe").all("form", class_="piece hanger")
    assert len(shown) == 6
    assert len(show(shop, "/wardrobe/rack", q="TOP-3").all("form", class_="piece hanger")) == 1
    first = show(shop, "/wardrobe/rack", page=0).all("form", class_="piece hanger")
    assert len(first) == 22
    assert show(shop, "/wardrobe/rack", page=1).all("form", class_="piece hanger") == []


def test_uploaded_photos_are_scored(shop: Shop, recommender: Recommender) -> None:
    picture = Image.fromarray(np.random.default_rng(2).integers(0, 256, (30, 20, 3), dtype=np.uint8))
    file = BytesIO()
    picture.save(file, "PNG")
    fields = {"csrf": csrf(shop), "user": "ann", "piece.bottom": "bottom-0", "piece.shoe": ""}
    answer = shop.client.post("/photos", data=fields, files={"photo.top": ("x.png", file.getvalue(), "image/png")})
    wanted = recommender.score("ann", [[picture, "bottom-0", None]])
    assert answer.status_code == 200
    assert f"{wanted[0]:+.2f}" in answer.text
    bad = shop.client.post("/photos", data=fields, files={"photo.top": ("x.png", b"<svg/>", "image/png")})
    assert bad.status_code in (415, 422)
    assert "<svg/>" not in bad.text
    nothing = shop.client.post("/photos", data=fields | {"piece.bottom": ""})
    assert nothing.status_code == 422
    alone = shop.client.post("/photos", data=fields | {"piece.shoe": "shoe-0"})
    assert f"{recommender.score('ann', [[None, 'bottom-0', 'shoe-0']])[0]:+.2f}" in alone.text


PAGES = ["/", "/fresh", "/wardrobe", "/photos?user=ann"] + [
    url(path, user="ann", wait="true", item=[item("top-1"), item("bottom-2"), item("shoe-2")], open="top")
    for path in ("/look", "/complete")
]


@pytest.mark.parametrize("path", PAGES)
def test_hostile_ids_and_titles_stay_text(shop: Shop, path: str) -> None:
    """Titles hold "<i>", ids quotes, "<b>" and slashes; no tag and no handler comes of them."""
    send(shop, "/wardrobe", wish="add", piece=[item("top-1"), item("shoe-2")])
    response = shop.client.get(path)
    html = Html(response.text)
    assert "&lt;i&gt;" in response.text  # as text it is there
    assert not re.search(r"bottom-\d <i>|top-\d <i>|shoe-\d <i>", response.text)
    assert 'quoted" <b>' not in response.text
    for tag, attributes in html.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
        assert not str(attributes.get("href", "")).lower().startswith(("javascript:", "//", "http"))
    assert all("src" in script for script in html.all("script"))
    assert not re.search(r"<style|hx-on|javascript:", response.text)
    sources = [str(found[name]) for _, found in html.elements for name in ("src", "href") if found.get(name)]
    assert all(source.startswith(("/", "#")) for source in sources)


def test_forms_from_elsewhere_are_refused(shop: Shop) -> None:
    fields = {"item": ["top-0", "bottom-0", "shoe-0"], "liked": "yes"}
    token = csrf(shop)
    assert shop.client.post("/opinion", data=fields).status_code == 403
    assert shop.client.post("/opinion", data=fields | {"csrf": "0" * 64}).status_code == 403
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert shop.client.post("/opinion", data=fields | {"csrf": token}, headers=foreign).status_code == 403
    assert shop.client.post("/opinion", data=fields, headers={"X-CSRF-Token": token}).status_code == 303
    shop.client.cookies.clear()
    assert shop.client.post("/opinion", data=fields | {"csrf": token}).status_code == 403
    for path in ("/wardrobe", "/photos", "/me/switch", "/me/leave", "/me/erase", "/login", "/logout"):
        assert shop.client.post(path, data={"sure": "yes"}).status_code == 403
    assert shop.app.state.service.likes.count() == 1


def test_troubles_in_parts_become_messages(shop: Shop) -> None:
    answer = shop.client.get(url("/outfits/answers", user="nobody"), headers=PART)
    assert (answer.status_code, answer.headers["HX-Retarget"]) == (404, "#messages")
    assert "<html" not in answer.text


def test_a_busy_service_asks_for_patience(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def busy(query: object) -> None:
        raise BusyError("too many questions are waiting")

    monkeypatch.setattr(shop.app.state.service.engine, "ask", busy)
    assert "A moment, please" in show(shop, "/outfits", user="ann", wait="true", status=503).text


@pytest.mark.parametrize(
    ("address", "is_ours"),
    [
        ("/outfits?source=composed", True),
        ("/", True),
        ("//evil.example/", False),
        ("https://evil.example/", False),
        ("/\\evil.example", False),
        ("\\\\evil.example", False),
        ("javascript:alert(1)", False),
        ("/\nSet-Cookie: a=b", False),
        ("", False),
    ],
)
def test_only_our_own_addresses_are_gone_back_to(address: str, is_ours: bool) -> None:
    assert local(address) == (address if is_ours else "/")


def test_files_are_ours_alone(shop: Shop) -> None:
    for name in FILES:
        response = shop.client.get(f"/page/{name}")
        assert response.status_code == 200
        assert "immutable" in response.headers["Cache-Control"]
    assert shop.client.get("/page/../routes.py").status_code == 404
    assert shop.client.get("/page/%2e%2e%2froutes.py").status_code == 404
    assert "http" not in "".join(re.findall(r"url\((.*?)\)", shop.client.get("/page/style.css").text))


def test_pages_are_in_no_openapi(shop: Shop) -> None:
    paths = shop.client.get("/openapi.json").json()["paths"]
    assert not [path for path in paths if path in ("/", "/fresh", "/opinion") or path.startswith("/page")]


def test_login_keeps_a_cookie_that_is_not_the_token(tmp_path: Path) -> None:
    token = "a-very-secret-token"
    with open_shop(tmp_path, token=token) as shop:
        page = Html(shop.client.get("/login").text)
        (field,) = page.all("input", name="csrf")
        fields = {"csrf": field["value"], "back": "/wardrobe"}
        wrong = shop.client.post("/login", data=fields | {"token": "guess"})
        assert wrong.status_code == 401
        assert "panfit_login" not in wrong.cookies
        right = shop.client.post("/login", data=fields | {"token": token})
        assert (right.status_code, right.headers["location"]) == (303, "/wardrobe")
        assert token not in str(right.headers)
        assert shop.client.get("/wardrobe").status_code == 200


def test_visits_are_signed_and_bounded() -> None:
    visits = Visits(Session(b"k" * 32), secure=True)
    visit = Visit("a" * 32)
    for number in range(MAX_MINE + 3):
        visit.become(f"new-{number:032x}")
    assert len(visit.mine) == MAX_MINE
    assert visit.mine[-1] == visit.me
    assert add_to_wardrobe(visits, visit, [f"item-{number}" for number in range(MAX_WARDROBE)])
    assert not add_to_wardrobe(visits, visit, ["one more"])
    assert not add_to_wardrobe(visits, Visit("b"), ["x" * MAX_COOKIE_BYTES])
    assert len(visit.wardrobe) == MAX_WARDROBE
    visit.leave(str(visit.me))
    assert visit.me == visit.mine[-1]


def test_wall_shows_every_taste_in_turn(recommender: Recommender) -> None:
    wall = make_wall(recommender, tastes=3, most=9)
    likes = recommender.dataset.likes["train"]
    liked = {recommender.dataset.catalogue.ids(row) for row in likes.items.tolist()}
    assert len(set(wall)) == len(wall) == 9
    assert set(wall) <= liked
    assert wall == make_wall(recommender, tastes=3, most=9)
    first = [name for each in wall[:3] for name in each if name is not None]
    assert len(set(first)) == len(first)  # of the first ones, no piece twice
    assert len(make_wall(recommender)) == len(liked)


@pytest.mark.parametrize(
    ("value", "x", "width"), [(2.0, 50, 50), (-2.0, 0, 50), (1.0, 50, 25), (-1.0, 25, 25), (9, 50, 50)]
)
def test_bars(value: float, x: float, width: float) -> None:
    drawn = part(value, 2.0)
    assert (drawn.x, drawn.width) == (x, width)
    assert drawn.is_good == (value > 0)
