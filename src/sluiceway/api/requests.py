"""Every request's id, its line in the log, and its place in the metrics: around everything else that answers."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Final

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluiceway.identifier import new_id
from sluiceway.logs import about

log = logging.getLogger("sluiceway.requests")

ID_HEADER: Final = "X-Request-Id"
_SANE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_NO_ROUTE: Final = "(none)"
_GONE: Final = 499
"""The status of a request whose asker was gone before it was answered, as proxies write it."""

Note = Callable[[str, str, int, float], None]


class _Answer(msgspec.Struct):
    """How a request is being answered: with what, and after how many seconds that began."""

    status: int = _GONE
    after_s: float = 0.0


class Requests:
    """Around an application: gives every request an id (its own, if that is sane), which is in each answer's headers.

    `note` is told the route, the method, the status, and after how many seconds the answer began.
    """

    def __init__(self, app: ASGIApp, note: Note) -> None:
        self._app = app
        self._note = note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, begun, answer = _id_of(scope), time.monotonic(), _Answer()

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status, answer.after_s = message["status"], time.monotonic() - begun
                MutableHeaders(scope=message)[ID_HEADER] = request_id
            await send(message)

        with about(request_id=request_id):
            try:
                await self._app(scope, receive, sent)
            except Exception:
                # An unexpected error is raised again after it was answered as a problem, and is in the log by then.
                if answer.status == _GONE:
                    raise
            finally:
                self._tell(scope, answer, time.monotonic() - begun)

    def _tell(self, scope: Scope, answer: _Answer, took_s: float) -> None:
        """Write the request's line: the route as a template, because addresses may name people."""
        route, method = route_of(scope), scope["method"]
        facts = {"method": method, "route": route, "status": answer.status, "duration_ms": round(took_s * 1000, 1)}
        log.info("%s %s %s", method, route, answer.status, extra={"facts": facts})
        self._note(route, method, answer.status, answer.after_s)


def route_of(scope: Scope) -> str:
    """Return the template of the route that answered. FastAPI keeps the one with all prefixes beside the route."""
    found = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    return getattr(found, "path", None) or _NO_ROUTE


def _id_of(scope: Scope) -> str:
    given = Headers(scope=scope).get(ID_HEADER, "")
    return given if _SANE.fullmatch(given) else new_id()
