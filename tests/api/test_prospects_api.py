"""People over HTTP: taken in once, listed in pages, and erased so that nothing is left and nobody asks again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from people import with_people
from served import ACME, GLOBEX, SUPER, Served, serving
from sqlalchemy import select

from acceptance.desk import until
from acceptance.test_canaries import traces
from builders import a_prospect, rows
from planted import EMAIL, EMPLOYER, FIRST, FOUND_EMAIL, LAST, PHONE, PROFILE, plant
from planted import TRACES as TRACES_OF_THEM
from sluiceway import activity, rollups
from sluiceway.pipeline.once import Key, claim, settle
from sluiceway.prospect import Person
from sluiceway.rights.erasure import BY_REQUEST, Why, erase, traces_since
from sluiceway.rights.suppression import opened_list
from sluiceway.sandbox.process import SandboxProcess
from sluiceway.store.engine import Store
from sluiceway.store.schema import activity as activity_table
from sluiceway.store.schema import audit, prospects

ADMIN, ASSISTANT, AGENT = f"tenant_admin@{ACME}", f"assistant@{ACME}", f"agent@{ACME}"
INES = {"first_name": "Ines", "last_name": "Okafor", "company": "Harbourline", "email": "ines@harbourline.example"}


def test_somebody_is_taken_in_once_and_facts_are_added_but_never_replaced(served: Served) -> None:
    made = served.post("/prospects", {**INES, "external_id": "crm-1"})
    assert made.status_code == 201, made.text
    prospect = made.json()
    assert made.headers["Location"] == f"/api/v1/prospects/{prospect['id']}"
    assert (prospect["tenant_id"], prospect["external_id"], prospect["enrichment_status"]) == (ACME, "crm-1", "none")
    assert served.get(f"/prospects/{prospect['id']}").json() == prospect

    again = served.post("/prospects", {"external_id": "crm-1", "title": "CFO", "company": "Harbourline, Inc."})
    assert again.status_code == 200, again.text
    assert again.json()["person"] == {**INES, "title": "CFO"}
    by_identity = served.post("/prospects", {"email": "INES@harbourline.example", "external_id": "crm-2", "title": "X"})
    assert by_identity.status_code == 200
    assert by_identity.json() == again.json(), "a prospect keeps its external_id and what is known"
    assert [row["action"] for row in rows(served.store, activity_table)].count("prospect_imported") == 1


def test_an_external_id_that_is_another_persons_is_a_conflict(served: Served) -> None:
    first = served.post("/prospects", {**INES, "external_id": "crm-1"}).json()
    other = {"full_name": "Tomas Rell", "company": "Quell", "external_id": "crm-1"}
    for said in (other, {**INES, "email": "tomas@quell.example", "external_id": "crm-1"}):
        refused = served.post("/prospects", said)
        assert refused.status_code == 409, refused.text
        assert "another person's" in refused.json()["detail"]
    second = served.post("/prospects", {**other, "external_id": "crm-2"}).json()
    mixed_up = served.post("/prospects", other)
    assert mixed_up.status_code == 409
    assert second["id"] in mixed_up.json()["detail"]
    assert served.get(f"/prospects/{first['id']}").json() == first
    assert served.post("/prospects", {**other}, f"agent@{GLOBEX}").status_code == 201, "other tenants have their own"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"first_name": "Ines"}, "needs a LinkedIn URL"),
        ({"external_id": "crm-9", "title": "CFO"}, "needs a LinkedIn URL"),
        ({**INES, "email": "not an address"}, "e-mail is not an address"),
        ({**INES, "linkedin_url": "https://linkedin.com/company/x"}, "profile"),
        ({**INES, "company": "Har\0bour"}, "NUL"),
        ({**INES, "salary": "1"}, "salary"),
        ({**INES, "title": "x" * 1001}, "title"),
    ],
)  # fmt: skip
def test_what_does_not_tell_who_it_is_is_refused_with_a_sentence(served: Served, said: Any, why: str) -> None:
    refused = served.post("/prospects", said)
    assert refused.status_code == 422
    assert why in refused.json()["detail"]
    assert rows(served.store, prospects) == []


def test_of_many_each_is_told_what_became_of_them(served: Served) -> None:
    assert served.post("/suppressions", {"values": ["sup@pressed.example"]}, ADMIN).status_code == 200
    crowd = [{"email": f"p{number}@crowd.example"} for number in range(120)]
    strange = [
        crowd[0],
        {"first_name": "Nobody"},
        {"email": "SUP+tag@pressed.example", "external_id": "crm-7"},
        {"email": "first@x.example", "external_id": "crm-8"},
        {"email": "second@x.example", "external_id": "crm-8"},
    ]
    answer = served.post("/prospects/bulk", {"prospects": crowd + strange})
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert said["counts"] == {"made": 121, "known": 1, "rejected": 2, "suppressed": 1}
    assert [item["number"] for item in said["items"]] == list(range(125))
    assert [item["fate"] for item in said["items"][120:]] == ["known", "rejected", "suppressed", "made", "rejected"]
    assert said["items"][120]["id"] == said["items"][0]["id"]
    assert "needs a LinkedIn URL" in said["items"][121]["reason"]
    assert "another person's" in said["items"][124]["reason"]
    assert len(rows(served.store, prospects)) == 121

    again = served.post("/prospects/bulk", {"prospects": crowd + strange}).json()
    assert again["counts"] == {"made": 0, "known": 122, "rejected": 2, "suppressed": 1}
    with served.store.read() as connection:
        assert list(rollups.drifts(connection)) == []
        assert activity.drifts(connection) == []
    too_many = served.post("/prospects/bulk", {"prospects": [INES] * 501})
    assert too_many.status_code == 422


def test_somebody_on_a_list_is_not_taken_in_and_other_tenants_lists_are_nobodys_business(served: Served) -> None:
    served.post("/suppressions", {"values": [INES["email"]]}, f"tenant_admin@{GLOBEX}")
    assert served.post("/prospects", INES).status_code == 201
    of_all = {"full_name": "Tomas Rell", "email": "tomas@quell.example"}
    served.post("/suppressions", {"values": ["quell.example"]}, SUPER)
    refused = served.post("/prospects", of_all)
    assert refused.status_code == 409
    assert "suppression list" in refused.json()["detail"]
    assert len(rows(served.store, prospects)) == 1


def test_a_list_comes_in_pages_oldest_first_and_filtered(served: Served) -> None:
    ids = sorted(with_people(served, 7))
    with_people(served, 2, GLOBEX, seed=3)
    listed, cursor = [], ""
    while cursor is not None:
        page = served.get(f"/prospects?limit=3{cursor and f'&cursor={cursor}'}").json()
        listed += [each["id"] for each in page["items"]]
        cursor = page["next_cursor"]
    assert listed == ids
    first = served.post(f"/prospects/{ids[0]}/enrich", headers={"Prefer": "wait=20"}).json()

    def found(query: str, who: str = AGENT) -> list[str]:
        answer = served.get(f"/prospects?{query}", who)
        assert answer.status_code == 200, answer.text
        return [each["id"] for each in answer.json()["items"]]

    apollo = first["enrichment_source_status"]["apollo"]["status"]
    assert found(f"source=apollo&source_status={apollo}") == [ids[0]]
    assert found(f"enrichment_status=complete&enrichment_status={first['enrichment_status']}") == [ids[0]]
    assert found("enrichment_status=none") == ids[1:]
    assert ids[0] in found(f"text={first['person']['company'][:6].upper()}")
    assert found("text=%25%25") == []
    assert found(f"created_from={first['created_at'].replace('Z', '%2B00:00')}") == ids
    assert found(f"created_to={first['created_at']}") == []
    assert found("external_id=none-such") == []
    assert len(found("limit=100", SUPER)) == 9
    assert len(found(f"tenant={GLOBEX}", SUPER)) == 2
    for refused in ("source=exa", "created_from=yesterday", "cursor=x", "source=%22&source_status=x"):
        assert served.get(f"/prospects?{refused}").status_code == 422, refused


def test_of_somebody_suppressed_nothing_is_shown_that_was_found(served: Served) -> None:
    (prospect,) = with_people(served, 1)
    held = served.post(f"/prospects/{prospect}/enrich", headers={"Prefer": "wait=20"}).json()
    assert held["fields"]
    assert not held["suppressed"]
    person = held["person"]
    named = {"people": [{"name": person.get("full_name") or f"{person['first_name']} {person['last_name']}",
                         "company": person["company"]}]}  # fmt: skip
    assert served.post("/suppressions", named, ADMIN).json()["added"] == 1
    for shown in (served.get(f"/prospects/{prospect}").json(), served.get("/prospects").json()["items"][0]):
        assert shown["suppressed"]
        assert shown["fields"] == {}
        assert shown["person"] == person
    assert served.post("/suppressions/remove", named, ADMIN).json()["removed"] == 1
    assert served.get(f"/prospects/{prospect}").json() == held


# Erasing.

TRACES = (*TRACES_OF_THEM, "crm4711")
PLANTED = {"first_name": FIRST, "last_name": LAST, "email": EMAIL, "company": EMPLOYER, "external_id": "crm-4711"}
ALL_WANTED = {"want": ["work_email", "personal_email", "phone"]}


@pytest.fixture
def planted(served: Served) -> str:
    """Somebody of whom Apollo and ContactOut know all there is to know, enriched; returns the prospect's id."""
    plant(served.sandbox)
    prospect: str = served.post("/prospects", PLANTED).json()["id"]
    key = {"Prefer": "wait=20", "Idempotency-Key": "once"}
    enriched = served.post(f"/prospects/{prospect}/enrich", ALL_WANTED, headers=key)
    assert enriched.status_code == 200, enriched.text
    assert enriched.json()["fields"]["phone"]["value"] == PHONE
    return prospect


def in_tables(served: Served) -> Iterator[tuple[str, str, list[str]]]:
    with closing(sqlite3.connect(path_of(served))) as ledger:
        for (table,) in ledger.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            found = ledger.execute(f'SELECT * FROM "{table}"')
            columns = [column for column, *_ in found.description]
            for row in found:
                for column, value in zip(columns, row, strict=True):
                    if what := traces(str(value), TRACES):
                        yield table, column, what


def in_files(served: Served) -> dict[str, list[str]]:
    """What is left in the store's own files, whatever part of them is in use."""
    path = path_of(served)
    files = [each for each in path.parent.glob(f"{path.name}*") if each.is_file()]
    raw = {each.name: traces(each.read_bytes().decode("latin-1"), TRACES) for each in files}
    return {name: what for name, what in raw.items() if what}


def path_of(served: Served) -> Path:
    return Path(served.store.url.removeprefix("sqlite:///"))


SUMS = (
    "SELECT * FROM daily_totals ORDER BY 1, 2",
    "SELECT * FROM usage_days ORDER BY 1, 2, 3, 4, 5",
    "SELECT * FROM usage_hours ORDER BY 1, 2, 3, 4, 5",
    "SELECT * FROM provider_hours ORDER BY 1, 2, 3",
    "SELECT * FROM tenant_days ORDER BY 1, 2, 3",
    "SELECT provider, charge, count(*), sum(milli_credits), sum(usd_micros) FROM attempts GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT source, status, count(*) FROM source_results GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT * FROM outcome_days ORDER BY 1, 2, 3",
)


def sums(served: Served) -> list[list[Any]]:
    """Every sum over calls and outcomes, as the store has it."""
    with closing(sqlite3.connect(path_of(served))) as ledger:
        return [ledger.execute(query).fetchall() for query in SUMS]


def test_nothing_of_a_deleted_person_is_left_no_sum_moves_and_nobody_asks_again(served: Served, planted: str) -> None:
    others = with_people(served, 5)
    batch = served.post("/batches", {"prospects": others}).json()["id"]
    until(lambda: served.get(f"/batches/{batch}").json()["state"] == "finished")
    assert served.get(f"/prospects/{planted}").status_code == 200
    until(lambda: "profile_viewed" in {row["action"] for row in rows(served.store, activity_table)})
    reported = served.get(f"/prospects/{planted}/report", ADMIN).json()
    assert {"phone", "work_email", "personal_email", "linkedin_url"} <= {each["field"] for each in reported["values"]}
    done = {each["action"] for each in reported["done"]}
    assert done == {"profile_viewed", "profile_enriched", "prospect_imported"}
    assert len(reported["calls"]) >= 2
    runs = served.get(f"/prospects/{planted}/runs").json()["items"]
    assert set(dict.fromkeys(table for table, _, _ in in_tables(served))) >= {"prospects", "answers"}
    assert in_files(served)
    before, metered = sums(served), served.sandbox.meter()

    deleted = served.ask("DELETE", f"/prospects/{planted}", ADMIN)
    assert deleted.status_code == 200, deleted.text
    said = deleted.json()
    assert said["id"] == planted
    assert said["calls_kept"] == len(reported["calls"])
    assert said["suppressed"] >= 3
    assert said["file_rewritten"]
    assert list(in_tables(served)) == []
    assert in_files(served) == {}
    assert sums(served) == before
    assert planted not in {row["target"] for row in rows(served.store, activity_table)}
    (erased,) = [row for row in rows(served.store, audit) if row["action"] == "prospect.erase"]
    assert (erased["actor"], erased["tenant_id"]) == (f"user:{served.users[ADMIN].id}", ACME)
    assert [row["action"] for row in rows(served.store, activity_table)].count("prospect_deleted") == 1

    for gone in ("", "/report", "/runs"):
        assert served.get(f"/prospects/{planted}{gone}", ADMIN).status_code == 404
    assert served.get(f"/runs/{runs[0]['id']}").status_code == 404
    assert served.ask("DELETE", f"/prospects/{planted}", ADMIN).status_code == 404
    assert sorted(each["id"] for each in served.get("/prospects").json()["items"]) == sorted(others)
    assert served.get("/prospects?text=quorvane").json()["items"] == []

    again = [
        PLANTED,
        {"full_name": "Zuleika QUINT ORSTED", "company": f"{EMPLOYER}, Inc."},
        {"linkedin_url": f"{PROFILE}/?x=1"},
        {"email": FOUND_EMAIL.upper()},
    ]
    for person in again:
        assert served.post("/prospects", person).status_code == 409
    assert served.post("/prospects/bulk", {"prospects": again}).json()["counts"]["suppressed"] == 4
    for who in (again[0], again[2]):
        values = [who.get("email") or who["linkedin_url"]]
        assert served.post("/suppressions/check", {"values": values}, ADMIN).json()["suppressed"]
    everybody = served.post("/batches", {"filter": {}, "refresh": False}).json()["id"]
    until(lambda: served.get(f"/batches/{everybody}").json()["state"] == "finished")
    assert served.sandbox.meter() == metered
    assert list(in_tables(served)) == []
    assert in_files(served) == {}
    with served.store.read() as connection:
        assert list(rollups.drifts(connection)) == []
        assert activity.drifts(connection) == []


def test_somebody_deleted_without_being_suppressed_may_be_taken_in_again(served: Served) -> None:
    (prospect,) = with_people(served, 1)
    said = served.get(f"/prospects/{prospect}").json()["person"]
    deleted = served.ask("DELETE", f"/prospects/{prospect}?suppress=false", ADMIN)
    assert deleted.status_code == 200
    assert deleted.json()["suppressed"] == 0
    assert served.post("/prospects", said).status_code == 201


def test_others_neither_delete_nor_learn_that_there_is_somebody(served: Served) -> None:
    (prospect,) = with_people(served, 1)
    for path, method in (("", "DELETE"), ("/report", "GET"), ("/runs", "GET")):
        stranger = served.ask(method, f"/prospects/{prospect}{path}", f"tenant_admin@{GLOBEX}")
        nobody = served.ask(method, f"/prospects/{'0' * 32}{path}", f"tenant_admin@{GLOBEX}")
        assert stranger.status_code == nobody.status_code == 404
        assert stranger.json()["detail"].replace(prospect, "0" * 32) == nobody.json()["detail"]
    for who in (AGENT, ASSISTANT):
        assert served.ask("DELETE", f"/prospects/{prospect}", who).status_code == 403
        assert served.get(f"/prospects/{prospect}/report", who).status_code == 403
    assert served.post("/prospects", INES, ASSISTANT).status_code == 403
    assert served.post("/prospects", INES, SUPER).status_code == 422
    assert served.post(f"/prospects?tenant={ACME}", INES, SUPER).status_code == 201
    assert served.ask("DELETE", f"/prospects/{prospect}", SUPER).status_code == 200


def test_an_answer_kept_for_a_key_goes_with_the_erased_and_the_key_stays_used(served: Served) -> None:
    (prospect,) = with_people(served, 1)
    key = Key(ACME, "POST /api/v1/search", "once", "digest")
    now = served.store.clock.stamp()
    with served.store.change() as connection:
        assert claim(connection, key, "worker", now) is None
        settle(connection, key, 200, f'{{"name": "{FIRST} {LAST}"}}'.encode())
    assert list(in_tables(served))
    assert served.ask("DELETE", f"/prospects/{prospect}", ADMIN).status_code == 200
    assert list(in_tables(served)) == []
    assert in_files(served) == {}
    with served.store.change() as connection, pytest.raises(Exception, match="people were erased since"):
        claim(connection, key, "worker", now)


def test_requests_are_answered_while_people_are_erased(served: Served) -> None:
    ids = with_people(served, 6)
    batch = served.post("/batches", {"prospects": ids}).json()["id"]
    for prospect in ids[:3]:
        deleted = served.ask("DELETE", f"/prospects/{prospect}", ADMIN)
        assert deleted.status_code == 200, deleted.text
        assert served.get("/prospects").status_code == 200
    until(lambda: served.get(f"/batches/{batch}").json()["state"] == "finished")
    with served.store.read() as connection:
        assert set(connection.execute(select(prospects.c.id)).scalars()) == set(ids[3:])
        assert list(rollups.drifts(connection)) == []


def test_what_an_earlier_process_left_in_the_file_is_gone_after_the_service_started(
    store: Store, sandbox: SandboxProcess
) -> None:
    prospect = a_prospect(store, Person(full_name=f"{FIRST} {LAST}", company=EMPLOYER))
    suppressions, why = opened_list(store), Why(BY_REQUEST, "somebody", store.clock.stamp(), suppress=False)
    with store.change() as connection:
        erase(connection, [prospect], why, suppressions)
        assert traces_since(connection)

    def is_clean() -> bool:
        with store.read() as connection:
            return traces_since(connection) is None

    with serving(store, sandbox) as served:
        until(is_clean)
        assert in_files(served) == {}
