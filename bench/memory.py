"""Peak memory and cost per prospect for a large file, from CSV to enriched CSV."""

from __future__ import annotations

from pathlib import Path

from bench.result import Result
from bench.throughput import IN_FLIGHT, call
from bench.world import sandbox, write_people

SMALL, LARGE = 1_000, 100_000
LIMIT_MB = 300.0


def measure(folder: Path) -> list[Result]:
    """Enrich a small and a large file, each in a process of its own."""
    runs = {}
    for count in (SMALL, LARGE):
        csv = write_people(folder / f"people-{count}.csv", count)
        with sandbox(folder, 0) as process:
            runs[count] = call("bench.ours", process.url, str(csv), str(folder / f"m{count}.db"), str(IN_FLIGHT))
    peak = runs[LARGE]["peak"] / 2**20
    small, large = (runs[count]["cpu"] / runs[count]["prospects"] * 1e6 for count in (SMALL, LARGE))
    return [
        Result(
            f"peak memory, {LARGE:,} prospects",
            peak,
            "MiB",
            runs[SMALL]["peak"] / 2**20,
            None,
            LIMIT_MB,
            peak < LIMIT_MB,
        ),
        Result(
            f"CPU per prospect, {LARGE:,} beside {SMALL:,}",
            large,
            "µs",
            small,
            large / small,
            1.25,
            large / small < 1.25,
        ),
    ]
