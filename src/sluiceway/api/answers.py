"""How answers are written and described: any of our own structs is JSON, and its schema is in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from starlette.responses import Response

from sluiceway.api.examples import example_of

_REF: Final = "#/components/schemas/{name}"
_KINDS: list[Any] = []
"""Every kind of answer that some route names, in the order of the routes."""


class Json(Response):
    """One of our structs, as JSON. Amounts that are unknown are `null`, never zero."""

    media_type = "application/json"

    def __init__(self, said: Any, status_code: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(msgspec.json.encode(said), status_code, headers)


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong (RFC 9457). `detail` says what to do; `errors` where a request's parts were not understood."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] = []
    retry_at: str | None = None


_PROBLEMS: Final = {
    400: "The request cannot be understood as it is.",
    401: "No API key or session, or one that does not hold (any more).",
    403: "The caller's role or tenant does not allow it.",
    404: "There is no such thing, as far as the caller may know.",
    409: "What is there by now does not allow it.",
    413: "The body is larger than this server takes.",
    415: "The body is of a kind this route does not take.",
    422: "A part of the request cannot be used as it is.",
    429: "Too many tries; `Retry-After` says when the next one is heard.",
    503: "The store or a provider cannot be used now; the same request may work later.",
}


def answers(kind: Any, status: int = 200, *, problems: Iterable[int] = (), also: Mapping[int, Any] | None = None,
            description: str = "Done.", example: Any = None) -> dict[str, Any]:  # fmt: skip
    """Return what a route's decorator is told of its answers: a kind of struct, and the problems that may come instead.

    `also` are kinds by further statuses. Every route may answer 401, 403, 404 (a tenant that is named), 422 and 503.
    """
    kinds = {status: kind, **(also or {})}
    said = {code: described(each, description, example if code == status else None) for code, each in kinds.items()}
    said |= {code: described_problem(code) for code in sorted({401, 403, 404, 422, 503, *problems}) if code not in said}
    return {"response_class": Response, "status_code": status, "responses": said}


def described(kind: Any, description: str = "Done.", example: Any = None) -> dict[str, Any]:
    """Describe one answer; `None` is one without a body."""
    if kind is None:
        return {"description": description}
    _KINDS.append(kind)
    content = {"schema": schema_of(kind), "example": example_of(kind) if example is None else example}
    return {"description": description, "content": {"application/json": content}}


def in_text(media_type: str, description: str) -> dict[str, Any]:
    """Describe an answer that is a stream of text."""
    return {"description": description, "content": {media_type: {"schema": {"type": "string"}}}}


def described_problem(status: int) -> dict[str, Any]:
    """Describe a problem that a route may answer."""
    _KINDS.append(Problem)
    return {
        "description": _PROBLEMS[status],
        "content": {"application/problem+json": {"schema": schema_of(Problem)}},
    }


def schema_of(kind: Any) -> dict[str, Any]:
    """Return the schema of a kind, referring to components."""
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=_REF)
    return schema


def components() -> dict[str, Any]:
    """Return the schemas of every kind of answer, by name."""
    _, named = msgspec.json.schema_components(list(dict.fromkeys(_KINDS)), ref_template=_REF)
    return dict(named)
