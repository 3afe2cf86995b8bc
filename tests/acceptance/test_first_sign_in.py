"""The first way in: `serve` as a process, a link that works once, and a refusal to speak in the open."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest
import requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from acceptance.desk import Desk, Running

    Serve = Callable[..., Running]

LISTENS = "Sluiceway listens on "


@pytest.fixture
def serve(desk: Desk) -> Serve:
    """Start the service on a free port, and wait until it listens."""

    def start(*options: str, env: dict[str, str] | None = None) -> Running:
        arguments = ("serve", "--port", "0", "--sandbox-url", desk.sandbox.url, "--database", desk.url, *options)
        running = desk.start(*arguments, env=env)
        running.wait_for("and asks a sandbox")
        return running

    return start


def stopped(running: Running) -> None:
    """End it as an operator does, and see that it ends without any trouble."""
    running.send(signal.SIGINT)
    running.done()


def address(running: Running) -> str:
    found = re.search(rf"{LISTENS}(\S+)", running.screen)
    assert found is not None, running.screen
    return found[1]


def link(running: Running) -> str:
    """The link it prints, which leads to where it listens."""
    running.wait_for("/sign-in/")
    found = re.search(r"(http\S+/sign-in/\w{43})", running.screen)
    assert found is not None, running.screen
    assert found[1].startswith(address(running))
    return found[1]


def test_the_first_link_works_once_and_is_replaced_until_somebody_comes_in(serve: Serve) -> None:
    first = serve()
    old = link(first).rpartition("/")[2]
    assert requests.get(link(first), timeout=30).status_code == 200, "opening it uses nothing up"
    stopped(first)
    second = serve()
    assert old not in link(second)
    assert requests.post(f"{address(second)}/sign-in/{old}", timeout=30).status_code == 410
    page = requests.post(link(second), timeout=30)
    assert (page.status_code, "admin@localhost, super admin" in page.text) == (200, True)
    assert requests.post(link(second), timeout=30).status_code == 410
    stopped(second)
    third = serve()
    assert requests.get(f"{address(third)}/sign-in", timeout=30).status_code == 200
    stopped(third)
    assert "/sign-in/" not in third.screen, "somebody has come in"


def test_links_lead_to_where_people_reach_it_and_the_cookie_is_secure_there(serve: Serve) -> None:
    running = serve(env={"SLUICEWAY_PUBLIC_URL": "https://people.acme.example/"})
    running.wait_for("https://people.acme.example/sign-in/")
    token = re.search(r"/sign-in/(\w{43})", running.screen)
    assert token is not None
    page = requests.post(f"{address(running)}/sign-in/{token[1]}", timeout=30)
    assert "; secure" in page.headers["Set-Cookie"].lower()
    stopped(running)


def test_it_does_not_speak_in_the_open_unless_that_is_meant(desk: Desk, serve: Serve) -> None:
    refused = desk.run("serve", "--host", "0.0.0.0", "--port", "0", "--database", desk.url)
    assert refused.code == 2
    assert "passwords, API keys and people's data would cross the network readable" in " ".join(refused.err.split())
    assert "--insecure-http" in refused.err
    assert not desk.store.exists(), "nothing was opened"
    running = serve("--host", "0.0.0.0", "--insecure-http")
    running.wait_for("/sign-in/")
    port = address(running).rpartition(":")[2]
    found = re.search(rf"http://127.0.0.1:{port}/sign-in/\w{{43}}", running.screen)
    assert found is not None, running.screen
    page = requests.post(found[0], timeout=30)
    assert "secure" not in page.headers["Set-Cookie"].lower()
    stopped(running)


def test_behind_a_proxy_with_https_it_may_listen_anywhere(serve: Serve) -> None:
    running = serve("--host", "0.0.0.0", env={"SLUICEWAY_PUBLIC_URL": "https://people.acme.example"})
    stopped(running)
