"""What `sluiceway admin …` prints and answers, for a person and for a program."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from typing import Any

import pytest
from bench.ledger_world import Size, fill

from sluiceway import cli
from sluiceway.store.engine import open_store

Admin = Callable[..., tuple[int, str, str]]

PEOPLES_SCREENS = [
    (["dashboard"], "prospects, "),
    (["tenants"], "moderate"),
    (["tenants", "--users-of", "tenant-000"], "Users of tenant-000"),
    (["health"], "exa is not asked since"),
    (["quota"], "20,000 requests per day"),
    (["funnel"], "profile viewed"),
    (["errors", "--days", "3"], "rate_limited"),
    (["usage", "--by", "tenant,charge"], "tenant-000"),
]


@pytest.fixture(scope="module")
def world_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with three days of seven tenants, up to now."""
    url = f"sqlite:///{tmp_path_factory.mktemp('world') / 'ledger.db'}"
    store = open_store(url)
    fill(store, Size(900, tenants=7, days=3), datetime.now(UTC))
    store.close()
    return url


@pytest.fixture
def admin(world_url: str, monkeypatch: pytest.MonkeyPatch) -> Admin:
    """Give `sluiceway admin …` a command; returns how it ended and what it wrote."""

    def run(*arguments: str, database: str = world_url) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", ["sluiceway", "admin", *arguments, "--database", database])
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return (code if isinstance(code, int) else int(bool(code))), out.getvalue(), err.getvalue()

    return run


def said(admin: Admin, *arguments: str) -> Any:
    code, out, err = admin(*arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


@pytest.mark.parametrize(("arguments", "shown"), PEOPLES_SCREENS)
def test_an_answer_is_shown(admin: Admin, arguments: list[str], shown: str) -> None:
    code, out, err = admin(*arguments)
    assert (code, err) == (0, "")
    assert shown in out


@pytest.mark.parametrize("command", ["dashboard", "tenants", "health", "quota", "funnel", "errors", "usage"])
def test_every_answer_says_its_window_freshness_and_source(admin: Admin, command: str) -> None:
    about = said(admin, command, "--days", "2")["about"]
    assert about["window"]["until"] == f"{datetime.now(UTC):%Y-%m-%d}"
    assert about["source"]
    assert datetime.fromisoformat(about["as_of"]).tzinfo


def test_a_group_opens_to_its_results(admin: Admin) -> None:
    group = max(said(admin, "errors")["groups"], key=lambda group: group["results"])
    found = said(admin, "errors", "--group", group["fingerprint"])["errors"]
    assert len(found) == group["results"]
    code, out, _ = admin("errors", "--group", group["fingerprint"])
    assert code == 0
    assert found[0]["id"] in out


def test_errors_can_be_narrowed(admin: Admin) -> None:
    narrowed = ("--source", "exa", "--class", "failed", "--text", "http", "--tenant", "tenant-000")
    for group in said(admin, "errors", *narrowed)["groups"]:
        assert (group["source"], group["status"]) == ("exa", "failed")
        assert "HTTP" in group["message"]


@pytest.mark.parametrize(
    "arguments", [["usage", "--by", "colour"], ["usage", "--by", "day,tenant,user"], ["usage", "--by", "hour,user"]]
)
def test_what_cannot_be_told_apart_is_refused_with_the_reason(admin: Admin, arguments: list[str]) -> None:
    code, _, err = admin(*arguments)
    assert code == 2
    assert "colour" in err or "one or two of" in err or "at most 2 days" in err


def test_an_empty_store_says_why_there_are_no_figures(admin: Admin, store_url: str) -> None:
    code, out, _ = admin("dashboard", "--json", database=store_url)
    found = json.loads(out)
    assert code == 0
    assert found["coverage"]["share"] == {"value": None, "reason": "there are no prospects"}
    assert found["pipeline"]["success"] == {"value": None, "reason": "no source result has ended"}
    assert found["users"]["average"] == {"value": None, "reason": "nothing was recorded before today"}
    for arguments, _ in PEOPLES_SCREENS:
        assert admin(*arguments, database=store_url)[0] == 0
