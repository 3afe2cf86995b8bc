"""The suppression list: whom it recognises, for which tenants, and what can be read from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import AT, INES, a_prospect, rows, somebody
from sluiceway.errors import BadSetting
from sluiceway.rights.listed import Listed, Refused, read_list
from sluiceway.rights.suppression import EVERYWHERE, Count, Suppressions, counts, key_of, opened_list, people_version
from sluiceway.sign import Sign, named, read_sign, signs_of
from sluiceway.store.engine import Store
from sluiceway.store.schema import facts, suppressions


def suppressed(store: Store, *values: str, tenant: str = "default", key: str = "") -> Suppressions:
    """Put some values on a tenant's list; returns the list."""
    people = opened_list(store, key)
    with store.writing.begin() as connection:
        people.add(connection, tenant, map(read_sign, values), at=AT, by="Ines", reason="asked us to")
    with store.read() as connection:
        people.look(connection)
    return people


def knows(store: Store, people: Suppressions, signs: set[Sign], tenant: str = "default") -> bool:
    """Whether somebody who shows these signs is on the list."""
    with store.read() as connection:
        return bool(people.among(connection, {"them": (tenant, signs)}))


def test_somebody_is_recognised_by_any_of_their_signs_and_by_their_domain(store: Store) -> None:
    people = suppressed(store, "INES@harbourline.example", "linkedin.com/in/quell", "quell.example")
    assert knows(store, people, signs_of(INES))
    assert knows(store, people, {read_sign("https://uk.linkedin.com/in/Quell/")})
    assert knows(store, people, signs_of(somebody(3))), "they are at quell.example"
    assert not knows(store, people, {read_sign("ines@harbourline.example.other.example")})
    assert not knows(store, people, {named("Ines Okafor-Lind", "Harbourline")})


def test_a_tenants_list_is_its_own_and_the_platforms_holds_for_all(store: Store) -> None:
    people = suppressed(store, "ines@harbourline.example", tenant="acme")
    assert knows(store, people, signs_of(INES), "acme")
    assert not knows(store, people, signs_of(INES))
    people = suppressed(store, "quell.example", tenant=EVERYWHERE)
    assert knows(store, people, signs_of(somebody()), "acme")
    assert knows(store, people, signs_of(somebody()), "anybody")


def test_nothing_that_was_put_on_the_list_can_be_read_from_the_store(store: Store, store_url: str) -> None:
    suppressed(store, "ines@harbourline.example", "quell.example")
    store.close()
    folder = Path(store_url.removeprefix("sqlite:///")).parent
    held = b"".join(path.read_bytes() for path in folder.glob("ledger.db*") if path.is_file())
    assert b"harbourline" not in held
    assert b"quell" not in held


def test_the_same_value_twice_is_one_entry_and_every_change_is_told(store: Store) -> None:
    people = suppressed(store, "ines@harbourline.example")
    with store.writing.begin() as connection:
        before = people_version(connection)
        again = people.add(connection, "default", [read_sign("Ines@Harbourline.example")], at=AT, by="Ines")
        assert (again, people_version(connection)) == (0, before)
        assert people.remove(connection, "default", [read_sign("ines@harbourline.example")]) == 1
        assert people_version(connection) == before + 1
        assert people.remove(connection, "default", [read_sign("ines@harbourline.example")]) == 0
    assert rows(store, suppressions) == []


def test_what_is_on_the_list_is_counted_and_found_with_its_reason(store: Store) -> None:
    people = suppressed(store, "ines@harbourline.example", "tomas@quell.example")
    suppressed(store, "quell.example", tenant=EVERYWHERE)
    with store.read() as connection:
        assert counts(connection) == [Count("*", "domain", 1), Count("default", "email", 2)]
        (found,) = people.find(connection, read_sign("INES@harbourline.example"))
    assert (found.tenant_id, found.reason, found.added_by, found.created_at) == ("default", "asked us to", "Ines", AT)


def test_the_key_is_made_once_and_kept_in_the_store_unless_one_is_set(store: Store) -> None:
    assert key_of(store) == key_of(store)
    own = key_of(store)
    assert own.decode() in {fact["value"] for fact in rows(store, facts)}
    assert key_of(store, "a secret of ours") == b"a secret of ours"
    assert "a secret of ours" not in {fact["value"] for fact in rows(store, facts)}


def test_another_key_than_the_lists_is_refused_as_long_as_somebody_is_on_it(store: Store) -> None:
    suppressed(store, "ines@harbourline.example", key="a secret of ours")
    for key in ("", "another"):
        with pytest.raises(BadSetting, match="SLUICEWAY_SUPPRESSION_KEY"):
            opened_list(store, key)
    people = opened_list(store, "a secret of ours")
    assert knows(store, people, signs_of(INES))
    with store.writing.begin() as connection:
        people.remove(connection, "default", [read_sign("ines@harbourline.example")])
    opened_list(store, "another")


def test_whoever_was_suppressed_or_erased_since_they_were_looked_at_is_unwanted(store: Store) -> None:
    ines, tomas = a_prospect(store), a_prospect(store, somebody())
    people = opened_list(store)
    with store.read() as connection:
        looked = people.look(connection)
    suppressed(store, "ines@harbourline.example")
    with store.read() as connection:
        now = people_version(connection)
        asked = [(ines, looked), (tomas, looked), ("gone", looked), (None, None)]
        assert people.unwanted(connection, asked, now) == {ines, "gone"}
        assert people.unwanted(connection, [(ines, now), ("gone", None)], now) == set()


def listed(tmp_path: Path, content: str | bytes) -> list[Listed | Refused]:
    path = tmp_path / "list.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_list(path))


def test_a_plain_list_has_one_value_a_line_and_says_which_lines_are_none(tmp_path: Path) -> None:
    found = listed(tmp_path, "ines@harbourline.example\n\nnobody\n@quell.example\nlinkedin.com/in/ines\n")
    assert [type(line).__name__ for line in found] == ["Listed", "Refused", "Listed", "Listed"]
    assert [line.line for line in found] == [1, 3, 4, 5]


def test_the_first_line_of_a_plain_list_is_an_entry_too(tmp_path: Path) -> None:
    assert [line.line for line in listed(tmp_path, b"\xef\xbb\xbfquell.example\r\n")] == [1]


def test_a_csv_is_read_by_its_columns(tmp_path: Path) -> None:
    found = listed(
        tmp_path,
        "Id;E-Mail;First Name;Last Name;Company\n"
        "1;ines@harbourline.example;Inès;Okafor-Lind;Harbourline Robotics Inc\n"
        "2;;Tomas;Quell;Quell Holdings\n"
        "3;;Tomas;;\n"
        "4;what;;;\n",
    )
    assert found[:2] == [
        Listed(
            2, frozenset({read_sign("ines@harbourline.example"), named("Ines Okafor Lind", "Harbourline Robotics")})
        ),
        Listed(3, frozenset({named("Tomas Quell", "Quell Holdings")})),
    ]
    assert [(line.line, isinstance(line, Refused)) for line in found[2:]] == [(4, True), (5, True)]


def test_bytes_that_are_no_text_cost_only_their_line(tmp_path: Path) -> None:
    found = listed(tmp_path, b"ines@harbourline.example\n\xff\xfe\x00\ntomas@quell.example\n")
    assert [isinstance(line, Listed) for line in found] == [True, False, True]
