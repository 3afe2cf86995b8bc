"""Who this process is, and what becomes of the calls of one that died.

A worker holds a file lock for as long as it lives; the operating system frees it however the worker ends. An open
attempt is declared `unknown` when its worker's lock is free, or when its deadline has long passed, whatever else
seems to be alive.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout
from sqlalchemy import delete, select

from sluiceway.crash import crash_point
from sluiceway.errors import BadInput
from sluiceway.identifier import new_id
from sluiceway.outcome import UNKNOWN_CHARGE, timestamp
from sluiceway.store.bulk import Insert
from sluiceway.store.engine import Store
from sluiceway.store.schema import attempts, runs, workers
from sluiceway.store.writer import Writer
from sluiceway.usage.ledger import Finish, Op, Task

GRACE = timedelta(seconds=10)
"""How long after its deadline an open attempt may still be finished by a worker that seems alive."""


class Worker(msgspec.Struct, frozen=True):
    """This process, as the ledger knows it."""

    id: str


@contextmanager
def working(store: Store) -> Iterator[Worker]:
    """Be a worker: hold a lock that says so until the end of the block or of the process."""
    worker = Worker(new_id())
    path = store.lock_of(worker.id)
    with FileLock(path):
        yield worker
    path.unlink(missing_ok=True)


@contextmanager
def holding(store: Store, name: str, taken: str) -> Iterator[None]:
    """Be the only one who works on something on this machine; raises `BadInput` with `taken` if another does."""
    lock = FileLock(store.state / f"{name}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BadInput(f"{taken}; wait for it to end, or stop it") from None
    try:
        yield
    finally:
        lock.release()


async def register(worker: Worker, store: Store, writer: Writer[Op]) -> None:
    """Enter this worker into the store, so that others can tell whether it lives."""
    row = (worker.id, socket.gethostname(), os.getpid(), store.clock.stamp())
    await writer.put(Task(lambda connection: _REGISTER.run(connection, [row]) and None))


_REGISTER = Insert(workers, ("id", "host", "pid", "started_at"))


async def recover(store: Store, writer: Writer[Op]) -> int:
    """Declare `unknown` every open attempt that nobody can finish any more; returns how many there were."""
    lost = _lost_attempts(store)
    for finish in lost:
        writer.post(finish)
    if lost:
        await writer.flush()
        crash_point("recover.declared")
    return len(lost)


def _lost_attempts(store: Store) -> list[Finish]:
    now = store.clock.now()
    with store.read() as connection:
        a = attempts.c
        query = select(a.day, a.id, a.worker_id, a.deadline_at).where(a.finished_at.is_(None))
        open_attempts = connection.execute(query).all()
        hosts = {row.id: row.host for row in connection.execute(select(workers.c.id, workers.c.host))}
    dead = {row.worker_id: _is_dead(store, row.worker_id, hosts.get(row.worker_id)) for row in open_attempts}
    overdue = timestamp(now - GRACE)
    return [
        Finish(day, attempt_id, timestamp(now), "unknown", UNKNOWN_CHARGE, error=_reason(dead[worker_id]))
        for day, attempt_id, worker_id, deadline_at in open_attempts
        if dead[worker_id] or deadline_at < overdue
    ]


def _reason(dead: bool) -> str:
    return "its worker ended before the answer came" if dead else "its deadline passed and no worker finished it"


def is_alive(store: Store, worker_id: str) -> bool:
    """Tell whether a worker still holds its lock, as far as this machine can see."""
    with store.read() as connection:
        host = connection.execute(select(workers.c.host).where(workers.c.id == worker_id)).scalar()
    return not _is_dead(store, worker_id, host)


def _is_dead(store: Store, worker_id: str, host: str | None) -> bool:
    """Prove a worker dead by taking its lock. One whose lock we cannot see cannot be proven dead from here."""
    if host is None:
        return True
    if not store.sees_locks_of(host):
        return False
    path = store.lock_of(worker_id)
    if not path.exists():
        return True
    try:
        with FileLock(path, timeout=0):
            return True
    except Timeout:
        return False


async def forget_dead_workers(store: Store, writer: Writer[Op]) -> None:
    """Drop workers that are dead and hold nothing, with their lock files."""
    with store.read() as connection:
        holding = select(attempts.c.worker_id).where(attempts.c.finished_at.is_(None))
        waiting = select(runs.c.worker_id).where(runs.c.closed_at.is_(None))
        query = select(workers).where(workers.c.id.not_in(holding), workers.c.id.not_in(waiting))
        idle = connection.execute(query).all()
    dead = [row.id for row in idle if _is_dead(store, row.id, row.host)]
    if dead:
        statement = delete(workers).where(workers.c.id.in_(dead))
        await writer.put(Task(lambda connection: connection.execute(statement) and None))
    _remove(map(store.lock_of, dead))


def _remove(locks: Iterable[Path]) -> None:
    for lock in locks:
        lock.unlink(missing_ok=True)
