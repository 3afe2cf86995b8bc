"""How large a request may be: what is read whole is bounded, before anybody has to show who they are."""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluiceway.api.problems import problem

LARGEST: Final = 2_000_000
"""Bytes. Five hundred people with every field are a third of it."""

STREAMED: Final = frozenset({"/api/v1/prospects/upload", "/api/v1/suppressions/import"})
"""Where a file is read piece by piece, under a bound of its own."""

_SAYS: Final = f"a request may have {LARGEST // 1_000_000} MB at most; send it in parts, or upload a file"


class Bounded:
    """Refuses what is larger than it may be: at once where it says so itself, else when it turns out to be."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] in STREAMED:
            await self._app(scope, receive, send)
        elif _said(scope) > LARGEST:
            await problem(413, _SAYS)(scope, receive, send)
        else:
            await self._app(scope, _counted(receive), send)


def _said(scope: Scope) -> int:
    """Return how large a request says that it is; 0 where it does not say."""
    said = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(said) if said.isdigit() else 0


def _counted(receive: Receive) -> Receive:
    left = LARGEST

    async def counted() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, _SAYS)
        return message

    return counted
