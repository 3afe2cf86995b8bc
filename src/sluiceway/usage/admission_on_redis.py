"""Admission through Redis: one script decides, for many workers, which attempts may go on to the store.

What holds a limit is the store: it decides in the transaction that begins an attempt, whoever let the attempt through
before (docs/decisions/0015-the-store-decides-redis-goes-before.md). Redis has a copy of what is used, and counts what
is reserved by attempts on their way to the store. So work that would be refused costs no transaction, and workers
stamp their attempts by one clock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection

from sluiceway.errors import Redactor
from sluiceway.outcome import timestamp
from sluiceway.store.engine import Clock
from sluiceway.store.facts import Identity, version
from sluiceway.store.writer import Writer
from sluiceway.usage.admission import Limits, Move, Moves, Refusal, amount_reserved
from sluiceway.usage.admission_copy import RESERVED_FOR_MS, Copy, Decided, Limit, Part, Question, milliseconds
from sluiceway.usage.ledger import Attempt, Op, Task
from sluiceway.usage.quota import ALWAYS, EPOCH_OF, LENGTH, Opens, Quota, QuotaClock, later, window_at

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = logging.getLogger(__name__)

_MOST_AT_ONCE = 500
_AT_START_S = 0.2
_TOLD_WITHIN_S = 0.05
_LOOK_EVERY_S = 1.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Turn(msgspec.Struct):
    """Attempts that are decided together, and who waits for the answer."""

    attempts: Sequence[Attempt]
    answered: asyncio.Future[list[Attempt | Refusal]]

    def answer(self, said: list[Attempt | Refusal]) -> bool:
        """Tell who waits; returns whether anybody still does."""
        if self.answered.done():
            return False
        self.answered.set_result(said)
        return True


class RedisAdmission:
    """Lets attempts through to the store, for everybody in this process. Use as a context, in a running event loop.

    Attempts wait `interval_s` for company and share a round trip, which also carries what this process's commits have
    moved meanwhile.
    """

    def __init__(
        self,
        *,
        client: Redis,
        identity: Identity,
        prefix: str,
        writer: Writer[Op],
        limits: Limits,
        clock: Clock,
        interval_s: float,
        tell: Callable[[str], None],
        redact: Redactor,
    ) -> None:
        keys = f"{prefix}{{sluiceway:admission:{identity.id}}}"
        self.copy = Copy(client=client, keys=keys, writer=writer, clock=clock, tell=tell, redact=redact)
        self._limits = limits
        self._writer = writer
        self._clock = clock
        self._interval_s = interval_s
        self._waiting: deque[Turn] = deque()
        self._moves: deque[tuple[float, Moves]] = deque()
        self._due = asyncio.Event()
        self._reminder: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._looked_at = float("-inf")

    async def __aenter__(self) -> RedisAdmission:
        self._limits.on_moves = self._note
        await self._writer.put(Task(self._look))
        await self.copy.open(_AT_START_S)
        self._task = asyncio.create_task(self._ask_again_and_again(), name="sluiceway-admission")
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Tell Redis what the last commits moved, if it listens."""
        self._limits.on_moves = None
        self._closing = True
        self._due.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        if self.copy.is_believed and self._moves:
            with suppress(Exception):
                await self._ask(())
        await self.copy.close()
        self._let_through(self._waiting)

    async def admit(self, attempts: Sequence[Attempt]) -> list[Attempt | Refusal]:
        """Say of each attempt that it may go on to the store, stamped by the common clock, or why it has to wait.

        While Redis cannot be believed all of them may go on. So may those whose refusal would end their work: only the
        store ends work.
        """
        if not self.copy.is_believed or not any(map(self._limits.of, attempts)):
            return list(attempts)
        loop = asyncio.get_running_loop()
        turn = Turn(attempts, loop.create_future())
        if not self._waiting:
            loop.call_later(self._interval_s, self._due.set)
        self._waiting.append(turn)
        return await turn.answered

    def withdraw(self, attempts: Sequence[Attempt]) -> None:
        """Give back what is reserved for attempts that will not begin."""
        if attempts:
            self._keep(Moves(epoch=0, follows_failure=False, withdrawn=[attempt.id for attempt in attempts]))

    # What was moved.

    def _note(self, moves: Moves) -> None:
        self.copy.heard_of(moves.epoch)
        if moves.follows_failure:
            self.copy.distrust(moves.epoch)
        if moves.begun or moves.settled or moves.refused:
            self._keep(moves)

    def _keep(self, moves: Moves) -> None:
        """Keep something for the next round trip, and see to it that there is one soon."""
        self._moves.append((time.monotonic(), moves))
        while self._moves and self._is_past(*self._moves[0]):
            self._moves.popleft()
        self._remind()

    def _remind(self) -> None:
        if self._reminder is None:
            self._reminder = asyncio.get_running_loop().call_later(_TOLD_WITHIN_S, self._due.set)

    def _is_past(self, noted_at: float, moves: Moves) -> bool:
        """Tell whether nothing is reserved any more for what moved, and every copy to come has it already."""
        return time.monotonic() - noted_at > RESERVED_FOR_MS / 1000 and not self.copy.needs(moves.epoch)

    # Asking.

    async def _ask_again_and_again(self) -> None:
        while not self._closing:
            await self._due.wait()
            self._due.clear()
            self._reminder = None
            group = self._next_group()
            try:
                if self.copy.is_believed:
                    await self._ask(group)
            except Exception as error:
                log.debug("Redis did not decide: %s", error)
            finally:
                self._let_through(group)
            if self._moves:
                self._remind()

    def _next_group(self) -> list[Turn]:
        group: list[Turn] = []
        size = 0
        while self._waiting and size < _MOST_AT_ONCE:
            turn = self._waiting.popleft()
            if not turn.answered.done():
                group.append(turn)
                size += len(turn.attempts)
        if self._waiting:
            self._due.set()
        return group

    def _let_through(self, group: Iterable[Turn]) -> None:
        for turn in group:
            turn.answer(list(turn.attempts))

    async def _ask(self, group: Sequence[Turn]) -> None:
        """Ask about some attempts in one round trip. Those that it answers nothing about are the store's to decide."""
        told, self._moves = self._moves, deque()
        limits: dict[str, tuple[int, Quota]] = {}
        try:
            decided = await self.copy.ask(self._question(group, [moves for _, moves in told], limits))
        except BaseException:
            self._tell_again(told)
            for turn in group:  # Redis may have reserved for them and not been able to say so
                self.withdraw(turn.attempts)
            raise
        if decided.refused is None:
            self._tell_again(told)
        else:
            self._answer(group, decided, dict(limits.values()))

    def _tell_again(self, told: deque[tuple[float, Moves]]) -> None:
        """Keep what may not have been heard; a copy of a later epoch takes from it only what it lacks."""
        self._moves = told + self._moves

    def _question(self, group: Sequence[Turn], told: Sequence[Moves], limits: dict[str, tuple[int, Quota]]) -> Question:
        """Put together what is told and asked; fills `limits` with those that matter, and their places."""
        asked = [(attempt.id, self._wanted(attempt, limits)) for turn in group for attempt in turn.attempts]
        now = self._clock.stamp() if limits else ""
        return Question(
            limits=[_as_told(quota, now) for _, quota in limits.values()],
            attempts=asked,
            begun=[(key, each.epoch, list(map(_part, parts))) for each in told for key, parts in each.begun.items()],
            settled=[(each.epoch, *_part(move), move.pending) for each in told for move in each.settled],
            withdrawn=[key for each in told for key in each.withdrawn],
            refused=[key for each in told for key in each.refused],
        )

    def _wanted(self, attempt: Attempt, limits: dict[str, tuple[int, Quota]]) -> list[tuple[int, int]]:
        """Return what an attempt reserves of which limits, by their places."""
        return [
            (limits.setdefault(quota.id, (len(limits) + 1, quota))[0], amount_reserved(quota, attempt))
            for quota in self._limits.of(attempt)
        ]

    def _answer(self, group: Sequence[Turn], decided: Decided, limits: Mapping[int, Quota]) -> None:
        stamp = timestamp(_EPOCH + timedelta(milliseconds=decided.now))
        for turn in group:
            if not turn.answer([_verdict(attempt, stamp, decided, limits) for attempt in turn.attempts]):
                self.withdraw(turn.attempts)
        if decided.refused and time.monotonic() - self._looked_at > _LOOK_EVERY_S:
            self._looked_at = time.monotonic()
            self._writer.post(Task(self._look))

    def _look(self, connection: Connection) -> None:
        """Learn which limits there are: a process whose work is all refused commits nothing that would tell it."""
        self._limits.look(connection)
        self.copy.heard_of(version(connection, EPOCH_OF))


def _verdict(attempt: Attempt, stamp: str, decided: Decided, limits: Mapping[int, Quota]) -> Attempt | Refusal:
    said = (decided.refused or {}).get(attempt.id)
    if said is not None:
        quota = limits[said.limit]
        closes_at = timestamp(_EPOCH + timedelta(milliseconds=said.closes))
        until = ALWAYS[1] if quota.clock in (QuotaClock.IN_FLIGHT, QuotaClock.BATCH) else closes_at
        amount = amount_reserved(quota, attempt)
        refusal = Refusal(quota, until, said.may_return, said.never, amount)
        if not refusal.is_final:
            return refusal
    return msgspec.structs.replace(attempt, day=stamp[:10], hour=int(stamp[11:13]), begun_at=stamp)


def _part(move: Move) -> Part:
    return move.limit_id, milliseconds(move.window.opens_at), milliseconds(move.window.closes_at), move.used


def _as_told(quota: Quota, now: str) -> Limit:
    """Describe a limit to the script. It divides time itself, except into what only a calendar knows."""
    length, windows = LENGTH.get(quota.clock), []
    if length is None:
        around = {window_at(quota, later(now, timedelta(days=days))) for days in (-1, 0, 1)}
        windows = [(milliseconds(window.opens_at), milliseconds(window.closes_at)) for window in sorted(around)]
    return Limit(
        id=quota.id,
        amount=quota.amount,
        hard=quota.hard,
        opens_first=quota.opens is Opens.FIRST_REQUEST,
        length=int(length.total_seconds() * 1000) if length else 0,
        windows=windows,
    )
