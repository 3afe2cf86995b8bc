"""A private Redis on a free port, which a test may kill, stop, empty and put back to an earlier snapshot."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest
import redis

PATIENCE_S = 20.0


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as any_socket:
        any_socket.bind(("127.0.0.1", 0))
        return int(any_socket.getsockname()[1])


class RedisServer:
    """A server process of our own; it keeps nothing on disk unless it is told to. Use as a context."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.client = redis.Redis(port=self.port, decode_responses=True, socket_timeout=5)
        self.raw = redis.Redis(port=self.port, socket_timeout=5)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.client.close()
        self.raw.close()
        self.kill()

    def start(self) -> None:
        """Start it with whatever its folder holds, and wait until it answers."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [self._program, *options, "--dir", str(self._folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        give_up = time.monotonic() + PATIENCE_S
        while not self._answers():
            assert time.monotonic() < give_up, "redis-server does not answer"
            time.sleep(0.01)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_S)
            self._process = None

    def restart_empty(self) -> None:
        """Kill it and start it with nothing in it."""
        self.kill()
        self._dump.unlink(missing_ok=True)
        self.start()

    def snapshot(self) -> None:
        """Write what it holds to disk."""
        self.client.save()

    def restore(self) -> None:
        """Kill it and start it from the last snapshot."""
        assert self._dump.exists(), "there is no snapshot"
        self.kill()
        self.start()

    def stop(self) -> None:
        """Let it hang: connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on after `stop`."""
        self._signal(signal.SIGCONT)

    def counters(self, prefix: str = "") -> dict[str, int]:
        """The public counters it holds."""
        names = sorted(self.client.scan_iter(match=f"{prefix}api_usage:*", count=1000))
        return {name: int(self.client.get(name)) for name in names}

    def without_expiry(self) -> list[str]:
        """Keys that would stay for ever."""
        return [name for name in self.client.scan_iter(count=1000) if self.client.ttl(name) == -1]

    @property
    def _dump(self) -> Path:
        return self._folder / "dump.rdb"

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "redis-server ended"
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False


@contextmanager
def private_redis(folder: Path) -> Iterator[RedisServer]:
    """Start a new, empty Redis in a folder of its own; where it is not installed the test is skipped."""
    program = shutil.which("redis-server")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("redis-server is missing, and a run in CI skips no test")
        pytest.skip("redis-server is not installed")
    folder.mkdir()
    with RedisServer(program, folder) as server:
        yield server


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A new, empty Redis."""
    with private_redis(tmp_path / "redis") as server:
        yield server
