"""The sandbox as a process of its own starts with one line, serves, and leaves nobody behind."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import date

import pytest

from sluiceway.sandbox.process import SandboxProcess, SandboxRefusedError, SandboxStartError

IMPORTS = """
import sys
import sluiceway.sandbox.process, sluiceway.sandbox.people
print([name for name in ("aiohttp", "msgspec", "asyncio") if name in sys.modules])
"""
PARENT = """
import os, sys
from sluiceway.sandbox.process import SandboxProcess
sandbox = SandboxProcess()
sandbox.start()
print(sandbox.url, flush=True)
os._exit(9)
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess(seed=7, today=date(2026, 11, 24)) as running:
        yield running


def test_it_starts_serves_and_is_driven_with_the_standard_library(sandbox: SandboxProcess) -> None:
    assert sandbox.url.startswith("http://127.0.0.1:")
    assert sandbox.meter()["repeated_requests"] == 0
    assert sandbox.post("/_answer", {"provider": "exa", "status": 500}) == {"queued": 1}
    assert sandbox.post("/_scenario", "description = 'Changed.'")["description"] == "Changed."
    assert sandbox.post("/_meter/reset")["providers"]["exa"]["requests"] == 0
    with pytest.raises(SandboxRefusedError, match="there is no key"):
        sandbox.post("/_scenario", "nonsense = 1")


def test_a_busy_port_is_told_in_one_line(sandbox: SandboxProcess) -> None:
    port = int(sandbox.url.rpartition(":")[2])
    with pytest.raises(SandboxStartError, match=rf"sandbox: cannot listen on 127.0.0.1 port {port}: [^\n]*$"):
        SandboxProcess(port=port).start()


def test_a_scenario_that_does_not_exist_is_told_with_those_that_do() -> None:
    with pytest.raises(SandboxStartError, match=r"no scenario 'sunny'.*bad-day"):
        SandboxProcess(scenario="sunny").start()


def test_stopping_twice_is_stopping_once() -> None:
    running = SandboxProcess()
    running.start()
    running.stop()
    running.stop()
    assert not _answers(running.url)


def test_terminating_it_leaves_no_traceback() -> None:
    command = [sys.executable, "-m", "sluiceway.sandbox"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
        rest, complaints = process.communicate(timeout=10)
    assert line.startswith("sandbox listening on http://127.0.0.1:")
    assert (rest, complaints) == ("", "")
    assert process.returncode in (0, 1 if sys.platform == "win32" else 0)


def test_it_ends_with_a_parent_that_is_killed() -> None:
    url = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, text=True, timeout=30).stdout.strip()
    assert url
    deadline = time.monotonic() + 10
    while _answers(url) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _answers(url)


def test_importing_the_driver_costs_no_web_framework() -> None:
    run = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, timeout=30, check=True)
    assert run.stdout.strip() == "[]"


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/_meter", timeout=2):
        return True
    return False
