"""Serve the five providers, and the sandbox's own doors, from one process on one loopback port."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from typing import TYPE_CHECKING, cast

from aiohttp import web

from sluiceway.sandbox.control import Control
from sluiceway.sandbox.delivery import Delivery
from sluiceway.sandbox.scenario import load
from sluiceway.sandbox.wire import Ask
from sluiceway.sandbox.world import World

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

_PATIENCE_S = 0.2  # how long answers under way may take at the end


class SandboxError(Exception):
    """The sandbox cannot listen where it was told to; the message says what to change."""


class Sandbox:
    """A running sandbox; `async with` starts and ends it, `url` is where it listens."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int = 0,
        scenario: str = "calm",
        today: date | None = None,
    ) -> None:
        if not _is_loopback(host):
            raise SandboxError(f"the sandbox listens on loopback addresses only, and {host} is not one")
        if not 0 <= port <= 65535:
            raise SandboxError(f"there is no port {port}; ports go from 0, which finds a free one, to 65535")
        self.world = World(seed, today)
        self.control = Control(self.world, load(scenario))
        self._host = host
        self._port = port
        self._web: web.Server | None = None
        self._listener: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The address every provider's prefix is appended to."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    async def __aenter__(self) -> Sandbox:
        # a client that hangs up cancels whatever was still going to be written to it
        self._web = web.Server(self._serve, handler_cancellation=True, access_log=None)
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(self._web, self._host, self._port, backlog=1024)
        except OSError as error:
            raise SandboxError(
                f"cannot listen on {self._host} port {self._port}: {os.strerror(error.errno or 0).lower()}"
            ) from error
        self._port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listener is not None:
            self._listener.close()
        if self._web is not None:
            await self._web.shutdown(_PATIENCE_S)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        prefix, _, rest = path[1:].partition("/")
        counter = self.control.counters.get(prefix)
        if counter is not None:
            self.control.meter.received(prefix)
        body = await request.content.read() if request.body_exists else b""
        ask = Ask(request.method, path if counter is None else f"/{rest}", query, request.headers, body)
        delivery = Delivery(self.control.answer(ask)) if counter is None else counter.decide(ask)
        if delivery.delay_s > 0:
            await asyncio.sleep(delivery.delay_s)
        return cast("web.StreamResponse", delivery)  # which it resembles in all the server looks at


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    seed: int = 0,
    scenario: str = "calm",
    today: date | None = None,
    stop: asyncio.Event,
    announce: Callable[[str], None],
) -> None:
    """Run a sandbox until `stop` is set; `announce` is called once with its URL.

    Raises SandboxError if it cannot listen there, ScenarioError if the scenario cannot be read.
    """
    async with Sandbox(host=host, port=port, seed=seed, scenario=scenario, today=today) as sandbox:
        announce(sandbox.url)
        await stop.wait()
