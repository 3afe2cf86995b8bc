"""`track_api_usage`: counts that reach the store under the exact key, once, and never get in anybody's way."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from builders import a_booking, locked, lost_commit_replies, row, rows, today, write
from redis_server import RedisServer
from sluiceway.store.engine import Store
from sluiceway.store.schema import daily_totals, external_usage
from sluiceway.usage.track import Tracker


@pytest.fixture
def tracker(store_url: str) -> Iterator[Tracker]:
    tracker = Tracker(store_url)
    yield tracker
    tracker.close()


def in_a_process_of_its_own(code: str, store_url: str) -> str:
    """Run a program that uses Sluiceway, and return what it wrote to standard error."""
    environment = {**os.environ, "SLUICEWAY_DATABASE_URL": store_url}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stderr


def calls(store: Store) -> dict[str, int]:
    """How many calls are booked by provider, whatever the day."""
    booked: dict[str, int] = {}
    for each in rows(store, daily_totals):
        booked[each["provider"]] = booked.get(each["provider"], 0) + each["tracked"]
    return booked


def test_tracked_calls_reach_the_ledger_and_the_total_under_the_exact_key(store: Store, tracker: Tracker) -> None:
    before = today()
    tracker.track("apollo")
    tracker.track("apollo", 4)
    assert tracker.flush() is True
    booked, total = row(store, external_usage), row(store, daily_totals)
    assert before <= booked["day"] <= today()
    assert (booked["provider"], booked["kind"], booked["calls"]) == ("apollo", "tracked", 5)
    assert total["name"] == f"api_usage:apollo:{booked['day']}"
    assert (total["tracked"], total["billed"], total["version"]) == (5, 0, 1)


def test_flushing_again_books_nothing_twice(store: Store, tracker: Tracker) -> None:
    tracker.track("apollo")
    assert [tracker.flush() for _ in range(3)] == [True, True, True]
    assert calls(store) == {"apollo": 1}


def test_every_provider_has_its_own_key(store: Store, tracker: Tracker) -> None:
    for provider in ("apollo", "exa", "a provider of ours"):
        tracker.track(provider, 2)
    tracker.flush()
    assert calls(store) == {"apollo": 2, "exa": 2, "a provider of ours": 2}


def test_a_booking_whose_commit_reply_was_lost_counts_once(store: Store, tracker: Tracker) -> None:
    tracker.track("apollo", 3)
    with lost_commit_replies(Engine) as lost:
        assert tracker.flush() is False
    assert lost
    tracker.track("apollo", 2)
    assert tracker.flush() is True
    assert calls(store) == {"apollo": 5}


@pytest.mark.parametrize(
    "arguments",
    [(None,), ("",), (b"apollo",), (7,), ("apollo", 0), ("apollo", -3), ("apollo", 1.5), ("apollo", "2"), ([],)],
)
def test_arguments_that_mean_nothing_are_said_and_ignored(
    tracker: Tracker, store: Store, caplog: pytest.LogCaptureFixture, arguments: tuple[Any, ...]
) -> None:
    tracker.track(*arguments)
    assert tracker.flush() is True
    assert "track_api_usage ignored" in caplog.text
    assert rows(store, external_usage) == []


@pytest.mark.parametrize("url", ["nonsense", "sqlite://", "bogus://host/people", "sqlite:////dev/null/people.db"])
def test_a_store_that_cannot_be_opened_raises_nothing(url: str, caplog: pytest.LogCaptureFixture) -> None:
    tracker = Tracker(url)
    tracker.track("apollo")
    with caplog.at_level(logging.WARNING):
        assert [tracker.flush() for _ in range(3)] == [False, False, False]
        tracker.close()
    assert caplog.text.count("usage could not be booked and is kept for the next second") == 1


def test_settings_that_cannot_be_read_raise_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEWAY_CONCURRENCY", "many")
    tracker = Tracker()
    tracker.track("apollo")
    assert tracker.flush() is False
    tracker.close()


def test_tracking_never_waits_for_a_locked_store_and_loses_nothing(store: Store, tracker: Tracker) -> None:
    tracker.track("apollo")
    assert tracker.flush() is True
    with locked(store):
        flushing = threading.Thread(target=tracker.flush)
        tracker.track("apollo", 10)
        flushing.start()  # it waits for the lock, for up to 30 seconds
        for _ in range(1000):
            tracker.track("exa")
    flushing.join()
    assert tracker.flush() is True
    assert calls(store) == {"apollo": 11, "exa": 1000}


@pytest.mark.parametrize("arguments", [("apollo", 2**70), ("apollo\ud800", 1)])
def test_one_count_that_cannot_be_booked_does_not_hold_up_the_others(
    store: Store, tracker: Tracker, arguments: tuple[Any, ...]
) -> None:
    tracker.track(*arguments)
    tracker.track("exa")
    tracker.flush()
    tracker.flush()
    assert calls(store) == {"exa": 1}


def test_counts_from_many_threads_are_all_there(store: Store, tracker: Tracker) -> None:
    def count() -> None:
        for number in range(500):
            tracker.track("apollo")
            if number % 100 == 0:
                tracker.flush()

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tracker.flush() is True
    assert calls(store) == {"apollo": 4000}


def test_what_was_counted_is_booked_at_exit(store: Store, store_url: str) -> None:
    code = (
        "from sluiceway import track_api_usage\nfor _ in range(7): track_api_usage('apollo')\ntrack_api_usage('exa', 3)"
    )
    assert in_a_process_of_its_own(code, store_url) == ""
    assert calls(store) == {"apollo": 7, "exa": 3}


def test_a_program_that_never_counts_makes_no_store(tmp_path: Path) -> None:
    in_a_process_of_its_own("import sluiceway", f"sqlite:///{tmp_path / 'none.db'}")
    assert list(tmp_path.iterdir()) == []


def test_counts_are_booked_within_a_second_without_anybody_asking(store: Store, store_url: str) -> None:
    code = """
import sqlite3, sys, time
from sluiceway import track_api_usage
track_api_usage("apollo")
path, give_up = sys.argv[1], time.monotonic() + 20
while not sqlite3.connect(path).execute("SELECT count(*) FROM external_usage").fetchone()[0]:
    assert time.monotonic() < give_up
    time.sleep(0.02)
import os, signal
os._exit(0)  # as a SIGKILL would: no flush at exit
"""
    code = code.replace("sys.argv[1]", repr(store_url.removeprefix("sqlite:///")))
    in_a_process_of_its_own(code, store_url)
    assert calls(store) == {"apollo": 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_counts_for_itself_and_books_nothing_of_its_parents(store: Store, store_url: str) -> None:
    code = """
import os, sys, warnings
warnings.simplefilter("ignore")
from sluiceway import track_api_usage
track_api_usage("apollo", 3)
child = os.fork()
track_api_usage("apollo", 10 if child == 0 else 100)
if child:
    _, status = os.waitpid(child, 0)
    assert status == 0
sys.exit(0)
"""
    in_a_process_of_its_own(code, store_url)
    assert calls(store) == {"apollo": 113}


@pytest.mark.parametrize("given", [7, "", b"an id", [], {}])
def test_an_id_that_is_none_is_said_and_the_call_ignored(
    tracker: Tracker, store: Store, caplog: pytest.LogCaptureFixture, given: Any
) -> None:
    tracker.track("apollo", id=given)
    assert tracker.flush() is True
    assert "track_api_usage ignored" in caplog.text
    assert rows(store, external_usage) == []


def test_a_call_reported_twice_under_one_id_counts_once(store: Store, tracker: Tracker) -> None:
    for _ in range(2):
        tracker.track("apollo", 3, id="order-17")
        tracker.track("apollo", 3, id="order-17")
        tracker.track("apollo", id="order-18")
        tracker.track("apollo")
        assert tracker.flush() is True
    another = Tracker(store.url)
    another.track("apollo", 3, id="order-17")
    another.close()
    assert calls(store) == {"apollo": 3 + 1 + 2}
    assert {"order-17", "order-18"} <= {each["id"] for each in rows(store, external_usage)}


def test_tracked_calls_reach_redis_within_a_second(
    store: Store, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICEWAY_REDIS_URL", redis_server.url)
    monkeypatch.setenv("SLUICEWAY_USAGE_KEY_PREFIX", "acme:")
    tracker = Tracker(store.url)
    tracker.track("apollo", 4)
    give_up = time.monotonic() + 10
    while not redis_server.counters("acme:"):
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert redis_server.counters("acme:") == {f"acme:api_usage:apollo:{today()}": 4}
    redis_server.restart_empty()
    tracker.track("exa", 1)
    tracker.close()
    assert redis_server.counters("acme:") == {
        f"acme:api_usage:{provider}:{today()}": calls for provider, calls in (("apollo", 4), ("exa", 1))
    }
    assert redis_server.without_expiry() == []


def test_what_was_tracked_reaches_redis_at_exit(store: Store, redis_server: RedisServer) -> None:
    code = f"""
import os
os.environ["SLUICEWAY_REDIS_URL"] = {redis_server.url!r}
from sluiceway import track_api_usage
track_api_usage("apollo", 5)
"""
    assert in_a_process_of_its_own(code, store.url) == ""
    assert redis_server.counters() == {f"api_usage:apollo:{today()}": 5}


@pytest.mark.parametrize("trouble", ["kill", "stop"])
def test_a_redis_that_is_gone_costs_tracking_nothing_and_gets_everything_later(
    trouble: str,
    store: Store,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("SLUICEWAY_REDIS_URL", redis_server.url)
    monkeypatch.setattr("sluiceway.usage.track._REDIS_AGAIN_S", 0.0)
    tracker = Tracker(store.url)
    tracker.track("apollo")
    assert tracker.flush() is True
    getattr(redis_server, trouble)()
    for _ in range(3):
        tracker.track("apollo")
        began = time.monotonic()
        assert tracker.flush() is True
        assert time.monotonic() - began < 1.0
    assert calls(store) == {"apollo": 4}
    redis_server.start() if trouble == "kill" else redis_server.go_on()
    tracker.flush()
    tracker.close()
    assert redis_server.counters() == {f"api_usage:apollo:{today()}": 4}
    assert caplog.text.count("counters in Redis lag behind") == 1
    assert caplog.text.count("counters in Redis have caught up") == 1


def test_tracked_and_imported_calls_survive_an_emptied_redis(
    store: Store, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICEWAY_REDIS_URL", redis_server.url)
    tracker = Tracker(store.url)
    write(store, a_booking(30, kind="imported", day=today()))
    tracker.track("apollo", 5)
    tracker.flush()
    before, shown = rows(store, daily_totals), redis_server.counters()
    redis_server.client.flushall()
    tracker.track("exa")
    tracker.close()
    assert [total for total in rows(store, daily_totals) if total["provider"] == "apollo"] == before
    assert (before[0]["tracked"], before[0]["imported"]) == (5, 30)
    assert redis_server.counters().items() >= shown.items()
