"""The one writer of a process: many prospects share a commit.

Callers hand over operations from the event loop; a thread gathers what arrived, applies it in one transaction, and
reports back once per commit. An operation is durable when its future resolves. Nothing that was handed over is
withdrawn when its caller is cancelled.

A commit that fails is retried for as long as the process lives while the store is unreachable; where the store
refuses the batch itself, each operation is tried alone, so that one bad row fails alone.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from sluiceway.crash import crash_point
from sluiceway.errors import StoreUnavailable

Op = TypeVar("Op")
Apply = Callable[[Connection, Sequence[Op]], Sequence[Any]]
"""Apply operations inside an open transaction and return one result per operation."""

_RETRY_S = (0.05, 0.2, 1.0, 5.0)


class _Queued(Generic[Op]):
    """An operation on its way to a commit."""

    __slots__ = ("done", "op")

    def __init__(self, op: Op, done: asyncio.Future[Any] | None) -> None:
        self.op = op
        self.done = done


class Writer(Generic[Op]):
    """Group-commit operations on a thread of its own.

    `interval` is how long, in seconds, a commit waits for company; `largest` bounds a transaction, in operations.
    `on_trouble` is told, on the loop, when the store becomes unreachable (a sentence) and when it is back (`None`).
    """

    def __init__(
        self,
        engine: Engine,
        apply: Apply[Op],
        *,
        interval: float = 0.003,
        largest: int = 400,
        on_trouble: Callable[[str | None], None] | None = None,
    ) -> None:
        self._engine = engine
        self._apply = apply
        self._interval = interval
        self._largest = largest
        self._on_trouble = on_trouble
        self._queue: deque[_Queued[Op]] = deque()
        self._wake = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="sluiceway-writer", daemon=True)
        self.commits = 0
        self._thread.start()

    def put(self, op: Op) -> asyncio.Future[Any]:
        """Queue an operation; the future resolves to its result once it is durable."""
        done: asyncio.Future[Any] = self._loop.create_future()
        self._enqueue(_Queued(op, done))
        return done

    def post(self, op: Op) -> None:
        """Queue an operation whose result nobody waits for; it is durable after `flush`."""
        self._enqueue(_Queued(op, None))

    def _enqueue(self, queued: _Queued[Op]) -> None:
        if self._closing:
            raise StoreUnavailable("the writer is closed")
        self._idle.clear()
        self._queue.append(queued)
        if not self._wake.is_set():
            self._wake.set()

    async def flush(self) -> None:
        """Wait until everything queued so far is durable."""
        await asyncio.to_thread(self._idle.wait)

    async def close(self) -> None:
        """Commit what is queued and end the thread."""
        self._closing = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            if not self._closing:
                time.sleep(self._interval)
            self._wake.clear()
            while self._queue:
                self._commit([self._queue.popleft() for _ in range(min(len(self._queue), self._largest))])
            if self._wake.is_set():
                continue
            self._idle.set()
            if self._queue:  # something arrived between the last look and being idle
                self._idle.clear()
                self._wake.set()
            elif self._closing:
                return

    def _commit(self, batch: list[_Queued[Op]]) -> None:
        try:
            results = self._until_reachable([queued.op for queued in batch])
        except Exception as error:
            if len(batch) == 1:
                self._report([(batch[0], None, error)])
            else:
                for queued in batch:
                    self._commit([queued])
            return
        self._report([(queued, result, None) for queued, result in zip(batch, results, strict=True)])

    def _until_reachable(self, ops: Sequence[Op]) -> Sequence[Any]:
        tries = 0
        while True:
            try:
                results = self._transact(ops)
            except OperationalError as error:
                tries += 1
                self._tell(f"the store cannot be written ({_cause(error)}); work waits until it can")
                time.sleep(_RETRY_S[min(tries, len(_RETRY_S)) - 1])
            else:
                if tries:
                    self._tell(None)
                return results

    def _transact(self, ops: Sequence[Op]) -> Sequence[Any]:
        with self._engine.begin() as connection:
            results = self._apply(connection, ops)
            crash_point("commit.before")
        self.commits += 1
        crash_point("commit.after")
        return results

    def _tell(self, trouble: str | None) -> None:
        if self._on_trouble:
            self._loop.call_soon_threadsafe(self._on_trouble, trouble)

    def _report(self, outcomes: list[tuple[_Queued[Op], Any, Exception | None]]) -> None:
        waited_for = [outcome for outcome in outcomes if outcome[0].done is not None]
        if waited_for and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_resolve, waited_for)


def _resolve(outcomes: list[tuple[_Queued[Any], Any, Exception | None]]) -> None:
    for queued, result, error in outcomes:
        if queued.done is None or queued.done.done():
            continue
        if error is None:
            queued.done.set_result(result)
        else:
            queued.done.set_exception(error)


def _cause(error: DBAPIError) -> str:
    return str(error.orig or error).splitlines()[0]
