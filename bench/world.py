"""The people and the sandbox every measurement uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sluiceway.sandbox.people import people_csv
from sluiceway.sandbox.process import SandboxProcess

SEED = 0
PACE = 1_000_000.0
"""Requests per second allowed to each source: no waiting for turns, so that only our own work is measured."""


def write_people(path: Path, count: int, start: int = 0) -> Path:
    """Write a CSV of people of the sandbox's world, six tenants."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(people_csv(count, seed=SEED, tenants=6, start=start))
    return path


@contextmanager
def sandbox(folder: Path, latency_ms: int) -> Iterator[SandboxProcess]:
    """Run a sandbox in its own process, without faults, whose answers take so many milliseconds."""
    scenario = folder / f"latency-{latency_ms}.toml"
    scenario.write_text(
        f'name = "latency-{latency_ms}"\ndescription = "No faults."\n'
        f"[pace]\nall = {PACE}\n[edgar]\nlimit = 0\n"
        + (f'[[latency]]\nshape = "fixed"\nms = {latency_ms}\n' if latency_ms else "")
    )
    with SandboxProcess(seed=SEED, scenario=str(scenario)) as process:
        yield process
