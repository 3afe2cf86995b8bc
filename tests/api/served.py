"""A service that answers over real HTTP, in a thread of this process, with a key for every role of two tenants."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import requests

from sluiceway.api.world import Service
from sluiceway.app import Target
from sluiceway.cli.options import sandbox_target
from sluiceway.sandbox.process import SandboxProcess
from sluiceway.serving import application, serve
from sluiceway.settings import Settings, load_settings
from sluiceway.store.engine import Store
from sluiceway.tenancy.keys import KeyKind, issue_key
from sluiceway.tenancy.roles import Role
from sluiceway.tenancy.tenants import add_tenant
from sluiceway.tenancy.users import User, add_user

ACME, GLOBEX = "acme", "globex"
TENANTS = (ACME, GLOBEX)
BELOW = (Role.TENANT_ADMIN, Role.AGENT, Role.ASSISTANT)
SUPER = "super"

Slowly = Callable[[int], None]
"""Makes the sandbox answer after so many milliseconds."""


class Served:
    """The running service, and who may ask it: `agent@acme`, `tenant_admin@globex`, `super`, …"""

    def __init__(self, store: Store, sandbox: SandboxProcess) -> None:
        self.store = store
        self.sandbox = sandbox
        self.url = ""
        self.users: dict[str, User] = {}
        self.keys: dict[str, str] = {}
        self.told: list[str] = []
        self.app: Any = None
        self._make_users()

    def _make_users(self) -> None:
        now = self.store.clock.now()
        with self.store.change() as connection:
            for tenant in TENANTS:
                add_tenant(connection, tenant, by="test", now=now)
                for role in BELOW:
                    email = f"{role}@{tenant}.example"
                    user = add_user(connection, email, role, tenant, by="test", now=now)
                    self.users[f"{role}@{tenant}"] = user
            self.users[SUPER] = add_user(connection, "root@example.com", Role.SUPER_ADMIN, None, by="test", now=now)
            for who, user in self.users.items():
                self.keys[who] = issue_key(connection, user, KeyKind.LIVE, by="test", now=now).text

    @property
    def service(self) -> Service:
        """What it answers from."""
        service: Service = self.app.state.service
        return service

    def ask(self, method: str, path: str, who: str | None = f"agent@{ACME}", **more: Any) -> requests.Response:
        """Send a request as somebody (`None`: nobody); a path is below `/api/v1` unless it says otherwise."""
        address = path if path.startswith(("/api", "/healthz", "/readyz", "/metrics", "/sign-in")) else f"/api/v1{path}"
        headers = {**({"Authorization": f"Bearer {self.keys[who]}"} if who else {}), **more.pop("headers", {})}
        return requests.request(method, f"{self.url}{address}", headers=headers, timeout=60, **more)

    def get(self, path: str, who: str | None = f"agent@{ACME}", **more: Any) -> requests.Response:
        """Read something."""
        return self.ask("GET", path, who, **more)

    def post(self, path: str, said: Any = None, who: str | None = f"agent@{ACME}", **more: Any) -> requests.Response:
        """Send JSON."""
        return self.ask("POST", path, who, **({"json": said} if said is not None else {}), **more)


@contextmanager
def trial_sandbox() -> Iterator[Target]:
    """A sandbox of test keys' own."""
    with SandboxProcess() as sandbox:
        yield sandbox_target(sandbox.url)


@contextmanager
def serving(store: Store, sandbox: SandboxProcess, **settings: Any) -> Iterator[Served]:
    """Serve a store against the sandbox until the end of the block."""
    served = Served(store, sandbox)
    given = {"database_url": store.url, "meter_every_s": 0, **settings}
    with running(served, load_settings(**given), sandbox_target(sandbox.url)):
        yield served


@contextmanager
def running(served: Served, settings: Settings, target: Target) -> Iterator[None]:
    """Run the server in a thread, and stop it as a signal would."""
    app = served.app = application(settings, target, served.told.append, trial_sandbox)
    listening, ports = threading.Event(), []

    def ready(port: int) -> None:
        ports.append(port)
        listening.set()

    server: list[Any] = []
    thread = threading.Thread(target=lambda: serve(app, "127.0.0.1", 0, ready, server.append), daemon=True)
    thread.start()
    assert listening.wait(30), served.told
    served.url = f"http://127.0.0.1:{ports[0]}"
    try:
        yield
    finally:
        loop: asyncio.AbstractEventLoop = app.state.loop
        loop.call_soon_threadsafe(server[0].stop)
        thread.join(40)
        assert not thread.is_alive(), "the server does not end"
