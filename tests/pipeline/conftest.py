"""A desk for every test of the pipeline."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

pytest.register_assert_rewrite("desk")

from desk import Open, a_desk  # noqa: E402 - its assertions are to be rewritten

from sluiceway.sandbox.process import SandboxProcess  # noqa: E402


@pytest.fixture
def desk(store_url: str, sandbox: SandboxProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open a desk at a store of the test's own, in a folder without a `.env` file."""
    monkeypatch.chdir(tmp_path)
    return partial(a_desk, store_url, sandbox)
