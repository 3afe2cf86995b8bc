"""A running service for every test that asks one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("served", "people")

from served import Served, serving  # noqa: E402

from sluiceway.sandbox.process import SandboxProcess  # noqa: E402 - assertions above are to be rewritten before
from sluiceway.store.engine import Store  # noqa: E402


@pytest.fixture
def served(store: Store, sandbox: SandboxProcess) -> Iterator[Served]:
    """The service on a new store, asking the sandbox."""
    with serving(store, sandbox) as served:
        yield served
