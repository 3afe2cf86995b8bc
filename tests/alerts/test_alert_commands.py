"""`sluiceway alert`, as a person uses it, without a running server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from builders import row
from receiver import Inbox, receiving
from sluiceway.hooks.signature import signature
from sluiceway.store.engine import Store
from sluiceway.store.schema import alerts
from terminal import Command, Said, sluiceway


@pytest.fixture
def command(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Give `sluiceway` a command on the test's store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("SLUICEWAY_WEBHOOK_ALLOW", "127.0.0.1")

    def run(*arguments: str, stdin: str = "") -> Said:
        return sluiceway(*arguments, "--database", store.url, stdin=stdin)

    return run


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with receiving() as inbox:
        yield inbox


def test_a_receiver_is_added_tried_logged_and_removed(command: Command, inbox: Inbox, store: Store) -> None:
    url = f"{inbox.url}/rooms/very-secret-room"
    added = command("alert", "add", url, "--name", "ops")
    assert added.code == 0
    assert "very-secret-room" not in added.err + str(row(store, alerts))
    secret = added.out.strip()
    tried = command("alert", "test")
    assert (tried.code, tried.out) == (0, "ops: delivered (HTTP 200)\n")
    (got,) = inbox.got
    header = got.headers["Sluiceway-Signature"]
    assert header == signature(secret, int(header[2 : header.index(",")]), got.body)
    assert got.json["event"] == "ping"
    assert "…room" in command("alert", "list").out
    (logged,) = command("alert", "log", "--json").json["deliveries"]
    assert (logged["event"], logged["state"], logged["id"]) == ("ping", "delivered", got.json["id"])
    assert command("alert", "remove", "ops").code == 0
    assert command("alert", "list", "--json").json == {"receivers": [], "raised": []}
    assert "removed" in command("alert", "log").out


def test_a_chat_room_gets_a_text(command: Command, inbox: Inbox) -> None:
    assert command("alert", "add", inbox.url, "--form", "text").code == 0
    assert command("alert", "test", "127.0.0.1").code == 0
    assert inbox.got[0].json.keys() == {"text", "content"}


def test_a_test_that_is_not_delivered_says_what_came_back(command: Command, inbox: Inbox) -> None:
    inbox.answers = [403]
    command("alert", "add", inbox.url, "--name", "ops")
    tried = command("alert", "test", "ops")
    assert (tried.code, tried.out) == (1, "ops: not delivered: HTTP 403\n")


def test_mistakes_are_told(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "alert add" in command("alert", "test").err
    assert command("alert", "remove", "nobody").code == 2
    monkeypatch.setenv("SLUICEWAY_WEBHOOK_ALLOW", "")
    refused = command("alert", "add", "http://127.0.0.1:9/x")
    assert refused.code == 2
    assert "SLUICEWAY_WEBHOOK_ALLOW" in refused.err
    assert command("alert", "add", "https://203.0.114.7/x", "--name", "ops").code == 0
    assert "already" in command("alert", "add", "https://203.0.114.7/y", "--name", "ops").err
