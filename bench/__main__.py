"""Measure everything, print a table, and write `bench/out/latest.json`."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from bench import admission, counting, memory, small, throughput
from bench.result import Result

OUT = Path(__file__).parent / "out"


def main() -> None:
    """Measure what was asked for; without arguments, everything."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out the large file and use fewer people")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory(prefix="sluiceway-bench-") as name:
        folder = Path(name)
        results = small.tracking(folder) + small.start_up()
        results += throughput.measure(folder, latency_ms=0, people=1_000 if quick else 4_000, target=0.50)
        results += throughput.measure(folder, latency_ms=200, people=1_000 if quick else 4_000, target=0.95)
        results += counting.measure(folder, people=4_000 if quick else 10_000)
        results += admission.measure(folder, people=1_000 if quick else 2_000)
        if not quick:
            results += memory.measure(folder)
    _show(results)
    OUT.mkdir(exist_ok=True)
    (OUT / "latest.json").write_bytes(msgspec.json.format(msgspec.json.encode(results)))


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
