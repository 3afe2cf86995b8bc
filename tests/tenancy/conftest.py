"""The command line, in this process."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tenancy_builders")

from tenancy_builders import Command, Said  # noqa: E402 - its assertions are to be rewritten

from sluiceway import cli  # noqa: E402
from sluiceway.store.engine import Store  # noqa: E402


@pytest.fixture
def command(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Give `sluiceway` a command on the test's store; `stdin` is what somebody pipes into it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, stdin: str = "") -> Said:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "argv", ["sluiceway", *arguments, "--database", store.url])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return Said(code if isinstance(code, int) else int(bool(code)), out.getvalue(), err.getvalue())

    return run
