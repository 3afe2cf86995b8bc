"""Whatever is counted, published, lost, put back or repeated, in whatever order: counters are the daily totals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from builders import a_booking, today, write
from redis_server import RedisServer
from sluiceway.store.engine import Store
from sluiceway.store.facts import Identity
from sluiceway.store.schema import daily_totals, external_usage
from sluiceway.usage.on_redis import Published, connect, live_totals, publish

PROCESSES = 3
PROVIDERS = ("apollo", "exa", "claude")

COUNT = st.tuples(st.just("count"), st.sampled_from(PROVIDERS))
BY_PROCESS = st.tuples(st.sampled_from(["publish", "publish", "restart", "late", "send_late"]), st.integers(0, 2))
TO_REDIS = st.tuples(st.sampled_from(["empty", "snapshot", "restore"]), st.none())
STEPS = st.lists(COUNT | COUNT | BY_PROCESS | BY_PROCESS | TO_REDIS, min_size=4, max_size=30)


class World:
    """One store, one Redis, and some processes that publish."""

    def __init__(self, store: Store, server: RedisServer, client: Any) -> None:
        self.store, self.server, self.client = store, server, client
        self.processes = [self._process() for _ in range(PROCESSES)]
        self.late: list[list[Any]] = [[] for _ in range(PROCESSES)]
        self.dump: dict[bytes, bytes] = {}
        server.client.flushall()
        with store.writing.begin() as connection:
            connection.execute(delete(daily_totals))
            connection.execute(delete(external_usage))

    def _process(self) -> Published:
        return Published(Identity("this", sandbox=False))

    def count(self, provider: str) -> None:
        write(self.store, a_booking(3, provider=provider, day=today()))

    def publish(self, process: int) -> None:
        """After a publication, whatever came before it, the counters are the totals."""
        assert publish(self.store, self.processes[process], self.client)
        assert self.server.counters() == {total.name: total.calls for total in live_totals(self.store)}

    def restart(self, process: int) -> None:
        self.processes[process] = self._process()

    def late_(self, process: int) -> None:
        """Commands get stuck on their way."""
        totals = live_totals(self.store)
        self.late[process].append(self.processes[process].call(totals))

    def send_late(self, process: int) -> None:
        """They arrive, long after, and nobody reads their replies."""
        while self.late[process]:
            self.client.eval(*self.late[process].pop())

    def empty(self, _: None) -> None:
        self.server.client.flushall()

    def snapshot(self, _: None) -> None:
        raw = self.server.raw
        self.dump = {name: raw.dump(name) for name in raw.scan_iter()}

    def restore(self, _: None) -> None:
        self.server.client.flushall()
        for name, value in self.dump.items():
            self.server.raw.restore(name, 10**8, value)


@pytest.fixture
def client(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A connection; and whoever publishes looks at Redis each time, though nothing may have changed."""
    monkeypatch.setattr("sluiceway.usage.on_redis._LOOK_AT_MARKER_S", -1.0)
    with connect(redis_server.url) as client:
        yield client


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_counters_are_the_daily_totals_after_any_sequence(
    steps: list[tuple[str, Any]], store: Store, redis_server: RedisServer, client: Any
) -> None:
    world = World(store, redis_server, client)
    for name, argument in steps:
        getattr(world, "late_" if name == "late" else name)(argument)
    for process in range(PROCESSES):
        world.publish(process)
    assert redis_server.without_expiry() == []
