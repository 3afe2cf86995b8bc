"""One request, accountably: admit, begin (durable), call, and finish; and what may follow an answer that did not help.

A retry is a new attempt. It is made only when the last one is known to have cost nothing, except that one request
per prospect, source and freshness window may follow one whose charge is unknown.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from sluiceway.crash import crash_point
from sluiceway.discreet import discreet
from sluiceway.errors import CallTimedOut, LostAnswer, NotSent, ProviderChanged, Redactor, describe
from sluiceway.identifier import new_id
from sluiceway.outcome import NOT_SENT, UNKNOWN_CHARGE, ChargeKind, Status, as_json, timestamp
from sluiceway.pipeline.gate import Cause, Exhausted, Gate, Held, set_within
from sluiceway.settings import OnUnknown
from sluiceway.sources._contract import METER, Reading, Request, Response, Retry, Source, Subject, understand
from sluiceway.sources._http import Door
from sluiceway.store.engine import Clock
from sluiceway.store.writer import Writer
from sluiceway.usage.admission import Refusal
from sluiceway.usage.admission_on_redis import RedisAdmission
from sluiceway.usage.counter import PLATFORM
from sluiceway.usage.ledger import Answer, Attempt, Begin, Finish, Op
from sluiceway.usage.pace import Pace
from sluiceway.usage.quota import LENGTH, RESERVED_FOR

MOST_ATTEMPTS = 3
BUDGET_S = 60.0
"""Seconds a source may spend on calls and waits between them; waiting for its turn is not counted."""

MOST_UNKNOWNS = {OnUnknown.ASK_ONCE: 2, OnUnknown.LEAVE: 1}
"""Paid requests, from the first of unknown charge on, after which a prospect's source is not asked again in its
freshness window: that first one, and (`ask-once`) one more, whatever it leads to."""


WAIT_IN_PLACE_S = 1.0
"""Seconds a request may wait for a limit without giving its place to others."""

_BOOKED_AHEAD_S = 900.0
"""Seconds after a window's end up to which places are booked; what is further off is asked about again then."""

_GIVEN_BACK_SOON_S = 0.05
_ASK_AGAIN_S = 5.0
_SERVER_ERROR = 500


class Behalf(msgspec.Struct, frozen=True):
    """For whom requests are sent; a shared document is nobody's, and records only the batch that needed it first."""

    trigger: str
    tenant_id: str | None = None
    batch_id: str | None = None
    prospect_id: str | None = None
    source_result_id: str | None = None

    @property
    def lane(self) -> str:
        """In whose lane its requests wait for their turn."""
        return self.tenant_id or ""


class Bookings(msgspec.Struct):
    """How many requests of each tenant wait for the windows of one limit, from the first one on."""

    first_window: str
    by_lane: Counter[str]

    def book(self, lane: str, per_window: int) -> int:
        """Book the next place of a tenant; returns how many windows after the first one it is."""
        place = self.by_lane[lane]
        self.by_lane[lane] += 1
        return place // max(1, per_window // len(self.by_lane))


class Terms(msgspec.Struct, frozen=True):
    """How one source is asked: where, how long an answer may take, and how fast."""

    base_urls: Mapping[str, str]
    timeout_s: float
    pace: Pace


class Budget:
    """What one source may still spend on one prospect: seconds, and requests from the first unknown charge on."""

    def __init__(self, unknowns: int, seconds: float = BUDGET_S) -> None:
        self.unknowns = unknowns
        self.left_s = seconds

    def spend(self, seconds: float) -> None:
        """Take time that a call or a wait used."""
        self.left_s -= seconds


class Obtained(msgspec.Struct, frozen=True):
    """The last reading a request led to, and its attempt's finish, not yet written so that a closing can join it."""

    reading: Reading
    finish: Finish
    etag: str | None = None
    retry_at: str | None = None


class Heard(msgspec.Struct, frozen=True, gc=False):
    """An answer as it came, with when its request was begun and when it was there."""

    source: Source
    request: Request
    response: Response
    asked_at: str
    read_at: str


class Caller:
    """Sends requests and keeps the ledger of them. `note` is given every answer, and must be quick and never raise."""

    def __init__(
        self,
        *,
        writer: Writer[Op],
        door: Door,
        gate: Gate,
        clock: Clock,
        worker_id: str,
        redact: Redactor,
        terms: Mapping[str, Terms],
        on_unknown: OnUnknown,
        admission: RedisAdmission | None = None,
        jitter: Callable[[], float] = random.random,
        note: Callable[[Heard, Reading], None] = lambda heard, reading: None,
    ) -> None:
        self._writer = writer
        self._door = door
        self._gate = gate
        self._clock = clock
        self._worker_id = worker_id
        self._redact = redact
        self._terms = terms
        self._most_unknowns = MOST_UNKNOWNS[on_unknown]
        self._admission = admission
        self._jitter = jitter
        self._note = note
        self._used_up: dict[str, tuple[Refusal, float]] = {}
        self._bookings: dict[str, Bookings] = {}

    def begin_now(self, source: Source, request: Request, behalf: Behalf) -> Attempt | None:
        """Stamp a request if its turn is now; its attempt must become durable before `obtain` is given it."""
        if not self._gate.is_open(source.provider, behalf.tenant_id, behalf.batch_id):
            return None
        if self._used_up and self._known_refusal(source, behalf):
            return None
        if not self._terms[source.name].pace.take_now(behalf.lane):
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

        Raises `Held` when it may not be sent now, and `Exhausted` when a day's or a cycle's limit is used up.
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
            self._gate.check_for_meter(source.provider)
            return None
        await self._gate.wait_for_verdict(source.provider)
        self._gate.check(source.provider, behalf.tenant_id, behalf.batch_id)
        return self._known_refusal(source, behalf)

    async def _try_to_begin(self, source: Source, request: Request, behalf: Behalf) -> Attempt | Refusal:
        if not await self._terms[source.name].pace.take(self._gate.draining, behalf.lane):
            raise Held("stopped before it was asked")
        attempt = self._stamp(source, request, behalf)
        if request.role == METER:
            self._gate.check_for_meter(source.provider)
        else:
            self._gate.enter(source.provider, attempt.id, behalf.tenant_id, behalf.batch_id)
        try:
            begun = await self._admit_and_begin(attempt)
        except BaseException:
            self._gate.give_up_probe(source.provider, attempt.id)
            raise
        if isinstance(begun, Refusal):
            self._gate.give_up_probe(source.provider, attempt.id)
            self.note_refusal(begun)
        return begun

    async def _admit_and_begin(self, attempt: Attempt) -> Attempt | Refusal:
        if self._admission is not None:
            (admitted,) = await self._admission.admit([attempt])
            if isinstance(admitted, Refusal):
                return admitted
            attempt = admitted
        try:
            refused = await self._writer.put(Begin(attempt))
        except asyncio.CancelledError:
            self._writer.post(self._never_left(attempt))  # its row may be written already, or any moment
            raise
        return refused if isinstance(refused, Refusal) else attempt

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

    def _known_refusal(self, source: Source, behalf: Behalf) -> Refusal | None:
        for quota_id, (refusal, ask_again_at) in list(self._used_up.items()):
            if ask_again_at <= time.monotonic():
                del self._used_up[quota_id]
            elif refusal.quota.covers(source.provider, behalf.tenant_id):
                return refusal
        return None

    def _hold_or_push_back(self, source: Source, behalf: Behalf, refusal: Refusal, waited_s: float) -> None:
        """Let a request wait for its turn again where that is short; raises `Exhausted` or `Held` where it is not."""
        quota = refusal.quota
        if refusal.is_final:
            self._gate.limit_met(quota.id, refusal.until, refusal.reason)
            raise Exhausted(refusal.reason, None if refusal.never else refusal.until)
        wait_s = _GIVEN_BACK_SOON_S if refusal.may_return else max(0.0, self._clock.seconds_until(refusal.until))
        if waited_s + wait_s > WAIT_IN_PLACE_S:
            if wait_s > WAIT_IN_PLACE_S:
                self._gate.limit_met(quota.id, refusal.until, refusal.reason)
            raise Held(refusal.reason, self._book(refusal, behalf))
        self._terms[source.name].pace.push_back(wait_s, behalf.lane if quota.tenant_id is not None else None)

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
            credential_id=PLATFORM,
            worker_id=self._worker_id,
            trigger=behalf.trigger,
            tenant_id=behalf.tenant_id,
            batch_id=behalf.batch_id,
            prospect_id=behalf.prospect_id,
            source_result_id=behalf.source_result_id,
            begun_at=admitted,
            deadline_at=self._clock.stamp(after_s=self._terms[source.name].timeout_s),
            reserved_milli_credits=sum(request.price.credits.values()),
            reserved_usd_micros=request.price.usd_micros,
        )

    async def obtain(
        self,
        source: Source,
        subject: Subject,
        request: Request,
        behalf: Behalf,
        budget: Budget,
        begun: Attempt | None = None,
        *,
        patient: bool = True,
    ) -> Obtained:
        """Send a request until it has led somewhere: an answer, or a refusal after which it may not be sent again.

        One that is not patient is sent once. Raises `Held` when the gate closes before an attempt.
        """
        tries = 0
        while True:
            attempt = begun or await self.begin(source, request, behalf)
            begun = None
            try:
                reading, finish, etag = await self._send(source, subject, request, attempt, budget)
            except BaseException:
                self._gate.give_up_probe(source.provider, attempt.id)
                raise
            if request.role != METER:  # how a question about a meter went says nothing about the others
                self._judge(source, reading, finish)
            tries += 1
            if patient and finish.charge.kind is ChargeKind.NOT_SENT and self._gate.is_offline(source.provider):
                self._writer.post(finish)  # an attempt without a network is not a try
                await self._gate.wait_online(self._terms[source.name].base_urls[request.host])
                tries -= 1
                continue
            wait = self._wait_before_retry(source, request, reading, tries, budget) if patient else None
            if wait is None:
                retry_at = self._retry_at(source, reading)
                self._gate.give_up_probe(source.provider, attempt.id)
                return Obtained(reading, finish, etag, retry_at)
            self._writer.post(finish)
            crash_point("retry.before")
            await self._pause(wait, budget)

    def _judge(self, source: Source, reading: Reading, finish: Finish) -> None:
        """Tell the breaker how an attempt went. A refusal that stops the provider is dealt with where that is read."""
        if finish.charge.kind is ChargeKind.NOT_SENT or reading.status is Status.RATE_LIMITED:
            self._gate.give_up_probe(source.provider, finish.id)
        elif reading.retry is not Retry.STOP:
            fails = finish.charge.kind is ChargeKind.UNKNOWN or (finish.http_status or 0) >= _SERVER_ERROR
            self._gate.heard(source.provider, finish.id, well=not fails)

    async def _send(
        self, source: Source, subject: Subject, request: Request, attempt: Attempt, budget: Budget
    ) -> tuple[Reading, Finish, str | None]:
        terms = self._terms[source.name]
        started = time.monotonic()
        crash_point("call.sending")
        response, failure = None, None
        try:
            url = terms.base_urls[request.host]
            patience_s = min(self._left_s(attempt, terms.timeout_s), max(budget.left_s, 1.0))
            response = await self._door.send(source, request, url, patience_s)
        except Exception as error:
            failure = error
        crash_point("call.answered")
        took = time.monotonic() - started
        budget.spend(took)
        reading = understand(source, subject, request, response) if response else _unanswered(failure)
        if response is not None:
            self._gate.answered(source.provider)
        if reading.error is not None:
            reading = _discreetly(reading, discreet(self._redact, subject.person))
        etag = response.headers.get("etag") if response else None
        finish = self._finish(request, attempt, reading, response, took)
        if response is not None:
            self._note(Heard(source, request, response, attempt.begun_at, finish.at), reading)
        return reading, finish, etag

    def _left_s(self, attempt: Attempt, timeout_s: float) -> float:
        """Return the seconds until the attempt's deadline, which runs from its begin, however long that took to write.

        Raises `NotSent` when there are none, for recovery may already have declared the attempt unknown; or when its
        begin is so long ago that the limits' windows have turned.
        """
        left_s = self._clock.seconds_until(attempt.deadline_at)
        if left_s <= max(0.0, timeout_s - RESERVED_FOR.total_seconds()):  # its begin may be of Redis's clock
            raise NotSent("the store took so long to record the request that it was not sent")
        return left_s

    def _finish(
        self, request: Request, attempt: Attempt, reading: Reading, response: Response | None, took: float
    ) -> Finish:
        return Finish(
            day=attempt.day,
            id=attempt.id,
            at=self._clock.stamp(),
            result=reading.status.value,
            charge=reading.charge,
            http_status=response.status if response else None,
            latency_us=int(took * 1e6),
            request_id=reading.request_id,
            error=reading.error,
            answer=_answer(attempt, reading) if not request.shared else None,
        )

    def _wait_before_retry(
        self, source: Source, request: Request, reading: Reading, tries: int, budget: Budget
    ) -> float | None:
        """Return the seconds to wait before asking again, or `None` when the last word is spoken."""
        kind = reading.charge.kind
        if reading.retry is Retry.STOP:
            self._stop(source, reading)
        elif reading.retry_after is not None and reading.retry_after < BUDGET_S:
            self._terms[source.name].pace.push_back(reading.retry_after)  # whoever comes next waits as well
        if kind is ChargeKind.BILLED or tries >= MOST_ATTEMPTS:
            return None
        if kind is not ChargeKind.UNKNOWN and reading.retry is not Retry.BACKOFF:
            return None
        if request.price.paid and not self._may_follow(kind, budget):
            return None
        return self._fitting_wait(reading, tries, budget)

    def _may_follow(self, kind: ChargeKind, budget: Budget) -> bool:
        """Tell whether a paid request may be sent again: freely until a charge is unknown, then `_most_unknowns`."""
        if kind is ChargeKind.UNKNOWN or (budget.unknowns and kind is not ChargeKind.NOT_SENT):
            budget.unknowns += 1
        return budget.unknowns < self._most_unknowns

    def _stop(self, source: Source, reading: Reading) -> None:
        if reading.retry_after is None:
            ran_out = reading.status is Status.QUOTA_EXCEEDED
            cause = Cause.RAN_OUT if ran_out else Cause.CONDEMNED
            self._gate.stop(source.provider, _mend(source, reading), cause=cause)
        else:
            until = self._clock.now() + timedelta(seconds=reading.retry_after)
            self._gate.stop(source.provider, _rest(source, until), until, Cause.REST)

    def _fitting_wait(self, reading: Reading, tries: int, budget: Budget) -> float | None:
        asked = reading.retry_after
        wait = asked if asked is not None else 0.25 * 2**tries * (0.5 + self._jitter())
        return wait if wait < budget.left_s else None

    def _retry_at(self, source: Source, reading: Reading) -> str | None:
        """Return when a rate-limited source may be asked again; until then nobody asks it."""
        if reading.status is not Status.RATE_LIMITED or reading.retry_after is None:
            return None
        until = self._clock.now() + timedelta(seconds=reading.retry_after)
        if reading.retry_after >= BUDGET_S:
            self._gate.stop(source.provider, _rest(source, until), until, Cause.REST)
        return timestamp(until)

    async def _pause(self, seconds: float, budget: Budget) -> None:
        """Wait between attempts; the end of the work cuts it short."""
        budget.spend(seconds)
        if await set_within(self._gate.draining, seconds):
            raise Held("stopped between two attempts")


def _discreetly(reading: Reading, redact: Callable[[str], str]) -> Reading:
    """Take keys and the person out of what a provider said of its trouble."""
    said = describe(reading.error or "", redact)
    return msgspec.structs.replace(reading, error=said, request_id=reading.request_id and redact(reading.request_id))


def _unanswered(failure: Exception | None) -> Reading:
    """Read the lack of an answer: whether the request can have been billed is all that matters."""
    match failure:
        case NotSent():
            return Reading(Status.FAILED, NOT_SENT, str(failure), retry=Retry.BACKOFF)
        case CallTimedOut():
            return Reading(Status.TIMED_OUT, UNKNOWN_CHARGE, str(failure))
        case LostAnswer() | ProviderChanged():
            return Reading(Status.FAILED, UNKNOWN_CHARGE, str(failure))
        case _:
            return Reading(Status.FAILED, UNKNOWN_CHARGE, f"{type(failure).__name__}: {failure}")


def _answer(attempt: Attempt, reading: Reading) -> Answer | None:
    """Keep what an answer about a person said if it was counted, or proved that there is nothing."""
    counted = reading.charge.kind is ChargeKind.BILLED or reading.status is Status.NO_DATA
    if not counted or attempt.tenant_id is None or attempt.prospect_id is None:
        return None
    return Answer(attempt.tenant_id, attempt.prospect_id, attempt.source, attempt.request_key, as_json(reading))


def _mend(source: Source, reading: Reading) -> str:
    """Say in one line what to mend so that a provider may be asked again."""
    where = f" ({source.needs.variable})" if source.needs else ""
    match reading.status:
        case Status.QUOTA_EXCEEDED:
            what = "its credits are used up"
        case Status.UNAUTHORIZED:
            what = f"it refused the credential{where}"
        case _:
            what = "every request would be refused like this one"
    return f"{source.title} is not asked any more: {what}. It said: {reading.error}"


def _rest(source: Source, until: datetime) -> str:
    return f"{source.title} asked for a pause until {until:%H:%M:%S} UTC"
