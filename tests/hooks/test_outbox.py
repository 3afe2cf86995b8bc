"""The outbox: written with what it tells of, tried again on a schedule, and about nobody who is erased."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from builders import (
    AT,
    INES,
    LATER,
    a_finish,
    a_prospect,
    a_result,
    a_run,
    an_attempt,
    an_opening,
    lost_commit_replies,
    row,
    rows,
    the_end,
    write,
)
from sluiceway.hooks.body import Dropped, body_of
from sluiceway.hooks.deliveries import (
    RETRIED_AFTER,
    Delivery,
    State,
    batch_ended,
    drop,
    due,
    logged,
    take,
    tried,
)
from sluiceway.hooks.letter import Reply
from sluiceway.hooks.webhooks import NewWebhook, add_webhook, remove_webhook
from sluiceway.identifier import new_id
from sluiceway.outcome import timestamp
from sluiceway.pipeline.batch import Asked, finish_batch, open_batch
from sluiceway.rights.erasure import Why, erase
from sluiceway.rights.suppression import opened_list
from sluiceway.sign import own_signs_of
from sluiceway.store.engine import Store
from sluiceway.store.schema import deliveries, webhooks
from sluiceway.store.secret import SecretKey
from sluiceway.tenancy.tenants import add_tenant
from sluiceway.usage.ledger import OpenRun

KEY = SecretKey("of the test")
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
BOTH = ["run.finished", "batch.finished"]
FAILED = Reply(500, "HTTP 500")


def a_webhook(store: Store, *events: str, tenant: str = "default") -> NewWebhook:
    """Have a tenant told."""
    with store.change() as connection:
        if tenant != "default":
            add_tenant(connection, tenant, by="test", now=NOW)
        return add_webhook(connection, tenant, "https://x.example/hook", events or BOTH, KEY, by="test", now=NOW)


def run_ended(store: Store, tenant: str = "default") -> str:
    """Have a run of somebody end; returns its id."""
    opening = an_opening(a_prospect(store, tenant=tenant), tenant_id=tenant)
    write(store, opening)
    write(store, the_end(opening.run))
    return opening.run.id


def taken(store: Store, now: datetime | str = NOW + timedelta(minutes=1), **changed: Any) -> list[Delivery]:
    """Take what is due at a moment, for a minute."""
    at = now if isinstance(now, str) else timestamp(now)
    until = timestamp(datetime.fromisoformat(at) + timedelta(minutes=1))
    with store.change() as connection:
        return take(connection, due(connection, at, **{"busy": {}, "each": 4, "most": 16, **changed}), until)


def change(store: Store, what: Any, *given: Any) -> Any:
    with store.change() as connection:
        return what(connection, *given)


def said(store: Store, delivery: Delivery) -> Any:
    """What a delivery would say now."""
    suppressions = opened_list(store)
    with store.read() as connection:
        return body_of(connection, delivery, suppressions)


def test_a_run_that_ends_is_told_in_the_same_transaction(store: Store) -> None:
    hook = a_webhook(store).webhook
    run_id = run_ended(store)
    told = row(store, deliveries)
    assert (told["receiver_id"], told["event"], told["target"], told["next_at"]) == (
        hook.id,
        "run.finished",
        run_id,
        LATER,
    )
    assert told["said"] is None


def test_a_run_that_was_opened_already_closed_is_told_as_well(store: Store) -> None:
    a_webhook(store)
    run = a_run(a_prospect(store), closed_at=AT, status="complete")
    write(store, OpenRun(run, None, (a_result(run, status="cached", closed_at=AT),)))
    assert [each["target"] for each in rows(store, deliveries)] == [run.id]


def test_what_is_written_again_after_a_lost_reply_is_told_once(store: Store) -> None:
    a_webhook(store)
    run = a_run(a_prospect(store), closed_at=AT, status="complete")
    opening = OpenRun(run, None, (a_result(run, status="cached", closed_at=AT),))
    other = an_opening(a_prospect(store, tenant="other"))
    write(store, other)
    for _ in range(2):
        write(store, opening, the_end(other.run))
    assert sorted(each["target"] for each in rows(store, deliveries)) == sorted([run.id, other.run.id])


def test_nobody_is_told_of_another_tenants_runs_or_of_events_not_asked_for(store: Store) -> None:
    a_webhook(store, "batch.finished")
    mine = a_webhook(store, "run.finished", tenant="acme").webhook
    run_ended(store)
    run_ended(store, "acme")
    assert [each["receiver_id"] for each in rows(store, deliveries)] == [mine.id]


def test_a_batch_of_a_file_is_told_once_when_it_ends(store: Store) -> None:
    a_webhook(store)
    asked = Asked("default", "people.csv", "digest", {}, "file", False)
    batch = change(store, open_batch, asked, AT)
    for _ in range(2):
        change(store, finish_batch, batch.id, LATER)
    (delivery,) = taken(store)
    assert (delivery.event, delivery.target) == ("batch.finished", batch.id)
    assert b'"state":"finished"' in said(store, delivery)


def test_a_tenant_is_told_nothing_of_others_who_are_in_the_same_file(store: Store) -> None:
    a_webhook(store, "batch.finished")
    batch = change(store, open_batch, Asked("default", "people.csv", "digest", {}, "file", False), AT)
    for tenant in ("default", "acme"):
        prospect_id = a_prospect(store, tenant=tenant)
        attempt = an_attempt(tenant_id=tenant, batch_id=batch.id, prospect_id=prospect_id)
        opening = an_opening(prospect_id, tenant_id=tenant, batch_id=batch.id, begins=[attempt])
        write(store, opening)
        write(store, a_finish(attempt))
    change(store, finish_batch, batch.id, LATER)
    (told,) = taken(store, LATER)
    data = msgspec.json.decode(said(store, told))["data"]
    assert data["outcomes"] == {"apollo": {"running": 1}}
    assert data["spent"]["apollo"]["billed"] == 1


def test_what_failed_is_tried_again_on_the_schedule_under_the_same_id_and_given_up_at_last(store: Store) -> None:
    a_webhook(store)
    run_ended(store)
    now, ids = NOW + timedelta(minutes=1), set()
    for wait in (*RETRIED_AFTER, None):
        (delivery,) = taken(store, now)
        ids.add(delivery.id)
        change(store, tried, delivery, FAILED, timestamp(now))
        if wait:
            assert taken(store, now + wait - timedelta(seconds=1)) == []
            now += wait
    shown = logged(_only(store))
    assert (len(ids), shown.state, shown.tries, shown.error) == (1, State.GIVEN_UP, 8, "HTTP 500")
    assert taken(store, now + timedelta(days=30)) == []


def _only(store: Store) -> Any:
    with store.read() as connection:
        return connection.execute(deliveries.select()).one()


def test_what_nobody_noted_the_end_of_is_due_again(store: Store) -> None:
    """As when the process is killed between taking a delivery and hearing the answer."""
    a_webhook(store)
    run_ended(store)
    (first,) = taken(store, NOW + timedelta(minutes=1))
    assert taken(store, NOW + timedelta(minutes=1, seconds=59)) == []
    (second,) = taken(store, NOW + timedelta(minutes=2))
    assert second.id == first.id


def test_a_delivery_belongs_to_who_took_it(store: Store) -> None:
    a_webhook(store)
    run_ended(store)
    assert len(taken(store)) == 1
    assert taken(store) == []


def test_no_receiver_takes_all_places(store: Store) -> None:
    slow, quick = a_webhook(store).webhook, a_webhook(store, tenant="acme").webhook
    for _ in range(6):
        change(store, batch_ended, _batch(store, "default"), AT)
    change(store, batch_ended, _batch(store, "acme"), LATER)
    assert [each.receiver_id for each in taken(store)].count(slow.id) == 4
    assert [each.receiver_id for each in taken(store, busy={slow.id: 4})] == []
    change(store, batch_ended, _batch(store, "acme"), LATER)
    assert [each.receiver_id for each in taken(store, busy={slow.id: 4})] == [quick.id]
    assert taken(store, most=0) == []


def _batch(store: Store, tenant: str) -> str:
    return str(change(store, open_batch, Asked(tenant, "b", new_id(), {}, "file", False), AT).id)


def test_nothing_is_said_of_somebody_who_was_erased_or_suppressed_meanwhile(store: Store) -> None:
    a_webhook(store)
    run_ended(store)
    (delivery,) = taken(store)
    assert b'"external_id"' in said(store, delivery)
    suppressions = opened_list(store)
    with store.change() as connection:
        suppressions.add(connection, "default", own_signs_of(INES), at=AT, by="test")
    assert said(store, delivery) == Dropped("suppressed")
    with store.change() as connection:
        ids = [connection.exec_driver_sql("SELECT id FROM prospects").scalar_one()]
        erase(connection, ids, Why("request", "test", AT, suppress=False), suppressions)
    assert said(store, delivery) == Dropped("erased")
    change(store, drop, delivery, "erased")
    shown = logged(_only(store))
    assert (shown.state, shown.target, shown.next_at, shown.error) == (State.DROPPED, "erased", None, "erased")


def test_a_delivery_that_waits_holds_nobodys_data(store: Store) -> None:
    a_webhook(store)
    run_ended(store)
    held = str(row(store, deliveries)).lower()
    assert not [word for word in ("ines", "okafor", "harbourline") if word in held]


def test_what_is_due_to_a_webhook_that_is_removed_is_dropped_with_its_secret(store: Store) -> None:
    hook = a_webhook(store).webhook
    run_ended(store)
    with store.change() as connection:
        assert remove_webhook(connection, hook.id, by="test", now=NOW)
        assert not remove_webhook(connection, hook.id, by="test", now=NOW)
    assert taken(store) == []
    assert row(store, webhooks)["sealed_secret"] == ""
    run_ended(store, "other")
    assert len(rows(store, deliveries)) == 1


def test_the_secret_is_sealed(store: Store) -> None:
    made = a_webhook(store)
    assert made.secret.startswith("whsec_")
    assert made.secret not in str(row(store, webhooks))


@pytest.mark.parametrize("lost", [1])
def test_ending_a_batch_whose_commit_reply_is_lost_tells_it_once(store: Store, lost: int) -> None:
    a_webhook(store)
    batch_id = _batch(store, "default")
    with lost_commit_replies(store.writing, lost), pytest.raises(Exception, match="lost"):
        change(store, finish_batch, batch_id, LATER)
    change(store, finish_batch, batch_id, LATER)
    assert len(rows(store, deliveries)) == 1
