"""The daily counters' public names, and what the store holds under them."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from sluiceway.store.bulk import Upsert
from sluiceway.store.schema import daily_totals

PLATFORM = "platform"
"""The credential whose calls the public counters count; a tenant's own credential is not the platform's spend."""


def usage_key(provider: str, day: str) -> str:
    """Return the counter's name for a provider and a UTC day (`YYYY-MM-DD`): `api_usage:{provider}:{day}`."""
    return f"api_usage:{provider}:{day}"


_USAGE_KEY = re.compile(r"api_usage:(.+):(\d{4}-\d{2}-\d{2})", re.DOTALL)


def read_usage_key(name: str) -> tuple[str, str] | None:
    """Return the provider and the UTC day a counter's name names; `None` if it is not such a name."""
    found = _USAGE_KEY.fullmatch(name)
    if found is None:
        return None
    provider, day = found.groups()
    try:
        date.fromisoformat(day)
    except ValueError:
        return None
    return provider, day


class DailyTotal(msgspec.Struct, frozen=True):
    """One counter: counted calls of one provider on one UTC day, by where the count came from."""

    name: str
    provider: str
    day: str
    billed: int
    tracked: int
    imported: int
    milli_credits: int
    usd_micros: int
    version: int

    @property
    def calls(self) -> int:
        """The counter's value."""
        return self.billed + self.tracked + self.imported


def daily_totals_since(connection: Connection, day: str) -> list[DailyTotal]:
    """Return all counters from a UTC day on, oldest first."""
    table = daily_totals.c
    query = select(*(table[name] for name in DailyTotal.__struct_fields__)).where(table.day >= day)
    return [DailyTotal(*row) for row in connection.execute(query.order_by(table.day, table.provider))]


_ADD = Upsert(
    daily_totals,
    ("name", "provider", "day", "billed", "tracked", "imported", "milli_credits", "usd_micros", "version"),
    ("name",),
    ", ".join(
        f"{amount} = daily_totals.{amount} + excluded.{amount}"
        for amount in ("billed", "tracked", "imported", "milli_credits", "usd_micros", "version")
    ),
)


class TotalsFold:
    """Adds one commit's counts to the daily totals; each counter's version rises by one per commit."""

    def __init__(self) -> None:
        self._added: dict[tuple[str, str], list[int]] = {}

    def add(
        self, provider: str, day: str, *, billed: int = 0, tracked: int = 0, imported: int = 0,
        milli_credits: int = 0, usd_micros: int = 0,
    ) -> None:  # fmt: skip
        """Count calls (and what they cost) of one provider and day."""
        added = self._added.setdefault((provider, day), [0, 0, 0, 0, 0])
        for place, amount in enumerate((billed, tracked, imported, milli_credits, usd_micros)):
            added[place] += amount

    def write(self, connection: Connection) -> None:
        """Write the sums, in key order so that two workers never wait for each other in a circle."""
        rows: list[list[Any]] = [
            [usage_key(provider, day), provider, day, *added, 1]
            for (provider, day), added in sorted(self._added.items())
            if any(added)
        ]
        _ADD.run(connection, rows)
