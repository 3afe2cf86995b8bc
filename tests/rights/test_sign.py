"""By what somebody is recognised, however it is written."""

from __future__ import annotations

import pytest

from sluiceway.errors import BadInput
from sluiceway.prospect import Person
from sluiceway.sign import Kind, Sign, all_signs, named, own_signs_of, read_sign, signs_of


@pytest.mark.parametrize(
    ("written", "sign"),
    [
        ("Ines@Harbourline.example", Sign(Kind.EMAIL, "ines@harbourline.example")),
        (" ines+news@harbourline.example ", Sign(Kind.EMAIL, "ines@harbourline.example")),
        ("+tag@harbourline.example", Sign(Kind.EMAIL, "+tag@harbourline.example")),
        ("https://www.linkedin.com/in/In%C3%A8s-Okafor/?trk=x", Sign(Kind.LINKEDIN, "in/inès-okafor")),
        ("uk.linkedin.com/in/ines-okafor", Sign(Kind.LINKEDIN, "in/ines-okafor")),
        (" Apollo:66F0a1b2 ", Sign(Kind.LINKEDIN, "apollo/66f0a1b2")),
        ("https://www.Harbourline.example/about", Sign(Kind.DOMAIN, "harbourline.example")),
        ("@harbourline.example", Sign(Kind.DOMAIN, "harbourline.example")),
        ("mail.harbourline.co.uk", Sign(Kind.DOMAIN, "mail.harbourline.co.uk")),
    ],
)
def test_a_sign_is_read_however_it_is_written(written: str, sign: Sign) -> None:
    assert read_sign(written) == sign


@pytest.mark.parametrize(
    "written",
    ["", "Ines", "Ines Okafor", "ines@", "localhost", "https://www.linkedin.com/company/quell", "a@b@c", "1.2.3.4"],
)
def test_what_is_no_sign_is_refused(written: str) -> None:
    with pytest.raises(BadInput):
        read_sign(written)


def test_a_name_is_a_sign_only_with_a_company_whatever_its_accents_and_legal_form() -> None:
    assert named("Inès OKAFOR-Lind", "Harbourline Robotics, Inc.") == named("ines okafor lind", "harbourline robotics")
    assert named("Ines Okafor", "harbourline.example") in signs_of(
        Person(full_name="Ines Okafor", domain="https://www.harbourline.example")
    )
    for name, company in (("Ines", ""), ("", "Quell"), ("...", "Quell")):
        with pytest.raises(BadInput):
            named(name, company)


def test_a_person_shows_every_domain_they_are_at_with_those_above_it() -> None:
    signs = signs_of(Person(email="ines@eu.mail.harbourline.example", domain="quell.example"))
    domains = {sign.value for sign in signs if sign.kind is Kind.DOMAIN}
    assert domains == {
        "eu.mail.harbourline.example",
        "mail.harbourline.example",
        "harbourline.example",
        "quell.example",
    }


def test_a_domain_is_not_a_persons_own_sign() -> None:
    signs = own_signs_of(Person(email="ines@harbourline.example", domain="harbourline.example"))
    assert signs == {Sign(Kind.EMAIL, "ines@harbourline.example")}


def test_what_sources_found_is_shown_too() -> None:
    fields = {
        "work_email:apollo": ["Ines@Quell.example", "2026-03-04T05:06:07.000Z", "a", 90],
        "linkedin_url:contactout": ["https://linkedin.com/in/ines", "2026-03-04T05:06:07.000Z", "a", 90],
        "title:apollo": ["CFO at ines@other.example", "2026-03-04T05:06:07.000Z", "a", 90],
        "insider_trades:edgar": [{"a": 1}, "2026-03-04T05:06:07.000Z", "a", 90],
    }
    assert all_signs(Person(full_name="Ines"), fields) == {
        Sign(Kind.EMAIL, "ines@quell.example"),
        Sign(Kind.DOMAIN, "quell.example"),
        Sign(Kind.LINKEDIN, "in/ines"),
    }


def test_whom_a_search_found_is_known_by_the_id_and_not_by_half_a_name() -> None:
    found = Person(first_name="Ines", company="Harbourline Robotics", apollo_id="66F0a1")
    assert own_signs_of(found) == {Sign(Kind.LINKEDIN, "apollo/66f0a1")}
    whole = Person(first_name="Ines", last_name="Okafor", company="Harbourline Robotics", apollo_id="66f0a1")
    assert named("Ines Okafor", "Harbourline Robotics") in own_signs_of(whole)
