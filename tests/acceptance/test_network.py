"""The network goes and comes back: work waits for it, nothing fails, and nothing is bought twice."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from acceptance.desk import Desk, slow, until
from acceptance.judge import ANSWERED, Ledger
from sluiceway.sandbox.process import SandboxProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def lonely(tmp_path: Path) -> Iterator[Desk]:
    """A desk with a sandbox of its own, which may be ended and started again at the same address."""
    scenario = tmp_path / "slow.toml"
    scenario.write_text(slow(100), encoding="utf-8")
    with SandboxProcess(port=_free_port(), scenario=str(scenario)) as sandbox, Desk(tmp_path, sandbox) as desk:
        yield desk


def test_when_every_provider_is_gone_the_run_waits_and_goes_on_when_they_are_back(lonely: Desk) -> None:
    people = lonely.people(40)
    running = lonely.begin(people, concurrency=5)
    until(lambda: lonely.requests() > 20)
    lonely.sandbox.stop()
    running.wait_for("no provider can be reached; waiting for the network")
    lonely.sandbox.start()
    running.wait_for("the network is back; going on")
    done = running.done()
    assert done.code == 0, done.screen
    lonely.wrote_every_row_of(people)
    with Ledger(lonely.store) as ledger:
        assert ledger.one("SELECT count(*) FROM attempts WHERE finished_at IS NULL") == 0
        assert ledger.one("SELECT count(*) FROM runs WHERE closed_at IS NULL") == 0
        most = "SELECT count(*) AS n FROM attempts WHERE charge = 'billed' AND prospect_id IS NOT NULL"
        assert ledger.one(f"SELECT max(n) FROM ({most} GROUP BY prospect_id, source, request_key)") == 1
        for source, counts in ledger.statuses().items():
            assert counts.keys() <= {*ANSWERED, "skipped"}, f"{source}: {counts}"


def test_without_a_network_from_the_start_nothing_fails_and_ctrl_c_ends_it(lonely: Desk) -> None:
    import signal

    people = lonely.people(5)
    env = {
        "APOLLO_API_KEY": "sandbox-a",
        "SLUICEWAY_BASE_URLS": f'{{"apollo": "{lonely.sandbox.url}/apollo/api/v1"}}',
        "SLUICEWAY_PACE": '{"apollo": 1000}',
    }
    lonely.sandbox.stop()
    command = ("enrich", str(people), "--sources", "apollo", "--yes", "-o", str(lonely.out), "--database", lonely.url)
    running = lonely.start(*command, env=env)
    running.wait_for("no provider can be reached")
    running.send(signal.SIGINT)
    done = running.done(within=20)
    assert done.code == 130, done.screen
    with Ledger(lonely.store) as ledger:
        assert ledger.one("SELECT count(*) FROM attempts WHERE charge != 'not_sent'") == 0
        assert ledger.one("SELECT count(*) FROM source_results WHERE status = 'failed'") == 0
    lonely.sandbox.start()
    done = lonely.run(*command, env=env)
    assert done.code == 0, done.screen
    lonely.judged(faultless=True)
