"""Statements that carry many rows at once, in SQL that both SQLite and PostgreSQL read.

A group commit writes tens of rows per table. One statement with many rows costs about a quarter of what as many
statements do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table

from sluiceway.store.engine import run_in_driver

_LARGEST = 128
"""Rows per statement: below every driver's limit on parameters for our widest table."""

_STEP = 16
"""Preparing a statement of 64 rows takes as long as running it does, and drivers keep those they have prepared."""

Row = Sequence[Any]


# Table and column names come from the schema and values are always bound, so building this text is safe.
# ruff: noqa: S608


class BulkStatement:
    """One statement over rows of named columns.

    `prefix` comes before the rows and `suffix` after them; in the suffix of an update the rows are called `v`.
    """

    def __init__(
        self, columns: Sequence[str], prefix: str, suffix: str, table: Table, types: Mapping[str, Any] | None = None
    ) -> None:
        self.columns = tuple(columns)
        self._prefix, self._suffix = prefix, suffix
        known = {column.name: column.type for column in table.c} | dict(types or {})
        self._types = [known.get(name) for name in self.columns]
        self._texts: dict[tuple[str, int], str] = {}

    def run(self, connection: Connection, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
        """Run over all rows and return what RETURNING returned, if anything."""
        returned: list[tuple[Any, ...]] = []
        for chunk in _chunks(rows):
            flat = tuple(value for row in chunk for value in row)
            returned.extend(run_in_driver(connection, self._text(connection, len(chunk)), flat))
        return returned

    def _text(self, connection: Connection, count: int) -> str:
        key = (connection.dialect.name, count)
        if key not in self._texts:
            self._texts[key] = f"{self._prefix} {self._values(connection, count)} {self._suffix}"
        return self._texts[key]

    def _values(self, connection: Connection, count: int) -> str:
        mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
        plain = f"({', '.join([mark] * len(self.columns))})"
        first = f"({', '.join(self._typed(connection, mark))})" if self._needs_types(connection) else plain
        return ", ".join([first, *[plain] * (count - 1)])

    def _needs_types(self, connection: Connection) -> bool:
        # PostgreSQL takes the types of a VALUES list from its first row, and a bare parameter would be text.
        return connection.dialect.name != "sqlite"

    def _typed(self, connection: Connection, mark: str) -> Iterator[str]:
        for column_type in self._types:
            yield f"CAST({mark} AS {column_type.compile(connection.dialect)})" if column_type is not None else mark


class Insert(BulkStatement):
    """Insert rows, leaving those whose key is already there alone; returns `returning` of the rows that went in."""

    def __init__(
        self, table: Table, columns: Sequence[str], *, key: Sequence[str] = (), returning: str | None = None
    ) -> None:
        key = key or [column.name for column in table.primary_key]
        super().__init__(
            columns,
            f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES",
            f"ON CONFLICT ({', '.join(key)}) DO NOTHING" + (f" RETURNING {returning}" if returning else ""),
            table,
        )


class Upsert(BulkStatement):
    """Insert rows, or change those that are there as `change` says (`excluded` names the new values)."""

    def __init__(self, table: Table, columns: Sequence[str], key: Sequence[str], change: str) -> None:
        super().__init__(
            columns,
            f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES",
            f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {change}",
            table,
        )


class Update(BulkStatement):
    """Update rows from a list of values `v`; returns the given columns of the rows that moved."""

    def __init__(
        self, table: Table, columns: Sequence[str], *, change: str, where: str, returning: str | None = None
    ) -> None:
        super().__init__(
            columns,
            f"WITH v ({', '.join(columns)}) AS (VALUES",
            f") UPDATE {table.name} SET {change} FROM v WHERE {where}"
            + (f" RETURNING {returning}" if returning else ""),
            table,
        )


class Lookup(BulkStatement):
    """Select from a table `w` the rows that belong to a list of values `v`; `types` names those that are no columns."""

    def __init__(
        self, table: Table, columns: Sequence[str], *, select: str, where: str, types: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(
            columns,
            f"WITH v ({', '.join(columns)}) AS (VALUES",
            f") SELECT {select} FROM {table.name} AS w JOIN v ON {where}",
            table,
            types,
        )


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Cut rows into statements: whole steps first, then the rest, so that few different texts have to be prepared."""
    start = 0
    while left := len(rows) - start:
        size = min(left - left % _STEP or left, _LARGEST)
        yield rows[start : start + size]
        start += size
