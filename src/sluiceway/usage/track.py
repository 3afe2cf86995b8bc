"""`track_api_usage`: count calls that Sluiceway did not make itself, without ever getting in their way.

Counts are kept in memory and booked once a second, and at exit, as external usage under an id of their own; a booking
whose outcome is not known is repeated under the same id and counts once. A SIGKILL loses at most the last second.
Where a Redis is set, what was booked is published there at once.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - redis-py imports it, and at exit, when counts are booked, it is too late
import logging
import os
import threading
import time
from collections import Counter, deque
from datetime import UTC, datetime
from typing import Any

log = logging.getLogger(__name__)

_FLUSH_EVERY_S = 1.0
_REDIS_PATIENCE_S = 0.25
"""Short, because the thread that waits for Redis is the one that books."""
_REDIS_AGAIN_S = 5.0


class Tracker:
    """Counts in memory, and a thread that books them.

    `database_url` is the store to book into; `None` leaves it to the settings, which are read when the first booking
    is due and say whether there is a Redis.
    """

    def __init__(self, database_url: str | None = None) -> None:
        self._database_url = database_url
        self._log: deque[tuple[str, int, float, str | None]] = deque()
        self._flushing = threading.Lock()
        self._unbooked: list[Any] = []
        self._store: Any = None
        self._counters: _Counters | None = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._troubled = False

    def track(self, provider: str, calls: int = 1, *, id: str | None = None) -> None:  # noqa: A002
        """Count calls to a provider, today (UTC), once per id. Never raises and never waits for the store."""
        self._log.append((provider, calls, time.time(), id))  # one append, which no other thread can come between
        if self._thread is None:
            self._start()

    def flush(self) -> bool:
        """Book everything counted so far; returns whether the store has it all. Never raises."""
        if not self._log and not self._unbooked and not (self._counters and self._counters.due):
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
            if self._counters:
                self._counters.publish_if_due()
            return True

    def close(self) -> None:
        """Book what is left and end the thread."""
        self._wake.set()
        self.flush()
        if self._counters is not None:
            self._counters.close()
            self._counters = None
        if self._store is not None:
            self._store.close()
            self._store = None

    def _start(self) -> None:
        with self._flushing:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sluiceway-track", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        due = time.monotonic() + _FLUSH_EVERY_S
        while not self._wake.wait(max(0.0, due - time.monotonic())):
            due = time.monotonic() + _FLUSH_EVERY_S
            self.flush()

    def _collect(self) -> None:
        """Turn counts into bookings, each with the one id it will be booked under however often it is tried."""
        from sluiceway.identifier import new_id
        from sluiceway.outcome import timestamp
        from sluiceway.usage.ledger import External

        counts: Counter[tuple[str | None, str, str]] = Counter()
        for _ in range(len(self._log)):
            provider, calls, moment, given = self._log.popleft()
            if not _means_something(provider, calls, given):
                log.warning("track_api_usage ignored provider=%r calls=%r id=%r", provider, calls, given)
                continue
            place = given, provider, datetime.fromtimestamp(moment, UTC).date().isoformat()
            counts[place] = counts[place] or calls if given else counts[place] + calls
        now = timestamp(datetime.now(UTC))
        self._unbooked += [
            External(given or new_id(), provider, day, "tracked", calls, now)
            for (given, provider, day), calls in counts.items()
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
        if self._counters:
            self._counters.due = True

    def _open(self) -> Any:
        if self._store is None:
            from sluiceway.settings import load_settings
            from sluiceway.store.engine import open_store

            settings = load_settings(database_url=self._database_url)
            self._store = open_store(settings.database_url)
            if settings.redis_url.get_secret_value():
                self._counters = _Counters(self._store, settings)
        return self._store


class _Counters:
    """The way from the flushing thread to Redis. Trouble there is said once and waits for a later second."""

    def __init__(self, store: Any, settings: Any) -> None:
        self.due = False
        self._store = store
        self._settings = settings
        self._published: Any = None
        self._redis: Any = None
        self._not_before = float("-inf")
        self._lagging = False

    def publish_if_due(self) -> None:
        """Publish what was booked. Never raises."""
        if not self.due or time.monotonic() < self._not_before:
            return
        try:
            self._publish()
        except Exception as error:  # counting must never hurt the work
            self._not_before = time.monotonic() + _REDIS_AGAIN_S
            if not self._lagging:
                log.warning("counters in Redis lag behind: %s", self._described(error))
            self._lagging = True

    def close(self) -> None:
        """Try once more if something is left, and let go of Redis."""
        self._not_before = float("-inf")
        self.publish_if_due()
        if self._redis is not None:
            self._redis.close()

    def _publish(self) -> None:
        from sluiceway.usage.on_redis import publish

        published, client = self._connected()
        self.due = not publish(self._store, published, client)
        for sentence in published.news():
            log.warning("%s", sentence)
        if self._lagging and not self.due:
            self._lagging = False
            log.warning("counters in Redis have caught up")

    def _connected(self) -> tuple[Any, Any]:
        from sluiceway.store.facts import identify
        from sluiceway.usage.on_redis import Published, connect

        if self._published is None:
            with self._store.writing.begin() as connection:
                identity = identify(connection)
            self._published = Published(identity, self._settings.usage_key_prefix)
            self._redis = connect(self._settings.redis_url.get_secret_value(), patience_s=_REDIS_PATIENCE_S)
        return self._published, self._redis

    def _described(self, error: Exception) -> str:
        from sluiceway.errors import Redactor, describe

        return describe(error, Redactor(self._settings.secrets()))


def _means_something(provider: object, calls: object, given: object) -> bool:
    counted = isinstance(calls, int) and calls > 0
    return isinstance(provider, str) and bool(provider) and counted and (given is None or _is_an_id(given))


def _is_an_id(given: object) -> bool:
    return isinstance(given, str) and bool(given)


def _may_work_later(error: Exception) -> bool:
    """Tell a store that cannot be had at present from one that refuses what it is given."""
    from sqlalchemy.exc import DBAPIError

    from sluiceway.errors import SluicewayError
    from sluiceway.store.engine import is_unreachable

    return isinstance(error, SluicewayError | OSError) or (isinstance(error, DBAPIError) and is_unreachable(error))


_tracker = Tracker()


def track_api_usage(provider: str, calls: int = 1, *, id: str | None = None) -> None:  # noqa: A002
    """Count a call to a provider that was made outside Sluiceway: `track_api_usage("apollo")`.

    Takes well under a microsecond, never raises and never waits. The count is added to
    `api_usage:{provider}:{YYYY-MM-DD}` of the current UTC day within a second, in the store that
    SLUICEWAY_DATABASE_URL names and in the Redis that SLUICEWAY_REDIS_URL names, if any. If this process is killed
    with SIGKILL, at most the last second is lost.

    Give an `id` where the same call may be reported again, by a retry or another process: an id counts once, ever.
    """
    _tracker.track(provider, calls, id=id)


def _start_anew_after_fork() -> None:
    """Give a forked child its own empty tracker; the parent still holds, and books, what it counted."""
    global _tracker
    _tracker = Tracker()


atexit.register(lambda: _tracker.close())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew_after_fork)
