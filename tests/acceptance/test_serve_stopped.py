"""A service that is told to stop books what is in flight, leaves in time, and goes on with the rest the next time."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from acceptance.desk import WINDOWS, slow, until
from acceptance.service import ServiceDesk

if TYPE_CHECKING:
    from acceptance.desk import Desk

pytestmark = pytest.mark.skipif(WINDOWS, reason="Windows cannot send a process the signal of a Ctrl-C or a stop")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_books_what_is_in_flight_and_the_next_start_goes_on(desk: Desk, number: int) -> None:
    desk.limit()
    desk.sandbox.post("/_scenario", slow(400))
    service = ServiceDesk(desk, 24)
    running = service.start()
    batch_id = service.enrich_all()
    service.asks_some_more(12)
    running.send(number)
    stopped = running.done(within=20)

    assert stopped.code == 0, stopped.screen
    left = desk.judged(ended=False)
    assert left.unknown == 0
    assert sum(spent.open for spent in left.spent.values()) == 0, "a call in flight was not booked"

    desk.sandbox.post("/_scenario", slow(0))
    service.start()
    service.finishes(batch_id)
    service.running.send(signal.SIGTERM)
    assert service.running.done(within=20).code == 0
    desk.judged(faultless=True, usage=desk.usage())
    service.every_prospect_ended()


def test_somebody_who_waits_or_listens_does_not_hold_up_a_stop(desk: Desk) -> None:
    desk.sandbox.post("/_scenario", slow(1500))
    service = ServiceDesk(desk, 2)
    running = service.start()
    batch_id = service.enrich_all()
    import threading

    listening = threading.Thread(target=lambda: service.ask("GET", f"/batches/{batch_id}/events"))
    listening.start()
    until(lambda: "/events" in running.screen or desk.requests() >= 2)
    running.send(signal.SIGTERM)
    assert running.done(within=15).code == 0
    listening.join(10)
    assert not listening.is_alive()


def test_the_log_of_a_whole_life_is_json_lines_that_name_no_key_and_no_person(desk: Desk) -> None:
    canary = "sandbox-CANARY-6f1e"
    service = ServiceDesk(desk, 4)
    running = service.start(env={"APOLLO_API_KEY": canary, "SLUICEWAY_PURPOSE": "a test"})
    desk.sandbox.post("/_answer", {"provider": "apollo", "status": 401, "times": 1})
    batch_id = service.enrich_all()
    running.wait_for('"run_id"')
    service.ask("GET", "/prospects/ines@harbourline.example?email=ines@harbourline.example")
    running.send(signal.SIGTERM)
    stopped = running.done(within=20)
    assert stopped.code == 0
    lines = [json.loads(line) for line in stopped.err.splitlines()]
    assert {"sluiceway", "sluiceway.requests", "uvicorn.error"} <= {line["logger"] for line in lines}
    assert any(line.get("batch_id") == batch_id and line.get("run_id") for line in lines)
    for private in (canary, service.key, "@"):
        assert private not in stopped.err


def test_a_second_signal_leaves_at_once(desk: Desk) -> None:
    desk.sandbox.post("/_scenario", slow(60_000, timeout_s=90))
    service = ServiceDesk(desk, 6)
    running = service.start()
    batch_id = service.enrich_all()
    until(lambda: desk.requests() >= 6)
    running.send(signal.SIGTERM)
    running.wait_for("Shutting down")
    running.send(signal.SIGTERM)
    assert running.done(within=5).code == 128 + signal.SIGTERM
    desk.judged(ended=False)

    desk.sandbox.post("/_scenario", slow(0))
    service.start()
    service.finishes(batch_id)
    service.running.send(signal.SIGTERM)
    assert service.running.done(within=20).code == 0
    assert desk.judged().unknown > 0
    service.every_prospect_ended()
