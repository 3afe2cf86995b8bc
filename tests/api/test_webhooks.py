"""Webhooks over HTTP, told by the running service to a real receiver."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eventually import eventually
from people import with_people
from served import Served, running, serving
from sqlalchemy import update

from builders import rows
from receiver import Inbox, receiving
from sluiceway.cli.options import sandbox_target
from sluiceway.hooks.deliveries import batch_ended
from sluiceway.sandbox.process import SandboxProcess
from sluiceway.settings import load_settings
from sluiceway.store.engine import Store
from sluiceway.store.schema import deliveries

ADMIN, OTHER = "tenant_admin@acme", "tenant_admin@globex"
DOCS = Path(__file__).parents[2] / "docs" / "webhooks.md"


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with receiving() as inbox:
        yield inbox


@pytest.fixture
def told(store: Store, sandbox: SandboxProcess) -> Iterator[Served]:
    """The service, which may call receivers on this machine."""
    with serving(store, sandbox, webhook_allow="127.0.0.1") as served:
        yield served


def a_webhook(told: Served, inbox: Inbox, **changed: Any) -> tuple[str, str]:
    """Have acme told; returns the webhook's id and its secret."""
    answer = told.post("/webhooks", {"url": f"{inbox.url}/hook", **changed}, ADMIN)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == f"/api/v1/webhooks/{answer.json()['webhook']['id']}"
    return answer.json()["webhook"]["id"], answer.json()["secret"]


def make_due(store: Store) -> None:
    """Let time pass until whatever waits is due."""
    with store.change() as connection:
        due = deliveries.c.next_at.is_not(None)
        connection.execute(update(deliveries).where(due).values(next_at="2020-01-01T00:00:00.000Z"))


def verifier() -> str:
    """The example of the documentation."""
    found = re.search(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def test_a_finished_batch_and_its_runs_are_told_and_signed(told: Served, inbox: Inbox) -> None:
    hook, secret = a_webhook(told, inbox)
    people = with_people(told, 2)
    batch = told.post("/batches", {"prospects": people, "name": "two"}).json()["id"]
    eventually(lambda: len(inbox.of("run.finished")) == 2 and inbox.of("batch.finished"))
    (of_batch,) = inbox.of("batch.finished")
    said = of_batch.json
    assert said["id"] == of_batch.headers["Sluiceway-Delivery"]
    assert (said["event"], said["tenant_id"]) == ("batch.finished", "acme")
    data = said["data"]
    assert (data["id"], data["name"], data["state"], data["rows"]) == (batch, "two", "finished", 2)
    shown = told.get(f"/batches/{batch}").json()
    assert data["outcomes"] == shown["outcomes"]
    assert data["spent"]["apollo"]["usd_micros"] == shown["spent"]["apollo"]["usd_micros"]
    for got in inbox.of("run.finished"):
        run = got.json["data"]
        prospect = told.get(f"/prospects/{run['prospect']['id']}").json()
        assert run["run"]["batch_id"] == batch
        assert run["prospect"]["enrichment_source_status"] == prospect["enrichment_source_status"]
        assert run["prospect"]["fields"]["title"]["value"] == prospect["fields"]["title"]["value"]
        assert run["prospect"]["fields"]["title"].keys() == {"value", "source", "at"}
        assert {each["source"] for each in run["source_results"]} >= {"apollo", "exa"}
    namespace: dict[str, Any] = {}
    exec(verifier(), namespace)
    for got in inbox.got:
        is_ours = namespace["is_from_sluiceway"]
        assert is_ours(secret, got.headers["Sluiceway-Signature"], got.body)
        assert not is_ours(secret, got.headers["Sluiceway-Signature"], got.body + b" ")
        assert not is_ours("whsec_other", got.headers["Sluiceway-Signature"], got.body)
    eventually(lambda: {each["state"] for each in log_of(told, hook)} == {"delivered"})


def log_of(told: Served, hook: str, who: str = ADMIN) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = told.get(f"/webhooks/{hook}/deliveries", who).json()["items"]
    return items


def test_what_was_answered_with_a_500_comes_again_under_the_same_id(told: Served, inbox: Inbox) -> None:
    hook, _ = a_webhook(told, inbox, events=["batch.finished"])
    inbox.answers = [500, 200]
    told.post("/batches", {"prospects": with_people(told, 1)})
    eventually(lambda: [each["error"] for each in log_of(told, hook)] == ["HTTP 500"])
    (failed,) = log_of(told, hook)
    assert (failed["state"], failed["tries"], failed["http_status"]) == ("due", 1, 500)
    make_due(told.store)
    eventually(lambda: [each["state"] for each in log_of(told, hook)] == ["delivered"])
    first, second = inbox.got
    assert first.headers["Sluiceway-Delivery"] == second.headers["Sluiceway-Delivery"] == failed["id"]


def test_what_a_process_that_died_left_is_told_by_the_next_one(
    store: Store, sandbox: SandboxProcess, inbox: Inbox
) -> None:
    settings = {"database_url": store.url, "meter_every_s": 0, "webhook_allow": "127.0.0.1"}
    with serving(store, sandbox, webhook_allow="127.0.0.1") as told:
        hook, _ = a_webhook(told, inbox, events=["batch.finished"])
        batch = told.post("/batches", {"prospects": with_people(told, 1)}).json()["id"]
        eventually(lambda: len(inbox.got) == 1)
    with store.change() as connection:  # as a process leaves it that is killed between its commit and the delivery
        batch_ended(connection, batch, store.clock.stamp())
    assert len([each for each in rows(store, deliveries) if each["next_at"]]) == 1
    with running(told, load_settings(**settings), sandbox_target(sandbox.url)):
        eventually(lambda: len(inbox.got) == 2)
        eventually(lambda: {each["state"] for each in log_of(told, hook)} == {"delivered"})


def test_a_receiver_that_is_gone_is_removed(told: Served, inbox: Inbox) -> None:
    hook, _ = a_webhook(told, inbox, events=["batch.finished"])
    inbox.answers = [410]
    told.post("/batches", {"prospects": with_people(told, 1)})
    eventually(lambda: told.get(f"/webhooks/{hook}", ADMIN).status_code == 404)
    assert told.get("/webhooks", ADMIN).json()["items"] == []
    assert len(inbox.got) == 1


def test_whoever_was_erased_meanwhile_is_in_no_delivery(told: Served, inbox: Inbox) -> None:
    from sluiceway.rights.erasure import Why, erase

    hook, _ = a_webhook(told, inbox, events=["run.finished"])
    inbox.answers = [500]
    (person,) = with_people(told, 1)
    told.post(f"/prospects/{person}/enrich", headers={"Prefer": "wait=20"})
    eventually(lambda: [each["error"] for each in log_of(told, hook)] == ["HTTP 500"])
    with told.store.change() as connection:
        erase(
            connection,
            [person],
            Why("request", "test", "2026-01-01T00:00:00.000Z", True),
            told.service.main.suppressions,
        )
    make_due(told.store)
    eventually(lambda: [each["state"] for each in log_of(told, hook)] == ["dropped"])
    (dropped,) = log_of(told, hook)
    assert (dropped["error"], dropped["target"]) == ("erased", "erased")
    assert len(inbox.got) == 1


def test_a_private_address_is_refused_with_the_hint(served: Served) -> None:
    for url in ("http://127.0.0.1:9/hook", "http://localhost/", "https://10.0.0.7/hook", "http://169.254.169.254/"):
        answer = served.post("/webhooks", {"url": url}, ADMIN)
        assert answer.status_code == 422
        assert "SLUICEWAY_WEBHOOK_ALLOW" in answer.json()["detail"]
    for url in ("ftp://example.com/", "https://me:pw@example.com/", "nonsense"):
        assert served.post("/webhooks", {"url": url}, ADMIN).status_code == 422


def test_a_webhook_is_tried_out_and_what_came_back_is_said(told: Served, inbox: Inbox) -> None:
    hook, _ = a_webhook(told, inbox)
    good = told.post(f"/webhooks/{hook}/test", who=ADMIN).json()
    assert (good["delivered"], good["http_status"], good["error"]) == (True, 200, None)
    assert [got.json["event"] for got in inbox.of("ping")] == ["ping"]
    inbox.answers = [503]
    bad = told.post(f"/webhooks/{hook}/test", who=ADMIN).json()
    assert (bad["delivered"], bad["http_status"], bad["error"]) == (False, 503, "HTTP 503")
    assert [each["state"] for each in log_of(told, hook)] == ["given_up", "delivered"]


def test_another_tenants_webhook_is_not_there(told: Served, inbox: Inbox) -> None:
    hook, _ = a_webhook(told, inbox)
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/test"), ("GET", "/deliveries")):
        assert told.ask(method, f"/webhooks/{hook}{path}", OTHER).status_code == 404
        assert told.ask(method, f"/webhooks/{hook}{path}", "agent@acme").status_code == 403
    assert told.get("/webhooks", OTHER).json()["items"] == []
    assert told.ask("DELETE", f"/webhooks/{hook}", ADMIN).status_code == 204
    assert told.ask("DELETE", f"/webhooks/{hook}", ADMIN).status_code == 404
    assert inbox.got == []


def test_webhooks_are_listed_in_pages_without_their_secrets(told: Served, inbox: Inbox) -> None:
    made = [a_webhook(told, inbox) for _ in range(3)]
    first = told.get("/webhooks?limit=2", ADMIN).json()
    rest = told.get(f"/webhooks?limit=2&cursor={first['next_cursor']}", ADMIN).json()
    found = [each["id"] for each in [*first["items"], *rest["items"]]]
    assert found == [hook for hook, _ in reversed(made)]
    assert rest["next_cursor"] is None
    assert not [secret for _, secret in made if secret in str(first) + str(rest)]


def test_a_tenant_has_only_so_many_webhooks(told: Served, inbox: Inbox) -> None:
    for _ in range(20):
        a_webhook(told, inbox)
    assert told.post("/webhooks", {"url": inbox.url}, ADMIN).status_code == 409
    assert told.post("/webhooks", {"url": inbox.url}, OTHER).status_code == 201


def test_the_example_of_the_documentation_runs_by_itself() -> None:
    done = subprocess.run([sys.executable, "-c", verifier()], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    assert len(verifier().strip().splitlines()) <= 14


def test_a_receiver_whose_name_nobody_looks_up_in_time_holds_nothing_up(
    told: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up, over = socket.getaddrinfo, threading.Event()

    def slowly(host: Any, *arguments: Any, **named: Any) -> Any:
        if host == "hangs.example":
            over.wait(20)
        return look_up(host, *arguments, **named)

    hooks = [told.post("/webhooks", {"url": f"https://hangs.example/{n}"}, ADMIN).json() for n in range(8)]
    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    trying = [
        threading.Thread(target=told.post, args=(f"/webhooks/{hook['webhook']['id']}/test", None, ADMIN))
        for hook in hooks * 5
    ]
    try:
        for each in trying:
            each.start()
        time.sleep(0.5)
        began = time.monotonic()
        assert told.get("/batches").status_code == 200
        assert time.monotonic() - began < 2
    finally:
        over.set()
        for each in trying:
            each.join()
