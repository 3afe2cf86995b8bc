"""Attempts of unknown charge, and the correcting entry that closes one when a person finds out what became of it.

The attempt's charge moves and the sums are corrected by exactly the row that moved, in the transaction that writes
the entry; what was seen of the call at the time (its result, its error, when it ended) stays as it was.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, literal_column, select

from sluiceway.errors import BadInput
from sluiceway.identifier import new_id
from sluiceway.outcome import Charge, ChargeKind
from sluiceway.store.schema import attempts, corrections
from sluiceway.usage.ledger import Finish, apply

UNSORTED = "unsorted"
"""The pool of credits that nobody can assign to one of the provider's own."""


class UnknownAttempt(msgspec.Struct, frozen=True):
    """One attempt that may have been billed, and for whom it was made."""

    id: str
    provider: str
    source: str
    endpoint: str
    begun_at: str
    tenant_id: str | None
    batch_id: str | None
    prospect_id: str | None
    error: str | None


class Resolution(msgspec.Struct, frozen=True):
    """What a person found out. Amounts are milli-credits and micro-dollars; `None` takes what the call reserved."""

    became: ChargeKind
    note: str
    by: str
    milli_credits: int | None = None
    usd_micros: int | None = None


class Resolved(msgspec.Struct, frozen=True):
    """An attempt whose charge was unknown and is now known; `None` where an amount stays unknown."""

    id: str
    provider: str
    day: str
    became: str
    milli_credits: int | None
    usd_micros: int | None


def unknown_attempts(connection: Connection, provider: str | None = None) -> list[UnknownAttempt]:
    """Return the attempts of unknown charge, oldest first: all, or one provider's."""
    columns = [attempts.c[name] for name in UnknownAttempt.__struct_fields__]
    query = select(*columns).where(attempts.c.charge == ChargeKind.UNKNOWN).order_by(attempts.c.begun_at, attempts.c.id)
    if provider is not None:
        query = query.where(attempts.c.provider == provider)
    return [UnknownAttempt(*row) for row in connection.execute(query)]


def resolve(connection: Connection, start_of_id: str, resolution: Resolution, *, at: str) -> Resolved:
    """Close the one unknown attempt whose id begins so, with its correcting entry, in the open transaction.

    Raises `BadInput` when there is none, more than one, or its charge is known.
    """
    attempt = _the_one(connection, start_of_id)
    charge = _charge(attempt, resolution)
    if apply(connection, [_correction(attempt, charge)]) != [True]:
        raise BadInput(f"attempt {attempt.id} was resolved by somebody else just now")
    entry = {
        "id": new_id(), "attempt_day": attempt.day, "attempt_id": attempt.id, "provider": attempt.provider,
        "was": ChargeKind.UNKNOWN.value, "became": charge.kind.value, "note": resolution.note,
        "corrected_by": resolution.by, "corrected_at": at,
    }  # fmt: skip
    connection.execute(insert(corrections).values(entry))
    return Resolved(
        attempt.id, attempt.provider, attempt.day, charge.kind.value, charge.milli_credits, charge.usd_micros
    )


def _the_one(connection: Connection, start_of_id: str) -> Row[Any]:
    a = attempts.c
    alike = select(attempts).where(a.id.startswith(start_of_id, autoescape=True)).order_by(a.id).limit(2)
    # written out, so that the index of these is used; all attempts are only looked at to say why there is none
    unknown = a.charge == literal_column(f"'{ChargeKind.UNKNOWN}'")
    found = connection.execute(alike.where(unknown)).all() if start_of_id else []
    if len(found) == 1:
        return found[0]
    found = found or (connection.execute(alike).all() if start_of_id else [])
    if not found:
        raise BadInput(f"no attempt's id begins with {start_of_id!r}; `sluiceway usage unknown` lists those to resolve")
    if len(found) > 1:
        raise BadInput(f"{start_of_id!r} begins the ids of several attempts; give more of it")
    raise BadInput(_why_not(found[0]))


def _why_not(attempt: Row[Any]) -> str:
    if attempt.finished_at is None:
        return (
            f"attempt {attempt.id} is open, not unknown: it is in flight, or its process died, and then "
            "`sluiceway enrich` declares it unknown when it starts"
        )
    return f"attempt {attempt.id} is {attempt.charge.replace('_', ' ')}, not unknown: there is nothing to resolve"


def _charge(attempt: Row[Any], resolution: Resolution) -> Charge:
    if resolution.became is ChargeKind.FREE:
        return Charge(ChargeKind.FREE, {}, 0)
    milli_credits, usd_micros = resolution.milli_credits, resolution.usd_micros
    if milli_credits is None:
        milli_credits = attempt.reserved_milli_credits
    if usd_micros is None:
        usd_micros = attempt.reserved_usd_micros
    pools = None if milli_credits is None else {UNSORTED: milli_credits} if milli_credits else {}
    return Charge(ChargeKind.BILLED, pools, usd_micros)


def _correction(attempt: Row[Any], charge: Charge) -> Finish:
    """Return the attempt's own end with another charge."""
    return Finish(
        attempt.day, attempt.id, attempt.finished_at, attempt.result, charge, http_status=attempt.http_status,
        latency_us=attempt.latency_us, request_id=attempt.provider_request_id, error=attempt.error, note=attempt.note,
    )  # fmt: skip
