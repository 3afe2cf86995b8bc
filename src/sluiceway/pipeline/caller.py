"""One request, accountably: its turn, the call, and its finish; and what may follow an answer that did not help.

How a request gets its turn, and its attempt's row before it is sent, is in `pipeline/turns.py`. A retry is a new
attempt. It is made only when the last one is known to have cost nothing, except that one request per prospect, source
and freshness window may follow one whose charge is unknown.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import msgspec

from sluiceway.crash import crash_point
from sluiceway.discreet import discreet
from sluiceway.errors import CallTimedOut, LostAnswer, NotSent, ProviderChanged, Redactor, describe
from sluiceway.outcome import NOT_SENT, UNKNOWN_CHARGE, ChargeKind, Status, as_json, timestamp
from sluiceway.pipeline.gate import Cause, Gate, Held
from sluiceway.pipeline.turns import Behalf, Terms, Turns
from sluiceway.settings import OnUnknown
from sluiceway.sources._contract import METER, SEARCH, Reading, Request, Response, Retry, Source, Subject, understand
from sluiceway.sources._http import Door
from sluiceway.store.engine import Clock
from sluiceway.store.writer import Writer
from sluiceway.usage.admission_on_redis import RedisAdmission
from sluiceway.usage.ledger import Answer, Attempt, Finish, Op
from sluiceway.usage.pace import set_within
from sluiceway.usage.quota import RESERVED_FOR

MOST_ATTEMPTS = 3
BUDGET_S = 60.0
"""Seconds a source may spend on calls and waits between them; waiting for its turn is not counted."""

MOST_UNKNOWNS = {OnUnknown.ASK_ONCE: 2, OnUnknown.LEAVE: 1}
"""Paid requests, from the first of unknown charge on, after which a prospect's source is not asked again in its
freshness window: that first one, and (`ask-once`) one more, whatever it leads to."""

_SERVER_ERROR = 500


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
        self._redact = redact
        self._terms = terms
        self._most_unknowns = MOST_UNKNOWNS[on_unknown]
        self._jitter = jitter
        self._note = note
        self.turns = Turns(writer=writer, gate=gate, clock=clock, worker_id=worker_id, terms=terms, admission=admission)

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
            attempt = begun or await self.turns.begin(source, request, behalf)
            begun = None
            try:
                reading, finish, etag = await self._send(source, subject, request, attempt, budget)
            except BaseException:
                self._gate.give_up_probe(source.account, attempt.id)
                raise
            if request.role != METER:  # how a question about a meter went says nothing about the others
                self._judge(source, reading, finish)
            if request.role == SEARCH and reading.retry is Retry.STOP:  # searches are sent once, with everybody's key
                self._stop(source, reading)
            tries += 1
            if patient and finish.charge.kind is ChargeKind.NOT_SENT and self._gate.is_offline(source.provider):
                self._writer.post(finish)  # an attempt without a network is not a try
                await self._gate.wait_online(self._terms[source.asked_as].base_urls[request.host])
                tries -= 1
                continue
            wait = self._wait_before_retry(source, request, reading, tries, budget) if patient else None
            if wait is None:
                retry_at = self._retry_at(source, request, reading)
                self._gate.give_up_probe(source.account, attempt.id)
                return Obtained(reading, finish, etag, retry_at)
            self._writer.post(finish)
            crash_point("retry.before")
            await self._pause(wait, budget)

    def _judge(self, source: Source, reading: Reading, finish: Finish) -> None:
        """Tell the breaker how an attempt went. A refusal that stops the provider is dealt with where that is read."""
        if finish.charge.kind is ChargeKind.NOT_SENT or reading.status is Status.RATE_LIMITED:
            self._gate.give_up_probe(source.account, finish.id)
        elif reading.retry is not Retry.STOP:
            fails = finish.charge.kind is ChargeKind.UNKNOWN or (finish.http_status or 0) >= _SERVER_ERROR
            self._gate.heard(source.account, finish.id, well=not fails)

    async def _send(
        self, source: Source, subject: Subject, request: Request, attempt: Attempt, budget: Budget
    ) -> tuple[Reading, Finish, str | None]:
        terms = self._terms[source.asked_as]
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
            self._terms[source.asked_as].pace.push_back(reading.retry_after)  # whoever comes next waits as well
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
            self._gate.stop(source.account, _mend(source, reading), cause=cause)
        else:
            until = self._clock.now() + timedelta(seconds=reading.retry_after)
            self._gate.stop(source.account, _rest(source, until), until, Cause.REST)

    def _fitting_wait(self, reading: Reading, tries: int, budget: Budget) -> float | None:
        asked = reading.retry_after
        wait = asked if asked is not None else 0.25 * 2**tries * (0.5 + self._jitter())
        return wait if wait < budget.left_s else None

    def _retry_at(self, source: Source, request: Request, reading: Reading) -> str | None:
        """Return when a rate-limited source may be asked again; until then nobody asks it.

        Where that was said of searches, which have windows of their own, it is asked about people all the same.
        """
        if reading.status is not Status.RATE_LIMITED or reading.retry_after is None:
            return None
        until = self._clock.now() + timedelta(seconds=reading.retry_after)
        if reading.retry_after >= BUDGET_S and request.role != SEARCH:
            self._gate.stop(source.account, _rest(source, until), until, Cause.REST)
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
    where = f" ({source.needs.variable})" if source.needs and not source.credential_id else ""
    match reading.status:
        case Status.QUOTA_EXCEEDED:
            what = "its credits are used up"
        case Status.UNAUTHORIZED:
            what = f"it refused the credential{where}"
        case _:
            what = "every request would be refused like this one"
    return f"{_named(source)} is not asked any more: {what}. It said: {reading.error}"


def _rest(source: Source, until: datetime) -> str:
    return f"{_named(source)} asked for a pause until {until:%H:%M:%S} UTC"


def _named(source: Source) -> str:
    """Name whom we asked; `sluiceway credential list` tells whose credential it is."""
    return f"{source.title} (with credential {source.credential_id})" if source.credential_id else source.title
