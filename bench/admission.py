"""What limits cost: throughput with them as a share of without, time added to a call, and round trips to Redis."""

from __future__ import annotations

import statistics
from pathlib import Path

from bench.private_redis import PrivateRedis
from bench.result import Result
from bench.throughput import call
from bench.world import sandbox, write_people

IN_FLIGHT = 50
ROUNDS = 5
LIMITS = 3
CALM_MS = 200
COMMIT_INTERVAL_MS = 3.0

Run = dict[str, float]


def measure(folder: Path, *, people: int) -> list[Result]:
    """Take turns, without limits, with some, and with some and a Redis: when busy, and when calls take their time.

    A busy process shows what limits cost in throughput. What they add to one call shows where it need not queue for
    the processor.
    """
    with PrivateRedis() as redis:
        busy = _take_turns(folder, redis.url, people=people, latency_ms=0)
        calm = _take_turns(folder, redis.url, people=people // 4, latency_ms=CALM_MS)
    return [result for way in list(busy)[1:] for result in _cost(way, busy, calm)] + _trips(busy, calm)


def _take_turns(folder: Path, redis_url: str, *, people: int, latency_ms: int) -> dict[str, list[Run]]:
    csv = write_people(folder / f"limited-{people}.csv", people)
    ways = {"none": ("0",), "store": (str(LIMITS),), "Redis": (str(LIMITS), redis_url)}
    runs: dict[str, list[Run]] = {way: [] for way in ways}
    with sandbox(folder, latency_ms) as process:
        for number in range(ROUNDS):
            for way, arguments in ways.items():
                store = folder / f"limited-{latency_ms}-{way}-{number}.db"
                runs[way].append(call("bench.limited", process.url, str(csv), str(store), str(IN_FLIGHT), *arguments))
    return runs


def _cost(way: str, busy: dict[str, list[Run]], calm: dict[str, list[Run]]) -> list[Result]:
    rate, bare_rate = (statistics.median(map(_rate, busy[each])) for each in (way, "none"))
    pairs = zip(busy[way], busy["none"], strict=True)
    ratio = statistics.median(_rate(limited) / _rate(bare) for limited, bare in pairs)
    begin, bare_begin = (statistics.median(run["begin_ms"] for run in calm[each]) for each in (way, "none"))
    added, most = begin - bare_begin, 2 * COMMIT_INTERVAL_MS + 1
    what = f"{LIMITS} limits per provider, {way}"
    return [
        Result(f"throughput, {what}", rate, "prospects/s", bare_rate, ratio, 0.85, ratio >= 0.85),
        Result(f"added to a call (median), {what}", added, "ms", None, None, most, added <= most),
    ]


def _trips(busy: dict[str, list[Run]], calm: dict[str, list[Run]]) -> list[Result]:
    many, few = (statistics.median(run["round_trips"] / run["calls"] for run in runs["Redis"]) for runs in (busy, calm))
    return [
        Result(f"round trips per call, {IN_FLIGHT} in flight", many, "", None, None, 0.1, many <= 0.1),
        Result(f"round trips per call, {IN_FLIGHT} in flight of {CALM_MS} ms", few, "", None, None, None, None),
    ]


def _rate(run: Run) -> float:
    return run["prospects"] / run["seconds"]
