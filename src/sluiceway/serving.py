"""Serving: the open store, the runner of batches and the web application, in one process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from types import FrameType
from typing import Any, Final

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
from sluiceway.pipeline.embedded import Shared
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

_BACKLOG: Final = 2048


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

        await stack.enter_async_context(watch_of(main))

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
            ended=lambda connection, batch_id: batch_ended(connection, batch_id, app.store.clock.stamp()),
            tell=tell,
        )
        rewriter = Rewriter(app.store, lambda work: app.writer.put(Task(work)), tell)
        await withdraw_left_behind(app.store, app.writer)
        async with app.meter_reader(), rewriter, sender_of(app), runner:
            try:
                yield world_of(app, runner, rewriter, shared, sandbox=bool(target.sandbox_url))
            finally:
                runner.stop()


def sender_of(app: App) -> Sender:
    """Return what tells others, while it is entered."""
    settings = app.settings
    return Sender(
        store=app.store,
        write=lambda work: app.writer.put(Task(work)),
        suppressions=app.watch.suppressions,
        allowed=allowed_by(settings.webhook_allow),
        key=lambda: secret_key(settings.secret_key.get_secret_value(), settings.database_url),
    )


def watch_of(world: World) -> Watch:
    """Return what looks for what operators should be told, while it is entered."""
    by = rules(world.settings.alert_unknown_calls)
    return Watch(store=world.store, write=lambda work: world.writer.put(Task(work)), rules=by)


def world_of(app: App, runner: Runner, rewriter: Rewriter, shared: Shared, *, sandbox: bool) -> World:
    """Return what requests are answered from."""
    return World(
        settings=app.settings,
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
        sandbox=sandbox,
        caller=app.caller,
        price=lambda requested: app.dispatcher(requested, shared),
        own=app.own.of,
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
        listening.listen(_BACKLOG)  # so that who is told of the port at once is not refused
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=30, lifespan="on",
            proxy_headers=False,  # whose word is taken on who asks is a setting of ours (`api/browser.py`)
        )  # fmt: skip
        server = Server(config)
        made(server)

        app.state.ready = lambda: said(listening.getsockname()[1])
        server.run(sockets=[listening])
        return 0 if server.started else 1
