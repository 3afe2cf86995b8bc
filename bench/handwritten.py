"""The job people write by hand, as well as a careful team writes it in an afternoon; `make proof` runs it.

`python -m bench.handwritten PEOPLE.CSV SANDBOX_URL REDIS_URL RESULTS.JSONL AT_ONCE`

It asks the five providers about each row, waits and tries again when it is told to, and counts every call that the
provider bills, after it succeeded, by INCR and EXPIRE in one pipeline, without waiting for it. A finished row is a line
of the results, so the same command again goes on with the rows that have none. The requests, and what an answer means,
are Sluiceway's own: only the bookkeeping is written by hand.
"""

from __future__ import annotations

import asyncio
import csv
import json
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import aiohttp
import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from sluiceway.outcome import FREE, ChargeKind, Status
from sluiceway.prospect import Person, Want
from sluiceway.sources import Request, Response, Skip, Source, Subject, all_sources
from sluiceway.sources._contract import Reading, understand
from sluiceway.sources._http import request_headers, request_url

TRIES = 3
KEPT_S = 90 * 86_400
NOTHING = Reading(Status.FAILED, FREE, "no answer")
COLUMNS = ("first_name", "last_name", "email", "company", "domain", "linkedin_url", "title")


class Job:
    """Enriches rows, several at a time."""

    def __init__(self, session: aiohttp.ClientSession, sandbox: str, redis: Redis, results: TextIO) -> None:
        self._session = session
        self._sandbox = sandbox
        self._redis = redis
        self._results = results
        self._counting: set[asyncio.Task[None]] = set()
        self._documents: dict[str, asyncio.Task[Reading]] = {}
        self._sources = [kind(_credential(kind)) for kind in all_sources().values()]

    async def run(self, rows: Iterator[tuple[int, Person]], at_once: int) -> None:
        """Enrich every row, then wait for the counting that is still under way."""

        async def work() -> None:
            for number, person in rows:
                found = await self._enrich(person)
                self._results.write(json.dumps({"row": number, "found": found}) + "\n")
                self._results.flush()

        await asyncio.gather(*(work() for _ in range(at_once)))
        await asyncio.gather(*self._counting)

    async def _enrich(self, person: Person) -> dict[str, Any]:
        """Ask four providers at once, and Claude about what they found."""
        subject = Subject(person, (Want.WORK_EMAIL,), datetime.now(UTC).date())
        first = [source for source in self._sources if not source.after_others]
        said = await asyncio.gather(*(self._ask(source, subject) for source in first))
        found = {source.name: values for source, values in zip(first, said, strict=True) if values}
        for source in self._sources:
            if source.after_others and found:
                found[source.name] = await self._ask(source, msgspec.structs.replace(subject, findings=found))
        return found

    async def _ask(self, source: Source, subject: Subject) -> dict[str, Any]:
        """Send whatever a source wants to know, one thing after the other, and return what it found."""
        asking = source.ask(subject)
        answer: Any = None
        while True:
            try:
                asked = asking.send(answer)
            except StopIteration as stop:
                last = stop.value
                break
            if isinstance(asked, tuple):
                answer = tuple(await asyncio.gather(*(self._get(source, subject, one) for one in asked)))
            else:
                answer = await self._get(source, subject, asked)
        if isinstance(last, Skip) or last.status is not Status.COMPLETE:
            return {}
        return {found.field.value: found.value for found in last.found}

    async def _get(self, source: Source, subject: Subject, request: Request) -> Reading:
        """Get an answer; a document that is about nobody in particular is fetched once and shared."""
        if not request.shared:
            return await self._call(source, subject, request)
        key = request.key(source.provider)
        if key not in self._documents:
            self._documents[key] = asyncio.create_task(self._call(source, subject, request))
        return await self._documents[key]

    async def _call(self, source: Source, subject: Subject, request: Request) -> Reading:
        """Send a request, again after a failure that may pass, and count it once it has succeeded."""
        reading, wait = NOTHING, 0.5
        for tried in range(TRIES):
            try:
                response = await self._send(source, request)
            except (aiohttp.ClientError, TimeoutError) as error:
                print(f"{source.title}: {error!r}", file=sys.stderr)
            else:
                reading = understand(source, subject, request, response)
                if response.status != 429 and response.status < 500:
                    break
                wait = response.retry_after or wait
            await asyncio.sleep(wait * 2**tried)
        if reading.charge.kind is ChargeKind.BILLED:
            counting = asyncio.create_task(self._count(source.provider))
            self._counting.add(counting)
            counting.add_done_callback(self._counting.discard)
        return reading

    async def _send(self, source: Source, request: Request) -> Response:
        url = request_url(self._sandbox + source.sandbox[request.host], request)
        headers = request_headers(source, request)
        async with self._session.request(request.method, url, data=request.body, headers=headers) as answer:
            kept: Mapping[str, str] = {name.lower(): value for name, value in answer.headers.items()}
            return Response(answer.status, kept, await answer.read())

    async def _count(self, provider: str) -> None:
        key = f"api_usage:{provider}:{datetime.now(UTC):%Y-%m-%d}"
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.incr(key)
                pipe.expire(key, KEPT_S)
                await pipe.execute()
        except RedisError as error:
            print(f"usage of {provider} was not counted: {error}", file=sys.stderr)


def _credential(kind: type[Source]) -> str:
    if kind.needs and not kind.needs.secret:
        return "By hand sandbox@byhand.example"
    return f"sandbox-{kind.name}"


def people_in(path: Path, done: set[int]) -> Iterator[tuple[int, Person]]:
    """Yield the rows that are not done, with their numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            if number not in done:
                yield number, Person(**{column: row[column].strip() for column in COLUMNS})


def done_in(results: Path) -> set[int]:
    """Return which rows have a result; a line that was cut short is none."""
    if not results.exists():
        return set()
    lines = results.read_text(encoding="utf-8").splitlines()
    return {json.loads(line)["row"] for line in lines if line.endswith("}}")}


async def main(people: Path, sandbox: str, redis_url: str, results: Path, at_once: int) -> None:
    """Go on where the last run stopped."""
    done = done_in(results)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout) as session, Redis.from_url(redis_url) as redis:
        with results.open("a", encoding="utf-8") as file:
            file.write("\n")  # whatever the last run was writing when it died ends here
            await Job(session, sandbox, redis, file).run(people_in(people, done), at_once)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]), int(sys.argv[5])))
