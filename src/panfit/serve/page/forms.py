"""FORMS: what a form of the page sends, once it is sure that the page made it."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import FormData, UploadFile

from panfit.ids import OutfitIds
from panfit.serve.page.render import Visitor, visitor_of
from panfit.serve.session import CSRF_FIELD

MAX_FIELDS = 200
MAX_FILES = 16

Guest = Annotated[Visitor, Depends(visitor_of)]
"""Whoever asks for a page."""


class Sent:
    """A form that was sent by one of the visitor's own pages.

    Attributes:
        visitor: who sent it.
    """

    def __init__(self, visitor: Visitor, form: FormData) -> None:
        self.visitor, self._form = visitor, form

    def text(self, name: str, default: str = "") -> str:
        """The first text of that name."""
        value = self._form.get(name)
        return value if isinstance(value, str) else default

    def texts(self, name: str) -> list[str]:
        """All texts of that name, in order."""
        return [value for value in self._form.getlist(name) if isinstance(value, str)]

    def file(self, name: str) -> UploadFile | None:
        """A file that was chosen."""
        value = self._form.get(name)
        return value if isinstance(value, UploadFile) and value.filename else None

    @property
    def user(self) -> str | None:
        """The user of the model whom it is about; None: the visitor himself."""
        return self.text("user") or None

    @property
    def outfit(self) -> OutfitIds:
        """The outfit it is about. Raises UnknownIdError, DataError."""
        return outfit_from(self.visitor, self.texts("item"))


def outfit_from(visitor: Visitor, items: list[str]) -> OutfitIds:
    """An outfit as addresses and forms name it, "" where nothing is worn. Raises UnknownIdError, DataError."""
    outfit = tuple(item or None for item in items)
    visitor.desk.service.engine.recommender.ids.outfit_rows([outfit])
    return outfit


async def sent_by(request: Request, visitor: Guest) -> AsyncIterator[Sent]:
    """The form of a request; a FastAPI dependency. Refuses (403) what another site made the browser send."""
    async with request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS) as form:  # its files are gone afterwards
        visitor.desk.visits.session.check_csrf(request.headers, visitor.visit.id, form.get(CSRF_FIELD))
        yield Sent(visitor, form)


Form = Annotated[Sent, Depends(sent_by)]
"""What a page's form sent."""
