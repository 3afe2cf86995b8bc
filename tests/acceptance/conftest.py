"""A sandbox for all of these tests, and a desk for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("acceptance.judge", "acceptance.desk")

from acceptance.desk import CALM, Desk  # noqa: E402 - its assertions are to be rewritten
from sluiceway.sandbox.process import SandboxProcess  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
