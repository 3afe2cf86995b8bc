"""Throughput with everything on, as a share of a bare loop that sends the same requests."""

from __future__ import annotations

import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from bench.result import Result
from bench.world import sandbox, write_people

IN_FLIGHT = 200
PAIRS = 5


def measure(folder: Path, *, latency_ms: int, people: int, target: float) -> list[Result]:
    """Alternate the baseline and the real thing, five times each, against one sandbox."""
    csv = write_people(folder / f"people-{people}.csv", people)
    with sandbox(folder, latency_ms) as process:
        requests = _requests_of_a_run(folder, process.url, csv)
        bare, ours = [], []
        for pair in range(PAIRS):
            bare.append(call("bench.bare", str(requests), str(IN_FLIGHT)))
            ours.append(_ours(process.url, csv, folder / f"pair-{latency_ms}-{pair}.db"))
    rate = statistics.median(run["prospects"] / run["seconds"] for run in ours)
    bare_rate = statistics.median(run["prospects"] / run["seconds"] for run in bare)
    ratio = statistics.median(
        (mine["prospects"] / mine["seconds"]) / (theirs["prospects"] / theirs["seconds"])
        for mine, theirs in zip(ours, bare, strict=True)
    )
    cpu = statistics.median(run["cpu"] / run["prospects"] * 1e6 for run in ours)
    bare_cpu = statistics.median(run["cpu"] / run["prospects"] * 1e6 for run in bare)
    what = f"{latency_ms} ms latency, {IN_FLIGHT} in flight"
    return [
        Result(f"throughput, {what}", rate, "prospects/s", bare_rate, ratio, target, ratio >= target),
        Result(f"CPU per prospect, {what}", cpu, "µs", bare_cpu, cpu / bare_cpu, None, None),
    ]


def _requests_of_a_run(folder: Path, url: str, csv: Path) -> Path:
    """Run once, recording; hold the record against the ledger, and arrange it for the baseline."""
    folder = Path(tempfile.mkdtemp(dir=folder))
    store, record = folder / "recorded.db", folder / "recorded.json"
    _ours(url, csv, store, record)
    passed = json.loads(record.read_text())
    with sqlite3.connect(store) as ledger:
        keys = Counter(key for (key,) in ledger.execute("SELECT request_key FROM attempts"))
    if keys != Counter(request["key"] for request in passed):
        raise RuntimeError("the recorded requests are not those of the ledger")
    requests = folder / "requests.json"
    requests.write_text(json.dumps(_by_prospect(passed)))
    return requests


def _by_prospect(passed: list[dict[str, Any]]) -> list[Any]:
    """Arrange requests as they depend on each other: a chain per source; of one endpoint in a row, at once."""
    prospects: dict[str, dict[str, list[list[Any]]]] = {}
    for request in passed:
        chain = prospects.setdefault(request["prospect"], {}).setdefault(request["source"], [])
        if chain and chain[-1][0]["endpoint"] == request["endpoint"]:
            chain[-1].append(request)
        else:
            chain.append([request])
    return [
        ([chain for source, chain in chains.items() if source != "claude"], chains.get("claude", []))
        for chains in prospects.values()
    ]


def _ours(url: str, csv: Path, store: Path, record: Path | None = None) -> dict[str, float]:
    return call("bench.ours", url, str(csv), str(store), str(IN_FLIGHT), *([str(record)] if record else []))


def call(module: str, *arguments: str) -> dict[str, float]:
    """Run a module in a process of its own and return what it measured."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} ended with {done.returncode}: {done.stderr[-2000:]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured
