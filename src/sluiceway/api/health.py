"""Whether the process lives, and whether it can work: asked by whatever restarts it or sends it requests.

Nobody has to show who they are, so nothing is said about tenants or people.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from importlib.metadata import version
from typing import Final

import msgspec
from fastapi import APIRouter, Request

from sluiceway.api.answers import Json
from sluiceway.api.caller import service_of
from sluiceway.api.world import World
from sluiceway.errors import StoreUnavailable
from sluiceway.store.facts import fact, set_fact
from sluiceway.usage.ledger import Task

router = APIRouter(include_in_schema=False)

_PATIENCE_S: Final = 2.0
"""Seconds within which the store has to answer."""

_JUST_NOW_S: Final = 5.0
"""A commit as recent as this shows that the store can be written; without one, something is written to find out."""

_LOOKED_AT: Final = "written_to_see"
_WELL: Final = "ok"


class Alive(msgspec.Struct, frozen=True):
    """The process answers."""

    status: str
    version: str
    uptime_s: float


class Readiness(msgspec.Struct, frozen=True):
    """Whether work can be done, and each part's word: `ok`, or what is the matter.

    Redis may be down: limits are then decided from the store, and the public counters catch up later.
    """

    ready: bool
    store: str
    runner: str
    shutdown: str
    redis: str


@router.get("/healthz")
async def healthz(request: Request) -> Json:
    """Say that the process answers."""
    main = service_of(request).main
    uptime_s = (main.now - service_of(request).started_at).total_seconds()
    return Json(Alive("alive", version("sluiceway"), round(uptime_s, 1)))


@router.get("/readyz")
async def readyz(request: Request) -> Json:
    """Say whether work can be done; 503 says which part is in the way."""
    found = await readiness(service_of(request).main)
    return Json(found, 200 if found.ready else 503)


async def readiness(world: World) -> Readiness:
    """Look at every part."""
    store = await _store(world)
    runner = _WELL if world.runner.alive else "has stopped"
    shutdown = "draining: takes no more work" if world.gate.draining.is_set() else _WELL
    return Readiness({store, runner, shutdown} == {_WELL}, store, runner, shutdown, _redis(world))


async def _store(world: World) -> str:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await world.read(fact, _LOOKED_AT)
            if not _written_lately(world):
                note = partial(set_fact, name=_LOOKED_AT, value=world.stamp)
                await asyncio.shield(world.writer.put(Task(note)))
    except TimeoutError:
        return f"cannot be read or written within {_PATIENCE_S:g} s"
    except StoreUnavailable:
        return "is closed"
    except Exception as error:  # whatever it is, no work can be done
        return f"refuses ({type(error).__name__})"
    return _WELL


def _written_lately(world: World) -> bool:
    """Tell whether a commit has just succeeded and nothing has been waiting for one since."""
    writer = world.writer
    return time.monotonic() - writer.committed_at < _JUST_NOW_S and writer.lag_s < _PATIENCE_S


def _redis(world: World) -> str:
    if world.publisher is None:
        return "none is set"
    return _WELL if world.publisher.answers else "does not answer; limits hold, and counters catch up later"
