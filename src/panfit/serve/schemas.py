"""SCHEMAS: what the HTTP API takes and gives, as strict pydantic models with examples."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from panfit.answers import Alike
from panfit.ids import OutfitIds
from panfit.outfits import Slot
from panfit.serve.likes import Opinion, Profile
from panfit.serve.queries import Ranked

ID_LENGTH = 1024
"""Characters of an id; longer ones are refused before anybody looks for them."""
NAME_LENGTH = 100
USER, TITLE = "user", "title."
"""Of a form with photos: the part that says for whom, and how a part begins that gives a slot's photo its title."""
TITLE_LENGTH = 1000

Id = Annotated[str, Field(max_length=ID_LENGTH)]
OutfitIn = Annotated[
    list[Id | None],
    Field(
        description="Item ids in the order of the slots, null where nothing is worn.",
        max_length=64,
        examples=[["top-1", "bottom-2", None]],
    ),
]
Top = Annotated[int, Field(ge=1, description="How many answers; fewer come where there are fewer.")]
UserIn = Annotated[Id, Field(description="The id of a user of the model, or of a newcomer.", examples=["u001"])]


def example(value: dict[str, Any]) -> ConfigDict:
    """Of a request: nothing that is not named, no value of another type."""
    return ConfigDict(strict=True, extra="forbid", frozen=True, json_schema_extra={"examples": [value]})


class CompleteIn(BaseModel):
    """What is worn already, and what may be chosen."""

    model_config = example({"user": "u001", "given": {"top": "top-1", "bottom": "bottom-2"}, "top": 5})

    user: UserIn
    given: dict[Id, Id] = Field(
        default={}, description="Slot name -> id of the item that is worn there.", max_length=64
    )
    top: Top = 10
    slots: list[Id] | None = Field(default=None, description="Names of the slots to fill; every open one if not given.")
    among: list[Id] | None = Field(
        default=None, description="Ids of the items to choose from, such as one's own wardrobe."
    )
    exclude: list[Id] = Field(default=[], description="Ids of items not to choose.")


class ComposeIn(CompleteIn):
    """What whole outfits are composed around, and of what."""

    model_config = example({"user": "u001", "given": {"shoe": "shoe-3"}, "top": 5, "repeat": 2})

    repeat: int | None = Field(default=2, ge=1, description="In how many answers an item may appear; null: in all.")


class ScoreIn(BaseModel):
    """Outfits to score for one user."""

    model_config = example({"user": "u001", "outfits": [["top-1", "bottom-2", "shoe-3"], ["top-4", None, "shoe-3"]]})

    user: UserIn
    outfits: list[OutfitIn] = Field(min_length=1)


class ExplainIn(BaseModel):
    """The outfit to explain, and perhaps a second user to compare with."""

    model_config = example({"user": "u001", "outfit": ["top-1", "bottom-2", "shoe-3"], "against": "u002"})

    user: UserIn
    outfit: OutfitIn
    against: UserIn | None = None


class NewcomerIn(BaseModel):
    """Somebody whom the model does not know yet."""

    model_config = example({"name": "eve", "likes": [["top-1", "bottom-2", "shoe-3"]]})

    name: str = Field(
        default="newcomer",
        min_length=1,
        max_length=NAME_LENGTH,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description="What answers call him.",
    )
    likes: list[OutfitIn] = Field(default=[], description="Outfits that he likes.")
    dislikes: list[OutfitIn] = Field(default=[], description="Outfits that he does not like.")
    like_user: UserIn | None = Field(
        default=None, description="A user of the model whose train likes become his likes too."
    )


class OutfitsIn(BaseModel):
    """Outfits that a newcomer has an opinion on."""

    model_config = example({"outfits": [["top-1", "bottom-2", "shoe-3"]]})

    outfits: list[OutfitIn] = Field(min_length=1)


class UserOut(BaseModel):
    """Somebody who can be asked about."""

    id: str
    likes: int = Field(description="Outfits that he is known to like; of the model's users, those it was trained with.")
    is_newcomer: bool


class UsersOut(BaseModel):
    """A page of the model's users."""

    users: list[UserOut]
    next: str | None = Field(description="What `after` must be for the next page; null on the last one.")


class ItemOut(BaseModel):
    """An item of the catalogue."""

    id: str
    category: str
    title: str | None
    photo: str | None = Field(description="Where its thumbnail is (`size` may be added); null where it has none.")


class ItemsOut(BaseModel):
    """A page of the catalogue."""

    items: list[ItemOut]
    next: str | None = Field(description="What `after` must be for the next page; null on the last one.")


class SlotOut(BaseModel):
    """A place in an outfit."""

    name: str
    category: str


class SlotsOut(BaseModel):
    """The places of an outfit, in the order in which outfits are written."""

    slots: list[SlotOut]


class SimilarUser(BaseModel):
    """A user, and how near his taste is."""

    id: str
    cosine: float = Field(description="Between the two users' embeddings.")


class SimilarItem(BaseModel):
    """An item, and how alike it looks to a user."""

    id: str
    equal_bits: float = Field(description="Share of the bits of the two codes that are equal, between 0 and 1.")


class OutfitOut(BaseModel):
    """An outfit and its score."""

    items: dict[str, str | None] = Field(
        description="Slot name -> item id, null where nothing is worn.",
        examples=[{"top": "top-1", "bottom": "bottom-2", "shoe": None}],
    )
    score: float = Field(description="y of PAN Eq. 4: general + personal. Comparable between outfits of one user.")
    general: float = Field(description="How well the items go together.")
    personal: float = Field(description="How much the user likes each.")


class OutfitsOut(BaseModel):
    """Outfits for a user."""

    user: str
    outfits: list[OutfitOut]


class PhotoScoreOut(BaseModel):
    """The score of an outfit in which photos are worn."""

    user: str
    score: float


class PairOut(BaseModel):
    """Two slots, and what their items add to the score together."""

    slots: list[str] = Field(min_length=2, max_length=2)
    general: float


class SwapOut(BaseModel):
    """The single replacement that raises the score most."""

    slot: str
    remove: str
    add: str
    score: float
    gain: float


class MapsOut(BaseModel):
    """How a user looks at one garment."""

    channel: list[float] = Field(description="C_u of PAN Eq. 2.")
    spatial: list[list[float]] = Field(description="S_u of PAN Eq. 3, rows from the top.")
    relative: list[list[float]] = Field(description="log2 of how much more than everybody he looks there.")


class ExplanationOut(BaseModel):
    """Why a user likes an outfit as much as he does. The parts add up to the score exactly."""

    user: str
    items: dict[str, str | None]
    score: float
    general: float
    personal: float
    by_item: dict[str, float] = Field(description="Slot -> its item's share of `personal`.")
    by_pair: list[PairOut] = Field(description="Shares of `general`.")
    best_swap: SwapOut | None
    attention: str
    maps: dict[str, MapsOut]
    against: "ExplanationOut | None" = Field(description="The same outfit in the second user's eyes.")


class OpinionOut(BaseModel):
    """An outfit that a newcomer likes or does not like."""

    id: str = Field(description="To withdraw the opinion with.")
    outfit: list[str | None]


class NewcomerOut(BaseModel):
    """A newcomer and his opinions, in the order in which they came."""

    id: str = Field(description="Goes wherever a user's id goes. Who knows it can do everything with him: keep it.")
    name: str
    version: int = Field(description="Grows with every change of his opinions.")
    likes: list[OpinionOut]
    dislikes: list[OpinionOut]
    gone: int = Field(description="How many opinions do not count, since the catalogue has lost an item.")


class HealthOut(BaseModel):
    """The process lives."""

    status: Literal["ok"] = "ok"


class ReadyOut(BaseModel):
    """Questions are answered."""

    status: Literal["ready"] = "ready"


def ranking(user_id: str, slots: Sequence[Slot], ranked: Ranked) -> dict[str, Any]:
    """Outfits as a client gets them: `OutfitsOut`, not checked once more, for these are most of what is answered."""
    names = [slot.name for slot in slots]
    parts = zip(ranked.outfits, ranked.scores.tolist(), ranked.general.tolist(), ranked.personal.tolist(), strict=True)
    outfits = [
        {"items": dict(zip(names, outfit, strict=True)), "score": score, "general": general, "personal": personal}
        for outfit, score, general, personal in parts
    ]
    return {"user": user_id, "outfits": outfits}


def similar_users(alike: Alike) -> list[SimilarUser]:
    """Users as a client gets them."""
    return [SimilarUser(id=user_id, cosine=share) for user_id, share in zip(alike[0], alike[1].tolist(), strict=True)]


def similar_items(alike: Alike) -> list[SimilarItem]:
    """Items as a client gets them."""
    return [
        SimilarItem(id=item_id, equal_bits=share) for item_id, share in zip(alike[0], alike[1].tolist(), strict=True)
    ]


def newcomer(profile: Profile, gone: int) -> NewcomerOut:
    """A newcomer as a client gets him."""

    def told(opinions: Sequence[Opinion], liked: bool) -> list[OpinionOut]:
        return [OpinionOut(id=each.id, outfit=list(each.outfit)) for each in opinions if each.liked is liked]

    return NewcomerOut(
        id=profile.id,
        name=profile.name,
        version=profile.version,
        likes=told(profile.opinions, True),
        dislikes=told(profile.opinions, False),
        gone=gone,
    )


def as_ids(outfits: Sequence[Sequence[str | None]]) -> tuple[OutfitIds, ...]:
    """Outfits of a request, as the library takes them."""
    return tuple(tuple(outfit) for outfit in outfits)
