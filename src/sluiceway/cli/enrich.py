"""`sluiceway enrich`: the user's own file, against the real providers or a sandbox."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluiceway.cli import app
from sluiceway.cli.options import (
    AsJson,
    Database,
    SandboxUrl,
    Sources,
    for_target,
    names_in,
    pairs_in,
    sandbox_target,
    settings_from,
)
from sluiceway.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from sluiceway.app import App, Target
    from sluiceway.file_enrichment import FileEnrichment, Taken
    from sluiceway.people_file import PeopleFile
    from sluiceway.pipeline.embedded import Tally
    from sluiceway.pipeline.estimate import SourceEstimate
    from sluiceway.settings import Settings

DONE, DECLINED, WAITING, INTERRUPTED = 0, 1, 3, 130


@app.command()
def enrich(
    people: Annotated[Path, typer.Argument(metavar="PEOPLE.CSV", help="A CSV of people; columns are recognised.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="ENRICHED.CSV", help="Where to write the result; - is standard output."),
    ] = Path("enriched.csv"),
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Ask a sandbox started for this run; costs nothing.")
    ] = False,
    sandbox_url: SandboxUrl = None,
    scenario: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="With --sandbox: what goes wrong there (calm, bad-day, ...).")
    ] = "calm",
    seed: Annotated[int, typer.Option(help="With --sandbox: which invented world.")] = 0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending money.")] = False,
    first: Annotated[int | None, typer.Option(min=1, metavar="N", help="Enrich only the first N rows.")] = None,
    sources: Sources = None,
    want: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Contact data to buy: work_email (default), personal_email, phone."),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=2000, metavar="N", help="Prospects enriched at the same time (default 50).")
    ] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Buy again what was bought before this command was first given.")
    ] = False,
    on_unknown: Annotated[
        str | None,
        typer.Option(
            metavar="ask-once|leave",
            help="After a request that may have been billed and whose answer was lost: ask once more, or leave it.",
        ),
    ] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="FIELD=COLUMN", help='Name a column, for example --map email="Mail (work)".'),
    ] = None,
    tenant: Annotated[
        str, typer.Option(help="Whose prospects these are, for rows without a tenant column.")
    ] = "default",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be asked and what it costs; ask nothing.")
    ] = False,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Enrich a CSV of people and write it back with what was found.

    Before any money is spent it says what it will do and asks. Give the same command again to go on after a Ctrl-C, a
    crash or a mended key: what was paid for is never bought twice. A row that cannot be used goes to
    PEOPLE.rejected.csv, with its line and the reason, and the others go on.

    Keys are read from the environment or from a file called .env: APOLLO_API_KEY, CONTACTOUT_API_KEY, EXA_API_KEY,
    ANTHROPIC_API_KEY; EDGAR needs only your name and e-mail in SEC_EDGAR_USER_AGENT. A source without its key is
    skipped.
    """
    from sluiceway.cli.screen import console
    from sluiceway.enriched_file import check_writable
    from sluiceway.file_enrichment import Options
    from sluiceway.people_file import PeopleFile

    screen = console(stderr=True)
    read = PeopleFile.open(people, mapping=pairs_in(mapping or []))
    check_writable(out, read)
    for note in read.notes:
        screen.print(note)
    settings = settings_from(database_url=database, concurrency=concurrency, on_unknown=on_unknown, want=names_in(want))
    names = names_in(sources)
    with ExitStack() as stack:
        target = _target(stack, sandbox=sandbox, sandbox_url=sandbox_url, scenario=scenario, seed=seed)
        settings = for_target(settings, target)
        if target.sandbox_url is None:
            settings = _with_agent(settings, names, screen)
        command = _Command(
            settings=settings,
            names=names,
            target=target,
            people=read,
            out=out,
            options=Options(tenant=tenant, first=first, refresh=refresh),
            free=target.sandbox_url is not None,
            yes=yes,
            dry_run=dry_run,
            as_json=as_json,
            screen=screen,
        )
        raise typer.Exit(asyncio.run(command.run()))


def _target(stack: ExitStack, *, sandbox: bool, sandbox_url: str | None, scenario: str, seed: int) -> Target:
    from sluiceway.app import Target

    if sandbox and sandbox_url:
        raise BadInput("choose one of --sandbox and --sandbox-url")
    if sandbox:
        from sluiceway.sandbox.process import SandboxProcess, SandboxStartError

        try:
            sandbox_url = stack.enter_context(SandboxProcess(seed=seed, scenario=scenario)).url
        except SandboxStartError as error:
            raise BadInput(str(error)) from error
    return sandbox_target(sandbox_url) if sandbox_url else Target()


def _with_agent(settings: Settings, names: list[str] | None, screen: Console) -> Settings:
    """Ask for the name and e-mail that the SEC wants, if EDGAR is asked and someone is there to answer."""
    wanted = names is None or "edgar" in names
    if settings.sec_edgar_user_agent or not wanted or not sys.stdin.isatty():
        return settings
    screen.print("The SEC asks every caller for a name and an e-mail. Leave it empty to skip EDGAR.")
    name = typer.prompt("Your name or company", default="", show_default=False, err=True).strip()
    email = typer.prompt("Your e-mail", default="", show_default=False, err=True).strip() if name else ""
    if not email:
        return settings
    screen.print(f'Put SEC_EDGAR_USER_AGENT="{name} {email}" into .env and this is not asked again.')
    return settings.model_copy(update={"sec_edgar_user_agent": f"{name} {email}"})


class _Command:
    """One run of the command, from the opened file to the summary."""

    def __init__(
        self,
        *,
        settings: Settings,
        names: list[str] | None,
        target: Target,
        people: PeopleFile,
        out: Path,
        options: Any,
        free: bool,
        yes: bool,
        dry_run: bool,
        as_json: bool,
        screen: Console,
    ) -> None:
        self._settings = settings
        self._names = names
        self._target = target
        self._people = people
        self._out = out
        self._options = options
        self._free = free
        self._yes = yes
        self._dry_run = dry_run
        self._as_json = as_json
        self._screen = screen
        self._say: Callable[[str], None] = lambda sentence: screen.print(
            sentence, style="yellow" if screen.is_terminal else None
        )

    async def run(self) -> int:
        """Take in, estimate, agree, ask, write, summarise; returns the exit code."""
        from sluiceway.app import opened
        from sluiceway.file_enrichment import FileEnrichment
        from sluiceway.pipeline.recover import holding

        async with opened(
            self._settings,
            names=self._names,
            target=self._target,
            tell=lambda sentence: self._say(sentence),
            tidy=True,
        ) as app:
            job = FileEnrichment(app, self._people, self._out, self._options)
            taken = f"{self._people.path} is being enriched by another process"
            with holding(app.store, self._people.digest, taken), _Interrupts(app, lambda said: self._say(said)):
                return await self._steps(app, job)

    async def _steps(self, app: App, job: FileEnrichment) -> int:
        if app.recovered:
            self._say(
                f"{app.recovered} calls of a run that was cut short have an unknown charge; see `sluiceway usage`"
            )
        taken = await job.take_in(lambda rows: None)
        estimates = await job.estimate(lambda prospects: None)
        if app.gate.draining.is_set():
            await job.withdraw()
            return INTERRUPTED
        self._show_plan(taken, estimates, job)
        try:
            goes_on = not self._dry_run and self._agreed(estimates)
        except BaseException:
            await job.withdraw()
            raise
        if not goes_on:
            await job.withdraw()
            if self._dry_run and self._as_json:
                self._print_json(taken, estimates=estimates)
            return DONE if self._dry_run else DECLINED
        tally = await self._ask(app, job, taken)
        written = await job.write(tally)
        return self._summarise(app, job, taken, tally, written.rows)

    def _agreed(self, estimates: dict[str, SourceEstimate]) -> bool:
        spends = any(e.credits or e.usd_micros != 0 for e in estimates.values())
        if self._free or self._yes or not spends:
            return True
        if not sys.stdin.isatty():
            raise BadInput("this would spend money and there is no terminal to ask on; add --yes to agree")
        agreed = _confirmed("Go on?")
        if not agreed:
            self._screen.print("Nothing was sent.")
        return agreed

    def _show_plan(self, taken: Taken, estimates: dict[str, SourceEstimate], job: FileEnrichment) -> None:
        from sluiceway.cli.screen import credits_text, dollars_text, table

        rejected = f", {taken.rejected:,} rejected (see {job.rejects.path})" if taken.rejected else ""
        left_out = f", {taken.suppressed:,} not asked about (suppressed)" if taken.suppressed else ""
        self._screen.print(
            f"{self._people.path}: {taken.rows:,} rows{rejected}{left_out}, {taken.prospects:,} prospects"
        )
        if self._as_json:
            return
        made = table(
            "What will be asked", "source", "ask", "already held", "not asked", "credits, at most", "dollars, at most"
        )
        for name, e in estimates.items():
            pools = ", ".join(f"{credits_text(n)} {pool}" for pool, n in e.credits.items()) or "·"
            reasons = ", ".join(f"{n:,} ({why})" for why, n in e.skipped.most_common(2)) or "·"
            made.add_row(name, f"{e.ask:,}", f"{e.held:,}", reasons, pools, dollars_text(e.usd_micros))
        self._screen.print(made)
        if not self._free:
            self._screen.print(
                "An answer that is lost on its way may be asked for once more (--on-unknown leave: never)."
            )

    async def _ask(self, app: App, job: FileEnrichment, taken: Taken) -> Tally:
        from sluiceway.cli.screen import Follow

        with Follow(self._screen, taken.prospects, quiet=self._as_json) as follow:
            before, self._say = self._say, follow.say
            try:
                return await job.run(follow.on_source, follow.on_prospect)
            finally:
                self._say = before

    def _summarise(self, app: App, job: FileEnrichment, taken: Taken, tally: Tally, rows: int) -> int:
        from sluiceway.cli.screen import console, outcomes_table, spend_table
        from sluiceway.usage.spend import outcomes_by_source, spend_by_provider

        batch_id = job.batch.id if job.batch else None
        with app.store.read() as connection:
            outcomes = outcomes_by_source(connection, batch_id)
            spends = spend_by_provider(connection, batch_id=batch_id)
        limited = sum(of.get("quota_exceeded", 0) for of in outcomes.values())
        waits = tally.waiting or tally.left or app.gate.stops or limited
        code = INTERRUPTED if app.gate.draining.is_set() else WAITING if waits else DONE
        if self._as_json:
            self._print_json(taken, outcomes=outcomes, spends=spends, tally=tally, code=code)
            return code
        page = self._screen if str(self._out) == "-" else console()
        page.print(outcomes_table(outcomes))
        page.print(spend_table(spends, "Calls and money by provider, for this file"))
        page.print(f"{rows:,} rows written to {self._out}")
        if code:
            self._say_how_to_go_on(app, tally, limited)
        return code

    def _say_how_to_go_on(self, app: App, tally: Tally, limited: int) -> None:
        waiting = f"{tally.waiting:,} prospects wait. " if tally.waiting else ""
        met = f"{limited:,} times a limit was used up (quota exceeded). " if limited else ""
        when = (
            " after mending the above"
            if app.gate.stops
            else " when the limit has turned or is raised"
            if limited
            else ""
        )
        mend = f"Give the same command again{when}"
        self._say(f"{waiting}{met}{mend}: it goes on where this stopped and buys nothing twice.")

    def _print_json(self, taken: Taken, **parts: Any) -> None:
        import msgspec

        tally = parts.pop("tally", None)
        answer = {"rows": taken.rows, "rejected": taken.rejected, "prospects": taken.prospects}
        answer |= {"suppressed": taken.suppressed, **parts}
        if tally is not None:
            answer |= {"done": tally.done, "waiting": tally.waiting, "stopped": tally.left}
        typer.echo(msgspec.json.format(msgspec.json.encode(answer)).decode())


def _confirmed(question: str) -> bool:
    """Ask, while nothing else goes on; Ctrl-C is a no."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return typer.confirm(question, default=False, err=True)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo(err=True)
        return False
    finally:
        signal.signal(signal.SIGINT, before)


def _leave(number: int, frame: object) -> None:
    """End at once: not even a store that cannot be written holds us up."""
    sys.stderr.write("\x1b[?25h\n" if sys.stderr.isatty() else "")  # the bar had hidden the cursor
    sys.stderr.flush()
    os._exit(INTERRUPTED)


class _Interrupts:
    """Turns the first Ctrl-C into an orderly end; the second ends the process at once, which the ledger survives."""

    def __init__(self, app: App, say: Any) -> None:
        self._gate = app.gate
        self._say = say
        self._loop = asyncio.get_running_loop()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._stop)

    def __exit__(self, *exc_info: object) -> None:
        self._restore()

    def _stop(self, number: int, frame: object) -> None:
        for again in (signal.SIGINT, signal.SIGTERM):
            signal.signal(again, _leave)
        self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._gate.drain()
        self._say("Stopping: calls in flight finish, no new ones begin. Ctrl-C again to leave at once.")

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())
