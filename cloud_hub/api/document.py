# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document: what FastAPI derives from the routes, and what holds for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from cloud_hub.api.browser import CSRF_HEADER, cookie_name
from cloud_hub.api.door import ORGANIZATION_HEADER
from cloud_hub.api.problems import MEDIA_TYPE, ProblemBody
from cloud_hub.auth.operations import RULES, Access

ABOUT = """Organizations, people, agents, boxes and calls of a Trunkline hub.

Programs send `Authorization: Bearer KEY`; browsers use a session cookie. Errors are
`application/problem+json` (RFC 9457). Lists come in pages: pass `next_cursor` as `cursor`.
Times are RFC 3339 in UTC, money is integer millionths of a currency unit."""

_METHODS = ("get", "post", "put", "patch", "delete")
_ERRORS = {
    "400": "It makes no sense: another list's cursor, a foreign ETag, no choice of organization",
    "401": "Nobody is signed in, or the key is not valid",
    "403": "Whoever asks may not do this",
    "404": "There is no such thing in this organization",
    "405": "The path does not know this method",
    "409": "It collides with something that exists",
    "412": "It was changed since it was read",
    "413": "The body is too long",
    "422": "The request does not have the form that is described here",
    "428": "`If-Match` is missing",
    "429": "Too often; `Retry-After` says when to come again",
    "503": "The database does not answer",
}


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the application's description, made once."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        _complete(found, secure=app.state.services.settings.secure)
        app.openapi_schema = found
    return app.openapi_schema


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Return path, method and description of every operation."""
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                yield path, method, item[method]


def _complete(document: dict[str, Any], *, secure: bool) -> None:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    problem = ProblemBody.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs", {}))
    schemas["Problem"] = problem
    document["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "An API key"},
        "session": {"type": "apiKey", "in": "cookie", "name": cookie_name(secure=secure)},
    }
    for _, method, operation in operations(document):
        _secure(operation, method)
        for parameter in operation.get("parameters", []):
            if parameter["name"] == "If-Match":
                parameter["required"] = (
                    True  # its absence is 428, not 422: so not the route's to say
                )
                parameter["schema"] = {"type": "string", "pattern": '^"[0-9]{1,18}"$'}
        errors = operation["responses"]
        for status, meaning in _ERRORS.items():
            errors[status] = {
                "description": meaning,
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }


def _secure(operation: dict[str, Any], method: str) -> None:
    rule = RULES[operation["operationId"]]
    if rule.access is Access.PUBLIC:
        operation["security"] = []
        return
    operation["security"] = [{"session": []}]
    operation["x-roles"] = sorted(rule.roles)
    parameters = operation.setdefault("parameters", [])
    if rule.scope:
        operation["security"].insert(0, {"key": []})
        operation["x-scope"] = rule.scope
    if rule.access is Access.MEMBER:
        what = "For people in several organizations: in whose name"
        parameters.append(_header(ORGANIZATION_HEADER, what, "uuid"))
    if method != "get":
        parameters.append(_header(CSRF_HEADER, "With a session: its `csrf_token`", None))


def _header(name: str, description: str, form: str | None) -> dict[str, Any]:
    schema = {"type": "string", **({"format": form} if form else {})}
    return {"name": name, "in": "header", "description": description, "schema": schema}
