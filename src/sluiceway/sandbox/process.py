"""Run a sandbox beside you, as a process of its own, and talk to it.

Only the standard library is used, so a test that drives a sandbox pays nothing for importing this.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date
    from types import TracebackType

_LINE = "sandbox listening on "


class SandboxStartError(RuntimeError):
    """The sandbox said nothing, or ended; the message carries what it wrote."""


class SandboxRefusedError(RuntimeError):
    """One of the sandbox's own doors answered with an error; the message is its reason."""


class SandboxProcess:
    """A sandbox in a process of its own; `with` starts and stops it.

    It ends when `stop()` is called and also when this process dies, however it dies: it watches a pipe we hold.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        scenario: str = "calm",
        port: int = 0,
        today: date | None = None,
        start_timeout_s: float = 20.0,
    ) -> None:
        self.url = ""
        self._command = [
            sys.executable, "-m", "sluiceway.sandbox", "--until-stdin-closes",
            "--port", str(port), "--seed", str(seed), "--scenario", scenario,
        ]  # fmt: skip
        if today is not None:
            self._command += ["--today", today.isoformat()]
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[str] | None = None
        self._said: list[str] = []

    def __enter__(self) -> SandboxProcess:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process's number, for a test that wants to kill it."""
        if self._process is None:
            raise SandboxStartError("the sandbox is not running")
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it listens.

        Raises SandboxStartError with what it wrote if it does not within the time.
        """
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)  # noqa: S603
        lines: queue.Queue[str] = queue.Queue()
        _listen(self._process.stdout, lines.put)
        complaints = _listen(self._process.stderr, self._said.append)
        try:
            line = lines.get(timeout=self._start_timeout_s)
        except queue.Empty:
            line = ""
        if not line.startswith(_LINE):
            self.stop()
            complaints.join(timeout=2)
            raise SandboxStartError(f"the sandbox did not start: {''.join(self._said).strip() or 'it said nothing'}")
        self.url = line.removeprefix(_LINE).strip()

    def stop(self) -> None:
        """End it and wait until it has ended; a second time does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def meter(self) -> dict[str, Any]:
        """Read the meter."""
        reading: dict[str, Any] = self.get("/_meter")
        return reading

    def get(self, path: str) -> Any:
        """Ask one of the sandbox's own doors and read its JSON."""
        return self._ask(urllib.request.Request(self.url + path))  # noqa: S310

    def post(self, path: str, data: object = None) -> Any:
        """Post to one of the sandbox's own doors: a text or bytes as they are, anything else as JSON."""
        if data is None or isinstance(data, bytes):
            body = data or b""
        else:
            body = (data if isinstance(data, str) else json.dumps(data)).encode()
        return self._ask(urllib.request.Request(self.url + path, body, method="POST"))  # noqa: S310

    def _ask(self, request: urllib.request.Request) -> Any:
        try:
            with _OPENER.open(request, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise SandboxRefusedError(error.read().decode(errors="replace")) from None


# a proxy in the environment has no business between us and our own loopback
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _listen(stream: IO[str] | None, keep: Callable[[str], None]) -> threading.Thread:
    """Keep a pipe empty, or whoever writes into it would stop when it is full."""
    thread = threading.Thread(target=_drain, args=(stream, keep), daemon=True)
    thread.start()
    return thread


def _drain(stream: IO[str] | None, keep: Callable[[str], None]) -> None:
    if stream is not None:
        with stream:
            for line in stream:
                keep(line)
    keep("")
