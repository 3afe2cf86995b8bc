"""Searching for people and importing them: one accountable call, once for each key, and nobody else sees it."""

from __future__ import annotations

from typing import Any

import pytest
from eventually import eventually
from people import with_people
from served import ACME, GLOBEX, SUPER, Served, serving
from sqlalchemy import select

from builders import locked, until
from sluiceway.rights.erasure import BY_REQUEST, Why, erase
from sluiceway.sandbox.process import SandboxProcess
from sluiceway.store.engine import Store
from sluiceway.store.schema import activity, attempts, idempotency_keys, prospects
from sluiceway.store.secret import SecretKey
from sluiceway.tenancy.credentials import set_credential
from sluiceway.usage.quota import Quota, QuotaClock, Unit, set_quota

CFOS = {"titles": ["Chief Financial Officer"], "per_page": 5}
KEYED = {"Idempotency-Key": "search-1"}
ENDPOINT = "mixed_people/api_search"


def calls(served: Served) -> list[Any]:
    """Every call to Apollo that the ledger knows."""
    with served.store.read() as connection:
        return list(connection.execute(select(attempts).where(attempts.c.provider == "apollo")))


def metered(served: Served) -> Any:
    """What Apollo's own meter shows."""
    return served.sandbox.meter()["providers"]["apollo"]


def recorded(served: Served, action: str) -> list[Any]:
    """What users did of one kind."""
    with served.store.read() as connection:
        return list(connection.execute(select(activity).where(activity.c.action == action)))


def found(served: Served, **asked: Any) -> list[dict[str, Any]]:
    """People whom a search finds."""
    answer = served.post("/searches", {**CFOS, **asked})
    assert answer.status_code == 200, answer.text
    people: list[dict[str, Any]] = answer.json()["people"]
    return people


def imported(served: Served, people: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What became of people who were to be imported."""
    answer = served.post("/prospects/import", {"people": people})
    assert answer.status_code == 201, answer.text
    became: list[dict[str, Any]] = answer.json()["people"]
    return became


def answer_next(served: Served, **wanted: Any) -> None:
    """Have Apollo give one answer that is not its own."""
    served.sandbox.post("/_answer", {"provider": "apollo", **wanted})


# Searching.


def test_a_search_is_one_free_call_with_a_row_of_its_own(served: Served) -> None:
    answer = served.post("/searches", CFOS)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert said["total"] > 5 == len(said["people"])
    assert all("***" in person["last_name_obfuscated"] for person in said["people"])
    (call,) = calls(served)
    assert (call.id, call.endpoint, call.charge, call.result) == (said["attempt_id"], ENDPOINT, "free", "complete")
    assert (call.milli_credits, call.usd_micros) == (0, 0)
    assert (call.tenant_id, call.user_id, call.trigger) == (ACME, served.users[f"agent@{ACME}"].id, "api")
    assert call.api_key_id
    assert (call.prospect_id, call.source_result_id, call.batch_id) == (None, None, None)
    assert (metered(served)["requests"], metered(served)["billed"]) == (1, 0)
    assert [event.user_id for event in recorded(served, "search_executed")] == [call.user_id]


def test_a_search_that_finds_nobody_is_answered(served: Served) -> None:
    said = served.post("/searches", {"keywords": "nobodyofthisname"}).json()
    assert (said["total"], said["people"]) == (0, [])
    assert [call.result for call in calls(served)] == ["no_data"]


def test_the_same_key_makes_one_call_by_the_providers_own_meter(served: Served) -> None:
    first, again = (served.post("/searches", CFOS, headers=KEYED) for _ in range(2))
    assert first.json() == again.json()
    assert metered(served)["requests"] == len(calls(served)) == 1
    assert len(recorded(served, "search_executed")) == 1
    other = served.post("/searches", {**CFOS, "page": 2}, headers=KEYED)
    assert (other.status_code, metered(served)["requests"]) == (422, 1)


def test_a_key_is_its_tenants(served: Served) -> None:
    served.post("/searches", CFOS, headers=KEYED)
    served.post("/searches", CFOS, f"agent@{GLOBEX}", headers=KEYED)
    assert sorted(call.tenant_id for call in calls(served)) == [ACME, GLOBEX]


def test_a_search_that_was_cut_off_is_not_sent_again(served: Served) -> None:
    served.post("/searches", CFOS, headers=KEYED)
    with served.store.change() as connection:
        connection.execute(idempotency_keys.update().values(status=None, answer=None, worker_id="a dead one"))
    answer = served.post("/searches", CFOS, headers=KEYED)
    assert (answer.status_code, metered(served)["requests"]) == (409, 1)
    assert "cut off" in answer.json()["detail"]


def test_a_lost_answer_is_unknown_and_is_what_the_key_answers(store: Store, sandbox: SandboxProcess) -> None:
    with serving(store, sandbox, timeout_s={"apollo": 0.5}) as served:
        answer_next(served, delay_s=5.0, body="{}")
        answers = [served.post("/searches", CFOS, headers=KEYED) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [503, 503]
        assert answers[0].json() == answers[1].json()
        assert answers[1].headers["content-type"] == "application/problem+json"
        (call,) = calls(served)
        assert (call.charge, call.result, metered(served)["requests"]) == ("unknown", "timed_out", 1)
        assert call.id in answers[0].json()["detail"]


def test_a_key_that_a_locked_store_could_not_take_is_free_afterwards(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluiceway.api.world._PATIENCE_S", 0.5)
    with locked(served.store):
        assert served.post("/searches", CFOS, headers=KEYED).status_code == 503
    eventually(lambda: served.post("/searches", CFOS, headers=KEYED).status_code == 200, within=5)
    assert metered(served)["requests"] == 1


def test_a_search_that_never_left_is_not_sent_and_gives_its_key_back(store: Store, sandbox: SandboxProcess) -> None:
    nowhere = {"apollo": "http://127.0.0.1:9"}
    with serving(store, sandbox, base_urls=nowhere, apollo_api_key="a-key") as served:
        for _ in range(2):
            assert served.post("/searches", CFOS, headers=KEYED).status_code == 503
        assert [call.charge for call in calls(served)] == ["not_sent", "not_sent"]
        assert metered(served)["requests"] == 0


@pytest.mark.parametrize(
    ("given", "status", "charge"),
    [
        ({"status": 500, "body": "{}"}, 503, "free"),
        ({"status": 429, "body": "{}", "headers": {"retry-after": "7200"}}, 503, "free"),
        ({"status": 403, "body": "{}"}, 503, "free"),
        ({"status": 422, "body": '{"error": "page is too large"}'}, 422, "free"),
        ({"status": 200, "body": '{"people": "none"}'}, 503, "unknown"),
    ],
)
def test_a_refusal_is_a_problem_and_apollo_is_asked_about_people_all_the_same(
    served: Served, given: dict[str, Any], status: int, charge: str
) -> None:
    answer_next(served, **given)
    answer = served.post("/searches", CFOS)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    assert ("Retry-After" in answer.headers) == (given["status"] == 429)
    assert [call.charge for call in calls(served)] == [charge]
    assert served.service.main.gate.stops == {}
    assert recorded(served, "search_executed") == []


def test_a_refused_key_stops_apollo_and_the_next_search_is_not_sent(served: Served) -> None:
    answer_next(served, status=401, body="Invalid API key.")
    assert served.post("/searches", CFOS).status_code == 503
    again = served.post("/searches", CFOS, headers=KEYED)
    assert again.status_code == 503
    assert "not sent" in again.json()["detail"]
    assert metered(served)["requests"] == len(calls(served)) == 1
    with served.store.read() as connection:
        assert connection.execute(select(idempotency_keys)).all() == []


def test_a_used_up_limit_is_a_429_and_nothing_is_sent(served: Served) -> None:
    with served.store.change() as connection:
        one_a_day = Quota("apollo", Unit.REQUESTS, QuotaClock.DAY, 1)
        set_quota(connection, one_a_day, by="test", now=served.store.clock.stamp())
    assert served.post("/searches", CFOS).status_code == 200
    answer = served.post("/searches", CFOS)
    assert (answer.status_code, metered(served)["requests"]) == (429, 1)
    assert answer.json()["retry_at"]
    assert int(answer.headers["Retry-After"]) > 0


async def test_a_tenant_is_not_told_who_paused_a_provider_and_why(served: Served) -> None:
    asked = {"what": "provider", "name": "apollo", "reason": "invoice in question"}
    assert served.post("/api/admin/pauses", asked, SUPER).status_code == 201
    await until(lambda: not served.service.main.gate.is_open("apollo"))
    answer = served.post("/searches", CFOS)
    assert (answer.status_code, answer.json()["detail"]) == (503, "not sent: provider apollo is paused")
    (prospect_id,) = with_people(served, 1)
    asked_for = served.post(f"/prospects/{prospect_id}/enrich").json()
    await until(lambda: "waiting" in served.get(f"/batches/{asked_for['id']}").json()["outcomes"].get("apollo", {}))
    (run,) = served.get(f"/prospects/{prospect_id}/runs").json()["items"]
    said = served.get(f"/runs/{run['id']}").text
    assert "provider apollo is paused" in said
    assert "invoice" not in said
    assert served.users[SUPER].id not in said


def test_what_may_be_somebodys_name_is_in_no_error(served: Served) -> None:
    answer_next(served, status=422, body='{"error": "nothing for Okafor-Lind"}')
    answer = served.post("/searches", {"keywords": "Ines Okafor-Lind"})
    assert "Okafor" not in answer.text
    assert [call.error for call in calls(served)] == ["HTTP 422: nothing for [person]"]


def test_without_a_key_it_is_said_which_setting_is_missing(store: Store, sandbox: SandboxProcess) -> None:
    with serving(store, sandbox, base_urls={"apollo": f"{sandbox.url}/apollo/api/v1"}) as served:
        answer = served.post("/searches", CFOS)
        assert answer.status_code == 503
        assert "APOLLO_API_KEY" in answer.json()["detail"]
        assert calls(served) == []


async def test_a_tenant_with_a_key_of_its_own_searches_with_that(store: Store, sandbox: SandboxProcess) -> None:
    secret = "s" * 40
    with serving(store, sandbox, secret_key=secret) as served:
        with store.change() as connection:
            now = store.clock.now()
            own = set_credential(connection, ACME, "apollo", "sandbox-acme", SecretKey(secret), by="test", now=now)
        await until(lambda: served.service.main.own(ACME))
        for who in (f"agent@{ACME}", f"agent@{GLOBEX}"):
            assert served.post("/searches", CFOS, who).status_code == 200
        made = {(call.tenant_id, call.credential_id) for call in calls(served)}
        assert made == {(ACME, own.id), (GLOBEX, "platform")}


# Importing.


def test_search_import_view_and_enrich_with_apollo_answering_by_its_id(served: Served) -> None:
    person = found(served)[0]
    (became,) = imported(served, [person])
    assert became["outcome"] == "imported"
    path = f"/prospects/{became['prospect_id']}"
    assert served.get(path).json()["person"] == {
        "first_name": person["first_name"],
        "company": person["company"],
        "title": person["title"],
        "apollo_id": person["apollo_id"],
    }
    answer = served.post(f"{path}/enrich", headers={"Prefer": "wait=20"})
    assert answer.status_code == 200, answer.text
    said = answer.json()
    statuses = {source: each["status"] for source, each in said["enrichment_source_status"].items()}
    assert statuses["apollo"] == "complete"
    assert {statuses[source] for source in ("contactout", "exa", "edgar")} == {"skipped"}
    assert said["fields"]["title"]["value"] == person["title"]
    made = {call.endpoint: call.charge for call in calls(served)}
    assert made == {ENDPOINT: "free", "people/match": "billed"}
    meter = metered(served)
    assert (meter["requests"], meter["billed"], meter["repeated_requests"]) == (2, 1, 0)
    assert [event.target for event in recorded(served, "prospect_imported")] == [became["prospect_id"]]


def test_importing_again_tells_who_is_known_and_costs_nothing(served: Served) -> None:
    people = found(served)
    before = metered(served)["requests"]
    first = imported(served, [people[0], people[0], people[1]])
    assert [each["outcome"] for each in first] == ["imported", "known", "imported"]
    again = imported(served, people[:3])
    assert [each["outcome"] for each in again] == ["known", "known", "imported"]
    assert [each["prospect_id"] for each in again[:2]] == [first[0]["prospect_id"], first[2]["prospect_id"]]
    assert len(recorded(served, "prospect_imported")) == 3
    assert metered(served)["requests"] == before


def test_two_people_of_one_first_name_at_one_employer_are_two_prospects(served: Served) -> None:
    same = {"first_name": "Ines", "company": "Harbourline Robotics"}
    became = imported(served, [{**same, "apollo_id": "66f0a1"}, {**same, "apollo_id": "66f0a2"}])
    assert len({each["prospect_id"] for each in became}) == 2
    with served.store.read() as connection:
        keys = set(connection.execute(select(prospects.c.identity_key)).scalars())
    assert keys == {"apollo:66f0a1", "apollo:66f0a2"}


def test_who_was_erased_is_refused_when_imported_again_and_a_colleague_of_the_same_name_is_not(served: Served) -> None:
    (person, *_) = served.post("/searches", CFOS, headers=KEYED).json()["people"]
    (became,) = imported(served, [person])
    suppressions, now = served.service.main.suppressions, served.store.clock.stamp()
    with served.store.change() as connection:
        erase(connection, [became["prospect_id"]], Why(BY_REQUEST, "test", now, suppress=True), suppressions)
    colleague = {**person, "apollo_id": "66f0a1b2c3d4e5f600000000"}
    before = metered(served)["requests"]
    assert [each["outcome"] for each in imported(served, [person, colleague])] == ["suppressed", "imported"]
    assert metered(served)["requests"] == before
    with served.store.read() as connection:
        for table in (prospects, idempotency_keys):
            assert person["apollo_id"] not in str(connection.execute(select(table)).all())


def test_other_tenants_see_nothing_of_a_search_or_an_import(served: Served) -> None:
    person = found(served)[0]
    (became,) = imported(served, [person])
    other = f"agent@{GLOBEX}"
    assert served.get(f"/prospects/{became['prospect_id']}", other).status_code == 404
    theirs = served.post("/prospects/import", {"people": [person]}, other).json()["people"][0]
    assert theirs["outcome"] == "imported"
    assert theirs["prospect_id"] != became["prospect_id"]


def test_who_reads_only_may_neither_search_nor_import(served: Served) -> None:
    who = f"assistant@{ACME}"
    person = {"apollo_id": "66f0a1"}
    assert served.post("/searches", CFOS, who).status_code == 403
    assert served.post("/prospects/import", {"people": [person]}, who).status_code == 403
    assert calls(served) == []


def test_what_cannot_be_an_id_at_apollo_is_refused(served: Served) -> None:
    for people in ([], [{"apollo_id": ""}], [{"apollo_id": "two words"}], [{"apollo_id": "x"}] * 101, [{}]):
        assert served.post("/prospects/import", {"people": people}).status_code == 422


async def test_searches_wait_their_turn_with_everything_else_that_asks_apollo(served: Served) -> None:
    gate = served.service.main.gate
    served.app.state.loop.call_soon_threadsafe(gate.stop, "apollo", "resting", None)
    await until(lambda: "apollo" in gate.stops)
    answer = served.post("/searches", CFOS)
    assert (answer.status_code, answer.json()["detail"]) == (503, "not sent: resting")
