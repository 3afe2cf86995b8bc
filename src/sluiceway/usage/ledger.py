"""The ledger: every request to a provider has its row before it leaves and its charge once it is known.

An operation is a value; `apply` writes many of them in one transaction. Each statement says itself which rows it
moved, and only those are folded into sums, so applying the same operations twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection

from sluiceway.activity import Event, record
from sluiceway.hooks.deliveries import runs_ended
from sluiceway.outcome import ERASED, SUPPRESSED, Charge, ChargeKind, as_json, status_payload
from sluiceway.rights.suppression import Suppressions, Unwanted, people_version
from sluiceway.rollups import MOVED, Ended, Folds, Moved, fingerprint, fold_ended, prospects_covered
from sluiceway.store.bulk import Insert, Lookup, Update, Upsert
from sluiceway.store.engine import merge_json
from sluiceway.store.schema import answers, attempts, documents, external_usage, prospects, runs, source_results
from sluiceway.usage.admission import Limits, Refusal
from sluiceway.usage.counter import PLATFORM, TotalsFold


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """One request about to be sent. `day` and `hour` (UTC) were stamped when it was admitted and never change.

    `reserved_…` is the most it can cost, which limits hold back for it until its charge is known.
    """

    day: str
    id: str
    hour: int
    provider: str
    source: str
    endpoint: str
    request_key: str
    credential_id: str
    worker_id: str
    trigger: str
    tenant_id: str | None
    batch_id: str | None
    prospect_id: str | None
    source_result_id: str | None
    begun_at: str
    deadline_at: str
    reserved_milli_credits: int | None = None
    reserved_usd_micros: int | None = None
    user_id: str | None = None
    api_key_id: str | None = None


class RunRow(msgspec.Struct, frozen=True, gc=False):
    """One enrichment of one prospect. A run that needs no request is opened already closed."""

    id: str
    tenant_id: str
    prospect_id: str
    batch_id: str | None
    trigger: str
    worker_id: str
    opened_at: str
    closed_at: str | None
    status: str


class ResultRow(msgspec.Struct, frozen=True, gc=False):
    """One source's part of a run, open or (skipped, cached) closed from the start."""

    id: str
    tenant_id: str
    run_id: str
    prospect_id: str
    source: str
    subject_key: str
    status: str
    error: str | None
    cached_from: str | None
    opened_at: str
    closed_at: str | None


class Close(msgspec.Struct, frozen=True, gc=False):
    """The one closing of a source result, and what it brings to the prospect.

    `fields` maps held keys to stored values (see `prospect.hold`). `at` is when the source's last word came.
    """

    source_result_id: str
    prospect_id: str
    source: str
    status: str
    at: str
    error: str | None = None
    attempt_id: str | None = None
    cached_from: str | None = None
    retry_at: str | None = None
    subject_key: str | None = None
    fields: dict[str, list[Any]] = {}


class OpenRun(msgspec.Struct, frozen=True, gc=False):
    """Open a run, its source results and its first attempts together; the result is whether it was opened.

    It is only opened if `former` is still the prospect's last run: if anybody ran it since the caller looked, what
    the caller planned is out of date, and none of this operation's attempts begins. Where limits refuse some of its
    attempts, the result is those refusals by attempt id. Nor is it opened if its prospect was suppressed or erased
    since the version of the list it was `checked` against.
    """

    run: RunRow
    former: str | None
    results: tuple[ResultRow, ...]
    begins: tuple[Attempt, ...] = ()
    checked: int | None = None


class Begin(msgspec.Struct, frozen=True, gc=False):
    """Make an attempt durable before its request leaves; the result is `True`, or the `Refusal` of a limit.

    It is `Unwanted` if the prospect was suppressed or erased since the version of the list it was `checked` against.
    """

    attempt: Attempt
    checked: int | None = None


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What a counted answer said, kept with its attempt."""

    tenant_id: str
    prospect_id: str
    source: str
    request_key: str
    reading: str


class Document(msgspec.Struct, frozen=True, gc=False):
    """A shared answer, or the news that the one we hold is still current (`reading` is `None`)."""

    request_key: str
    provider: str
    etag: str | None
    reading: str | None


class Finish(msgspec.Struct, frozen=True, gc=False):
    """Close an attempt with its result and charge, and with what its answer said."""

    day: str
    id: str
    at: str
    result: str
    charge: Charge
    http_status: int | None = None
    latency_us: int | None = None
    request_id: str | None = None
    error: str | None = None
    note: str | None = None
    answer: Answer | None = None
    document: Document | None = None
    close: Close | None = None


class CloseResult(msgspec.Struct, frozen=True, gc=False):
    """Close a source result that needed no (further) request."""

    close: Close


class Hold(msgspec.Struct, frozen=True, gc=False):
    """Put an open source result aside: `waiting`, why, and until when if that is known."""

    source_result_id: str
    reason: str
    wake_at: str | None = None


class CloseRun(msgspec.Struct, frozen=True, gc=False):
    """End a run; `status` becomes the prospect's own. `enriched` says for whom, where the run bought data."""

    run_id: str
    prospect_id: str
    at: str
    status: str
    enriched: Event | None = None


class TakeOver(msgspec.Struct, frozen=True, gc=False):
    """Make an open run this worker's; the result is whether its former worker still held it."""

    run_id: str
    worker_id: str
    former: str


class External(msgspec.Struct, frozen=True, gc=False):
    """Counted calls with no attempt behind them, booked once under their own id."""

    id: str
    provider: str
    day: str
    kind: str
    calls: int
    at: str
    tenant_id: str | None = None
    note: str | None = None


class Task(msgspec.Struct, frozen=True, gc=False):
    """Anything rarer, as a function of the open transaction; its return value is the operation's result."""

    run: Callable[[Connection], Any]


_Over = tuple[str, str, str]
"""A run that ended: its id, its tenant and when."""

Op = OpenRun | Begin | Finish | CloseResult | Hold | CloseRun | TakeOver | External | Event | Task

_CLAIM = Update(
    prospects,
    ("id", "last_run_id", "former", "enrichment_status"),
    change="last_run_id = v.last_run_id, enrichment_status = v.enrichment_status",
    where="prospects.id = v.id AND coalesce(prospects.last_run_id, '') IN (v.former, v.last_run_id)",
    returning="prospects.last_run_id",
)
_RUNS = Insert(runs, RunRow.__struct_fields__, returning="id, tenant_id, closed_at")
_ENDED = ", ".join(f"source_results.{name}" for name in Ended.__struct_fields__)
_RESULTS = Insert(source_results, ResultRow.__struct_fields__)
_CLOSED_RESULTS = Insert(
    source_results, (*ResultRow.__struct_fields__, "fingerprint"), returning=", ".join(Ended.__struct_fields__)
)
_BEGIN = Insert(attempts, Attempt.__struct_fields__, returning="id")
_BEGUN = Lookup(attempts, ("day", "id"), select="w.id", where="w.day = v.day AND w.id = v.id")
_ANSWERS = Insert(answers, ("attempt_id", "day", "tenant_id", "prospect_id", "source", "request_key", "at", "reading"))
_EXTERNAL = Insert(
    external_usage, ("id", "provider", "day", "kind", "calls", "booked_at", "tenant_id", "note"), returning="id"
)
_TAKE_OVER = Update(
    runs,
    ("id", "worker_id", "former"),
    change="worker_id = v.worker_id",
    where="runs.id = v.id AND runs.worker_id = v.former AND runs.closed_at IS NULL",
    returning="runs.id",
)

_FINISHED = (
    "day", "id", "finished_at", "result", "http_status", "charge", "credits", "milli_credits", "usd_micros",
    "tokens_in", "tokens_out", "latency_us", "provider_request_id", "error", "note",
)  # fmt: skip
_FINISH = Update(
    attempts,
    _FINISHED,
    change=", ".join(f"{name} = v.{name}" for name in _FINISHED[2:]),
    where="attempts.day = v.day AND attempts.id = v.id AND attempts.finished_at IS NULL",
    returning=MOVED,
)
# A late answer still wins over a declaration that nobody knew; never the other way round. The time the call took
# stays as it was first summed.
_CORRECT = Update(
    attempts,
    _FINISHED,
    change=", ".join(f"{name} = v.{name}" for name in _FINISHED[2:] if name != "latency_us"),
    where="attempts.day = v.day AND attempts.id = v.id AND attempts.charge = 'unknown' "
    "AND v.charge IN ('billed', 'free')",
    returning=MOVED,
)

_CLOSED = ("id", "status", "error", "cached_from", "attempt_id", "retry_at", "closed_at", "fingerprint", "subject_key")
_CLOSE_RESULTS = Update(
    source_results,
    _CLOSED,
    change=", ".join(f"{name} = v.{name}" for name in _CLOSED[1:-1])
    + ", subject_key = coalesce(v.subject_key, source_results.subject_key)",
    where="source_results.id = v.id AND source_results.closed_at IS NULL",
    returning=_ENDED,
)
_HOLD = Update(
    source_results,
    ("id", "status", "error", "wake_at"),
    change="status = v.status, error = v.error, wake_at = v.wake_at",
    where="source_results.id = v.id AND source_results.closed_at IS NULL",
)
_CLOSE_RUNS = Update(
    runs,
    ("id", "closed_at", "status"),
    change="closed_at = v.closed_at, status = v.status",
    where="runs.id = v.id AND runs.closed_at IS NULL",
    returning="runs.id, runs.tenant_id, runs.closed_at",
)
_STANDING = Update(
    prospects,
    ("id", "enrichment_status"),
    change="enrichment_status = v.enrichment_status",
    where="prospects.id = v.id",
)
_DOCUMENTS = Upsert(
    documents,
    ("request_key", "provider", "attempt_id", "etag", "fetched_at", "reading"),
    ("request_key",),
    "attempt_id = excluded.attempt_id, etag = excluded.etag, fetched_at = excluded.fetched_at, "
    "reading = excluded.reading",
)
_STILL_CURRENT = Update(
    documents,
    ("request_key", "fetched_at"),
    change="fetched_at = v.fetched_at",
    where="documents.request_key = v.request_key",
)


_OF_THE_ERASED = Lookup(
    attempts, ("day", "id"), select="w.id", where=f"w.day = v.day AND w.id = v.id AND w.request_key = '{ERASED}'"
)


def apply(
    connection: Connection,
    ops: Sequence[Op],
    limits: Limits | None = None,
    suppressions: Suppressions | None = None,
) -> list[Any]:
    """Write operations in one transaction and say, one by one, whether each changed anything (or what a task returned).

    Kinds are written in the order a call passes them, so a begin and a finish may share a commit. Attempts begin, and
    are settled, under `limits`; `None` reads those that are set. `suppressions` keeps calls from people who were
    suppressed or erased while this process was at work, and what is said of them from the store.
    """
    done = [op.run(connection) if isinstance(op, Task) else True for op in ops]
    sorted_ops = _Sorted(ops)
    limits = limits or Limits()
    if sorted_ops.begins_or_ends_attempts:
        limits.refresh(connection)
    else:
        limits.leave_out()
    unwanted = _watch(connection, sorted_ops, suppressions) if suppressions else set()
    opened, ended, over = _open(connection, [op for op in sorted_ops.opens if op.run.prospect_id not in unwanted])
    refused = _begin(connection, sorted_ops, opened, limits, unwanted)
    taken = _ids(_TAKE_OVER.run(connection, [[op.run_id, op.worker_id, op.former] for op in sorted_ops.take_overs]))
    folds, totals = Folds(), TotalsFold()
    finished = _finish(connection, sorted_ops.finishes, folds, totals, limits)
    booked = _book(connection, sorted_ops.externals, totals)
    _keep(connection, sorted_ops.finishes)
    closed, bought, closed_runs = _close(connection, sorted_ops, opened)
    folds.write(connection)
    totals.write(connection)
    fold_ended(connection, [*ended, *closed])
    runs_ended(connection, [*over, *closed_runs])
    recorded = record(connection, [*sorted_ops.recorded, *bought])
    moved = finished | booked | taken | recorded
    return [_result(op, result, moved, opened, refused) for op, result in zip(ops, done, strict=True)]


def _result(op: Op, result: Any, moved: set[str], opened: set[str], refused: dict[str, Refusal | Unwanted]) -> Any:
    match op:
        case OpenRun():
            of_these = {begin.id: refused[begin.id] for begin in op.begins if begin.id in refused}
            return op.run.id in opened and (of_these or True)
        case Begin():
            return refused.get(op.attempt.id, True)
        case TakeOver():
            return op.run_id in moved
        case Finish() | External() | Event():
            return op.id in moved
        case _:
            return result


class _Sorted:
    """One commit's operations by kind."""

    def __init__(self, ops: Iterable[Op]) -> None:
        self.opens: list[OpenRun] = []
        self.begins: list[Begin] = []
        self.finishes: list[Finish] = []
        self.closes: list[CloseResult] = []
        self.holds: list[Hold] = []
        self.run_ends: list[CloseRun] = []
        self.take_overs: list[TakeOver] = []
        self.externals: list[External] = []
        self.recorded: list[Event] = []
        places: dict[type, list[Any]] = {
            OpenRun: self.opens,
            Begin: self.begins,
            Finish: self.finishes,
            CloseResult: self.closes,
            Hold: self.holds,
            CloseRun: self.run_ends,
            TakeOver: self.take_overs,
            External: self.externals,
            Event: self.recorded,
        }
        for op in ops:
            if not isinstance(op, Task):
                places[type(op)].append(op)

    @property
    def begins_or_ends_attempts(self) -> bool:
        """Whether limits have anything to do with this commit."""
        return bool(self.begins or self.finishes or any(op.begins for op in self.opens))

    @property
    def is_about_people(self) -> bool:
        """Whether somebody is asked about, or an answer came, so that it matters who must not be."""
        return bool(self.begins or self.finishes or self.opens)


def _ids(returned: Iterable[Sequence[Any]]) -> set[str]:
    return {row[0] for row in returned}


def _row(struct: msgspec.Struct) -> tuple[Any, ...]:
    return msgspec.structs.astuple(struct)


def _watch(connection: Connection, ops: _Sorted, suppressions: Suppressions) -> set[str]:
    """Return who must not be asked about any more, and take out of this commit what it says of erased people."""
    if not ops.is_about_people:
        return set()
    now = people_version(connection)
    if ops.finishes and suppressions.moved(now):
        ops.finishes = _without_the_erased(connection, ops.finishes)
    asked = [(op.run.prospect_id, op.checked) for op in ops.opens]
    return suppressions.unwanted(connection, [*asked, *((b.attempt.prospect_id, b.checked) for b in ops.begins)], now)


def _without_the_erased(connection: Connection, finishes: Sequence[Finish]) -> list[Finish]:
    """Let calls about people who are erased end with what they cost, and with nothing that was said."""
    erased = _ids(_OF_THE_ERASED.run(connection, [(op.day, op.id) for op in finishes]))
    return [
        msgspec.structs.replace(op, answer=None, close=None, request_id=None, note=None, error=op.error and ERASED)
        if op.id in erased
        else op
        for op in finishes
    ]


def _open(connection: Connection, opens: Sequence[OpenRun]) -> tuple[set[str], list[Ended], list[_Over]]:
    """Open runs, and return which were, and what is over from the start: of their source results, and of them."""
    claims = sorted((op.run.prospect_id, op.run.id, op.former or "", op.run.status) for op in opens)
    opened = _ids(_CLAIM.run(connection, claims))
    new = _RUNS.run(connection, [_row(op.run) for op in opens if op.run.id in opened])
    results = [row for op in opens if op.run.id in opened for row in op.results]
    _RESULTS.run(connection, [_row(row) for row in results if not row.closed_at])
    closed = [(*_row(row), fingerprint(row.source, row.status, row.error)) for row in results if row.closed_at]
    ended = [Ended(*row) for row in _CLOSED_RESULTS.run(connection, closed)]
    return opened, ended, [(run_id, tenant_id, at) for run_id, tenant_id, at in new if at]


def _begin(
    connection: Connection, ops: _Sorted, opened: set[str], limits: Limits, unwanted: set[str]
) -> dict[str, Refusal | Unwanted]:
    """Begin the attempts that no limit refuses and nobody has asked not to make; return why the others are not."""
    with_run = [attempt for op in ops.opens if op.run.id in opened for attempt in op.begins]
    begins = [*with_run, *(op.attempt for op in ops.begins if op.attempt.prospect_id not in unwanted)]
    unasked: dict[str, Refusal | Unwanted] = {
        op.attempt.id: Unwanted() for op in ops.begins if op.attempt.prospect_id in unwanted
    }
    if not begins:
        return unasked
    decision = limits.decide(connection, begins)
    refused = _without_those_begun(connection, begins, decision.refused)
    begun = _ids(_BEGIN.run(connection, [_row(attempt) for attempt in begins if attempt.id not in refused]))
    limits.reserve(connection, decision, begun)
    return {**unasked, **refused}


def _without_those_begun(
    connection: Connection, begins: Sequence[Attempt], refused: dict[str, Refusal]
) -> dict[str, Refusal]:
    """Leave out refusals of attempts in the ledger: their commit succeeded, and only the news of that was lost."""
    keys = [(attempt.day, attempt.id) for attempt in begins if attempt.id in refused]
    begun = _ids(_BEGUN.run(connection, keys)) if keys else set()
    return {key: why for key, why in refused.items() if key not in begun}


def _finish(
    connection: Connection, finishes: Sequence[Finish], folds: Folds, totals: TotalsFold, limits: Limits
) -> set[str]:
    """Close attempts and fold exactly those that a statement moved."""
    finishes = _one_end_each(finishes)
    finished = [Moved(*row) for row in _FINISH.run(connection, [_finished(op) for op in finishes])]
    moved = {row.id for row in finished}
    late = [_finished(op) for op in finishes if op.id not in moved]
    corrected = [Moved(*row) for row in _CORRECT.run(connection, late)] if late else []
    for row in finished:
        folds.finished(row)
    for row in corrected:
        folds.corrected(row)
    for row in (*finished, *corrected):
        _count(row, totals)
    limits.settle(connection, finished, corrected)
    return moved | {row.id for row in corrected}


def _one_end_each(finishes: Sequence[Finish]) -> list[Finish]:
    """Of several ends of one attempt in a commit, take the first that knows the charge."""
    ends: dict[str, Finish] = {}
    for finish in finishes:
        known = ends.get(finish.id)
        if known is None or (known.charge.kind is ChargeKind.UNKNOWN and finish.charge.kind is not ChargeKind.UNKNOWN):
            ends[finish.id] = finish
    return list(ends.values())


def _finished(op: Finish) -> tuple[Any, ...]:
    charge = op.charge
    return (
        op.day, op.id, op.at, op.result, op.http_status, charge.kind.value,
        as_json(charge.credits) if charge.credits else None, charge.milli_credits, charge.usd_micros,
        charge.tokens_in, charge.tokens_out, op.latency_us, op.request_id, op.error, op.note,
    )  # fmt: skip


def _count(moved: Moved, totals: TotalsFold) -> None:
    """Count a billed attempt on the platform's credentials; nothing else counts."""
    if moved.charge == ChargeKind.BILLED and moved.credential_id == PLATFORM:
        totals.add(
            moved.provider,
            moved.day,
            billed=1,
            milli_credits=moved.milli_credits or 0,
            usd_micros=moved.usd_micros or 0,
        )


def _book(connection: Connection, externals: Sequence[External], totals: TotalsFold) -> set[str]:
    once = {op.id: op for op in reversed(externals)}  # an id that comes twice is the first one's
    booked = _ids(_EXTERNAL.run(connection, [_row(op) for op in once.values()]))
    for key in booked:
        totals.add(once[key].provider, once[key].day, **{once[key].kind: once[key].calls})
    return booked


def _keep(connection: Connection, finishes: Sequence[Finish]) -> None:
    """Keep what counted answers said, about people and about nobody."""
    said = [
        (op.id, op.day, a.tenant_id, a.prospect_id, a.source, a.request_key, op.at, a.reading)
        for op in finishes
        if (a := op.answer)
    ]
    _ANSWERS.run(connection, said)
    shared = {op.document.request_key: (op, op.document) for op in finishes if op.document}
    fetched = [(d.request_key, d.provider, op.id, d.etag, op.at, d.reading) for op, d in shared.values() if d.reading]
    _DOCUMENTS.run(connection, sorted(fetched))
    current = [(d.request_key, op.at) for op, d in shared.values() if d.reading is None]
    _STILL_CURRENT.run(connection, sorted(current))


def _close(connection: Connection, ops: _Sorted, opened: set[str]) -> tuple[list[Ended], list[Event], list[_Over]]:
    """Close source results and runs, and merge what they brought into their prospects.

    Returns the results that were closed, what the runs that were closed bought for their users, and those runs.
    """
    from_the_start = [
        Close(row.id, row.prospect_id, row.source, row.status, row.closed_at, row.error)
        for op in ops.opens
        if op.run.id in opened
        for row in op.results
        if row.closed_at and row.status != "unknown"  # not asking again changes nothing about how the last time ended
    ]
    closes = [op.close for op in ops.finishes if op.close] + [op.close for op in ops.closes]
    rows = [
        (
            c.source_result_id, c.status, c.error, c.cached_from, c.attempt_id, c.retry_at, c.at,
            fingerprint(c.source, c.status, c.error), c.subject_key,
        )
        for c in closes
    ]  # fmt: skip
    ended = [Ended(*row) for row in _CLOSE_RESULTS.run(connection, rows)]
    closed = {one.id for one in ended}
    _HOLD.run(connection, [(op.source_result_id, "waiting", op.reason, op.wake_at) for op in ops.holds])
    closed |= {close.source_result_id for close in from_the_start}
    _merge(connection, [*from_the_start, *closes], closed)
    over = [(row[0], row[1], row[2]) for row in _CLOSE_RUNS.run(connection, [_end(op) for op in ops.run_ends])]
    standing = {op.prospect_id: op.status for op in ops.run_ends}
    _STANDING.run(connection, sorted(standing.items()))
    closed_runs = _ids(over)
    bought = [op.enriched for op in ops.run_ends if op.enriched and op.run_id in closed_runs]
    return ended, bought, over


def _end(op: CloseRun) -> tuple[str, str, str]:
    return op.run_id, op.at, op.status


def _merge(connection: Connection, closes: Sequence[Close], closed: set[str]) -> None:
    """Merge statuses of results this commit closed, and fields of every answer: what was paid for is kept.

    A `cached` result leaves the stored status alone; it stays the purchase's. Nor does being suppressed change
    anything about how the last time ended.
    """
    statuses: dict[str, dict[str, Any]] = {}
    fields: dict[str, dict[str, Any]] = {}
    for close in closes:
        if close.source_result_id in closed and close.status != "cached" and close.error != SUPPRESSED:
            statuses.setdefault(close.prospect_id, {})[close.source] = _status_patch(close)
        if close.fields:
            fields.setdefault(close.prospect_id, {}).update(close.fields)
    touched = sorted(statuses.keys() | fields.keys())
    if touched:
        first = {close.prospect_id: close for close in reversed(closes) if close.fields}
        rows = [
            (key, as_json(statuses.get(key, {})), as_json(fields.get(key, {})), *_cover(first.get(key), closed))
            for key in touched
        ]
        merged = _merge_statement(connection.dialect.name).run(connection, rows)
        by = {row[-1] for row in rows if row[-1]}
        covered = [(tenant, at) for tenant, at, covered_by in merged if covered_by in by]
        late = [close for close in first.values() if close.source_result_id not in closed]
        covered += [(tenant, at) for tenant, at in _COVER.run(connection, sorted(map(_late_cover, late)))]
        prospects_covered(connection, covered)


def _cover(close: Close | None, closed: set[str]) -> tuple[str | None, str | None]:
    """Return when, and by which source result, a prospect is covered if it is not yet; a result is closed only once."""
    if close is None or close.source_result_id not in closed:
        return None, None
    return close.at, close.source_result_id


def _late_cover(close: Close) -> tuple[str, str, str]:
    return close.prospect_id, close.at, close.source_result_id


def _status_patch(close: Close) -> dict[str, str | None]:
    # The merge takes away keys that are null in a patch, so that a mended source does not keep its old error.
    return {"error": None, **status_payload(close.status, close.at, close.error)}


# An answer that comes after its result was closed brings fields all the same.
_COVER = Update(
    prospects,
    ("id", "covered_at", "covered_by"),
    change="covered_at = v.covered_at, covered_by = v.covered_by",
    where="prospects.id = v.id AND prospects.covered_at IS NULL",
    returning="prospects.tenant_id, prospects.covered_at",
)
_merge_statements: dict[str, Update] = {}


def _merge_statement(dialect: str) -> Update:
    if dialect not in _merge_statements:
        status = merge_json(dialect, "prospects.enrichment_source_status", "v.enrichment_source_status")
        fields = merge_json(dialect, "prospects.fields", "v.fields")
        _merge_statements[dialect] = Update(
            prospects,
            ("id", "enrichment_source_status", "fields", "covered_at", "covered_by"),
            change=f"enrichment_source_status = {status}, fields = {fields}, "
            "covered_at = coalesce(prospects.covered_at, v.covered_at), "
            "covered_by = coalesce(prospects.covered_by, v.covered_by)",
            where="prospects.id = v.id",
            returning="prospects.tenant_id, prospects.covered_at, prospects.covered_by",
        )
    return _merge_statements[dialect]
