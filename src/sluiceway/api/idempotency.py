"""`Idempotency-Key`: what a request that costs money is known by, so that it is done once (`pipeline/once.py`)."""

from __future__ import annotations

from hashlib import blake2b
from typing import Annotated

from fastapi import Header, Request

from sluiceway.api.caller import Asker
from sluiceway.pipeline.once import Key

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="A name of yours for this request. The same one again is answered what this one was, for 7 days.",
    ),
]


async def key_of(request: Request, asker: Asker, key: str | None) -> Key | None:
    """Return a request's key; `None` where it came without one."""
    if key is None:
        return None
    digest = blake2b(await request.body(), digest_size=16)
    digest.update(request.url.query.encode())
    route = f"{request.method} {request.url.path}"
    return Key(asker.scope.tenant_id or "", route, key, digest.hexdigest())
