"""The proof: the same people, the same kills and one emptied Redis, twice; then everybody's books beside the meter.

`python -m bench.proof` (`make proof`) runs a job written by hand (`bench/handwritten.py`) and Sluiceway's own command
against the sandbox, kills each with SIGKILL again and again, empties Redis half-way, and lets each finish. It prints
what the providers' meters billed, what was counted in Redis, and what was lost or doubled, and writes
`bench/out/proof.json`. Exits with 0 only if Sluiceway's guarantee holds (docs/accounting.md).
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from bench.private_redis import PrivateRedis
from bench.world import PACE, write_people
from sluiceway.sandbox.process import SandboxProcess

OUT = Path(__file__).parent / "out"
AT_ONCE = 20
"""People who are enriched at the same time, by either job."""

Meter = dict[str, dict[str, Any]]
"""What each provider has counted, by the names of `GET /_meter`."""

PROVIDERS = ("apollo", "contactout", "exa", "edgar", "claude")
SCENARIO = f"""description = "Nothing goes wrong at the providers."
[pace]
all = {PACE}
[edgar]
limit = 0
[[latency]]
shape = "lognormal"
median_ms = 15
p99_ms = 150
"""
_PATIENCE_S = 300.0
_COUNTER = re.compile(r"api_usage:([a-z]+):\d{4}-\d{2}-\d{2}")


class Trouble(msgspec.Struct, frozen=True):
    """When a job is killed and when Redis is emptied, in searches that Exa has billed and had not billed before.

    These grow with the rows that are done, whatever is asked twice, so they come at the same places for every job.
    """

    kills: tuple[int, ...]
    empty_at: int


class Books(msgspec.Struct):
    """One provider: what its meter says, and what the job's own books say.

    `counted` is the counter in Redis; `listed` and `total` are the ledger's billed attempts and the daily total, where
    there are such; `unknown` are attempts that the job itself lists as lost from sight.
    """

    billed: int
    repeated: int
    usd_micros: int
    counted: int
    unknown: int = 0
    listed: int | None = None
    total: int | None = None

    @property
    def lost(self) -> int:
        """Calls that were billed and that the job's books know nothing of."""
        return max(0, self.billed - self.counted - self.unknown)

    @property
    def excess(self) -> int:
        """Calls that were counted and that nobody billed."""
        return max(0, self.counted - self.billed)

    @property
    def doubled(self) -> int:
        """Calls that were bought again although they had been answered, or counted although nobody billed them."""
        return self.repeated + self.excess

    @property
    def drift(self) -> int:
        """Calls, and paid repeats, that the meter and the job's books cannot explain to each other."""
        return self.lost + self.excess + max(0, self.repeated - self.unknown)


class Outcome(msgspec.Struct):
    """How one job came through."""

    name: str
    kills: int
    seconds: float
    books: dict[str, Books]

    def sum_of(self, what: str) -> int:
        """Add up one figure over all providers."""
        return sum(getattr(books, what) for books in self.books.values())


class Job(ABC):
    """A command that is given again until it is done, and what it counts."""

    name: str

    def __init__(self, folder: Path, people: Path, sandbox: SandboxProcess, redis: PrivateRedis) -> None:
        self.folder = folder
        self.people = people
        self.sandbox = sandbox
        self.redis = redis

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command, which is the same every time."""

    def meter(self) -> Meter:
        """Return the providers' own meters."""
        columns: Meter = self.sandbox.meter()["providers"]
        return columns

    def books(self) -> dict[str, Books]:
        """Return the meter's figures and the counters in Redis."""
        meter, counted = self.meter(), counters(self.redis)
        return {
            provider: Books(
                meter[provider]["billed"],
                meter[provider]["repeated_requests"],
                meter[provider]["usd_micros"],
                counted.get(provider, 0),
            )
            for provider in PROVIDERS
        }

    @contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        """Start the command; it is killed when the context is left, if it still runs."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("SLUICEWAY_")}
        ours["SLUICEWAY_REDIS_URL"] = self.redis.url
        with (self.folder / f"{self.name}.log").open("ab") as log:
            process = subprocess.Popen(self.command(), stdout=log, stderr=log, env=ours)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def last_words(self) -> str:
        """Return the end of what the command wrote."""
        return (self.folder / f"{self.name}.log").read_text(encoding="utf-8", errors="replace")[-2000:]


class ByHand(Job):
    """The job written by hand."""

    name = "by hand"

    def command(self) -> list[str]:
        where = [str(self.people), self.sandbox.url, self.redis.url, str(self.folder / "results.jsonl")]
        return [sys.executable, "-m", "bench.handwritten", *where, str(AT_ONCE)]


class Sluiceway(Job):
    """Sluiceway's command, and the ledger it keeps."""

    name = "sluiceway"

    def command(self) -> list[str]:
        where = ["--sandbox-url", self.sandbox.url, "--database", f"sqlite:///{self._store.as_posix()}"]
        how = ["--concurrency", str(AT_ONCE), "-o", str(self.folder / "enriched.csv"), "--yes"]
        return [sys.executable, "-m", "sluiceway", "enrich", str(self.people), *where, *how]

    def books(self) -> dict[str, Books]:
        """Add what the ledger lists, and the daily totals."""
        books = super().books()
        with closing(sqlite3.connect(self._store)) as ledger:
            for provider, kind, count in ledger.execute(
                "SELECT provider, COALESCE(charge, 'unknown'), COUNT(*) FROM attempts GROUP BY 1, 2"
            ):
                if kind == "billed":
                    books[provider].listed = count
                elif kind == "unknown":
                    books[provider].unknown += count
            query = "SELECT provider, SUM(billed + tracked + imported) FROM daily_totals GROUP BY provider"
            for provider, total in ledger.execute(query):
                books[provider].total = total
        return books

    @property
    def _store(self) -> Path:
        return self.folder / "ledger.db"


def counters(redis: PrivateRedis) -> dict[str, int]:
    """Return what Redis has counted, by provider, over all days."""
    counted: dict[str, int] = {}
    for key in redis.client.scan_iter(match="api_usage:*", count=1000):
        if named := _COUNTER.fullmatch(key):
            counted[named[1]] = counted.get(named[1], 0) + int(redis.client.get(key) or 0)
    return counted


def trouble_for(people: int, kills: int, luck: random.Random) -> Trouble:
    """Spread the kills over the work, at random, and empty Redis in the middle of it."""
    reach = 0.85 * people  # Exa is asked about nineteen of twenty people, and the last kill comes before the end
    return Trouble(tuple(sorted(int(luck.uniform(0, reach)) for _ in range(kills))), int(reach / 2))


def run(job: Job, trouble: Trouble, luck: random.Random) -> Outcome:
    """Give the command again and again, killed each time, until it is allowed to finish."""
    began = time.monotonic()
    emptying = [trouble.empty_at]
    for number, moment in enumerate(trouble.kills):
        with job.started() as process:
            _watch(job, process, emptying, _reached(moment, job.meter()))
            time.sleep(luck.uniform(0, 0.05))
            if process.poll() is not None:
                raise SystemExit(f"{job.name} ended before kill {number + 1}:\n{job.last_words()}")
    with job.started() as process:
        _watch(job, process, emptying, lambda meter: False)
        if process.poll() != 0 or emptying:
            raise SystemExit(f"{job.name} did not finish:\n{job.last_words()}")
    return Outcome(job.name, len(trouble.kills), time.monotonic() - began, job.books())


def _watch(job: Job, process: subprocess.Popen[bytes], emptying: list[int], enough: Callable[[Meter], bool]) -> None:
    """Wait until a job has got far enough, or has ended; empty Redis when that is due."""
    give_up = time.monotonic() + _PATIENCE_S
    while process.poll() is None and time.monotonic() < give_up:
        meter = job.meter()
        if emptying and _progress(meter) >= emptying[0]:
            job.redis.restart_empty()
            emptying.clear()
        if enough(meter):
            return
        time.sleep(0.005)


def _progress(meter: Meter) -> int:
    return int(meter["exa"]["billed"] - meter["exa"]["repeated_billed"])


def _reached(moment: int, before: Meter) -> Callable[[Meter], bool]:
    """Return what tells whether a job has got so far, and has asked anything at all since `before`."""
    return lambda meter: _progress(meter) >= moment and _asked(meter) > _asked(before)


def _asked(meter: Meter) -> int:
    return sum(column["requests"] for column in meter.values())


def broken(outcome: Outcome) -> list[str]:
    """Return what of Sluiceway's guarantee does not hold, one sentence each."""
    sentences = []
    for provider, books in outcome.books.items():
        listed = books.listed or 0
        if not listed <= books.billed <= listed + books.unknown:
            sentences.append(f"{provider}: billed {books.billed}, the ledger has {listed} and {books.unknown} unknown")
        if books.repeated > books.unknown:
            sentences.append(f"{provider}: {books.repeated} requests repeated, {books.unknown} unknown")
        if not listed == (books.total or 0) == books.counted:
            sentences.append(f"{provider}: counter {books.counted}, daily total {books.total}, ledger {books.listed}")
    return sentences


# Showing it.

_COLUMNS = {"meter": "billed"} | {name: name for name in ("counted", "unknown", "lost", "doubled", "drift")}
_ROW = "{:<18}" + "{:>10}" * len(_COLUMNS) + "{:>12}"
_WIDTH = 18 + 10 * len(_COLUMNS) + 12


def show(by_hand: Outcome, ours: Outcome, people: int, seed: int) -> Iterator[str]:
    """Yield the figure, line by line."""
    yield f"{people:,} people, {by_hand.kills} SIGKILLs and one emptied Redis, twice (seed {seed})"
    yield ""
    yield _ROW.format("", *_COLUMNS, "bill")
    for title, outcome in (("written by hand", by_hand), ("Sluiceway", ours)):
        yield f"{title} ".ljust(_WIDTH, "─")
        for provider in outcome.books:
            yield _line(provider, outcome, provider)
        yield _line("all five", outcome, *outcome.books)
    yield "─" * _WIDTH
    yield from _in_words(by_hand, ours)


def _line(title: str, outcome: Outcome, *providers: str) -> str:
    books = [outcome.books[provider] for provider in providers]
    figures = (sum(getattr(one, what) for one in books) for what in _COLUMNS.values())
    bill = sum(one.usd_micros for one in books)
    return _ROW.format(f"  {title}", *(f"{n:,}" if n else "·" for n in figures), f"${bill / 1e6:,.2f}")


def _in_words(by_hand: Outcome, ours: Outcome) -> Iterator[str]:
    dearer = (by_hand.sum_of("usd_micros") - ours.sum_of("usd_micros")) / 1e6
    billed, lost, doubled = (by_hand.sum_of(what) for what in ("billed", "lost", "doubled"))
    yield f"By hand, {lost:,} of {billed:,} billed calls are in no count, {doubled:,} were bought twice, and the"
    yield f"bill for the same answers is ${dearer:,.2f} higher."
    unknown, repeated = ours.sum_of("unknown"), ours.sum_of("repeated")
    yield f"Sluiceway counts every billed call, or lists it: kills cut {unknown:,} off, which are listed as"
    yield f"unknown; {repeated:,} of them had been billed and were bought once more (--on-unknown ask-once)."
    yield "EDGAR counts documents answered 200; by hand, shared ones are fetched again in each life."


def main() -> None:
    """Run both jobs, show the figure and keep it."""
    options = _options()
    seed = options.seed
    with tempfile.TemporaryDirectory(prefix="sluiceway-proof-") as name:
        folder = Path(name)
        people = write_people(folder / "people.csv", options.people)
        trouble = trouble_for(options.people, options.kills, random.Random(seed))
        by_hand, ours = (_under(trouble, job, folder, people, random.Random(seed)) for job in (ByHand, Sluiceway))
    print("\n".join(show(by_hand, ours, options.people, seed)))
    failures = broken(ours)
    took = by_hand.seconds + ours.seconds
    print("\n".join(failures or [f"The guarantee holds for each provider; this took {took:.0f} s."]))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    kept = {"seed": seed, "people": options.people, "holds": not failures, "jobs": [by_hand, ours]}
    options.out.write_bytes(msgspec.json.format(msgspec.json.encode(kept)))
    sys.exit(1 if failures else 0)


def _under(trouble: Trouble, kind: type[Job], folder: Path, people: Path, luck: random.Random) -> Outcome:
    """Run one kind of job in a world of its own."""
    scenario = folder / "proof.toml"
    scenario.write_text(SCENARIO)
    with SandboxProcess(scenario=str(scenario)) as sandbox, PrivateRedis() as redis:
        return run(kind(folder, people, sandbox, redis), trouble, luck)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.proof", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--people", type=int, default=2_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="the same seed, the same kills")
    parser.add_argument("--out", type=Path, default=OUT / "proof.json", help="where the figures are kept, as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
