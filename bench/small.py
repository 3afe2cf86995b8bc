"""What is measured without a sandbox: counting a call, and starting up."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.result import Result
from sluiceway.usage.track import Tracker

CALLS = 200_000
STARTS = 7


def tracking(folder: Path) -> list[Result]:
    """Time `track_api_usage`, in batches because one call is shorter than a clock's tick."""
    tracker = Tracker(f"sqlite:///{folder / 'track.db'}")
    tracker.track("apollo")
    took, empty = [], []
    for _ in range(CALLS // 1000):
        started = time.perf_counter()
        for _ in range(1000):
            tracker.track("apollo")
        took.append((time.perf_counter() - started) / 1000 * 1e6)
        started = time.perf_counter()
        for _ in range(1000):
            _nothing("apollo")
        empty.append((time.perf_counter() - started) / 1000 * 1e6)
    tracker.close()
    value, baseline = statistics.median(took), statistics.median(empty)
    return [Result("track_api_usage, median of a call", value, "µs", baseline, value / baseline, 1.0, value < 1.0)]


def _nothing(provider: str) -> None:
    """Stand for the least a call can cost."""


def start_up() -> list[Result]:
    """Time a bare interpreter, importing the package, and showing the help."""
    commands = {
        "import sluiceway": [sys.executable, "-c", "import sluiceway"],
        "sluiceway --help": [sys.executable, "-m", "sluiceway", "--help"],
    }
    bare = [sys.executable, "-c", "pass"]
    results = []
    for name, command in commands.items():
        pairs = [(_seconds(bare), _seconds(command)) for _ in range(STARTS)]
        baseline, value = (statistics.median(times) for times in zip(*pairs, strict=True))
        ratio = statistics.median(theirs / bare_time for bare_time, theirs in pairs)
        results.append(Result(f"start-up: {name}", value * 1e3, "ms", baseline * 1e3, ratio, None, None))
    return results


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started
