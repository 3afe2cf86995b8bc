"""What every test may count on: no network beyond this machine, no settings from outside, a store, a sandbox."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluiceway.sandbox.process import SandboxProcess
from sluiceway.store.engine import Store, open_store

pytest.register_assert_rewrite("builders", "redis_server")
pytest_plugins = ["redis_server"]

_SET_FROM_OUTSIDE = ("SLUICEWAY_", "APOLLO_", "CONTACTOUT_", "EXA_", "ANTHROPIC_", "SEC_EDGAR_")


class BeyondThisMachineError(RuntimeError):
    """A test tried to reach another machine."""


@pytest.fixture(autouse=True)
def _nothing_beyond_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections to other machines, and know no other machine's name."""
    connect, connect_ex, look_up = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        _refuse_others(self, address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        _refuse_others(self, address)
        return connect_ex(self, address)

    def guarded_look_up(host: Any, *arguments: Any, **named: Any) -> Any:
        if not _is_here(host):
            raise socket.gaierror(socket.EAI_NONAME, f"tests know no other machine's name, and this is {host!r}")
        return look_up(host, *arguments, **named)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)


def _refuse_others(connecting: socket.socket, address: Any) -> None:
    if connecting.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(address[0]):
        raise BeyondThisMachineError(f"a test tried to connect to {address}")


def _is_here(host: Any) -> bool:
    host = host.decode() if isinstance(host, bytes) else host
    if host in (None, "", "localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tests the same on a machine where Sluiceway is in use."""
    for name in [name for name in os.environ if name.startswith(_SET_FROM_OUTSIDE)]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def _new_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as it is created, made once: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("store") / "new.db"
    open_store(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def store_url(_new_store: Path, tmp_path: Path) -> str:
    """The address of a new store in a folder of its own."""
    return f"sqlite:///{shutil.copy(_new_store, tmp_path / 'ledger.db')}"


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A new store, open."""
    store = open_store(store_url)
    yield store
    store.close()


@pytest.fixture(scope="session")
def _one_sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(_one_sandbox: SandboxProcess) -> SandboxProcess:
    """All five providers on a calm day, with the meter at zero and no answer queued."""
    _one_sandbox.post("/_answer/clear")
    _one_sandbox.post("/_scenario/restart")
    _one_sandbox.post("/_meter/reset")
    return _one_sandbox
