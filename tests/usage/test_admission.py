"""Whether attempts may begin, decided over all limits at once; and what is reserved, given back and corrected."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from builders import (
    A_CREDIT,
    AT,
    a_finish,
    a_prospect,
    a_quota,
    an_attempt,
    an_opening,
    everything,
    limited,
    row,
    rows,
    use_of,
    write,
)
from sluiceway.outcome import FREE, NOT_SENT, UNKNOWN_CHARGE, Charge, billed
from sluiceway.store.engine import Store, open_store
from sluiceway.store.schema import attempts, limit_windows, runs
from sluiceway.usage.admission import Limits, Refusal, implied_by_pace, prepare
from sluiceway.usage.ledger import Attempt, Begin, Task, apply
from sluiceway.usage.quota import Opens, Quota, QuotaClock, Unit, all_quotas, unset_quota

MINUTE, SECOND, HOUR, IN_FLIGHT = QuotaClock.MINUTE, QuotaClock.SECOND, QuotaClock.HOUR, QuotaClock.IN_FLIGHT
NEXT_DAY = "2026-03-05T00:00:00.000Z"
DOLLARS = a_quota(100, unit=Unit.USD)
CREDITS = a_quota(5000, unit=Unit.CREDITS)


def asked(store: Store, *attempts: Attempt, limits: Limits | None = None) -> list[Any]:
    """Begin attempts in one commit; `True` or the refusal for each."""
    return write(store, *map(Begin, attempts), limits=limits)


def begun(store: Store, count: int = 1, **changed: Any) -> list[Attempt]:
    """Begin some attempts, none of which may be refused."""
    made = [an_attempt(**changed) for _ in range(count)]
    assert asked(store, *made) == [True] * count
    return made


def refused(store: Store, **changed: Any) -> Refusal:
    """Ask for an attempt that has to be refused."""
    (refusal,) = asked(store, an_attempt(**changed))
    assert isinstance(refusal, Refusal)
    return refusal


# One decision.


def test_exactly_as_many_begin_as_the_limit_allows_and_the_others_leave_no_trace(store: Store) -> None:
    limited(store, a_quota(3))
    answers = asked(store, *(an_attempt() for _ in range(5)))
    assert answers[:3] == [True] * 3
    assert all(isinstance(answer, Refusal) for answer in answers[3:])
    assert len(rows(store, attempts)) == 3
    assert use_of(store, a_quota()) == (3, 3)
    assert refused(store).reason == "the limit of 3 requests per day is used up"
    assert refused(store).until == NEXT_DAY


def test_nothing_is_reserved_anywhere_when_one_of_several_limits_refuses(store: Store) -> None:
    day, minute, tenants = a_quota(10), a_quota(1, clock=MINUTE), a_quota(10, tenant_id="default")
    limited(store, day, minute, tenants, DOLLARS)
    begun(store, reserved_usd_micros=30)
    assert refused(store, reserved_usd_micros=30).quota.id == minute.id
    assert [use_of(store, quota) for quota in (day, minute, tenants, DOLLARS)] == [(1, 1), (1, 1), (1, 1), (30, 30)]


def test_a_refused_attempt_takes_nothing_from_those_after_it_in_the_same_commit(store: Store) -> None:
    limited(store, a_quota(10), a_quota(1, tenant_id="acme"))
    acme, more, other = an_attempt(tenant_id="acme"), an_attempt(tenant_id="acme"), an_attempt(tenant_id="zeta")
    assert [answer is True for answer in asked(store, acme, more, other)] == [True, False, True]
    assert use_of(store, a_quota()) == (2, 2)


def test_of_several_refusals_the_one_that_holds_longest_is_told(store: Store) -> None:
    limited(store, a_quota(2), a_quota(2, clock=MINUTE), a_quota(2, clock=IN_FLIGHT))
    one, other = begun(store, 2)
    assert refused(store).until.startswith("9999"), "all of it may come back, and the calls in flight last of all"
    write(store, a_finish(one), a_finish(other))
    assert refused(store).until == NEXT_DAY


def test_what_may_come_back_at_any_moment_does_not_hide_a_used_up_day(store: Store) -> None:
    limited(store, a_quota(1), a_quota(1, clock=IN_FLIGHT))
    (attempt,) = begun(store)
    write(store, a_finish(attempt))
    begun(store, day="2026-03-05", begun_at=NEXT_DAY)
    told = refused(store)  # whose day is used up, while another's call is in flight
    assert (told.quota.clock, told.may_return) == (QuotaClock.DAY, False)


def test_limits_count_only_whom_they_name(store: Store) -> None:
    limited(store, a_quota(1), a_quota(1, provider="exa", tenant_id="acme"))
    begun(store)
    refused(store)
    begun(store, provider="exa")
    begun(store, provider="exa", tenant_id=None)
    begun(store, provider="exa", tenant_id="acme")
    refused(store, provider="exa", tenant_id="acme")


def test_a_tenants_own_credential_is_not_the_platforms_to_limit(store: Store) -> None:
    limited(store, a_quota(0))
    begun(store, 3, credential_id="acmes-own")
    assert use_of(store, a_quota()) == (0, 0)


def test_a_soft_limit_counts_and_refuses_nothing(store: Store) -> None:
    limited(store, a_quota(1, hard=False))
    begun(store, 3)
    assert use_of(store, a_quota()) == (3, 3)


def test_a_limit_of_none_stops_every_request(store: Store) -> None:
    limited(store, a_quota(0))
    assert refused(store).never
    assert refused(store).reason == "the limit of 0 requests per day lets nothing through"


def test_one_request_that_may_cost_more_than_the_whole_limit_is_told_apart(store: Store) -> None:
    limited(store, DOLLARS)
    told = refused(store, reserved_usd_micros=101)
    assert (told.never, told.amount) == (True, 101)
    assert told.reason == "one request may cost more than the limit of $0.0001 per day"
    begun(store, reserved_usd_micros=100)


def test_a_request_that_costs_nothing_is_never_refused_by_money(store: Store) -> None:
    limited(store, DOLLARS)
    (attempt,) = begun(store, reserved_usd_micros=100)
    write(store, a_finish(attempt, billed(usd_micros=130)))  # a provider that asked more than its price
    assert use_of(store, DOLLARS) == (130, 0)
    begun(store, reserved_usd_micros=0)
    refused(store, reserved_usd_micros=1)


def test_a_request_of_unknown_price_does_not_begin_under_a_limit_in_dollars(store: Store) -> None:
    """What nobody knows cannot be held back, so such a limit could not hold."""
    limited(store, DOLLARS)
    refusal = refused(store, reserved_usd_micros=None)
    assert (refusal.is_final, refusal.reason.split(",")[0]) == (True, "nobody knows what one request may cost")
    assert use_of(store, DOLLARS) == (0, 0)
    limited(store, a_quota(100, unit=Unit.USD, hard=False))
    begun(store, reserved_usd_micros=None)


def test_an_opening_begins_those_of_its_attempts_that_limits_admit(store: Store) -> None:
    limited(store, a_quota(0, provider="exa"))
    apollo, exa = an_attempt(), an_attempt(provider="exa")
    opening = an_opening(a_prospect(store), "apollo", "exa", begins=[apollo, exa])
    (answer,) = write(store, opening)
    assert answer.keys() == {exa.id}
    assert isinstance(answer[exa.id], Refusal)
    assert row(store, attempts)["id"] == apollo.id
    assert row(store, runs)["id"] == opening.run.id


def test_an_opening_that_lost_its_prospect_reserves_nothing(store: Store) -> None:
    limited(store, a_quota())
    prospect_id = a_prospect(store)
    assert write(store, an_opening(prospect_id, begins=[an_attempt()])) == [True]
    assert write(store, an_opening(prospect_id, begins=[an_attempt()])) == [False]
    assert use_of(store, a_quota()) == (1, 1)


# Windows.


def test_each_attempt_counts_in_the_window_of_its_stamp(store: Store) -> None:
    second = a_quota(2, clock=SECOND)
    limited(store, second)
    stamps = [f"2026-03-04T05:06:{moment}Z" for moment in ("07.000", "07.999", "08.000", "08.100")]
    assert asked(store, *(an_attempt(begun_at=stamp) for stamp in stamps)) == [True] * 4
    told = refused(store, begun_at="2026-03-04T05:06:07.500Z")
    assert told.until == "2026-03-04T05:06:08.000Z"
    assert [window["used"] for window in rows(store, limit_windows)] == [2, 2]


def test_a_window_that_opens_at_a_request_lasts_from_then_on(store: Store) -> None:
    limited(store, a_quota(2, clock=MINUTE, opens=Opens.FIRST_REQUEST))
    begun(store, begun_at="2026-03-04T05:06:40.000Z")
    begun(store, begun_at="2026-03-04T05:07:10.000Z")
    assert refused(store, begun_at="2026-03-04T05:07:39.999Z").until == "2026-03-04T05:07:40.000Z"
    begun(store, 2, begun_at="2026-03-04T05:07:59.000Z")
    assert refused(store, begun_at="2026-03-04T05:08:58.000Z").until == "2026-03-04T05:08:59.000Z"


@pytest.mark.parametrize("in_one_commit", [True, False])
def test_attempts_whose_commits_pass_each_other_share_the_window_the_first_one_opened(
    store: Store, in_one_commit: bool
) -> None:
    quota = a_quota(3, clock=MINUTE, opens=Opens.FIRST_REQUEST)
    limited(store, quota)
    stamps = ["2026-03-04T05:06:40.300Z", "2026-03-04T05:06:40.100Z", "2026-03-04T05:06:40.200Z"]
    made = [an_attempt(begun_at=stamp) for stamp in stamps]
    for some in [made] if in_one_commit else [[each] for each in made]:
        assert asked(store, *some) == [True] * len(some)
    refused(store, begun_at="2026-03-04T05:06:40.050Z")
    refused(store, begun_at="2026-03-04T05:07:39.000Z")
    (window,) = rows(store, limit_windows)
    assert (window["opens_at"], window["used"]) == (stamps[0], 3)
    write(store, *(a_finish(each, NOT_SENT) for each in made))
    assert use_of(store, quota, "2026-03-04T05:06:41.000Z") == (0, 0)


def test_a_call_that_ends_after_its_window_has_turned_gives_back_there_and_not_in_the_next(store: Store) -> None:
    second = a_quota(2, clock=SECOND)
    limited(store, second)
    (early,) = begun(store)
    begun(store, 2, begun_at="2026-03-04T05:06:08.000Z")
    write(store, a_finish(early, NOT_SENT))
    assert [(each["used"], each["pending"]) for each in rows(store, limit_windows)] == [(0, 0), (2, 2)]


def test_a_short_limits_windows_are_not_all_read_for_every_commit(store: Store) -> None:
    second = a_quota(1, clock=SECOND)
    limited(store, second)
    with store.writing.begin() as connection:
        connection.execute(
            limit_windows.insert(),
            [
                {"limit_id": second.id, "opens_at": f"2026-03-04T04:{n // 60:02}:{n % 60:02}.000Z",
                 "closes_at": "2026-03-04T05:00:00.000Z", "used": 1, "pending": 0}
                for n in range(3600)
            ],
        )  # fmt: skip
    read: list[int] = []
    with store.writing.connect() as connection:
        connection.connection.driver_connection.set_progress_handler(lambda: read.append(1), 100)
        assert len(Limits().decide(connection, []).refused) == 0
        limits = Limits()
        limits.refresh(connection)
        before = len(read)
        assert limits.decide(connection, [an_attempt()]).refused == {}
        assert len(read) - before < 20, "some hundred steps of SQLite's machine, not some ten thousand"
        connection.connection.driver_connection.set_progress_handler(None, 0)


def test_windows_of_the_day_before_yesterday_are_dropped(store: Store) -> None:
    limited(store, a_quota(clock=SECOND), a_quota())
    begun(store)
    begun(store, day="2026-03-07", begun_at="2026-03-07T00:00:00.000Z")
    with store.writing.begin() as connection:
        prepare(connection, None, datetime(2026, 3, 7, 0, 0, 1, tzinfo=UTC))
    assert {each["opens_at"] for each in rows(store, limit_windows)} == {
        "2026-03-07T00:00:00.000Z",
    }


# Settling.


@pytest.mark.parametrize(
    ("charge", "requests", "milli", "dollars"),
    [
        (billed(credits={"lead": 1000}, usd_micros=26), 1, 1000, 26),
        (Charge(A_CREDIT.kind, {"lead": 1000}, None), 1, 1000, 40),
        (FREE, 1, 0, 0),
        (UNKNOWN_CHARGE, 1, 3000, 40),
        (NOT_SENT, 0, 0, 0),
    ],
)
def test_a_reservation_becomes_what_the_call_really_cost(
    store: Store, charge: Charge, requests: int, milli: int, dollars: int
) -> None:
    limited(store, a_quota(), CREDITS, DOLLARS, a_quota(clock=IN_FLIGHT))
    (attempt,) = begun(store, reserved_milli_credits=3000, reserved_usd_micros=40)
    reserved = [use_of(store, quota) for quota in (a_quota(), CREDITS, DOLLARS, a_quota(clock=IN_FLIGHT))]
    assert reserved == [(1, 1), (3000, 3000), (40, 40), (1, 1)]
    write(store, a_finish(attempt, charge))
    settled = [use_of(store, quota) for quota in (a_quota(), CREDITS, DOLLARS, a_quota(clock=IN_FLIGHT))]
    assert settled == [(requests, 0), (milli, 0), (dollars, 0), (0, 0)]
    before = everything(store)
    write(store, a_finish(attempt, charge))
    assert everything(store) == before, "settling twice changes nothing"


@pytest.mark.parametrize(("charge", "milli", "dollars"), [(A_CREDIT, 1000, 26_000), (FREE, 0, 0)])
def test_a_late_answer_corrects_what_an_unknown_call_kept(
    store: Store, charge: Charge, milli: int, dollars: int
) -> None:
    expensive = a_quota(10**9, unit=Unit.USD)
    limited(store, a_quota(), CREDITS, expensive, a_quota(clock=IN_FLIGHT))
    (attempt,) = begun(store, reserved_milli_credits=3000, reserved_usd_micros=90_000)
    write(store, a_finish(attempt, UNKNOWN_CHARGE))
    assert [use_of(store, quota) for quota in (a_quota(), CREDITS, expensive)] == [(1, 0), (3000, 0), (90_000, 0)]
    for _ in range(2):
        write(store, a_finish(attempt, charge))
        assert [use_of(store, quota) for quota in (a_quota(), CREDITS, expensive)] == [
            (1, 0), (milli, 0), (dollars, 0),
        ]  # fmt: skip
    assert use_of(store, a_quota(clock=IN_FLIGHT)) == (0, 0)
    write(store, a_finish(attempt, UNKNOWN_CHARGE))
    assert use_of(store, CREDITS) == (milli, 0), "never the other way round"


def test_what_a_call_did_not_cost_is_free_for_others_at_once(store: Store) -> None:
    limited(store, DOLLARS)
    (attempt,) = begun(store, reserved_usd_micros=90)
    told = refused(store, reserved_usd_micros=20)
    assert told.may_return
    write(store, a_finish(attempt, billed(usd_micros=80)))
    begun(store, reserved_usd_micros=20)
    told = refused(store, reserved_usd_micros=20)
    assert told.may_return, "the open one may turn out to be free"


def test_only_what_is_still_open_may_come_back(store: Store) -> None:
    limited(store, DOLLARS)
    done, flying = begun(store, reserved_usd_micros=90)[0], begun(store, reserved_usd_micros=10)[0]
    write(store, a_finish(done, billed(usd_micros=90)))
    assert refused(store, reserved_usd_micros=10).may_return
    assert not refused(store, reserved_usd_micros=11).may_return
    write(store, a_finish(flying, UNKNOWN_CHARGE))
    assert not refused(store, reserved_usd_micros=10).may_return


def test_calls_in_flight_are_those_that_are_open(store: Store) -> None:
    limited(store, a_quota(2, clock=IN_FLIGHT))
    one, _ = begun(store, 2)
    assert refused(store).may_return
    write(store, a_finish(one, UNKNOWN_CHARGE))
    begun(store)
    refused(store)


def test_calls_that_began_before_the_limit_was_set_settle_in_it(store: Store) -> None:
    one, other = begun(store, 2, reserved_usd_micros=40)
    limited(store, DOLLARS, a_quota(clock=IN_FLIGHT))
    assert (use_of(store, DOLLARS), use_of(store, a_quota(clock=IN_FLIGHT))) == ((80, 80), (2, 2))
    write(store, a_finish(one, billed(usd_micros=25)), a_finish(other, FREE))
    assert (use_of(store, DOLLARS), use_of(store, a_quota(clock=IN_FLIGHT))) == ((25, 0), (0, 0))


def test_a_limit_that_was_taken_away_is_settled_by_nobody(store: Store) -> None:
    limited(store, DOLLARS)
    (attempt,) = begun(store, reserved_usd_micros=40)
    with store.writing.begin() as connection:
        unset_quota(connection, DOLLARS.id)
    write(store, a_finish(attempt, billed(usd_micros=25)))
    assert rows(store, limit_windows) == []


# Commits that may have happened.


def test_a_commit_whose_reply_was_lost_is_applied_again_and_changes_nothing(store: Store) -> None:
    limited(store, a_quota(2), a_quota(5, clock=IN_FLIGHT), DOLLARS)
    ops = [Begin(an_attempt(reserved_usd_micros=30)) for _ in range(4)]
    answers = write(store, *ops)
    before = everything(store)
    again = write(store, *ops)
    assert [answer is True for answer in again] == [answer is True for answer in answers] == [True, True, False, False]
    assert everything(store) == before


def test_what_a_failed_commit_would_have_moved_is_never_passed_on_and_the_next_move_is_told_to_be_in_doubt(
    store: Store,
) -> None:
    limited(store, a_quota(10))
    limits, passed_on = Limits(), []
    limits.on_moves = passed_on.append
    with store.writing.connect() as connection, connection.begin() as transaction:
        apply(connection, [Begin(an_attempt())], limits)
        transaction.rollback()
    write(store, Task(lambda connection: None), limits=limits)
    limits.committed()
    assert passed_on == []
    for in_doubt in (True, False):
        attempt = an_attempt()
        asked(store, attempt, limits=limits)
        limits.committed()
        assert (list(passed_on[-1].begun), passed_on[-1].follows_failure) == ([attempt.id], in_doubt)


def test_a_begin_that_is_in_the_ledger_is_never_said_to_be_refused(store: Store) -> None:
    limited(store, a_quota(1))
    op = Begin(an_attempt())
    assert write(store, op) == [True]
    limited(store, a_quota(0))
    assert write(store, op) == [True]
    refused(store)


def test_a_begin_and_its_end_may_share_a_commit_and_its_repetition(store: Store) -> None:
    limited(store, a_quota(1), DOLLARS)
    attempt = an_attempt(reserved_usd_micros=40)
    ops = (Begin(attempt), a_finish(attempt, billed(usd_micros=25)))
    for _ in range(2):
        assert write(store, *ops)[0] is True
        assert (use_of(store, a_quota()), use_of(store, DOLLARS)) == ((1, 0), (25, 0))


# Limits that others set.


def test_a_limit_set_by_another_process_holds_from_the_next_commit_on(store: Store) -> None:
    limits = Limits()
    assert asked(store, an_attempt(), limits=limits) == [True]
    another = open_store(store.url)
    limited(another, a_quota(2))
    assert asked(store, an_attempt(), limits=limits) == [True]
    assert isinstance(asked(store, an_attempt(), limits=limits)[0], Refusal)
    limited(another, a_quota(3))
    assert asked(store, an_attempt(), limits=limits) == [True]
    with another.writing.begin() as connection:
        unset_quota(connection, a_quota().id)
    another.close()
    assert asked(store, *(an_attempt() for _ in range(5)), limits=limits) == [True] * 5


def test_an_implied_limit_holds_until_an_operator_sets_the_same(store: Store) -> None:
    (implied,) = implied_by_pace({"apollo": 1.0})
    assert (implied.id, implied.amount) == ("apollo/requests/second", 2)
    limits = Limits([implied])
    assert [answer is True for answer in asked(store, *(an_attempt() for _ in range(3)), limits=limits)] == [
        True, True, False,
    ]  # fmt: skip
    limited(store, a_quota(4, clock=SECOND))
    assert [answer is True for answer in asked(store, *(an_attempt() for _ in range(3)), limits=limits)] == [
        True, True, False,
    ]  # fmt: skip
    with store.read() as connection:
        assert [quota.origin for quota in all_quotas(connection)] == ["operator"]


def test_a_process_without_a_file_leaves_the_limits_of_one_with_a_file_alone(store: Store) -> None:
    now = datetime.fromisoformat(AT)
    with store.writing.begin() as connection:
        prepare(connection, [a_quota(origin="file")], now)
        prepare(connection, None, now)
        assert all_quotas(connection) == [a_quota(origin="file")]
        prepare(connection, [], now)
        assert all_quotas(connection) == []


# Warnings.


def warned(store: Store, quota: Quota, count: int) -> list[str]:
    """What one process says while so many requests begin, one after the other."""
    told: list[str] = []
    limits = Limits(tell=told.append)
    limited(store, quota)
    for _ in range(count):
        asked(store, an_attempt(reserved_usd_micros=20), limits=limits)
    return told


def test_a_limit_warns_once_when_it_passes_its_share(store: Store) -> None:
    assert warned(store, a_quota(10), 7) == []
    assert warned(store, a_quota(10), 1) == ["apollo: 80 % of 10 requests per day are used"]
    assert warned(store, a_quota(10), 5) == ["apollo: 90 % of 10 requests per day are used"]


def test_a_soft_limit_warns_too_and_counts_on(store: Store) -> None:
    assert warned(store, a_quota(4, hard=False, warn_at_percent=100), 9) == [
        "apollo: 100 % of 4 requests per day are used"
    ]


def test_money_warns_by_what_is_reserved(store: Store) -> None:
    assert warned(store, DOLLARS, 5) == ["apollo: 80 % of $0.0001 per day are used"]


@pytest.mark.parametrize("quota", [a_quota(10, warn_at_percent=None), a_quota(5, clock=MINUTE)])
def test_nobody_is_warned_of_short_windows_or_against_their_wish(store: Store, quota: Quota) -> None:
    assert warned(store, quota, 5) == []


def test_each_window_warns_for_itself(store: Store) -> None:
    told: list[str] = []
    limits = Limits(tell=told.append)
    limited(store, a_quota(1))
    asked(store, an_attempt(), an_attempt(day="2026-03-05", begun_at="2026-03-05T00:00:00.000Z"), limits=limits)
    assert told == ["apollo: 100 % of 1 request per day are used"] * 2


def test_a_warning_that_cannot_be_told_stops_nothing(store: Store) -> None:
    def tell(sentence: str) -> None:
        raise OSError("the terminal is gone")

    limited(store, a_quota(1))
    assert asked(store, an_attempt(), limits=Limits(tell=tell)) == [True]
