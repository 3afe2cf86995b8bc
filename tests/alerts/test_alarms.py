"""What needs a look is found, told once for each window, and told again when it is over."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert
from yarl import URL

from builders import A_CREDIT, AT, DAY, a_finish, a_quota, an_attempt, limited, rows, until, write
from receiver import receiving
from sluiceway.alerts.alarms import Finding, open_alarms, settle
from sluiceway.alerts.rules import (
    KINDS,
    Rule,
    books_do_not_agree,
    limits_reached,
    limits_run_out,
    many_unknown,
    providers_not_asked,
    rules,
)
from sluiceway.alerts.watch import Watch
from sluiceway.hooks.address import allowed_by
from sluiceway.hooks.alert_receivers import Form, add_alert_receiver, form_for, shown_url
from sluiceway.hooks.sender import Sender
from sluiceway.outcome import UNKNOWN_CHARGE, timestamp
from sluiceway.rights.suppression import opened_list
from sluiceway.store.engine import Store
from sluiceway.store.schema import alarms, breakers, deliveries, provider_hours, usage_hours
from sluiceway.store.secret import SecretKey
from sluiceway.store.writer import Writer
from sluiceway.usage.ledger import Begin, Op, Task, apply

KEY = SecretKey("of the test")
NOW = datetime(2026, 3, 4, 5, 30, tzinfo=UTC)
HOT = Finding("exhausted", "apollo/requests/day", "2026-03-04T00:00:00.000Z", "Used up.", lasts=False)
REFUSED = Finding("key_refused", "apollo", "2026-03-04", "Key refused.")
ALLOWED = allowed_by("127.0.0.1")


def a_receiver(store: Store, url: str = "https://ops.example/a", form: Form | None = None, name: str = "") -> str:
    """Have somebody told; returns the secret."""
    with store.change() as connection:
        made = add_alert_receiver(connection, URL(url), name, form, KEY, by="test", now=NOW)
        return made.secret


def settled(store: Store, *found: Finding, at: str = AT) -> None:
    """Look, and find this."""
    with store.change() as connection:
        settle(connection, {"exhausted", "key_refused"}, found, at)


def told(store: Store) -> list[tuple[str, str]]:
    """What the receivers are to be told, in order."""
    return [(each["event"], each["said"]) for each in rows(store, deliveries)]


def test_an_alarm_is_told_once_and_once_more_when_it_is_over(store: Store) -> None:
    a_receiver(store)
    settled(store, HOT)
    settled(store, HOT)
    assert told(store) == [("alarm.raised", "Used up.")]
    settled(store, at="2026-03-04T09:00:00.000Z")
    settled(store, at="2026-03-04T09:01:00.000Z")
    assert told(store)[1:] == [("alarm.resolved", "Over since 2026-03-04T09:00Z: Used up.")]


def test_what_comes_and_goes_in_one_window_is_told_once_and_again_in_the_next(store: Store) -> None:
    a_receiver(store)
    next_window = Finding(HOT.kind, HOT.subject, "2026-03-05T00:00:00.000Z", "Used up again.", lasts=False)
    for found in ([HOT], [], [HOT], []):
        settled(store, *found)
    assert [event for event, _ in told(store)] == ["alarm.raised", "alarm.resolved"]
    settled(store, next_window)
    assert told(store)[2:] == [("alarm.raised", "Used up again.")]


def test_a_window_that_turns_ends_its_alarm_and_what_lasts_goes_on(store: Store) -> None:
    a_receiver(store)
    settled(store, HOT, REFUSED)
    settled(
        store,
        Finding(HOT.kind, HOT.subject, "2026-03-05T00:00:00.000Z", "Used up.", lasts=False),
        Finding("key_refused", "apollo", "2026-03-05", "Key refused."),
    )
    events = [each["event"] for each in rows(store, deliveries)]
    assert events == ["alarm.raised", "alarm.raised", "alarm.resolved", "alarm.raised"]
    with store.read() as connection:
        raised = {(each.kind, each.window[:10]) for each in open_alarms(connection)}
    assert raised == {("exhausted", "2026-03-05"), ("key_refused", "2026-03-04")}


def test_a_look_by_one_rule_says_nothing_of_the_other_kinds(store: Store) -> None:
    settled(store, HOT, REFUSED)
    with store.change() as connection:
        settle(connection, {"exhausted"}, [], AT)
        assert [each.kind for each in open_alarms(connection)] == ["key_refused"]


# What is found.


def found(store: Store, look: Any, now: datetime = NOW, *given: Any) -> list[Finding]:
    with store.read() as connection:
        return list(look(connection, now, *given))


def spent(store: Store, calls: int, charge: Any = A_CREDIT) -> None:
    for _ in range(calls):
        attempt = an_attempt()
        write(store, Begin(attempt))
        write(store, a_finish(attempt, charge))


def test_a_limit_that_is_warned_of_and_one_that_is_used_up_are_found(store: Store) -> None:
    limited(store, a_quota(10, warn_at_percent=80))
    spent(store, 7)
    assert found(store, limits_reached) == []
    spent(store, 1)
    (warned,) = found(store, limits_reached)
    assert (warned.kind, warned.subject, warned.window) == ("warn_at", "apollo/requests/day", f"{DAY}T00:00:00.000Z")
    assert warned.said.startswith("80 % reached. apollo: 8 requests of 10 requests per day used")
    spent(store, 2)
    assert [each.kind for each in found(store, limits_reached)] == ["exhausted", "warn_at"]
    assert found(store, limits_reached, NOW + timedelta(days=1)) == []


def test_a_limit_that_will_run_out_before_its_window_ends_is_found(store: Store) -> None:
    start = NOW.replace(minute=0) - timedelta(days=13)
    with store.change() as connection:
        for hours in range(13 * 24):
            at = start + timedelta(hours=hours)
            key = {"day": f"{at:%Y-%m-%d}", "hour": at.hour, "provider": "apollo", "source": "apollo"}
            connection.execute(insert(provider_hours).values(**key, trigger="file", attempts=10, billed=10))
            connection.execute(insert(usage_hours).values(**key, tenant_id="default", attempts=10, billed=10))
    limited(store, a_quota(100))
    (out,) = found(store, limits_run_out)
    assert (out.kind, out.subject, out.window) == ("runs_out", "apollo/requests/day", f"{DAY}T00:00:00.000Z")
    assert "used up around 2026-03-04" in out.said
    limited(store, a_quota(1000))
    assert found(store, limits_run_out) == []


def a_breaker(store: Store, cause: str, probe_at: str | None = None, credential: str = "platform") -> None:
    values = {"provider": "apollo", "credential_id": credential, "state": "open", "cause": cause, "probe_at": probe_at}
    with store.change() as connection:
        connection.execute(breakers.delete())
        more = {"reason": "HTTP 401 about Ines", "credential_digest": "d", "changed_at": AT, "trips": 1}
        connection.execute(insert(breakers).values(**values, **more))


def test_a_key_that_is_refused_and_a_provider_that_is_left_alone_are_found(store: Store) -> None:
    a_breaker(store, "condemned")
    (refused,) = found(store, providers_not_asked)
    assert (refused.kind, refused.subject) == ("key_refused", "apollo")
    assert "Ines" not in refused.said
    a_breaker(store, "condemned", credential="c1")
    (own,) = found(store, providers_not_asked)
    assert (own.kind, own.subject) == ("key_refused", "apollo/c1")
    a_breaker(store, "failing", "2026-03-04T05:07:00.000Z")
    assert [each.kind for each in found(store, providers_not_asked)] == ["breaker"]
    a_breaker(store, "rest", "2026-03-04T05:07:00.000Z")
    assert found(store, providers_not_asked) == []
    a_breaker(store, "rest", "2026-03-04T06:07:00.000Z")
    assert [each.kind for each in found(store, providers_not_asked)] == ["breaker"]


def test_many_calls_of_unknown_charge_are_found_for_a_day(store: Store) -> None:
    spent(store, 3, UNKNOWN_CHARGE)
    assert found(store, many_unknown, NOW, 4) == []
    assert [each.subject for each in found(store, many_unknown, NOW, 3)] == ["apollo"]
    assert found(store, many_unknown, NOW, 0) == []
    assert len(found(store, many_unknown, NOW + timedelta(hours=23), 3)) == 1
    assert found(store, many_unknown, NOW + timedelta(hours=24), 3) == []


def test_sums_that_are_not_what_their_rows_add_up_to_are_found(store: Store) -> None:
    spent(store, 2)
    assert found(store, books_do_not_agree) == []
    with store.change() as connection:
        connection.execute(usage_hours.update().values(billed=7))
    assert ("drift", "apollo") in [(each.kind, each.subject) for each in found(store, books_do_not_agree)]


def test_every_kind_belongs_to_one_rule() -> None:
    assert sorted(kind for rule in rules(20) for kind in rule.kinds) == sorted(KINDS)


# Telling it.


@pytest.mark.parametrize(
    ("url", "form"),
    [
        ("https://hooks.slack.com/services/T0/B0/abcdefgh", Form.TEXT),
        ("https://discord.com/api/webhooks/1/abc", Form.TEXT),
        ("https://acme.webhook.office.com/webhookb2/x", Form.TEXT),
        ("https://hooks.slack.com.evil.example/x", Form.JSON),
        ("https://ops.example/alarms", Form.JSON),
    ],
)
def test_the_form_is_guessed_from_the_host(url: str, form: Form) -> None:
    assert form_for(URL(url)) is form


def test_the_address_of_a_chat_room_is_shown_shortened() -> None:
    assert shown_url(URL("https://hooks.slack.com/services/T0/B0/abcdefgh")) == "https://hooks.slack.com/…efgh"


def test_the_service_looks_tells_and_tells_when_it_is_over(store: Store) -> None:
    limited(store, a_quota(5, warn_at_percent=None), at=timestamp(datetime.now(UTC)))

    async def serve_a_while() -> None:
        writer: Writer[Op] = Writer(store.writing, apply, interval=0)

        def put(work: Any) -> Any:
            return writer.put(Task(work))

        looks = [Rule((HOT.kind,), 0.05, lambda connection, now: list(there))]
        there = [HOT]
        sender = Sender(store=store, write=put, suppressions=opened_list(store), allowed=ALLOWED, key=lambda: KEY)
        async with Watch(store=store, write=put, rules=looks, first_after_s=0), sender:
            await until(lambda: len(inbox.got) == 2)
            there.clear()
            await until(lambda: len(inbox.got) == 4)
        await writer.close()

    with receiving() as inbox:
        a_receiver(store, f"{inbox.url}/json", Form.JSON, "json")
        a_receiver(store, f"{inbox.url}/text", Form.TEXT, "text")
        asyncio.run(serve_a_while())
    raised, over = ({got.path: got.json for got in inbox.of(event)} for event in ("alarm.raised", "alarm.resolved"))
    assert raised["/text"] == {"text": "Used up.", "content": "Used up."}
    data = {"text": "Used up.", "kind": HOT.kind, "subject": HOT.subject, "window": HOT.window}
    assert raised["/json"]["data"] == data
    assert {**over["/json"]["data"], "text": "Used up."} == data
    assert over["/text"]["text"].endswith(": Used up.")
    assert len(rows(store, alarms)) == 1


def test_a_rule_that_fails_keeps_no_other_from_being_looked_at(store: Store) -> None:
    seen: list[str] = []

    async def look_a_while() -> None:
        writer: Writer[Op] = Writer(store.writing, apply, interval=0)

        def broken(connection: Any, now: datetime) -> list[Finding]:
            seen.append("broken")
            raise ValueError("a fault")

        looks = [
            Rule(("broken",), 0.01, broken),
            Rule((HOT.kind,), 0.01, lambda connection, now: [HOT]),
        ]
        async with Watch(store=store, write=lambda work: writer.put(Task(work)), rules=looks, first_after_s=0):
            await until(lambda: rows(store, alarms) and len(seen) > 1)
        await writer.close()

    asyncio.run(look_a_while())
