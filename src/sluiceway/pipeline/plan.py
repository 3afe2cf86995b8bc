"""What will be done about each source of a prospect, decided from what the ledger holds. Nothing is sent here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from sluiceway.discreet import discreet
from sluiceway.errors import Redactor, describe
from sluiceway.outcome import SUPPRESSED, Status
from sluiceway.pipeline.history import History, fresh_purchase
from sluiceway.prospect import Want
from sluiceway.sources._contract import Asked, Asking, Price, Reading, Request, Skip, Source, Subject
from sluiceway.store.engine import Clock
from sluiceway.usage.ledger import Attempt

Step = Asked | Reading | Skip


class Order(msgspec.Struct, frozen=True):
    """What a batch asks for, how often a request of unknown charge may be followed by another, and who asked.

    Somebody waits for an `interactive` one, so an open breaker ends it instead of making it wait. One that asks `once`
    is gone through again and again while anything of it waits, maybe by several processes, and asks nobody twice.
    """

    batch_id: str | None
    trigger: str
    want: tuple[Want, ...]
    most_unknowns: int
    user_id: str = ""
    api_key_id: str | None = None
    interactive: bool = False
    once: bool = False


class Plan(msgspec.Struct):
    """What will be done about one source: a request to send first, or (`request` is `None`) a status to close with."""

    source: Source
    status: Status
    subject: Subject | None = None
    subject_key: str = ""
    error: str | None = None
    cached_from: str | None = None
    asking: Asking | None = None
    request: Asked | None = None
    begun: Attempt | None = None
    result_id: str = ""


class Intention(msgspec.Struct, frozen=True):
    """What would be done about one source: the status it would close with at once, or the most that asking costs."""

    status: Status
    reason: str | None
    price: Price | None


class Closed(msgspec.Struct, frozen=True):
    """A closed source result, as the rest of the run sees it."""

    source: str
    status: str
    fields: dict[str, list[Any]] = {}


class Planner:
    """Plans the sources of one batch. `own` gives, by name, those asked with a tenant's own credentials."""

    def __init__(
        self,
        *,
        sources: Mapping[str, Source],
        unusable: Mapping[str, str],
        order: Order,
        clock: Clock,
        redact: Redactor,
        own: Callable[[str], Mapping[str, Source]],
    ) -> None:
        self._sources = sources
        self._unusable = unusable
        self._order = order
        self._clock = clock
        self._redact = redact
        self._own = own

    def intentions(self, history: History) -> dict[str, Intention]:
        """Say what `enrich` would do about each source."""
        return {plan.source.name: self._intention(history, plan) for plan in self.all_of(history)}

    def _intention(self, history: History, plan: Plan) -> Intention:
        source = plan.source
        if plan.status is Status.PENDING and (reason := self._why_unusable(source)):
            return Intention(Status.SKIPPED, reason, None)
        if isinstance(plan.request, Request) and history.answer_to(plan.request, source.provider):
            return Intention(Status.CACHED, None, None)
        asks = plan.request is not None or plan.status is Status.PENDING
        return Intention(plan.status, plan.error, source.price(self._order.want) if asks else None)

    def all_of(self, history: History) -> list[Plan]:
        """Plan every source; the last ones can be planned only when nothing needs to be asked before them."""
        sources = self._sources_for(history)
        if history.suppressed:
            return [_not_asked(source) for source in sources.values()]
        plans = [self.one(source, history) for source in sources.values() if not source.after_others]
        last = [source for source in sources.values() if source.after_others]
        if any(plan.request for plan in plans):
            return plans + [Plan(source, Status.PENDING) for source in last]
        findings = findings_of(history, map(as_closed, plans))
        return plans + [self.one(source, history, findings) for source in last]

    def _sources_for(self, history: History) -> dict[str, Source]:
        """Return the sources this batch asks, with the tenant's own credentials where it has any."""
        own = self._own(history.prospect.tenant_id)
        return {name: own.get(name, source) for name, source in self._sources.items()}

    def _why_unusable(self, source: Source) -> str | None:
        """Return why a source cannot be asked; the platform may lack a credential that a tenant has."""
        return None if source.credential_id else self._unusable.get(source.name)

    def open_one(self, name: str, history: History) -> Plan | None:
        """Plan a source whose result is open; `None` for one this batch does not ask."""
        source = self._sources_for(history).get(name)
        if source is None:
            return None
        if history.suppressed:
            return _not_asked(source)
        return Plan(source, Status.PENDING) if source.after_others else self.one(source, history)

    def one(self, source: Source, history: History, findings: Mapping[str, Any] | None = None) -> Plan:
        """Plan one source; `findings` is what the others found, for one that is asked after them."""
        subject = Subject(history.prospect.person, self._order.want, self._clock.today(), findings or {})
        plan = Plan(source, Status.RUNNING, subject)
        try:
            self._decide(plan, subject, history)
        except Exception as error:  # a source's bug is that source's failure, not the prospect's
            plan.status, plan.request = Status.FAILED, None
            plan.error = describe(error, discreet(self._redact, history.prospect.person))
        return plan

    def _decide(self, plan: Plan, subject: Subject, history: History) -> None:
        source = plan.source
        plan.subject_key = source.subject_key(subject)
        if bought := fresh_purchase(history, source.name, plan.subject_key):
            plan.status, plan.cached_from = Status.CACHED, bought.source_result_id
        elif reason := self._why_unusable(source):
            plan.status, plan.error = Status.SKIPPED, reason
        else:
            plan.asking = source.ask(subject)
            self._plan_first_step(plan, advance(plan.asking, None), history)

    def _plan_first_step(self, plan: Plan, step: Step, history: History) -> None:
        if isinstance(step, Skip):
            plan.status, plan.error = Status.SKIPPED, step.reason
        elif isinstance(step, Reading):
            plan.status, plan.error = step.status, step.error
        elif isinstance(step, tuple):
            plan.request = step
        elif bought := _purchase_behind(history, plan.source, step):
            plan.status, plan.cached_from = Status.CACHED, bought
        elif self._asked_too_often(plan.source, step, history):
            plan.status = Status.UNKNOWN
            plan.error = "asked before without a clear answer; asking again might pay a second time"
        else:
            plan.request = step

    def _asked_too_often(self, source: Source, request: Request, history: History) -> bool:
        if not request.price.paid or history.answer_to(request, source.provider):
            return False
        return history.unknowns.get(source.name, 0) >= self._order.most_unknowns


def advance(asking: Asking, said: Reading | tuple[Reading, ...] | None) -> Step:
    """Give a source what it asked for and take its next request or requests, or its last word."""
    try:
        return asking.send(said)
    except StopIteration as stop:
        last: Reading | Skip = stop.value
        return last


def _not_asked(source: Source) -> Plan:
    return Plan(source, Status.SKIPPED, error=SUPPRESSED)


def as_closed(plan: Plan) -> Closed:
    return Closed(plan.source.name, plan.status)


def findings_of(history: History, done: Iterable[Closed]) -> dict[str, dict[str, Any]]:
    """Collect, by source, the values of sources that succeeded, from what is held and what this run found."""
    findings: dict[str, dict[str, Any]] = {}
    for closed in done:
        if closed.status not in (Status.COMPLETE, Status.CACHED):
            continue
        own = f":{closed.source}"
        held = {key: stored for key, stored in history.fields.items() if key.endswith(own)}
        values = {key.partition(":")[0]: stored[0] for key, stored in sorted({**held, **closed.fields}.items())}
        if values:
            findings[closed.source] = values
    return findings


def _purchase_behind(history: History, source: Source, request: Request) -> str | None:
    """Return the source result that an answer in the ledger was bought for, if it closed with a purchase."""
    answered = history.answer_to(request, source.provider)
    if answered is None:
        return None
    purchases = history.bought.get(source.name, ())
    return next((b.source_result_id for b in purchases if b.attempt_id == answered.attempt_id), None)
