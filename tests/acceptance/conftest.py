"""A sandbox for all of these tests, and a desk for each."""

from __future__ import annotations

import os
import random
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("acceptance.judge", "acceptance.desk", "acceptance.deaths")

from acceptance.deaths import MOMENTS, die_and_go_on  # noqa: E402 - their assertions are to be rewritten
from acceptance.desk import CALM, Desk  # noqa: E402
from sluiceway.sandbox.process import SandboxProcess  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEED = int(os.environ.get("SLUICEWAY_DRILL_SEED") or random.randrange(1_000_000))
BOTH_WAYS = ("SQLite", "SQLite and Redis")


@pytest.fixture
def luck(request: pytest.FixtureRequest) -> random.Random:
    """A generator of this test's own, so that one test can be repeated without the others."""
    print(f"\nSLUICEWAY_DRILL_SEED={SEED} for {request.node.name}")
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture(scope="session")
def _one_sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(_one_sandbox: SandboxProcess) -> SandboxProcess:
    """A sandbox on a calm day, with its meter at zero."""
    _one_sandbox.post("/_scenario", CALM)
    _one_sandbox.post("/_meter/reset")
    return _one_sandbox


@pytest.fixture
def desk(tmp_path: Path, sandbox: SandboxProcess) -> Iterator[Desk]:
    """A folder and a store, and the sandbox to ask; whatever is still running at the end is ended."""
    with Desk(tmp_path, sandbox) as desk:
        yield desk


@pytest.fixture(params=BOTH_WAYS)
def books(request: pytest.FixtureRequest, desk: Desk) -> str:
    """Where the desk's processes count, with limits to keep: in the store, and then in Redis as well."""
    desk.limit()
    if request.param == BOTH_WAYS[1]:
        desk.count_in(request.getfixturevalue("redis_server"))
    return str(request.param)


@pytest.fixture(scope="session", autouse=True)
def deaths(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """Begin all the killing that was asked for at once, one after the other, beside the first tests."""
    wanted = [item for item in request.session.items if "deaths" in getattr(item, "fixturenames", ())]
    specs = [getattr(item, "callspec", None) for item in wanted]
    moments = [moment for spec in specs if spec and (moment := spec.params.get("moment")) in MOMENTS]
    if not moments:
        yield {}
        return

    def die(moment: str) -> None:
        with Desk(tmp_path_factory.mktemp("desk"), another) as desk:
            another.post("/_scenario/restart")
            another.post("/_meter/reset")
            die_and_go_on(desk, moment)

    with SandboxProcess() as another, ThreadPoolExecutor(1) as pool:
        yield {moment: pool.submit(die, moment) for moment in moments}
        pool.shutdown(cancel_futures=True)
