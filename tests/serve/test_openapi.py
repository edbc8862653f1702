"""The description says what the service does: every address, stable names, examples that hold, errors of one form."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from panfit.serve import problems, schemas
from panfit.serve.app import create_app
from panfit.serve.problems import MEDIA_TYPE, TITLES
from panfit.serve.settings import Limits
from tests.serve.shop_service import Shop, make_config, make_recommender, open_shop

OPERATIONS = {
    "GET /health": "health",
    "GET /ready": "ready",
    "GET /metrics": "metrics",
    "GET /v1/users": "list_users",
    "GET /v1/users/{id}": "get_user",
    "GET /v1/similar-users": "similar_users",
    "GET /v1/similar-items": "similar_items",
    "GET /v1/slots": "list_slots",
    "GET /v1/items": "list_items",
    "GET /v1/items/{id}": "get_item",
    "GET /v1/photos/{id}": "get_photo",
    "GET /v1/recommendations": "recommend",
    "POST /v1/complete": "complete",
    "POST /v1/compose": "compose",
    "POST /v1/score": "score",
    "POST /v1/score-photos": "score_photos",
    "POST /v1/explain": "explain",
    "GET /v1/explanation.png": "draw_explanation",
    "POST /v1/newcomers": "create_newcomer",
    "GET /v1/newcomers/{id}": "get_newcomer",
    "DELETE /v1/newcomers/{id}": "erase_newcomer",
    "POST /v1/newcomers/{id}/likes": "add_likes",
    "POST /v1/newcomers/{id}/dislikes": "add_dislikes",
    "DELETE /v1/newcomers/{id}/opinions/{opinion}": "withdraw_opinion",
}
"""Clients are generated from these names: none of them changes within /v1."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(tmp_path_factory.mktemp("shop"), limits=Limits(top=7, list_items=5)) as shop:
        yield shop


@pytest.fixture(scope="module")
def told(shop: Shop) -> Any:
    return shop.client.get("/openapi.json").json()


def operations(told: Any) -> Iterator[tuple[str, Any]]:
    for path, item in told["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def test_every_address_has_its_name(told: Any) -> None:
    assert {address: operation["operationId"] for address, operation in operations(told)} == OPERATIONS


def test_every_operation_is_described(told: Any) -> None:
    tags = {tag["name"] for tag in told["tags"]}
    for address, operation in operations(told):
        assert operation["description"], address
        assert set(operation["tags"]) <= tags, address
        assert operation["tags"], address


def test_every_error_is_a_problem(told: Any) -> None:
    for address, operation in operations(told):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert list(response["content"]) == [MEDIA_TYPE], (address, status)
                assert response["content"][MEDIA_TYPE]["schema"] == {"$ref": "#/components/schemas/Problem"}
                assert int(status) in TITLES
    assert "HTTPValidationError" not in told["components"]["schemas"]


def test_every_reference_leads_somewhere(told: Any) -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from (value["$ref"],) if isinstance(value.get("$ref"), str) else ()
            for each in value.values():
                yield from references(each)
        elif isinstance(value, list):
            for each in value:
                yield from references(each)

    found = set(references(told))
    assert found
    for reference in found:
        assert reference.removeprefix("#/components/schemas/") in told["components"]["schemas"]


def test_examples_are_what_schemas_say(told: Any) -> None:
    models = {name: model for name, model in vars(schemas).items() if isinstance(model, type)}
    seen = 0
    for name, schema in told["components"]["schemas"].items():
        for example in schema.get("examples", ()):
            model = problems.ProblemDetails if name == "Problem" else models[name]
            assert issubclass(model, BaseModel)
            model.model_validate(example)
            seen += 1
    assert seen >= 7


def test_every_body_is_strict(told: Any) -> None:
    for _, operation in operations(told):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            schema = content["schema"]
            if "$ref" in schema:
                schema = told["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            assert schema["additionalProperties"] is False


def test_limits_are_told(told: Any) -> None:
    parameters = {each["name"]: each["schema"] for each in told["paths"]["/v1/recommendations"]["get"]["parameters"]}
    assert (parameters["top"]["default"], parameters["top"]["maximum"]) == (7, 7)
    parameters = {each["name"]: each["schema"] for each in told["paths"]["/v1/users"]["get"]["parameters"]}
    assert (parameters["limit"]["default"], parameters["limit"]["maximum"]) == (5, 5)
    bodies = told["components"]["schemas"]
    assert bodies["ScoreIn"]["properties"]["outfits"]["maxItems"] == 5
    assert bodies["ComposeIn"]["properties"]["top"]["maximum"] == 7


def test_slots_are_parts_of_the_form(told: Any) -> None:
    content = told["paths"]["/v1/score-photos"]["post"]["requestBody"]["content"]
    assert list(content) == ["multipart/form-data"]
    parts = {"user", "top", "bottom", "shoe", "title.top", "title.bottom", "title.shoe"}
    assert set(content["multipart/form-data"]["schema"]["properties"]) == parts


def test_a_token_is_told_of_where_there_is_one(tmp_path: Path, told: Any) -> None:
    assert "securitySchemes" not in told["components"]
    app = create_app(make_recommender(tmp_path), make_config(tmp_path, token="s" * 32))
    guarded = app.openapi()
    assert guarded["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    for address, operation in operations(guarded):
        assert ("security" in operation) is (address != "GET /health")
        assert ("401" in operation["responses"]) is (address != "GET /health")
    assert "s" * 32 not in str(guarded)
