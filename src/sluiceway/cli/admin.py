"""`sluiceway admin`: the answers for whoever operates Sluiceway, as tables or as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluiceway.cli import app
from sluiceway.cli.options import AsJson, Database, opened_store

if TYPE_CHECKING:
    from sluiceway.admin.answer import About, Figure
    from sluiceway.tenancy.scope import Scope

admin_app = typer.Typer(
    no_args_is_help=True, help="See how everything stands: tenants, sources, limits, errors.", rich_markup_mode=None
)
app.add_typer(admin_app, name="admin")

Days = Annotated[int, typer.Option(min=1, metavar="N", help="The last N UTC days, today included.")]
TenantOf = Annotated[str | None, typer.Option("--tenant", help="Only this tenant's. Default: everybody's.")]


@admin_app.command("dashboard")
def dashboard(days: Days = 14, as_json: AsJson = False, database: Database = None) -> None:
    """Show prospects and coverage, how source results end, what is used of each provider, and who is active."""
    from sluiceway.admin.dashboard import dashboard as answer

    with _asked(database) as (connection, now):
        found = answer(connection, _scope(), now, days)
    if as_json:
        _print_json(found)
        return
    from sluiceway.cli.screen import console, credits_text, dollars_text

    screen = console()
    coverage, pipeline, users = found.coverage, found.pipeline, found.users
    screen.print(f"{coverage.prospects:,} prospects, {coverage.covered:,} with bought data ({_share(coverage.share)})")
    screen.print(
        f"{pipeline.results:,} source results, {pipeline.failed:,} failed; success {_share(pipeline.success)}, "
        f"hit {_share(pipeline.hit)}"
    )
    average = "" if users.average.value is None else f" (7-day average {users.average.value:.1f})"
    screen.print(f"{users.today:,} users active today{average}")
    made = _table(screen, "Used of each provider", found.about, "provider", "calls", "credits", "dollars")
    for burn in found.burn:
        made.add_row(burn.provider, f"{burn.calls:,}", credits_text(burn.milli_credits), dollars_text(burn.usd_micros))
    screen.print(made)


@admin_app.command("tenants")
def tenants(
    days: Days = 7,
    tenant: Annotated[str | None, typer.Option("--users-of", metavar="TENANT", help="Its users, one by one.")] = None,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Show what each tenant did, beside its peers; or what each user of one did."""
    from sluiceway.admin.tenants import tenants_activity, users_activity

    with _asked(database) as (connection, now):
        found: Any
        if tenant is None:
            found = tenants_activity(connection, _scope(), now, days, _known(connection))
        else:
            found = users_activity(connection, _scope(), now, tenant, days)
    if as_json:
        _print_json(found)
        return
    from sluiceway.cli.screen import console, count_text, dollars_text

    screen = console()
    counted = ("searches", "views", "enrichments", "exports")
    if tenant is not None:
        made = _table(screen, f"Users of {tenant}", found.about, "user", "actions", *counted, "last active")
        for user in found.users:
            counts = (user.actions, *(getattr(user, name) for name in counted))
            made.add_row(user.user_id or "—", *map(count_text, counts), _moment(user.last_active))
        screen.print(made)
        return
    words = ("tenant", "standing", "users", "actions", *counted, "dollars", "last active")
    made = _table(screen, "Tenants", found.about, *words, left=2)
    for one in found.tenants:
        counts = (one.users, one.actions, *(getattr(one, name) for name in counted))
        dollars = dollars_text(one.usd_micros) + (f" + {one.unpriced} unpriced" if one.unpriced else "")
        standing = one.standing.value.replace("_", " ")
        made.add_row(one.tenant_id, standing, *map(count_text, counts), dollars, _moment(one.last_active))
    screen.print(made)


@admin_app.command("health")
def health(days: Days = 14, tenant: TenantOf = None, as_json: AsJson = False, database: Database = None) -> None:
    """Show how each source is doing: how its results end, how long answers take, and whether it is asked."""
    from sluiceway.admin.health import health as answer

    with _asked(database) as (connection, now):
        found = answer(connection, _scope(tenant), now, days)
    if as_json:
        _print_json(found)
        return
    from sluiceway.cli.screen import console, count_text, outcomes_table, table

    screen = console()
    outcomes = {source.source: source.outcomes for source in found.sources}
    screen.print(outcomes_table(outcomes, "How source results ended"))
    made = table("How long attempts took, at most", "source", "attempts", "half of them", "19 of 20")
    for source in found.sources:
        took = (_duration(source.p50_us), _duration(source.p95_us))
        made.add_row(source.source, count_text(source.attempts), *took)
    screen.print(made)
    for breaker in found.breakers:
        if breaker.state != "closed":
            screen.print(f"{breaker.provider} is not asked since {_moment(breaker.changed_at)}: {breaker.reason}")


@admin_app.command("quota")
def quota(days: Days = 14, as_json: AsJson = False, database: Database = None) -> None:
    """Show every limit with what is left and when it runs out, and the providers' own meters."""
    from sluiceway.admin.quota import quotas as answer

    with _asked(database) as (connection, now):
        found = answer(connection, _scope(), now, days)
    if as_json:
        _print_json(found)
        return
    from sluiceway.cli.screen import amount_text, console, table

    screen = console()
    made = table("Limits", "provider", "limit", "used", "left", "turns (UTC)", "runs out", left=2)
    for limit in (limit for provider in found.providers for limit in provider.limits):
        amounts = (amount_text(amount, limit.unit) for amount in (limit.used, limit.left))
        made.add_row(limit.provider, limit.shown, *amounts, _moment(limit.closes_at), _outlook(limit.forecast))
    screen.print(made)
    meters = _table(screen, "Their meters", found.about, "meter", "used", "left", "drift", "outside", "read (UTC)")
    for provider in found.providers:
        for meter in provider.meters:
            figures = (meter.used, meter.remaining, meter.drift.value, meter.outside.value)
            shown = ("unknown" if f is None else amount_text(int(f), meter.unit) for f in figures)
            meters.add_row(f"{provider.provider}: {meter.meter}", *shown, _moment(meter.read_at))
    screen.print(meters)


@admin_app.command("funnel")
def funnel(days: Days = 30, tenant: TenantOf = None, as_json: AsJson = False, database: Database = None) -> None:
    """Show how far it goes from searches to exports, and what is spent on the way."""
    from sluiceway.admin.funnel import funnel as answer

    with _asked(database) as (connection, now):
        found = answer(connection, _scope(tenant), now, days)
    if as_json:
        _print_json(found)
        return
    from sluiceway.cli.screen import console, dollars_text

    screen = console()
    made = _table(screen, "From searches to exports", found.about, "step", "times", "prospects")
    for stage in found.stages:
        prospects = "" if stage.prospects.value is None else f"{stage.prospects.value:,.0f}"
        made.add_row(stage.action.replace("_", " "), f"{stage.events:,}", prospects)
    screen.print(made)
    per_exported = found.usd_micros_per_exported
    shown = per_exported.reason if per_exported.value is None else dollars_text(round(per_exported.value))
    screen.print(f"Spent: {dollars_text(found.usd_micros)}; on prospects nobody has viewed: "
                 f"{dollars_text(found.usd_micros_unviewed)}; per exported prospect: {shown}")  # fmt: skip
    if found.unpriced:
        screen.print(f"{found.unpriced:,} calls without a known price are in none of these sums.")


@admin_app.command("errors")
def errors(
    days: Days = 14,
    tenant: TenantOf = None,
    source: Annotated[str | None, typer.Option(help="Only this source's.")] = None,
    status: Annotated[str | None, typer.Option("--class", help="Only this class: failed, timed_out, …")] = None,
    text: Annotated[str | None, typer.Option("--text", help="Only with this text in the message.")] = None,
    group: Annotated[
        str | None, typer.Option("--group", metavar="FINGERPRINT", help="The results of one group, newest first.")
    ] = None,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Show what failed: alike failures in groups, or the results of one group."""
    from sluiceway.admin.answer import last_days
    from sluiceway.admin.errors import Wanted, error_feed
    from sluiceway.admin.errors import errors as results

    wanted = Wanted(tenant, source, status, text)
    with _asked(database) as (connection, now):
        found: Any = (
            error_feed(connection, _scope(), now, last_days(now, days), wanted)
            if group is None
            else results(connection, _scope(), now, last_days(now, days), wanted, fingerprint=group)
        )
    if as_json:
        _print_json(found)
        return
    from sluiceway.cli.screen import console

    screen = console()
    if group is not None:
        made = _table(screen, "Failed results", found.about, "when", "tenant", "source", "result", "error", left=5)
        for error in found.errors:
            made.add_row(_moment(error.closed_at), error.tenant_id, error.source, error.id, error.error or "")
        screen.print(made)
        return
    made = _table(screen, "Failures", found.about, "group", "source", "class", "message", "results", "tenants", "last",
                 left=4)  # fmt: skip
    for one in found.groups:
        last = _moment(one.last_seen)
        made.add_row(one.fingerprint, one.source, one.status, one.message, f"{one.results:,}", f"{one.tenants:,}", last)
    screen.print(made)
    if found.old_prospects:
        screen.print(f"{found.old_prospects:,} prospects hold statuses of an earlier system; --json lists failures.")


@admin_app.command("usage")
def usage(
    days: Days = 14,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="A[,B]",
            help="One or two of hour, day, provider, tenant, user, key, batch, trigger, charge.",
        ),
    ] = "provider",
    tenant: TenantOf = None,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Show calls, credits and dollars by any two things; every call is in exactly one row."""
    from sluiceway.admin.answer import last_days
    from sluiceway.admin.usage import By
    from sluiceway.admin.usage import usage as answer
    from sluiceway.cli.options import names_in
    from sluiceway.errors import BadInput

    names = names_in(by) or []
    if unknown := [name for name in names if name not in set(By)]:
        raise BadInput(f"--by {unknown[0]!r} is not one of {', '.join(By)}")
    with _asked(database) as (connection, now):
        group_by = [By(name) for name in names]
        found = answer(connection, _scope(tenant), now, last_days(now, days), group_by)
    if as_json:
        _print_json(found)
        return
    from sluiceway.cli.screen import console, count_text, credits_text, dollars_text

    screen = console()
    charges = ("attempts", "billed", "free", "unknown", "not_sent", "open")
    made = _table(screen, "Calls and money", found.about, *names, *charges, "credits", "dollars", left=len(names))
    for keys, counted in [*((row.keys, row.counted) for row in found.rows), (("all",), found.total)]:
        cells = [count_text(getattr(counted, name)) for name in charges]
        dollars = dollars_text(counted.usd_micros) + (f" + {counted.unpriced} unpriced" if counted.unpriced else "")
        words = [key or "—" for key in keys] + [""] * (len(names) - len(keys))
        made.add_row(*words, *cells, credits_text(counted.milli_credits), dollars)
    screen.print(made)
    if found.next:
        screen.print("There are more rows; the sum is of all of them.")


@contextmanager
def _asked(database: str | None) -> Iterator[tuple[Any, datetime]]:
    """Open the store, fold its sums if an earlier version did not, and yield one consistent state and its time."""
    from sluiceway.usage.reconcile import fold_if_never

    with opened_store(database) as store:
        with store.writing.begin() as connection:
            fold_if_never(connection)
        with store.read() as connection:
            yield connection, store.clock.now()


def _scope(tenant: str | None = None) -> Scope:
    """Return what is shown: whoever has the store's file may see everything."""
    from sluiceway.tenancy.scope import Scope

    return Scope(tenant)


def _known(connection: Any) -> list[str]:
    """Return the tenants there are, also those that have done nothing yet."""
    from sluiceway.tenancy.tenants import all_tenants

    return [tenant.id for tenant in all_tenants(connection)]


def _print_json(answer: Any) -> None:
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(answer)).decode())


def _table(screen: Any, title: str, about: About, *columns: str, left: int = 1) -> Any:
    """Print what a table is about, which may be longer than it is wide, and return the table, empty."""
    from sluiceway.cli.screen import table

    window = about.window
    days = window.until if window.since == window.until else f"{window.since} to {window.until}"
    screen.print(f"{title}, {days} (UTC days, as of {_moment(about.as_of)})")
    return table("", *columns, left=left)


def _share(figure: Figure) -> str:
    from sluiceway.cli.screen import percent_text

    return figure.reason or percent_text(figure.value)


def _duration(figure: Figure) -> str:
    from sluiceway.cli.screen import milliseconds_text

    return figure.reason or "" if figure.value is None else milliseconds_text(int(figure.value))


def _outlook(outlook: Any) -> str:
    from sluiceway.usage.forecast import Forecast

    if not isinstance(outlook, Forecast):
        return "not enough data" if "short" not in outlook.reason else ""
    return _moment(outlook.runs_out_at.isoformat()) if outlook.runs_out_at else "not before it turns"


def _moment(stamp: str | None) -> str:
    return "" if stamp is None or stamp.startswith("9999") else stamp[:16].replace("T", " ")
