"""Whether the service lives and can work: told to anybody, and nothing else with it."""

from __future__ import annotations

import time

import pytest
from served import Served, serving

from builders import locked
from redis_server import RedisServer
from sluiceway.sandbox.process import SandboxProcess
from sluiceway.store.engine import Store


def test_the_process_says_that_it_lives_to_anybody(served: Served) -> None:
    answer = served.get("/healthz", who=None)
    assert answer.status_code == 200
    said = answer.json()
    assert said.keys() == {"status", "version", "uptime_s"}
    assert said["status"] == "alive"
    assert said["uptime_s"] >= 0


def test_a_service_that_can_work_is_ready(served: Served) -> None:
    answer = served.get("/readyz", who=None)
    assert answer.status_code == 200
    assert answer.json() == {"ready": True, "store": "ok", "runner": "ok", "shutdown": "ok", "redis": "none is set"}


def test_a_store_that_cannot_be_written_makes_it_unready_until_it_can(
    served: Served, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluiceway.api.health._JUST_NOW_S", 0.0)
    monkeypatch.setattr("sluiceway.api.health._PATIENCE_S", 0.3)
    with locked(store):
        answer = served.get("/readyz", who=None)
        assert answer.status_code == 503
        assert answer.json()["store"] == "cannot be read or written within 0.3 s"
        assert served.get("/healthz", who=None).status_code == 200
    assert _becomes(served, 200)["store"] == "ok"


def test_a_service_that_is_about_to_end_is_not_ready(served: Served) -> None:
    served.service.main.gate.draining.set()
    answer = served.get("/readyz", who=None)
    assert answer.status_code == 503
    assert answer.json()["shutdown"].startswith("draining")


def test_redis_being_down_is_told_and_does_not_make_it_unready(
    store: Store, sandbox: SandboxProcess, redis_server: RedisServer
) -> None:
    with serving(store, sandbox, redis_url=redis_server.url) as served:
        assert served.get("/readyz", who=None).json()["redis"] == "ok"
        redis_server.kill()
        give_up = time.monotonic() + 20
        while (answer := served.get("/readyz", who=None)).json()["redis"] == "ok":
            assert time.monotonic() < give_up
            assert answer.status_code == 200
            time.sleep(0.05)
        assert answer.status_code == 200
        assert answer.json()["redis"].startswith("does not answer")


def _becomes(served: Served, status: int) -> dict[str, str]:
    give_up = time.monotonic() + 20
    while (answer := served.get("/readyz", who=None)).status_code != status:
        assert time.monotonic() < give_up, answer.text
        time.sleep(0.05)
    said: dict[str, str] = answer.json()
    return said
