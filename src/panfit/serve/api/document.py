"""DOCUMENT: the API's description (OpenAPI), with what only a running service knows, and the page at /docs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

from panfit.outfits import Slot
from panfit.serve.problems import ProblemDetails, ProblemItem, documented
from panfit.serve.schemas import ID_LENGTH, TITLE, TITLE_LENGTH
from panfit.serve.settings import Limits, ServeConfig

FILES = Path(__file__).parent.parent / "static" / "docs"
OPEN = ("health",)
"""Operations that need no token and that nobody is kept from asking."""
DESCRIPTION = """\
Outfit recommendations of a trained PAN model. Ids are the shop's own strings: any characters; in a path, encode them
whole (a slash as %2F). Where a user's id is asked for, a newcomer's may stand. Errors are `application/problem+json`
(RFC 9457): `type` is stable, `detail` says what was found, what was wanted, and how to mend it. Answers with an `ETag`
may be asked for again with `If-None-Match`. Outfits are lists of item ids in the order of `GET /v1/slots`, null where
nothing is worn; scores can be compared between outfits of one user.
"""
TAGS = {
    "users": "The people that the model was trained with, and whose taste is like whose.",
    "newcomers": "People whom the model was not trained with, made from a few likes.",
    "outfits": "Outfits recommended, completed, composed, scored.",
    "explanations": "Why somebody likes an outfit: parts of the score, where he looks, what would raise it.",
    "items": "The catalogue, its photos, and what looks like what.",
    "status": "For whoever keeps the service running.",
}

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs() -> FileResponse:
    """Swagger UI, of files that came with panfit."""
    return FileResponse(FILES / "index.html", media_type="text/html")


def install(app: FastAPI, config: ServeConfig, slots_of: Callable[[], tuple[Slot, ...]]) -> None:
    """Give an app its description and the page that shows it."""
    app.include_router(router)
    app.mount("/docs/static", StaticFiles(directory=FILES), name="docs")

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app, config, slots_of())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _described(app: FastAPI, config: ServeConfig, slots: tuple[Slot, ...]) -> dict[str, Any]:
    told = get_openapi(
        title=app.title,
        version=app.version,
        summary="Personalized outfit recommendations",
        description=DESCRIPTION,
        routes=app.routes,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
    )
    schemas = told["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    template = "#/components/schemas/{model}"
    schemas["Problem"] = ProblemDetails.model_json_schema(ref_template=template)
    schemas["ProblemItem"] = ProblemItem.model_json_schema(ref_template=template)
    schemas["Problem"].pop("$defs", None)
    if config.token is not None:
        told["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for operations in told["paths"].values():
        for operation in operations.values():
            _complete(operation, config)
    if "/v1/score-photos" in told["paths"]:
        _add_slots(told["paths"]["/v1/score-photos"]["post"], slots)
    for name in ("CompleteIn", "ComposeIn", "ScoreIn", "NewcomerIn", "OutfitsIn"):
        for field, schema in schemas[name]["properties"].items():
            _bound(field, schema, config.limits)
    return told


def _complete(operation: dict[str, Any], config: ServeConfig) -> None:
    """What may happen to any request, before a handler sees it; and how much may be asked for."""
    for parameter in operation.get("parameters", ()):
        _bound(parameter["name"], parameter["schema"], config.limits)
    if operation["operationId"] in OPEN:
        return
    everywhere = [421, 429]
    if config.token is not None:
        everywhere.append(401)
    if "requestBody" in operation:
        everywhere += [408, 413]
    for status, told in documented(*everywhere).items():
        operation["responses"].setdefault(str(status), told)
    operation["responses"] = dict(sorted(operation["responses"].items()))
    if config.token is not None:
        operation["security"] = [{"token": []}]


def _bound(name: str, schema: dict[str, Any], limits: Limits) -> None:
    if name in ("top", "limit"):
        most = limits.top if name == "top" else limits.list_items
        schema |= {"maximum": most, "default": min(schema["default"], most)}
    for each in (schema, *schema.get("anyOf", ())):
        if each.get("type") == "array" and "maxItems" not in each:
            each["maxItems"] = limits.list_items


def _add_slots(operation: dict[str, Any], slots: tuple[Slot, ...]) -> None:
    """The parts of the form: named as the slots of this data set."""
    properties = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    for slot in slots:
        properties[slot.name] = {
            "description": f"What is worn there: a photo, as a file, or the id of an item of category {slot.category}.",
            "anyOf": [
                {"type": "string", "contentMediaType": "application/octet-stream", "format": "binary"},
                {"type": "string", "maxLength": ID_LENGTH},
            ],
        }
        properties[f"{TITLE}{slot.name}"] = {
            "description": "The photo's title, for models that read titles.",
            "type": "string",
            "maxLength": TITLE_LENGTH,
        }
