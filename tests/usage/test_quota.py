"""What quotas say: their windows, their amounts, where they are kept, and what was used before they were set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import A_CREDIT, AT, a_finish, a_quota, an_attempt, limited, row, rows, use_of, write
from sluiceway.errors import BadInput, BadSetting
from sluiceway.outcome import FREE, NOT_SENT, UNKNOWN_CHARGE, timestamp
from sluiceway.store.engine import Store
from sluiceway.store.schema import limit_windows, quotas
from sluiceway.usage.ledger import Begin
from sluiceway.usage.quota import (
    Opens,
    Quota,
    QuotaClock,
    Unit,
    Window,
    all_quotas,
    amount_of,
    apply_file,
    ledger_use,
    quotas_version,
    read_quotas_file,
    unset_quota,
    uses,
    window_at,
)

FIRST = Opens.FIRST_REQUEST


def stamped(text: str) -> str:
    """A stamp from its first characters: `stamped("2026-03-04T05")` is that hour's start."""
    return text + "0000-01-01T00:00:00.000Z"[len(text) :]


# Windows.


@pytest.mark.parametrize(
    ("clock", "opens", "closes"),
    [
        ("second", "2026-12-31T23:59:59", "2027-01-01"),
        ("minute", "2026-12-31T23:59", "2027-01-01"),
        ("hour", "2026-12-31T23", "2027-01-01"),
        ("day", "2026-12-31", "2027-01-01"),
    ],
)
def test_calendar_windows_open_at_round_moments_of_utc_and_close_where_the_next_opens(
    clock: str, opens: str, closes: str
) -> None:
    quota = a_quota(clock=QuotaClock(clock))
    window = window_at(quota, "2026-12-31T23:59:59.999Z")
    assert window == Window(stamped(opens), stamped(closes))
    assert window_at(quota, window.opens_at) == window, "the first moment is inside"
    assert window_at(quota, window.closes_at).opens_at == window.closes_at, "the last one is not"


@pytest.mark.parametrize(
    ("start_day", "moment", "opens", "closes"),
    [
        (1, "2026-02-14", "2026-02-01", "2026-03-01"),
        (15, "2026-01-14", "2025-12-15", "2026-01-15"),
        (15, "2026-01-15", "2026-01-15", "2026-02-15"),
        (29, "2026-02-27", "2026-01-29", "2026-02-28"),
        (29, "2026-02-28", "2026-02-28", "2026-03-29"),
        (29, "2028-02-28", "2028-01-29", "2028-02-29"),
        (29, "2028-02-29", "2028-02-29", "2028-03-29"),
        (30, "2026-03-01", "2026-02-28", "2026-03-30"),
        (31, "2026-02-28", "2026-02-28", "2026-03-31"),
        (31, "2026-03-30", "2026-02-28", "2026-03-31"),
        (31, "2026-04-30", "2026-04-30", "2026-05-31"),
        (31, "2026-12-31", "2026-12-31", "2027-01-31"),
        (31, "2027-01-01", "2026-12-31", "2027-01-31"),
    ],
)
def test_a_cycle_starts_on_its_day_or_on_the_last_of_a_shorter_month(
    start_day: int, moment: str, opens: str, closes: str
) -> None:
    quota = a_quota(clock=QuotaClock.CYCLE, cycle_day=start_day)
    assert window_at(quota, stamped(moment)) == Window(stamped(opens), stamped(closes))


MOMENTS = st.datetimes(timezones=st.timezones()).filter(lambda moment: 1900 < moment.year < 9000).map(timestamp)
CALENDAR = st.sampled_from(
    [a_quota(clock=clock) for clock in (QuotaClock.SECOND, QuotaClock.MINUTE, QuotaClock.HOUR, QuotaClock.DAY)]
    + [a_quota(clock=QuotaClock.CYCLE, cycle_day=day) for day in (1, 28, 29, 30, 31)]
)


@given(CALENDAR, MOMENTS)
def test_calendar_windows_cover_all_of_time_without_overlapping(quota: Quota, moment: str) -> None:
    window = window_at(quota, moment)
    assert window.opens_at <= moment < window.closes_at
    assert window_at(quota, window.opens_at) == window
    assert window_at(quota, window.closes_at).opens_at == window.closes_at


def test_a_window_that_opens_at_its_first_request_lasts_as_long_as_any_other() -> None:
    quota = a_quota(clock=QuotaClock.MINUTE, opens=FIRST)
    assert window_at(quota, "2026-03-04T05:06:07.890Z") == Window(
        "2026-03-04T05:06:07.890Z", "2026-03-04T05:07:07.890Z"
    )


# Amounts.


@pytest.mark.parametrize(
    ("unit", "text", "amount"),
    [
        ("requests", "600", 600),
        ("requests", " 1,200 ", 1200),
        ("requests", "12,345,678", 12_345_678),
        ("requests", "0", 0),
        ("credits", "2.5", 2500),
        ("credits", "1,000.125", 1_000_125),
        ("usd", "12.50", 12_500_000),
        ("usd", "$1,250", 1_250_000_000),
        ("usd", "0.000001", 1),
    ],
)
def test_amounts_are_read_as_people_write_them(unit: str, text: str, amount: int) -> None:
    assert amount_of(Unit(unit), text) == amount


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("requests", "many"),
        ("requests", ""),
        ("requests", "1.5"),
        ("credits", "0.0001"),
        ("usd", "0.0000001"),
        ("usd", "12,50"),  # not 1250 dollars
        ("usd", "1,2345"),
        ("usd", "12 50"),
        ("usd", "NaN"),
        ("usd", "Infinity"),
        ("requests", "9" * 30),
    ],
)
def test_an_amount_that_could_mean_something_else_is_refused(unit: str, text: str) -> None:
    with pytest.raises(BadInput):
        amount_of(Unit(unit), text)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"amount": -1}, "cannot be negative"),
        ({"clock": QuotaClock.CYCLE}, "needs the day of the month"),
        ({"clock": QuotaClock.CYCLE, "cycle_day": 32}, "needs the day of the month"),
        ({"cycle_day": 3}, "only a cycle has a start day"),
        ({"clock": QuotaClock.IN_FLIGHT, "unit": Unit.USD}, "only requests"),
        ({"clock": QuotaClock.CYCLE, "cycle_day": 3, "opens": FIRST}, "opens at its first request"),
        ({"clock": QuotaClock.IN_FLIGHT, "opens": FIRST}, "opens at its first request"),
        ({"warn_at_percent": 0}, "1 to 100"),
        ({"warn_at_percent": 101}, "1 to 100"),
    ],
)
def test_a_quota_that_makes_no_sense_is_refused_and_nothing_is_kept(
    store: Store, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        limited(store, a_quota(**changed))
    assert rows(store, quotas) == []


@pytest.mark.parametrize(
    ("quota", "words"),
    [
        (a_quota(600), "600 requests per day"),
        (a_quota(2500, unit=Unit.CREDITS, clock=QuotaClock.MINUTE), "2.5 credits per minute"),
        (a_quota(12_500_000, unit=Unit.USD, tenant_id="acme"), "$12.50 per day for tenant acme"),
        (a_quota(5, clock=QuotaClock.IN_FLIGHT), "5 requests in flight"),
        (a_quota(5, clock=QuotaClock.CYCLE, cycle_day=15), "5 requests per cycle from day 15"),
    ],
)
def test_a_quota_is_shown_in_words(quota: Quota, words: str) -> None:
    assert quota.shown() == words


# Keeping them.


def test_setting_the_same_limit_again_replaces_it_and_another_stands_beside_it(store: Store) -> None:
    limited(store, a_quota(10), a_quota(20), a_quota(5, tenant_id="acme"), a_quota(7, clock=QuotaClock.HOUR))
    with store.read() as connection:
        kept = {quota.id: quota.amount for quota in all_quotas(connection)}
        assert [use.quota.id for use in uses(connection, AT)] == sorted(kept)
    assert kept == {"apollo/requests/day": 20, "apollo/requests/day/acme": 5, "apollo/requests/hour": 7}


def test_a_quota_comes_back_as_it_was_set(store: Store) -> None:
    quota = Quota(
        "exa", Unit.USD, QuotaClock.CYCLE, 5_000_000, "acme", cycle_day=31, warn_at_percent=None, hard=False
    )  # fmt: skip
    limited(store, quota)
    with store.read() as connection:
        assert all_quotas(connection) == [quota]
    assert (row(store, quotas)["set_by"], row(store, quotas)["set_at"]) == ("Ines", AT)


def test_a_quota_that_is_taken_away_leaves_nothing(store: Store) -> None:
    quota = a_quota()
    limited(store, quota)
    with store.writing.begin() as connection:
        assert unset_quota(connection, quota.id)
        assert not unset_quota(connection, quota.id)
    assert rows(store, quotas) == rows(store, limit_windows) == []


def test_every_change_raises_the_version(store: Store) -> None:
    def version() -> int:
        with store.read() as connection:
            return quotas_version(connection)

    assert version() == 0
    limited(store, a_quota())
    limited(store, a_quota(11))
    with store.writing.begin() as connection:
        unset_quota(connection, a_quota().id)
    assert version() == 3


# What was used before.


def used_in(store: Store, quota: Quota, at: str = AT) -> tuple[int, int]:
    """What a limit that is set now finds used and reserved."""
    limited(store, quota, at=at)
    return use_of(store, quota, at)


def test_a_limit_that_is_set_in_mid_window_counts_what_was_used_before(store: Store) -> None:
    price = {"reserved_milli_credits": 3000, "reserved_usd_micros": 78_000}
    billed, free, unknown, unsent, flying = (an_attempt(**price) for _ in range(5))
    yesterday = an_attempt(day="2026-03-03", begun_at="2026-03-03T23:59:59.999Z", **price)
    another_hour = an_attempt(begun_at="2026-03-04T04:59:59.999Z", **price)
    others = [an_attempt(provider="exa"), an_attempt(credential_id="a-tenants-own"), an_attempt(tenant_id="acme")]
    write(store, *map(Begin, [billed, free, unknown, unsent, flying, yesterday, another_hour, *others]))
    write(store, a_finish(billed), a_finish(free, FREE), a_finish(unknown, UNKNOWN_CHARGE), a_finish(unsent, NOT_SENT))
    tenant = {"tenant_id": "default"}
    assert used_in(store, a_quota()) == (6, 3)
    assert used_in(store, a_quota(clock=QuotaClock.HOUR)) == (5, 2)
    assert used_in(store, a_quota(clock=QuotaClock.HOUR, **tenant)) == (4, 1)
    assert used_in(store, a_quota(unit=Unit.CREDITS, clock=QuotaClock.HOUR)) == (1000 + 3000 + 3000, 3000)
    assert used_in(store, a_quota(unit=Unit.USD, clock=QuotaClock.HOUR)) == (26_000 + 78_000 + 78_000, 78_000)
    assert used_in(store, a_quota(clock=QuotaClock.IN_FLIGHT)) == (4, 4)
    assert used_in(store, a_quota(clock=QuotaClock.CYCLE, cycle_day=31)) == (7, 4)


def test_a_billed_call_whose_price_nobody_knows_keeps_its_reservation(store: Store) -> None:
    attempt = an_attempt(reserved_usd_micros=500)
    write(store, Begin(attempt), a_finish(attempt, A_CREDIT.__class__(A_CREDIT.kind, {"lead": 1000}, None)))
    assert used_in(store, a_quota(unit=Unit.USD)) == (500, 0)


def test_a_limit_that_opens_at_a_request_opened_with_the_first_of_the_last_stretch(store: Store) -> None:
    stamps = [f"2026-03-04T05:{minute}.000Z" for minute in ("04:00", "05:20", "05:50", "06:00")]
    begun = [an_attempt(begun_at=stamp) for stamp in stamps]
    unsent = an_attempt(begun_at="2026-03-04T05:05:10.000Z")
    write(store, *map(Begin, [*begun, unsent]))
    write(store, a_finish(unsent, NOT_SENT))
    quota = a_quota(clock=QuotaClock.MINUTE, opens=FIRST)
    assert used_in(store, quota) == (3, 3)
    (window,) = rows(store, limit_windows)
    assert (window["opens_at"], window["closes_at"]) == (stamps[1], "2026-03-04T05:06:20.000Z")


def test_a_limit_that_changes_keeps_the_window_its_first_request_opened(store: Store) -> None:
    quota = a_quota(clock=QuotaClock.MINUTE, opens=FIRST)
    limited(store, quota)
    stamps = [f"2026-03-04T05:{minute}.000Z" for minute in ("07:00", "07:50", "08:10", "08:20")]
    for stamp in stamps:
        write(store, Begin(an_attempt(begun_at=stamp)))
    now = "2026-03-04T05:08:30.000Z"
    assert use_of(store, quota, now) == (2, 2)
    limited(store, a_quota(99, clock=QuotaClock.MINUTE, opens=FIRST), at=now)
    assert use_of(store, quota, now) == (2, 2)
    assert rows(store, limit_windows)[-1]["opens_at"] == stamps[2]
    limited(store, a_quota(99, clock=QuotaClock.MINUTE), at=now)
    assert use_of(store, quota, now) == (2, 2)
    assert [window["opens_at"] for window in rows(store, limit_windows)] == ["2026-03-04T05:08:00.000Z"]


def test_what_is_used_is_what_is_used_in_the_present_window(store: Store) -> None:
    quota = a_quota(clock=QuotaClock.SECOND)
    limited(store, quota)
    write(store, Begin(an_attempt()))
    assert use_of(store, quota) == (1, 1)
    assert use_of(store, quota, "2026-03-04T05:06:08.000Z") == (0, 0)
    with store.read() as connection:
        (use,) = uses(connection, AT)
        assert (use.left, use.window) == (9, window_at(quota, AT))
        assert ledger_use(connection, quota, AT) == use


# The file.


def a_file(folder: Path, text: str) -> str:
    path = folder / "quotas.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_file_says_all_that_a_quota_can_be(tmp_path: Path) -> None:
    path = a_file(
        tmp_path,
        """
        [[quota]]
        provider = "apollo"
        limit = 600

        [[quota]]
        provider = "apollo"
        limit = 200
        per = "minute"
        opens = "first_request"
        warn_at = 0

        [[quota]]
        provider = "exa"
        limit = 12.5
        unit = "usd"
        per = "cycle"
        cycle_day = 31
        tenant = "acme"
        warn_at = 50
        soft = true

        [[quota]]
        provider = "contactout"
        limit = "1,000"
        unit = "credits"
        """,
    )
    file = {"origin": "file"}
    assert read_quotas_file(path) == [
        a_quota(600, **file),
        a_quota(200, clock=QuotaClock.MINUTE, opens=FIRST, warn_at_percent=None, **file),
        Quota("exa", Unit.USD, QuotaClock.CYCLE, 12_500_000, "acme", 31, warn_at_percent=50, hard=False, **file),
        Quota("contactout", Unit.CREDITS, QuotaClock.DAY, 1_000_000, **file),
    ]


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    assert read_quotas_file(a_file(tmp_path, "")) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[quota]\n", "TOML|Expected"),
        ("quota = 3", "array"),
        ("[[quotas]]", "unknown field"),
        ('[[quota]]\nprovider = "apollo"', "limit"),
        ('[[quota]]\nprovider = "apollo"\nlimit = 5\nperiod = "day"', "unknown field `period`"),
        ('[[quota]]\nprovider = "apollo"\nlimit = 5\nper = "week"', "week"),
        ('[[quota]]\nprovider = "apollo"\nlimit = true', "limit"),
        ('[[quota]]\nprovider = "apollo"\nlimit = -5', "cannot be negative"),
        ('[[quota]]\nprovider = "apollo"\nlimit = 5.5', "finer than requests"),
        ('[[quota]]\nprovider = "apollo"\nlimit = "12,50"\nunit = "usd"', "not an amount"),
        ('[[quota]]\nprovider = "apollo"\nlimit = 5\nper = "cycle"', "day of the month"),
        ('[[quota]]\nprovider = "apollo"\nlimit = 5\n' * 2, "set twice"),
    ],
)
def test_a_bad_file_is_a_bad_setting_that_says_what_is_wrong_and_where(tmp_path: Path, text: str, said: str) -> None:
    path = a_file(tmp_path, text)
    with pytest.raises(BadSetting, match=said) as raised:
        read_quotas_file(path)
    assert path in str(raised.value)


def test_a_file_that_is_not_there_or_not_text_is_a_bad_setting(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="cannot be read: No such file"):
        read_quotas_file(str(tmp_path / "none.toml"))
    path = tmp_path / "quotas.toml"
    path.write_bytes(b"\xff\xfe[[quota]]")
    with pytest.raises(BadSetting):
        read_quotas_file(str(path))


def test_what_has_gone_from_the_file_holds_no_longer_and_what_a_person_set_stays(store: Store) -> None:
    limited(store, a_quota(5, provider="exa"))
    minute = a_quota(200, clock=QuotaClock.MINUTE, origin="file")

    def applied(*wanted: Quota) -> list[tuple[str, int, str]]:
        with store.writing.begin() as connection:
            apply_file(connection, wanted, now=AT)
            return [(quota.id, quota.amount, quota.origin) for quota in all_quotas(connection)]

    day = a_quota(600, origin="file")
    mine = ("exa/requests/day", 5, "operator")
    assert applied(day, minute) == [
        ("apollo/requests/day", 600, "file"), ("apollo/requests/minute", 200, "file"), mine,
    ]  # fmt: skip
    assert applied(a_quota(700, origin="file")) == [("apollo/requests/day", 700, "file"), mine]
    assert applied() == [mine]


def test_a_file_that_says_the_same_again_changes_nothing(store: Store) -> None:
    wanted = [a_quota(600, origin="file")]
    with store.writing.begin() as connection:
        apply_file(connection, wanted, now=AT)
        write_once = quotas_version(connection)
        apply_file(connection, wanted, now="2026-03-05T00:00:00.000Z")
        assert quotas_version(connection) == write_once
    assert row(store, quotas)["set_at"] == AT
