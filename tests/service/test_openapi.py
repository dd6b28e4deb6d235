"""The OpenAPI document is true: schemathesis sends what it allows, and what it forbids."""

import asyncio

import pytest
from service_client import DIM, HashEncoder, saved_index, serving, slot_of

from tilefold.service import create_app
from tilefold.service.bearer_token import BearerToken
from tilefold.service.service_limits import ServiceLimits

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

import hypothesis
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

# Rules that a JSON schema cannot state.
UNSAID = ("exclude must have one list per query", "beyond float32", "ids together", "has no names")
SECRET = "a-token-of-some-length"
# Small, so that random values are on both sides of each.
LIMITS = ServiceLimits(max_queries=3, max_k=12, max_query_chars=30, max_ids=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved_index(tmp_path_factory.mktemp("openapi") / "index", rows=50)


class TokenAuth:
    """Gives requests the token; the check that endpoints need it leaves it out."""

    def get(self, case, context):
        return SECRET

    def set(self, case, data, context):
        case.headers["authorization"] = f"Bearer {data}"


def schema_of(folder, token):
    slot = slot_of(folder, encoder=HashEncoder().query_encoder())
    app = create_app([slot], limits=LIMITS, token=token)
    headers = {"host": "localhost"} | ({"authorization": f"Bearer {SECRET}"} if token else {})
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=headers)
    if token:
        schema.auth()(TokenAuth)
    return schema


@pytest.mark.parametrize("has_token", [False, True], ids=["open", "token"])
@pytest.mark.parametrize("mode", GenerationMode)
def test_answers_are_what_the_document_says(folder, mode, has_token):
    """Valid requests are taken, invalid ones refused, and every answer has the schema it should."""
    schema = schema_of(folder, BearerToken(SECRET, "test") if has_token else None)
    for operation in (found.ok() for found in schema.get_all_operations()):
        is_search = operation.path == "/search"
        if mode is GenerationMode.NEGATIVE and not is_search:
            continue  # nothing of the others can be wrong

        @hypothesis.seed(7)
        @hypothesis.settings(max_examples=80 if is_search else 4, database=None)
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def check(case):
            answer = case.call(headers={"host": "localhost"})
            refused = answer.status_code == 422 and any(said in answer.text for said in UNSAID)
            case.validate_response(
                answer, excluded_checks=[positive_data_acceptance] if refused else []
            )

        check()


def test_the_document_names_the_limits_and_the_dim(folder):
    async def main():
        async with serving(slot_of(folder), limits={"max_k": 12}) as client:
            return (await client.ask("GET", "/openapi.json")).json

    document = asyncio.run(main())
    request = document["components"]["schemas"]["SearchRequest"]
    assert request["properties"]["k"]["maximum"] == 12
    items = request["properties"]["vectors"]["items"]
    assert (items["minItems"], items["maxItems"]) == (DIM, DIM)
    assert request["oneOf"] == [{"required": ["queries"]}, {"required": ["vectors"]}]
    assert request["additionalProperties"] is False
    summary = document["paths"]["/reload"]["post"]["summary"]
    assert "an index that changed and is complete replaces the one served" in summary
    assert set(document["paths"]) >= {"/search", "/reload", "/health", "/metrics", "/docs", "/"}
