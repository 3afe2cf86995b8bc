"""`sluiceway tenant|user|key|credential|audit`, as a person and a program use them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tenancy_builders import look

from sluiceway.cli.user import Role as Offered
from sluiceway.store.engine import Store
from sluiceway.tenancy.caller import authenticate_key
from sluiceway.tenancy.passwords import is_password
from sluiceway.tenancy.roles import Role
from sluiceway.tenancy.sign_in import let_in_by_link
from terminal import Command

PASSWORD = "seven grey herons"
APOLLO_KEY = "apollo-key-of-acme-0123456789"


@pytest.fixture
def acme(command: Command) -> Command:
    """Acme and its agent Ines are there."""
    assert command("tenant", "add", "acme", "--name", "Acme Ltd").code == 0
    assert command("user", "add", "ines@acme.example", "--role", "agent", "--tenant", "acme").code == 0
    return command


def test_every_role_there_is_can_be_chosen() -> None:
    assert {each.value for each in Offered} == {each.value for each in Role}


def test_tenants_are_made_listed_shown_and_kept_out(command: Command) -> None:
    assert "tenant acme is there" in command("tenant", "add", "acme", "--name", "Acme Ltd").out
    assert command("tenant", "disable", "acme", "--json").json["tenant"]["disabled_at"]
    said = command("tenant", "list", "--json").json["tenants"]
    assert [(tenant["id"], tenant["name"], bool(tenant["disabled_at"])) for tenant in said] == [
        ("acme", "Acme Ltd", True),
        ("default", "default", False),
    ]
    assert "disabled since" in command("tenant", "list").out
    assert "let in again" in command("tenant", "enable", "acme").out
    assert "No users." in command("tenant", "show", "acme").out


def test_a_tenant_is_shown_with_its_users_and_keys(acme: Command) -> None:
    acme("key", "add", "--user", "ines@acme.example", "--name", "the CRM")
    acme("credential", "set", "apollo", "--tenant", "acme", stdin=f"{APOLLO_KEY}\n")
    said = acme("tenant", "show", "acme", "--json").json
    assert said["tenant"]["name"] == "Acme Ltd"
    assert [user["email"] for user in said["users"]] == ["ines@acme.example"]
    assert [key["name"] for key in said["api_keys"]] == ["the CRM"]
    assert [held["provider"] for held in said["credentials"]] == ["apollo"]
    shown = acme("tenant", "show", "acme").out
    assert "own keys for: apollo" in shown
    assert "ines@acme.example" in shown
    assert "the CRM" in shown


def test_users_change_what_they_are(acme: Command) -> None:
    assert (
        acme("user", "set-role", "ines@acme.example", "tenant_admin", "--json").json["user"]["role"] == "tenant_admin"
    )
    said = acme("user", "set-role", "ines@acme.example", "super_admin", "--json").json["user"]
    assert (said["role"], said["tenant_id"]) == ("super_admin", None)
    refused = acme("user", "set-role", "ines@acme.example", "agent")
    assert (refused.code, "belongs to a tenant" in refused.err) == (2, True)
    last = acme("user", "set-role", "ines@acme.example", "assistant", "--tenant", "acme")
    assert (last.code, "the only super_admin" in last.err) == (2, True)
    acme("user", "add", "root@sluiceway.example", "--role", "super_admin")
    acme("user", "set-role", "ines@acme.example", "assistant", "--tenant", "acme")
    assert "assistant" in acme("user", "list", "--tenant", "acme").out
    assert "is kept out" in acme("user", "disable", "ines@acme.example").out
    assert "disabled since" in acme("user", "list").out
    assert acme("user", "sign-in-link", "ines@acme.example").code == 2
    assert acme("key", "add", "--user", "ines@acme.example").code == 2
    assert "let in again" in acme("user", "enable", "ines@acme.example").out


def test_a_password_comes_from_standard_input(acme: Command, store: Store) -> None:
    refused = acme("user", "password", "ines@acme.example", stdin="too short\n")
    assert (refused.code, "12 to 256 characters" in refused.err) == (2, True)
    assert acme("user", "password", "ines@acme.example", stdin=f"{PASSWORD}\n").code == 0
    kept = look(store, lambda connection: connection.exec_driver_sql("SELECT password_hash FROM users").scalar())
    assert is_password(PASSWORD, kept)
    assert acme("user", "list", "--json").json["users"][0]["has_password"] is True


def test_a_sign_in_link_signs_in(acme: Command, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEWAY_PUBLIC_URL", "https://people.acme.example/")
    url = acme("user", "sign-in-link", "ines@acme.example").out.strip()
    assert url.startswith("https://people.acme.example/sign-in/")
    with store.writing.begin() as connection:
        assert let_in_by_link(connection, url.rpartition("/")[2], store.clock.now()) is not None


def test_a_key_is_printed_once_and_alone(acme: Command, store: Store) -> None:
    made = acme("key", "add", "--user", "ines@acme.example", "--name", "the CRM")
    text = made.out.strip()
    assert made.out == f"{text}\n"
    assert "it is not shown again" in made.err
    principal = look(store, authenticate_key, text)
    assert (principal.tenant_id, principal.role) == ("acme", Role.AGENT)
    listed = acme("key", "list")
    assert text[:17] in listed.out
    assert text not in listed.out
    assert "is revoked" in acme("key", "revoke", f"{text[:17]}…").out
    assert look(store, authenticate_key, text) is None
    assert acme("key", "list", "--json").json["api_keys"][0]["revoked_at"]


def test_a_test_key_says_so(acme: Command, store: Store) -> None:
    said = acme("key", "add", "--user", "ines@acme.example", "--test", "--json").json
    assert look(store, authenticate_key, said["text"]).sandbox_only
    assert "sandbox only" in acme("key", "list", "--user", "ines@acme.example").out
    assert acme("key", "list", "--tenant", "default", "--json").json["api_keys"] == []


def test_a_credential_is_never_printed_and_never_an_argument(acme: Command, tmp_path: Path) -> None:
    said = acme("credential", "set", "apollo", "--tenant", "acme", stdin=f"{APOLLO_KEY}\n")
    assert said.code == 0
    assert (tmp_path / "ledger.db.secret-key").is_file()
    listed = [acme("credential", "list"), acme("credential", "list", "--tenant", "acme", "--json"), acme("audit")]
    assert not any(APOLLO_KEY in each.out + each.err for each in [said, *listed])
    assert listed[1].json["credentials"][0]["provider"] == "apollo"
    assert acme("credential", "set", "apollo", APOLLO_KEY, "--tenant", "acme").code == 2
    assert "no key of its own for apollo any more" in acme("credential", "unset", "apollo", "--tenant", "acme").out
    assert "No tenant has keys" in acme("credential", "list").out


def test_what_was_done_is_in_the_audit_newest_first(acme: Command) -> None:
    acme("user", "sign-in-link", "ines@acme.example")
    acme("key", "add", "--user", "ines@acme.example")
    said = acme("audit", "--json").json["entries"]
    assert [entry["action"] for entry in said] == ["key.add", "user.sign-in-link", "user.add", "tenant.add"]
    assert all(entry["actor"].startswith("cli:") for entry in said)
    assert acme("audit", "--limit", "1", "--json").json["entries"] == said[:1]
    assert acme("audit", "--tenant", "default", "--json").json["entries"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tenant", "show", "nobody"), "there is no tenant 'nobody'; `sluiceway tenant list` shows"),
        (("tenant", "add", "acme"), "there is a tenant 'acme' already"),
        (("user", "add", "ines"), "'ines' is no e-mail"),
        (("user", "add", "tomas@acme.example"), "every agent belongs to a tenant"),
        (("user", "add", "tomas@acme.example", "--tenant", "nobody"), "there is no tenant 'nobody'"),
        (("user", "add", "t@acme.example", "--role", "super_admin", "--tenant", "acme"), "belongs to no tenant"),
        (("user", "disable", "nobody@acme.example"), "there is no user 'nobody@acme.example'"),
        (("user", "list", "--tenant", "nobody"), "there is no tenant 'nobody'"),
        (("key", "revoke", "slw_live_12345678"), "no key is named 'slw_live_12345678'"),
        (("key", "list", "--tenant", "nobody"), "there is no tenant 'nobody'"),
        (("credential", "set", "nobody", "--tenant", "acme"), "'nobody' is no provider; there are apollo"),
        (("credential", "set", "edgar", "--tenant", "acme"), "edgar takes no key"),
        (("credential", "set", "apollo", "--tenant", "acme"), "that cannot be a provider's key"),
        (("credential", "set", "apollo", "--tenant", "nobody"), "there is no tenant 'nobody'"),
        (("credential", "unset", "apollo", "--tenant", "acme"), "has no key of its own for apollo"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(acme: Command, arguments: tuple[str, ...], said: str) -> None:
    stdin = APOLLO_KEY if "nobody" in arguments else ""
    done = acme(*arguments, stdin=stdin)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_the_commands_work_as_processes_with_a_file_for_standard_input(tmp_path: Path) -> None:
    """The one test that starts them as a person does, with a new store in an empty folder."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith("SLUICEWAY_")}

    def run(*arguments: str, given: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "sluiceway", *arguments],
            cwd=tmp_path, env=keep, input=given, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("tenant", "add", "acme")
    run("user", "add", "ines@acme.example", "--tenant", "acme")
    run("credential", "set", "exa", "--tenant", "acme", given=f"{APOLLO_KEY}\r\n")
    assert run("key", "add", "--user", "ines@acme.example").startswith("slw_live_")
    assert (tmp_path / "sluiceway.db.secret-key").is_file()
    assert APOLLO_KEY.encode() not in (tmp_path / "sluiceway.db").read_bytes()
