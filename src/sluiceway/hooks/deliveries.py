"""The outbox: what is to be told to whom. It is written in the transaction that makes it true, and told afterwards.

A delivery holds an event and the id of what it is about, and nobody's data: its body is read when it is sent. It is
told at least once; a receiver knows one that comes again by its id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from sluiceway.hooks.letter import Reply
from sluiceway.identifier import new_id
from sluiceway.outcome import ERASED, timestamp
from sluiceway.store.bulk import Insert, Lookup, Update
from sluiceway.store.schema import alerts, batches, deliveries, webhooks

RETRIED_AFTER: Final = tuple(timedelta(seconds=seconds) for seconds in (10, 30, 120, 600, 3600, 6 * 3600, 24 * 3600))
"""How long after each failed try the next one comes; after the last of them a delivery is given up."""

PING: Final = "Sluiceway tries whether this receiver is reached. Nothing needs a look."

_MOST_LOOKED_AT: Final = 100


class Notice(StrEnum):
    """What others are told of."""

    RUN_FINISHED = "run.finished"
    BATCH_FINISHED = "batch.finished"
    PING = "ping"
    ALARM_RAISED = "alarm.raised"
    ALARM_RESOLVED = "alarm.resolved"


class To(StrEnum):
    """What kind of receiver is told."""

    WEBHOOK = "webhook"
    ALERT = "alert"


class Delivery(msgspec.Struct, frozen=True):
    """Something to be told to one receiver. `target` is the id of what it is about, `said` its words if it has any."""

    id: str
    receiver: str
    receiver_id: str
    tenant_id: str | None
    event: str
    target: str
    said: str | None
    created_at: str
    tries: int


class State(StrEnum):
    """What became of a delivery so far."""

    DELIVERED = "delivered"
    DUE = "due"
    GIVEN_UP = "given_up"
    DROPPED = "dropped"


class Logged(msgspec.Struct, frozen=True):
    """A delivery as the log shows it: how often it was tried, and what came back the last time."""

    id: str
    receiver_id: str
    event: str
    target: str
    state: State
    tries: int
    created_at: str
    next_at: str | None
    tried_at: str | None
    http_status: int | None
    error: str | None
    delivered_at: str | None


_D = deliveries.c
_COLUMNS: Final = (*Delivery.__struct_fields__, "next_at")
_NEW: Final = Insert(deliveries, _COLUMNS)
_WHO: Final = Lookup(
    webhooks, ("tenant_id",), select="w.id, w.tenant_id, w.events", where="w.tenant_id = v.tenant_id "
    "AND w.removed_at IS NULL",
)  # fmt: skip
_TAKE: Final = Update(
    deliveries,
    ("id", "was_due", "next_at"),
    change="next_at = v.next_at, tries = deliveries.tries + 1",
    where="deliveries.id = v.id AND deliveries.next_at = v.was_due",
    returning="deliveries.id",
)


# What is to be told.


def runs_ended(connection: Connection, ended: Sequence[tuple[str, str, str]]) -> None:
    """Have the webhooks of tenants told that runs ended: run, tenant and stamp of each."""
    if not ended:
        return
    whose: dict[str, list[str]] = {}
    for webhook_id, tenant_id, events in _WHO.run(connection, [(tenant,) for tenant in sorted({e[1] for e in ended})]):
        if Notice.RUN_FINISHED in events.split(","):
            whose.setdefault(tenant_id, []).append(webhook_id)
    _enqueue(
        connection,
        [
            (To.WEBHOOK, webhook_id, tenant_id, Notice.RUN_FINISHED, run_id, None, at)
            for run_id, tenant_id, at in ended
            for webhook_id in whose.get(tenant_id, ())
        ],
    )


def batch_ended(connection: Connection, batch_id: str, now: str) -> None:
    """Have the webhooks of a batch's tenant told that it ended."""
    w = webhooks.c
    query = select(w.id, w.tenant_id, w.events).join(batches, batches.c.tenant_id == w.tenant_id)
    found = connection.execute(query.where(batches.c.id == batch_id, w.removed_at.is_(None)).order_by(w.id))
    told = [row for row in found if Notice.BATCH_FINISHED in row.events.split(",")]
    _enqueue(
        connection,
        [(To.WEBHOOK, row.id, row.tenant_id, Notice.BATCH_FINISHED, batch_id, None, now) for row in told],
    )


def tell_operators(connection: Connection, event: Notice, target: str, said: str, now: str) -> None:
    """Have every receiver of alerts told something, in words without people in them."""
    receivers = connection.execute(select(alerts.c.id).where(alerts.c.removed_at.is_(None)).order_by(alerts.c.id))
    _enqueue(connection, [(To.ALERT, receiver, None, event, target, said, now) for receiver in receivers.scalars()])


def _enqueue(connection: Connection, told: Sequence[tuple[Any, ...]]) -> None:
    rows = [(new_id(), to.value, receiver, tenant, event.value, target, said, at, 0, at)
            for to, receiver, tenant, event, target, said, at in told]  # fmt: skip
    _NEW.run(connection, rows)


def ping_for(to: To, receiver_id: str, tenant_id: str | None, now: str) -> Delivery:
    """Return what tries a receiver out: sent once, at once, and not through the outbox."""
    return Delivery(new_id(), to.value, receiver_id, tenant_id, Notice.PING.value, receiver_id, PING, now, 1)


def keep_ping(connection: Connection, ping: Delivery, reply: Reply, now: str) -> None:
    """Keep in the log that a receiver was tried out, and what came back."""
    connection.execute(insert(deliveries).values(msgspec.structs.asdict(ping)))
    connection.execute(update(deliveries).where(_D.id == ping.id).values(**_came_back(reply, now)))


# Telling it.


def due(connection: Connection, now: str, busy: Mapping[str, int], each: int, most: int) -> list[Row[Any]]:
    """Return what is due and has a place: no receiver gets more than `each` at once; `busy` says how many it has now.

    Passing over all that waits for a receiver which hangs takes a while, so this belongs on a thread.
    """
    if most <= 0:
        return []
    full = [receiver for receiver, count in busy.items() if count >= each]
    columns = [_D[name] for name in _COLUMNS]
    query = select(*columns).where(_D.next_at <= now, _D.receiver_id.not_in(full)).order_by(_D.next_at, _D.id)
    counts = Counter(busy)
    found: list[Row[Any]] = []
    for row in connection.execute(query.limit(_MOST_LOOKED_AT)):
        if counts[row.receiver_id] < each and len(found) < most:
            counts[row.receiver_id] += 1
            found.append(row)
    return found


def take(connection: Connection, found: Sequence[Row[Any]], until: str) -> list[Delivery]:
    """Take what is due, for this process alone until a moment; whoever dies meanwhile leaves it to be tried again."""
    mine = {row[0] for row in _TAKE.run(connection, [(row.id, row.next_at, until) for row in found])}
    return [_delivery(row) for row in found if row.id in mine]


def _delivery(row: Row[Any]) -> Delivery:
    """Return a delivery as it is once this try of it has begun."""
    return Delivery(**{name: getattr(row, name) for name in Delivery.__struct_fields__[:-1]}, tries=row.tries + 1)


def tried(connection: Connection, told: Delivery, reply: Reply, now: str) -> None:
    """Note what came back; a delivery that failed is due again later, until it has failed too often."""
    values = _came_back(reply, now)
    if not reply.is_delivered and not reply.is_gone and told.tries <= len(RETRIED_AFTER):
        values["next_at"] = timestamp(datetime.fromisoformat(now) + RETRIED_AFTER[told.tries - 1])
    connection.execute(update(deliveries).where(_D.id == told.id).values(**values))


def _came_back(reply: Reply, now: str) -> dict[str, Any]:
    return {
        "tried_at": now,
        "http_status": reply.http_status,
        "error": reply.error,
        "next_at": None,
        "delivered_at": now if reply.is_delivered else None,
    }


def drop(connection: Connection, told: Delivery, reason: str) -> None:
    """Note that something is not told after all. Of an erased person not even the run's former id stays."""
    values: dict[str, Any] = {"next_at": None, "error": reason, "tries": _D.tries - 1}
    if reason == ERASED:
        values["target"] = ERASED
    connection.execute(update(deliveries).where(_D.id == told.id).values(**values))


def drop_all_for(connection: Connection, receiver_id: str, reason: str) -> None:
    """Drop whatever is due to a receiver."""
    due = (_D.receiver_id == receiver_id, _D.next_at.is_not(None))
    connection.execute(update(deliveries).where(*due).values(next_at=None, error=reason))


# The log.


def logged(row: Any) -> Logged:
    """Return a row of the table as the log shows it."""
    return Logged(
        row.id, row.receiver_id, row.event, row.target, state_of(row), row.tries, row.created_at, row.next_at,
        row.tried_at, row.http_status, row.error, row.delivered_at,
    )  # fmt: skip


def state_of(row: Any) -> State:
    """Say what became of a delivery, from its row."""
    if row.delivered_at:
        return State.DELIVERED
    if row.next_at:
        return State.DUE
    last_word = row.tries > len(RETRIED_AFTER) or row.http_status == 410 or row.event == Notice.PING
    return State.GIVEN_UP if last_word else State.DROPPED


def alert_log(connection: Connection, limit: int) -> list[Logged]:
    """Return the latest deliveries to operators, newest first."""
    query = select(deliveries).where(_D.receiver == To.ALERT.value).order_by(_D.id.desc()).limit(limit)
    return [logged(row) for row in connection.execute(query)]
