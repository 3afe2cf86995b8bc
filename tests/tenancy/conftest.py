"""The command line, in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite("tenancy_builders")

from sluiceway.store.engine import Store  # noqa: E402 - assertions above are to be rewritten before anything imports them
from terminal import Command, Said, sluiceway  # noqa: E402


@pytest.fixture
def command(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Give `sluiceway` a command on the test's store; `stdin` is what somebody pipes into it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, stdin: str = "") -> Said:
        return sluiceway(*arguments, "--database", store.url, stdin=stdin)

    return run
