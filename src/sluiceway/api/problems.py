"""What becomes of errors: the one table from our errors to HTTP statuses, written as RFC 9457 problems."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from math import ceil
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from sluiceway.api.answers import Problem
from sluiceway.api.headers import ALWAYS
from sluiceway.api.requests import route_of
from sluiceway.errors import (
    BadInput,
    BadSetting,
    Conflict,
    Mistaken,
    NotAllowed,
    NotThere,
    ProviderChanged,
    SluicewayError,
    TryLater,
)

log = logging.getLogger(__name__)

STATUS: Final[Mapping[type[SluicewayError], int]] = {
    NotAllowed: 403,
    NotThere: 404,
    Conflict: 409,
    BadInput: 422,
    BadSetting: 503,
    ProviderChanged: 503,
    TryLater: 503,
    Mistaken: 400,
}
"""The status of each group of errors; the first that fits."""

_TITLES: Final = {
    400: "Not understood",
    401: "Who are you?",
    403: "Not allowed",
    404: "Not there",
    405: "No such method here",
    409: "Not now",
    413: "Too large",
    415: "Of another kind",
    422: "Not usable as it is",
    429: "Too many tries",
    500: "Our fault",
    503: "Try later",
}


class Unauthorized(Exception):  # noqa: N818 - named for what to do
    """Whoever asks has to show who they are."""


class TooManyTries(Exception):  # noqa: N818
    """Whoever asks has to wait, so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"too many tries; the next one is heard in {ceil(seconds)} s")
        self.seconds = seconds


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    """Return a problem as an answer."""
    said = Problem("about:blank", _TITLES.get(status, "Not done"), status, detail, **more)
    body = msgspec.json.encode(said)
    return Response(body, status, dict(headers or {}), media_type="application/problem+json")


def handle_errors(app: FastAPI) -> None:
    """Have every error that leaves a route answered as a problem."""
    app.add_exception_handler(SluicewayError, _of_ours)
    app.add_exception_handler(Unauthorized, _unauthorized)
    app.add_exception_handler(TooManyTries, _too_many)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, _unexpected)


async def _of_ours(request: Request, error: Exception) -> Response:
    status = next(status for kind, status in STATUS.items() if isinstance(error, kind))
    return problem(status, str(error) or (type(error).__doc__ or ""))


async def _unauthorized(request: Request, error: Exception) -> Response:
    detail = str(error) or "say who you are: `Authorization: Bearer slw_…`"
    return problem(401, detail, {"WWW-Authenticate": "Bearer"})


async def _too_many(request: Request, error: Exception) -> Response:
    seconds = error.seconds if isinstance(error, TooManyTries) else 1.0
    return problem(429, str(error), retry_after(seconds))


def retry_after(seconds: float) -> dict[str, str]:
    """Return the header that says when another try is heard."""
    return {"Retry-After": str(ceil(seconds))}


async def _invalid(request: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    errors = [{"in": ".".join(map(str, each["loc"])), "says": _says(each)} for each in found]
    first = f"{errors[0]['in']}: {errors[0]['says']}" if errors else "it cannot be understood"
    if any(each["in"] == "body" for each in errors) and not _is_said_to_be_json(request):
        first = "this takes a body of JSON: send it with `Content-Type: application/json`"
    return problem(422, first, errors=errors)


def _says(found: Mapping[str, Any]) -> str:
    """Return what is wrong in a part of a request, without the kind of exception that said so."""
    said: str = found["msg"]
    return said.removeprefix("Value error, ")


def _is_said_to_be_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


async def _of_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return await _unexpected(request, error)
    if error.status_code == 400:  # FastAPI's word for a body that is no text at all; any other is 422 already
        return problem(422, "the body cannot be read: send JSON in UTF-8")
    return problem(error.status_code, str(error.detail), error.headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    # The route and not the address, which may be a sign-in link.
    log.error("%s %s", request.method, route_of(request.scope), exc_info=error)
    # Starlette answers this outside of everything else, the headers of all answers too.
    return problem(500, f"this is a fault of ours ({type(error).__name__}); it is in the log", ALWAYS)
