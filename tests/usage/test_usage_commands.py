"""What `sluiceway usage …` prints and answers, for a person and for a program."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from builders import A_CREDIT, a_booking, a_finish, an_attempt, row, rows, today, write
from redis_server import RedisServer
from sluiceway.cli.usage.explain import moment_in
from sluiceway.errors import BadInput
from sluiceway.outcome import UNKNOWN_CHARGE, timestamp
from sluiceway.store.engine import Store
from sluiceway.store.facts import identify
from sluiceway.store.schema import attempts, corrections, daily_totals, usage_hours
from sluiceway.usage.counter import usage_key
from sluiceway.usage.ledger import Begin
from sluiceway.usage.on_redis import Published, connect, publish
from sluiceway.usage.provider_meter import MeterRow, keep
from sluiceway.usage.quota import Quota, QuotaClock, Unit, set_quota
from terminal import Command, Said, sluiceway

DAY = today()


@pytest.fixture
def usage(store: Store) -> Command:
    """Give `sluiceway usage …` a command, on the test's store."""

    def run(*arguments: str) -> Said:
        database = [] if "-h" in arguments else ["--database", store.url]
        return sluiceway("usage", *arguments, *database)

    return run


def asked(store: Store, charge: Any = A_CREDIT, **changed: Any) -> str:
    """One call of today; returns its id."""
    attempt = an_attempt(**{"day": DAY, "begun_at": f"{DAY}T00:00:00.000Z", **changed})
    write(store, Begin(attempt), a_finish(attempt, charge))
    return attempt.id


# usage --by


def test_usage_is_by_provider_unless_it_is_told_otherwise(store: Store, usage: Command) -> None:
    asked(store)
    assert list(usage("--json").json) == ["since", "providers"]
    said = usage("--json", "--by", "tenant", "--days", "1").json
    assert (said["since"], said["by"], said["rows"]["default"]["billed"]) == (DAY, "tenant", 1)


def test_every_call_is_in_one_row_and_those_of_nobody_are_called_so(store: Store, usage: Command) -> None:
    asked(store, tenant_id="acme", batch_id="b1")
    asked(store, tenant_id=None, trigger="refresh")
    write(store, a_booking(7, day=DAY), a_booking(5, day=DAY, tenant_id="acme"))
    rows_by = {by: usage("--json", "--by", by).json["rows"] for by in ("tenant", "batch", "trigger", "hour", "user")}
    assert {key: (r["billed"], r["tracked"]) for key, r in rows_by["tenant"].items()} == {"acme": (1, 5), "": (1, 7)}
    assert {key: (r["billed"], r["tracked"]) for key, r in rows_by["batch"].items()} == {"b1": (1, 0), "": (1, 12)}
    assert list(rows_by["trigger"]) == ["file", "refresh", ""]
    assert list(rows_by["hour"]) == [f"{DAY}T05Z", ""]
    assert list(rows_by["user"]) == [""]
    assert "shared" in usage("--by", "tenant").out
    assert "—" in usage("--by", "batch").out


def test_what_calls_cannot_be_told_apart_by_is_a_mistake(usage: Command) -> None:
    said = usage("--by", "colour")
    assert said.code == 2
    assert "--by 'colour' is not one of provider, source, tenant, user, batch, trigger, hour" in said.err


# usage unknown, usage resolve


def test_unknown_calls_are_listed_with_the_command_that_resolves_one(store: Store, usage: Command) -> None:
    assert "No call's charge is unknown." in usage("unknown").out
    lost = asked(store, UNKNOWN_CHARGE, tenant_id="acme")
    said = usage("unknown")
    assert f"sluiceway usage resolve {lost[:14]} --billed --note" in said.out
    assert said.out.count(lost[:14]) == 3
    assert [one["id"] for one in usage("unknown", "--json").json["unknown"]] == [lost]
    assert usage("unknown", "--json", "--provider", "exa").json == {"unknown": []}


def test_a_provider_that_is_misspelt_is_not_one_without_unknown_calls(store: Store, usage: Command) -> None:
    assert usage("unknown", "--provider", "exa").out == "No call's charge is unknown.\n"
    assert "'exxa' is no provider" in usage("unknown", "--provider", "exxa").err


def test_a_resolved_call_is_counted_and_audited(store: Store, usage: Command) -> None:
    lost = asked(store, UNKNOWN_CHARGE)
    said = usage(
        "resolve", lost, "--billed", "--note", "invoice 7", "--credits", "1.5", "--usd", "0.026", "--by", "ines"
    )
    assert (said.code, said.out) == (0, f"apollo's call {lost} of {DAY} is billed (1.500 credits, $0.0260).\n")
    assert (row(store, corrections)["corrected_by"], row(store, corrections)["note"]) == ("ines", "invoice 7")
    assert row(store, daily_totals)["milli_credits"] == 1500
    assert usage("reconcile").code == 0


def test_whoever_is_at_the_machine_resolves_unless_another_is_named(
    store: Store, usage: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "tomas")
    lost = asked(store, UNKNOWN_CHARGE)
    said = usage("resolve", lost, "--free", "--note", "not there", "--json").json
    assert (said["became"], said["milli_credits"]) == ("free", 0)
    assert row(store, corrections)["corrected_by"] == "tomas"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--note", "x"), "either --billed or --free"),
        (("--note", "x", "--billed", "--free"), "either --billed or --free"),
        (("--note", " ", "--billed"), "--note is empty"),
        (("--note", "x", "--free", "--credits", "1"), "a free call costs nothing"),
        (("--note", "x", "--billed", "--usd", "nan"), "--usd nan is not an amount"),
        (("--note", "x", "--billed", "--credits", "-1"), "--credits -1 is not an amount"),
    ],
)
def test_what_makes_no_sense_resolves_nothing(
    store: Store, usage: Command, options: tuple[str, ...], complaint: str
) -> None:
    lost = asked(store, UNKNOWN_CHARGE)
    said = usage("resolve", lost, *options)
    assert said.code == 2
    assert complaint in said.err
    assert row(store, attempts)["charge"] == "unknown"


# usage reconcile


def test_agreement_exits_with_nothing_and_drift_with_one_until_it_is_mended(store: Store, usage: Command) -> None:
    asked(store)
    said = usage("reconcile")
    assert said.code == 0
    assert "No drift. (No Redis is set, so no counters were compared.)" in said.out
    with store.writing.begin() as connection:
        connection.execute(update(usage_hours).values(billed=7))
    said = usage("reconcile", "--days", "1")
    assert said.code == 1
    assert "rollup, billed at 05Z, apollo, default: is 7, and it is 1 by the ledger" in said.out
    said = usage("reconcile", "--fix")
    assert said.code == 0
    assert f"mended apollo {DAY}, rollup: billed at 05Z, apollo, default 7 → 1" in said.out
    again = usage("reconcile", "--fix", "--json").json
    assert (again["drift"], again["changes"]) == (False, [])
    assert again["lines"][0]["ledger"] == again["lines"][0]["rollup"] == again["lines"][0]["total"] == 1


def test_use_outside_is_shown_and_fails_only_the_strict(store: Store, usage: Command) -> None:
    asked(store, begun_at=f"{DAY}T00:00:30.000Z")
    for hour, used in (("01", 0), ("02", 3000)):
        at = f"{DAY}T{hour}:00:00.000Z"
        with store.writing.begin() as connection:
            keep(connection, [MeterRow("apollo", "platform", "lead credits", "credits", "call", at, at, used=used)])
    said = usage("reconcile")
    assert said.code == 0
    assert "lead credits: 3 (3" in said.out
    assert "midnight" in said.out
    assert usage("reconcile", "--strict").code == 1


def test_an_empty_store_agrees_with_itself(usage: Command) -> None:
    said = usage("reconcile")
    assert (said.code, "No calls yet" in said.out) == (0, True)


@pytest.fixture
def redis_set(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """A private Redis that the settings name, with a prefix; nobody waits for a publisher that is not there."""
    monkeypatch.setenv("SLUICEWAY_REDIS_URL", redis_server.url)
    monkeypatch.setenv("SLUICEWAY_USAGE_KEY_PREFIX", "ours:")
    monkeypatch.setattr("sluiceway.cli.usage.reconcile._PUBLISHED_WITHIN_S", 0.0)
    return redis_server


def published(store: Store, server: RedisServer) -> None:
    with store.writing.begin() as connection:
        identity = identify(connection)
    client = connect(server.url)
    assert publish(store, Published(identity, "ours:"), client)
    client.close()


def test_counters_are_held_against_the_store_and_published_again(
    store: Store, usage: Command, redis_set: RedisServer
) -> None:
    asked(store)
    write(store, a_booking(4, day=DAY), a_booking(2, day=DAY, provider="exa", kind="imported"))
    published(store, redis_set)
    assert usage("reconcile").code == 0
    key = "ours:" + usage_key("apollo", DAY)
    redis_set.client.incr(key)
    redis_set.client.delete("ours:" + usage_key("exa", DAY))
    said = usage("reconcile")
    assert said.code == 1
    assert "counter, calls: is 6, and it is 5 by the ledger" in said.out
    assert "counter, calls: is missing, and it is 2 by the ledger" in said.out
    assert usage("reconcile", "--fix").code == 0
    assert redis_set.counters("ours:") == {key: 5, "ours:" + usage_key("exa", DAY): 2}
    assert redis_set.without_expiry() == []
    assert [(total["tracked"], total["imported"]) for total in rows(store, daily_totals)] == [(4, 0), (0, 2)]


def test_an_emptied_redis_is_filled_again(store: Store, usage: Command, redis_set: RedisServer) -> None:
    asked(store)
    published(store, redis_set)
    redis_set.client.flushall()
    assert usage("reconcile").code == 1
    assert usage("reconcile", "--fix").code == 0
    assert redis_set.counters("ours:") == {"ours:" + usage_key("apollo", DAY): 1}


def test_a_counter_of_another_program_is_left_alone_and_named(
    store: Store, usage: Command, redis_set: RedisServer
) -> None:
    asked(store)
    published(store, redis_set)
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    foreign = "ours:" + usage_key("apollo", yesterday)
    redis_set.client.set(foreign, 500)
    said = usage("reconcile", "--fix")
    assert said.code == 1
    assert "`sluiceway usage adopt`" in said.out
    assert redis_set.client.get(foreign) == "500"


def test_a_redis_that_does_not_answer_is_told_and_confirms_nothing(
    store: Store, usage: Command, redis_set: RedisServer
) -> None:
    asked(store)
    redis_set.kill()
    said = usage("reconcile")
    assert said.code == 1
    assert "Redis does not answer" in said.err
    assert "its counters are not compared" in said.err
    assert re.search(rf"apollo +{DAY} +1 +1 +1 ", said.out), "everything else is compared all the same"


# usage forecast


def test_a_forecast_is_made_for_every_quota(store: Store, usage: Command) -> None:
    assert "No daily or monthly quota is set" in usage("forecast").out
    now = datetime.now(UTC)
    for hours in range(1, 5 * 24, 2):
        moment = now - timedelta(hours=hours)
        asked(store, day=f"{moment:%Y-%m-%d}", hour=moment.hour, begun_at=timestamp(moment))
    with store.writing.begin() as connection:
        for quota in (
            Quota("apollo", Unit.REQUESTS, QuotaClock.CYCLE, 1_000_000, cycle_day=1),
            Quota("exa", Unit.USD, QuotaClock.DAY, 5_000_000, tenant_id="acme"),
        ):
            set_quota(connection, quota, by="ines", now=timestamp(now))
    apollo, exa = usage("forecast", "--json").json["quotas"]
    assert (apollo["outlook"]["type"], apollo["outlook"]["will_last"]) == ("forecast", True)
    assert exa["outlook"] == {"type": "not_enough_data", "reason": "no full hour of the last 14 days used anything"}
    said = usage("forecast").out
    assert "1,000,000" in said
    assert (
        "exa: $5.00 per day for tenant acme: not enough data: no full hour of the last 14 days used anything." in said
    )


# usage explain


def test_an_explanation_is_a_paragraph_or_json(store: Store, usage: Command) -> None:
    asked(store)
    said = usage("explain", "apollo")
    assert said.code == 0
    assert "apollo had not run out at" in said.out
    known = usage("explain", "apollo", "--json").json
    assert (known["provider"], known["ran_out"], known["by_trigger"][0]["name"]) == ("apollo", False, "file")
    assert known["paragraph"].startswith("apollo had not run out at")


def test_the_future_is_not_explained(store: Store, usage: Command) -> None:
    asked(store)
    said = usage("explain", "apollo", "--at", "2999-01-01 00:00")
    assert (said.code, "is in the future" in said.err) == (2, True)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-24 15:00 America/New_York", "2026-11-24T20:00:00.000Z"),
        ("2026-07-24 15:00 america/new_york", "2026-07-24T19:00:00.000Z"),
        ("2026-11-24T15:00:30Z", "2026-11-24T15:00:30.000Z"),
        ("2026-11-24T15:00-05:00", "2026-11-24T20:00:00.000Z"),
        ("2026-11-24T15:00:00+0530", "2026-11-24T09:30:00.000Z"),
        ("2026-11-24 15:00", "2026-11-24T15:00:00.000Z"),
        ("2026-11-24 15:00 UTC", "2026-11-24T15:00:00.000Z"),
        ("2026-11-24 Europe/Berlin", "2026-11-23T23:00:00.000Z"),
    ],
)
def test_a_moment_is_read_with_its_zone(text: str, moment: str) -> None:
    assert timestamp(moment_in(text)) == moment


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("yesterday", "is not a moment such as"),
        ("24.11.2026 15:00", "is not a moment such as"),
        ("2026-11-31 15:00", "day"),
        ("2026-11-24 25:00", "hour"),
        ("2026-11-24 15:00 EST", "does not say for sure which time zone"),
        ("2026-11-24 15:00 America/Atlantis", "there is no time zone 'America/Atlantis'"),
        ("2026-11-24 15:00 +99:00", "does not say for sure which time zone"),
        ("2026-11-01 01:30 America/New_York", "comes twice there.*2026-11-01T05:30Z or 2026-11-01T06:30Z"),
        ("2026-03-08 02:30 America/New_York", "left out there"),
    ],
)
def test_what_could_be_several_moments_or_none_is_a_mistake(text: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        moment_in(text)
