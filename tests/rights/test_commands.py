"""`sluiceway suppress`, `prospect` and `retention`, as a person and as a program use them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from builders import INES, a_prospect, rows, somebody
from sluiceway.outcome import timestamp
from sluiceway.rights.erasure import traces_since
from sluiceway.store.engine import Store
from sluiceway.store.schema import erasures, prospects, suppressions
from terminal import Command, sluiceway


@pytest.fixture
def run(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Give `sluiceway …` a command, on the test's store."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: sluiceway(*arguments, "--database", store.url)


def test_somebody_is_put_on_the_list_checked_counted_and_taken_off(run: Command) -> None:
    assert run("suppress", "list").out == "Nobody is on the list. `sluiceway suppress add` puts somebody on it.\n"
    added = run("suppress", "add", "Ines@Quell.example", "linkedin.com/in/ines", "--reason", "asked on the phone")
    assert (added.code, added.out) == (0, "tenant default: 2 added\n")
    again = run("suppress", "add", "ines@quell.example", "--json")
    assert again.json == {"added": 0, "already": 1, "tenant": "default"}
    said = run("suppress", "check", "INES+x@quell.example").out
    assert said.startswith("suppressed for tenant default by email, since 20")
    assert said.endswith(": asked on the phone\n")
    assert run("suppress", "check", "tomas@quell.example").out == "not suppressed\n"
    assert run("suppress", "list", "--json").json == {
        "counts": [
            {"tenant_id": "default", "kind": "email", "count": 1},
            {"tenant_id": "default", "kind": "linkedin", "count": 1},
        ]
    }
    assert "default" in run("suppress", "list").out
    assert run("suppress", "remove", "ines@quell.example").out == "tenant default: 1 removed\n"
    nothing = run("suppress", "remove", "ines@quell.example")
    assert (nothing.code, "none of this is on that list" in nothing.err) == (2, True)


def test_a_whole_list_is_emptied_and_no_other(run: Command, store: Store) -> None:
    run("suppress", "add", "ines@quell.example", "tomas@quell.example")
    run("suppress", "add", "quell.example", "--everywhere")
    assert run("suppress", "remove", "ines@quell.example", "--all").code == 2
    assert run("suppress", "remove", "--all").out == "tenant default: 2 removed\n"
    assert [each["tenant_id"] for each in rows(store, suppressions)] == ["*"]


def test_a_domain_on_everybodys_list_covers_whoever_is_there(run: Command) -> None:
    assert run("suppress", "add", "quell.example", "--everywhere").out == "everywhere: 1 added\n"
    found = run("suppress", "check", "tomas@mail.quell.example", "--json").json
    assert found["suppressed"]
    assert [(each["tenant_id"], each["kind"]) for each in found["entries"]] == [("*", "domain")]
    assert run("suppress", "check", "eu.quell.example").out.startswith("suppressed everywhere by domain")


def test_somebody_of_whom_only_the_name_is_known_is_put_on_the_list_with_the_company(run: Command) -> None:
    run("suppress", "add", "--name", "Ines Okafor-Lind", "--company", "Harbourline Robotics Inc")
    same = ("--name", "INÈS OKAFOR LIND", "--company", "Harbourline Robotics")
    assert run("suppress", "check", *same).out.startswith("suppressed for tenant default by name")
    assert run("suppress", "add", "--name", "Ines").code == 2


@pytest.mark.parametrize(
    "arguments", [(), ("nobody",), ("a@quell.example", "--everywhere", "--tenant", "acme")]
)  # fmt: skip
def test_what_cannot_be_put_on_the_list_is_refused_and_nothing_is_added(
    run: Command, store: Store, arguments: tuple[str, ...]
) -> None:
    assert run("suppress", "add", *arguments).code == 2
    assert rows(store, suppressions) == []


def test_a_file_is_imported_and_lines_that_cannot_be_used_are_named(run: Command, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("ines@quell.example\nwhat\nTOMAS@quell.example\ntomas@quell.example\n")
    done = run("suppress", "import", "list.txt", "--tenant", "acme", "--reason", "list of 2026")
    assert (done.code, done.out) == (1, "tenant acme: 2 added, 0 on it already, 1 lines not used\n")
    assert "line 2: 'what' is no e-mail address" in done.err
    again = run("suppress", "import", "list.txt", "--tenant", "acme", "--json").json
    assert (again["added"], again["already"], [each["line"] for each in again["rejected"]]) == (0, 2, [2])
    assert run("suppress", "import", "nothing.txt").code == 2


def test_a_key_that_is_not_the_lists_is_told_by_every_command(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    run("suppress", "add", "ines@quell.example")
    monkeypatch.setenv("SLUICEWAY_SUPPRESSION_KEY", "another")
    for command in (("suppress", "check", "a@quell.example"), ("prospect", "report", "x"), ("retention", "run")):
        refused = run(*command)
        assert (refused.code, "SLUICEWAY_SUPPRESSION_KEY" in refused.err) == (2, True)


def test_somebody_is_found_and_reported_on(run: Command, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    prospect_id = a_prospect(store)
    monkeypatch.setenv("SLUICEWAY_PURPOSE", "Invitations to our fund.")
    found = run("prospect", "find", "ines@harbourline.example", "--json").json["prospects"]
    assert [each["prospect_id"] for each in found] == [prospect_id]
    assert prospect_id in run("prospect", "find", "Ines Okafor-Lind").out
    assert run("prospect", "find", "tomas@quell.example").out == "Nobody like that is held.\n"
    said = run("prospect", "report", prospect_id, "--json").json["reports"][0]
    assert (said["purpose"], said["as_asked"]["email"]) == ("Invitations to our fund.", INES.email)
    shown = run("prospect", "report", "--email", INES.email).out
    assert "purpose: Invitations to our fund." in shown
    assert "email: ines@harbourline.example" in shown


def test_erasing_asks_for_agreement_and_says_what_it_cannot_reach(run: Command, store: Store, store_url: str) -> None:
    a_prospect(store)
    backup = Path(store_url.removeprefix("sqlite:///")).with_name("ledger.db.0002.bak")
    backup.touch()
    refused = run("prospect", "erase", "--email", INES.email)
    assert (refused.code, "--yes" in refused.err, len(rows(store, prospects))) == (2, True, 1)
    done = run("prospect", "erase", "--email", INES.email, "--yes")
    assert done.code == 0, done.err
    assert done.out.startswith("1 erased; 0 calls about them stay as money; 3 signs put on the suppression list.\n")
    assert str(backup) in done.out
    assert "Enriched files" in done.out
    assert rows(store, prospects) == []
    with store.read() as connection:
        assert traces_since(connection) is None


def test_the_file_may_be_rewritten_later_by_retention(run: Command, store: Store) -> None:
    a_prospect(store)
    done = run("prospect", "erase", "--email", INES.email, "--yes", "--later", "--keep-asking", "--json").json
    assert (done["erased"], done["suppressed"], done["file_rewritten"]) == (1, 0, False)
    assert run("retention", "run", "--json").json["file_rewritten"] is True
    assert "file_rewritten" not in run("retention", "run", "--json").json


def test_a_name_that_several_people_have_erases_nobody(run: Command, store: Store) -> None:
    a_prospect(store)
    a_prospect(store, tenant="acme")
    refused = run("prospect", "erase", "Ines Okafor-Lind", "--yes")
    assert (refused.code, "give an id" in refused.err, len(rows(store, prospects))) == (2, True, 2)
    assert run("prospect", "erase", "Ines Okafor-Lind", "--tenant", "acme", "--yes", "--later").code == 0
    assert [each["tenant_id"] for each in rows(store, prospects)] == ["default"]


def test_an_e_mail_erases_whoever_has_it_for_every_tenant(run: Command, store: Store) -> None:
    a_prospect(store)
    a_prospect(store, tenant="acme")
    a_prospect(store, somebody())
    assert run("prospect", "erase", "--email", INES.email, "--yes", "--later").code == 0
    assert len(rows(store, prospects)) == 1
    assert sorted(each["tenant_id"] for each in rows(store, erasures)) == ["acme", "default"]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("id", "--email", "a@quell.example"),
        ("--email", "quell.example"),
        ("--linkedin", "in/ines"),
        ("nobody",),
        ("quell.example",),
    ],
)
def test_who_is_meant_has_to_be_said_in_one_way(run: Command, arguments: tuple[str, ...]) -> None:
    for command in ("erase", "report"):
        assert run("prospect", command, *arguments).code == 2


def test_retention_says_what_would_go_and_takes_it_away(
    run: Command, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_prospect(store)
    with store.writing.begin() as connection:
        long_ago = timestamp(store.clock.now() - timedelta(days=100))
        connection.execute(update(prospects).values(created_at=long_ago))
    monkeypatch.setenv("SLUICEWAY_KEEP_PEOPLE_DAYS", "99")
    assert run("retention", "run", "--dry-run").out == "would go: 1 people, 0 calls, 0 shared documents; sums stay\n"
    assert len(rows(store, prospects)) == 1
    assert run("retention", "run").out.startswith("gone: 1 people")
    assert rows(store, prospects) == []
