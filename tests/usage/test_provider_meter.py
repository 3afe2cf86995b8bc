"""The series of what providers say, and what it leaves for somebody else to have used."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from builders import DAY, a_finish, an_attempt, rows, write
from sluiceway.outcome import FREE, NOT_SENT, UNKNOWN_CHARGE, Charge, billed, timestamp
from sluiceway.store.engine import Store
from sluiceway.store.schema import provider_meters
from sluiceway.usage.ledger import Begin, Task, apply
from sluiceway.usage.provider_meter import MeterRow, Stretch, compare, keep, latest, side_by_side

LEAD, MATCH = "lead credits", "people/match per day"
MIDNIGHT = "2026-03-05T00:00:00.000Z"
FROM, TO = f"{DAY}T00:00:00.000Z", f"{DAY}T23:59:59.000Z"
A_LEAD = billed(credits={"lead": 1000}, usd_micros=26_000)


def at(seconds: float) -> str:
    """A moment of the day, so many seconds after ten."""
    return timestamp(datetime(2026, 3, 4, 10, tzinfo=UTC) + timedelta(milliseconds=round(seconds * 1000)))


def a_reading(seconds: float, used: int | None = None, **changed: Any) -> MeterRow:
    """What Apollo said of its credits: asked for at that second, and told half a second later."""
    plain: dict[str, Any] = {
        "provider": "apollo", "credential_id": "platform", "meter": LEAD, "unit": "credits", "origin": "call",
        "asked_at": at(seconds), "read_at": at(seconds + 0.5), "used": used, "amount": 1_000_000,
        "remaining": None if used is None else 1_000_000 - used, "resets_at": MIDNIGHT,
    }  # fmt: skip
    return MeterRow(**{**plain, **changed})


def told(store: Store, *readings: MeterRow) -> None:
    """Keep readings, each in a commit of its own."""
    for reading in readings:
        write(store, Task(lambda connection, reading=reading: keep(connection, [reading])))


def asked(store: Store, begun: float, ended: float | None, charge: Charge = A_LEAD, **changed: Any) -> None:
    """Send one request; without an end it is in flight."""
    attempt = an_attempt(day=DAY, begun_at=at(begun), **changed)
    write(store, Begin(attempt))
    if ended is not None:
        write(store, a_finish(attempt, charge, at=at(ended)))


def compared(store: Store, meter: str = LEAD, provider: str = "apollo") -> list[Stretch]:
    with store.read() as connection:
        return compare(connection, provider, meter, FROM, TO).parts


def outside(store: Store, meter: str = LEAD, provider: str = "apollo") -> list[tuple[int, int]]:
    """What was used outside, stretch by stretch: at least, and at most."""
    with store.read() as connection:
        found = compare(connection, provider, meter, FROM, TO).outside
    return [(stretch.outside_least, stretch.outside_most) for stretch in found]


def series(store: Store) -> list[tuple[str, int | None]]:
    return sorted((row["read_at"][14:19], row["used"]) for row in rows(store, provider_meters))


# The series.


def test_of_a_stretch_in_which_nothing_changed_the_first_and_the_last_reading_are_kept(store: Store) -> None:
    told(store, *(a_reading(60 * minute, 1000) for minute in range(5)), a_reading(300, 2000), a_reading(360, 2000))
    assert series(store) == [("00:00", 1000), ("04:00", 1000), ("05:00", 2000), ("06:00", 2000)]
    with store.read() as connection:
        (last,) = latest(connection)
    assert (last.read_at, last.used) == (at(360.5), 2000)


def test_a_reading_that_is_written_twice_is_there_once(store: Store) -> None:
    reading, cost = a_reading(0, 1000), a_reading(0, 7000, meter="cost per day", unit="usd", summed=True)
    told(store, reading, reading, cost, cost)
    assert [row["used"] for row in rows(store, provider_meters)] == [1000, 7000]


def test_a_reading_that_arrives_late_takes_its_place_in_the_series(store: Store) -> None:
    told(store, a_reading(0, 1000), a_reading(60, 1000), a_reading(30, 1000))
    assert series(store) == [("00:00", 1000), ("00:30", 1000), ("01:00", 1000)]


def test_what_is_summed_is_added_to_what_the_day_had_and_begins_again_with_the_next(store: Store) -> None:
    cost: dict[str, Any] = {"meter": "cost per day", "unit": "usd", "amount": None, "remaining": None, "summed": True}
    told(store, a_reading(0, 7000, **cost), a_reading(60, 14_000, **cost))
    told(store, a_reading(120, 7000, **{**cost, "resets_at": "2026-03-06T00:00:00.000Z"}))
    assert [used for _, used in series(store)] == [7000, 21_000, 7000]


def test_a_meter_that_may_not_be_read_is_kept_as_such_and_not_as_zero(store: Store) -> None:
    refused = a_reading(0, amount=None, resets_at=None, error="HTTP 403: not with this key")
    told(store, refused)
    with store.read() as connection:
        assert latest(connection) == [refused]
    assert compared(store) == []


def test_the_latest_reading_is_of_every_meter_or_of_one_provider(store: Store) -> None:
    told(store, a_reading(0, 1000), a_reading(60, 2000), a_reading(0, 5, meter=MATCH, unit="requests"))
    told(store, a_reading(30, 1, provider="exa", meter="cost per day", unit="usd"))
    with store.read() as connection:
        assert [(r.provider, r.meter, r.used) for r in latest(connection)] == [
            ("apollo", LEAD, 2000), ("apollo", MATCH, 5), ("exa", "cost per day", 1),
        ]  # fmt: skip
        assert [row.provider for row in latest(connection, "exa")] == ["exa"]


# Outside use.


def test_what_theirs_lost_and_ours_did_not_spend_was_used_outside(store: Store) -> None:
    told(store, a_reading(0, 10_000), a_reading(60, 15_000), a_reading(120, 15_000))
    asked(store, 10, 11)
    asked(store, 20, 21)
    assert compared(store) == [
        Stretch("platform", at(0.5), at(60.5), lost=5000, ours_least=2000, ours_most=2000),
        Stretch("platform", at(60.5), at(120.5), lost=0),
    ]
    assert outside(store) == [(3000, 3000)]


def test_nothing_was_used_outside_when_we_spent_it_all(store: Store) -> None:
    told(store, a_reading(0, 10_000), a_reading(60, 12_000))
    for second in (5, 15):
        asked(store, second, second + 1)
    asked(store, 30, 31, FREE)
    asked(store, 32, 33, NOT_SENT)
    asked(store, 34, 35, provider="exa")
    asked(store, 36, 37, credential_id="a tenant's own")
    asked(store, -1, 0.1)  # answered before the meter told
    assert outside(store) == []
    (stretch,) = compared(store)
    assert (stretch.ours_least, stretch.ours_most) == (2000, 3000), "the first may be on either side"


@pytest.mark.parametrize(
    ("begun", "ended"),
    [(-1, 0.2), (0.1, 30), (0.2, 90), (59, 60.2), (60.2, 60.3), (60.4, 70), (30, None), (0.5, 0.6), (59, 60.0)],
)
def test_what_was_in_flight_while_a_meter_was_read_may_be_on_either_side(
    store: Store, begun: float, ended: float | None
) -> None:
    told(store, a_reading(0, 10_000), a_reading(60, 11_000))
    asked(store, begun, ended)
    assert outside(store) == []
    (stretch,) = compared(store)
    assert stretch.ours_least == 0


def test_an_unknown_attempt_may_have_been_counted_and_until_it_is_resolved_nobody_is_blamed(store: Store) -> None:
    told(store, *(a_reading(second, 1000 * n) for n, second in enumerate((0, 60, 100, 160))))
    asked(store, 10, 20, UNKNOWN_CHARGE)
    assert [stretch.ours_most for stretch in compared(store)] == [None, None, 0], "a minute on it is history"
    assert outside(store) == [(1000, 1000)]


def test_what_an_unknown_attempt_reserved_is_the_most_it_can_have_taken(store: Store) -> None:
    told(store, a_reading(0, 10_000), a_reading(60, 14_000))
    asked(store, 10, 20, UNKNOWN_CHARGE)
    with store.writing.begin() as connection:
        connection.exec_driver_sql("UPDATE attempts SET reserved_milli_credits = 1000")
    assert outside(store) == [(3000, 4000)]


def test_a_question_about_the_meter_takes_no_credits_whatever_became_of_it(store: Store) -> None:
    told(store, a_reading(0, 10_000), a_reading(60, 11_000))
    asked(store, 10, 20, UNKNOWN_CHARGE, trigger="meter", endpoint="stats")
    assert outside(store) == [(1000, 1000)]


def test_requests_are_those_of_the_meters_endpoint_and_refused_ones_may_not_count(store: Store) -> None:
    requests: dict[str, Any] = {"meter": MATCH, "unit": "requests", "resets_at": None, "origin": "headers"}
    told(store, a_reading(0, 10, **requests), a_reading(60, 15, **requests))
    asked(store, 10, 11)
    asked(store, 12, 13, FREE)
    asked(store, 14, 15, FREE, endpoint="auth/health")
    asked(store, 16, 17, NOT_SENT)
    assert outside(store, MATCH) == [(3, 3)]
    refused = an_attempt(day=DAY, begun_at=at(20))
    write(store, Begin(refused), a_finish(refused, FREE, at=at(21), http_status=429))
    assert outside(store, MATCH) == [(2, 3)]


def test_each_pool_is_compared_with_what_was_taken_from_it(store: Store) -> None:
    pools: dict[str, Any] = {"provider": "contactout"}
    for pool, before, after in (("search", 0, 2000), ("email", 0, 3000)):
        meter = f"{pool} credits"
        told(store, a_reading(0, before, meter=meter, **pools), a_reading(60, after, meter=meter, **pools))
    asked(store, 10, 11, billed(credits={"search": 1000, "email": 1000}, usd_micros=170_000), provider="contactout")
    asked(store, 12, 13, billed(credits={"search": 1000}, usd_micros=20_000), provider="contactout")
    assert outside(store, "search credits", "contactout") == []
    assert outside(store, "email credits", "contactout") == [(2000, 2000)]


def test_dollars_are_compared_and_an_unpriced_attempt_leaves_it_open(store: Store) -> None:
    dollars: dict[str, Any] = {"provider": "exa", "meter": "cost per day", "unit": "usd", "remaining": None}
    told(store, *(a_reading(60 * n, 10_000 * n, **dollars) for n in range(3)))
    asked(store, 10, 11, billed(usd_micros=7000), provider="exa")
    asked(store, 70, 71, billed(usd_micros=None), provider="exa")
    assert outside(store, "cost per day", "exa") == [(3000, 3000)]


def test_what_is_left_is_compared_where_nobody_says_what_was_used(store: Store) -> None:
    told(store, *(a_reading(60 * n, None, amount=None, resets_at=None, remaining=9000 - 2000 * n) for n in range(2)))
    asked(store, 10, 11)
    assert outside(store) == [(1000, 1000)]


@pytest.mark.parametrize(
    ("one", "after"),
    [
        (a_reading(0, 9000), a_reading(60, 1000)),
        (a_reading(0, 1000, resets_at=at(30)), a_reading(60, 9000, resets_at=at(30))),
        (a_reading(0, 1000, resets_at=at(30)), a_reading(60, 9000, resets_at=MIDNIGHT)),
        (a_reading(0, None, remaining=1000), a_reading(60, None, remaining=9000)),
        (a_reading(0, None, remaining=9000), a_reading(60, None, remaining=1000, amount=5)),
        (a_reading(0, 1000), a_reading(60, None)),
    ],
    ids=["used fell", "reset in between", "another period", "filled up", "another plan", "no longer told"],
)
def test_readings_across_a_reset_do_not_compare(store: Store, one: MeterRow, after: MeterRow) -> None:
    told(store, one, after)
    assert compared(store) == []


def test_a_refusal_in_between_does_not_part_two_readings(store: Store) -> None:
    told(store, a_reading(0, 1000), a_reading(30, amount=None, error="HTTP 403: no"), a_reading(60, 2000))
    assert outside(store) == [(1000, 1000)]


def test_a_stretch_that_reaches_into_the_time_asked_about_belongs_to_it(store: Store) -> None:
    told(store, *(a_reading(60 * n, 1000 * n) for n in range(5)))
    with store.read() as connection:
        found = compare(connection, "apollo", LEAD, at(90), at(130)).outside
    assert [(stretch.since, stretch.until) for stretch in found] == [(at(60.5), at(120.5)), (at(120.5), at(180.5))]


def test_what_calls_in_flight_hide_at_every_reading_the_whole_of_it_proves(store: Store) -> None:
    told(store, a_reading(0, 0), a_reading(60, 3000), a_reading(120, 6000))
    for begun, ended in ((10, 11), (59, 61), (59.5, 61.5), (70, 71)):
        asked(store, begun, ended)
    assert [part.outside_least for part in compared(store)] == [0, 0]
    with store.read() as connection:
        found = compare(connection, "apollo", LEAD, FROM, TO)
    assert (found.lost, found.ours) == (6000, (4000, 4000))
    assert outside(store) == [(2000, 2000)]
    assert [(stretch.since, stretch.until) for stretch in found.outside] == [(at(0.5), at(120.5))]


def test_a_slow_answer_that_tells_an_old_figure_blames_nobody(store: Store) -> None:
    """It was asked for before the quicker one, and came after it."""
    told(store, a_reading(0, 1000), a_reading(20, 3000))
    told(store, a_reading(10, 2000, read_at=at(30), origin="headers"), a_reading(60, 4000))
    for second in (12, 15, 40):
        asked(store, second, second + 1)
    assert outside(store) == []


def test_ours_beside_theirs_is_summed_over_all_that_compares(store: Store) -> None:
    told(store, *(a_reading(60 * n, 2000 * n) for n in range(3)), a_reading(0, 3, meter=MATCH, unit="requests"))
    asked(store, 10, 11)
    with store.read() as connection:
        leads, requests = side_by_side(connection, FROM, TO)
    assert (leads.theirs.used, leads.compared.lost, leads.compared.ours) == (4000, 4000, (1000, 1000))
    assert [stretch.outside_least for stretch in leads.compared.outside] == [1000, 2000]
    assert (requests.compared.lost, requests.compared.ours, requests.compared.outside) == (None, None, [])


CALLS = st.lists(st.tuples(st.integers(1, 500), st.integers(0, 80), st.floats(0, 1), st.booleans()), max_size=40)
LOOKS = st.lists(st.tuples(st.integers(0, 550), st.integers(0, 30), st.floats(0, 1)), min_size=2, max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(CALLS, LOOKS)
def test_whenever_a_meter_is_read_our_calls_are_never_taken_for_somebody_elses(
    store: Store, calls: list[tuple[int, int, float, bool]], looks: list[tuple[int, int, float]]
) -> None:
    """A provider counts each call at some moment while it is under way, and tells of some moment while it is asked."""
    counted = [(begun, begun + took, begun + took * when, ours) for begun, took, when, ours in calls]
    figures = sorted((asked + took, asked + took * when, asked) for asked, took, when in looks)
    readings = [
        a_reading(asked, 1000 * sum(when <= moment for *_, when, _ in counted), read_at=at(read))
        for read, moment, asked in figures
    ]
    with store.writing.connect() as connection:
        for reading in readings:
            values = {name: getattr(reading, name) for name in reading.__struct_fields__ if name != "summed"}
            connection.execute(insert(provider_meters).values(values))
        for begun, ended, _, ours in counted:
            attempt = an_attempt(day=DAY, begun_at=at(begun))
            if ours:
                apply(connection, [Begin(attempt), a_finish(attempt, A_LEAD, at=at(ended))])
        found = compare(connection, "apollo", LEAD, FROM, TO)
        connection.rollback()
    of_others = [
        sum(one[1] < when <= after[1] for *_, when, ours in counted if not ours)
        for (one, after), (first, second) in zip(pairwise(figures), pairwise(readings), strict=True)
        if (second.used or 0) >= (first.used or 0)
    ]
    for part, others in zip(found.parts, of_others, strict=True):
        assert part.outside_least <= 1000 * others <= part.outside_most
    assert sum(part.lost for part in found.parts) == sum(whole.lost for whole in found.wholes)
    for whole in found.wholes:
        within = [n for part, n in zip(found.parts, of_others, strict=True) if whole.since <= part.since < whole.until]
        assert whole.outside_least <= 1000 * sum(within) or len(found.wholes) > 1
    assert sum(stretch.outside_least for stretch in found.outside) <= 1000 * sum(of_others)
