"""`sluiceway user`: who may sign in, and what they may do."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from sluiceway.cli import app
from sluiceway.cli.options import (
    AsJson,
    Database,
    opened_store,
    person_at_terminal,
    print_json,
    reading_settings,
    secret_given,
    store_of,
)

if TYPE_CHECKING:
    from rich.table import Table

    from sluiceway.tenancy.users import User

users_app = typer.Typer(no_args_is_help=True, help="Say who may sign in, and as what.", rich_markup_mode=None)
app.add_typer(users_app, name="user")


class Role(StrEnum):
    """What a user can be."""

    SUPER_ADMIN = "super_admin"
    TENANT_ADMIN = "tenant_admin"
    AGENT = "agent"
    ASSISTANT = "assistant"


Email = Annotated[str, typer.Argument(metavar="EMAIL", help="The user's e-mail, which is the name to sign in with.")]
RoleOption = Annotated[
    Role,
    typer.Option(
        "--role",
        help="super_admin operates the platform; tenant_admin manages a tenant; agent searches, enriches and exports; "
        "assistant only reads.",
    ),
]
TenantOption = Annotated[str | None, typer.Option("--tenant", help="Whose user; a super_admin is nobody's.")]


@users_app.command("add")
def add(
    email: Email,
    role: RoleOption = Role.AGENT,
    tenant: TenantOption = None,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Make a user, who has no password: `user sign-in-link` or `user password` opens the door."""
    from sluiceway.tenancy.roles import Role as Given
    from sluiceway.tenancy.users import add_user

    with opened_store(database) as store, store.writing.begin() as connection:
        by, now = person_at_terminal(), store.clock.now()
        made = add_user(connection, email, Given(role), tenant, by=by, now=now)
    _say(made, f"{made.email} is there; `sluiceway user sign-in-link {made.email}` makes a way in", as_json)


@users_app.command("list")
def list_(tenant: TenantOption = None, as_json: AsJson = False, database: Database = None) -> None:
    """List the users: all, or one tenant's."""
    from sluiceway.cli.screen import console
    from sluiceway.tenancy.tenants import tenant_of
    from sluiceway.tenancy.users import all_users

    with opened_store(database) as store, store.read() as connection:
        if tenant is not None:
            tenant_of(connection, tenant)
        found = all_users(connection, tenant)
    if as_json:
        print_json({"users": found})
    else:
        console().print(users_table(found) if found else "No users. `sluiceway user add EMAIL` makes one.")


def users_table(users: Sequence[User]) -> Table:
    """Show users as a table."""
    from sluiceway.cli.screen import table

    made = table("Users", "e-mail", "role", "tenant", "last sign-in (UTC)", "state", left=5)
    for user in users:
        state = f"disabled since {user.disabled_at[:10]}" if user.disabled_at else ""
        last = (user.last_sign_in_at or "never")[:16].replace("T", " ")
        made.add_row(
            user.email, user.role, user.tenant_id or "", last, state or ("" if user.has_password else "no password")
        )
    return made


@users_app.command("disable")
def disable(email: Email, as_json: AsJson = False, database: Database = None) -> None:
    """Keep a user out: sessions end at once, and the user's API keys do not work."""
    from sluiceway.tenancy.users import disable_user, user_of

    with opened_store(database) as store, store.writing.begin() as connection:
        user = user_of(connection, email)
        changed = disable_user(connection, user, by=person_at_terminal(), now=store.clock.now())
    _say(changed, f"{changed.email} is kept out; `sluiceway user enable {changed.email}` undoes it", as_json)


@users_app.command("enable")
def enable(email: Email, as_json: AsJson = False, database: Database = None) -> None:
    """Let a user in again."""
    from sluiceway.tenancy.users import enable_user, user_of

    with opened_store(database) as store, store.writing.begin() as connection:
        user = user_of(connection, email)
        changed = enable_user(connection, user, by=person_at_terminal(), now=store.clock.now())
    _say(changed, f"{changed.email} is let in again", as_json)


@users_app.command("set-role")
def set_role(
    email: Email,
    role: Annotated[Role, typer.Argument(help="What the user is from now on.")],
    tenant: Annotated[str | None, typer.Option("--tenant", help="In which tenant. Default: where the user is.")] = None,
    as_json: AsJson = False,
    database: Database = None,
) -> None:
    """Make a user something else. Sessions end; when the tenant changes, the user's API keys are revoked too."""
    from sluiceway.tenancy.roles import Role as Given
    from sluiceway.tenancy.users import set_role as change
    from sluiceway.tenancy.users import user_of

    with opened_store(database) as store, store.writing.begin() as connection:
        user = user_of(connection, email)
        stays = None if role is Role.SUPER_ADMIN else user.tenant_id
        by, now = person_at_terminal(), store.clock.now()
        changed = change(connection, user, Given(role), tenant if tenant is not None else stays, by=by, now=now)
    _say(changed, f"{changed.email} is {changed.role} now", as_json)


@users_app.command("password")
def password(email: Email, as_json: AsJson = False, database: Database = None) -> None:
    """Give a user a password, asked for here or read from standard input: 12 characters or more.

    Whoever is signed in as the user is so no longer. `user sign-in-link` is the way to let users choose their own.
    """
    from sluiceway.tenancy.passwords import hashed
    from sluiceway.tenancy.users import set_password_hash, user_of

    with opened_store(database) as store:
        with store.read() as connection:
            user = user_of(connection, email)
        kept = hashed(secret_given("New password"), user.email)
        with store.writing.begin() as connection:
            set_password_hash(connection, user, kept, by=person_at_terminal(), now=store.clock.now())
    _say(user, f"{user.email} has a new password", as_json)


@users_app.command("sign-in-link")
def sign_in_link(email: Email, as_json: AsJson = False, database: Database = None) -> None:
    """Print a link that signs a user in once, within an hour. Whoever has it is the user: pass it on with care.

    It starts with SLUICEWAY_PUBLIC_URL. An earlier link of the user is void.
    """
    from sluiceway.errors import BadInput
    from sluiceway.tenancy.sign_in import link_url, make_link
    from sluiceway.tenancy.users import user_of

    settings = reading_settings(database)
    with store_of(settings) as store, store.writing.begin() as connection:
        user = user_of(connection, email)
        if user.disabled_at:
            raise BadInput(f"{user.email} is disabled; `sluiceway user enable {user.email}` first")
        token = make_link(connection, user, by=person_at_terminal(), now=store.clock.now())
    url = link_url(settings.public_url, token)
    if as_json:
        print_json({"email": user.email, "url": url})
    else:
        typer.echo(url)


def _say(user: User, sentence: str, as_json: bool) -> None:
    if as_json:
        print_json({"user": user})
    else:
        typer.echo(sentence)
