"""A request's turn: when it may be sent, and its attempt made durable before it is.

A gate may be closed, a source's pace wants requests apart, and a limit may be used up. Whatever is in the way for a
moment is waited for here; what takes longer is told with `Held` or `Exhausted`, and gives the place to others.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from sluiceway.identifier import new_id
from sluiceway.outcome import NOT_SENT, Status
from sluiceway.pipeline.gate import Exhausted, Gate, Held
from sluiceway.rights.suppression import Unwanted
from sluiceway.sources._contract import METER, Request, Source
from sluiceway.store.engine import Clock
from sluiceway.store.writer import Writer
from sluiceway.usage.admission import Refusal
from sluiceway.usage.admission_on_redis import RedisAdmission
from sluiceway.usage.counter import PLATFORM
from sluiceway.usage.ledger import Attempt, Begin, Finish, Op
from sluiceway.usage.pace import Pace
from sluiceway.usage.quota import LENGTH, Unit

WAIT_IN_PLACE_S = 1.0
"""Seconds a request may wait for a limit without giving its place to others."""

_BOOKED_AHEAD_S = 900.0
"""Seconds after a window's end up to which places are booked; what is further off is asked about again then."""

_GIVEN_BACK_SOON_S = 0.05
_ASK_AGAIN_S = 5.0


class Behalf(msgspec.Struct, frozen=True):
    """For whom requests are sent; a shared document is nobody's, and records only the batch that needed it first.

    `checked` is the version of the suppression list that the prospect was last held against; `user_id` and `api_key_id`
    tell who asked for it, where that was through the API or the console.
    """

    trigger: str
    tenant_id: str | None = None
    batch_id: str | None = None
    prospect_id: str | None = None
    source_result_id: str | None = None
    checked: int | None = None
    user_id: str | None = None
    api_key_id: str | None = None

    @property
    def lane(self) -> str:
        """In whose lane its requests wait for their turn."""
        return self.tenant_id or ""


class NotWanted(Exception):  # noqa: N818 - how asking ends, not an error
    """The prospect was suppressed or erased since it was looked at, so the request was not sent."""


class Terms(msgspec.Struct, frozen=True):
    """How one source is asked: where, how long an answer may take, and how fast."""

    base_urls: Mapping[str, str]
    timeout_s: float
    pace: Pace


class Bookings(msgspec.Struct):
    """How many requests of each tenant wait for the windows of one limit, from the first one on."""

    first_window: str
    by_lane: Counter[str]

    def book(self, lane: str, per_window: int) -> int:
        """Book the next place of a tenant; returns how many windows after the first one it is."""
        place = self.by_lane[lane]
        self.by_lane[lane] += 1
        return place // max(1, per_window // len(self.by_lane))


class Turns:
    """Gives requests their turn and begins their attempts; `admission` goes before the store where there is a Redis."""

    def __init__(
        self,
        *,
        writer: Writer[Op],
        gate: Gate,
        clock: Clock,
        worker_id: str,
        terms: Mapping[str, Terms],
        admission: RedisAdmission | None,
    ) -> None:
        self._writer = writer
        self._gate = gate
        self._clock = clock
        self._worker_id = worker_id
        self._terms = terms
        self._admission = admission
        self._used_up: dict[str, tuple[Refusal, float]] = {}
        self._bookings: dict[str, Bookings] = {}

    def begin_now(self, source: Source, request: Request, behalf: Behalf) -> Attempt | None:
        """Stamp a request if its turn is now; its attempt must become durable before `obtain` is given it."""
        if not self._gate.is_open(source.account, behalf.tenant_id, behalf.batch_id):
            return None
        if self._used_up and self._known_refusal(source, request, behalf):
            return None
        if not self._terms[source.asked_as].pace.take_now(behalf.lane):
            return None
        return self._stamp(source, request, behalf)

    async def admitted(self, attempts: Sequence[Attempt]) -> dict[str, Attempt]:
        """Return, by id, those attempts that may go on to the store, as they are to begin."""
        if self._admission is None or not attempts:
            return {attempt.id: attempt for attempt in attempts}
        admitted = {}
        for asked, said in zip(attempts, await self._admission.admit(attempts), strict=True):
            if isinstance(said, Refusal):
                self.note_refusal(said)
            else:
                admitted[asked.id] = said
        return admitted

    def withdraw(self, attempts: Sequence[Attempt]) -> None:
        """Take back attempts that were admitted and will not begin."""
        if self._admission is not None:
            self._admission.withdraw(attempts)

    async def begin(self, source: Source, request: Request, behalf: Behalf) -> Attempt:
        """Wait for a request's turn and make its attempt durable.

        Raises `Held` when it may not be sent now, `Exhausted` when a day's or a cycle's limit is used up, and
        `NotWanted` when the prospect must not be asked about any more.
        """
        refused_at: float | None = None
        while True:
            if known := await self._refused(source, request, behalf):
                refused_at = refused_at or time.monotonic()
                self._hold_or_push_back(source, behalf, known, time.monotonic() - refused_at)
            begun = await self._try_to_begin(source, request, behalf)
            if isinstance(begun, Attempt):
                return begun
            refused_at = refused_at or time.monotonic()
            self._hold_or_push_back(source, behalf, begun, time.monotonic() - refused_at)

    async def _refused(self, source: Source, request: Request, behalf: Behalf) -> Refusal | None:
        """Return a refusal that is still known to hold; raises `Held` where the gate is closed."""
        if request.role == METER:  # costs none of the credits that may be used up, and never finds out for others
            self._gate.check_for_meter(source.account)
            return None
        await self._gate.wait_for_verdict(source.account)
        self._gate.check(source.account, behalf.tenant_id, behalf.batch_id)
        return self._known_refusal(source, request, behalf)

    async def _try_to_begin(self, source: Source, request: Request, behalf: Behalf) -> Attempt | Refusal:
        if not await self._terms[source.asked_as].pace.take(self._gate.draining, behalf.lane):
            raise Held("stopped before it was asked")
        attempt = self._stamp(source, request, behalf)
        if request.role == METER:
            self._gate.check_for_meter(source.account)
        else:
            self._gate.enter(source.account, attempt.id, behalf.tenant_id, behalf.batch_id)
        try:
            begun = await self._admit_and_begin(attempt, behalf.checked)
        except BaseException:
            self._gate.give_up_probe(source.account, attempt.id)
            raise
        if isinstance(begun, Refusal):
            self._gate.give_up_probe(source.account, attempt.id)
            self.note_refusal(begun)
        return begun

    async def _admit_and_begin(self, attempt: Attempt, checked: int | None) -> Attempt | Refusal:
        if self._admission is not None:
            (admitted,) = await self._admission.admit([attempt])
            if isinstance(admitted, Refusal):
                return admitted
            attempt = admitted
        try:
            begun = await self._writer.put_first(Begin(attempt, checked))
        except asyncio.CancelledError:
            self._writer.post(self._never_left(attempt))  # its row may be written already, or any moment
            raise
        if isinstance(begun, Unwanted):
            self.withdraw([attempt])
            raise NotWanted
        return begun if isinstance(begun, Refusal) else attempt

    def _never_left(self, attempt: Attempt) -> Finish:
        at = self._clock.stamp()
        return Finish(
            attempt.day, attempt.id, at, Status.CANCELLED.value, NOT_SENT, error="given up before it was sent"
        )

    def note_refusal(self, refusal: Refusal) -> None:
        """Remember that a limit is used up, so that it is not asked about for every request."""
        wait_s = self._clock.seconds_until(refusal.until)
        if not refusal.may_return and not refusal.never and wait_s > WAIT_IN_PLACE_S:
            self._used_up[refusal.quota.id] = (refusal, time.monotonic() + min(wait_s, _ASK_AGAIN_S))

    def _known_refusal(self, source: Source, request: Request, behalf: Behalf) -> Refusal | None:
        """Return a refusal that is still known to hold for a request that may cost as much, or more."""
        for quota_id, (refusal, ask_again_at) in list(self._used_up.items()):
            quota = refusal.quota
            if ask_again_at <= time.monotonic():
                del self._used_up[quota_id]
            elif source.credential_id and quota.batch_id is None:
                continue  # a tenant's own is in none of the platform's limits
            elif not quota.covers(source.provider, behalf.tenant_id, behalf.batch_id):
                continue
            elif _may_cost(request, quota.unit) >= refusal.amount:
                return refusal
        return None

    def _hold_or_push_back(self, source: Source, behalf: Behalf, refusal: Refusal, waited_s: float) -> None:
        """Let a request wait for its turn again where that is short; raises `Exhausted` or `Held` where it is not."""
        quota = refusal.quota
        if refusal.is_final:
            self._gate.limit_met(quota.id, refusal.retry_at, f"{quota.whose}: {refusal.reason}")
            raise Exhausted(refusal.reason, refusal.retry_at)
        wait_s = _GIVEN_BACK_SOON_S if refusal.may_return else max(0.0, self._clock.seconds_until(refusal.until))
        if waited_s + wait_s > WAIT_IN_PLACE_S:
            if wait_s > WAIT_IN_PLACE_S:
                self._gate.limit_met(quota.id, refusal.until, f"{quota.whose}: {refusal.reason}")
            raise Held(refusal.reason, self._book(refusal, behalf))
        self._terms[source.asked_as].pace.push_back(wait_s, behalf.lane if quota.tenant_id is not None else None)

    def _book(self, refusal: Refusal, behalf: Behalf) -> str:
        """Return when to ask again: in the first window that its tenant has not booked its share of."""
        quota = refusal.quota
        if quota.clock not in LENGTH or refusal.may_return:
            return self._clock.stamp(after_s=WAIT_IN_PLACE_S)
        bookings = self._bookings.get(quota.id)
        if bookings is None or bookings.first_window != refusal.until:
            bookings = self._bookings[quota.id] = Bookings(refusal.until, Counter())
        windows = bookings.book(behalf.lane, quota.amount // max(1, refusal.amount))
        ahead_s = min(windows * LENGTH[quota.clock].total_seconds(), _BOOKED_AHEAD_S)
        return self._clock.stamp(after_s=self._clock.seconds_until(refusal.until) + ahead_s)

    def _stamp(self, source: Source, request: Request, behalf: Behalf) -> Attempt:
        admitted = self._clock.stamp()
        return Attempt(
            day=admitted[:10],
            id=new_id(),
            hour=int(admitted[11:13]),
            provider=source.provider,
            source=source.name,
            endpoint=request.endpoint,
            request_key=request.key(source.provider),
            credential_id=source.credential_id or PLATFORM,
            worker_id=self._worker_id,
            trigger=behalf.trigger,
            tenant_id=behalf.tenant_id,
            user_id=behalf.user_id,
            api_key_id=behalf.api_key_id,
            batch_id=behalf.batch_id,
            prospect_id=behalf.prospect_id,
            source_result_id=behalf.source_result_id,
            begun_at=admitted,
            deadline_at=self._clock.stamp(after_s=self._terms[source.asked_as].timeout_s),
            reserved_milli_credits=sum(request.price.credits.values()),
            reserved_usd_micros=request.price.usd_micros,
        )


def _may_cost(request: Request, unit: Unit) -> int:
    """Return the most that a request can take from a limit, in the limit's unit."""
    match unit:
        case Unit.REQUESTS:
            return 1
        case Unit.CREDITS:
            return sum(request.price.credits.values())
        case Unit.USD:
            return request.price.usd_micros or 0
