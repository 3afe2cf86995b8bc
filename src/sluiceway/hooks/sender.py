"""Delivering what is due, beside the work and never in its way: a receiver that hangs holds nobody else up."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, Self

from sqlalchemy import Connection, Row

from sluiceway.errors import BadSetting
from sluiceway.hooks import alert_receivers, deliveries, webhooks
from sluiceway.hooks.address import Allowed
from sluiceway.hooks.body import Dropped
from sluiceway.hooks.deliveries import Delivery, To
from sluiceway.hooks.door import send
from sluiceway.hooks.letter import Letter, Reply
from sluiceway.hooks.letters import letter_of
from sluiceway.rights.suppression import Suppressions
from sluiceway.store.engine import Store
from sluiceway.store.secret import SecretKey

log = logging.getLogger(__name__)

Write = Callable[[Callable[[Connection], object]], asyncio.Future[object]]
"""Has something done in a transaction; the future resolves when it is durable."""

_LOOK_EVERY_S: Final = 0.5
_MOST_AT_ONCE: Final = 16
_EACH_AT_ONCE: Final = 4
_TAKEN_FOR_S: Final = 60.0
"""Seconds a delivery that was taken belongs to its process; after that whoever took it is held to be dead."""

_GONE: Final = "the receiver answered 410 Gone"


class Sender:
    """Delivers what is due while it is entered; several at once, of one receiver a few.

    `key` is only asked where there is something to sign. What was being sent when it ends is due again.
    """

    def __init__(
        self,
        *,
        store: Store,
        write: Write,
        suppressions: Suppressions,
        allowed: Allowed,
        key: Callable[[], SecretKey],
    ) -> None:
        self._store = store
        self._write = write
        self._suppressions = suppressions
        self._allowed = allowed
        self._key = key
        self._ended = asyncio.Event()
        self._news = asyncio.Event()
        self._busy: Counter[str] = Counter()
        self._sending: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="sluiceway-sender")
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._ended.set()
        self._news.set()
        if self._task is not None:
            await self._task
        for sending in self._sending:
            sending.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    async def _run(self) -> None:
        while not self._ended.is_set():
            self._news.clear()
            try:
                await self._look()
            except Exception as error:  # whatever it was, the next look may go better
                log.warning("what is due to be delivered could not be read: %s", type(error).__name__)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), _LOOK_EVERY_S)

    async def _look(self) -> None:
        """Start to deliver what is due and has a place."""
        clock = self._store.clock
        if len(self._sending) >= _MOST_AT_ONCE or not (due := await asyncio.to_thread(self._due)):
            return
        taken = await self._write(partial(deliveries.take, found=due, until=clock.stamp(after_s=_TAKEN_FOR_S)))
        assert isinstance(taken, list)  # noqa: S101 - tells the type checker what the writer cannot
        for delivery in taken:
            self._start(delivery)

    def _due(self) -> list[Row[Any]]:
        most = _MOST_AT_ONCE - len(self._sending)
        with self._store.read() as connection:
            return deliveries.due(connection, self._store.clock.stamp(), dict(self._busy), _EACH_AT_ONCE, most)

    def _start(self, delivery: Delivery) -> None:
        task = asyncio.create_task(self._deliver(delivery), name=f"sluiceway-delivery-{delivery.id}")
        self._sending.add(task)
        self._busy[delivery.receiver_id] += 1
        task.add_done_callback(partial(self._over, delivery))

    def _over(self, delivery: Delivery, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._busy[delivery.receiver_id] -= 1
        self._news.set()  # there is a place for the next one
        if not task.cancelled() and (error := task.exception()):
            log.warning("delivery %s could not be noted: %s", delivery.id, type(error).__name__)

    async def _deliver(self, delivery: Delivery) -> None:
        """Send a delivery, and note what came back."""
        match letter := await asyncio.to_thread(self._letter, delivery):
            case Dropped():
                await self._write(partial(deliveries.drop, told=delivery, reason=letter.reason))
            case Letter():
                await self._note(delivery, await send(letter, self._allowed))
            case Reply():
                await self._note(delivery, letter)

    def _letter(self, delivery: Delivery) -> Letter | Dropped | Reply:
        """Return what is to be sent; where that cannot be told now, what is noted instead of an answer."""
        try:
            with self._store.read() as connection:
                return letter_of(connection, delivery, self._suppressions, self._key)
        except BadSetting as error:
            return Reply(None, str(error))

    async def _note(self, delivery: Delivery, reply: Reply) -> None:
        now = self._store.clock.now()

        def note(connection: Connection) -> None:
            deliveries.tried(connection, delivery, reply, self._store.clock.stamp())
            if reply.is_gone and delivery.receiver == To.WEBHOOK:
                webhooks.remove_webhook(connection, delivery.receiver_id, by="system", now=now, why=_GONE)
            elif reply.is_gone:
                alert_receivers.remove_alert_receiver(connection, delivery.receiver_id, by="system", now=now, why=_GONE)

        await self._write(note)
