"""Serving: the open store, the runner of batches and the web application, in one process."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from sluiceway.alerts.rules import rules
from sluiceway.alerts.watch import Watch
from sluiceway.api.application import build
from sluiceway.api.world import Service, World
from sluiceway.app import App, Target, opened
from sluiceway.errors import BadInput
from sluiceway.hooks.address import allowed_by
from sluiceway.hooks.deliveries import batch_ended
from sluiceway.hooks.sender import Sender
from sluiceway.logs import hiding
from sluiceway.pipeline.embedded import Shared
from sluiceway.pipeline.meter_reader import MeterReader
from sluiceway.pipeline.periodic import Chores, Periodic
from sluiceway.pipeline.recover import recover
from sluiceway.pipeline.runner import Runner
from sluiceway.pipeline.uploads import withdraw_left_behind
from sluiceway.rights.rewriting import Rewriter
from sluiceway.settings import Settings
from sluiceway.store.engine import beside
from sluiceway.store.secret import secret_key
from sluiceway.tenancy.caller import Uses
from sluiceway.usage.ledger import Task

Sandboxes = Callable[[], AbstractContextManager[Target]]
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
        await stack.enter_async_context(_watch(main))

        def post(work: Callable[[Any], Any]) -> None:
            main.post(work)

        yield Service(main, Uses(post, main.store.clock.now), trial.world, trial.stop, main.now)


@asynccontextmanager
async def _world(settings: Settings, target: Target, tell: Callable[[str], None]) -> AsyncIterator[World]:
    """Open a store with everything that is at work on it, and end that in the right order."""
    async with opened(settings, names=None, target=target, tell=tell, tidy=True) as app:
        shared, meters = Shared(settings.concurrency), app.meter_reader()
        runner = _runner(app, shared)
        rewriter = Rewriter(app.store, lambda work: app.writer.put(Task(work)), tell)
        await withdraw_left_behind(app.store, app.writer)
        with hiding(app.redact):
            async with meters, rewriter, _sender(app), runner, Periodic(_chores(app, meters).jobs()):
                try:
                    yield World(
                        settings=settings,
                        store=app.store,
                        writer=app.writer,
                        runner=runner,
                        gate=app.gate,
                        suppressions=app.watch.suppressions,
                        rewriter=rewriter,
                        redact=app.redact,
                        sources=app.sources,
                        unusable=app.unusable,
                        worker_id=app.worker.id,
                        sandbox=bool(target.sandbox_url),
                        caller=app.caller,
                        price=lambda requested: app.dispatcher(requested, shared),
                        own=app.own.of,
                        meters=meters,
                        publisher=app.publisher,
                    )
                finally:
                    runner.stop()


def _runner(app: App, shared: Shared) -> Runner:
    """Return what runs the batches that are asked for, while it is entered."""
    return Runner(
        store=app.store,
        writer=app.writer,
        gate=app.gate,
        shared=shared,
        worker_id=app.worker.id,
        dispatch=lambda requested: app.dispatcher(requested, shared),
        recover=lambda: recover(app.store, app.writer),
        ended=lambda connection, batch_id: batch_ended(connection, batch_id, app.store.clock.stamp()),
        tell=app.tell,
    )


def _sender(app: App) -> Sender:
    """Return what tells others, while it is entered."""
    settings = app.settings
    return Sender(
        store=app.store,
        write=lambda work: app.writer.put(Task(work)),
        suppressions=app.watch.suppressions,
        allowed=allowed_by(settings.webhook_allow),
        key=lambda: secret_key(settings.secret_key.get_secret_value(), settings.database_url),
    )


def _chores(app: App, meters: MeterReader) -> Chores:
    """Return what is done now and then."""
    return Chores(
        settings=app.settings,
        store=app.store,
        writer=app.writer,
        suppressions=app.watch.suppressions,
        meters=meters if app.settings.meter_every_s else None,
        stopping=app.gate.draining.is_set,
        tell=app.tell,
    )


def _watch(world: World) -> Watch:
    """Return what looks for what operators should be told, while it is entered."""
    by = rules(world.settings.alert_unknown_calls)
    return Watch(store=world.store, write=lambda work: world.writer.put(Task(work)), rules=by)


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
        self._target: Target | None = None
        self._world: World | None = None

    async def world(self) -> World:
        """Return the world, opening it first."""
        async with self._opening:
            if self._world is None:
                self._world = await self._open()
            return self._world

    async def _open(self) -> World:
        # Kept where the store cannot be opened after it, or every request of a test key would start another sandbox.
        if self._target is None:
            self._target = await asyncio.to_thread(self._stack.enter_context, self._sandbox())
        # No Redis: readers of the public counters must not meet an invented world there. No addresses: those that are
        # set lead to the real providers, and would win over the sandbox's.
        own = {"database_url": beside(self._settings.database_url, "sandbox"), "redis_url": SecretStr("")}
        settings = self._settings.model_copy(update={**own, "base_urls": {}})
        return await self._stack.enter_async_context(_world(settings, self._target, self._tell))

    def stop(self) -> None:
        """Stop its runner, if it was opened."""
        if self._world is not None:
            self._world.runner.stop()


_MOST_PENDING = 2048
"""Connections that may wait until they are taken up."""


class Server(uvicorn.Server):
    """A server that tells the work of the end as soon as it is told."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and only then say so."""
        await super().startup(sockets)
        if self.started:
            self.config.app.state.ready()  # type: ignore[union-attr]

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal; the second one leaves at once, and what was in flight is declared by the next start.

        It is not raised again when all has ended, as uvicorn would: a stop that went well has exit code 0.
        """
        if self.should_exit:
            os._exit(128 + sig)
        self.stop()

    def stop(self) -> None:
        """Take no more requests, and end when everything in flight is booked."""
        service: Service | None = getattr(self.config.app.state, "service", None)  # type: ignore[union-attr]
        if service is not None:
            service.stop()  # or whoever waits for a batch would keep a connection open
        self.should_exit = True


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
            app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=30, lifespan="on",
            proxy_headers=False,  # whose word is taken on who asks is a setting of ours (`api/browser.py`)
        )  # fmt: skip
        server = Server(config)
        made(server)

        app.state.ready = lambda: said(listening.getsockname()[1])
        server.run(sockets=[listening])
        return 0 if server.started else 1
