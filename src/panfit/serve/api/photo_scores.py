"""PHOTO SCORES: an outfit in which uploaded photos are worn -> how much a user likes it. No photo is kept."""

from fastapi import APIRouter, Request, Response
from starlette.datastructures import FormData, UploadFile

from panfit.errors import DataError, Problem
from panfit.new_items import Wearable
from panfit.outfits import Slot
from panfit.serve.api.asking import ServiceDep, asked_about
from panfit.serve.api.tags import private
from panfit.serve.problems import documented, problem_response
from panfit.serve.queries import ScorePhotos
from panfit.serve.schemas import ID_LENGTH, TITLE, TITLE_LENGTH, USER, PhotoScoreOut
from panfit.serve.settings import Limits
from panfit.serve.uploads import decode
from panfit.unseen import Photo

router = APIRouter(prefix="/v1", tags=["outfits"])
TEXT_BYTES = 8 << 10
"""Of a part that is text."""


@router.post(
    "/score-photos",
    operation_id="score_photos",
    response_model=PhotoScoreOut,
    responses=documented(400, 404, 413, 415, 422, 501, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "title": "PhotoScoreIn",
                        "required": [USER],
                        "properties": {USER: {"type": "string", "maxLength": ID_LENGTH, "examples": ["u001"]}},
                        "additionalProperties": False,
                    }
                }
            },
        }
    },
)
async def score_photos(request: Request, service: ServiceDep) -> Response:
    """How much a user likes an outfit in which photos are worn that are in no catalogue.

    For each slot in which something is worn, a part named as the slot: a photo, as a file; or an item's id, as text. A
    photo may have a title, in a part named `title.` and the slot, for models that read titles.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        return problem_response(415, "send the photos as multipart/form-data")
    slots = service.dataset.slots
    most = 2 * len(slots) + 1
    async with request.form(max_files=len(slots), max_fields=most, max_part_size=TEXT_BYTES) as form:
        user, worn, titles = _parts(form, slots)
        asked = await asked_about(service, user, *(each or None for each in worn.values() if isinstance(each, str)))
        outfit = [await _wearable(worn.get(slot.name), titles.get(slot.name), service.config.limits) for slot in slots]
    found = await service.engine.ask(ScorePhotos(await asked.user(service), tuple(outfit)))
    return private(PhotoScoreOut(user=user, score=float(found[0])))


def _parts(form: FormData, slots: tuple[Slot, ...]) -> tuple[str, dict[str, str | UploadFile], dict[str, str]]:
    """The user's id, what is worn by slot, the photos' titles by slot. Raises DataError, with all that is wrong."""
    worn: dict[str, str | UploadFile] = {}
    titles: dict[str, str] = {}
    users: list[str] = []
    problems = []
    names = {slot.name for slot in slots}
    wanted = f"{USER}; a slot: {', '.join(slot.name for slot in slots)}; or {TITLE}SLOT; each at most once"
    for name, value in form.multi_items():
        slot = name.removeprefix(TITLE)
        is_title = slot != name and slot in names and slot not in titles
        if name == USER and isinstance(value, str) and not users and len(value) <= ID_LENGTH:
            users.append(value)
        elif name in names and name not in worn and (isinstance(value, UploadFile) or len(value) <= ID_LENGTH):
            worn[name] = value
        elif is_title and isinstance(value, str) and len(value) <= TITLE_LENGTH:
            titles[slot] = value
        else:
            found = f"the part {name[:80]!r}"
            problems.append(Problem("body", found, wanted, "Leave it out, or rename or shorten it."))
    if not users and not problems:
        problems.append(Problem("body", f"no part {USER!r}", "one, with a user's id as text", "Add it."))
    for slot in titles:
        if not isinstance(worn.get(slot), UploadFile):
            problems.append(Problem(f"body.{TITLE}{slot}", "a title", "one for a photo", "Leave it out."))
    if problems:
        raise DataError("the form does not have the parts that it should", problems)
    return users[0], worn, titles


async def _wearable(value: str | UploadFile | None, title: str | None, limits: Limits) -> Wearable:
    """What is worn in a slot, as the library takes it. Raises UploadError."""
    if isinstance(value, UploadFile):
        return Photo(await decode(value, limits), title or None)
    return value or None
