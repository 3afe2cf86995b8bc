"""`sluiceway serve`: the service, with everything it needs in one process."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluiceway.cli import app
from sluiceway.cli.options import Database, SandboxUrl, for_target, sandbox_target, settings_from
from sluiceway.errors import BadSetting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sluiceway.settings import Settings

log = logging.getLogger("sluiceway")

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what to open where these are listened on


@app.command("serve")
def serve(
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any that is free.")] = 8080,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Ask a sandbox that is started for it; costs nothing, needs no keys.")
    ] = False,
    sandbox_url: SandboxUrl = None,
    insecure_http: Annotated[
        bool,
        typer.Option(
            "--insecure-http",
            help="Listen beyond this machine without https: passwords, keys and people's data cross the network "
            "readable, and anybody on the way can take over a session.",
        ),
    ] = False,
    database: Database = None,
) -> None:
    """Serve the HTTP API, and work on what is asked for through it.

    The first time, a link is printed by which the first super admin signs in, once. Ctrl-C or SIGTERM takes no more
    requests, ends what is in flight, and books it; what is left is gone on with when the service starts again.

    Behind a proxy that speaks https, set SLUICEWAY_PUBLIC_URL to the address that people use.
    """
    from sluiceway.app import Target
    from sluiceway.errors import Redactor
    from sluiceway.logs import logging_to
    from sluiceway.serving import application
    from sluiceway.serving import serve as serve_until_stopped

    settings = settings_from(database_url=database)
    _refuse_in_the_open(host, settings.public_url, insecure_http)
    with _own_sandbox() if sandbox else nullcontext() as own:
        target = own or (sandbox_target(sandbox_url) if sandbox_url else Target())
        settings = for_target(settings, target)

        def said(listening_on: int) -> None:
            whom = "a sandbox" if target.sandbox_url else "the real providers"
            log.info("Sluiceway listens on %s and asks %s", _local_url(host, listening_on), whom)
            _print_first_link(_reached(settings, host, listening_on))

        with logging_to(sys.stderr, settings.log, Redactor(settings.secrets())):
            app = application(_reached(settings, host, port), target, log.info, _own_sandbox)
            code = serve_until_stopped(app, host, port, said)
        raise typer.Exit(code)


def _local_url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _reached(settings: Settings, host: str, port: int) -> Settings:
    """Have links lead to where this listens, unless it was said where people reach it."""
    if "public_url" in settings.model_fields_set or not port:
        return settings
    return settings.model_copy(update={"public_url": _local_url(_EVERYWHERE.get(host, host), port)})


@contextmanager
def _own_sandbox() -> Iterator[Any]:
    from sluiceway.sandbox.process import SandboxProcess

    with SandboxProcess() as running:
        yield sandbox_target(running.url)


def _refuse_in_the_open(host: str, public_url: str, insecure_http: bool) -> None:
    """Refuse to let passwords cross a network readable, unless that was said to be meant."""
    if host in _LOOPBACK or public_url.startswith("https://") or insecure_http:
        return
    raise BadSetting(
        f"--host {host} is reached from beyond this machine, and over plain http passwords, API keys and people's data "
        "would cross the network readable. Put a proxy that speaks https in front and set SLUICEWAY_PUBLIC_URL to its "
        "address (https://…), or say --insecure-http if you mean it"
    )


def _print_first_link(settings: Settings) -> None:
    """Print the way in for the first super admin, where nobody has come in yet."""
    from sluiceway.cli.options import store_of
    from sluiceway.tenancy.sign_in import first_link, link_url

    with store_of(settings) as store, store.change() as connection:
        link = first_link(connection, store.clock.now())
    if link is not None:
        # Not to standard error: that is the log, and a link that signs somebody in is nothing for a log.
        typer.echo(f"\nNobody has signed in yet. Open this once, within a day, as {link.email}:")
        typer.echo(f"  {link_url(settings.public_url, link.token)}\n")
        sys.stdout.flush()
