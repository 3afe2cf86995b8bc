"""Rewriting the store's file after people were erased, beside whatever else goes on in a process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Self

from sqlalchemy import Connection

from sluiceway.errors import StoreUnavailable
from sluiceway.rights.erasure import note_no_traces, traces_since
from sluiceway.store.engine import Store, leave_no_trace

_AGAIN_AFTER_S: Final = 60.0


class Rewriter:
    """Rewrites a store's file whenever people were erased, while it is entered; once for all who were before it began.

    It begins with what an earlier process left. Reading goes on meanwhile, and writing waits: about 10 s per GB.
    `write` has something done in the process's own transactions.
    """

    def __init__(
        self, store: Store, write: Callable[[Callable[[Connection], Any]], Awaitable[Any]], tell: Callable[[str], None]
    ) -> None:
        self._store = store
        self._write = write
        self._tell = tell
        self._due = asyncio.Event()
        self._closing = asyncio.Event()
        self._next = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if await asyncio.to_thread(self._is_due):
            self._due.set()
        self._task = asyncio.create_task(self._run(), name="sluiceway-rewriter")
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Wait for the end of a rewrite that has begun; what is due after that is left to the next process."""
        self._closing.set()
        self._due.set()
        if self._task is not None:
            await self._task

    async def rewrite(self, within_s: float) -> bool:
        """Have the file rewritten; returns whether it was, in so many seconds. If not, it is when that can be done."""
        done = self._next
        self._due.set()
        try:
            await asyncio.wait_for(asyncio.shield(done), within_s)
        except TimeoutError:
            return False
        return True

    async def _run(self) -> None:
        while await self._due.wait() and not self._closing.is_set():
            self._due.clear()
            done, self._next = self._next, asyncio.get_running_loop().create_future()
            if await self._rewritten():
                await self._write(note_no_traces)
                done.set_result(None)

    async def _rewritten(self) -> bool:
        """Rewrite the file, however often that has to be tried; returns whether it was done before the end."""
        while not await asyncio.to_thread(self._try):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), _AGAIN_AFTER_S)
            if self._closing.is_set():
                return False
        return True

    def _is_due(self) -> bool:
        with self._store.read() as connection:
            return traces_since(connection) is not None

    def _try(self) -> bool:
        try:
            return leave_no_trace(self._store)
        except StoreUnavailable as error:
            self._tell(f"{error}; it holds pieces of people who were erased, and is tried again in a minute")
            return False
