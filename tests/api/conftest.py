"""A running service for every test that asks one."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

import pytest

pytest.register_assert_rewrite("served", "people", "eventually")

from served import Served, Slowly, serving  # noqa: E402

from sluiceway.sandbox.process import SandboxProcess  # noqa: E402 - assertions above are to be rewritten before
from sluiceway.store.engine import Store  # noqa: E402


@pytest.fixture
def served(store: Store, sandbox: SandboxProcess) -> Iterator[Served]:
    """The service on a new store, asking the sandbox."""
    with serving(store, sandbox) as served:
        yield served


@pytest.fixture
def slowly(sandbox: SandboxProcess) -> Iterator[Slowly]:
    """Make the sandbox slow until the test's end."""
    calm = (files("sluiceway.sandbox") / "scenarios" / "calm.toml").read_text(encoding="utf-8")
    yield lambda milliseconds: sandbox.post("/_scenario", _SLOW.format(milliseconds))
    sandbox.post("/_scenario", calm)


_SLOW = """
description = "Answers take a moment."
[pace]
all = 5000
[timeout_s]
all = 30
[edgar]
limit = 0
[[latency]]
shape = "fixed"
ms = {}
"""
