"""Money, and batches that end: what must hold whatever else there is in the store."""

from __future__ import annotations

import time
from typing import Any

import pytest
from eventually import eventually
from people import with_people
from served import ACME, GLOBEX, Served, Slowly
from sqlalchemy import delete, func, insert, or_, select
from sqlalchemy.exc import OperationalError

from sluiceway.pipeline.batch import Asked, all_taken_in, open_batch
from sluiceway.pipeline.controls import lift_pause, set_pause
from sluiceway.pipeline.embedded import Embedded
from sluiceway.pipeline.gate import Pause
from sluiceway.pipeline.requested import Terms, Wish, fill, request_batch, to_run
from sluiceway.pipeline.selection import Selection
from sluiceway.store.schema import attempts, batch_rows, runs


def ended(served: Served, batch_id: str) -> dict[str, Any]:
    """Wait for a batch's end, and return how it stands then."""
    return eventually(lambda: said if (said := served.get(f"/batches/{batch_id}").json())["finished_at"] else None)


def requests_sent(served: Served) -> int:
    """How many requests the sandbox has received."""
    return sum(provider["requests"] for provider in served.sandbox.meter()["providers"].values())


def a_file_s_batch(served: Served) -> str:
    """A batch of a file that was given on the command line, and is not through."""
    named = with_people(served, 3)
    with served.store.change() as connection:
        batch = open_batch(connection, ASKED, served.store.clock.stamp())
        rows = [{"batch_id": batch.id, "number": n, "prospect_id": p} for n, p in enumerate(named)]
        connection.execute(insert(batch_rows), rows)
        all_taken_in(connection, batch.id, rows=3, rejected=0)
    return batch.id


OPTIONS: dict[str, Any] = {"sources": ["exa"], "want": ["work_email"], "first": None, "refresh": False}
ASKED = Asked(ACME, "people.csv", "digest-of-a-file", OPTIONS, "file", False)


def test_giving_up_a_file_s_batch_holds_up_no_other(served: Served) -> None:
    batch_id = a_file_s_batch(served)
    assert served.post(f"/batches/{batch_id}/cancel").status_code == 202
    other = served.post("/batches", {"filter": {}, "sources": ["exa"]}).json()["id"]
    assert ended(served, other)["done"] == 3


def test_a_file_s_batch_that_was_given_up_is_gone_on_with_by_the_same_command(served: Served) -> None:
    batch_id = a_file_s_batch(served)
    served.post(f"/batches/{batch_id}/cancel")
    ended(served, batch_id)
    with served.store.change() as connection:
        assert open_batch(connection, ASKED, served.store.clock.stamp()).id == batch_id
    time.sleep(2)  # the service would have ended it again
    assert served.get(f"/batches/{batch_id}").json()["finished_at"] is None


def test_a_file_s_batch_is_no_upload(served: Served) -> None:
    batch_id = a_file_s_batch(served)
    assert served.post("/batches", {"upload": batch_id}).status_code == 409


def test_erasing_somebody_between_two_steps_of_filling_a_batch_does_not_stop_it(served: Served) -> None:
    named = with_people(served, 620)
    served.service.main.runner.stop()
    now = served.store.clock.stamp()
    wish = Wish(ACME, "all", "api", Terms(selection=Selection()))
    with served.store.change() as connection:
        batch_id = request_batch(connection, wish, (), now)
        requested = next(each for each in to_run(connection) if each.batch.id == batch_id)
    with served.store.change() as connection:
        assert fill(connection, requested)
    with served.store.change() as connection:
        connection.execute(delete(batch_rows).where(batch_rows.c.prospect_id == sorted(named)[3]))
    with served.store.change() as connection:
        fill(connection, requested)
    with served.store.read() as connection:
        r = batch_rows.c
        filled = set(connection.execute(select(r.prospect_id).where(r.batch_id == batch_id)).scalars())
    assert filled == set(named) - {sorted(named)[3]}


def test_a_tenant_with_many_batches_holds_up_no_other_tenant(served: Served, slowly: Slowly) -> None:
    named = with_people(served, 200)
    (theirs,) = with_people(served, 1, GLOBEX, seed=1)
    slowly(2000)
    for start in range(45):
        served.post("/batches", {"prospects": named, "sources": ["exa"], "name": str(start)})
    eventually(lambda: requests_sent(served) > 5)
    made = served.post("/batches", {"prospects": [theirs], "sources": ["exa"]}, f"agent@{GLOBEX}").json()
    eventually(lambda: served.get(f"/batches/{made['id']}", f"agent@{GLOBEX}").json()["began_at"], within=5)


def test_what_ended_in_a_batch_is_not_asked_again_while_others_wait(served: Served) -> None:
    named = with_people(served, 7)
    ended(served, served.post("/batches", {"prospects": named[:5], "sources": ["apollo"]}).json()["id"])
    served.sandbox.post("/_answer", {"provider": "apollo", "status": 401, "times": 1})
    ended(served, served.post("/batches", {"prospects": named[5:6], "sources": ["apollo"]}).json()["id"])
    asked = {"prospects": named, "sources": ["apollo", "exa"], "cap": {"requests": {"exa": 0}}}
    batch_id = served.post("/batches", asked).json()["id"]
    time.sleep(4)  # it is looked at again after 2 seconds
    with served.store.read() as connection:
        mine = runs.c.batch_id == batch_id
        assert connection.execute(select(func.count(runs.c.id)).where(mine)).scalar_one() == 7


def test_a_paused_tenant_s_batch_waits_as_a_whole_and_goes_on_at_once(served: Served) -> None:
    with_people(served, 30)
    with served.store.change() as connection:
        set_pause(connection, Pause("tenant", ACME, "test"), served.store.clock.stamp())
    eventually(lambda: served.service.main.gate.paused(None, ACME))
    batch_id = served.post("/batches", {"filter": {}, "sources": ["exa"]}).json()["id"]
    time.sleep(3)
    with served.store.change() as connection:
        assert connection.execute(select(func.count(runs.c.id))).scalar_one() == 0
        lift_pause(connection, "tenant", ACME)
    eventually(lambda: served.get(f"/batches/{batch_id}").json()["finished_at"], within=3)


def test_a_store_that_cannot_be_read_for_a_moment_loses_no_call_in_flight(
    served: Served, slowly: Slowly, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = with_people(served, 400)
    slowly(700)
    batch_id = served.post("/batches", {"prospects": named, "sources": ["exa"]}).json()["id"]
    eventually(lambda: requests_sent(served) > 20)
    read, failed = Embedded.load, []

    def fails_once(self: Embedded, ids: list[str]) -> Any:
        if not failed:
            failed.append(True)
            raise OperationalError("SELECT", {}, Exception("the connection is gone"))
        return read(self, ids)

    monkeypatch.setattr(Embedded, "load", fails_once)
    assert eventually(lambda: failed)
    assert ended(served, batch_id)["done"] == 400
    with served.store.read() as connection:
        lost = or_(attempts.c.charge == "unknown", attempts.c.finished_at.is_(None))
        assert connection.execute(select(func.count()).where(lost)).scalar_one() == 0
    assert served.sandbox.meter()["repeated_requests"] == 0
