"""The commands. Each imports what it needs when it runs, so that `--help` answers at once."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sluiceway.errors import Mistaken, SluicewayError

EPILOG = (
    "Exit codes: 0 all done; 1 something failed; 2 something must be changed first (a file, an option, a setting); "
    "3 done as far as possible, and the rest waits (a key to mend, a limit, no network); 130 stopped with Ctrl-C."
)

app = typer.Typer(
    name="sluiceway",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
    help=(
        "Enrich prospects from five paid data providers and account for every call.\n\n"
        "Start with `sluiceway demo`: it needs no keys, spends nothing and takes a few seconds."
    ),
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"sluiceway {version('sluiceway')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Enrich prospects from five paid data providers and account for every call."""


def main() -> None:
    """Run the command line; every expected error is one sentence on standard error, never a traceback."""
    from sluiceway.cli import (  # noqa: F401 - each adds its commands to `app`
        admin,
        alert,
        audit,
        credential,
        demo,
        enrich,
        key,
        meters,
        prospect,
        quota,
        retention,
        run,
        sandbox,
        serve,
        source,
        stops,
        suppress,
        tenant,
        usage,
        user,
    )

    try:
        app()
    except Mistaken as error:
        typer.echo(f"sluiceway: {error}", err=True)
        sys.exit(2)
    except SluicewayError as error:
        typer.echo(f"sluiceway: {error}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; there is nobody left to tell
        sys.exit(1)
