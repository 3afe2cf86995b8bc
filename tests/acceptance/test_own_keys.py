"""A tenant with its own key for a provider, from the commands a person gives."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from acceptance.desk import Desk, Done


def of_two_tenants(desk: Desk) -> Path:
    """People of acme and of quell, turn by turn."""
    path = desk.people(8)
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    assert head.startswith("tenant,")
    whose = [f"{('acme', 'quell')[number % 2]}{line}" for number, line in enumerate(lines)]
    path.write_text("\n".join([head, *whose]) + "\n", encoding="utf-8")
    return path


def given(desk: Desk, key: str, tenant: str = "acme") -> Done:
    """Give a tenant a key for Apollo, from a file."""
    (desk.folder / "key.txt").write_text(f"{key}\n", encoding="utf-8")
    with (desk.folder / "key.txt").open("rb") as file:
        command = ("credential", "set", "apollo", "--tenant", tenant, "--database", desk.url, "--json")
        return desk.start(*command, stdin=file).done()


def asked_with(desk: Desk) -> dict[str, set[str]]:
    """With which credentials Apollo was asked, by tenant."""
    with sqlite3.connect(desk.store) as connection:
        query = "SELECT DISTINCT tenant_id, credential_id FROM attempts WHERE provider = 'apollo'"
        found = connection.execute(query).fetchall()
    connection.close()
    return {tenant: {credential for whose, credential in found if whose == tenant} for tenant, _ in found}


def test_each_tenant_of_a_file_is_asked_for_with_its_own_key_and_a_refused_one_stops_that_tenant(desk: Desk) -> None:
    people = of_two_tenants(desk)
    assert desk.look("tenant", "add", "acme", "--database", desk.url).code == 0
    own = given(desk, "sandbox-revoked-of-acme").json()["credential"]["id"]
    first = desk.enrich(people, "--sources", "apollo")
    assert first.code == 3, "the rest waits for a key to be mended"
    assert f"Apollo (with credential {own}) is not asked any more" in first.screen
    assert asked_with(desk) == {"acme": {own}, "quell": {"platform"}}
    stopped = desk.look("stops", "--json", "--database", desk.url).json()["breakers"]
    assert list(stopped) == [f"apollo/{own}"]
    mended = given(desk, "sandbox-key-of-acme").json()["credential"]["id"]
    assert desk.enrich(people, "--sources", "apollo").code == 0
    assert asked_with(desk) == {"acme": {own, mended}, "quell": {"platform"}}
    assert {row["apollo_status"] for row in desk.rows()} <= {"complete", "no_data", "unauthorized"}
    assert desk.look("tenant", "list", "--database", desk.url).out.count("let in") == 3


def test_a_lost_secret_key_stops_everything_before_anything_is_asked(desk: Desk) -> None:
    people = of_two_tenants(desk)
    desk.look("tenant", "add", "acme", "--database", desk.url)
    given(desk, "sandbox-key-of-acme")
    (desk.folder / "people.db.secret-key").unlink()
    refused = desk.enrich(people, "--sources", "apollo")
    assert refused.code == 2
    assert "people.db.secret-key is gone" in refused.err
    assert desk.requests() == 0
    assert not (desk.folder / "people.db.secret-key").exists()
