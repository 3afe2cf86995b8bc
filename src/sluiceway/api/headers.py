"""Headers that every answer carries, so that a browser does with it what it is meant for and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALWAYS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""An answer that needs other ones brings them: a page its own policy, what may be kept its `Cache-Control`."""

_ONLY_HTTPS: Final = {"Strict-Transport-Security": "max-age=31536000"}


class Headers:
    """Puts the headers on whatever an application answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _all(scope).items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, sending)


def _all(scope: Scope) -> Mapping[str, str]:
    public_url: str = scope["app"].state.service.main.settings.public_url
    return {**ALWAYS, **_ONLY_HTTPS} if public_url.lower().startswith("https://") else ALWAYS
