"""Sums of rows, kept in the transaction that moves the rows: what every figure on a screen is read from.

A fold is given exactly the rows that a statement moved, so folding and rebuilding always agree; tests hold them against
each other, and `sluiceway usage reconcile` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import Connection

from sluiceway.rollups import coverage, durations, errors, outcomes, usage
from sluiceway.rollups.coverage import prospects_added, prospects_covered, prospects_removed
from sluiceway.rollups.durations import DurationsFold
from sluiceway.rollups.errors import fingerprint, fold_errors, forget_messages
from sluiceway.rollups.outcomes import Ended, fold_outcomes
from sluiceway.rollups.rollup import Drift, Rollup
from sluiceway.rollups.usage import KEY, MOVED, SUMS, Moved, UsageFold, folded
from sluiceway.store.facts import ledger_horizon

__all__ = [
    "ALL", "KEY", "MOVED", "SUMS", "Drift", "Ended", "Folds", "Moved", "Rollup", "drifts", "fingerprint",
    "fold_ended", "folded", "forget_messages", "prospects_added", "prospects_covered", "prospects_removed", "rebuild",
    "rebuild_all", "rebuild_groups",
]  # fmt: skip

ALL: tuple[Rollup, ...] = (
    usage.HOURS,
    usage.PROVIDER_HOURS,
    usage.TENANT_DAYS,
    usage.DAYS,
    usage.UNVIEWED,
    durations.DURATIONS,
    durations.TENANT_DURATIONS,
    outcomes.OUTCOMES,
    outcomes.TENANT_OUTCOMES,
    errors.ERROR_DAYS,
    coverage.COVERAGE,
)


class Folds:
    """Everything one commit adds to the sums of attempts."""

    def __init__(self) -> None:
        self._usage, self._durations = UsageFold(), DurationsFold()

    def finished(self, moved: Moved) -> None:
        """Count an attempt that has just finished."""
        self._usage.finished(moved)
        self._durations.finished(moved)

    def corrected(self, moved: Moved) -> None:
        """Count an attempt again whose charge was unknown and is now known."""
        self._usage.corrected(moved)

    def write(self, connection: Connection) -> None:
        """Write the sums."""
        self._usage.write(connection)
        self._durations.write(connection)


def fold_ended(connection: Connection, ended: Sequence[Ended]) -> None:
    """Count source results that were just closed."""
    fold_outcomes(connection, ended)
    fold_errors(connection, ended)


def rebuild(connection: Connection, days: Iterable[str]) -> None:
    """Throw away the sums of some UTC days and fold their rows anew."""
    for day in days:
        for rollup in ALL:
            rollup.rebuild(connection, day)


def rebuild_groups(connection: Connection) -> None:
    """Fold the groups of errors anew."""
    errors.mark_failures(connection)
    errors.rebuild_groups(connection)


def rebuild_all(connection: Connection) -> None:
    """Fold everything anew, but for sealed days. On a large store this takes a while."""
    rebuild_groups(connection)
    coverage.mark_covered(connection)
    after = ledger_horizon(connection) or ""
    for rollup in ALL:
        rollup.rebuild_all(connection, after)


def drifts(connection: Connection, since: str = "") -> Iterator[Drift]:
    """Compare every sum but the hourly ones with its rows, from a UTC day on."""
    after = ledger_horizon(connection) or ""
    if not errors.groups_are_right(connection):
        yield Drift("error_groups", "", "all", "groups", 1, 0)
    for rollup in ALL:
        if rollup is not usage.HOURS:
            yield from rollup.drifts(connection, since, after)
