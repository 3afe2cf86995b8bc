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

Prospect = tuple[list[dict[str, Any]], list[dict[str, Any]]]
"""One prospect's requests: those sent at once, and those sent after them."""


async def replay(prospects: list[Prospect], in_flight: int) -> dict[str, float]:
    """Send every prospect's requests, so many prospects at a time, and read each answer to its end."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        left = iter(prospects)

        async def work() -> None:
            for first, last in left:
                await asyncio.gather(*(_send(session, request) for request in first))
                for request in last:
                    await _send(session, request)

        seconds, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work() for _ in range(in_flight)))
        return {
            "prospects": len(prospects),
            "seconds": time.perf_counter() - seconds,
            "cpu": time.process_time() - cpu,
        }


async def _send(session: aiohttp.ClientSession, request: dict[str, Any]) -> bytes:
    async with session.request(
        request["method"], request["url"], headers=request["headers"], data=request["body"], allow_redirects=False
    ) as answer:
        return await answer.read()


def _prepared(request: dict[str, Any]) -> dict[str, Any]:
    body = request["body"].encode() if request["body"] else None
    return {**request, "url": URL(request["url"], encoded=True), "body": body}


if __name__ == "__main__":
    recorded = json.loads(Path(sys.argv[1]).read_text())
    ready = [([_prepared(r) for r in first], [_prepared(r) for r in last]) for first, last in recorded]
    print(json.dumps(asyncio.run(replay(ready, int(sys.argv[2])))))
