"""Enriching with a Redis that goes before the store in deciding about limits."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import msgspec
import pytest
from desk import Desk, Open

from builders import somebody
from redis_server import RedisServer
from sluiceway.outcome import timestamp
from sluiceway.pipeline.caller import Budget
from sluiceway.pipeline.turns import Behalf
from sluiceway.sources._contract import Subject
from sluiceway.usage.ledger import Begin
from sluiceway.usage.quota import Quota, QuotaClock, Unit, set_quota


async def limited(at: Desk, quota: Quota) -> None:
    await at.do(partial(set_quota, by="test", now=at.now()), quota)


async def test_a_batch_under_a_limit_asks_redis_and_ends_as_the_limit_says(
    desk: Open, redis_server: RedisServer
) -> None:
    async with desk() as at:
        await limited(at, Quota("apollo", Unit.REQUESTS, QuotaClock.DAY, 7))
    async with desk(redis_url=redis_server.url, concurrency=20) as at:
        await at.run(*map(somebody, range(30)))
        assert at.requests() == 7
        assert at.statuses().count("quota_exceeded") == 23
        assert redis_server.client.info("commandstats")["cmdstat_evalsha"]["calls"] > 0


async def test_a_short_limit_makes_a_batch_wait_for_its_windows(desk: Open, redis_server: RedisServer) -> None:
    async with desk(redis_url=redis_server.url, concurrency=20, wait_at_most_s=60) as at:
        await limited(at, Quota("apollo", Unit.REQUESTS, QuotaClock.SECOND, 10))
        tally = await at.run(*map(somebody, range(25)))
        assert (tally.waiting, at.requests()) == (0, 25)
        begun = [attempt["begun_at"][:19] for attempt in at.attempts()]
        assert max(begun.count(second) for second in begun) <= 10


@pytest.mark.parametrize(("ago_s", "charge"), [(11, "not_sent"), (9, "free")])
async def test_a_request_is_sent_within_ten_seconds_of_its_admission_or_not_at_all(
    desk: Open, ago_s: float, charge: str
) -> None:
    async with desk(timeout_s=60) as at:
        source, clock = at.app.sources["apollo"], at.store.clock
        subject = Subject(somebody(1), at.app.settings.want, clock.now().date())
        request = source.request(subject)
        caller = at.caller()
        attempt = caller.turns.begin_now(source, request, Behalf("file", "default"))
        other_clock = timestamp(clock.now() - timedelta(seconds=20))  # what Redis says is not compared with ours
        late = msgspec.structs.replace(attempt, begun_at=other_clock, deadline_at=clock.stamp(after_s=60 - ago_s))
        await at.write(Begin(late))
        obtained = await caller.obtain(source, subject, request, Behalf("file"), Budget(0), late, patient=False)
        await at.write(obtained.finish)
        assert at.charges() == [charge]
        assert at.requests() == (charge != "not_sent")
