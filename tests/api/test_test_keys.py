"""Test keys: they reach a sandbox and a store of their own, whatever the service itself asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from people import with_people
from served import ACME, SUPER, Served, running, serving
from sqlalchemy import Table, func, select

from sluiceway.app import Target
from sluiceway.sandbox.process import SandboxProcess
from sluiceway.settings import load_settings
from sluiceway.sources import all_sources
from sluiceway.store.engine import Store, beside, open_store
from sluiceway.store.schema import api_keys, metadata

AGENT, ADMIN = f"agent@{ACME}", f"tenant_admin@{ACME}"
TRIED = "the test key"
WHO_COMES_IN = {"users", "api_keys", "audit", "activity", "activity_days", "action_days", "active_users"}
BESIDES = {"facts", "workers", "provider_meters"}


def addresses(url: str) -> dict[str, str]:
    """A sandbox's addresses, as settings give a proxy's."""
    found = {}
    for name, kind in all_sources().items():
        path = next(iter(kind.sandbox.values()))
        host = next(iter(kind.sandbox))
        found[name] = f"{url}{path.removesuffix(f'/{host}') if host else path}"
    return found


@pytest.fixture
def served(store: Store, sandbox: SandboxProcess) -> Iterator[Served]:
    """A service that asks the real providers, as far as it knows: a sandbox in their place."""
    served = Served(store, sandbox)
    keys = {"apollo_api_key": "sandbox-a", "contactout_api_key": "sandbox-c", "exa_api_key": "sandbox-e"}
    keys |= {"anthropic_api_key": "sandbox-t", "sec_edgar_user_agent": "Sluiceway sandbox@sluiceway.example"}
    settings = load_settings(database_url=store.url, meter_every_s=0, base_urls=addresses(sandbox.url), **keys)
    with running(served, settings, Target()):
        yield served


@pytest.fixture
def trial_key(served: Served) -> str:
    """Give the agent a test key; returns by which name `served` knows it."""
    answer = served.post("/keys", {"kind": "test"}, AGENT)
    served.keys[TRIED] = answer.json()["text"]
    assert served.keys[TRIED].startswith("slw_test_")
    return TRIED


def meter(sandbox: SandboxProcess) -> int:
    """How many requests a sandbox has received."""
    return sum(column["requests"] for column in sandbox.meter()["providers"].values())


def held(store: Store) -> dict[str, int]:
    """How many rows each table has, of those that enriching fills."""
    tables = [table for table in metadata.sorted_tables if table.name not in WHO_COMES_IN | BESIDES]
    with store.read() as connection:
        return {table.name: connection.execute(count(table)).scalar_one() for table in tables}


def count(table: Table) -> Any:
    return select(func.count()).select_from(table)


@pytest.fixture
def trial(served: Served, trial_key: str) -> Iterator[Store]:
    """The store of test keys, which is there when the first one has been used."""
    assert served.get("/batches", trial_key).json()["items"] == []
    store = open_store(beside(served.store.url, "sandbox"))
    yield store
    store.close()


def test_a_test_keys_work_is_done_in_the_trial_world_alone(served: Served, trial_key: str, trial: Store) -> None:
    real, before = served.sandbox, held(served.store)
    (prospect,) = with_people(served, 1, store=trial)
    answer = served.post(f"/prospects/{prospect}/enrich", None, trial_key, headers={"Prefer": "wait=30"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["enrichment_status"] == "complete"
    assert held(trial)["attempts"] > 0
    assert held(served.store) == before
    assert meter(real) == 0
    assert served.get(f"/prospects/{prospect}", AGENT).status_code == 404


def test_a_live_keys_work_is_not(served: Served, trial_key: str, trial: Store) -> None:
    before = held(trial)
    (prospect,) = with_people(served, 1)
    assert served.get(f"/prospects/{prospect}", trial_key).status_code == 404
    answer = served.post(f"/prospects/{prospect}/enrich", None, AGENT, headers={"Prefer": "wait=30"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["enrichment_status"] == "complete"
    assert meter(served.sandbox) > 0
    assert held(trial) == before


def test_users_and_keys_are_the_main_worlds(served: Served, trial_key: str, trial: Store) -> None:
    said = served.get("/session", trial_key).json()
    assert (said["user_id"], said["sandbox_only"]) == (served.users[AGENT].id, True)
    with trial.read() as connection:
        assert connection.execute(count(api_keys)).scalar_one() == 0
    (key,) = [key for key in served.get("/keys").json()["items"] if key["kind"] == "test"]
    assert served.ask("DELETE", f"/keys/{key['id']}").json()["last_used_at"]
    assert served.get("/batches", trial_key).status_code == 401


def test_a_test_key_changes_nothing_about_who_comes_in(served: Served) -> None:
    """Else it would make itself a live key."""
    for who in (ADMIN, SUPER):
        asked = {"kind": "test", "name": who}
        served.keys[TRIED] = served.post("/keys", asked, who).json()["text"]
        for method, path, said in (
            ("POST", "/keys", {"kind": "live"}),
            ("GET", "/keys", None),
            ("GET", "/users", None),
            ("POST", f"/users/{served.users[AGENT].id}/sign-in-link", None),
            ("PUT", "/credentials/apollo", {"value": "a-key"}),
            ("GET", "/audit", None),
        ):
            answer = served.ask(method, path, TRIED, json=said, params={"tenant": ACME} if who == SUPER else {})
            assert (answer.status_code, "use a live key" in answer.text) == (403, True), path


def test_a_sandbox_that_is_asked_anyway_serves_test_keys_as_well(store: Store, sandbox: SandboxProcess) -> None:
    with serving(store, sandbox) as served:
        served.keys[TRIED] = served.post("/keys", {"kind": "test"}, AGENT).json()["text"]
        (prospect,) = with_people(served, 1)
        assert served.get(f"/prospects/{prospect}", TRIED).status_code == 200
