"""The copy that Redis keeps of what is used of every limit, and how it is kept exact.

A copy belongs to an epoch. It is read from the store in the transaction that begins the epoch, and every commit says
under which epoch it moved something; so what it moved is in the copy already or has to be added, and never both. Who
cannot tell whether Redis has heard of a move begins a new epoch. A copy is believed for a minute at most: what somebody
lost without knowing, because he was killed, is mended then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Connection, select

from sluiceway.errors import Redactor, describe
from sluiceway.outcome import timestamp
from sluiceway.store.engine import Clock
from sluiceway.store.facts import set_version, version
from sluiceway.store.schema import limit_windows
from sluiceway.store.writer import Writer
from sluiceway.usage.ledger import Op, Task
from sluiceway.usage.quota import ALWAYS, EPOCH_OF, RESERVED_FOR

if TYPE_CHECKING:
    from redis.asyncio import Redis

RESERVED_FOR_MS = int(RESERVED_FOR.total_seconds() * 1000)
"""Milliseconds after which a reservation whose attempt has not begun is released."""

BELIEVED_FOR_MS = 60_000

SILENT_S = 0.05
"""Seconds without an answer after which Redis counts as silent, and the store decides alone."""

NEVER_MS = 9_000_000_000_000
"""A moment that does not come, in milliseconds since 1970; more digits than these a script does not write."""

_SWEEP_MS = 500
_KEPT_MS = 600_000
_LOOK_AGAIN_S = 1.0
_SEEDED_WITHIN_S = 0.25
_POLL_S = 0.02
_DECIDE, _SEED = (Path(__file__).with_name(f"admission_{name}.lua").read_text("utf-8") for name in ("decide", "seed"))

Part = tuple[str, int, int, int]
"""A limit, when a window of it opens and closes (milliseconds since 1970), and an amount."""


class Limit(msgspec.Struct, frozen=True):
    """A limit as the script is told of it: the length of its windows, or (0) those around the present moment."""

    id: str
    amount: int
    hard: bool
    opens_first: bool
    length: int
    windows: list[tuple[int, int]]


class Question(msgspec.Struct):
    """What the copy is told, and then asked. Attempts name limits by their place among `limits`, from 1."""

    epoch: int = 0
    limits: list[Limit] = []
    attempts: list[tuple[str, list[tuple[int, int]]]] = []
    begun: list[tuple[str, int, list[Part]]] = []
    settled: list[tuple[int, str, int, int, int, int]] = []
    withdrawn: list[str] = []
    refused: list[str] = []


class Refused(msgspec.Struct, frozen=True):
    """Why an attempt was not let through; `limit` is a place in the question."""

    limit: int
    closes: int
    may_return: bool
    never: bool


class Decided(msgspec.Struct, frozen=True):
    """The answer. Without `refused` nothing was heard and nothing decided, for the copy is of another epoch.

    `contradicted` counts attempts that the store refused although this copy had let them through.
    """

    marker: int
    now: int
    contradicted: int = 0
    refused: dict[str, Refused] | None = None


class Seed(msgspec.Struct, frozen=True):
    """The store's open windows as an epoch begins; `None` where somebody else has begun one already."""

    epoch: int
    windows: list[tuple[str, int, int, int, int]] | None


@lru_cache(maxsize=1024)
def milliseconds(stamp: str) -> int:
    """Return a stamp as milliseconds since 1970."""
    if stamp in ALWAYS:
        return 0 if stamp == ALWAYS[0] else NEVER_MS
    return round(datetime.fromisoformat(stamp).timestamp() * 1000)


def begin_epoch(connection: Connection, needed: int, now: datetime) -> Seed:
    """Begin an epoch and read what is used of every limit, unless one that is `needed` has begun already.

    Epochs are numbered by the clock, so that a store that was put back to an earlier state does not repeat one.
    """
    # On PostgreSQL commits that move windows have to hold this row FOR SHARE: the read must not miss one of them.
    current = version(connection, EPOCH_OF)
    if current >= needed:
        return Seed(current, None)
    epoch = max(needed, int(now.timestamp() * 1000))
    set_version(connection, EPOCH_OF, epoch)
    w = limit_windows.c
    query = select(w.limit_id, w.opens_at, w.closes_at, w.used, w.pending).where(w.closes_at > timestamp(now))
    rows = connection.execute(query)
    return Seed(epoch, [(row[0], milliseconds(row[1]), milliseconds(row[2]), row[3], row[4]) for row in rows])


class Copy:
    """Asks the copy, and has it read anew whenever it cannot be believed. Make it in a running event loop.

    `keys` is the start of all key names. `tell` is given a sentence when Redis falls silent, and when it is back.
    """

    def __init__(
        self,
        *,
        client: Redis,
        keys: str,
        writer: Writer[Op],
        clock: Clock,
        tell: Callable[[str], None],
        redact: Redactor,
    ) -> None:
        self._client = client
        self._keys = [f"{keys}:{what}" for what in ("marker", "windows", "swept", "reservations")]
        self._writer = writer
        self._clock = clock
        self._tell = tell
        self._redact = redact
        self._sha = ""
        self._epoch = 0
        self._needed = 1
        self._marker = 0
        self._seeded_at = float("-inf")
        self._said_silent = False
        self._mending: asyncio.Task[None] | None = None
        self.is_believed = False

    async def open(self, patience_s: float) -> None:
        """Have a copy ready, if Redis is quick enough."""
        await asyncio.wait({self._mend()}, timeout=patience_s)

    async def close(self) -> None:
        """Let go of Redis."""
        self.is_believed = False
        if self._mending is not None:
            self._mending.cancel()
            await asyncio.gather(self._mending, return_exceptions=True)
        with suppress(Exception):
            await self._client.aclose()

    def heard_of(self, epoch: int) -> None:
        """Note the epoch that a commit has seen; a copy of an earlier one is not believed."""
        self._epoch = max(self._epoch, epoch)
        if self.is_believed and self._epoch > self._marker:
            self._mend()

    def needs(self, epoch: int) -> bool:
        """Tell whether what was moved under an epoch may be missing from the next copy that is believed."""
        return epoch >= self._needed

    def distrust(self, epoch: int) -> None:
        """Have a later copy made than that of an epoch: nobody knows whether it has heard of everything."""
        self._needed = max(self._needed, epoch + 1)
        self._mend()

    async def ask(self, question: Question) -> Decided:
        """Ask in one round trip. Raises whatever went wrong, after which a new copy is made."""
        question.epoch = max(self._epoch, self._needed)
        arguments = (msgspec.json.encode(question), RESERVED_FOR_MS, _SWEEP_MS, _KEPT_MS)
        try:
            reply = await _soon(self._client.evalsha(self._sha, len(self._keys), *self._keys, *arguments))
            decided = msgspec.json.decode(reply, type=Decided)
        except BaseException as error:
            self._say_silent(error)
            self.distrust(self._epoch)
            raise
        self._marker = decided.marker
        if decided.refused is None:
            self._mend()
        elif decided.contradicted:
            self.distrust(decided.marker)
        return decided

    # Mending.

    def _mend(self) -> asyncio.Task[None]:
        self.is_believed = False
        if self._mending is None or self._mending.done():
            self._mending = asyncio.create_task(self._look_until_believed(), name="sluiceway-admission-copy")
        return self._mending

    async def _look_until_believed(self) -> None:
        await asyncio.sleep(self._seeded_at + _LOOK_AGAIN_S - time.monotonic())
        while not self.is_believed:
            try:
                await self._look()
            except Exception as error:  # neither a silent Redis nor a store that cannot be written ends the looking
                self._say_silent(error)
                self._needed = max(self._needed, self._epoch + 1)
                await asyncio.sleep(_LOOK_AGAIN_S)
        if self._said_silent:
            self._said_silent = False
            self._tell("Redis answers again and takes part in keeping limits")

    async def _look(self) -> None:
        """Believe the copy if it is of the present epoch; else have it read anew, by us or by whoever was quicker."""
        self._sha = await _soon(self._client.script_load(_DECIDE))
        marker = await self._read_marker()
        self.is_believed = marker is not None and marker >= max(self._epoch, self._needed)
        if marker is None:
            self._needed = max(self._needed, self._epoch + 1)
        if self.is_believed:
            self._marker = marker or 0
        else:
            await self._renew()

    async def _renew(self) -> None:
        begun = partial(begin_epoch, needed=self._needed, now=self._clock.now())
        seed: Seed = await self._writer.put(Task(begun))
        self.heard_of(seed.epoch)
        if seed.windows is not None:
            self._seeded_at = time.monotonic()
            arguments = (seed.epoch, msgspec.json.encode(seed.windows), BELIEVED_FOR_MS, _KEPT_MS)
            await _soon(self._client.eval(_SEED, len(self._keys), *self._keys, *arguments))
        elif not await self._appears(seed.epoch):
            self._needed = max(self._needed, seed.epoch + 1)  # whoever began that epoch has died over it

    async def _appears(self, epoch: int) -> bool:
        give_up = time.monotonic() + _SEEDED_WITHIN_S
        while time.monotonic() < give_up:
            if (await self._read_marker() or 0) >= epoch:
                return True
            await asyncio.sleep(_POLL_S)
        return False

    async def _read_marker(self) -> int | None:
        held = await _soon(self._client.get(self._keys[0]))
        return None if held is None else int(held)

    def _say_silent(self, error: BaseException) -> None:
        if not self._said_silent:
            self._said_silent = True
            self._tell(f"Redis is no help ({_in_words(error, self._redact)}); limits are decided by the store alone")


def _in_words(error: BaseException, redact: Redactor) -> str:
    return f"no answer within {SILENT_S * 1000:g} ms" if isinstance(error, TimeoutError) else describe(error, redact)


async def _soon(asking: Awaitable[Any]) -> Any:
    """Wait for an answer for as long as Redis may be silent. Raises `TimeoutError`."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as patience:
        # A loop that stood still meanwhile has yet to look at what came in, so the end is only set when this runs.
        look_once_more = partial(_end_in, patience, SILENT_S / 10)
        silent = loop.call_later(SILENT_S, look_once_more)
        try:
            return await asking
        finally:
            silent.cancel()


def _end_in(patience: asyncio.Timeout, seconds: float) -> None:
    patience.reschedule(asyncio.get_running_loop().time() + seconds)
