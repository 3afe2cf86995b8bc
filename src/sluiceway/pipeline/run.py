"""One prospect, top to bottom: plan, open the run, ask the first sources at once, ask the last, close.

What is done about each source is decided in `pipeline/plan.py`. What the ledger already holds is never asked again, so
a prospect whose run was cut short is simply enriched again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec

from sluiceway.activity import Action, Event
from sluiceway.crash import crash_point
from sluiceway.discreet import discreet
from sluiceway.errors import Redactor, describe
from sluiceway.identifier import new_id
from sluiceway.logs import about
from sluiceway.outcome import OPEN, SUPPRESSED, Status, enrichment_status, read_statuses
from sluiceway.pipeline.caller import Budget, Caller
from sluiceway.pipeline.gate import Exhausted, Gate, Held
from sluiceway.pipeline.history import Answered, History, Standing
from sluiceway.pipeline.library import Library, Reader
from sluiceway.pipeline.plan import Closed, Intention, Order, Plan, Planner, advance, as_closed, findings_of
from sluiceway.pipeline.turns import Behalf, NotWanted
from sluiceway.pipeline.watch import Watch, without_what_was_found
from sluiceway.prospect import Match, held_key, hold
from sluiceway.sources._contract import Asked, Reading, Request, Skip, Source
from sluiceway.store.engine import Clock
from sluiceway.store.writer import Writer
from sluiceway.usage.admission import Refusal
from sluiceway.usage.ledger import (
    Attempt,
    Close,
    CloseResult,
    CloseRun,
    Finish,
    Hold,
    Op,
    OpenRun,
    ResultRow,
    RunRow,
    TakeOver,
)


class Ended(StrEnum):
    """How `enrich` or `resume` left a prospect.

    `HELD`: everything was held already. `WAITING`: a source waits, and the run stays open. `ELSEWHERE`: another
    worker has the prospect's open run. `ERASED`: there is no such prospect any more.
    """

    CLOSED = "closed"
    HELD = "held"
    WAITING = "waiting"
    ELSEWHERE = "elsewhere"
    ERASED = "erased"


class Word(msgspec.Struct, frozen=True):
    """A reading a source is given, and where it came from: a call just made, or the ledger."""

    reading: Reading
    finish: Finish | None = None
    answered: Answered | None = None
    retry_at: str | None = None


def _of_nobody(order: Order) -> Behalf:
    """Return on whose behalf a document is fetched that is shared by all: nobody's, but the batch needed it first."""
    return Behalf(order.trigger, batch_id=order.batch_id, user_id=order.user_id or None, api_key_id=order.api_key_id)


class Enricher:
    """Enriches the prospects of one batch. `tell` is given every closing (source, status) as it happens.

    `own` gives, by name, the sources that are asked with a tenant's own credentials instead of the platform's.
    `alarms` holds, by prospect, when a source that waits may be asked again; whoever resumes the run takes it out.
    """

    def __init__(
        self,
        *,
        sources: Mapping[str, Source],
        unusable: Mapping[str, str],
        order: Order,
        writer: Writer[Op],
        caller: Caller,
        library: Library,
        gate: Gate,
        clock: Clock,
        worker_id: str,
        redact: Redactor,
        tell: Callable[[str, str], None],
        watch: Watch | None = None,
        own: Callable[[str], Mapping[str, Source]] = lambda tenant_id: {},
    ) -> None:
        self._planner = Planner(sources=sources, unusable=unusable, order=order, clock=clock, redact=redact, own=own)
        self._order = order
        self._writer = writer
        self._caller = caller
        self._library = library
        self._reader = Reader(caller, _of_nobody(order))
        self._gate = gate
        self._clock = clock
        self._worker_id = worker_id
        self._redact = redact
        self._tell = tell
        self._watch = watch
        self.suppressions = watch.suppressions if watch else None
        self.providers = {name: source.provider for name, source in sources.items()}
        self.alarms: dict[str, str] = {}

    async def enrich(self, history: History) -> Ended:
        """Enrich a prospect that has no open run."""
        plans = self._planner.all_of(history)
        if not any(plan.request and not self._was_asked(history, plan) for plan in plans):
            return await self._record_as_held(history, plans)
        run_id = await self._open(history, plans)
        if run_id is None:
            return Ended.ELSEWHERE
        crash_point("run.opened")
        with about(run_id=run_id):
            return await self._carry(history, run_id, plans, [])

    def _was_asked(self, history: History, plan: Plan) -> bool:
        """Tell whether a batch that asks once has a result of this: an error, or a limit in the way, is one as well."""
        return self._order.once and (plan.source.name, plan.subject_key) in history.ended_in_batch

    def intentions(self, history: History) -> dict[str, Intention]:
        """Say what `enrich` would do about each source, without doing any of it."""
        return self._planner.intentions(history)

    async def settled(self) -> None:
        """Wait until everything this enricher closed is in the store."""
        await self._writer.flush()

    async def take_over(self, standing: Standing) -> None:
        """Make a dead worker's open run ours, if nobody else was quicker.

        What it did before it died may be newer than any history read until then, so one has to be read after this.
        """
        await self._writer.put(TakeOver(standing.run_id, self._worker_id, standing.worker_id))

    async def resume(self, history: History, standing: Standing) -> Ended:
        """Go on with an open run of ours."""
        done = [Closed(result.source, result.status) for result in standing.results if result.status not in OPEN]
        plans = []
        for result in standing.results:
            if result.status in OPEN:
                plan = self._planner.open_one(result.source, history)
                if plan is None:
                    done.append(self._cancel(history, result.id, result.source))
                else:
                    plan.result_id = result.id
                    plans.append(plan)
        for plan in plans:
            if plan.request is None and plan.status is not Status.PENDING:
                self._close_as_planned(history, plan)
        with about(run_id=standing.run_id):
            return await self._carry(history, standing.run_id, plans, done)

    # Opening.

    async def _record_as_held(self, history: History, plans: list[Plan]) -> Ended:
        """Record a run that needs no request, unless this batch has recorded one before."""
        if history.closed_in_batch:
            return Ended.HELD
        now = self._clock.stamp()
        status = self._standing_after(history, map(as_closed, plans))
        run = self._run_row(history, now, closed_at=now, status=status)
        rows = tuple(self._result_row(run, plan) for plan in plans)
        if not await self._writer.put(OpenRun(run, history.last_run_id, rows, checked=history.checked)):
            return Ended.ELSEWHERE
        for plan in plans:
            self._tell(plan.source.name, plan.status)
        return Ended.HELD

    async def _open(self, history: History, plans: list[Plan]) -> str | None:
        """Open a run, with every attempt whose turn is now; `None` if somebody else has an open one."""
        run = self._run_row(history, self._clock.stamp(), closed_at=None, status="running")
        rows = tuple(self._result_row(run, plan) for plan in plans)
        begins = await self._begin_together(history, plans)
        crash_point("run.admitted")
        opened = await self._writer.put_first(OpenRun(run, history.last_run_id, rows, begins, history.checked))
        if not opened:
            self._caller.turns.withdraw(begins)
            return None
        self._note_refusals(plans, {} if opened is True else opened)
        for plan in plans:
            if plan.request is None and plan.status is not Status.PENDING:
                self._tell(plan.source.name, plan.status)
        return run.id

    def _note_refusals(self, plans: Iterable[Plan], refused: Mapping[str, Refusal]) -> None:
        """Let attempts that a limit refused wait for their turn like any other."""
        for plan in plans:
            if plan.begun and (refusal := refused.get(plan.begun.id)):
                self._caller.turns.note_refusal(refusal)
                plan.begun = None

    async def _begin_together(self, history: History, plans: Iterable[Plan]) -> tuple[Attempt, ...]:
        """Stamp the first request of every plan whose turn is now, as far as limits admit them."""
        turns = [(plan, attempt) for plan in plans if (attempt := self._begin_now(history, plan))]
        admitted = await self._caller.turns.admitted([attempt for _, attempt in turns])
        for plan, attempt in turns:
            plan.begun = admitted.get(attempt.id)
        return tuple(admitted.values())

    def _begin_now(self, history: History, plan: Plan) -> Attempt | None:
        request = plan.request
        if not isinstance(request, Request) or request.shared or history.answer_to(request, plan.source.provider):
            return None
        return self._caller.turns.begin_now(plan.source, request, self._behalf(history, plan))

    def _run_row(self, history: History, now: str, *, closed_at: str | None, status: str) -> RunRow:
        prospect = history.prospect
        return RunRow(
            id=new_id(),
            tenant_id=prospect.tenant_id,
            prospect_id=prospect.id,
            batch_id=self._order.batch_id,
            trigger=self._order.trigger,
            worker_id=self._worker_id,
            opened_at=now,
            closed_at=closed_at,
            status=status,
        )

    def _result_row(self, run: RunRow, plan: Plan) -> ResultRow:
        """Give a plan its source result: open, or closed from the start when nothing has to be asked."""
        plan.result_id = new_id()
        return ResultRow(
            id=plan.result_id,
            tenant_id=run.tenant_id,
            run_id=run.id,
            prospect_id=run.prospect_id,
            source=plan.source.name,
            subject_key=plan.subject_key,
            status=plan.status.value,
            error=plan.error,
            cached_from=plan.cached_from,
            opened_at=run.opened_at,
            closed_at=None if plan.status in OPEN else run.opened_at,
        )

    # Asking.

    async def _carry(self, history: History, run_id: str, plans: Sequence[Plan], done: list[Closed]) -> Ended:
        """Ask what was planned, then the last sources on what was found; close the run unless something waits."""
        done = done + [as_closed(plan) for plan in plans if plan.status not in OPEN]
        asked = await asyncio.gather(*(self._ask(history, plan) for plan in plans if plan.request))
        if None in asked:
            return Ended.WAITING
        done += [closed for closed in asked if closed]
        for pending in plans:
            if pending.status is Status.PENDING:
                crash_point("last.asked")
                closed = await self._ask_last(history, pending, done)
                if closed is None:
                    return Ended.WAITING
                done.append(closed)
        self._writer.post(self._end_of(history, run_id, done))
        crash_point("run.closed")
        return Ended.CLOSED

    async def _ask_last(self, history: History, pending: Plan, done: Sequence[Closed]) -> Closed | None:
        plan = self._planner.one(pending.source, history, findings_of(history, done))
        plan.result_id = pending.result_id
        return await self._ask(history, plan) if plan.request else self._close_as_planned(history, plan)

    async def _ask(self, history: History, plan: Plan) -> Closed | None:
        """Ask one source to the end and close its result; `None` when it has to wait."""
        try:
            return await self._converse(history, plan)
        except Held as held:
            if held.by_breaker and self._order.interactive:
                return self._close(self._ended_by_breaker(history, plan, held), None)
            self._writer.post(Hold(plan.result_id, str(held), held.wake_at))
            self._tell(plan.source.name, Status.WAITING)
            self._set_alarm(history.prospect.id, held.wake_at)
            return None
        except Exhausted as exhausted:
            return self._close(self._exhausted(history, plan, exhausted), None)
        except NotWanted:
            return self._close(self._suppressed(history, plan), None)
        except Exception as error:
            failed = Close(plan.result_id, history.prospect.id, plan.source.name, Status.FAILED, self._now())
            return self._close(msgspec.structs.replace(failed, error=self._described(history, error)), None)

    def _set_alarm(self, prospect_id: str, wake_at: str | None) -> None:
        if wake_at is not None:
            self.alarms[prospect_id] = min(wake_at, self.alarms.get(prospect_id, wake_at))

    def _ended_by_breaker(self, history: History, plan: Plan, held: Held) -> Close:
        closed = Close(plan.result_id, history.prospect.id, plan.source.name, Status.CIRCUIT_OPEN, self._now())
        return msgspec.structs.replace(closed, error=self._described(history, str(held)), retry_at=held.wake_at)

    def _exhausted(self, history: History, plan: Plan, exhausted: Exhausted) -> Close:
        return Close(
            source_result_id=plan.result_id,
            prospect_id=history.prospect.id,
            source=plan.source.name,
            status=Status.QUOTA_EXCEEDED,
            at=self._now(),
            error=str(exhausted),
            retry_at=exhausted.retry_at,
            subject_key=plan.subject_key,
        )

    def _suppressed(self, history: History, plan: Plan, attempt_id: str | None = None) -> Close:
        return Close(
            source_result_id=plan.result_id,
            prospect_id=history.prospect.id,
            source=plan.source.name,
            status=Status.SKIPPED,
            at=self._now(),
            error=SUPPRESSED,
            attempt_id=attempt_id,
            subject_key=plan.subject_key,
        )

    async def _converse(self, history: History, plan: Plan) -> Closed:
        """Answer a source's requests one by one until it has its last word."""
        assert plan.asking is not None  # noqa: S101 - a plan with a request has the generator it came from
        assert plan.request is not None  # noqa: S101
        budget = Budget(history.unknowns.get(plan.source.name, 0))
        asked = plan.request
        while True:
            words = await self._words(history, plan, asked, budget)
            readings = tuple(word.reading for word in words)
            step = advance(plan.asking, readings if isinstance(asked, tuple) else readings[0])
            *before, last = words
            if isinstance(step, Reading | Skip):
                self._post_finishes(before)
                return await self._close_watched(history, plan, step, last)
            self._post_finishes(words)
            asked = step

    async def _close_watched(self, history: History, plan: Plan, last: Reading | Skip, word: Word) -> Closed:
        """Close with a source's last word, unless it shows somebody who must not be asked about: that is not kept."""
        if isinstance(last, Skip) or not self._watch or not await self._watch.recognises(history.prospect, last):
            return self._close(self._closing(history, plan, last, word), word.finish)
        finish = without_what_was_found(word.finish, last) if word.finish else None
        if last.match is Match.WEAK:
            return self._close(self._closing(history, plan, last, word), finish)
        await self._watch.suppress(history.prospect)
        return self._close(self._suppressed(history, plan, finish.id if finish else None), finish)

    def _post_finishes(self, words: Iterable[Word]) -> None:
        for word in words:
            if word.finish:
                self._writer.post(word.finish)

    async def _words(self, history: History, plan: Plan, asked: Asked, budget: Budget) -> Sequence[Word]:
        if not isinstance(asked, tuple):
            return [await self._word(history, plan, asked, budget)]
        asking = (self._word(history, plan, request, budget) for request in asked)
        said = await asyncio.gather(*asking, return_exceptions=True)
        words = [word for word in said if isinstance(word, Word)]
        for trouble in said:
            if isinstance(trouble, BaseException):
                self._post_finishes(words)  # what was answered is recorded, whatever became of the others
                raise trouble
        return words

    async def _word(self, history: History, plan: Plan, request: Request, budget: Budget) -> Word:
        """Get the reading of one request's answer: from the ledger, from the shared documents, or by a call."""
        if answered := history.answer_to(request, plan.source.provider):
            return Word(answered.reading, answered=answered)
        assert plan.subject is not None  # noqa: S101 - set wherever a request is planned
        if request.shared:
            # the request would be nobody's, but this tenant's work is what asks for it
            self._gate.check_persons(plan.source.provider, history.prospect.tenant_id, self._order.batch_id)
            return Word(await self._library.get(plan.source, plan.subject, request, self._reader))
        begun, plan.begun = plan.begun, None
        behalf = self._behalf(history, plan)
        obtained = await self._caller.obtain(plan.source, plan.subject, request, behalf, budget, begun)
        return Word(obtained.reading, finish=obtained.finish, retry_at=obtained.retry_at)

    def _behalf(self, history: History, plan: Plan) -> Behalf:
        prospect = history.prospect
        order = self._order
        return Behalf(
            order.trigger,
            prospect.tenant_id,
            order.batch_id,
            prospect.id,
            plan.result_id,
            history.checked,
            user_id=order.user_id or None,
            api_key_id=order.api_key_id,
        )

    # Closing.

    def _closing(self, history: History, plan: Plan, last: Reading | Skip, word: Word) -> Close:
        at = word.finish.at if word.finish else word.answered.at if word.answered else self._now()
        attempt_id = word.finish.id if word.finish else word.answered.attempt_id if word.answered else None
        close = Close(
            source_result_id=plan.result_id,
            prospect_id=history.prospect.id,
            source=plan.source.name,
            status=last.status.value if isinstance(last, Reading) else Status.SKIPPED,
            at=at,
            error=last.reason if isinstance(last, Skip) else last.error and self._described(history, last.error),
            attempt_id=attempt_id,
            retry_at=word.retry_at,
            subject_key=plan.subject_key,
        )
        if isinstance(last, Skip) or last.status is not Status.COMPLETE or last.match is Match.WEAK:
            return close
        held = {held_key(found.field, plan.source.name): hold(found, at, attempt_id) for found in last.found}
        return msgspec.structs.replace(close, fields=held)

    def _close(self, close: Close, finish: Finish | None) -> Closed:
        """Hand a closing to the writer, in one transaction with the finish of the call that led to it."""
        if finish:
            self._writer.post(msgspec.structs.replace(finish, close=close))
        else:
            self._writer.post(CloseResult(close))
        crash_point("finish.queued")
        self._tell(close.source, close.status)
        return Closed(close.source, close.status, close.fields)

    def _close_as_planned(self, history: History, plan: Plan) -> Closed:
        close = Close(
            source_result_id=plan.result_id,
            prospect_id=history.prospect.id,
            source=plan.source.name,
            status=plan.status.value,
            at=self._now(),
            error=plan.error,
            cached_from=plan.cached_from,
            subject_key=plan.subject_key,
        )
        return self._close(close, None)

    def _cancel(self, history: History, result_id: str, source: str) -> Closed:
        close = Close(result_id, history.prospect.id, source, Status.CANCELLED, self._now())
        return self._close(msgspec.structs.replace(close, error="a later batch did not ask for this source"), None)

    def _end_of(self, history: History, run_id: str, done: Iterable[Closed]) -> CloseRun:
        done, now = list(done), self._now()
        bought = any(closed.status == Status.COMPLETE for closed in done)
        enriched = self._enriched(history, run_id, now) if bought else None
        return CloseRun(run_id, history.prospect.id, now, self._standing_after(history, done), enriched)

    def _enriched(self, history: History, run_id: str, now: str) -> Event:
        prospect = history.prospect
        return Event(Action.PROFILE_ENRICHED, prospect.tenant_id, self._order.user_id, now, prospect.id, id=run_id)

    def _standing_after(self, history: History, done: Iterable[Closed]) -> str:
        """Derive the prospect's one-word status from what is stored and what this run closed."""
        statuses = {source: status.status for source, status in read_statuses(history.statuses).items()}
        if history.suppressed:
            return enrichment_status(statuses.values())
        statuses |= {closed.source: closed.status for closed in done if closed.status != Status.CACHED}
        return enrichment_status(statuses.values())

    def _described(self, history: History, error: BaseException | str) -> str:
        return describe(error, discreet(self._redact, history.prospect.person))

    def _now(self) -> str:
        return self._clock.stamp()
