"""What users of a tenant did: for its admins, newest first, and counted by user and day."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from served import ACME, GLOBEX, SUPER, Served

from sluiceway.activity import Action, Event, record
from sluiceway.outcome import timestamp

ADMIN = f"tenant_admin@{ACME}"
NOW = datetime.now(UTC)


def done(served: Served, tenant: str = ACME) -> list[Event]:
    """Thirty things that three users did over five days; some at the same moment."""
    events = [
        Event(
            (Action.SEARCH_EXECUTED, Action.PROFILE_VIEWED)[number % 2],
            tenant,
            f"{tenant}-user-{number % 3}",
            timestamp(NOW - timedelta(days=number % 5, seconds=number // 10)),
            f"prospect-{number}" if number % 2 else None,
        )
        for number in range(30)
    ]
    with served.store.change() as connection:
        record(connection, events)
    return events


def said(served: Served, path: str, who: str = ADMIN) -> Any:
    answer = served.get(path, who)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("limit", [1, 7, 200])
def test_what_was_done_comes_newest_first_page_by_page(served: Served, limit: int) -> None:
    events = done(served)
    done(served, GLOBEX)
    found = said(served, f"/activity?limit={limit}")
    got = list(found["items"])
    while found["next_cursor"]:
        found = said(served, f"/activity?limit={limit}&cursor={found['next_cursor']}")
        got += found["items"]
    newest = sorted(events, key=lambda event: (event.at, event.id), reverse=True)
    assert [act["id"] for act in got] == [event.id for event in newest]
    assert got[0] == {
        "id": newest[0].id, "at": newest[0].at, "user_id": newest[0].user_id, "action": newest[0].action.value,
        "target": newest[0].target,
    }  # fmt: skip


def test_it_can_be_narrowed_to_a_user_an_action_and_days(served: Served) -> None:
    events = done(served)
    day = f"{NOW - timedelta(days=1):%Y-%m-%d}"
    asked = f"user=acme-user-1&action=profile_viewed&from={day}&to={day}&limit=200"
    wanted = [e for e in events if (e.user_id, e.action, e.at[:10]) == ("acme-user-1", "profile_viewed", day)]
    assert {act["id"] for act in said(served, f"/activity?{asked}")["items"]} == {event.id for event in wanted}
    assert said(served, f"/activity/days?{asked.removesuffix('&limit=200')}")["events"] == len(wanted) > 0


def test_counts_by_user_and_day_are_those_of_what_was_done(served: Served) -> None:
    events = done(served)
    done(served, GLOBEX)
    found = said(served, "/activity/days")
    expected = Counter((e.at[:10], e.user_id, e.action.value) for e in events)
    got = {(one["day"], one["user_id"], did): count for one in found["days"] for did, count in one["actions"].items()}
    assert got == expected
    assert found["events"] == sum(one["events"] for one in found["days"]) == len(events)
    assert [one["day"] for one in found["days"]] == sorted((one["day"] for one in found["days"]), reverse=True)
    assert found["about"]["source"] == ["activity_days"]


@pytest.mark.parametrize("path", ["/activity", "/activity/days"])
def test_only_admins_may_see_what_their_own_users_did(served: Served, path: str) -> None:
    done(served, GLOBEX)
    assert served.get(path, None).status_code == 401
    for role in ("agent", "assistant"):
        assert served.get(path, f"{role}@{GLOBEX}").status_code == 403
    assert served.get(f"{path}?tenant={GLOBEX}", ADMIN).status_code == 403
    assert served.get(path, SUPER).status_code == 422
    assert GLOBEX in served.get(f"{path}?tenant={GLOBEX}", SUPER).text
    assert GLOBEX not in served.get(path, ADMIN).text


@pytest.mark.parametrize("asked", ["action=colour", "from=yesterday", "from=2026-02-30", "cursor=x", "limit=0"])
def test_what_cannot_be_asked_is_refused_with_the_reason(served: Served, asked: str) -> None:
    answer = served.get(f"/activity?{asked}", ADMIN)
    assert answer.status_code == 422
    assert answer.json()["detail"]
