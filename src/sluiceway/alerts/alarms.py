"""Alarms: what needs a look, told once for each window it happens in, and told again when it is over."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import msgspec
from sqlalchemy import Connection, select, update

from sluiceway.hooks.deliveries import Notice, tell_operators
from sluiceway.store.bulk import Insert
from sluiceway.store.schema import alarms


class Finding(msgspec.Struct, frozen=True):
    """Something that needs a look now: what, about whom, in which window (its start), in words without people.

    One that `lasts` is the same when the next window comes and it has not ended; others are over with their window.
    """

    kind: str
    subject: str
    window: str
    said: str
    lasts: bool = True


class Alarm(msgspec.Struct, frozen=True):
    """What was told, and when it was over."""

    kind: str
    subject: str
    window: str
    said: str
    raised_at: str
    resolved_at: str | None

    @property
    def target(self) -> str:
        """What a delivery names it by."""
        return f"{self.kind}/{self.subject}/{self.window}"


_A = alarms.c
_NEW: Final = Insert(alarms, Alarm.__struct_fields__, returning="kind")
_ALL = select(*(_A[name] for name in Alarm.__struct_fields__))


def settle(connection: Connection, kinds: Collection[str], found: Iterable[Finding], now: str) -> None:
    """Raise what was found and is not raised yet, and resolve what is raised of these kinds and was not found any more.

    What was raised in a window is not raised there again, even where it was over in between.
    """
    there = {(finding.kind, finding.subject): finding for finding in found}
    going_on = set()
    for alarm in open_alarms(connection, kinds):
        finding = there.get((alarm.kind, alarm.subject))
        if finding is not None and (finding.lasts or finding.window == alarm.window):
            going_on.add((alarm.kind, alarm.subject))
        else:
            _resolve(connection, alarm, now)
    for key, finding in there.items():
        if key not in going_on:
            _raise(connection, finding, now)


def open_alarms(connection: Connection, kinds: Collection[str] = ()) -> list[Alarm]:
    """Return what is raised and not over, oldest first: all of it, or of some kinds."""
    query = _ALL.where(_A.resolved_at.is_(None)).order_by(_A.raised_at, _A.kind, _A.subject)
    return [Alarm(*row) for row in connection.execute(query.where(_A.kind.in_(kinds)) if kinds else query)]


def _raise(connection: Connection, finding: Finding, now: str) -> None:
    alarm = Alarm(finding.kind, finding.subject, finding.window, finding.said, now, None)
    if _NEW.run(connection, [msgspec.structs.astuple(alarm)]):
        tell_operators(connection, Notice.ALARM_RAISED, alarm.target, alarm.said, now)


def _resolve(connection: Connection, alarm: Alarm, now: str) -> None:
    this = (_A.kind == alarm.kind, _A.subject == alarm.subject, _A.window == alarm.window, _A.resolved_at.is_(None))
    if connection.execute(update(alarms).where(*this).values(resolved_at=now)).rowcount:
        said = f"Over since {now[:16]}Z: {alarm.said}"
        tell_operators(connection, Notice.ALARM_RESOLVED, alarm.target, said, now)
