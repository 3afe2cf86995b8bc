"""Serving: the open store, the runner of batches and the web application, in one process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from sluiceway.api.application import build
from sluiceway.api.world import Service, World
from sluiceway.app import App, Target, opened
from sluiceway.errors import BadInput
from sluiceway.pipeline.embedded import Shared
from sluiceway.pipeline.recover import recover
from sluiceway.pipeline.runner import Runner
from sluiceway.settings import Settings
from sluiceway.store.engine import beside
from sluiceway.tenancy.caller import Uses

Sandboxes = Callable[[], Any]
"""Starts a sandbox of our own, as a context that gives the target to ask."""


def application(settings: Settings, target: Target, tell: Callable[[str], None], sandbox: Sandboxes) -> FastAPI:
    """Return the web application; test keys' requests go to a sandbox that is started when the first one comes."""
    return build(partial(_service, settings, target, tell, sandbox))


@asynccontextmanager
async def _service(
    settings: Settings, target: Target, tell: Callable[[str], None], sandbox: Sandboxes
) -> AsyncIterator[Service]:
    """Open what requests are answered from, and close it when everything in flight is booked."""
    async with AsyncExitStack() as stack:
        main = await stack.enter_async_context(_world(settings, target, tell))
        trial = _Trial(stack, settings, tell, sandbox)

        def post(work: Callable[[Any], Any]) -> None:
            main.post(work)

        yield Service(main, Uses(post, main.store.clock.now), trial.world, trial.stop, main.now)


@asynccontextmanager
async def _world(settings: Settings, target: Target, tell: Callable[[str], None]) -> AsyncIterator[World]:
    async with opened(settings, names=None, target=target, tell=tell, tidy=True) as app:
        shared = Shared(settings.concurrency)
        runner = Runner(
            store=app.store,
            writer=app.writer,
            gate=app.gate,
            shared=shared,
            dispatch=lambda requested: app.dispatcher(requested, shared),
            recover=lambda: recover(app.store, app.writer),
            ended=lambda connection, batch_id: None,
            tell=tell,
        )
        async with app.meter_reader(), runner:
            try:
                yield world_of(app, runner, shared, sandbox=bool(target.sandbox_url))
            finally:
                runner.stop()


def world_of(app: App, runner: Runner, shared: Shared, *, sandbox: bool) -> World:
    """Return what requests are answered from."""
    return World(
        settings=app.settings,
        store=app.store,
        writer=app.writer,
        runner=runner,
        gate=app.gate,
        suppressions=app.watch.suppressions,
        redact=app.redact,
        sources=app.sources,
        unusable=app.unusable,
        worker_id=app.worker.id,
        sandbox=sandbox,
        caller=app.caller,
        price=lambda requested: app.dispatcher(requested, shared),
    )


class _Trial:
    """The world of test keys, opened when the first one is used and kept until the end."""

    def __init__(
        self, stack: AsyncExitStack, settings: Settings, tell: Callable[[str], None], sandbox: Sandboxes
    ) -> None:
        self._stack = stack
        self._settings = settings
        self._tell = tell
        self._sandbox = sandbox
        self._opening = asyncio.Lock()
        self._world: World | None = None

    async def world(self) -> World:
        """Return the world, opening it first."""
        async with self._opening:
            if self._world is None:
                self._world = await self._open()
            return self._world

    async def _open(self) -> World:
        target = await asyncio.to_thread(self._stack.enter_context, self._sandbox())
        # No Redis: readers of the public counters must not meet an invented world there.
        own = {"database_url": beside(self._settings.database_url, "sandbox"), "redis_url": SecretStr("")}
        settings = self._settings.model_copy(update=own)
        return await self._stack.enter_async_context(_world(settings, target, self._tell))

    def stop(self) -> None:
        """Stop its runner, if it was opened."""
        if self._world is not None:
            self._world.runner.stop()


_MOST_PENDING = 2048
"""Connections that may wait until they are taken up."""


class Server(uvicorn.Server):
    """A server that tells the work of the end as soon as it is told."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal; the second one leaves at once."""
        self._stop_work()
        super().handle_exit(sig, frame)

    def stop(self) -> None:
        """Stop as after a signal."""
        self._stop_work()
        self.should_exit = True

    def _stop_work(self) -> None:
        """End everything that would keep a connection open."""
        service: Service | None = getattr(self.config.app.state, "service", None)  # type: ignore[union-attr]
        if service is not None:
            service.stop()


def serve(
    app: FastAPI,
    host: str,
    port: int,
    said: Callable[[int], None],
    made: Callable[[Server], None] = lambda server: None,
) -> int:
    """Serve until a signal comes; then take no more requests, end what is in flight and book it.

    `said` is given the port when requests are answered on it; port 0 takes any that is free. `made` is given the
    server, which can be stopped from its own loop. Returns the exit code.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(_MOST_PENDING)  # before anybody is told, so that nobody is refused
        except OSError as error:
            raise BadInput(f"cannot listen on {host} port {port}: {error.strerror}; choose another (--port)") from None
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=30, lifespan="on"
        )
        server = Server(config)
        made(server)
        app.state.ready = lambda: said(listening.getsockname()[1])
        server.run(sockets=[listening])
        return 0 if server.started else 1
