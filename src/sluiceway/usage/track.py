"""`track_api_usage`: count calls that Sluiceway did not make itself, without ever getting in their way.

Counts are kept in memory and booked once a second, and at exit, as external usage under an id of their own; a booking
whose outcome is not known is repeated under the same id and counts once. A SIGKILL loses at most the last second.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import Counter, deque
from datetime import UTC, datetime
from typing import Any

log = logging.getLogger(__name__)

_FLUSH_EVERY_S = 1.0


class Tracker:
    """Counts in memory, and a thread that books them.

    `database_url` is the store to book into; `None` reads the settings when the first booking is due.
    """

    def __init__(self, database_url: str | None = None) -> None:
        self._database_url = database_url
        self._log: deque[tuple[str, int, float]] = deque()
        self._flushing = threading.Lock()
        self._unbooked: list[Any] = []
        self._store: Any = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._troubled = False

    def track(self, provider: str, calls: int = 1) -> None:
        """Count calls to a provider, today (UTC). Never raises and never waits for the store."""
        self._log.append((provider, calls, time.time()))  # one append, which no other thread can come between
        if self._thread is None:
            self._start()

    def flush(self) -> bool:
        """Book everything counted so far; returns whether the store has it all. Never raises."""
        if not self._log and not self._unbooked:
            return True
        with self._flushing:
            try:
                self._collect()
                self._book()
            except Exception as error:  # counting must never hurt the work
                if not self._troubled:
                    log.warning("usage could not be booked and is kept for the next second: %s", error)
                self._troubled = True
                return False
            self._troubled = False
            return True

    def close(self) -> None:
        """Book what is left and end the thread."""
        self._wake.set()
        self.flush()
        if self._store is not None:
            self._store.close()
            self._store = None

    def _start(self) -> None:
        with self._flushing:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sluiceway-track", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._wake.wait(_FLUSH_EVERY_S):
            self.flush()

    def _collect(self) -> None:
        """Turn counts into bookings, each with the one id it will be booked under however often it is tried."""
        from sluiceway.identifier import new_id
        from sluiceway.outcome import timestamp
        from sluiceway.usage.ledger import External

        counts: Counter[tuple[str, str]] = Counter()
        for _ in range(len(self._log)):
            provider, calls, moment = self._log.popleft()
            if isinstance(provider, str) and provider and isinstance(calls, int) and calls > 0:
                counts[provider, datetime.fromtimestamp(moment, UTC).date().isoformat()] += calls
            else:
                log.warning("track_api_usage ignored provider=%r calls=%r", provider, calls)
        now = timestamp(datetime.now(UTC))
        self._unbooked += [
            External(new_id(), provider, day, "tracked", calls, now) for (provider, day), calls in counts.items()
        ]

    def _book(self) -> None:
        """Write all bookings at once; where the store refuses them, one by one, so that one bad one falls alone."""
        if not self._unbooked:
            return
        try:
            self._write(self._unbooked)
            self._unbooked = []
        except Exception as error:
            if _may_work_later(error):
                raise
            self._book_one_by_one()

    def _book_one_by_one(self) -> None:
        while self._unbooked:
            try:
                self._write(self._unbooked[:1])
            except Exception as error:
                if _may_work_later(error):
                    raise
                log.warning("track_api_usage dropped a count that cannot be stored: %s", type(error).__name__)
            del self._unbooked[0]

    def _write(self, bookings: list[Any]) -> None:
        from sluiceway.usage.ledger import apply

        with self._open().writing.begin() as connection:
            apply(connection, bookings)

    def _open(self) -> Any:
        if self._store is None:
            from sluiceway.settings import load_settings
            from sluiceway.store.engine import open_store

            self._store = open_store(self._database_url or load_settings().database_url)
        return self._store


def _may_work_later(error: Exception) -> bool:
    """Tell a store that cannot be had at present from one that refuses what it is given."""
    from sqlalchemy.exc import DBAPIError

    from sluiceway.errors import SluicewayError
    from sluiceway.store.engine import is_unreachable

    return isinstance(error, SluicewayError | OSError) or (isinstance(error, DBAPIError) and is_unreachable(error))


_tracker = Tracker()


def track_api_usage(provider: str, calls: int = 1) -> None:
    """Count a call to a provider that was made outside Sluiceway: `track_api_usage("apollo")`.

    Takes well under a microsecond, never raises and never waits. The count is added to
    `api_usage:{provider}:{YYYY-MM-DD}` of the current UTC day within a second, in the store that
    SLUICEWAY_DATABASE_URL names. If this process is killed with SIGKILL, at most the last second is lost.
    """
    _tracker.track(provider, calls)


def _start_anew_after_fork() -> None:
    """Give a forked child its own empty tracker; the parent still holds, and books, what it counted."""
    global _tracker
    _tracker = Tracker()


atexit.register(lambda: _tracker.close())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew_after_fork)
