"""Nobody is recognised by an error, however a provider spells the person it was asked about."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from html import escape
from urllib.parse import quote, quote_plus

import pytest
from anyascii import anyascii
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sluiceway.discreet import discreet
from sluiceway.errors import LONGEST_ERROR, LostAnswer, Redactor, describe
from sluiceway.prospect import Person

INES = Person(
    first_name="Inès",
    last_name="Okafor-Lind",
    company="Harbourline Robotics",
    domain="harbourline.example",
    email="ines.okafor@harbourline.example",
    linkedin_url="https://www.linkedin.com/in/iol-4a2b7c",
    title="CFO",
)


def said(text: str, person: Person = INES, *secrets: str) -> str:
    return describe(text, discreet(Redactor(secrets), person))


def every_byte(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in capitals": str.upper,
    "in small letters": str.lower,
    "with accents apart": lambda text: unicodedata.normalize("NFD", text),
    "percent-encoded": quote,
    "percent-encoded, all of it": lambda text: quote(text, safe=""),
    "percent-encoded in lower case": lambda text: re.sub("%..", lambda found: found[0].lower(), quote(text, safe="")),
    "percent-encoded, every byte": every_byte,
    "as a form": quote_plus,
    "as JSON": lambda text: json.dumps(text)[1:-1],
    "as JSON in JSON": lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1],
    "as HTML": lambda text: escape(text).encode("ascii", "xmlcharrefreplace").decode(),
    "with underscores": lambda text: re.sub(r"[\s.-]", "_", text),
}
# Those that lose something, so nothing may be laid over them that would need what they lost.
LOSSY: dict[str, Callable[[str], str]] = {
    "without accents": anyascii,
    "in one word": lambda text: re.sub(r"[\s'.-]", "", text),
    "in Latin-1, percent-encoded": lambda text: quote(text, safe="", encoding="latin-1", errors="replace"),
    "in Latin-1, read as UTF-8": lambda text: text.encode("latin-1", "replace").decode("utf-8", "replace"),
}

WORD = st.text("abcdefghijklmnopqrstuvwxyzåäöüøéèñçßž", min_size=2, max_size=8).map(
    lambda text: f"Z{text}"
)  # no common word has it
NAME = st.builds(lambda words, joint: joint.join(words), st.lists(WORD, min_size=1, max_size=2), st.sampled_from(" -'"))
SLUG = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=6, max_size=20).filter(lambda s: s.strip("-") == s)
LOCAL = st.text("abcdefghijklmnopqrstuvwxyz0123456789.+_-", min_size=5, max_size=20)
PEOPLE = st.builds(
    lambda first, last, local, slug, split: Person(
        first_name=first if split else "",
        last_name=last if split else "",
        full_name="" if split else f"{first} {last}",
        company="Harbourline Robotics",
        email=f"x{local}y@harbourline.example",
        linkedin_url=f"https://www.linkedin.com/in/x{slug}y/",
    ),
    NAME, NAME, LOCAL, SLUG, st.booleans(),
)  # fmt: skip
AROUND = st.sampled_from(
    [
        "",
        "no profile of ",
        "HTTP 422: ",
        '{"error":"',
        "?name=",
        "&q=",
        "https://api.example/match?name=",
        "<b>",
        "(",
        "/",
    ]
)
AFTER = st.sampled_from(["", " was found", '","code":7}', "&page=2", "</b>", ")", "\n", ", sorry"])


def letters_of(text: str) -> str:
    """The letters and digits of a text, for a comparison that shares nothing with what it judges."""
    return re.sub("[^a-z0-9]", "", anyascii(unicodedata.normalize("NFC", text)).lower())


def tells(line: str, value: str) -> bool:
    """Whether a line still has a value, as a word or as part of one."""
    return letters_of(value) in letters_of(line)


def values_of(person: Person) -> dict[str, str]:
    name = person.name
    slug = person.linkedin_url.split("/in/")[1].strip("/")
    words = {f"word {word}": word for word in re.split("[ '-]", name)}
    return {"name": name, "email": person.email, "slug": slug, "profile": person.linkedin_url, **words}


@given(PEOPLE, st.data(), AROUND, AFTER)
def test_no_value_of_a_person_survives_in_any_spelling(
    person: Person, data: st.DataObject, before: str, after: str
) -> None:
    which = data.draw(st.sampled_from(sorted(values_of(person))))
    value = values_of(person)[which]
    frame = said(before + "|" + after, person) + "[person][profile][e-mail][phone]"
    assume(not tells(frame, value))
    spelled, how = value, data.draw(st.lists(st.sampled_from(sorted(SPELLINGS)), min_size=1, max_size=3))
    if data.draw(st.booleans()) and not which.startswith("word"):
        spelled = LOSSY[data.draw(st.sampled_from(sorted(LOSSY)))](spelled)
    for spelling in how:
        spelled = SPELLINGS[spelling](spelled)
    line = said(before + spelled + after, person)
    assert not tells(line, value), line


FORMATS = (
    "+{c}{n} | +{c} {a} {b} {d} | +{c}-{a}-{b}-{d} | +{c} ({a}) {b}-{d} | ({a}) {b}-{d} | {a}-{b}-{d} | {a}.{b}.{d}"
    " | {a} {b} {d} | 0{a} {b} {d} | 00{c}{n} | +{c} (0){a} {b}{d} | {n} | tel:+{c}{n} | {c} {a} {b} {d} | 0{a}/{b}{d}"
    " | +{c}\u00a0{a}\u2011{b}\u2011{d}"
).split(" | ")
PHONES = st.builds(
    lambda country, number, how: how.format(c=country, n=number, a=number[:3], b=number[3:6], d=number[6:]),
    st.sampled_from(["1", "31", "44", "49", "353"]),
    st.text("123456789", min_size=10, max_size=10),
    st.sampled_from(FORMATS),
)


@given(PHONES, st.lists(st.sampled_from(sorted(set(SPELLINGS) - {"with underscores"})), max_size=2), AROUND, AFTER)
def test_no_phone_number_survives_in_any_format(phone: str, how: list[str], before: str, after: str) -> None:
    spelled = phone
    for spelling in how:
        spelled = SPELLINGS[spelling](spelled)
    line = said(before + spelled + after)
    assert re.sub(r"\D", "", phone)[-7:] not in re.sub(r"\D", "", line), line


@given(PEOPLE, st.integers(0, 60), st.sampled_from([LONGEST_ERROR, 4_000, 9_000]))
@example(INES, 3, 4_000)
def test_no_half_of_a_name_survives_a_cut(person: Person, back: int, cut: int) -> None:
    text = "x" * (cut - back) + f" {person.name} " + "y" * 50
    assert not tells(said(text, person), person.name)


@given(st.text(max_size=2 * LONGEST_ERROR), PEOPLE)
def test_whatever_is_said_becomes_one_line(text: str, person: Person) -> None:
    line = said(text, person)
    assert line.strip()
    assert len(line) <= LONGEST_ERROR
    assert len(line.splitlines()) == 1


SECRET = "Zq9Jv+a/b%2Bc vJ7xK"


@given(
    st.lists(
        st.sampled_from(sorted(set(SPELLINGS) - {"in capitals", "in small letters", "with underscores"})), max_size=3
    )
)
def test_a_secret_that_holds_a_name_is_hidden_whole(how: list[str]) -> None:
    secret = spelled = f"{SECRET}-ines-okafor"
    for spelling in how:
        spelled = SPELLINGS[spelling](spelled)
    line = said(f"bad key {spelled}!", INES, secret).lower()
    assert "zq9jv" not in line
    assert "vj7xk" not in line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no profile of Inès Okafor-Lind at Harbourline Robotics", "no profile of [person] at Harbourline Robotics"),
        ("not found: okafor lind, INES (CFO)", "not found: [person] (CFO)"),
        ("who is Ines? who is Mrs. Lind?", "who is [person]? who is Mrs. [person]?"),
        ('{"first_name": "In\\u00e8s", "last_name": "Okafor"}', '{"first_name": "[person]", "last_name": "[person]"}'),
        ("user_inesokaforlind is unknown", "user_[person] is unknown"),
        ("name=In%C3%A8s+Okafor-Lind&page=2", "name=[person]&page=2"),
        ("in%e8s+okafor%2dlind", "[person]"),
        ("see linkedin.com%2Fin%2Fsomebody-else", "see [profile]"),
        ("iol-4a2b7c has no profile", "[person] has no profile"),
        ("ines.okafor%40harbourline%2Eexample", "[e-mail]"),
        ("his number is (415) 555-0134 or %2B44%20(0)20%207946%200958", "his number is [phone] or [phone]"),
    ],
)
def test_what_tells_who_it_is_gives_way_to_a_word(text: str, shown: str) -> None:
    assert said(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "cannot connect: Connect call failed ('127.0.0.1', 43210) [Errno 111]",
        "HTTP 429: the maximum is 600 times per hour, until 2026-11-24T10:15:30+00:00 or 2026-11-24 10:15:30.123",
        "HTTP 200: the answer is over 8,388,608 bytes; refused",
        "request req_011CSHoEeqs5C35K2UUqR7Fy or 123e4567-e89b-12d3-a456-426614174000 failed after 12.345678901 s",
        "the line of finesse in Lindau: infinite okaforism",
        "Harbourline Robotics is 100% unknown at harbourline.example",
    ],
)
def test_what_tells_nothing_of_a_person_stays(text: str) -> None:
    assert said(text) == text


@pytest.mark.parametrize(
    ("first", "last", "shown"),
    [
        ("Alice", "Key", "invalid api key for [person]; no credits for Key"),
        ("Bo", "Li", "invalid api key for [person]; no credits for Li"),
        ("Key", "Limit", "invalid api key for [person]; no credits for Limit"),
        ("Will", "O'Brien", "invalid api key for [person]; no credits for [person]"),
        ("", "", "invalid api key for; no credits for"),
        ("…", "—", "invalid api key for … —; no credits for —"),
    ],
)
def test_a_name_of_an_errors_own_words_is_hidden_only_as_a_whole(first: str, last: str, shown: str) -> None:
    person = Person(first_name=first, last_name=last, company="Harbourline Robotics")
    line = said(f"invalid api key for {first} {last}; no credits for {last}", person)
    assert re.sub(r"\s+(?=;|$)", "", line) == shown


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Jürgen Müller", "kein Profil: Juergen Mueller"),
        ("王小明", "没有找到王小明的资料"),
        ("Ольга Иванова", "нет: Olga Ivanova / Ольга Иванова"),
        ("Łukasz Żółć", "nie ma: Lukasz Zolc"),
        ("नरेन्द्र शर्मा", "नरेन्द्र शर्मा नहीं"),
    ],
)
def test_names_of_any_script_are_found(name: str, text: str) -> None:
    line = said(text, Person(full_name=name, company="Harbourline Robotics"))
    assert "[person]" in line
    assert not tells(line, name)


def test_an_exception_is_described_as_discreetly() -> None:
    error = LostAnswer("GET https://api.example/match?name=Ines broke off at Ines")
    assert describe(error, discreet(Redactor(), INES)) == "GET https://api.example/match broke off at [person]"


def test_an_id_at_apollo_is_hidden_as_a_name_is() -> None:
    found = Person(first_name="Zoe", apollo_id="66f0a1b2c3d4e5f60718293a")
    assert said("no person 66F0A1B2C3D4E5F60718293A in this account", found) == "no person [person] in this account"
