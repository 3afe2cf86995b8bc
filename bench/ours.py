"""One measured run of Sluiceway with everything on: `python -m bench.ours URL PEOPLE.CSV STORE IN_FLIGHT [RECORD]`.

Prints one line of JSON: prospects, seconds, CPU seconds, peak memory. With RECORD, every request is written there as
well, for the baseline to replay; such a run is not measured.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import msgspec

from sluiceway.app import App, Target, opened
from sluiceway.cli.options import sandbox_target
from sluiceway.file_enrichment import FileEnrichment, Options
from sluiceway.people_file import PeopleFile
from sluiceway.process import peak_memory_bytes
from sluiceway.settings import load_settings
from sluiceway.sources._contract import Request, Response, Source
from sluiceway.sources._http import Door, request_headers, request_url


class Recorder(Door):
    """A door that also writes down every request that passes, as the baseline will send it."""

    def __init__(self) -> None:
        super().__init__()
        self.passed: dict[str, dict[str, object]] = {}

    async def send(self, source: Source, request: Request, base_url: str, timeout_s: float) -> Response:
        key = request.key(source.provider)
        body = request.body.decode() if request.body else None
        headers = dict(request_headers(source, request))
        url = str(request_url(base_url, request))
        self.passed[key] = {"method": request.method, "url": url, "headers": headers, "body": body}
        return await super().send(source, request, base_url, timeout_s)


async def run(url: str, people: Path, store: str, in_flight: int, record: Path | None) -> dict[str, float]:
    """Enrich the people and measure from the first question to the last commit."""
    settings = load_settings(database_url=f"sqlite:///{store}", concurrency=in_flight)
    target: Target = sandbox_target(url)
    async with opened(settings, names=None, target=target, tell=lambda said: print(said, file=sys.stderr)) as app:
        recorder = Recorder()
        if record is not None:
            app = msgspec.structs.replace(app, door=await recorder.__aenter__())
        measured = await _measure(app, people)
        if record is not None:
            await asyncio.to_thread(record.write_text, json.dumps(recorder.passed))
            await recorder.__aexit__()
        return measured


async def _measure(app: App, people: Path) -> dict[str, float]:
    job = FileEnrichment(app, PeopleFile.open(people), people.with_suffix(".enriched.csv"), Options())
    taken = await job.take_in(lambda rows: None)
    seconds, cpu = time.perf_counter(), time.process_time()
    await job.run(lambda source, status: None, lambda ended: None)
    seconds, cpu = time.perf_counter() - seconds, time.process_time() - cpu
    return {"prospects": taken.prospects, "seconds": seconds, "cpu": cpu, "peak": peak_memory_bytes() or 0}


if __name__ == "__main__":
    address, csv, database, width, *rest = sys.argv[1:]
    print(json.dumps(asyncio.run(run(address, Path(csv), database, int(width), Path(rest[0]) if rest else None))))
