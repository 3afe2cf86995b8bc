"""Asking for batches over HTTP: named, filtered, priced, capped, followed, stopped, and asked for once."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import requests
from eventually import eventually
from people import with_people
from served import ACME, GLOBEX, SUPER, Served, Slowly
from sqlalchemy import func, select

from sluiceway.store.schema import attempts, batch_caps, batches, runs, source_results


def ended(served: Served, batch_id: str, who: str = f"agent@{ACME}") -> dict[str, Any]:
    """Wait for a batch's end, and return how it stands then."""
    return eventually(lambda: said if (said := served.get(f"/batches/{batch_id}", who).json())["finished_at"] else None)


def count(served: Served, column: Any, *where: Any) -> int:
    with served.store.read() as connection:
        return connection.execute(select(func.count(column)).where(*where)).scalar_one()


def shared(served: Served, batch_id: str) -> int:
    """How many public documents a batch was the first to need: they are nobody's, and in no tenant's sums."""
    return count(served, attempts.c.id, attempts.c.batch_id == batch_id, attempts.c.tenant_id.is_(None))


def requests_sent(served: Served) -> int:
    """How many requests the sandbox has received."""
    return sum(provider["requests"] for provider in served.sandbox.meter()["providers"].values())


# One prospect.


def test_one_prospect_is_enriched_while_one_waits(served: Served) -> None:
    (prospect,) = with_people(served, 1)
    answer = served.post(f"/prospects/{prospect}/enrich", headers={"Prefer": "wait=20"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Preference-Applied"] == "wait"
    said = answer.json()
    assert said["enrichment_status"] == "complete"
    assert set(said["enrichment_source_status"]) == {"apollo", "contactout", "exa", "edgar", "claude"}
    assert all(status["at"] for status in said["enrichment_source_status"].values())
    assert said["fields"]["title"]["attempt_id"]


def test_nobody_who_does_not_wait_is_kept(served: Served) -> None:
    (prospect,) = with_people(served, 1)
    answer = served.post(f"/prospects/{prospect}/enrich")
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/api/v1/batches/{answer.json()['id']}"
    assert ended(served, answer.json()["id"])["done"] == 1


def test_who_waited_in_vain_gets_the_batch(served: Served, slowly: Slowly) -> None:
    (prospect,) = with_people(served, 1)
    slowly(1500)
    answer = served.post(f"/prospects/{prospect}/enrich", headers={"Prefer": "wait=1"})
    assert answer.status_code == 202
    assert ended(served, answer.json()["id"])["done"] == 1


@pytest.mark.parametrize("odd", ["wait=\xb2", "wait=-1", "wait=soon", "wait", "=", "wait=1e9"])
def test_an_odd_wish_to_wait_is_none(served: Served, odd: str) -> None:
    (prospect,) = with_people(served, 1)
    answer = served.post(f"/prospects/{prospect}/enrich", headers={"Prefer": odd.encode("latin-1")})
    assert answer.status_code == 202


def test_an_open_breaker_ends_a_request_somebody_waits_for(served: Served) -> None:
    first, second = with_people(served, 2)
    served.sandbox.post("/_answer", {"provider": "apollo", "status": 401, "times": 1})
    served.post(f"/prospects/{first}/enrich", {"sources": ["apollo"]})
    eventually(lambda: "apollo" in served.service.main.gate.stops)
    answer = served.post(f"/prospects/{second}/enrich", {"sources": ["apollo"]}, headers={"Prefer": "wait=20"})
    assert answer.json()["enrichment_source_status"]["apollo"]["status"] == "circuit_open"


# Many.


def test_the_prospects_of_a_filter_are_enriched_by_the_sources_named(served: Served) -> None:
    with_people(served, 30)
    theirs = with_people(served, 5, GLOBEX, seed=1)
    made = served.post("/batches", {"filter": {}, "sources": ["exa"], "name": "all of them"})
    assert made.status_code == 202, made.text
    said = ended(served, made.json()["id"])
    assert (said["state"], said["rows"], said["prospects"], said["done"]) == ("finished", 30, 30, 30)
    assert list(said["outcomes"]) == ["exa"]
    assert sum(said["outcomes"]["exa"].values()) == 30
    assert count(served, runs.c.id, runs.c.prospect_id.in_(theirs)) == 0


def test_what_was_spent_is_the_batch_s_and_its_key_s(served: Served) -> None:
    with_people(served, 8)
    made = served.post("/batches", {"filter": {}}).json()
    spent = ended(served, made["id"])["spent"]
    of_batch = (attempts.c.batch_id == made["id"], attempts.c.api_key_id.is_not(None), attempts.c.user_id.is_not(None))
    calls = sum(each["calls"] for each in spent.values())
    assert calls == count(served, attempts.c.id, *of_batch, attempts.c.tenant_id == ACME)
    assert calls + shared(served, made["id"]) == requests_sent(served)


def test_a_dry_run_says_the_price_and_asks_nobody(served: Served) -> None:
    named = with_people(served, 10)
    answer = served.post("/batches", {"prospects": named, "dry_run": True})
    assert answer.status_code == 200
    said = answer.json()
    assert said["prospects"] == 10
    assert said["sources"]["apollo"]["ask"] == 10
    assert said["usd_micros"] == sum(each["usd_micros"] for each in said["sources"].values()) > 0
    assert requests_sent(served) == 0
    assert served.get("/batches").json()["items"][0]["state"] == "uploaded"  # how the people came; no other was made


def test_the_words_somebody_was_looked_for_by_are_not_kept(served: Served) -> None:
    prospect = with_people(served, 3)[0]
    name = served.get(f"/prospects/{prospect}").json()["person"]["first_name"]
    said = ended(served, served.post("/batches", {"filter": {"text": name}, "sources": ["exa"]}).json()["id"])
    assert said["prospects"] >= 1
    with served.store.read() as connection:
        options = connection.execute(select(batches.c.options).where(batches.c.id == said["id"])).scalar_one()
    assert name not in options


def test_a_cap_holds_and_what_it_stopped_says_so(served: Served) -> None:
    with_people(served, 30)
    cap = {"usd": 0.5, "credits": {"apollo": 5}, "requests": {"exa": 3}}
    said = ended(served, served.post("/batches", {"filter": {}, "cap": cap}).json()["id"])
    spent = said["spent"]
    assert sum(each["usd_micros"] for each in spent.values()) <= 500_000
    assert spent["apollo"]["milli_credits"] == 5000
    assert spent["exa"]["calls"] == 3
    assert said["outcomes"]["exa"]["quota_exceeded"] >= 20
    with served.store.read() as connection:
        s = source_results.c
        why = set(connection.execute(select(s.error).where(s.source == "exa", s.status == "quota_exceeded")).scalars())
    assert why == {"the limit of 3 requests for this batch is used up"}


def test_a_cap_is_one_batch_s_alone(served: Served) -> None:
    first, second = with_people(served, 2)
    capped = {"prospects": [first], "sources": ["exa"], "cap": {"requests": {"exa": 0}}}
    said = ended(served, served.post("/batches", capped).json()["id"])
    assert said["outcomes"] == {"exa": {"quota_exceeded": 1}}
    said = ended(served, served.post("/batches", {"prospects": [second], "sources": ["exa"]}).json()["id"])
    assert "quota_exceeded" not in said["outcomes"]["exa"]
    assert count(served, batch_caps.c.unit) == 1


def test_two_batches_about_the_same_people_buy_nothing_twice(served: Served, slowly: Slowly) -> None:
    named = with_people(served, 20)
    slowly(50)
    made = [served.post("/batches", {"prospects": named}).json()["id"] for _ in range(3)]
    assert [ended(served, batch_id)["done"] for batch_id in made] == [20, 20, 20]
    assert served.sandbox.meter()["repeated_requests"] == 0


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({}, "exactly one of"),
        ({"filter": {}, "prospects": []}, "exactly one of"),
        ({"filter": {}, "sources": ["nobody"]}, "'nobody' is no source"),
        ({"filter": {}, "cap": {"credits": {"nobody": 1}}}, "'nobody' is no provider"),
        ({"filter": {}, "cap": {"usd": -1}}, "greater than or equal to 0"),
        ({"filter": {"mood": "good"}}, "Extra inputs"),
        ({"filter": {"created_from": "1/12/2099"}}, "filter.created_from: '1/12/2099' is no moment"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(served: Served, asked: dict[str, Any], says: str) -> None:
    answer = served.post("/batches", asked)
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert says in answer.json()["detail"]


def test_json_that_is_not_said_to_be_json_is_refused_with_what_to_do(served: Served) -> None:
    for kind in ("application/x-www-form-urlencoded", "text/plain"):
        answer = served.ask("POST", "/batches", data='{"filter": {}}', headers={"Content-Type": kind})
        assert answer.status_code == 422
        assert "`Content-Type: application/json`" in answer.json()["detail"]
    assert not served.post("/batches", {}).json()["detail"].startswith("body: Value error")


# Once.


def test_the_same_request_under_one_key_is_done_once(served: Served) -> None:
    named, key = with_people(served, 3), {"Idempotency-Key": "monday"}
    first = served.post("/batches", {"prospects": named}, headers=key)
    ended(served, first.json()["id"])
    again = served.post("/batches", {"prospects": named}, headers=key)
    assert (again.status_code, again.json()) == (202, first.json())
    other = served.post("/batches", {"prospects": named[:1]}, headers=key)
    assert other.status_code == 422
    assert "another request" in other.json()["detail"]
    theirs = served.post("/batches", {"filter": {}}, f"agent@{GLOBEX}", headers=key)
    assert theirs.status_code == 202


def test_many_at_once_under_one_key_make_one_batch(served: Served) -> None:
    named, answers = with_people(served, 3), []

    def ask() -> None:
        answers.append(served.post("/batches", {"prospects": named}, headers={"Idempotency-Key": "storm"}).json()["id"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(answers)) == 1
    assert len(answers) == 8


def test_waiting_again_under_one_key_asks_nobody_again(served: Served) -> None:
    (prospect,) = with_people(served, 1)
    headers = {"Idempotency-Key": "one", "Prefer": "wait=20"}
    first = served.post(f"/prospects/{prospect}/enrich", headers=headers)
    sent = requests_sent(served)
    again = served.post(f"/prospects/{prospect}/enrich", headers=headers)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    assert requests_sent(served) == sent


# Following and stopping.


def test_a_batch_is_followed_to_its_end(served: Served, slowly: Slowly) -> None:
    with_people(served, 40)
    slowly(100)
    batch_id = served.post("/batches", {"filter": {}}).json()["id"]
    url = f"{served.url}/api/v1/batches/{batch_id}/events"
    headers = {"Authorization": f"Bearer {served.keys[f'agent@{ACME}']}"}
    with requests.get(url, headers=headers, stream=True, timeout=30) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines(decode_unicode=True) if line]
    kinds = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    said = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert kinds[-1] == "finished"
    assert set(kinds[:-1]) == {"progress"}
    assert [each["done"] for each in said] == sorted(each["done"] for each in said)
    assert said[-1]["done"] == 40


def test_who_follows_a_batch_in_which_nothing_happens_is_told_so(
    served: Served, slowly: Slowly, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluiceway.api.batches._QUIET_LOOKS", 1)
    with_people(served, 40)
    slowly(300)
    batch_id = served.post("/batches", {"filter": {}}).json()["id"]
    served.post(f"/batches/{batch_id}/pause")
    eventually(lambda: _still(served))
    with served.get(f"/batches/{batch_id}/events", stream=True) as answer:
        assert any(line.startswith(b": ") for line in answer.iter_lines())
    described = served.app.openapi()["paths"]["/api/v1/batches/{batch_id}/events"]["get"]["responses"]
    assert "text/event-stream" in described["200"]["content"]


def test_a_paused_batch_begins_nothing_until_it_is_resumed(served: Served, slowly: Slowly) -> None:
    with_people(served, 120)
    slowly(300)
    batch_id = served.post("/batches", {"filter": {}}).json()["id"]
    eventually(lambda: requests_sent(served) > 20)
    assert served.post(f"/batches/{batch_id}/pause").json()["state"] == "paused"
    eventually(lambda: _still(served))
    assert served.get(f"/batches/{batch_id}").json()["done"] < 120
    slowly(0)
    assert served.post(f"/batches/{batch_id}/resume").json()["state"] == "running"
    assert ended(served, batch_id)["done"] == 120
    assert served.sandbox.meter()["repeated_requests"] == 0


def _still(served: Served) -> bool:
    """Whether nothing is in flight and nothing begins within a second."""
    sent = requests_sent(served)
    threading.Event().wait(1.0)
    return requests_sent(served) == sent and count(served, attempts.c.id, attempts.c.finished_at.is_(None)) == 0


def test_what_an_operator_paused_only_an_operator_resumes(served: Served, slowly: Slowly) -> None:
    with_people(served, 60)
    slowly(300)
    batch_id = served.post("/batches", {"filter": {}}).json()["id"]
    assert served.post(f"/batches/{batch_id}/pause", who=SUPER).json()["paused"] == "this batch is paused"
    for doing in ("resume", "pause"):
        answer = served.post(f"/batches/{batch_id}/{doing}", who=f"tenant_admin@{ACME}")
        assert (answer.status_code, "an operator has paused" in answer.json()["detail"]) == (409, True)
    slowly(0)
    assert served.post(f"/batches/{batch_id}/resume", who=SUPER).json()["paused"] is None
    assert ended(served, batch_id)["done"] == 60


def test_a_cancelled_batch_ends_and_keeps_what_was_bought(served: Served, slowly: Slowly) -> None:
    with_people(served, 120)
    slowly(300)
    batch_id = served.post("/batches", {"filter": {}}).json()["id"]
    eventually(lambda: requests_sent(served) > 20)
    assert served.post(f"/batches/{batch_id}/cancel").status_code == 202
    said = ended(served, batch_id)
    assert said["state"] == "cancelled"
    assert 0 < said["done"] < 120
    mine = runs.c.batch_id == batch_id
    assert count(served, runs.c.id, mine, runs.c.closed_at.is_(None)) == 0
    assert count(served, source_results.c.id, source_results.c.closed_at.is_(None)) == 0
    assert count(served, attempts.c.id, attempts.c.finished_at.is_(None)) == 0
    calls = sum(each["calls"] for each in said["spent"].values())
    assert calls + shared(served, batch_id) == requests_sent(served)
    assert served.post(f"/batches/{batch_id}/cancel").status_code == 409
    assert served.post(f"/batches/{batch_id}/resume").status_code == 409


def test_a_batch_that_was_not_begun_can_be_cancelled(served: Served) -> None:
    with_people(served, 3)
    batch_id = served.get("/batches").json()["items"][0]["id"]  # how the people came
    assert served.post(f"/batches/{batch_id}/cancel").status_code == 202
    assert ended(served, batch_id)["state"] == "cancelled"


def test_batches_are_listed_newest_first_and_page_by_page(served: Served) -> None:
    (prospect,) = with_people(served, 1)
    made = [served.post("/batches", {"prospects": [prospect], "name": str(n)}).json()["id"] for n in range(4)]
    first = served.get("/batches?limit=3").json()
    second = served.get(f"/batches?limit=3&cursor={first['next_cursor']}").json()
    assert [line["id"] for line in first["items"] + second["items"]][:4] == made[::-1]
    assert second["next_cursor"] is None
    assert served.get("/batches?cursor=nonsense").status_code == 422


# Whose.


@pytest.mark.parametrize("path", ["", "/rejects", "/events"])
def test_another_tenant_s_batch_is_not_there(served: Served, path: str) -> None:
    with_people(served, 1)
    batch_id = served.get("/batches").json()["items"][0]["id"]
    theirs = served.get(f"/batches/{batch_id}{path}", f"tenant_admin@{GLOBEX}")
    nobodys = served.get(f"/batches/nobodys{path}", f"tenant_admin@{GLOBEX}")
    assert theirs.status_code == nobodys.status_code == 404
    assert theirs.text.replace(batch_id, "nobodys") == nobodys.text


def test_another_tenant_s_prospects_cannot_be_asked_about(served: Served) -> None:
    (prospect,) = with_people(served, 1)
    for path, said in ((f"/prospects/{prospect}/enrich", None), ("/batches", {"prospects": [prospect]})):
        assert served.post(path, said, f"agent@{GLOBEX}").status_code == 404
    assert requests_sent(served) == 0


def test_an_assistant_reads_and_spends_nothing(served: Served) -> None:
    (prospect,) = with_people(served, 1)
    assert served.get(f"/prospects/{prospect}", f"assistant@{ACME}").status_code == 200
    assert served.post(f"/prospects/{prospect}/enrich", who=f"assistant@{ACME}").status_code == 403


def test_a_super_admin_says_for_which_tenant(served: Served) -> None:
    (prospect,) = with_people(served, 1)
    assert served.post("/batches", {"prospects": [prospect]}, "super").status_code == 422
    assert served.post("/batches?tenant=nobodys", {"prospects": [prospect]}, "super").status_code == 404
    made = served.post(f"/batches?tenant={ACME}", {"prospects": [prospect]}, "super")
    assert made.json()["tenant_id"] == ACME


def test_whoever_shows_nothing_gets_nothing(served: Served) -> None:
    answer = served.get("/batches", None)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert served.get("/batches", None, headers={"Authorization": "Bearer slw_live_forged"}).status_code == 401
