"""Two services on one store: both go on with the same batches, and neither spends what the other may not."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eventually import eventually
from people import with_people
from served import Served, Slowly, running
from sqlalchemy import func, select

from sluiceway.cli.options import sandbox_target
from sluiceway.settings import load_settings
from sluiceway.store.schema import attempts, runs, source_results


@contextmanager
def another(served: Served) -> Iterator[Served]:
    """A second service on the same store."""
    other = copy.copy(served)
    settings = load_settings(database_url=served.store.url, meter_every_s=0)
    with running(other, settings, sandbox_target(served.sandbox.url)):
        yield other


def count(served: Served, column: Any, *where: Any) -> int:
    with served.store.read() as connection:
        return connection.execute(select(func.count(column.distinct())).where(*where)).scalar_one()


def ended(served: Served, batch_id: str) -> dict[str, Any]:
    """Wait for a batch's end, and return how it stands then."""
    return eventually(lambda: said if (said := served.get(f"/batches/{batch_id}").json())["finished_at"] else None)


def test_a_batch_is_given_up_when_both_have_stopped(served: Served, slowly: Slowly) -> None:
    with_people(served, 20)
    slowly(2000)
    batch_id = served.post("/batches", {"filter": {}}).json()["id"]
    eventually(lambda: count(served, runs.c.id, runs.c.closed_at.is_(None)) == 20)
    with another(served) as other:
        assert other.post(f"/batches/{batch_id}/cancel").status_code == 202
        at, mine = ended(served, batch_id)["finished_at"], attempts.c.batch_id == batch_id
        time.sleep(2.5)
        assert count(served, attempts.c.id, mine, attempts.c.source == "claude") == 0
        assert count(served, attempts.c.id, mine, attempts.c.finished_at > at) == 0
        s = source_results.c
        assert count(served, s.id, s.status == "complete") > 20
        assert count(served, s.id, s.closed_at.is_(None)) == 0


def test_what_a_cap_has_ended_in_one_is_not_asked_by_the_other(served: Served, slowly: Slowly) -> None:
    with_people(served, 600)
    slowly(100)
    with another(served):
        asked = {"filter": {}, "sources": ["exa"], "cap": {"requests": {"exa": 50}}}
        batch_id = served.post("/batches", asked).json()["id"]
        assert ended(served, batch_id)["done"] == 600
        time.sleep(2.0)
        assert count(served, attempts.c.id, attempts.c.batch_id == batch_id) == 50
        assert count(served, runs.c.id) == 600
