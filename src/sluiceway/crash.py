"""Named points on a call's path where a test may kill the process, to see what survives.

`SLUICEWAY_CRASH_AT=name:n` kills this process with SIGKILL the n-th time it passes `name`. Nothing is caught,
flushed or cleaned up, which is the point.
"""

from __future__ import annotations

import os
from typing import Final

from sluiceway.errors import BadSetting
from sluiceway.process import kill_this_process

POINTS: Final = (
    "ingest.chunk",  # some of the file's rows are in the store
    "plan.agreed",  # the person said yes, nothing is sent
    "run.admitted",  # limits let the first attempts of a run through, nothing of it is durable
    "run.opened",  # the run's rows and its first attempts are durable, nothing is sent
    "call.sending",  # about to hand the request to the HTTP client
    "call.sent",  # the request left, its answer has not come
    "call.answered",  # the answer is in memory only
    "finish.queued",  # the finish is handed to the writer
    "commit.before",  # everything is applied, nothing is committed
    "commit.after",  # committed, nobody has been told
    "retry.before",  # between a free answer and the next attempt
    "last.asked",  # the other sources have closed and the last one is about to be asked
    "run.closed",  # the run has ended, its batch has not
    "document.stored",  # a shared document is durable
    "recover.declared",  # attempts of a dead worker are declared unknown
    "output.writing",  # the enriched file is half written
)

POINTS_WITH_REDIS: Final = (
    "counters.published",  # Redis shows the latest totals, and this process has not noted it
)

POINTS_ELSEWHERE: Final = (
    "adopt.taken",  # counts another program wrote are taken over in Redis, and not booked
    "adopt.booked",  # they are booked, and Redis does not know
)

_armed: tuple[str, int] | None = None
_passed = 0


def arm(setting: str | None) -> None:
    """Arm one crash point from `name:n`; `None` disarms. Raises `BadSetting` for an unknown name."""
    global _armed, _passed
    _passed = 0
    if not setting:
        _armed = None
        return
    name, _, times = setting.partition(":")
    known = (*POINTS, *POINTS_WITH_REDIS, *POINTS_ELSEWHERE)
    if name not in known or not (times or "1").isdecimal():
        raise BadSetting(f"SLUICEWAY_CRASH_AT={setting!r}: expected name:n with name one of {', '.join(known)}")
    _armed = (name, int(times or "1"))


def armed() -> bool:
    """Tell whether any point is armed, for callers whose point costs something to reach."""
    return _armed is not None


def crash_point(name: str) -> None:
    """Die here if this point is armed and has been passed often enough."""
    global _passed
    if _armed is None or _armed[0] != name:
        return
    _passed += 1
    if _passed >= _armed[1]:
        kill_this_process()


arm(os.environ.get("SLUICEWAY_CRASH_AT"))
