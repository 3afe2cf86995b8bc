"""The proof that `make proof` prints holds, with fewer people and fewer kills."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from acceptance.conftest import SEED

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _redis_is_installed() -> None:
    if shutil.which("redis-server") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("redis-server is missing, and a run in CI skips no test")
        pytest.skip("redis-server is not installed")


def proven(folder: Path, people: int, kills: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the proof; returns how the job written by hand and Sluiceway came through."""
    print(f"\nSLUICEWAY_DRILL_SEED={SEED}")
    out = folder / "proof.json"
    options = ["--people", str(people), "--kills", str(kills), "--seed", str(SEED), "--out", str(out)]
    command = [sys.executable, "-m", "bench.proof", *options]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The guarantee holds" in done.stdout
    kept = json.loads(out.read_text())
    assert kept["holds"] is True
    by_hand, ours = kept["jobs"]
    assert by_hand["kills"] == ours["kills"] == kills
    return by_hand["books"], ours["books"]


def total(books: dict[str, Any], what: str) -> int:
    return sum(of[what] for of in books.values())


def check(by_hand: dict[str, Any], ours: dict[str, Any]) -> None:
    """Hold the figures themselves, not only what the proof says of them."""
    for provider, books in ours.items():
        assert books["counted"] == books["listed"] == books["total"], provider
        assert books["listed"] <= books["billed"] <= books["listed"] + books["unknown"], provider
        assert books["repeated"] <= books["unknown"], provider
    assert total(by_hand, "counted") < total(by_hand, "billed"), "by hand, counts were lost"
    assert total(by_hand, "repeated") > 0


def test_the_proof_holds_in_small(tmp_path: Path) -> None:
    check(*proven(tmp_path, people=50, kills=2))


@pytest.mark.drill
@pytest.mark.timeout(400)
def test_the_proof_holds(tmp_path: Path) -> None:
    check(*proven(tmp_path, people=300, kills=8))
