"""The suppression list over HTTP: filled, counted, asked and emptied, each tenant's own and the one for everybody."""

from __future__ import annotations

import pytest
from people import with_people
from requests import Response
from served import ACME, GLOBEX, SUPER, Served

from acceptance.desk import until
from builders import rows
from sluiceway.store.schema import audit, suppressions

ADMIN, OTHER = f"tenant_admin@{ACME}", f"tenant_admin@{GLOBEX}"
EMAIL, PROFILE = "ines@harbourline.example", "https://www.linkedin.com/in/ines-okafor"
FOUR = {"values": [EMAIL, PROFILE, "quell.example"], "people": [{"name": "Tomas Rell", "company": "Quell, Inc."}]}


def suppressed(served: Served, value: str, who: str = ADMIN, query: str = "") -> bool:
    answer = served.post(f"/suppressions/check{query}", {"values": [value]}, who)
    assert answer.status_code == 200, answer.text
    found: bool = answer.json()["suppressed"]
    return found


def test_people_are_put_on_the_list_counted_found_and_taken_off(served: Served) -> None:
    added = served.post("/suppressions", {**FOUR, "reason": "asked us"}, ADMIN)
    assert added.json() == {"tenant_id": ACME, "added": 4, "already": 0}, added.text
    assert served.post("/suppressions", FOUR, ADMIN).json() == {"tenant_id": ACME, "added": 0, "already": 4}
    counted = {each["kind"]: each["count"] for each in served.get("/suppressions", ADMIN).json()["counts"]}
    assert counted == {"email": 1, "linkedin": 1, "domain": 1, "name": 1}

    for value in (
        "INES+x@harbourline.example",
        "linkedin.com/in/Ines-Okafor/",
        "who@mail.quell.example",
        "quell.example",
    ):
        assert suppressed(served, value), value
    assert not suppressed(served, "harbourline.example")
    by_name = served.post("/suppressions/check", {"people": [{"name": "TOMAS RELL", "company": "Quell"}]}, ADMIN).json()
    (entry,) = by_name["entries"]
    assert (entry["tenant_id"], entry["kind"], entry["reason"]) == (ACME, "name", "asked us")
    assert entry["added_by"] == f"user:{served.users[ADMIN].id}"

    removed = served.post("/suppressions/remove", {"values": [EMAIL, "nobody@x.example"]}, ADMIN)
    assert removed.json() == {"tenant_id": ACME, "removed": 1}
    assert not suppressed(served, EMAIL)
    assert served.post("/suppressions/remove", {"values": [EMAIL]}, ADMIN).status_code == 404
    told = [(row["action"], row["target"], row["detail"]) for row in rows(served.store, audit)]
    assert ("suppression.add", f"suppressions:{ACME}", "4 added") in told
    assert ("suppression.remove", f"suppressions:{ACME}", "1 removed") in told
    assert not {"ines", "rell"} & {
        word for row in rows(served.store, suppressions) for word in str(row).lower().split()
    }


def test_each_tenant_has_its_own_list_and_only_a_super_admin_the_one_for_everybody(served: Served) -> None:
    served.post("/suppressions", {"values": [EMAIL]}, OTHER)
    assert not suppressed(served, EMAIL)
    assert served.get("/suppressions", ADMIN).json()["counts"] == []
    assert served.post("/suppressions/remove", {"values": [EMAIL]}, ADMIN).status_code == 404

    made = served.post("/suppressions", {"values": ["quell.example"], "reason": "a court says so"}, SUPER)
    assert made.json() == {"tenant_id": "*", "added": 1, "already": 0}
    seen = served.post("/suppressions/check", {"values": ["tomas@quell.example"]}, ADMIN).json()["entries"]
    assert [(each["tenant_id"], each["reason"], each["added_by"]) for each in seen] == [("*", None, None)]
    assert served.post("/suppressions/remove", {"values": ["quell.example"]}, ADMIN).status_code == 404
    assert suppressed(served, EMAIL, SUPER), "a super admin who names no tenant sees every list"
    assert not suppressed(served, EMAIL, SUPER, f"?tenant={ACME}")
    of_all = served.post("/suppressions/check", {"values": ["quell.example"]}, SUPER).json()["entries"]
    assert of_all[0]["reason"] == "a court says so"
    assert served.get("/suppressions", SUPER).json()["counts"] == [{"kind": "domain", "count": 1}]
    assert served.get(f"/suppressions?tenant={GLOBEX}", SUPER).json()["counts"] == [{"kind": "email", "count": 1}]
    assert served.get(f"/suppressions?tenant={GLOBEX}", ADMIN).status_code == 403
    for who in (f"agent@{ACME}", f"assistant@{ACME}"):
        assert served.get("/suppressions", who).status_code == 403
        assert served.post("/suppressions", FOUR, who).status_code == 403


def imported(served: Served, text: str | bytes, kind: str = "text/csv", who: str = ADMIN, query: str = "") -> Response:
    body = text if isinstance(text, bytes) else text.encode()
    return served.ask("POST", f"/suppressions/import{query}", who, data=body, headers={"Content-Type": kind})


def test_a_list_is_imported_and_lines_that_cannot_be_used_are_named(served: Served) -> None:
    header = "email,linkedin_url,name,company,note"
    text = "\n".join((header, f"{EMAIL},,,,x", ",,,,nothing", f",{PROFILE},,,", "nonsense,,,,", ",,Tomas,Quell,"))
    answer = imported(served, text, "text/csv; charset=utf-8", query="?reason=opted+out")
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert (said["added"], said["already"], said["rejected"]) == (3, 0, 2)
    assert [each["line"] for each in said["rejects"]] == [3, 5]
    assert "no e-mail" in said["rejects"][0]["reason"]
    again = imported(served, text).json()
    assert (again["added"], again["already"]) == (0, 3)
    lines = "".join(f"p{number}@crowd.example\n" for number in range(450)) + "x\n" * 1100
    many = imported(served, lines).json()
    assert (many["added"], many["rejected"], len(many["rejects"])) == (450, 1100, 1000)
    assert suppressed(served, "p449@crowd.example")
    (first, *_) = [row for row in rows(served.store, audit) if row["action"] == "suppression.import"]
    assert first["detail"] == "3 added"


def test_a_list_in_utf_16_as_spreadsheets_write_it_is_read(served: Served) -> None:
    said = imported(served, "email\tnote\nutf16@quell.example\tasked us\n".encode("utf-16")).json()
    assert (said["added"], said["rejected"]) == (1, 0)
    assert suppressed(served, "utf16@quell.example")


@pytest.mark.parametrize(
    "odd", [b"", b"\xff\xfe\x00\x01", "a\udc80@x.example".encode("utf-8", "surrogateescape"), b"\x00\n\x00", b'"\n']
)
def test_a_list_that_is_odd_is_no_fault_of_ours(served: Served, odd: bytes) -> None:
    assert imported(served, odd).status_code == 200


def test_what_is_no_list_is_refused(served: Served) -> None:
    assert imported(served, "[]", "application/json").status_code == 415
    assert imported(served, b"x" * 20_000_001).status_code == 413
    for said in ({}, {"values": ["nonsense"]}, {"people": [{"name": "Ines", "company": ""}]}, {"values": [""] * 501}):
        refused = served.post("/suppressions", said, ADMIN)
        assert refused.status_code == 422, said
        assert refused.json()["detail"]
    assert rows(served.store, suppressions) == []


def test_nobody_is_asked_about_from_then_on(served: Served) -> None:
    ids = with_people(served, 3)
    people = [served.get(f"/prospects/{each}").json()["person"] for each in ids]
    named = [
        {"name": p.get("full_name") or f"{p['first_name']} {p['last_name']}", "company": p["company"]} for p in people
    ]
    assert served.post("/suppressions", {"people": named}, ADMIN).json()["added"] == 3
    before = served.sandbox.meter()
    batch = served.post("/batches", {"prospects": ids}).json()["id"]
    until(lambda: served.get(f"/batches/{batch}").json()["state"] == "finished")
    assert served.sandbox.meter() == before
    outcomes = served.get(f"/batches/{batch}").json()["outcomes"]
    assert {status for counted in outcomes.values() for status in counted} == {"skipped"}
