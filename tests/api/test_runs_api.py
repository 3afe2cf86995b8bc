"""The runs of a prospect over HTTP: which there were, and what happened in each."""

from __future__ import annotations

from people import with_people
from served import ACME, GLOBEX, SUPER, Served

from builders import rows
from sluiceway.store.schema import attempts


def enriched(served: Served, prospect: str) -> None:
    """Enrich a prospect, buying again what is held."""
    answer = served.post(f"/prospects/{prospect}/enrich", {"refresh": True}, headers={"Prefer": "wait=20"})
    assert answer.status_code == 200, answer.text


def test_the_runs_of_a_prospect_come_newest_first_and_each_tells_every_call(served: Served) -> None:
    prospect, other = with_people(served, 2)
    for _ in range(3):
        enriched(served, prospect)
    enriched(served, other)
    first = served.get(f"/prospects/{prospect}/runs?limit=2").json()
    second = served.get(f"/prospects/{prospect}/runs?limit=2&cursor={first['next_cursor']}").json()
    listed = first["items"] + second["items"]
    assert second["next_cursor"] is None
    assert len(listed) == 3
    assert [run["id"] for run in listed] == sorted((run["id"] for run in listed), reverse=True)
    assert {run["trigger"] for run in listed} == {"api"}
    assert all(run["closed_at"] and run["batch_id"] for run in listed)

    calls = []
    for run in listed:
        said = served.get(f"/runs/{run['id']}").json()
        assert (said["run_id"], said["prospect_id"], said["tenant_id"]) == (run["id"], prospect, ACME)
        assert said["status"] == run["status"]
        assert {"apollo", "exa"} <= {result["source"] for result in said["results"]}
        calls += [call["id"] for call in said["calls"]]
    booked = [row["id"] for row in rows(served.store, attempts) if row["prospect_id"] == prospect]
    assert sorted(calls) == sorted(booked)


def test_a_run_is_its_tenants_alone_and_known_by_its_whole_id(served: Served) -> None:
    (prospect,) = with_people(served, 1)
    enriched(served, prospect)
    (run,) = served.get(f"/prospects/{prospect}/runs").json()["items"]
    assert served.get(f"/runs/{run['id']}", SUPER).status_code == 200
    assert served.get(f"/runs/{run['id']}", f"assistant@{ACME}").status_code == 200
    for who, path in ((f"agent@{GLOBEX}", run["id"]), (f"agent@{ACME}", run["id"][:31]), (f"agent@{ACME}", prospect)):
        refused = served.get(f"/runs/{path}", who)
        assert refused.status_code == 404
        assert refused.json()["detail"] == f"there is no run {path!r}"
    assert served.get(f"/prospects/{prospect}/runs?tenant={GLOBEX}", SUPER).status_code == 404
