"""One measured run of Sluiceway with everything on: `python -m bench.ours URL PEOPLE.CSV STORE IN_FLIGHT [RECORD]`.

Prints one line of JSON: prospects, seconds, CPU seconds, peak memory. With RECORD, every request is written there as
well, for the baseline to replay; such a run is not measured.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextvars import ContextVar
from pathlib import Path

import msgspec

from sluiceway.app import App, opened
from sluiceway.cli.options import sandbox_target
from sluiceway.file_enrichment import FileEnrichment, Options
from sluiceway.people_file import PeopleFile
from sluiceway.pipeline.history import History
from sluiceway.pipeline.run import Ended, Enricher
from sluiceway.process import peak_memory_bytes
from sluiceway.settings import load_settings
from sluiceway.sources._contract import Request, Response, Source
from sluiceway.sources._http import Door, request_headers, request_url

_CURRENT: ContextVar[str] = ContextVar("prospect")


class Recorder(Door):
    """A door that also writes down every request that passes, and for which prospect it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.passed: list[dict[str, object]] = []

    async def send(self, source: Source, request: Request, base_url: str, timeout_s: float) -> Response:
        passed = {
            "key": request.key(source.provider),
            "prospect": _CURRENT.get(),
            "source": source.name,
            "endpoint": request.endpoint,
            "method": request.method,
            "url": str(request_url(base_url, request)),
            "headers": request_headers(source, request),
            "body": request.body.decode() if request.body else None,
        }
        self.passed.append(passed)
        return await super().send(source, request, base_url, timeout_s)


def note_whose(enricher: Enricher) -> None:
    """Have an enricher note whose requests are being sent; tasks it starts inherit the note."""
    enrich = enricher.enrich

    async def noted(history: History) -> Ended:
        _CURRENT.set(history.prospect.id)
        return await enrich(history)

    enricher.enrich = noted


async def record(app: App, people: Path, out: Path) -> None:
    """Enrich the people once and write down every request, in the order they were sent."""
    job = FileEnrichment(app, PeopleFile.open(people), people.with_suffix(".enriched.csv"), Options())
    await job.take_in(lambda rows: None)
    async with Recorder() as recorder:
        recording = msgspec.structs.replace(app, door=recorder)
        dispatcher = recording.embedded(job.batch, app.order(job.batch.id, "file", app.settings.want))
        note_whose(dispatcher.enricher)
        await dispatcher.run()
    await asyncio.to_thread(out.write_text, json.dumps(recorder.passed))


async def measure(app: App, people: Path) -> dict[str, float]:
    """Enrich the people and measure from the first question to the last commit."""
    job = FileEnrichment(app, PeopleFile.open(people), people.with_suffix(".enriched.csv"), Options())
    taken = await job.take_in(lambda rows: None)
    seconds, cpu = time.perf_counter(), time.process_time()
    await job.run(lambda source, status: None, lambda ended: None)
    seconds, cpu = time.perf_counter() - seconds, time.process_time() - cpu
    return {"prospects": taken.prospects, "seconds": seconds, "cpu": cpu, "peak": peak_memory_bytes() or 0}


async def run(url: str, people: Path, store: str, in_flight: int, out: Path | None) -> dict[str, float]:
    """Open everything as the command does, and record or measure."""
    settings = load_settings(database_url=f"sqlite:///{store}", concurrency=in_flight)
    target = sandbox_target(url)
    async with opened(settings, names=None, target=target, tell=lambda said: print(said, file=sys.stderr)) as app:
        if out is None:
            return await measure(app, people)
        await record(app, people, out)
        return {}


if __name__ == "__main__":
    address, csv, database, width, *rest = sys.argv[1:]
    print(json.dumps(asyncio.run(run(address, Path(csv), database, int(width), Path(rest[0]) if rest else None))))
