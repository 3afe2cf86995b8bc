"""Bringing people over HTTP: as a CSV or as lines of JSON, with rejects by line, and nothing left of what fails."""

from __future__ import annotations

import json
import socket
import threading
import time
from asyncio import run
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from people import csv_of, with_people
from served import ACME, GLOBEX, SUPER, Served, serving
from sqlalchemy import func, select

from builders import until
from sluiceway.api.paging import cursor
from sluiceway.pipeline.batch import Asked, InputRow, all_taken_in, open_batch, take_in, withdraw
from sluiceway.pipeline.uploads import Upload, add_to_upload, begin_upload, spooled
from sluiceway.prospect import Person
from sluiceway.sandbox.process import SandboxProcess
from sluiceway.sign import read_sign
from sluiceway.store.engine import Store
from sluiceway.store.schema import activity, batch_rejects, batch_rows, batches, prospects

HEADER = "First Name,Last Name,Company,Email,External ID\n"
INES = "Ines,Okafor-Lind,Harbourline,ines@harbourline.example,crm-1\n"
THEO = "Theo,Brandt,Quell,theo@quell.example,crm-2\n"


def upload(
    served: Served,
    content: str | bytes | Iterator[bytes],
    kind: str = "text/csv",
    who: str = f"agent@{ACME}",
    **query: Any,
) -> requests.Response:
    body = content.encode() if isinstance(content, str) else content
    headers = {"Content-Type": kind}
    return served.ask("POST", "/prospects/upload", who, data=body, headers=headers, params=query)


def lines(*said: Any) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in said)


def count(served: Served, table: Any, *where: Any) -> int:
    with served.store.read() as connection:
        found: int = connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one()
        return found


def nothing_is_left(served: Served) -> bool:
    tables = (batches, batch_rows, batch_rejects, prospects)
    return not any(count(served, table) for table in tables) and not list(served.store.state.glob("upload-*"))


def test_a_csv_becomes_a_batch_that_can_be_asked_for(served: Served) -> None:
    answer = upload(served, csv_of(3), name="conference.csv")
    assert answer.status_code == 201, answer.text
    said = answer.json()
    assert (said["rows"], said["prospects"], said["rejected"], said["suppressed"]) == (3, 3, 0, 0)
    assert said["name"] == "conference.csv"
    assert said["columns"]["first_name"]
    assert answer.headers["Location"] == f"/api/v1/batches/{said['batch_id']}"
    assert not list(served.store.state.glob("upload-*"))
    assert served.get(f"/batches/{said['batch_id']}").json()["state"] == "uploaded"
    asked = served.post("/batches", {"upload": said["batch_id"], "sources": ["apollo"]})
    assert asked.status_code == 202, asked.text
    run(until(lambda: served.get(f"/batches/{said['batch_id']}").json()["state"] == "finished"))


def test_a_file_of_the_command_line_is_no_upload_because_other_tenants_may_be_in_it(served: Served) -> None:
    now = served.store.clock.stamp()
    mine, theirs = Person(email="a@quell.example"), Person(email="b@quell.example")
    with served.store.change() as connection:
        batch = open_batch(connection, Asked(ACME, "all.csv", "a digest", {}, "file", False), now)
        take_in(connection, batch.id, [InputRow(0, ACME, mine), InputRow(1, GLOBEX, theirs)], now)
        all_taken_in(connection, batch.id, rows=2, rejected=0)
    for more in ({"dry_run": True}, {}):
        answer = served.post("/batches", {"upload": batch.id, **more})
        assert answer.status_code == 409, answer.text
    for what in ("pause", "resume", "cancel"):
        answer = served.post(f"/batches/{batch.id}/{what}")
        assert (answer.status_code, "other tenants" in answer.text) == (409, True), answer.text
    assert served.post(f"/batches/{batch.id}/pause", who=SUPER).status_code == 200


def test_who_brought_it_and_through_what_is_kept(served: Served) -> None:
    said = upload(served, HEADER + INES).json()
    batch = served.get(f"/batches/{said['batch_id']}").json()
    user = served.users[f"agent@{ACME}"]
    assert (batch["tenant_id"], batch["user_id"], batch["trigger"]) == (ACME, user.id, "api")
    assert batch["api_key_id"]
    a = activity.c
    mine = (a.action == "csv_uploaded", a.target == said["batch_id"], a.user_id == user.id, a.tenant_id == ACME)
    assert count(served, activity, *mine) == 1


def test_lines_of_json_become_the_same_prospects_as_a_csv(served: Served) -> None:
    upload(served, HEADER + INES)
    ines = {"full_name": "Ines Okafor-Lind", "email": "INES@harbourline.example", "title": "CFO", "shoe_size": 39}
    answer = upload(served, lines(ines, {"external_id": 7, "email": "new@quell.example"}), "application/x-ndjson")
    assert answer.status_code == 201, answer.text
    said = answer.json()
    assert said["columns"] == {name: name for name in ("full_name", "email", "title", "external_id")}
    assert said["notes"] == ['These fields are not used: "shoe_size".']
    assert count(served, prospects) == 2
    assert count(served, prospects, prospects.c.external_id == "7") == 1


def test_rejects_are_told_by_line_and_never_by_content(served: Served) -> None:
    content = HEADER + INES + "nobody,,,secret at quell,\n\n" + "a,b,c,d,e,f-secret\n" + THEO
    said = upload(served, content).json()
    assert [(reject["number"], reject["line"]) for reject in said["rejects"]] == [(1, 3), (2, 5)]
    assert (said["rows"], said["rejected"], said["prospects"]) == (4, 2, 2)
    page = served.get(f"/batches/{said['batch_id']}/rejects")
    assert page.json()["items"] == said["rejects"]
    assert "secret" not in page.text


def test_bad_lines_of_json_are_rejects_with_their_line(served: Served) -> None:
    content = lines({"email": "a@quell.example"}) + b'{"email": \n\n' + lines({"email": ["b"]}, {"title": "CFO"})
    said = upload(served, content, "application/x-ndjson").json()
    assert [reject["line"] for reject in said["rejects"]] == [2, 4, 5]
    assert said["rejects"][1]["reason"] == "has something other than text in email"


def test_only_the_first_twenty_rejects_are_in_the_answer_and_all_in_the_batch(served: Served) -> None:
    said = upload(served, HEADER + "x,,,,\n" * 600 + INES).json()
    assert (said["rows"], said["rejected"], len(said["rejects"])) == (601, 600, 20)
    assert served.get(f"/batches/{said['batch_id']}").json()["rejected"] == 600
    assert count(served, batch_rejects, batch_rejects.c.batch_id == said["batch_id"]) == 600
    for place in (-1, 2**63, 2**64):
        assert served.get(f"/batches/{said['batch_id']}/rejects?cursor={cursor(place)}").status_code == 422


def test_the_same_file_again_is_a_new_batch_of_the_same_prospects(served: Served) -> None:
    first, second = (upload(served, HEADER + INES + THEO + INES).json() for _ in range(2))
    assert first["batch_id"] != second["batch_id"]
    assert (first["rows"], first["prospects"]) == (second["rows"], second["prospects"]) == (3, 2)
    assert count(served, prospects) == 2


def test_a_column_can_be_named(served: Served) -> None:
    content = "who,Mail privat\nInes Okafor,ines@harbourline.example\n"
    refused = upload(served, content)
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("upload.csv: no column tells who the people are")
    assert "--map" not in refused.text
    said = upload(served, content, map=["email=Mail privat", "full_name=who"]).json()
    assert said["columns"] == {"email": "Mail privat", "full_name": "who"}


@pytest.mark.parametrize(
    ("content", "kind", "query", "status"),
    [
        (b"", "text/csv", {}, 422),
        (b"PK\x03\x04rest", "text/csv", {}, 422),
        (b"\x00\x01\x02" * 99, "text/csv", {}, 422),
        (b"First Name,Last Name,Email\n", "text/csv", {}, 422),
        (b"a,b,c\n1,2,3\n", "text/csv", {}, 422),
        (b"Email\na@b.example\n", "text/csv", {"map": ["email"]}, 422),
        (b"Email\na@b.example\n", "text/csv", {"map": ["nothing=Email"]}, 422),
        (b"", "application/x-ndjson", {}, 422),
        (b'[{"email": "a@b.example"}]', "application/x-ndjson", {}, 422),
        (lines({"email": "a@b.example"}), "application/x-ndjson", {"map": ["email=email"]}, 422),
        (b"Email\na@b.example\n", "application/json", {}, 415),
        (b"Email\na@b.example\n", "", {}, 415),
    ],
)
def test_what_is_no_list_of_people_is_refused_in_a_sentence_and_leaves_nothing(
    served: Served, content: bytes, kind: str, query: dict[str, Any], status: int
) -> None:
    answer = upload(served, content, kind, **query)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert str(served.store.state) not in answer.text
    assert nothing_is_left(served)


def test_a_file_that_is_too_large_is_refused_while_it_comes(store: Store, sandbox: SandboxProcess) -> None:
    with serving(store, sandbox, upload_most_mb=1) as served:
        for content in (HEADER + INES * 20_000, (INES.encode() * 1_000 for _ in range(30))):
            answer = upload(served, content)
            assert answer.status_code == 413, answer.text
            assert "SLUICEWAY_UPLOAD_MOST_MB" in answer.json()["detail"]
        assert nothing_is_left(served)
        assert upload(served, HEADER + INES * 10_000).status_code == 201


def test_an_upload_that_breaks_off_leaves_nothing(served: Served) -> None:
    where = urlsplit(served.url)
    head = (
        f"POST /api/v1/prospects/upload HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: text/csv\r\n"
        f"Authorization: Bearer {served.keys[f'agent@{ACME}']}\r\nContent-Length: 1000000\r\n\r\n"
    )
    with socket.create_connection((where.hostname, where.port)) as connection:
        connection.sendall(head.encode() + (HEADER + INES * 1000).encode())
        run(until(lambda: bool(list(served.store.state.glob("upload-*")))))
    run(until(lambda: nothing_is_left(served)))


def test_what_a_killed_server_left_half_done_is_withdrawn_when_it_starts_again(
    store: Store, sandbox: SandboxProcess
) -> None:
    upload_of_the_dead = Upload(ACME, "half.csv", "api", "0" * 32, "somebody", None)
    _, path = spooled(store, "0" * 32)
    with store.change() as connection:
        half = begin_upload(connection, upload_of_the_dead, store.clock.stamp())
        add_to_upload(connection, half, [], [], store.clock.stamp())
    with serving(store, sandbox) as served:
        assert served.get(f"/batches/{half}").status_code == 404
        assert not path.exists()


def test_an_upload_that_is_not_whole_cannot_be_asked_for(served: Served) -> None:
    upload_of_ours = Upload(ACME, "half.csv", "api", served.service.main.worker_id, "somebody", None)
    with served.store.change() as connection:
        half = begin_upload(connection, upload_of_ours, served.store.clock.stamp())
    assert served.post("/batches", {"upload": half}).status_code == 409


def test_people_on_the_suppression_list_are_not_taken_in_and_are_counted(served: Served) -> None:
    with served.store.change() as connection:
        signs = [read_sign("theo@quell.example")]
        served.service.main.suppressions.add(connection, ACME, signs, at=served.store.clock.stamp(), by="test")
    said = upload(served, HEADER + INES + THEO).json()
    assert (said["rows"], said["prospects"], said["rejected"], said["suppressed"]) == (2, 1, 0, 1)
    assert count(served, prospects, prospects.c.person.contains("theo")) == 0


def test_rows_that_name_another_tenant_are_rejects_whoever_brings_them(served: Served) -> None:
    content = f"Email,Tenant\na@quell.example,{ACME}\nb@quell.example,\nc@quell.example,{GLOBEX}\nd@quell.example,new\n"
    for who, query in ((f"agent@{ACME}", {}), (SUPER, {"tenant": ACME})):
        said = upload(served, content, who=who, **query).json()
        assert [reject["line"] for reject in said["rejects"]] == [4, 5]
        assert (said["prospects"], said["rejected"]) == (2, 2)
    assert count(served, prospects, prospects.c.tenant_id != ACME) == 0


def test_a_super_admin_says_for_which_tenant(served: Served) -> None:
    assert upload(served, HEADER + INES, who=SUPER).status_code == 422
    assert upload(served, HEADER + INES, who=SUPER, tenant="nobody").status_code == 404
    assert upload(served, HEADER + INES, who=SUPER, tenant=GLOBEX).status_code == 201
    assert count(served, prospects, prospects.c.tenant_id == GLOBEX) == 1


def test_who_may_only_read_brings_nobody(served: Served) -> None:
    assert upload(served, HEADER + INES, who=f"assistant@{ACME}").status_code == 403
    assert nothing_is_left(served)


def test_another_tenants_upload_is_not_there(served: Served) -> None:
    batch_id = upload(served, HEADER + INES).json()["batch_id"]
    other = f"agent@{GLOBEX}"
    assert served.get(f"/batches/{batch_id}/rejects", other).status_code == 404
    assert served.post("/batches", {"upload": batch_id}, other).status_code == 404


def test_what_was_there_before_stays_when_an_upload_is_withdrawn(served: Served) -> None:
    known = with_people(served, 2)
    with served.store.change() as connection:
        connection.execute(batch_rows.delete())  # as those are who were not brought by a file
        half = begin_upload(
            connection, Upload(ACME, "half.csv", "api", "0" * 32, "somebody", None), served.store.clock.stamp()
        )
        rows = [{"batch_id": half, "number": number, "prospect_id": each} for number, each in enumerate(known)]
        connection.execute(batch_rows.insert(), rows)

    with served.store.change() as connection:
        withdraw(connection, half)
    assert count(served, prospects) == 2


def test_other_requests_are_answered_while_a_large_file_is_taken_in(served: Served) -> None:

    done: list[requests.Response] = []
    body = HEADER + "".join(f"A,B{n},Quell,p{n}@quell.example,x{n}\n" for n in range(5_000))
    thread = threading.Thread(target=lambda: done.append(upload(served, body)))
    thread.start()
    slowest = 0.0
    while thread.is_alive():
        started = time.perf_counter()
        assert served.get("/batches").status_code == 200
        slowest = max(slowest, time.perf_counter() - started)
    assert done[0].status_code == 201
    assert slowest < 2.0
