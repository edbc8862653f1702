"""TAGS: answers, and the entity tags by which a client that holds one already is told so (RFC 9110 section 13.1.2)."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel
from pydantic_core import to_json

import panfit
from panfit.newcomer_file import model_fingerprint
from panfit.outfits import Dataset
from panfit.recommend import Recommender

PERSONAL = "private, no-cache"
"""Cache-Control of what is about somebody: his own browser may keep it, and asks each time whether it still holds."""


class CatalogueState:
    """What all answers depend on: the model, and the items as they are offered now.

    Args:
        recommender: whose; hashing its weights takes a moment.
    """

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender
        self._model = [panfit.__version__, model_fingerprint(recommender.model), dict(recommender.inputs.made_by)]
        self._dataset: Dataset | None = None
        self._items = ""

    def state(self) -> list[Any]:
        """Values that are equal as long as answers are."""
        dataset = self._recommender.dataset
        if dataset is not self._dataset:  # at first, and after items were added
            self._dataset, self._items = dataset, _hash_of(dataset)
        return [*self._model, self._items, self._recommender.withdrawn]


def _hash_of(dataset: Dataset) -> str:
    catalogue = dataset.catalogue
    columns = catalogue.item_ids, catalogue.item_categories, catalogue.images, catalogue.titles
    slots = [(slot.name, slot.category) for slot in dataset.slots]
    told = json.dumps([dataset.checksum, slots, dataset.user_ids, *columns])
    return hashlib.sha256(told.encode()).hexdigest()


def private(
    told: BaseModel | Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer about somebody that nobody keeps: a model, or what is one already, as JSON."""
    kept = {"Cache-Control": "private, no-store", **(headers or {})}
    return Response(to_json(told), status, kept, "application/json")


def tagged(request: Request, *told: Any) -> "Tagged":
    """The entity tag of an answer: of the model and its catalogue, of the address with its query, and of what is told.

    It is strong: the engine's answers do not depend on what else is asked at the same time, to the last bit.
    """
    said = [request.app.state.catalogue.state(), request.url.path, request.url.query, *told]
    digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()
    return Tagged(f'"{digest[:32]}"', request.headers.get("if-none-match", ""))


@dataclass(frozen=True)
class Tagged:
    """An answer's entity tag, and those that the client says it holds (RFC 9110 section 13.1.2)."""

    tag: str
    held: str

    @property
    def is_held(self) -> bool:
        """Whether the client has the answer already."""
        held = [each.strip().removeprefix("W/") for each in self.held.split(",")]
        return "*" in held or self.tag in held

    @property
    def headers(self) -> dict[str, str]:
        """Of an answer that is about somebody."""
        return {"ETag": self.tag, "Cache-Control": PERSONAL}

    def not_modified(self) -> Response:
        """304."""
        return Response(status_code=304, headers=self.headers)

    def answer(self, told: BaseModel | Sequence[BaseModel] | Mapping[str, Any]) -> Response:
        """200 with a model, or several, as JSON."""
        return Response(to_json(told), headers=self.headers, media_type="application/json")
