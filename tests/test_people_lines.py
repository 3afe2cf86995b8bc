"""Reading people as lines of JSON: what a program may send, and what a bad line costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluiceway.errors import BadInput
from sluiceway.people_lines import PeopleLines
from sluiceway.people_row import Reject, Row
from sluiceway.prospect import Person

Save = Callable[[bytes], Path]
INES = {"full_name": "Ines Okafor", "company": "Quell", "email": "ines@quell.example"}


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def saved(content: bytes) -> Path:
        path = tmp_path / "people.ndjson"
        path.write_bytes(content)
        return path

    return saved


def line(**said: Any) -> bytes:
    return json.dumps(said, ensure_ascii=False).encode() + b"\n"


def rows(path: Path) -> list[Row | Reject]:
    return list(PeopleLines.open(path).read())


def reason(path: Path) -> str:
    [reject] = [row for row in rows(path) if isinstance(row, Reject)]
    return reject.reason


def test_a_line_is_a_person(save: Save) -> None:
    [row] = rows(save(line(**INES, external_id=7, tenant="acme", title=None)))
    assert row == Row(1, 0, Person(**INES), "acme", "7", [])


def test_cells_are_cleaned_as_those_of_a_csv_are(save: Save) -> None:
    [row] = rows(save(line(full_name=" Ines\u200b\u0000  Okafor ", company="n/a", email="mailto:i@quell.example")))
    assert isinstance(row, Row)
    assert row.person == Person(full_name="Ines Okafor", email="i@quell.example")


def test_a_bad_line_is_a_reject_with_its_line_and_costs_no_other(save: Save) -> None:
    bad = (
        b"{not json",
        b"[1, 2]",
        b'"text"',
        line(email=["a@b.example"]).strip(),
        b'{"email": "\xff"}',
        line(title="x"),
    )
    read = rows(save(b"\n".join([line(**INES), *bad, line(**INES)])))
    assert [type(row) for row in read] == [Row, *[Reject] * len(bad), Row]
    assert [row.number for row in read] == list(range(len(read)))
    assert [row.line for row in read] == [1, 3, 4, 5, 6, 7, 8, 10]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"email": {"address": "secret@quell.example"}}', "has something other than text in email"),
        (b'{"external_id": 99999999999999999999999999}', "has something other than text in external_id"),
        (b'["secret@quell.example"]', "is no JSON object"),
        (b'{"email": "secret@quell.example"', "is not JSON"),
        (b"[" * 100_000, "is no JSON object"),
        (b'{"email":' * 100_000, "has something other than text in email"),
        (b'{"email": "' + b"x" * 1_100_000 + b'"}', "is too long to be a row"),
        (b'{"company": "' + b"x" * 1_100 + b'"}', "has 1,100 characters in company; at most 1,000 make sense"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_reason_says_where_and_never_what(save: Save, text: bytes, said: str) -> None:
    assert reason(save(line(**INES) + text + b"\n")) == said


def test_the_fields_found_are_told_and_unknown_ones_noted(save: Save) -> None:
    people = PeopleLines.open(save(line(**INES, favourite="tea")))
    assert people.names == ("full_name", "company", "email")
    assert people.notes == ('These fields are not used: "favourite".',)


@pytest.mark.parametrize("content", [b"", b"\n \r\n", b"[\n" + line(x=1)[:-2], b"PK\x03\x04\x00\xff", b"Name,Email\n"])
def test_what_is_no_list_of_people_is_refused(save: Save, content: bytes) -> None:
    with pytest.raises(BadInput, match=r"is empty|is no JSON object"):
        PeopleLines.open(save(content))


@given(content=st.binary(max_size=300))
def test_whatever_the_bytes_reading_them_is_rows_or_a_refusal(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.mktemp("lines") / "people.ndjson"
    path.write_bytes(line(**INES) + content)
    assert all(isinstance(row, Row | Reject) for row in rows(path))
