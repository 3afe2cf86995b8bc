"""What needs a look, found by looking at the store. Words name limits, providers and tenants, and never people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, func, select

from sluiceway.alerts.alarms import Finding
from sluiceway.outcome import timestamp
from sluiceway.store.schema import breakers, provider_hours
from sluiceway.usage.counter import PLATFORM
from sluiceway.usage.forecast import Forecast, quota_forecasts
from sluiceway.usage.quota import Use, amount_in_words, uses
from sluiceway.usage.reconcile import Line, reconcile

WARN_AT: Final = "warn_at"
EXHAUSTED: Final = "exhausted"
RUNS_OUT: Final = "runs_out"
KEY_REFUSED: Final = "key_refused"
BREAKER: Final = "breaker"
UNKNOWN: Final = "unknown_calls"
DRIFT: Final = "drift"
OUTSIDE: Final = "outside_use"

KINDS: Final = (WARN_AT, EXHAUSTED, RUNS_OUT, KEY_REFUSED, BREAKER, UNKNOWN, DRIFT, OUTSIDE)

_CONDEMNED: Final = "condemned"
_LONG_REST: Final = timedelta(minutes=5)
_CAUSES: Final = {"ran_out": "its credits are used up", "failing": "its calls fail", "rest": "it asks for a rest"}

Look = Callable[[Connection, datetime], Sequence[Finding]]


class Rule(msgspec.Struct, frozen=True):
    """Which kinds of findings one look gives, and how many seconds there are between two of them."""

    kinds: tuple[str, ...]
    every_s: float
    look: Look


def rules(unknown_calls: int) -> tuple[Rule, ...]:
    """Return every rule; `unknown_calls` is from how many on within a day there is an alarm (0 for never)."""
    return (
        Rule((WARN_AT, EXHAUSTED), 30.0, limits_reached),
        Rule((KEY_REFUSED, BREAKER), 30.0, providers_not_asked),
        Rule((UNKNOWN,), 60.0, lambda connection, now: many_unknown(connection, now, unknown_calls)),
        Rule((RUNS_OUT,), 600.0, limits_run_out),
        Rule((DRIFT, OUTSIDE), 3600.0, books_do_not_agree),
    )


def limits_reached(connection: Connection, now: datetime) -> list[Finding]:
    """Find limits of a day or a cycle that are used up, or used so far that a warning was wished for."""
    return [found for use in uses(connection, timestamp(now)) if use.quota.is_long for found in _reached(use)]


def _reached(use: Use) -> Iterator[Finding]:
    quota, warn_at = use.quota, use.quota.warn_at_percent
    until = f"its window ends {_moment(use.window.closes_at)}"
    used = amount_in_words(quota.unit, use.used)
    what = f"{quota.provider}: {used} of {quota.shown()} used"
    if use.left == 0:
        then = "calls are refused until then" if quota.hard else "the limit is soft, so calls go on"
        yield Finding(EXHAUSTED, quota.id, use.window.opens_at, f"Used up. {what}; {until}, {then}.", lasts=False)
    if warn_at is not None and quota.amount and use.used * 100 >= warn_at * quota.amount:
        said = f"{warn_at} % reached. {what}; {until}."
        yield Finding(WARN_AT, quota.id, use.window.opens_at, said, lasts=False)


def limits_run_out(connection: Connection, now: datetime) -> list[Finding]:
    """Find limits that are foretold to run out before their window ends."""
    found = []
    for said in quota_forecasts(connection, now):
        outlook = said.outlook
        if said.left and isinstance(outlook, Forecast) and outlook.runs_out_at is not None:
            limit_id = "/".join(filter(None, (said.provider, said.unit, said.clock, said.tenant_id)))
            when = _moment(timestamp(outlook.runs_out_at))
            words = (
                f"Will run out. {said.provider}: {said.limit} is used up around {when} if use goes on as it does "
                f"({amount_in_words(said.unit, said.left)} left); its window ends {_moment(said.closes_at)}."
            )
            found.append(Finding(RUNS_OUT, limit_id, said.opens_at, words, lasts=False))
    return found


def providers_not_asked(connection: Connection, now: datetime) -> list[Finding]:
    """Find open breakers: keys that were refused, and providers that are left alone for more than a short rest."""
    rows = connection.execute(select(breakers).where(breakers.c.state == "open").order_by(breakers.c.provider))
    return [_not_asked(row, timestamp(now)[:10]) for row in rows if not _is_short_rest(row)]


def _not_asked(row: Any, today: str) -> Finding:
    own = row.credential_id != PLATFORM
    subject = f"{row.provider}/{row.credential_id}" if own else row.provider
    whose = f"a tenant's own key (credential {row.credential_id})" if own else "the platform's key"
    if row.cause == _CONDEMNED:
        said = f"Key refused. {row.provider} refuses {whose}; it is not asked with it until the key is mended."
        return Finding(KEY_REFUSED, subject, today, said)
    again = f"tried again at {_moment(row.probe_at)}" if row.probe_at else "not asked until somebody mends it"
    why = _CAUSES.get(row.cause, "its breaker is open")
    return Finding(BREAKER, subject, today, f"Not asked. {row.provider} with {whose}: {why}; {again}.")


def _is_short_rest(row: Any) -> bool:
    if row.cause != "rest" or not row.probe_at:
        return False
    return datetime.fromisoformat(row.probe_at) - datetime.fromisoformat(row.changed_at) < _LONG_REST


def many_unknown(connection: Connection, now: datetime, threshold: int) -> list[Finding]:
    """Find providers with so many calls of unknown charge in the last 24 hours, the present one among them."""
    if not threshold:
        return []
    h, since = provider_hours.c, now - timedelta(hours=23)
    day = f"{since:%Y-%m-%d}"
    recent = (h.day > day) | ((h.day == day) & (h.hour >= since.hour))
    query = select(h.provider, func.sum(h.unknown)).where(h.day >= day, recent).group_by(h.provider)
    return [
        Finding(
            UNKNOWN, provider, timestamp(now)[:10],
            f"Unknown charges. {provider}: {count} calls of the last 24 hours may have been billed and their answers "
            "are lost; `sluiceway usage unknown` lists them.",
        )
        for provider, count in connection.execute(query.order_by(h.provider))
        if count >= threshold
    ]  # fmt: skip


def books_do_not_agree(connection: Connection, now: datetime) -> list[Finding]:
    """Find sums of yesterday and today that are not what their rows add up to, and what was used outside Sluiceway."""
    found = reconcile(connection, now, f"{now - timedelta(days=1):%Y-%m-%d}")
    today = timestamp(now)[:10]
    findings = [finding for line in found.lines for finding in _outside(line)]
    drifting = sorted({line.provider for line in found.drifting} | ({"figures"} if found.figures else set()))
    for subject in drifting:
        what = "figures" if subject == "figures" else f"{subject}'s counts"
        said = f"Drift. The {what} of the last two days are not what the ledger's rows add up to; "
        findings.append(Finding(DRIFT, subject, today, f"{said}`sluiceway usage reconcile` shows where."))
    return findings


def _outside(line: Line) -> Iterator[Finding]:
    for metered in line.meters:
        if metered.outside:
            said = (
                f"Used outside Sluiceway. {line.provider}'s own meter ({metered.meter}) counted {metered.outside:,} "
                f"{metered.unit} on {line.day} that none of our calls can have used."
            )
            yield Finding(OUTSIDE, f"{line.provider}/{metered.credential_id}/{metered.meter}", line.day, said, False)


def _moment(stamp: str) -> str:
    return f"{stamp[:10]} {stamp[11:16]} UTC"
