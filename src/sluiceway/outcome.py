"""What a source had to say and what it cost: statuses, charges, and the stored `{status, error?, at}`.

Every status carries two facts: whether it ends the source's work, and how it counts in the success rate.
What was paid is never read from a status; that is the attempt's charge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import msgspec


class Status(StrEnum):
    """How a source's work on one prospect stands, or how it ended."""

    PENDING = "pending"
    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    NO_DATA = "no_data"
    CACHED = "cached"
    SKIPPED = "skipped"
    FAILED = "failed"
    UNAUTHORIZED = "unauthorized"
    RATE_LIMITED = "rate_limited"
    QUOTA_EXCEEDED = "quota_exceeded"
    CIRCUIT_OPEN = "circuit_open"
    TIMED_OUT = "timed_out"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"


OPEN: Final = frozenset({Status.PENDING, Status.WAITING, Status.RUNNING})
ANSWERED: Final = frozenset({Status.COMPLETE, Status.NO_DATA, Status.CACHED})
FAILURES: Final = frozenset(Status) - OPEN - ANSWERED - {Status.SKIPPED, Status.CANCELLED}
BOUGHT: Final = frozenset({Status.COMPLETE, Status.NO_DATA})
"""The outcomes a purchase can end with; `cached` only ever points at one of them."""
ERASED: Final = "erased"
"""What stands where something was that led to an erased person."""
SUPPRESSED: Final = "suppressed"
"""The reason with which a source result is `skipped` because the person is on the suppression list."""


class ChargeKind(StrEnum):
    """What the provider counts for one request, as far as we can prove it."""

    BILLED = "billed"
    FREE = "free"
    UNKNOWN = "unknown"
    NOT_SENT = "not_sent"


class Charge(msgspec.Struct, frozen=True, gc=False):
    """What one attempt cost.

    `credits` maps a provider's credit pool to integer milli-credits; `usd_micros` is integer micro-dollars.
    `None` means the amount is unknown, which is never the same as zero.
    """

    kind: ChargeKind
    credits: dict[str, int] | None = None
    usd_micros: int | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None

    @property
    def milli_credits(self) -> int | None:
        """All pools together, in milli-credits; `None` when unknown."""
        return None if self.credits is None else sum(self.credits.values())


FREE: Final = Charge(ChargeKind.FREE, {}, 0)
NOT_SENT: Final = Charge(ChargeKind.NOT_SENT, {}, 0)
UNKNOWN_CHARGE: Final = Charge(ChargeKind.UNKNOWN)


def billed(*, credits: dict[str, int] | None = None, usd_micros: int | None = 0) -> Charge:  # noqa: A002 - the field's word
    """Return a charge the provider counts, with its milli-credits by pool and micro-dollars."""
    return Charge(ChargeKind.BILLED, credits or {}, usd_micros)


class SourceStatus(msgspec.Struct, frozen=True):
    """One source's stored status on a prospect, in either shape it was ever written in.

    `status` is kept as found, so a word this version does not know is still shown. `at` is `None` only for rows
    written before statuses carried a time.
    """

    status: str
    at: datetime | None = None
    error: str | None = None

    @property
    def known(self) -> Status | None:
        """The status as one of ours, or `None` for a word we do not know."""
        try:
            return Status(self.status)
        except ValueError:
            return None


def status_payload(status: str, at: str, error: str | None) -> dict[str, str]:
    """Return the object that is stored: always `status` and `at`, and `error` where there is one."""
    stored = {"status": status, "at": at}
    return {**stored, "error": error} if error else stored


def timestamp(moment: datetime) -> str:
    """Write a moment the way every table and export does: ISO 8601, UTC, milliseconds, `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_timestamp(text: str) -> datetime | None:
    """Read a stored moment as aware UTC; `None` when the text is not one."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def read_status(stored: object) -> SourceStatus | None:
    """Read a stored source status: the object, or the bare string that old rows hold.

    Never raises. Returns `None` where nothing readable is stored.
    """
    if isinstance(stored, str):
        return SourceStatus(stored) if stored else None
    if not isinstance(stored, Mapping):
        return None
    status, at, error = stored.get("status"), stored.get("at"), stored.get("error")
    if not isinstance(status, str) or not status:
        return None
    return SourceStatus(
        status,
        at=parse_timestamp(at) if isinstance(at, str) else None,
        error=error if isinstance(error, str) and error else None,
    )


def read_statuses(stored: object) -> dict[str, SourceStatus]:
    """Read a prospect's whole `enrichment_source_status`; unreadable entries are left out."""
    if not isinstance(stored, Mapping):
        return {}
    read = ((str(source), read_status(value)) for source, value in stored.items())
    return {source: status for source, status in read if status is not None}


class Rates(msgspec.Struct, frozen=True):
    """Success and hit rate, each `None` when there is nothing to divide."""

    success: float | None
    hit: float | None


def rates(counts: Mapping[str, int]) -> Rates:
    """Work out both rates from a count per status.

    Success = answered over answered and failures; hit = complete over complete and no_data.
    """
    answered = sum(counts.get(status, 0) for status in ANSWERED)
    ended = answered + sum(counts.get(status, 0) for status in FAILURES)
    complete = counts.get(Status.COMPLETE, 0)
    bought = complete + counts.get(Status.NO_DATA, 0)
    return Rates(
        success=answered / ended if ended else None,
        hit=complete / bought if bought else None,
    )


def enrichment_status(statuses: Iterable[str]) -> str:
    """Derive a prospect's one-word status from those of its sources.

    `complete` asks that every source which was not skipped answered, at least one of them with data.
    """
    said = [status for status in statuses if status != Status.SKIPPED]
    if any(status in OPEN for status in said):
        return "running"
    if not said:
        return "none"
    with_data = any(status in (Status.COMPLETE, Status.CACHED) for status in said)
    if all(status in ANSWERED for status in said):
        return "complete" if with_data else "no_data"
    return "partial" if any(status in ANSWERED for status in said) else "failed"


def as_json(value: Any) -> str:
    """Encode a value for a JSON column."""
    return msgspec.json.encode(value).decode()
