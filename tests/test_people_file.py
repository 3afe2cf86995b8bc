"""Reading lists of people: what real exports look like, what damage costs, and that nothing is lost or altered."""

from __future__ import annotations

import csv
import io
import os
import tracemalloc
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluiceway.errors import BadInput
from sluiceway.people_file import TARGETS, PeopleFile, digest
from sluiceway.people_row import Reject, Row
from sluiceway.prospect import Person

A_HEADER = "First Name,Last Name,Company,Email,LinkedIn URL\n"
A_ROW = "Ines,Okafor-Lind,Quell Holdings,ines@quell.example,https://linkedin.com/in/ines\n"

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def saved(content: str | bytes, *, name: str = "people.csv", encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return saved


def rows(path: Path, mapping: Mapping[str, str] | None = None) -> list[Row | Reject]:
    return list(PeopleFile.open(path, mapping=mapping).read())


def people(path: Path, mapping: Mapping[str, str] | None = None) -> list[Person]:
    read = rows(path, mapping)
    assert all(isinstance(row, Row) for row in read), read
    return [row.person for row in read if isinstance(row, Row)]


def the_person(path: Path, mapping: Mapping[str, str] | None = None) -> Person:
    [person] = people(path, mapping)
    return person


def the_reject(path: Path) -> Reject:
    [reject] = [row for row in rows(path) if isinstance(row, Reject)]
    return reject


def refusal(path: Path, mapping: Mapping[str, str] | None = None) -> str:
    with pytest.raises(BadInput) as refused:
        PeopleFile.open(path, mapping=mapping)
    return str(refused.value)


def written(table: Iterable[Iterable[str]], delimiter: str, ending: str = "\r\n") -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerows(table)
    return text.getvalue() if ending == "\r\n" else text.getvalue().replace("\r\n", ending)


# Rows


def test_a_row_says_who_it_is_and_where_it_stands(save: Save) -> None:
    [row] = rows(save(A_HEADER + A_ROW))
    assert row == Row(
        line=2,
        number=0,
        person=Person(
            first_name="Ines",
            last_name="Okafor-Lind",
            company="Quell Holdings",
            email="ines@quell.example",
            linkedin_url="https://linkedin.com/in/ines",
        ),
        tenant="",
        external_id="",
        cells=["Ines", "Okafor-Lind", "Quell Holdings", "ines@quell.example", "https://linkedin.com/in/ines"],
    )


def test_lines_are_counted_as_an_editor_counts_and_rows_from_zero(save: Save) -> None:
    path = save('Email,Note\n\na@x.example,"two\nlines"\n\n  \n,\nb@x.example,\nnobody,\nc@x.example\n')
    assert [(row.line, row.number, type(row)) for row in rows(path)] == [
        (3, 0, Row),
        (8, 1, Row),
        (9, 2, Reject),
        (10, 3, Row),
    ]


def test_a_file_can_be_read_again_and_says_the_same(save: Save) -> None:
    file = PeopleFile.open(save(A_HEADER + A_ROW * 3))
    assert list(file.read()) == list(file.read())


def test_tenant_and_external_id_are_read(save: Save) -> None:
    [row] = rows(save("Tenant,External ID,Email\n north , 0042 ,a@x.example\n"))
    assert isinstance(row, Row)
    assert (row.tenant, row.external_id) == ("north", "0042")


def test_short_rows_are_fine_and_empty_extra_cells_too(save: Save) -> None:
    read = rows(save("Email,Company,Title\na@x.example\nb@x.example,Quell,CFO,,\n"))
    assert [row.cells for row in read] == [["a@x.example"], ["b@x.example", "Quell", "CFO", "", ""]]
    assert all(isinstance(row, Row) for row in read)


def test_a_row_wider_than_its_header_is_a_reject(save: Save) -> None:
    reject = the_reject(save("Email,Company\na@x.example,Quell, Inc\nb@x.example,Quell\n"))
    assert (reject.line, reject.cells) == (2, ["a@x.example", "Quell", " Inc"])
    assert "3 cells where there are 2 columns" in reject.reason


# Encodings, line ends, delimiters


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_is_read_with_and_without_its_mark(save: Save, encoding: str) -> None:
    path = save("Prénom;Nom;Société\nInès;Ōkafor;Quéll 東京\n", encoding=encoding)
    file = PeopleFile.open(path)
    assert the_person(path) == Person(first_name="Inès", last_name="Ōkafor", company="Quéll 東京")
    assert file.notes == ()
    assert file.bom == (encoding != "utf-8")


def test_what_is_not_utf8_is_read_as_windows_1252_with_a_note(save: Save) -> None:
    path = save("Vorname;Nachname;Firma\nJörg;Müller;Groß & Söhne – Köln\n", encoding="cp1252")
    assert the_person(path) == Person(first_name="Jörg", last_name="Müller", company="Groß & Söhne – Köln")
    assert PeopleFile.open(path).notes == ("Line 2 is not UTF-8, so the file is read as Windows-1252.",)


def test_a_stray_byte_far_into_the_file_is_found_before_the_first_row_is_used(save: Save) -> None:
    path = save(A_HEADER.encode() + A_ROW.encode() * 30_000 + b"In\xe8s,O,Quell,,\n\x81,\x8d,Quell,,\n")
    file = PeopleFile.open(path)
    assert "Line 30003 is neither UTF-8 nor Windows-1252" in file.notes[0]
    assert len(list(file.read())) == 30_002


def test_a_character_cut_in_two_by_a_piece_boundary_is_no_stray_byte(save: Save) -> None:
    path = save(A_HEADER + A_ROW.replace("Ines", "é" * 500) * 2_000)
    assert PeopleFile.open(path).notes == ()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_that_breaks_its_own_mark_is_refused_with_the_line(save: Save, encoding: str) -> None:
    path = save((A_HEADER + A_ROW).encode(encoding) + b"\xff")
    assert "line 3 is not" in refusal(path)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_every_delimiter_and_line_end_is_told_from_the_file(save: Save, delimiter: str, ending: str) -> None:
    table = [("Name", "Company", "Note"), ("Okafor, Ines", "Quell; Sons | Co", "a, b, c"), ("Sam Lee", "Brill", "")]
    file = PeopleFile.open(save(written(table, delimiter, ending)))
    assert (file.delimiter, file.newline) == (delimiter, ending)
    assert [tuple(row.cells) for row in file.read()] == table[1:]


def test_line_ends_inside_cells_are_not_those_of_the_file(save: Save) -> None:
    path = save('Email,"Note\nto self"\r\na@x.example,"one\ntwo\nthree"\r\n')
    assert PeopleFile.open(path).newline == "\r\n"


def test_a_file_of_one_column_needs_no_delimiter(save: Save) -> None:
    assert [person.email for person in people(save("Email\na@x.example\nb@x.example\n"))] == [
        "a@x.example",
        "b@x.example",
    ]


def test_commas_in_a_file_of_one_column_are_no_delimiters(save: Save) -> None:
    path = save("Email\nIna <a@x.example>, ina2@x.example\nb@x.example\n")
    assert [person.email for person in people(path)] == ["a@x.example", "b@x.example"]


def test_excels_own_line_tells_the_delimiter(save: Save) -> None:
    path = save("sep=;\r\nEmail;Company\r\na@x.example;Quell\r\n")
    file = PeopleFile.open(path)
    assert (file.delimiter, file.headers, file.newline) == (";", ("Email", "Company"), "\r\n")
    assert [row.line for row in file.read()] == [3]


def test_lines_of_prose_above_the_column_names_are_left_out(save: Save) -> None:
    path = save(
        'Notes:\n"When exporting, some addresses may be missing, see ""help""."\n\n'
        "First Name,Last Name,URL,Email Address,Company,Position\n"
        "Ines,Okafor,https://www.linkedin.com/in/ines,,Quell,CFO\n"
    )
    assert the_person(path).linkedin_url == "https://www.linkedin.com/in/ines"
    assert PeopleFile.open(path).notes == ("The column names are on line 4; what stands above is left out.",)


# Columns


@pytest.mark.parametrize(
    ("header", "targets"),
    [
        (  # HubSpot
            "Record ID,First Name,Last Name,Email,Company Name,Job Title,LinkedIn URL,Website URL",
            "external_id first_name last_name email company title linkedin_url domain",
        ),
        ("Lead First Name,Lead Last Name,Account Name,Title,Email", "first_name last_name company title email"),
        ("Contact: Full Name,Account: Account Name,Contact: Email", "full_name company email"),
        (  # Pipedrive
            "Person - Name,Person - Organization,Person - Email - Work,Person - Job title",
            "full_name company email title",
        ),
        (  # Apollo
            "First Name,Last Name,Title,Company Name,Company Name for Emails,Email,Person Linkedin Url,Website",
            "first_name last_name title company - email linkedin_url domain",
        ),
        (
            "Email Status,Company Linkedin Url,Name,Company,Contact Owner,Apollo Contact Id",
            "- - full_name company - external_id",
        ),
        (  # Sales Navigator, as its exporters write it
            "profileUrl,fullName,firstName,lastName,companyName,title",
            "linkedin_url full_name first_name last_name company title",
        ),
        ("First Name,Last Name,Company,Work Email,LinkedIn Url", "first_name last_name company email linkedin_url"),
        ("Record Id,Contact Name,Account Name,E-mail,Designation", "external_id full_name company email title"),
        ("Given Name,Family Name,E-mail 1 - Value,Organization 1 - Name", "first_name last_name email company"),
        ("Vorname;Nachname;Firma;E-Mail-Adresse;Position", "first_name last_name company email title"),
        ("Ansprechpartner;Unternehmen;Webseite;Geschäftliche E-Mail;Funktion", "full_name company domain email title"),
        ("Prénom;Nom de famille;Société;Courriel;Poste", "first_name last_name company email title"),
        ("Nom complet;Entreprise;Site web;Profil LinkedIn", "full_name company domain linkedin_url"),
        ("FIRSTNAME\tlast_name\tEmployer\tCompany Domain", "first_name last_name company domain"),
        ("Tenant,external_id,Organisation,Name", "tenant external_id company full_name"),
    ],
)
def test_the_columns_of_usual_exports_are_known(save: Save, header: str, targets: str) -> None:
    file = PeopleFile.open(save(f"{header}\nx\n"))
    wanted = {target: at for at, target in enumerate(targets.split()) if target != "-"}
    assert file.columns == wanted
    assert file.notes == ()


def test_the_first_of_two_like_columns_is_used_and_the_other_is_reported(save: Save) -> None:
    path = save("Email,Work Email,Email\na@x.example,b@x.example,c@x.example\n")
    file = PeopleFile.open(path)
    assert the_person(path).email == "a@x.example"
    assert file.notes == (
        'Column "Work Email" is not used: email is read from "Email" (--map email="Work Email" changes that).',
        'There are two columns "Email"; email is read from the first.',
    )


def test_a_vague_name_gives_way_to_a_plain_one_wherever_it_stands(save: Save) -> None:
    person = the_person(save("Title,Job Title,Personal Email,Email\nDr.,CFO,p@home.example,w@quell.example\n"))
    assert (person.title, person.email) == ("CFO", "w@quell.example")


def test_a_mapping_names_a_column_and_wins_over_what_is_known(save: Save) -> None:
    path = save("Email,Mail (work),Who\na@x.example,b@x.example,Ines\n")
    person = the_person(path, {"email": "Mail (work)", "first_name": "who"})
    assert (person.email, person.first_name) == ("b@x.example", "Ines")
    assert PeopleFile.open(path, mapping={"email": "Mail (work)"}).notes == ()


def test_a_mapped_column_is_read_as_nothing_else(save: Save) -> None:
    file = PeopleFile.open(save("Company,Email\nInes Okafor,a@x.example\n"), mapping={"full_name": "Company"})
    assert file.columns == {"full_name": 0, "email": 1}


def test_a_mapping_helps_to_find_the_delimiter(save: Save) -> None:
    path = save("Wer;Wo, genau;Adresse\nInes;A, B, C;a@x.example\n")
    assert the_person(path, {"email": "Adresse"}).email == "a@x.example"


def test_a_mapping_to_an_unknown_target_is_refused_with_the_targets(save: Save) -> None:
    said = refusal(save(A_HEADER + A_ROW), {"mail": "Email"})
    assert all(target in said for target in ("mail", *TARGETS))


def test_a_mapping_to_a_missing_column_is_refused_with_the_columns(save: Save) -> None:
    said = refusal(save(A_HEADER + A_ROW), {"email": "Mail"})
    assert all(f'"{name}"' in said for name in ("Mail", *A_HEADER.strip().split(",")))


# What is no list of people


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"\n \n\n", "is empty"),
        (b"sep=;\n", "is empty"),
        (b"Email,Company\n", "column names and no rows"),
        (b"Email,Company\n\n,\n", "column names and no rows"),
        (b"PK\x03\x04\x14\x00\x06\x00", "save it as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "save it as CSV"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        ("Email\na@x.example\n".encode("utf-16-le"), "not readable as text"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "not readable as text"),
        (b"Ines,Okafor,ines@quell.example\nSam,Lee,sam@brill.example\n", "line 1 is already a person"),
        (b"Ines,https://www.linkedin.com/in/ines\n", "line 1 is already a person"),
        (b"Ines,Okafor,Quell\nSam,Lee,Brill\n", '"Ines", "Okafor", "Quell"'),
        (b"First Name,Last Name,City\nInes,Okafor,Bergen\n", "a name together with a company"),
        (b"Colour,Size\nred,4\n", '--map email="Colour"'),
        (b'Email,"Company\na@x.example,Quell\n', "should name the columns, but it has a quote that is never closed"),
    ],
)
def test_what_is_no_list_of_people_is_refused_with_what_to_do(save: Save, content: bytes, reason: str) -> None:
    path = save(content)
    said = refusal(path)
    assert reason in said
    assert str(path) in said


def test_a_missing_file_a_folder_and_a_pipe_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nowhere.csv")
    assert "is a folder" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "pipe" in refusal(tmp_path / "pipe")
    assert "cannot be read" in refusal(tmp_path / ("x" * 300))


def test_a_file_with_hundreds_of_columns_is_refused_in_a_readable_sentence(save: Save) -> None:
    said = refusal(save(",".join(f"{'c' * 90}{n}" for n in range(500)) + "\nx\n"))
    assert "and 470 more" in said
    assert len(said) < 2_500


def test_a_file_that_changes_while_in_use_is_not_read_on(save: Save) -> None:
    path = save(A_HEADER + A_ROW * 2)
    file = PeopleFile.open(path)
    reading = file.read()
    next(reading)
    path.write_text(A_HEADER + A_ROW * 5, encoding="utf-8")
    with pytest.raises(BadInput, match="was changed"):
        list(reading)
    with pytest.raises(BadInput, match="was changed"):
        list(file.read())


def test_a_file_that_went_away_is_said_to_be_unreadable(save: Save) -> None:
    path = save(A_HEADER + A_ROW)
    file = PeopleFile.open(path)
    path.unlink()
    with pytest.raises(BadInput, match="cannot be read"):
        list(file.read())


# Damage


def test_a_nul_costs_one_row(save: Save) -> None:
    path = save(A_HEADER + A_ROW + A_ROW.replace("Ines", "I\0nes") + A_ROW)
    assert [type(row) for row in rows(path)] == [Row, Reject, Row]
    assert "NUL" in the_reject(path).reason


@pytest.mark.parametrize("tail", ["", "b@x.example,Brill\n" * 3, "b@x.example,Brill\n" * 9_000])
def test_a_quote_nobody_closed_costs_one_row(save: Save, tail: str) -> None:
    path = save(f'Email,Company\nz@x.example,Zed\na@x.example,"Quell\n{tail}')
    read = rows(path)
    reject = the_reject(path)
    assert (reject.line, reject.cells) == (3, ["a@x.example", '"Quell'])
    assert "never closed" in reject.reason
    assert len(read) == 2 + tail.count("\n")
    assert [row.line for row in read] == list(range(2, len(read) + 2))


def test_a_stray_quote_does_not_swallow_rows_up_to_the_next_quote(save: Save) -> None:
    path = save('Email,Company\na@x.example,"Quell\nb@x.example,Brill\nc@x.example,"Cog, Inc"\nd@x.example,Dunn\n')
    assert [(row.line, type(row)) for row in rows(path)] == [(2, Reject), (3, Row), (4, Row), (5, Row)]


def test_quotes_inside_a_cell_are_part_of_it(save: Save) -> None:
    path = save('Email,Company,Name\na@x.example,Quell 5" Pipes,"Ines ""Nessa"" Okafor"\n')
    person = the_person(path)
    assert (person.company, person.full_name) == ('Quell 5" Pipes', 'Ines "Nessa" Okafor')


def test_a_line_beyond_any_sense_costs_one_row(save: Save) -> None:
    path = save(A_HEADER + A_ROW + "x" * 3_000_000 + "\n" + "y," * 600_000 + "\n" + A_ROW)
    assert [(row.line, type(row)) for row in rows(path)] == [(2, Row), (3, Reject), (4, Reject), (5, Row)]
    assert all("too long" in row.reason for row in rows(path) if isinstance(row, Reject))


def test_a_cell_beyond_any_sense_is_a_reject_but_a_long_headline_or_note_is_not(save: Save) -> None:
    path = save(f"Email,Company,Title,Note\na@x.example,{'q' * 1001},,\nb@x.example,,{'t' * 1001},{'n' * 5000}\n")
    assert "1,001 characters in company" in the_reject(path).reason
    [row] = [row for row in rows(path) if isinstance(row, Row)]
    assert row.person.title == "t" * 1000


# Who a row is about


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("Ines,Okafor,,,", "needs a LinkedIn URL, an e-mail, or a name together with a company"),
        (",,Quell,,", "needs a LinkedIn URL"),
        ("Ines,Okafor,,ines at quell,", "what stands under e-mail is not an address"),
        ("Ines,Okafor,,,https://www.linkedin.com/company/quell", "is not a person's profile"),
        ("N/A,-,null,none,#N/A", "needs a LinkedIn URL"),
    ],
)
def test_a_row_that_names_nobody_is_a_reject_and_says_why(save: Save, row: str, reason: str) -> None:
    said = the_reject(save(f"{A_HEADER}{row}\n")).reason
    assert reason in said
    assert not set(row.split(",")[3:]) & set(said.split()), "the row's own text stays in its cells"


def test_an_address_or_a_profile_that_is_none_is_left_out_where_the_rest_suffices(save: Save) -> None:
    person = the_person(save(A_HEADER + "Ines,Okafor,Quell,ines at quell,linkedin.com/company/quell\n"))
    assert person == Person(first_name="Ines", last_name="Okafor", company="Quell")


@pytest.mark.parametrize(
    ("cell", "email"),
    [
        (" Ines@Quell.example ", "Ines@Quell.example"),
        ("mailto:ines@quell.example?subject=Hi", "ines@quell.example"),
        ("MAILTO: ines@quell.example", "ines@quell.example"),
        ('"Okafor, Ines" <ines@quell.example>', "ines@quell.example"),
        ("n/a; ines@quell.example; other@quell.example", "ines@quell.example"),
        ("ines@quell.example.", "ines@quell.example"),
        ("ines\u200b@quell.example\ufeff", "ines@quell.example"),
        ("o'hara@quell.example", "o'hara@quell.example"),
    ],
)
def test_an_address_is_found_in_its_cell(save: Save, cell: str, email: str) -> None:
    assert the_person(save(written([("Email",), (cell,)], ","))).email == email


@pytest.mark.parametrize(
    ("cell", "domain"),
    [
        ("Quell.example", "quell.example"),
        ("https://www.quell.example/about?x=1#y", "quell.example"),
        ("http://quell.example:8080", "quell.example"),
        ("quell.example?utm=1", "quell.example"),
        ("@quell.example", "quell.example"),
        ("quell.example/people/@ines", "quell.example"),
        ("quell.example, quell2.example", "quell.example"),
        ("//[broken/", ""),
        ("Quell Holdings", ""),
        ("https://www.linkedin.com/company/quell", ""),
        ("linkedin.com", "linkedin.com"),
    ],
)
def test_a_domain_is_reduced_to_its_host(save: Save, cell: str, domain: str) -> None:
    assert the_person(save(written([("Email", "Website"), ("a@x.example", cell)], ","))).domain == domain


@pytest.mark.parametrize(
    ("header", "cells", "first", "last", "whole"),
    [
        ("Name", "Okafor-Lind, Ines", "Ines", "Okafor-Lind", "Ines Okafor-Lind"),
        ("Name", "van der Berg, Jan", "Jan", "van der Berg", "Jan van der Berg"),
        ("Name", "Okafor, Ines, PhD", "Ines", "Okafor", "Ines Okafor"),
        ("Name", "Ines Okafor, M.D., MBA", "", "", "Ines Okafor"),
        ("Name", "Ines Okafor", "", "", "Ines Okafor"),
        ("Vorname|Name", "Ines|Okafor", "Ines", "Okafor", "Ines Okafor"),
        ("First Name|Name", "Ines|Ines Okafor", "Ines", "", "Ines Okafor"),
        ("First Name|Last Name|Full Name", "Ines|Okafor|Okafor, Ines", "Ines", "Okafor", "Ines Okafor"),
        ("First Name|Last Name", " Ines\u00a0 Maria |NULL", "Ines Maria", "", "Ines Maria"),
        ("First Name|Last Name", "Jennifer|Null", "Jennifer", "Null", "Jennifer Null"),
        ("First Name|Last Name", "Ine\u0300s|Okafor", "In\u00e8s", "Okafor", "In\u00e8s Okafor"),
    ],
)
def test_names_are_sorted_out(save: Save, header: str, cells: str, first: str, last: str, whole: str) -> None:
    table = [[*header.split("|"), "Email"], [*cells.split("|"), "a@x.example"]]
    person = the_person(save(written(table, ",")))
    assert (person.first_name, person.last_name, person.name) == (first, last, whole)


# Digest


def test_the_digest_is_that_of_the_bytes(save: Save) -> None:
    path = save(A_HEADER + A_ROW * 40_000)
    expected = sha256(path.read_bytes()).hexdigest()
    assert digest(path) == PeopleFile.open(path).digest == expected


# For any table

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
ENDINGS = st.sampled_from(["\n", "\r\n"])
# The names of columns hold no delimiters and are distinct from any we know, but for the two that we add.
HEADERS = st.lists(st.text("XYZ 123", min_size=1, max_size=6), max_size=4)


@given(
    headers=HEADERS,
    table=st.data(),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_any_table_is_read_back_cell_for_cell(
    tmp_path_factory: pytest.TempPathFactory, headers: list[str], table: st.DataObject, delimiter: str, encoding: str
) -> None:
    names = ["Email", *headers, "Company"]
    width = len(names)
    body = table.draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=8))
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(written([names, *body], delimiter).encode(encoding))
    filled = [cells for cells in body if any(cell and not cell.isspace() for cell in cells)]
    if not filled:
        assert "no rows" in refusal(path)
        return
    file = PeopleFile.open(path)
    read = list(file.read())
    assert (file.delimiter, list(file.headers)) == (delimiter, names)
    assert [row.cells for row in read] == filled
    assert [row.number for row in read] == list(range(len(filled)))


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_any_bytes_at_all_are_read_or_refused_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.csv"
    path.write_bytes(b"Email,Name,Company,Website,LinkedIn\n" + content)
    try:
        read = rows(path)
    except BadInput:
        return
    assert [row.number for row in read] == list(range(len(read)))
    assert [row.line for row in read] == sorted({row.line for row in read})


@given(st.lists(st.sampled_from(['"', ",", "\n", "a", "b@x.example", '""', "\r\n"]), max_size=40))
def test_every_line_with_text_is_in_some_row_however_the_quotes_stand(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "quotes.csv"
    marked = "".join(pieces)
    path.write_bytes(b"Email,Company\n" + marked.encode())
    try:
        read = rows(path)
    except BadInput:
        return
    kept = "".join("".join(row.cells) for row in read)
    assert kept.count("a") == marked.count("a")
    assert kept.count("@") == marked.count("@")


# Memory


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        path = tmp_path / f"{count}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            file.write(A_HEADER)
            file.writelines(f"Ines{n},Okafor,Quell {n % 9},ines{n}@quell.example,\n" for n in range(count))
        tracemalloc.start()
        try:
            assert sum(1 for _ in PeopleFile.open(path).read()) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)  # tables that are loaded once
    assert peak(40_000) < 8_000_000


def test_nobody_is_a_prospect_of_everybody(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("tenant,email\n*,ines@quell.example\nacme,ben@quell.example\n", encoding="utf-8")
    reject, row = PeopleFile.open(path).read()
    assert isinstance(reject, Reject)
    assert "stands for all of them" in reject.reason
    assert isinstance(row, Row)
