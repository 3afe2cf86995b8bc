"""What is loaded when: importing the package and asking for help must cost nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"aiohttp", "sqlalchemy", "alembic", "lxml", "cleanco", "nicknames", "anyascii", "redis"}

HELP = """
import contextlib, io, json, sys
from sluiceway.cli import main
sys.argv = ["sluiceway", *{arguments!r}]
said = io.StringIO()
try:
    with contextlib.redirect_stdout(said):
        main()
except SystemExit as end:
    assert not end.code, end.code
assert "Usage" in said.getvalue()
print(json.dumps(sorted(sys.modules)))
"""


def loaded_by(code: str) -> set[str]:
    """The modules that are loaded after a program has run; it must print them last."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_neither_the_client_nor_the_database() -> None:
    loaded = loaded_by("import json, sys, sluiceway; print(json.dumps(sorted(sys.modules)))")
    assert "sluiceway.usage.track" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("arguments", [["--help"], ["enrich", "--help"], ["usage", "--help"]], ids=" ".join)
def test_asking_for_help_loads_neither_the_client_nor_the_database(arguments: list[str]) -> None:
    loaded = loaded_by(HELP.format(arguments=arguments))
    assert "typer" in loaded
    assert loaded & HEAVY == set()


def test_the_first_tracked_call_loads_nothing_more() -> None:
    code = """
import json, sys
from sluiceway import track_api_usage
import sluiceway.usage.track
sluiceway.usage.track._FLUSH_EVERY_S = 3600
track_api_usage("apollo")
print(json.dumps(sorted(sys.modules)), flush=True)
import os
os._exit(0)
"""
    assert loaded_by(code) & HEAVY == set()
