"""A sandbox on a free port, and people to ask it about."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import aiohttp
import pytest
from talk import SEED, TODAY, Talk

from sluiceway.sandbox.server import Sandbox
from sluiceway.sandbox.world import Person, World


@pytest.fixture
async def talk() -> AsyncIterator[Talk]:
    timeout = aiohttp.ClientTimeout(total=5)
    async with Sandbox(seed=SEED, today=TODAY) as sandbox, aiohttp.ClientSession(timeout=timeout) as session:
        yield Talk(sandbox, session)


@pytest.fixture(scope="session")
def world() -> World:
    return World(SEED, TODAY)


@pytest.fixture(scope="session")
def someone(world: World) -> Callable[..., Person]:
    """Find the first person with the traits wanted; what is not said is as it is for most people."""

    def find(**traits: bool) -> Person:
        wanted = {"in_apollo": True, "in_contactout": True, "in_exa": True, "shares_a_name": False} | traits
        found: Iterator[Person] = (world.person(number) for number in range(2000))
        reachable = (person for person in found if person.email_status == "verified")
        return next(each for each in reachable if all(getattr(each, trait) == value for trait, value in wanted.items()))

    return find
