"""Crash points: off unless asked for, and then as sudden as a SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sluiceway.crash import POINTS, arm, armed, crash_point
from sluiceway.errors import BadSetting

PASSING = """
from sluiceway.crash import crash_point
for number in range(5):
    crash_point("call.sent")
    crash_point("commit.after")
    print(number, flush=True)
"""


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    arm(None)


def passed(setting: str) -> tuple[int, list[str]]:
    """How a process ended that passes two points five times, and what it had said."""
    environment = {**os.environ, "SLUICEWAY_CRASH_AT": setting}
    done = subprocess.run([sys.executable, "-c", PASSING], env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout.split()


@pytest.mark.skipif(os.name == "nt", reason="a process that kills itself ends otherwise there")
@pytest.mark.parametrize(("setting", "said"), [("call.sent:1", []), ("commit.after:3", ["0", "1"]), ("call.sent", [])])
def test_a_process_dies_the_nth_time_it_passes_the_point(setting: str, said: list[str]) -> None:
    assert passed(setting) == (-signal.SIGKILL, said)


def test_another_point_is_passed_unharmed() -> None:
    assert passed("run.closed:1") == (0, ["0", "1", "2", "3", "4"])


@pytest.mark.parametrize("setting", ["nowhere:1", "call.sent:often", "call.sent:-1", ":3", "call.sent:1:2"])
def test_a_point_that_does_not_exist_is_a_bad_setting(setting: str) -> None:
    with pytest.raises(BadSetting, match="SLUICEWAY_CRASH_AT"):
        arm(setting)


def test_nothing_is_armed_unless_asked_for() -> None:
    assert not armed()
    for point in POINTS:
        crash_point(point)
    arm("call.sent:2")
    assert armed()
    arm("")
    assert not armed()
