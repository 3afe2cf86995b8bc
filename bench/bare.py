"""The baseline: a bare asyncio loop that sends the very requests of a measured run, same client, no storage.

`python -m bench.bare REQUESTS.JSON IN_FLIGHT` prints one line of JSON: prospects, seconds, CPU seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

Step = list[dict[str, Any]]
"""Requests that can be sent at once."""

Prospect = tuple[list[list[Step]], list[Step]]
"""One prospect's requests: a chain of steps per source, the chains side by side; and the steps that come after all."""


async def replay(prospects: list[Prospect], in_flight: int) -> dict[str, float]:
    """Send every prospect's requests, so many prospects at a time, and read each answer to its end."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        left = iter(prospects)

        async def work() -> None:
            for chains, after in left:
                await asyncio.gather(*(_walk(session, chain) for chain in chains))
                await _walk(session, after)

        seconds, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work() for _ in range(in_flight)))
        return {
            "prospects": len(prospects),
            "seconds": time.perf_counter() - seconds,
            "cpu": time.process_time() - cpu,
        }


async def _walk(session: aiohttp.ClientSession, steps: list[Step]) -> None:
    """Send one step after another, because what is asked depends on what was answered."""
    for step in steps:
        if len(step) == 1:
            await _send(session, step[0])
        else:
            await asyncio.gather(*(_send(session, request) for request in step))


async def _send(session: aiohttp.ClientSession, request: dict[str, Any]) -> bytes:
    async with session.request(
        request["method"], request["url"], headers=request["headers"], data=request["body"], allow_redirects=False
    ) as answer:
        return await answer.read()


def _prepared(steps: list[Step]) -> list[Step]:
    return [[_ready(request) for request in step] for step in steps]


def _ready(request: dict[str, Any]) -> dict[str, Any]:
    body = request["body"].encode() if request["body"] else None
    return {**request, "url": URL(request["url"], encoded=True), "body": body}


if __name__ == "__main__":
    recorded = json.loads(Path(sys.argv[1]).read_text())
    prospects = [([_prepared(chain) for chain in chains], _prepared(after)) for chains, after in recorded]
    print(json.dumps(asyncio.run(replay(prospects, int(sys.argv[2])))))
