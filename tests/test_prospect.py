"""Who a prospect is, whether an answer is about that person, and which of several values is shown."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import msgspec
import pytest
from cleanco import basename, prepare_default_terms
from hypothesis import example, given
from hypothesis import strategies as st

from sluiceway.errors import BadInput
from sluiceway.prospect import (
    Field,
    Found,
    Match,
    Person,
    _without_legal_suffix,
    best,
    fold,
    held_key,
    hold,
    identity_key,
    match,
    merged,
    normal_company,
    normal_domain,
    normal_email,
    normal_linkedin,
    same_employer,
    same_given_name,
    same_name,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()))
PEOPLE = st.builds(Person, **dict.fromkeys(Person.__struct_fields__, ANY_TEXT))


@pytest.mark.parametrize(
    ("person", "key"),
    [
        (
            Person(full_name="Ines Lind", company="Quell", email="i@q.example", linkedin_url="linkedin.com/in/Ines"),
            "linkedin:in/ines",
        ),
        (Person(full_name="Ines Lind", company="Quell", email=" I@Q.example "), "email:i@q.example"),
        (Person(email="i@q.example", linkedin_url="https://linkedin.com/company/quell"), "email:i@q.example"),
        (Person(full_name="Inès  LIND", company="Quell Holdings, Inc."), "name:ines lind|quell holdings"),
        (Person(first_name="Ines", last_name="Lind", domain="www.quell.example/about"), "name:ines lind|quell.example"),
        (Person(full_name="Ines Lind", company="Quell", email="not an address"), "name:ines lind|quell"),
        (Person(first_name="Ines", company="Quell", apollo_id=" 66F0a1 "), "apollo:66f0a1"),
        (Person(full_name="Ines Lind", company="Quell", apollo_id="66f0a1"), "apollo:66f0a1"),
        (Person(email="i@q.example", apollo_id="66f0a1"), "email:i@q.example"),
        (Person(full_name="Ines Lind", company="Quell", apollo_id="no id"), "name:ines lind|quell"),
    ],
)
def test_a_prospect_is_known_by_linkedin_then_email_then_apollo_then_name_and_company(person: Person, key: str) -> None:
    assert identity_key(person) == key


@pytest.mark.parametrize(
    "person",
    [
        Person(),
        Person(full_name="Ines Lind"),
        Person(company="Quell", domain="quell.example"),
        Person(full_name="...", company="Quell"),
        Person(email="ines", linkedin_url="linkedin.com/in/"),
    ],
)
def test_somebody_who_cannot_be_told_from_others_is_refused(person: Person) -> None:
    with pytest.raises(BadInput, match="needs a LinkedIn URL, an e-mail, or a name together with a company"):
        identity_key(person)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            Person(full_name="Żofia Łęcka-Çelik", company="Søndergård A/S"),
            Person(full_name="zofia lecka celik", company="Sondergard"),
        ),
        (
            Person(full_name="INÉS LIND", company="Quell GmbH"),
            Person(first_name="Inès", last_name="Lind", company="quell"),
        ),
        (
            Person(linkedin_url="https://www.linkedin.com/in/Ines-Lind/?trk=x"),
            Person(linkedin_url="nl.linkedin.com/in/ines-lind"),
        ),
        (Person(linkedin_url="https://linkedin.com/in/in%C3%A8s"), Person(linkedin_url="linkedin.com/in/inès")),
    ],
)
def test_accents_case_and_decoration_do_not_make_another_prospect(one: Person, other: Person) -> None:
    assert identity_key(one) == identity_key(other)


def test_the_same_id_at_apollo_is_exactly_the_same_person() -> None:
    asked = Person(first_name="Ines", company="Quell", apollo_id="66f0a1")
    assert match(asked, Person(full_name="Zoe Quell", apollo_id="66F0A1")) is Match.EXACT
    assert match(asked, Person(full_name="Ines Lind", company="Quell", apollo_id="66f0a2")) is Match.WEAK
    assert match(Person(full_name="Ines Lind"), Person(full_name="Zoe Quell")) is Match.WEAK


def test_a_person_without_an_id_at_apollo_is_stored_as_ever() -> None:
    assert msgspec.json.encode(Person(email="i@q.example")) == b'{"email":"i@q.example"}'


@given(PEOPLE)
def test_any_person_has_a_key_or_is_refused_as_bad_input(person: Person) -> None:
    with suppress(BadInput):
        assert ":" in identity_key(person)


INES = Person(
    full_name="Ines Okafor-Lind",
    company="Harbourline Robotics",
    domain="harbourline.example",
    email="ines@harbourline.example",
    linkedin_url="linkedin.com/in/ines",
)
NAMED = Person(full_name="Ines Okafor-Lind", company="Harbourline Robotics", domain="harbourline.example")


@pytest.mark.parametrize(
    ("asked", "said", "is_"),
    [
        (INES, Person(linkedin_url="https://www.linkedin.com/in/INES/"), Match.EXACT),
        (INES, Person(email="Ines@Harbourline.example"), Match.EXACT),
        (INES, Person(full_name="Somebody Else", email="ines@harbourline.example"), Match.EXACT),
        (NAMED, Person(full_name="Inés Okafor Lind", company="Harbourline Robotics B.V."), Match.AGREES),
        (NAMED, Person(full_name="Ines Lind", domain="www.harbourline.example"), Match.AGREES),
        (NAMED, Person(full_name="I. M. Okafor-Lind", company="harbourline robotics"), Match.AGREES),
        (Person(full_name="Bob Quell", company="X"), Person(full_name="Robert Quell", company="X"), Match.AGREES),
        (NAMED, Person(full_name="Ines Okafor-Lind"), Match.WEAK),
        (NAMED, Person(full_name="Ines Okafor-Lind", company="Quell"), Match.WEAK),
        (NAMED, Person(full_name="Zoe Okafor-Lind", company="Harbourline Robotics"), Match.WEAK),
        (NAMED, Person(company="Harbourline Robotics", domain="harbourline.example"), Match.WEAK),
        (NAMED, Person(full_name="Lind", company="Harbourline Robotics"), Match.WEAK),
        (INES, Person(email="zoe@harbourline.example"), Match.WEAK),
        (Person(), Person(), Match.WEAK),
        (Person(email="no"), Person(email="no"), Match.WEAK),
        (INES, Person(), Match.WEAK),
    ],
)
def test_an_answer_is_about_the_person_asked_only_when_it_is_sure(asked: Person, said: Person, is_: Match) -> None:
    assert match(asked, said) is is_


@given(PEOPLE, PEOPLE)
def test_comparing_any_two_people_never_raises(one: Person, other: Person) -> None:
    assert match(one, other) in Match
    assert same_employer(one, other) == same_employer(other, one)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Ines Okafor-Lind", "Inès Lind", True),
        ("Dr. Ines Lind PhD", "ines lind", True),
        ("Ines M. Lind", "Ines Lind", True),
        ("I. Lind", "Ines Lind", True),
        ("Kate Lind", "Katherine Lind", True),
        ("Madonna", "madonna", True),
        ("Madonna", "Madonna Ciccone", False),
        ("Ines Lind", "Lind Ines", False),
        ("Ines Lind", "Ines Quell", False),
        ("", "", False),
        ("Dr.", "Dr.", False),
    ],
)
def test_two_spellings_can_be_one_persons_name(one: str, other: str, same: bool) -> None:
    assert same_name(one, other) is same
    assert same_name(other, one) is same


@given(ANY_TEXT, ANY_TEXT)
def test_whether_names_agree_does_not_depend_on_who_was_asked(one: str, other: str) -> None:
    assert same_name(one, other) == same_name(other, one)
    assert same_given_name(one, other) == same_given_name(other, one)


NAME_WORDS = st.sampled_from(["Quell", "Bär", "spółka", "Łódź", "A/S", "&", "-", "(x)", "zoo", "ß"])
LEGAL_WORDS = st.sampled_from([" ".join(words) for _, words in prepare_default_terms()])
COMPANIES = st.tuples(
    st.lists(NAME_WORDS | LEGAL_WORDS | LEGAL_WORDS.map(str.title), max_size=6),
    st.sampled_from([" ", ", ", ".", "-"]),
    st.sampled_from(["", ".", ")", ",", " -", "/"]),
).map(lambda parts: parts[1].join(parts[0]) + parts[2])


@given(COMPANIES | ANY_TEXT)
@example("Quell S.A. de C.V.")
def test_a_companys_legal_form_is_what_cleanco_says_it_is(name: str) -> None:
    name = " ".join(name.split())[:200]
    assert _without_legal_suffix(name) == basename(name)


@pytest.mark.parametrize("normal", [fold, normal_company, normal_domain, normal_email, normal_linkedin])
@given(text=ANY_TEXT)
@example(text="https://linkedin.com/in/%ff%fe%")
@example(text="Inc.")
@example(text="//@:")
def test_normalising_never_raises_and_what_is_normal_stays(normal: Callable[[str], str], text: str) -> None:
    once = normal(text)
    if normal in (fold, normal_email):
        assert normal(once) == once


@pytest.mark.parametrize(
    ("normal", "text", "plain"),
    [
        (fold, "Inès Okafor-Lind", "ines okafor lind"),
        (fold, "  Straße & Söhne  ", "strasse sohne"),
        (normal_company, "Quell Holdings, Inc.", "quell holdings"),
        (normal_company, "Müller GmbH & Co. KG", "muller"),
        (normal_company, "Inc.", "inc"),
        (normal_domain, "https://www.quell.example/x?y", "quell.example"),
        (normal_domain, "user:pw@WWW.Quell.example:8080", "quell.example"),
        (normal_domain, "quell.example.", "quell.example"),
        (normal_email, " A@B.example ", "a@b.example"),
        (normal_email, "a b@c.example", ""),
        (normal_email, "@c.example", ""),
        (normal_email, "a@localhost", ""),
        (normal_linkedin, "https://www.linkedin.com/in/Ines/?trk=1", "in/ines"),
        (normal_linkedin, "linkedin.com/pub/ines/1/2/3", "pub/ines"),
        (normal_linkedin, "https://linkedin.com/company/quell", ""),
        (normal_linkedin, "https://notlinkedin.com/in/ines", ""),
        (normal_linkedin, "ines", ""),
    ],
)
def test_a_fact_is_reduced_to_what_identifies(normal: Callable[[str], str], text: str, plain: str) -> None:
    assert normal(text) == plain


HELD = st.tuples(st.integers() | st.text(), st.text("0123", min_size=1, max_size=2), st.none(), st.integers(0, 3)).map(
    list
)
KEYS = st.tuples(st.sampled_from([Field.TITLE, Field.COMPANY]), st.sampled_from(["apollo", "contactout", "exa"]))


@given(st.dictionaries(KEYS.map(lambda key: held_key(*key)), HELD), st.randoms())
def test_the_value_shown_does_not_depend_on_who_answered_first(fields: dict[str, list[object]], luck: object) -> None:
    keys = list(fields)
    luck.shuffle(keys)  # type: ignore[attr-defined]
    shown = best(fields)
    assert best({key: fields[key] for key in keys}) == shown
    assert shown.keys() == {key.partition(":")[0] for key in fields}
    for field, held in shown.items():
        rivals = [stored for key, stored in fields.items() if key.startswith(f"{field}:")]
        assert (held.confidence, held.at) == max((stored[3], stored[1]) for stored in rivals)


def test_the_surest_value_is_shown_and_among_equals_the_newest() -> None:
    old, new = "2026-01-01T00:00:00.000Z", "2026-02-01T00:00:00.000Z"
    shown = best({
        held_key(Field.TITLE, "apollo"): hold(Found(Field.TITLE, "CFO", 70), old, "a1"),
        held_key(Field.TITLE, "contactout"): hold(Found(Field.TITLE, "Controller", 65), new, "a2"),
        held_key(Field.COMPANY, "apollo"): hold(Found(Field.COMPANY, "Quell", 70), old, "a1"),
        held_key(Field.COMPANY, "contactout"): hold(Found(Field.COMPANY, "Quell Holdings", 70), new, "a2"),
    })  # fmt: skip
    assert (shown["title"].value, shown["title"].source, shown["title"].attempt_id) == ("CFO", "apollo", "a1")
    assert shown["company"].value == "Quell Holdings"


def test_several_rows_about_one_person_are_combined_without_replacing_anything() -> None:
    whole = merged([Person(email="a@b.example", title="CFO"), Person(title="CEO", company="Quell")])
    assert whole == Person(email="a@b.example", title="CFO", company="Quell")
