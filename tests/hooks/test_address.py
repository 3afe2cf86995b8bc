"""Which addresses may be called, when they are set and when a connection is made."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from typing import Any

import pytest

from receiver import Inbox, receiving
from sluiceway.errors import BadInput, BadSetting
from sluiceway.hooks.address import Allowed, allowed_by, checked_url, is_public
from sluiceway.hooks.door import send
from sluiceway.hooks.letter import Letter, Reply

NOBODY = Allowed()


def sent(url: str, allowed: Allowed = NOBODY, within_s: float = 10.0) -> Reply:
    """Send something to an address."""
    return asyncio.run(send(Letter(url, "whsec_s", "d1", "ping", b"{}"), allowed, within_s=within_s))


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fc00::1", "fd12::1",
        "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::7f00:1", "fec0::1",
    ],
)  # fmt: skip
def test_what_is_not_on_the_internet_is_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", ["93.184.216.34", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_what_is_on_the_internet_is_public(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:80/", "http://localhost/hook", "http://2130706433/", "http://0x7f.1/", "http://[::1]/",
        "http://[::ffff:127.0.0.1]/", "https://127.1/",
    ],
)  # fmt: skip
def test_an_address_within_is_refused_with_a_hint_however_it_is_written(url: str) -> None:
    with pytest.raises(BadInput, match="SLUICEWAY_WEBHOOK_ALLOW"):
        checked_url(url, NOBODY)


@pytest.mark.parametrize(
    "url", ["ftp://example.com/", "file:///etc/passwd", "example.com/hook", "http://", "http://a b/", "http://x:99999/"]
)
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(BadInput, match="is no address such as"):
        checked_url(url, NOBODY)


def test_a_name_and_password_in_an_address_are_refused() -> None:
    with pytest.raises(BadInput, match="password"):
        checked_url("https://ines:secret@example.com/hook", NOBODY)


@pytest.mark.parametrize(
    ("setting", "url", "is_allowed"),
    [
        ("127.0.0.1", "http://127.0.0.1:8123/", True),
        ("127.0.0.0/8", "http://localhost:8123/", True),
        ("localhost", "http://LOCALHOST:8123/", True),
        ("localhost:8123", "http://localhost:8123/", True),
        ("localhost:8123", "http://localhost:8124/", False),
        ("10.0.0.0/8, other.example", "http://127.0.0.1/", False),
        ("[::1]:8123", "http://[::1]:8123/", True),
    ],
)
def test_what_is_listed_may_be_called_and_nothing_else_within(setting: str, url: str, is_allowed: bool) -> None:
    if is_allowed:
        assert checked_url(url, allowed_by(setting))
    else:
        with pytest.raises(BadInput):
            checked_url(url, allowed_by(setting))


@pytest.mark.parametrize("entry", ["http://x", "a/b", "10.0.0.0/99", "x:port"])
def test_what_cannot_be_allowed_is_told(entry: str) -> None:
    with pytest.raises(BadSetting, match="SLUICEWAY_WEBHOOK_ALLOW"):
        allowed_by(entry)


def test_a_name_that_leads_within_only_once_it_is_called_is_refused_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with DNS rebinding: public when the address is checked, and ours when the connection is made."""
    looked_up: list[str] = []
    really = socket.getaddrinfo

    def look_up(host: Any, port: Any, *arguments: Any, **named: Any) -> Any:
        if host != "rebound.example":
            return really(host, port, *arguments, **named)
        looked_up.append(host)
        address = "93.184.216.34" if len(looked_up) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    with receiving() as inbox:
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        reply = sent(inbox.url.replace("127.0.0.1", "rebound.example"))
    assert len(looked_up) == 2
    assert reply == Reply(None, "rebound.example leads to 127.0.0.1, which may not be called")
    assert inbox.got == []


@pytest.fixture
def allowed() -> Allowed:
    """This machine."""
    return allowed_by("127.0.0.1")


def in_the(inbox: Inbox, *answers: int) -> str:
    inbox.answers = list(answers)
    return inbox.url


def test_an_address_that_is_no_longer_allowed_is_not_called() -> None:
    with receiving() as inbox:
        assert "SLUICEWAY_WEBHOOK_ALLOW" in str(sent(inbox.url).error)
        assert inbox.got == []


def test_redirects_are_not_followed(allowed: Allowed) -> None:
    with receiving() as inbox:
        reply = sent(in_the(inbox, 302), allowed)
        assert (reply.http_status, reply.is_delivered) == (302, False)
        assert [got.path for got in inbox.got] == ["/"]


@pytest.mark.parametrize(
    ("status", "is_delivered"), [(200, True), (204, True), (404, False), (410, False), (500, False)]
)
def test_only_a_2xx_is_delivered(allowed: Allowed, status: int, is_delivered: bool) -> None:
    with receiving() as inbox:
        reply = sent(in_the(inbox, status), allowed)
    assert (reply.http_status, reply.is_delivered, reply.is_gone) == (status, is_delivered, status == 410)


def test_who_does_not_answer_is_not_waited_for_long(allowed: Allowed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reply = sent(f"http://127.0.0.1:{silent.getsockname()[1]}/", allowed, within_s=0.2)
    assert reply == Reply(None, "no answer within 0.2 s")


def test_who_is_not_there_is_told_without_the_address(allowed: Allowed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    error = str(sent(f"http://127.0.0.1:{port}/T0/secret-path", allowed).error)
    assert error.startswith("no answer: ")
    assert "secret-path" not in error
