"""People of the sandbox's world, as prospects of a tenant."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from served import ACME, Served
from sqlalchemy import select

from sluiceway.people_file import PeopleFile
from sluiceway.people_row import Row
from sluiceway.pipeline.batch import Asked, InputRow, open_batch, take_in
from sluiceway.sandbox.people import people_csv
from sluiceway.store.engine import Store
from sluiceway.store.schema import batch_rows


def csv_of(count: int, seed: int = 0) -> str:
    """A file of so many people that the sandbox knows."""
    return "".join(people_csv(count, seed=seed))


def with_people(served: Served, count: int, tenant: str = ACME, seed: int = 0, store: Store | None = None) -> list[str]:
    """Make prospects of so many people whom the sandbox knows, in a store of theirs or another; returns their ids."""
    store = store or served.store
    now = store.clock.stamp()
    with TemporaryDirectory() as folder, store.change() as connection:
        path = Path(folder) / "people.csv"
        path.write_text(csv_of(count, seed), encoding="utf-8", newline="")
        rows = [row for row in PeopleFile.open(path).read() if isinstance(row, Row)]
        batch = open_batch(connection, Asked(tenant, "people", f"{tenant}{seed}", {}, "file", False), now)
        take_in(connection, batch.id, [InputRow(row.number, tenant, row.person) for row in rows], now)
        ids = connection.execute(select(batch_rows.c.prospect_id).where(batch_rows.c.batch_id == batch.id)).scalars()
        return list(dict.fromkeys(ids))
