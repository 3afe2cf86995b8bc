"""`track_api_usage`: counts that reach the store under the exact key, once, and never get in anybody's way."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from builders import locked, lost_commit_replies, row, rows, today
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
