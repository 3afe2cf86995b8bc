"""A command given in this process, since starting one takes longer than most commands do."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, NamedTuple

import pytest

from sluiceway import cli


class Said(NamedTuple):
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Said]
"""Gives `sluiceway` a command: its arguments, and for some what somebody pipes into it (`stdin`)."""


def sluiceway(*arguments: str, stdin: str = "") -> Said:
    """Give `sluiceway` a command, and wait for its end."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["sluiceway", *arguments])
        patch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            cli.main()
    code = ended.value.code
    return Said(code if isinstance(code, int) else int(bool(code)), out.getvalue(), err.getvalue())
