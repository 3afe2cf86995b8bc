"""Options that several commands share, and the settings they lead to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluiceway.errors import BadInput
from sluiceway.process import user_name

if TYPE_CHECKING:
    from sluiceway.app import Target
    from sluiceway.rights.suppression import Suppressions
    from sluiceway.settings import Settings
    from sluiceway.store.engine import Store

Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="Where the ledger is kept, for example sqlite:///people.db. Default: SLUICEWAY_DATABASE_URL, "
        "else sqlite:///sluiceway.db in this folder (for a sandbox: sqlite:///sluiceway-sandbox.db).",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
SandboxUrl = Annotated[
    str | None,
    typer.Option("--sandbox-url", metavar="URL", help="Ask a sandbox that is running already; costs nothing."),
]
Sources = Annotated[
    str | None,
    typer.Option("--sources", metavar="A,B", help="Ask only these sources. Default: all that are installed."),
]


def settings_from(**given: Any) -> Settings:
    """Read the settings; options that were given win over the environment."""
    from sluiceway.settings import load_settings

    return load_settings(**given)


def reading_settings(database: str | None) -> Settings:
    """Read the settings of a command that only looks; shows a sandbox's store where there is no other yet."""
    from sluiceway.settings import DATABASE_URL, SANDBOX_DATABASE_URL
    from sluiceway.store.engine import sqlite_path

    settings = settings_from(database_url=database)
    real, trial = sqlite_path(DATABASE_URL), sqlite_path(SANDBOX_DATABASE_URL)
    if settings.chose_store or (real and real.exists()) or not (trial and trial.exists()):
        return settings
    typer.echo(f"(the sandbox's store, {SANDBOX_DATABASE_URL}; choose another with --database)", err=True)
    return settings.model_copy(update={"database_url": SANDBOX_DATABASE_URL})


@contextmanager
def opened_store(database: str | None) -> Iterator[Store]:
    """Open the store a command looks at or changes, and close it again."""
    with store_of(reading_settings(database)) as store:
        yield store


@contextmanager
def store_of(settings: Settings) -> Iterator[Store]:
    """Open the store that settings name, and close it again."""
    from sluiceway.store.engine import open_store

    with closing(open_store(settings.database_url)) as store:
        yield store


@contextmanager
def opened_with_list(database: str | None) -> Iterator[tuple[Store, Suppressions, Settings]]:
    """Open a store with its suppression list, and close it again."""
    from sluiceway.rights.suppression import opened_list

    settings = reading_settings(database)
    with store_of(settings) as store:
        yield store, opened_list(store, settings.suppression_key.get_secret_value()), settings


def print_json(said: Any) -> None:
    """Print something as JSON, laid out for a person too."""
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(said)).decode())


def person_at_terminal() -> str:
    """Return by whom the audit says that a command did something."""
    return f"cli:{user_name()}"


def secret_given(what: str) -> str:
    """Read a secret from standard input, or ask for it where somebody is there: arguments are seen by all."""
    if sys.stdin.isatty():
        return str(typer.prompt(what, hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.read().rstrip("\r\n")


def known_provider(name: str) -> str:
    """Return a provider's name; raises `BadInput` for one that no installed source asks."""
    from sluiceway.sources import all_sources

    known = sorted({kind.provider for kind in all_sources().values()})
    if name not in known:
        raise BadInput(f"{name!r} is no provider; there are {', '.join(known)}")
    return name


def for_target(settings: Settings, target: Target) -> Settings:
    """Keep a sandbox's answers in a store of their own, unless one was chosen."""
    from sluiceway.settings import SANDBOX_DATABASE_URL

    if target.sandbox_url is None or settings.chose_store:
        return settings
    return settings.model_copy(update={"database_url": SANDBOX_DATABASE_URL})


def names_in(listed: str | None) -> list[str] | None:
    """Split a comma-separated option; `None` when it was not given."""
    if listed is None:
        return None
    names = [name.strip() for name in listed.split(",") if name.strip()]
    if not names:
        raise BadInput("nothing is listed; separate names with commas, for example apollo,exa")
    return names


def pairs_in(listed: list[str]) -> dict[str, str]:
    """Read options of the form `name=value`."""
    pairs = {}
    for pair in listed:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise BadInput(f'--map {pair!r} is not of the form email="E-mail (work)"')
        pairs[name.strip()] = value.strip()
    return pairs


def sandbox_target(url: str) -> Target:
    """Ask a running sandbox how fast and how patiently it wants to be asked."""
    import json
    import urllib.error
    import urllib.request

    from sluiceway.app import Target

    url = url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise BadInput(f"--sandbox-url {url!r} is not an address such as http://127.0.0.1:8099")
    try:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy stands between us and loopback
        with direct.open(f"{url}/_scenario", timeout=10) as answer:
            said = json.load(answer)
        return Target(url, pace=said.get("pace") or {}, timeout_s=said.get("timeout_s") or {})
    except (OSError, ValueError, AttributeError) as error:
        reason = getattr(error, "reason", error)
        raise BadInput(f"no sandbox answers at {url} ({reason}); start one with `sluiceway sandbox`") from error


def existing(path: Path) -> Path:
    """Return a path that must be a readable file."""
    if not path.is_file():
        raise BadInput(f"{path} is not a file" if path.exists() else f"there is no file {path}")
    return path
