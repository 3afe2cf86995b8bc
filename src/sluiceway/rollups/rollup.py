"""A table of sums: added to as rows move, rebuilt from the rows, and held against them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, Table, delete, insert, select

from sluiceway.store.bulk import Upsert

Key = tuple[Any, ...]
Folded = Callable[[str | None], Select[Any]]
"""Returns the query that sums the rows of one UTC day, or of all: the table's key, then its sums."""


class Drift(msgspec.Struct, frozen=True):
    """One sum that is not what its rows add up to; `found` is `None` where there is no row."""

    table: str
    day: str
    key: str
    figure: str
    should_be: int
    found: int | None


class Rollup:
    """One table of sums. What is not of its key is a sum. `of_attempts` says that its rows may be dropped by age."""

    def __init__(self, table: Table, folded: Folded, *, of_attempts: bool) -> None:
        self.table = table
        self.folded = folded
        self.of_attempts = of_attempts
        self.key = tuple(column.name for column in table.primary_key.columns)
        self.sums = tuple(column.name for column in table.columns if column.name not in self.key)
        change = ", ".join(f"{name} = {table.name}.{name} + excluded.{name}" for name in self.sums)
        self._add = Upsert(table, (*self.key, *self.sums), self.key, change)

    def add(self, connection: Connection, added: Mapping[Key, Iterable[int]]) -> None:
        """Add to the sums, in key order, so that two workers never wait for each other in a circle."""
        if added:
            self._add.run(connection, [(*key, *sums) for key, sums in sorted(added.items())])

    def rebuild(self, connection: Connection, day: str) -> None:
        """Throw away the sums of a UTC day and fold its rows anew."""
        connection.execute(delete(self.table).where(self.table.c.day == day))
        connection.execute(insert(self.table).from_select([*self.key, *self.sums], self.folded(day)))

    def rebuild_all(self, connection: Connection, after: str) -> None:
        """Rebuild every UTC day after one; those up to it are sealed where their rows were dropped."""
        kept = after if self.of_attempts else ""
        connection.execute(delete(self.table).where(self.table.c.day > kept))
        rows = self.folded(None).subquery()
        query = select(rows).where(rows.c.day > kept)
        connection.execute(insert(self.table).from_select([*self.key, *self.sums], query))

    def drifts(self, connection: Connection, since: str, after: str) -> Iterator[Drift]:
        """Compare every sum of UTC days from `since` on with its rows; sealed days (up to `after`) have none."""
        rows, t = self.folded(None).subquery(), self.table.c
        right = self._sums(connection, select(rows).where(rows.c.day >= since))
        held = select(*(t[name] for name in (*self.key, *self.sums))).where(t.day >= since)
        found = self._sums(connection, held)
        day = self.key.index("day")
        for key in sorted(right.keys() | found.keys()):
            if right.get(key) != found.get(key) and not (self.of_attempts and key[day] <= after):
                yield from self._differences(key, key[day], right.get(key), found.get(key))

    def _sums(self, connection: Connection, query: Select[Any]) -> dict[Key, tuple[int, ...]]:
        width = len(self.key)
        rows = (
            (tuple(row[:width]), tuple(int(value or 0) for value in row[width:])) for row in connection.execute(query)
        )
        return {key: sums for key, sums in rows if any(sums)}

    def _differences(
        self, key: Key, day: str, right: tuple[int, ...] | None, found: tuple[int, ...] | None
    ) -> Iterator[Drift]:
        nothing = (0,) * len(self.sums)
        shown = ", ".join(str(part or "—") for name, part in zip(self.key, key, strict=True) if name != "day")
        for name, should_be, value in zip(self.sums, right or nothing, found or nothing, strict=True):
            if should_be != value:
                yield Drift(self.table.name, day, shown, name, should_be, value if found else None)
