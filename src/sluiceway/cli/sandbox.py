"""`sluiceway sandbox`: the five providers, imitated, and the people who live there."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sluiceway.cli import app

sandbox_app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help=(
        "Imitate all five providers on this machine, with their errors, limits and bills.\n\n"
        "Prints its address; give that to `sluiceway enrich --sandbox-url`. GET /_meter there shows what it billed. "
        "`sluiceway sandbox people 100` prints a CSV of people who exist in it."
    ),
)
app.add_typer(sandbox_app, name="sandbox")

Seed = Annotated[int, typer.Option(help="Which invented world; the same seed is the same world.")]


@sandbox_app.callback()
def sandbox(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8099,
    seed: Seed = 0,
    scenario: Annotated[
        str,
        typer.Option(metavar="NAME|FILE", help="What goes wrong: a shipped scenario's name, or a TOML file."),
    ] = "calm",
) -> None:
    """Imitate all five providers on this machine."""
    if context.invoked_subcommand is None:
        from sluiceway.sandbox.__main__ import run

        raise typer.Exit(run(port=port, seed=seed, scenario=scenario))


@sandbox_app.command()
def people(
    count: Annotated[int, typer.Argument(min=1, metavar="N", help="How many people.")],
    seed: Seed = 0,
    tenants: Annotated[int, typer.Option(min=1, help="Among how many tenants they are spread.")] = 1,
    start: Annotated[int, typer.Option(min=0, help="The number of the first person.")] = 0,
) -> None:
    """Print a CSV of N people of the sandbox's world, as ragged as real lists are."""
    from sluiceway.sandbox.people import people_csv

    for line in people_csv(count, seed=seed, tenants=tenants, start=start):
        sys.stdout.write(line)
