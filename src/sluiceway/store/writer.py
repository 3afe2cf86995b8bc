"""The one writer of a process: many prospects share a commit.

Callers hand over operations; what arrived within an interval is applied in one transaction. An operation is durable
when its future resolves. Nothing that was handed over is withdrawn when its caller is cancelled.

Statements run on the event loop, because each takes microseconds and on a thread every one of them would have to win
the interpreter back from the loop; only the COMMIT, which waits for the disk, runs on a thread
(docs/decisions/0002-one-writer.md has the measurements).

What holds up a request is committed before what only has to be written some time (`put_first`), in a commit of its
own: a begin that waited behind a hundred finishes would be most of what a call takes longer than the provider does.

While the store cannot be written, a commit is retried for as long as the process lives. Where the store refuses the
batch itself, each operation is tried alone, so that one bad row fails alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import Connection, Engine, RootTransaction
from sqlalchemy.exc import DBAPIError

from sluiceway.crash import crash_point
from sluiceway.errors import StoreUnavailable
from sluiceway.store.engine import do_not_wait_for_locks, is_unreachable

Op = TypeVar("Op")
Apply = Callable[[Connection, Sequence[Op]], Sequence[Any]]
"""Apply operations inside an open transaction and return one result per operation."""

_RETRY_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_WORTH_SAYING_S = 1.0

_LARGEST_IN_BETWEEN = 64
"""Operations that nobody waits for in one commit: what comes meanwhile and is waited for is not held up long."""

_MOST_LEFT_BEHIND = 256
"""Operations that may be overtaken. More of them go first, or a busy process would begin calls faster than it records
how they ended."""


class _Queued(NamedTuple):
    """An operation on its way to a commit (`None` only marks a place in the queue), who waits for it, since when."""

    op: Any
    done: asyncio.Future[Any] | None
    since: float


class Writer(Generic[Op]):
    """Group-commit operations, from a running event loop.

    `interval` is how long, in seconds, a commit waits for company; `largest` bounds a transaction, in operations.
    `tell` is given a sentence when the store cannot be written for a while, when it can again, and when it refused an
    operation that nobody waits for. `committed` is called after every commit that is known to have succeeded.
    `commits` counts those, and the last one was at `committed_at` by the monotonic clock.
    """

    def __init__(
        self,
        engine: Engine,
        apply: Apply[Op],
        *,
        interval: float = 0.003,
        largest: int = 200,
        tell: Callable[[str], None] = lambda sentence: None,
        committed: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._apply = apply
        self._interval = interval
        self._largest = largest
        self._tell = tell
        self._committed = committed
        self._urgent: deque[_Queued] = deque()
        self._queue: deque[_Queued] = deque()
        self._due = asyncio.Event()
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="sluiceway-commit")
        self._connection: Connection | None = None
        self._task = self._loop.create_task(self._run(), name="sluiceway-writer")
        self._in_commit: Sequence[_Queued] = ()
        self.commits = 0
        self.committed_at = time.monotonic()

    @property
    def lag_s(self) -> float:
        """For how many seconds the oldest operation has been waiting that is not durable; 0 when there is none."""
        first = [queue[0].since for queue in (self._in_commit, self._urgent, self._queue) if queue]
        return time.monotonic() - min(first) if first else 0.0

    @property
    def queued(self) -> int:
        """How many operations are not durable yet."""
        return len(self._in_commit) + len(self._urgent) + len(self._queue)

    def put(self, op: Op) -> asyncio.Future[Any]:
        """Queue an operation; the future resolves to its result once it is durable."""
        return self._enqueue_waiting(op)

    def put_first(self, op: Op) -> asyncio.Future[Any]:
        """Queue an operation that a request waits for; it may overtake others, but none that was put first as well."""
        return self._enqueue_waiting(op, urgent=True)

    def post(self, op: Op) -> None:
        """Queue an operation whose result nobody waits for; it is durable after `flush`."""
        self._enqueue(_Queued(op, None, time.monotonic()))

    async def flush(self) -> None:
        """Wait until everything queued so far is durable."""
        await self._enqueue_waiting(None)

    async def close(self) -> None:
        """Commit what is queued and let go of the store."""
        self._closing = True
        self._due.set()
        await self._task
        self._disk.shutdown()
        self._disconnect()

    def _enqueue_waiting(self, op: Any, *, urgent: bool = False) -> asyncio.Future[Any]:
        done: asyncio.Future[Any] = self._loop.create_future()
        self._enqueue(_Queued(op, done, time.monotonic()), urgent=urgent)
        return done

    def _enqueue(self, queued: _Queued, *, urgent: bool = False) -> None:
        if self._closing:
            raise StoreUnavailable("the writer is closed")
        if not self._queue and not self._urgent:
            self._loop.call_later(self._interval, self._due.set)
        (self._urgent if urgent else self._queue).append(queued)

    async def _run(self) -> None:
        while not (self._closing and not self._queue and not self._urgent):
            await self._due.wait()
            self._due.clear()
            while self._queue or self._urgent:
                # Counted first, so that a flush waits for whatever was put first before it.
                urgent, others = len(self._urgent), len(self._queue)
                await self._commit_first(self._urgent, urgent)
                in_between = max(others - _MOST_LEFT_BEHIND, min(others, _LARGEST_IN_BETWEEN))
                await self._commit_first(self._queue, in_between)

    async def _commit_first(self, queue: deque[_Queued], count: int) -> None:
        """Commit so many from the front of a queue."""
        while count > 0:
            batch = [queue.popleft() for _ in range(min(count, self._largest))]
            count -= len(batch)
            self._in_commit = batch
            await self._commit(batch)
            self._in_commit = ()

    async def _commit(self, batch: list[_Queued]) -> None:
        """Make a batch durable and tell who waits; a batch that is refused is tried operation by operation."""
        try:
            await self._until_reachable(batch)
        except Exception as error:  # whatever refused the batch, each operation gets its own try
            if len(batch) == 1:
                self._refuse(batch[0], error)
                return
            for queued in batch:
                await self._commit([queued])

    def _refuse(self, queued: _Queued, error: Exception) -> None:
        if queued.done is None:
            self._say(f"the store refused a {type(queued.op).__name__} ({_cause(error)})")
        elif not queued.done.done():
            queued.done.set_exception(error)

    async def _until_reachable(self, batch: Sequence[_Queued]) -> None:
        started, tries, said = time.monotonic(), 0, False
        while True:
            try:
                await self._transact(batch)
            except DBAPIError as error:
                if not is_unreachable(error):
                    raise
                if not said and time.monotonic() - started > _WORTH_SAYING_S:
                    said = True
                    self._say(f"the store cannot be written ({_cause(error)}); work waits until it can")
                await asyncio.sleep(_RETRY_S[min(tries, len(_RETRY_S) - 1)])
                tries += 1
            else:
                if said:
                    self._say("the store can be written again; going on")
                return

    async def _transact(self, batch: Sequence[_Queued]) -> None:
        ops = [queued.op for queued in batch if queued.op is not None]
        if not ops:
            _tell_who_waits(batch, ())
            return
        connection = self._connect()
        try:
            transaction = connection.begin()
            results = self._apply(connection, ops)
            crash_point("commit.before")
            await self._loop.run_in_executor(self._disk, self._commit_durably, transaction, batch, results)
        except BaseException:
            self._disconnect()  # which rolls back; the next try starts on a clean connection
            raise
        self.commits += 1
        self.committed_at = time.monotonic()
        with suppress(Exception):  # the commit stands, whatever anybody makes of it
            self._committed()

    def _commit_durably(self, transaction: RootTransaction, batch: Sequence[_Queued], results: Sequence[Any]) -> None:
        transaction.commit()
        crash_point("commit.after")
        # Told from here, because a busy loop takes two more rounds until this writer's task is awake.
        self._loop.call_soon_threadsafe(_tell_who_waits, batch, results)

    def _say(self, sentence: str) -> None:
        with suppress(Exception):  # whoever listens may be gone, and the work goes on
            self._tell(sentence)

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
            do_not_wait_for_locks(self._connection)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _tell_who_waits(batch: Sequence[_Queued], results: Iterable[Any]) -> None:
    left = iter(results)
    for queued in batch:
        result = next(left) if queued.op is not None else None
        if queued.done is not None and not queued.done.done():
            queued.done.set_result(result)


def _cause(error: Exception) -> str:
    """Return what the database said, without the statement and its values, which are about people."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return str(error.orig).splitlines()[0]
    return type(error).__name__
