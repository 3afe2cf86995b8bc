"""Measure part by part, print a table of each, and write `bench/out/latest.json`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from bench import admission, counting, memory, small, throughput, transfer
from bench.result import Result

OUT = Path(__file__).parent / "out"


def main() -> None:
    """Measure what was asked for; without arguments, everything. What one part cannot measure costs no other part."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out the large file and use fewer people")
    parser.add_argument("--only", metavar="PART", action="append", help=f"only these parts: {', '.join(PARTS)}")
    wanted = parser.parse_args()
    results: list[Result] = []
    failed = []
    for name, part in PARTS.items():
        if name not in (wanted.only or PARTS) or (wanted.quick and name == "memory"):
            continue
        try:
            with tempfile.TemporaryDirectory(prefix="sluiceway-bench-") as folder:
                measured = part(Path(folder), wanted.quick)
        except (Exception, SystemExit):  # such as a redis-server that is not installed
            traceback.print_exc()
            failed.append(name)
        else:
            results += measured
            _show(measured)
    OUT.mkdir(exist_ok=True)
    (OUT / "latest.json").write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


PARTS: dict[str, Callable[[Path, bool], list[Result]]] = {
    "small": lambda folder, quick: small.tracking(folder) + small.start_up(),
    "fast": lambda folder, quick: throughput.measure(
        folder, latency_ms=0, people=1_000 if quick else 4_000, target=0.50
    ),
    "slow": lambda folder, quick: throughput.measure(
        folder, latency_ms=200, people=1_000 if quick else 4_000, target=0.95
    ),
    "counting": lambda folder, quick: counting.measure(folder, people=4_000 if quick else 10_000),
    "admission": lambda folder, quick: admission.measure(folder, people=1_000 if quick else 2_000),
    "transfer": lambda folder, quick: transfer.measure(
        folder, people=2_000 if quick else transfer.SMALL, pairs=3, large=10_000 if quick else transfer.LARGE
    ),
    "memory": lambda folder, quick: memory.measure(folder),
}


def _show(results: list[Result]) -> None:
    table = Table("measured", "value", "baseline", "ratio", "target", "holds")
    for result in results:
        table.add_row(
            result.name,
            f"{result.value:,.3g} {result.unit}" if result.value < 100 else f"{result.value:,.0f} {result.unit}",
            ""
            if result.baseline is None
            else f"{result.baseline:,.3g}"
            if result.baseline < 100
            else f"{result.baseline:,.0f}",
            "" if result.ratio is None else f"{result.ratio:.2f}",
            "" if result.target is None else f"{result.target:g}",
            {True: "yes", False: "NO", None: ""}[result.holds],
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
