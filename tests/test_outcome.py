"""Statuses as they are stored, read and shown, and the figures that are worked out from them."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builders import a_closing, a_prospect, an_opening, stored, write
from sluiceway.enriched_file import Enriched, write_enriched
from sluiceway.outcome import (
    ANSWERED,
    FAILURES,
    OPEN,
    UNKNOWN_CHARGE,
    Charge,
    ChargeKind,
    Rates,
    SourceStatus,
    Status,
    billed,
    enrichment_status,
    parse_timestamp,
    rates,
    read_status,
    read_statuses,
    status_payload,
    timestamp,
)
from sluiceway.people_file import PeopleFile
from sluiceway.store.engine import Store

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
ENTRY = st.fixed_dictionaries({}, optional={"status": JSON, "at": JSON, "error": JSON})
MOMENTS = st.datetimes(timezones=st.just(UTC))
AT = datetime(2026, 3, 4, 5, 6, 7, 890_000, tzinfo=UTC)


@given(JSON | ENTRY)
@example({"status": "complete", "at": "0001-01-01T00:00:00+23:59"})
@example({"status": "complete", "at": "9999-12-31T23:59:59-23:59"})
def test_reading_a_status_never_raises_whatever_is_stored(value: Any) -> None:
    status = read_status(value)
    assert status is None or status.status


@given(JSON | st.dictionaries(st.text(), JSON | ENTRY))
def test_reading_a_prospects_statuses_never_raises_whatever_is_stored(value: Any) -> None:
    assert all(status.status for status in read_statuses(value).values())


@given(st.text(min_size=1), st.booleans())
def test_a_word_we_do_not_know_is_kept_as_it_is(word: str, bare: bool) -> None:
    status = read_status(word if bare else {"status": word})
    assert status is not None
    assert status.status == word
    assert (status.known is None) == (word not in set(Status))


@pytest.mark.parametrize(
    ("value", "means"),
    [
        ("complete", SourceStatus("complete")),
        ("snoozed", SourceStatus("snoozed")),
        ({"status": "complete"}, SourceStatus("complete")),
        ({"status": "failed", "error": "HTTP 500"}, SourceStatus("failed", None, "HTTP 500")),
        ({"status": "failed", "error": "", "at": "yesterday"}, SourceStatus("failed")),
        ({"status": "no_data", "at": "2026-03-04T05:06:07.890Z"}, SourceStatus("no_data", AT)),
        ({"status": "no_data", "at": "2026-03-04T06:06:07.890+01:00"}, SourceStatus("no_data", AT)),
        ({"status": "no_data", "at": "2026-03-04T05:06:07.890"}, SourceStatus("no_data", AT)),
        ({"status": "complete", "cost": 3}, SourceStatus("complete")),
        ({"status": "", "at": "2026-03-04T05:06:07.890Z"}, None),
        ({"status": ["complete"]}, None),
        ({}, None),
        ("", None),
        (None, None),
        (["complete"], None),
    ],
)
def test_both_shapes_of_a_stored_status_are_read(value: object, means: SourceStatus | None) -> None:
    assert read_status(value) == means


def test_one_unreadable_status_does_not_hide_the_others() -> None:
    read = read_statuses({"apollo": "complete", "exa": 7, "edgar": {"status": "failed"}})
    assert read == {"apollo": SourceStatus("complete"), "edgar": SourceStatus("failed")}


def test_an_old_string_status_reads_and_renders(tmp_path: Path) -> None:
    statuses = read_statuses({"apollo": "complete", "exa": {"status": "snoozed", "error": "no", "at": timestamp(AT)}})
    (tmp_path / "people.csv").write_text("email\na@b.example\n")
    people = PeopleFile.open(tmp_path / "people.csv")
    (number,) = (row.number for row in people.read())
    write_enriched(people, tmp_path / "out.csv", lambda _: {number: Enriched(statuses=statuses)}, sources=statuses)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8-sig") as out:
        (shown,) = csv.DictReader(out)
    assert [shown[f"apollo_{part}"] for part in ("status", "error", "at")] == ["complete", "", ""]
    assert [shown[f"exa_{part}"] for part in ("status", "error", "at")] == ["snoozed", "no", timestamp(AT)]


@given(st.text(min_size=1), MOMENTS, st.none() | st.text())
def test_every_payload_has_a_status_and_the_time_and_reads_as_what_it_was(
    status: str, at: datetime, error: str | None
) -> None:
    payload = status_payload(status, timestamp(at), error)
    assert payload.keys() - {"error"} == {"status", "at"}
    read = read_status(payload)
    assert read is not None
    assert (read.status, read.error) == (status, error or None)
    assert read.at is not None
    assert timestamp(read.at) == timestamp(at)


@pytest.mark.parametrize("status", sorted(set(Status) - OPEN - {Status.CACHED}))
def test_every_status_written_has_at(store: Store, status: Status) -> None:
    prospect_id = a_prospect(store)
    opening = an_opening(prospect_id)
    write(store, opening)
    write(store, a_closing(opening.results[0], status, error="why" if status in FAILURES else None))
    written = stored(store, prospect_id)["apollo"]
    assert parse_timestamp(written["at"]) is not None
    assert written["status"] == status
    assert written.keys() == ({"status", "at", "error"} if status in FAILURES else {"status", "at"})


@given(MOMENTS, MOMENTS)
def test_timestamps_sort_as_they_read(one: datetime, other: datetime) -> None:
    assert sorted([timestamp(one), timestamp(other)]) == [timestamp(moment) for moment in sorted([one, other])]


@given(st.text() | MOMENTS.map(timestamp) | st.datetimes().map(datetime.isoformat))
def test_a_moment_is_read_as_aware_utc_or_not_at_all(text: str) -> None:
    moment = parse_timestamp(text)
    assert moment is None or moment.tzinfo is UTC


def test_every_status_is_open_answered_a_failure_or_neither() -> None:
    neither = {Status.SKIPPED, Status.CANCELLED}
    assert sorted([*OPEN, *ANSWERED, *FAILURES, *neither]) == sorted(Status)


@pytest.mark.parametrize(
    ("counts", "success", "hit"),
    [
        ({}, None, None),
        ({"skipped": 4, "cancelled": 1, "running": 9}, None, None),
        ({"complete": 3, "no_data": 1}, 1.0, 0.75),
        ({"complete": 1, "failed": 1}, 0.5, 1.0),
        ({"failed": 2, "unknown": 1}, 0.0, None),
        ({"cached": 2}, 1.0, None),
        ({"no_data": 2}, 1.0, 0.0),
        ({"cached": 1, "timed_out": 1, "rate_limited": 1, "skipped": 5}, 1 / 3, None),
        ({"complete": 1, "unauthorized": 1, "quota_exceeded": 1, "circuit_open": 1}, 0.25, 1.0),
        ({"complete": 1, "snoozed": 7}, 1.0, 1.0),
    ],
)
def test_rates_are_left_out_when_there_is_nothing_to_divide(
    counts: dict[str, int], success: float | None, hit: float | None
) -> None:
    assert rates(counts) == Rates(success, hit)


@given(st.dictionaries(st.sampled_from(Status), st.integers(0, 1000)))
def test_rates_lie_between_none_and_all(counts: dict[Status, int]) -> None:
    worked_out = rates(counts)
    assert all(rate is None or 0 <= rate <= 1 for rate in (worked_out.success, worked_out.hit))


@pytest.mark.parametrize(
    ("statuses", "whole"),
    [
        ([], "none"),
        (["skipped", "skipped"], "none"),
        (["complete", "running"], "running"),
        (["failed", "waiting"], "running"),
        (["pending"], "running"),
        (["complete"], "complete"),
        (["complete", "no_data", "cached", "skipped"], "complete"),
        (["cached", "no_data"], "complete"),
        (["no_data", "no_data"], "no_data"),
        (["no_data", "skipped"], "no_data"),
        (["complete", "failed"], "partial"),
        (["no_data", "unknown"], "partial"),
        (["failed", "timed_out"], "failed"),
        (["rate_limited", "skipped"], "failed"),
    ],
)
def test_a_prospects_one_word_status_is_derived_from_its_sources(statuses: list[str], whole: str) -> None:
    assert enrichment_status(statuses) == whole
    assert enrichment_status(reversed(statuses)) == whole


def test_an_unknown_cost_is_none_and_never_zero() -> None:
    assert (UNKNOWN_CHARGE.milli_credits, UNKNOWN_CHARGE.usd_micros) == (None, None)
    assert Charge(ChargeKind.FREE, {}, 0).milli_credits == 0


def test_milli_credits_are_those_of_all_pools_together() -> None:
    assert billed(credits={"search": 1000, "email": 1000}).milli_credits == 2000
