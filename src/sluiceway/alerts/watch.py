"""Looking at the store every so often, for what operators should be told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Self

from sqlalchemy import Connection

from sluiceway.alerts.alarms import Finding, settle
from sluiceway.alerts.rules import Rule
from sluiceway.store.engine import Store

log = logging.getLogger(__name__)

Write = Callable[[Callable[[Connection], object]], asyncio.Future[object]]
"""Has something done in a transaction; the future resolves when it is durable."""

_FIRST_AFTER_S: Final = 30.0


class Watch:
    """Looks by every rule when its time has come, while it is entered; what fails is tried again the next time."""

    def __init__(self, *, store: Store, write: Write, rules: Sequence[Rule], first_after_s: float = _FIRST_AFTER_S):
        self._store = store
        self._write = write
        now = time.monotonic()
        self._due = {rule: now + min(first_after_s, rule.every_s) for rule in rules}
        self._ended = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="sluiceway-watch")
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._ended.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while not self._ended.is_set():
            rule = min(self._due, key=self._due.__getitem__)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), max(0.0, self._due[rule] - time.monotonic()))
                return
            self._due[rule] = time.monotonic() + rule.every_s
            await self._look(rule)

    async def _look(self, rule: Rule) -> None:
        try:
            found = await asyncio.to_thread(self._found, rule)
            await self._write(partial(settle, kinds=rule.kinds, found=found, now=self._store.clock.stamp()))
        except Exception as error:  # whatever it was, the next look may go better
            log.warning("%s could not be looked at: %s", ", ".join(rule.kinds), type(error).__name__)

    def _found(self, rule: Rule) -> Sequence[Finding]:
        with self._store.read() as connection:
            return rule.look(connection, self._store.clock.now())
