"""Short ways to talk to a sandbox over real HTTP."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from typing import Any

import aiohttp

from sluiceway.sandbox.server import Sandbox

SEED, TODAY = 7, date(2026, 11, 24)
KEY = "sandbox-key"
SEC_AGENT = "Sample Company ops@sample.example"
CLAUDE_VERSION = "2023-06-01"


@dataclass(frozen=True)
class Got:
    """An answer as the client saw it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Talk:
    """One client of one sandbox."""

    def __init__(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        self.sandbox = sandbox
        self._session = session

    async def send(self, method: str, path: str, **options: Any) -> Got:
        async with self._session.request(method, self.sandbox.url + path, **options) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return Got(answer.status, headers, await answer.read())

    async def match(self, key: str = KEY, **query: str) -> Got:
        return await self.send("POST", "/apollo/api/v1/people/match", params=query, headers={"x-api-key": key})

    async def apollo(self, path: str, body: object = None, key: str = KEY, method: str = "POST") -> Got:
        return await self.send(method, f"/apollo/api/v1{path}", json=body, headers={"x-api-key": key})

    async def enrich(self, key: str = KEY, **body: object) -> Got:
        return await self.send("POST", "/contactout/v1/people/enrich", json=body, headers={"token": key})

    async def contactout(self, path: str, key: str = KEY, **query: str) -> Got:
        return await self.send("GET", f"/contactout/v1{path}", params=query, headers={"token": key})

    async def exa(self, path: str, body: object, key: str = KEY) -> Got:
        return await self.send("POST", f"/exa{path}", json=body, headers={"x-api-key": key})

    async def edgar(
        self, path: str, agent: str = SEC_AGENT, headers: dict[str, str] | None = None, **query: str
    ) -> Got:
        return await self.send("GET", f"/edgar{path}", params=query, headers={"user-agent": agent, **(headers or {})})

    async def claude(self, body: object, key: str = KEY, version: str = CLAUDE_VERSION) -> Got:
        headers = {"x-api-key": key, "anthropic-version": version}
        return await self.send("POST", "/claude/v1/messages", json=body, headers=headers)

    async def play(self, scenario: str) -> Got:
        return await self.send("POST", "/_scenario", data=scenario)

    async def queue(self, provider: str, **wanted: object) -> Got:
        return await self.send("POST", "/_answer", json={"provider": provider, **wanted})

    async def meter(self, provider: str | None = None) -> dict[str, Any]:
        reading = (await self.send("GET", "/_meter")).json
        return reading if provider is None else reading["providers"][provider]
