"""A Redis of one's own, on a free port, that may be ended and started again empty."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from typing import Self

import redis

_PATIENCE_S = 20.0


class PrivateRedis:
    """A server process that keeps nothing on disk. Use as a context."""

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise SystemExit("redis-server is missing; `make services` says how to get it")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{port}"
        self.client = redis.Redis(port=port, decode_responses=True)
        self._command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.client.close()
        self._kill()

    def restart_empty(self) -> None:
        """End it at once, as a power cut would, and start it with nothing in it."""
        self._kill()
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        give_up = time.monotonic() + _PATIENCE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError("redis-server does not answer")
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
