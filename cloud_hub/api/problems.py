# SPDX-License-Identifier: Apache-2.0
"""Errors as `application/problem+json` (RFC 9457), all from here.

`code` is stable and for programs, `detail` is for people. What belongs to another organization does
not exist: the answer is the same 404 as for an id that was never given.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class Mistake(BaseModel):
    """One thing that is wrong with a request."""

    pointer: str = Field(description="Where, as a JSON pointer, or the parameter's name")
    message: str


class ProblemBody(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field("about:blank", examples=["about:blank"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(ge=400, le=599, examples=[404])
    detail: str = Field("", examples=["there is no such call"])
    code: str = Field(examples=["not_found"])
    request_id: str = Field("", examples=["019f0c1e-8f5e-7c31-9e0e-3a0b8f6f2f11"])
    errors: list[Mistake] = []


class ProblemError(Exception):
    """An answer that is an error.

    Args:
        status: of HTTP.
        code: stable, for programs.
        detail: for people.
        headers: more headers of the answer.
        errors: which fields are wrong.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mistake] = (),
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.headers, self.errors = dict(headers or {}), list(errors)


def missing(what: str) -> ProblemError:
    """Return the 404 for something that is not there, or not this organization's."""
    return ProblemError(404, "not_found", f"there is no such {what}")


def wrong_field(pointer: str, message: str, *, code: str = "invalid") -> ProblemError:
    """Return the 422 for one field."""
    mistake = Mistake(pointer=pointer, message=message)
    return ProblemError(422, code, message, errors=[mistake])


def answer(request: Request, problem: ProblemError) -> Response:
    """Return the HTTP answer of a problem."""
    body = ProblemBody(
        title=HTTPStatus(problem.status).phrase,
        status=problem.status,
        detail=problem.detail,
        code=problem.code,
        request_id=request_id(request),
        errors=problem.errors,
    )
    return JSONResponse(
        body.model_dump(), problem.status, problem.headers or None, media_type=MEDIA_TYPE
    )


def request_id(request: Request) -> str:
    """Return the request's id, as in the logs, the audit log and `X-Request-ID`."""
    found: str = request.scope.get("state", {}).get("request_id", "")
    return found


def install(app: FastAPI) -> None:
    """Answer every error of the application in this form."""
    app.add_exception_handler(ProblemError, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(IntegrityError, _conflict)
    app.add_exception_handler(DBAPIError, _database)
    app.add_exception_handler(ConnectionError, _unavailable)
    app.add_exception_handler(PoolTimeoutError, _unavailable)
    app.add_exception_handler(Exception, _unexpected)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return answer(request, error)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    code = phrase.lower().replace(" ", "_").replace("-", "_")
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(request.app.state.methods_at(request.url.path))
    found = ProblemError(error.status_code, code, str(error.detail), headers=headers)
    return answer(request, found)


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    mistakes = [_mistake(each) for each in error.errors()[:50]]
    detail = "the request does not have the form that the API's description asks for"
    return answer(request, ProblemError(422, "invalid", detail, errors=mistakes))


def _mistake(error: Mapping[str, Any]) -> Mistake:
    place, *rest = error.get("loc", ("body",))
    inner = "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in rest)
    pointer = f"/{inner}" if place == "body" and inner else inner or "/"
    return Mistake(pointer=pointer, message=str(error.get("msg", "")))


async def _conflict(request: Request, error: Exception) -> Response:
    log.info("request %s conflicts: %s", request_id(request), type(error).__name__)
    return answer(
        request, ProblemError(409, "conflict", "this collides with something that exists")
    )


async def _database(request: Request, error: Exception) -> Response:
    assert isinstance(error, DBAPIError)
    if isinstance(error, OperationalError) or error.connection_invalidated:
        return await _unavailable(request, error)
    return await _unexpected(request, error)


async def _unavailable(request: Request, error: Exception) -> Response:
    log.warning("request %s: the database does not answer: %s", request_id(request), error)
    problem = ProblemError(
        503, "unavailable", "try again in a moment", headers={"Retry-After": "2"}
    )
    return answer(request, problem)


async def _unexpected(request: Request, error: Exception) -> Response:
    # Nothing of the cause goes out: no stack, no SQL, no path. This answer is made outside of the
    # middleware, so it brings its own headers.
    identity = request_id(request)
    log.error("request %s failed", identity, exc_info=error)
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
        "X-Request-ID": identity,
    }
    detail = "this is a fault of the hub; it is in its log"
    return answer(request, ProblemError(500, "internal", detail, headers=headers))
