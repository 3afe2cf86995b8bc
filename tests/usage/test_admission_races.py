"""Many processes, one limit: exactly as many requests reach the provider as it allows, whoever decides."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

pytest.register_assert_rewrite("race")

from race import kept, limit, limited, racers, received, spent  # noqa: E402 - its assertions are to be rewritten

from redis_server import RedisServer  # noqa: E402
from sluiceway.sandbox.process import SandboxProcess  # noqa: E402
from sluiceway.store.engine import Store  # noqa: E402
from sluiceway.usage.quota import QuotaClock, Unit  # noqa: E402

SIZES = [
    pytest.param(3, 150, id="3-processes"),
    pytest.param(8, 2000, id="8-processes", marks=[pytest.mark.drill, pytest.mark.timeout(300)]),
]


@pytest.fixture(params=["store", "redis"])
def redis_url(request: pytest.FixtureRequest) -> str:
    """Where limits are decided: by the store alone, or with a Redis that goes before it."""
    if request.param == "store":
        return ""
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


@pytest.mark.parametrize(("processes", "calls"), SIZES)
def test_exactly_as_many_requests_are_sent_as_a_day_allows(
    store: Store, store_url: str, sandbox: SandboxProcess, redis_url: str, processes: int, calls: int
) -> None:
    most = calls * 2 // 5
    limited(store, limit(most))
    with racers(store_url, sandbox, redis_url, processes=processes, calls=calls, patience_s=20) as them:
        them.start()
        became = them.ended()
    assert received(sandbox) == most
    assert became["billed"] == most
    assert became["exhausted"] == sum(became.values()) - most
    kept(store)


@pytest.mark.parametrize(("processes", "calls"), SIZES)
def test_of_three_limits_at_once_the_lowest_is_met_exactly(
    store: Store, store_url: str, sandbox: SandboxProcess, redis_url: str, processes: int, calls: int
) -> None:
    most = calls // 3
    limited(
        store,
        limit(most),
        limit(calls, QuotaClock.HOUR),
        limit(most * 2, QuotaClock.CYCLE, cycle_day=1, tenant_id="default"),
    )
    with racers(store_url, sandbox, redis_url, processes=processes, calls=calls, patience_s=20) as them:
        them.start()
        them.ended()
    assert received(sandbox) == most
    kept(store)


@pytest.mark.parametrize(("processes", "calls"), SIZES)
def test_dollars_never_go_over_what_is_allowed(
    store: Store, store_url: str, sandbox: SandboxProcess, redis_url: str, processes: int, calls: int
) -> None:
    most = calls * 3_333  # micro-dollars, of which a call may cost more than twice as many
    limited(store, limit(most, unit=Unit.USD))
    with racers(store_url, sandbox, redis_url, processes=processes, calls=calls, patience_s=20) as them:
        them.start()
        became = them.ended()
    assert 0 < became["billed"] < calls
    assert spent(sandbox) <= most
    kept(store)


@pytest.mark.parametrize(("processes", "calls"), SIZES)
def test_with_a_short_window_the_rest_is_sent_when_it_turns(
    store: Store, store_url: str, sandbox: SandboxProcess, redis_url: str, processes: int, calls: int
) -> None:
    limited(store, limit(calls // 3, QuotaClock.SECOND))
    with racers(store_url, sandbox, redis_url, processes=processes, calls=calls, patience_s=60) as them:
        began = time.monotonic()
        them.start()
        became = them.ended()
    assert (received(sandbox), became["billed"]) == (calls, calls)
    assert time.monotonic() - began > 1.0, "a third a second touches at least three seconds"


def test_no_more_are_in_flight_than_allowed(
    store: Store, store_url: str, sandbox: SandboxProcess, redis_url: str
) -> None:
    limited(store, limit(4, QuotaClock.IN_FLIGHT))
    with racers(store_url, sandbox, redis_url, processes=3, calls=60, patience_s=90) as them:
        them.start()
        became = them.ended()
    assert (received(sandbox), became["billed"]) == (60, 60)
    kept(store)


TROUBLES: dict[str, Callable[[RedisServer], None]] = {
    "emptied": lambda server: server.client.flushall(),
    "restarted empty": RedisServer.restart_empty,
    "put back to an earlier snapshot": RedisServer.restore,
    "killed": RedisServer.kill,
}


@pytest.mark.parametrize(
    "trouble",
    [
        "emptied",
        "restarted empty",
        "killed",
        # What was reserved when the snapshot was taken is released ten seconds later.
        pytest.param("put back to an earlier snapshot", marks=pytest.mark.drill),
    ],
)
@pytest.mark.parametrize(("processes", "calls"), SIZES)
def test_limits_hold_when_redis_loses_what_it_knew(
    store: Store, store_url: str, sandbox: SandboxProcess, redis_server: RedisServer,
    trouble: str, processes: int, calls: int,
) -> None:  # fmt: skip
    most = calls * 2 // 3
    limited(store, limit(most), limit(calls // 5, QuotaClock.SECOND))
    with racers(store_url, sandbox, redis_server.url, processes=processes, calls=calls, patience_s=60) as them:
        them.start()
        _until_sent(sandbox, most // 5)
        redis_server.snapshot()
        _until_sent(sandbox, most // 2)
        TROUBLES[trouble](redis_server)
        became = them.ended()
    assert received(sandbox) == became["billed"] == most
    kept(store)


def test_limits_hold_when_redis_stands_still(
    store: Store, store_url: str, sandbox: SandboxProcess, redis_server: RedisServer
) -> None:
    limited(store, limit(100), limit(25, QuotaClock.SECOND))
    with racers(store_url, sandbox, redis_server.url, processes=3, calls=150, patience_s=60) as them:
        them.start()
        _until_sent(sandbox, 30)
        redis_server.stop()
        _until_sent(sandbox, 80)
        redis_server.go_on()
        became = them.ended()
    assert received(sandbox) == became["billed"] == 100
    assert all("Redis is no help" in said for said in them.said)
    kept(store)


def _until_sent(sandbox: SandboxProcess, count: int) -> None:
    give_up = time.monotonic() + 60
    while received(sandbox) < count:
        assert time.monotonic() < give_up
        time.sleep(0.01)
