"""Taking people out over HTTP: who is in the file, what is recorded, and what a spreadsheet makes of it."""

from __future__ import annotations

import csv
import io
from asyncio import all_tasks, run
from typing import Any

import msgspec
import pytest
from people import with_people
from served import ACME, GLOBEX, SUPER, Served
from sqlalchemy import select, update

from builders import until
from sluiceway.rights.erasure import Why, erase
from sluiceway.sign import read_sign
from sluiceway.store.schema import activity, batches, exported, prospect_marks, prospects

HEADER = "Full Name,Company,Email,Title,External ID\n"
INES = "Ines Okafor-Lind,Harbourline,ines@harbourline.example,CFO,crm-1\n"
THEO = "Theo Brandt,Quell,theo@quell.example,,\n"


def uploaded(served: Served, content: str, who: str = f"agent@{ACME}") -> str:
    headers = {"Content-Type": "text/csv"}
    answer = served.ask("POST", "/prospects/upload", who, data=content.encode(), headers=headers)
    assert answer.status_code == 201, answer.text
    batch_id: str = answer.json()["batch_id"]
    return batch_id


def rows(
    served: Served, path: str = "/prospects/export", who: str = f"agent@{ACME}", **query: Any
) -> list[dict[str, str]]:
    answer = served.get(path, who, params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))


def emails(found: list[dict[str, str]]) -> list[str]:
    return [row["email"].partition("@")[0] for row in found]


def taken_out(served: Served) -> list[tuple[str, str | None, list[str]]]:
    """Every export there was: of which tenant, of which batch, and the prospects it took out."""
    with served.store.read() as connection:
        events = connection.execute(select(activity).where(activity.c.action == "csv_exported").order_by(activity.c.id))
        of = select(exported.c.prospect_id).order_by(exported.c.prospect_id)
        return [
            (e.tenant_id, e.target, [*connection.execute(of.where(exported.c.activity_id == e.id)).scalars()])
            for e in events.all()
        ]


def put_on_the_list(served: Served, email: str) -> None:
    with served.store.change() as connection:
        now = served.store.clock.stamp()
        served.service.main.suppressions.add(connection, ACME, [read_sign(email)], at=now, by="test")


def enrich(served: Served, count: int) -> list[str]:
    ids = with_people(served, count)
    batch = served.post("/batches", {"prospects": ids}).json()["id"]
    run(until(lambda: served.get(f"/batches/{batch}").json()["state"] == "finished"))
    return ids


def test_what_is_held_is_in_the_file_with_how_each_source_stands(served: Served) -> None:
    ids = enrich(served, 3)
    found = rows(served)
    assert [row["id"] for row in found] == sorted(ids)
    shown = served.get(f"/prospects/{found[0]['id']}").json()
    assert found[0]["enriched_title"] == shown["fields"]["title"]["value"]
    assert found[0]["enrichment_status"] == shown["enrichment_status"]
    for source, stands in shown["enrichment_source_status"].items():
        assert found[0][f"{source}_status"] == stands["status"]
    assert found[0]["first_name"] == shown["person"]["first_name"]


def test_the_columns_are_the_same_whatever_is_held(served: Served) -> None:
    empty = served.get("/prospects/export").text
    assert empty.startswith("id,external_id,first_name,")
    assert empty.count("\r\n") == 1
    enrich(served, 1)
    assert served.get("/prospects/export").text.startswith(empty)


def test_lines_of_json_are_the_prospects_as_they_are_read_one_by_one(served: Served) -> None:
    ids = enrich(served, 2)
    answer = served.get("/prospects/export?format=ndjson")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    lines = [msgspec.json.decode(line) for line in answer.content.splitlines()]
    assert lines == [served.get(f"/prospects/{prospect_id}").json() for prospect_id in sorted(ids)]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["ines", "theo"]),
        ({"text": "HARBOUR"}, ["ines"]),
        ({"external_id": "crm-1"}, ["ines"]),
        ({"enrichment_status": ["none", "failed"]}, ["ines", "theo"]),
        ({"enrichment_status": "failed"}, []),
        ({"source": "exa", "source_status": "failed"}, []),
        ({"created_to": "2000-01-01"}, []),
        ({"created_from": "2000-01-01"}, ["ines", "theo"]),
        ({"batch_id": "none such"}, []),
    ],
)
def test_those_who_are_meant_are_taken_out(served: Served, query: dict[str, Any], found: list[str]) -> None:
    uploaded(served, HEADER + INES + THEO)
    assert emails(rows(served, **query)) == found
    [(tenant, target, ids)] = taken_out(served)
    assert (tenant, target, len(ids)) == (ACME, None, len(found))


def test_what_is_no_filter_is_refused(served: Served) -> None:
    for query in ("format=xlsx", "enrichment_status=odd", "source=exa", "created_from=1/12/2099"):
        assert served.get(f"/prospects/export?{query}").status_code == 422, query
    assert taken_out(served) == []


def test_a_batch_is_taken_out_row_by_row_in_its_order(served: Served) -> None:
    batch_id = uploaded(served, HEADER + THEO + "x,,,,\n" + INES + THEO)
    answer = served.get(f"/batches/{batch_id}/export")
    assert f'filename="batch-{batch_id[:12]}-' in answer.headers["Content-Disposition"]
    found = rows(served, f"/batches/{batch_id}/export")
    assert [(row["number"], row["email"][:4]) for row in found] == [("0", "theo"), ("2", "ines"), ("3", "theo")]
    assert [(tenant, target, len(ids)) for tenant, target, ids in taken_out(served)] == [(ACME, batch_id, 2)] * 2
    lines = served.get(f"/batches/{batch_id}/export?format=ndjson").content.splitlines()
    assert [msgspec.json.decode(line)["person"]["email"][:4] for line in lines] == ["theo", "ines", "theo"]


def test_many_pages_are_whole_in_order_and_recorded(served: Served) -> None:
    batch_id = uploaded(served, HEADER + "".join(f"P {n},Quell,p{n}@quell.example,,\n" for n in range(1_100)))
    found = rows(served, f"/batches/{batch_id}/export")
    assert [row["email"] for row in found] == [f"p{n}@quell.example" for n in range(1_100)]
    assert len(rows(served)) == 1_100
    assert [len(ids) for _, _, ids in taken_out(served)] == [1_100, 1_100]
    with served.store.read() as connection:
        marks = select(prospect_marks.c.prospect_id).where(prospect_marks.c.action == "csv_exported")
        assert len(connection.execute(marks).all()) == 1_100


def test_cells_are_safe_to_open_in_a_spreadsheet(served: Served) -> None:
    uploaded(served, HEADER + '"=HYPERLINK(""http://x.example"")",+Quell,a@quell.example,"@SUM(1,\n-2)",=1+1\n')
    [row] = rows(served)
    hostile = [cell for cell in row.values() if cell.lstrip('\t\r\n "').startswith(("=", "+", "-", "@"))]
    assert hostile == []
    assert row["full_name"].startswith("'=HYPERLINK")
    assert row["external_id"] == "'=1+1"
    with served.store.change() as connection:
        fields = msgspec.json.encode(
            {"title:exa": ["=cmd|'/c calc'!A1", "2026-01-01T00:00:00.000Z", None, 50]}
        ).decode()
        connection.execute(update(prospects).values(fields=fields))
    assert rows(served)[0]["enriched_title"] == "'=cmd|'/c calc'!A1"


def test_people_on_the_suppression_list_are_left_out_and_not_recorded(served: Served) -> None:
    batch_id = uploaded(served, HEADER + INES + THEO)
    put_on_the_list(served, "theo@quell.example")
    assert emails(rows(served)) == ["ines"]
    assert emails(rows(served, f"/batches/{batch_id}/export")) == ["ines"]
    assert "theo" not in served.get("/prospects/export?format=ndjson").text.lower()
    assert [len(ids) for _, _, ids in taken_out(served)] == [1, 1, 1]


def test_who_is_found_to_be_on_the_list_is_left_out_too(served: Served) -> None:
    uploaded(served, HEADER + INES)
    fields = {"personal_email:exa": ["ines@home.example", "2026-01-01T00:00:00.000Z", None, 50]}
    with served.store.change() as connection:
        connection.execute(update(prospects).values(fields=msgspec.json.encode(fields).decode()))
    put_on_the_list(served, "ines@home.example")
    assert rows(served) == []


def test_of_an_erased_person_nothing_is_shown(served: Served) -> None:
    batch_id = uploaded(served, HEADER + INES + THEO)
    [ines, theo] = [row["id"] for row in rows(served)]
    why = Why("request", "test", served.store.clock.stamp(), suppress=False)
    with served.store.change() as connection:
        erase(connection, [ines], why, served.service.main.suppressions)
    for path in ("/prospects/export", f"/batches/{batch_id}/export"):
        for form in ("csv", "ndjson"):
            text = served.get(f"{path}?format={form}").text
            assert theo in text
            assert ines not in text
            assert "ines" not in text.lower()


def test_another_tenants_people_are_not_there(served: Served) -> None:
    batch_id = uploaded(served, HEADER + INES)
    other = f"agent@{GLOBEX}"
    assert rows(served, who=other) == []
    assert rows(served, who=other, batch_id=batch_id) == []
    answers = [served.get(f"/batches/{which}/export", other) for which in (batch_id, "nobodys")]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json()["detail"].replace(batch_id, "nobodys") == answers[1].json()["detail"]
    assert served.get(f"/prospects/export?tenant={ACME}", other).status_code == 403
    assert all(ids == [] for tenant, _, ids in taken_out(served) if tenant == GLOBEX)


def test_a_super_admin_says_whose_people(served: Served) -> None:
    batch_id = uploaded(served, HEADER + INES)
    assert served.get("/prospects/export", SUPER).status_code == 422
    assert emails(rows(served, who=SUPER, tenant=ACME)) == ["ines"]
    assert emails(rows(served, f"/batches/{batch_id}/export", SUPER)) == ["ines"]
    assert [(tenant, len(ids)) for tenant, _, ids in taken_out(served)] == [(ACME, 1)] * 2


def test_who_may_only_read_takes_nobody_out(served: Served) -> None:
    batch_id = uploaded(served, HEADER + INES)
    for path in ("/prospects/export", f"/batches/{batch_id}/export"):
        assert served.get(path, f"assistant@{ACME}").status_code == 403
    assert taken_out(served) == []


def test_who_goes_away_ends_the_export(served: Served) -> None:
    uploaded(served, HEADER + "".join(f"P {n},Quell,p{n}@quell.example,{'x' * 900},\n" for n in range(20_000)))
    with served.get("/prospects/export", stream=True) as answer:
        assert any(b"p0@quell.example" in line for line in answer.iter_lines())
    run(until(lambda: not any("run_asgi" in repr(task.get_coro()) for task in all_tasks(served.app.state.loop))))
    [(_, _, ids)] = taken_out(served)
    assert 0 < len(ids) < 20_000


def test_a_batch_of_several_tenants_shows_each_only_its_own(served: Served) -> None:
    batch_id = uploaded(served, HEADER + INES + THEO)
    with served.store.change() as connection:  # as a file with a tenant column makes, on the command line
        theo = prospects.c.person.contains("theo")
        connection.execute(update(prospects).where(theo).values(tenant_id=GLOBEX))
        assert connection.execute(select(batches.c.tenant_id)).scalar() == ACME
    assert emails(rows(served, f"/batches/{batch_id}/export")) == ["ines"]
