"""Writing the enriched file: the input untouched and in order, nothing a spreadsheet would run, all or nothing."""

from __future__ import annotations

import csv
import io
import os
import re
import resource
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluiceway.enriched_file import (
    STDOUT,
    Enriched,
    RejectsFile,
    Written,
    check_writable,
    readable,
    safe,
    write_enriched,
)
from sluiceway.errors import BadInput
from sluiceway.outcome import SourceStatus
from sluiceway.people_file import PeopleFile
from sluiceway.people_row import Reject
from sluiceway.prospect import Field, Held

AT = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
A_LIST = "Email,Company\na@x.example,Quell\nnobody,Quell\nc@x.example,Cog\n"


def a_list(folder: Path, content: str | bytes = A_LIST, name: str = "people.csv") -> PeopleFile:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return PeopleFile.open(path)


def held(value: Any, source: str = "apollo") -> Held:
    return Held(value, source, "2025-03-04T05:06:07.000Z", "attempt", 90)


def enriched(status: str = "complete", **fields: Any) -> Enriched:
    return Enriched(
        fields={field: held(value) for field, value in fields.items()},
        statuses={"apollo": SourceStatus("complete", AT), "exa": SourceStatus("failed", AT, "HTTP 500: =oops")},
        status=status,
    )


def nothing(numbers: Sequence[int]) -> Mapping[int, Enriched]:
    return {}


def table(path: Path, delimiter: str = ",", encoding: str = "utf-8") -> list[list[str]]:
    with path.open(encoding=encoding, newline="") as file:
        return list(csv.reader(file, delimiter=delimiter))


def records(path: Path) -> list[dict[str, str]]:
    header, *rows = table(path)
    return [dict(zip(header, row, strict=True)) for row in rows]


# Rows and columns


def test_every_row_is_there_in_order_with_what_was_found_after_it(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    found = enriched(title="CFO", work_email="a@quell.example", phone="+31 20 555", employees=1200)
    written = write_enriched(a_list(tmp_path), out, lambda _: {0: found}, sources=["apollo", "exa"])
    first, reject, last = records(out)
    assert written == Written(rows=3, rejected=1)
    assert [row["Email"] for row in (first, reject, last)] == ["a@x.example", "nobody", "c@x.example"]
    assert {name: text for name, text in first.items() if text} == {
        "Email": "a@x.example",
        "Company": "Quell",
        "enriched_title": "CFO",
        "enriched_work_email": "a@quell.example",
        "enriched_work_email_source": "apollo",
        "enriched_phone": "'+31 20 555",
        "enriched_phone_source": "apollo",
        "enriched_employees": "1200",
        "enrichment_status": "complete",
        "apollo_status": "complete",
        "apollo_at": "2025-03-04T05:06:07.000Z",
        "exa_status": "failed",
        "exa_error": "HTTP 500: =oops",
        "exa_at": "2025-03-04T05:06:07.000Z",
    }
    assert reject["enrichment_status"] == "rejected"
    assert reject["enrichment_error"].startswith("line 3 needs a LinkedIn URL")
    assert last["enrichment_status"] == "none"


def test_every_field_has_a_column_and_contact_data_its_source(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    write_enriched(a_list(tmp_path), out, nothing, sources=["apollo"])
    header = table(out)[0]
    assert header[:2] == ["Email", "Company"]
    assert [name for name in header if name.startswith("enriched_") and not name.endswith("_source")] == [
        f"enriched_{field}" for field in Field
    ]
    assert [name for name in header if name.endswith("_source")] == [
        "enriched_work_email_source",
        "enriched_personal_email_source",
        "enriched_phone_source",
    ]
    assert header[-5:] == ["enrichment_status", "enrichment_error", "apollo_status", "apollo_error", "apollo_at"]


def test_results_are_asked_for_in_pieces_and_never_for_rejects(tmp_path: Path) -> None:
    people = a_list(tmp_path, "Email\n" + "".join("nobody\n" if n % 7 == 0 else "a@x.example\n" for n in range(1_234)))
    asked: list[Sequence[int]] = []

    def results(numbers: Sequence[int]) -> Mapping[int, Enriched]:
        asked.append(numbers)
        return {}

    write_enriched(people, tmp_path / "out.csv", results, sources=[])
    assert [number for piece in asked for number in piece] == [n for n in range(1_234) if n % 7]
    assert max(map(len, asked)) <= 500


def test_short_rows_are_filled_and_the_surplus_of_a_reject_is_left_out(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    people = a_list(tmp_path, "Email,Company,Title\na@x.example\nb@x.example,Quell, Inc,CFO\n")
    write_enriched(people, out, nothing, sources=[])
    assert [list(row.values())[:3] for row in records(out)] == [
        ["a@x.example", "", ""],
        ["b@x.example", "Quell", " Inc"],
    ]


def test_added_names_that_are_taken_are_numbered(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    people = a_list(tmp_path, "Email,Enriched_Title,enrichment_status ,enrichment_status_2\na@x.example,,,\n")
    write_enriched(people, out, nothing, sources=["enrichment"])
    header = table(out)[0]
    assert "enriched_title_2" in header
    assert [name for name in header if name.startswith("enrichment_status")] == [
        "enrichment_status ",
        "enrichment_status_2",
        "enrichment_status_3",
        "enrichment_status_4",
    ]
    assert len({name.casefold() for name in header}) == len(header)


def test_an_enriched_file_can_be_enriched_again(tmp_path: Path) -> None:
    once, twice = tmp_path / "once.csv", tmp_path / "twice.csv"
    write_enriched(a_list(tmp_path), once, lambda _: {0: enriched(title="CFO")}, sources=["apollo"])
    write_enriched(PeopleFile.open(once), twice, lambda _: {0: enriched(title="CEO")}, sources=["apollo"])
    first = records(twice)[0]
    assert (first["enriched_title"], first["enriched_title_2"]) == ("CFO", "CEO")
    assert PeopleFile.open(twice).columns == {"email": 0, "company": 1}


# How it is written


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_it_is_written_as_the_input_was(tmp_path: Path, delimiter: str, ending: str) -> None:
    out = tmp_path / "out.csv"
    people = a_list(tmp_path, A_LIST.replace(",", delimiter).replace("\n", ending))
    write_enriched(people, out, nothing, sources=[])
    text = out.read_bytes().decode()
    assert text.startswith(f"Email{delimiter}Company{delimiter}enriched_title{delimiter}")
    assert text.count(ending) == 4
    assert set(text) & {"\r", "\n"} == set(ending)


@pytest.mark.parametrize(
    ("encoding", "marked"), [("utf-8", False), ("utf-8-sig", True), ("utf-16", True), ("cp1252", True)]
)
def test_it_is_utf8_and_marked_where_the_input_was_or_came_from_a_spreadsheet(
    tmp_path: Path, encoding: str, marked: bool
) -> None:
    out = tmp_path / "out.csv"
    people = a_list(tmp_path, "Vorname;Name;Firma\nJörg;Müller;Groß\n".encode(encoding))
    write_enriched(people, out, nothing, sources=[])
    assert out.read_bytes().startswith(b"\xef\xbb\xbf") == marked
    assert table(out, ";", "utf-8-sig")[1][:3] == ["Jörg", "Müller", "Groß"]


def test_standard_output_gets_the_same_table_and_stays_open(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    people = a_list(tmp_path, A_LIST.encode("utf-8-sig"))
    check_writable(STDOUT, people)
    write_enriched(people, STDOUT, nothing, sources=[])
    print("done")
    said = capfdbinary.readouterr().out.decode()
    assert said.startswith("Email,Company,enriched_title,")
    assert said.splitlines()[-1] == "done"
    assert len(said.splitlines()) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["people.csv"]


# Cells


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+31 20",
        "-5",
        "@SUM(1)",
        "\tx",
        "\rx",
        "\nx",
        "  =1",
        '"=1',
        "' @x",
        "\u00a0=1",
        "\ufeff=1",
        "＝1",
        "\0=1",
    ],
)
def test_a_cell_that_begins_like_a_formula_begins_with_an_apostrophe(text: str) -> None:
    assert safe(text) == f"'{text}"


@pytest.mark.parametrize("separator", [",", ";", "|", "\t", "\n", ';"'])
def test_what_would_begin_a_cell_in_a_spreadsheet_that_splits_elsewhere_is_no_formula_either(separator: str) -> None:
    assert safe(f"CFO{separator}=cmd()") == f"CFO{separator}'=cmd()"


@pytest.mark.parametrize(
    "text", ["", "CFO", "a=b", "1+1", "2025-03-04", "R&D - Europe", "O'Hara", "ines@quell.example"]
)
def test_other_cells_are_left_as_they_are(text: str) -> None:
    assert safe(text) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("", ""),
        ("  two\n lines\t", "two lines"),
        (True, "yes"),
        (1_200, "1200"),
        (1.2e9, "1200000000"),
        (0.5, "0.5"),
        (["a", None, "", "b"], "a | b"),
        (list(range(1, 9)), "1 | 2 | 3 | 4 | 5 | and 3 more"),
        (
            [
                {
                    "title": "Quell buys Brill",
                    "url": "https://n.example/1",
                    "published": "2024-05-01",
                    "highlight": "…",
                },
                {"title": "", "url": "https://n.example/2", "published": ""},
            ],
            "Quell buys Brill (2024-05-01) https://n.example/1 | https://n.example/2",
        ),
        (
            [{"date": "2024-05-01", "kind": "sale", "shares": 1000, "price_usd": None}],
            "date: 2024-05-01, kind: sale, shares: 1000",
        ),
        ({"signal": "sold", "evidence": ["Form 4", "10-K"]}, "signal: sold, evidence: Form 4 | 10-K"),
        ([], ""),
        ({}, ""),
        (float("nan"), "nan"),
    ],
)
def test_values_are_written_as_a_person_would(value: Any, text: str) -> None:
    assert readable(value) == text


def test_a_value_too_long_for_a_spreadsheet_is_cut() -> None:
    assert readable("x" * 50_000) == "x" * 31_999 + "…"


def test_text_that_is_no_unicode_is_written_all_the_same(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    write_enriched(a_list(tmp_path), out, lambda _: {0: enriched(title="CFO \ud83d")}, sources=[])
    assert records(out)[0]["enriched_title"] == "CFO ?"


# Where it is written


def test_the_input_is_never_overwritten_by_whatever_name(tmp_path: Path) -> None:
    people = a_list(tmp_path)
    (tmp_path / "link.csv").symlink_to(people.path)
    for out in (people.path, tmp_path / "." / "people.csv", tmp_path / "link.csv"):
        with pytest.raises(BadInput, match="is the input"):
            check_writable(out, people)
        with pytest.raises(BadInput, match="is the input"):
            write_enriched(people, out, nothing, sources=[])
    assert people.path.read_text(encoding="utf-8") == A_LIST


def test_what_cannot_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    people = a_list(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for out, reason in (
        (tmp_path / "missing" / "out.csv", "does not exist"),
        (tmp_path, "not a file that can be replaced"),
        (tmp_path / "pipe", "not a file that can be replaced"),
        (Path("/dev/null"), "not a file that can be replaced"),
        (tmp_path / ("x" * 300), "cannot be written"),
        (tmp_path / "people.rejected.csv", "rejected rows"),
    ):
        with pytest.raises(BadInput, match=reason):
            check_writable(out, people)
    assert {path.name for path in tmp_path.iterdir()} == {"people.csv", "pipe"}


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is write-protected for root")
def test_a_write_protected_folder_or_file_is_refused_beforehand(tmp_path: Path) -> None:
    people = a_list(tmp_path)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(BadInput, match="cannot be written"):
        check_writable(locked / "out.csv", people)
    (tmp_path / "out.csv").touch(mode=0o400)
    with pytest.raises(BadInput, match="write-protected"):
        check_writable(tmp_path / "out.csv", people)


def test_asking_whether_it_can_be_written_leaves_no_trace(tmp_path: Path) -> None:
    people = a_list(tmp_path)
    out = tmp_path / "out.csv"
    check_writable(out, people)
    assert not out.exists()
    out.write_text("kept", encoding="utf-8")
    check_writable(out, people)
    assert out.read_text(encoding="utf-8") == "kept"
    assert {path.name for path in tmp_path.iterdir()} == {"people.csv", "out.csv"}


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("from yesterday", encoding="utf-8")

    def results(numbers: Sequence[int]) -> Mapping[int, Enriched]:
        raise ConnectionError("the store went away")

    with pytest.raises(ConnectionError):
        write_enriched(a_list(tmp_path), out, results, sources=[])
    assert out.read_text(encoding="utf-8") == "from yesterday"
    assert {path.name for path in tmp_path.iterdir()} == {"people.csv", "out.csv"}


def test_a_link_goes_on_pointing_and_permissions_stay(tmp_path: Path) -> None:
    target, link = tmp_path / "target.csv", tmp_path / "out.csv"
    target.touch()
    target.chmod(0o640)
    link.symlink_to(target)
    write_enriched(a_list(tmp_path), link, nothing, sources=[])
    assert link.is_symlink()
    assert len(table(target)) == 4
    assert target.stat().st_mode & 0o777 == 0o640


def test_what_a_killed_run_left_is_swept_once_it_is_old(tmp_path: Path) -> None:
    old, young = tmp_path / ".out.csv.0123abcd.part", tmp_path / ".out.csv.4567abcd.part"
    old.touch()
    young.touch()
    os.utime(old, (time.time() - 7_200,) * 2)
    write_enriched(a_list(tmp_path), tmp_path / "out.csv", nothing, sources=[])
    assert not old.exists()
    assert young.exists()


KILLED = """
import os, sys
from pathlib import Path
from sluiceway.enriched_file import write_enriched
from sluiceway.people_file import PeopleFile

def results(numbers):
    if numbers[0] >= 1000:
        print("halfway", flush=True)
        sys.stdin.read()
    return {}

write_enriched(PeopleFile.open(Path(sys.argv[1])), Path(sys.argv[2]), results, sources=[])
"""


def test_a_run_that_is_killed_leaves_no_half_written_output(tmp_path: Path) -> None:
    people, out = a_list(tmp_path, "Email\n" + "a@x.example\n" * 3_000), tmp_path / "out.csv"
    out.write_text("from yesterday", encoding="utf-8")
    command = [sys.executable, "-c", KILLED, str(people.path), str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"halfway\n"
        run.send_signal(signal.SIGKILL)
    assert out.read_text(encoding="utf-8") == "from yesterday"


def test_a_full_disk_is_said_in_a_sentence(tmp_path: Path) -> None:
    people, out = a_list(tmp_path, "Email\n" + "a@x.example\n" * 3_000), tmp_path / "out.csv"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))  # as good as a full disk, for this process
    try:
        with pytest.raises(BadInput, match=r"out\.csv cannot be written: File too large"):
            write_enriched(people, out, nothing, sources=[])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["people.csv"]


# Rejects


def rejects_of(people: PeopleFile, out: Path) -> RejectsFile:
    with RejectsFile(people, out) as rejects:
        for row in people.read():
            if isinstance(row, Reject):
                rejects.add(row)
    return rejects


def test_rejects_are_listed_beside_the_output_with_line_and_reason(tmp_path: Path) -> None:
    people = a_list(tmp_path, "Email;Company;Note\na@x.example;Quell;\nnobody;Quell;=1\nb@x.example;a;b;c\n")
    (tmp_path / "results").mkdir()
    rejects = rejects_of(people, tmp_path / "results" / "out.csv")
    assert rejects.path == tmp_path / "results" / "people.rejected.csv"
    assert rejects.count == 2
    header, nobody, wide = table(rejects.path, ";")
    assert header == ["line", "reason", "Email", "Company", "Note"]
    assert (nobody[0], nobody[2:]) == ("3", ["nobody", "Quell", "=1"])
    assert "needs a LinkedIn URL" in nobody[1]
    assert (wide[0], wide[2:]) == ("4", ["b@x.example", "a", "b", "c"])


def test_a_list_of_rejects_that_is_used_again_is_written_afresh(tmp_path: Path) -> None:
    rejects = RejectsFile(a_list(tmp_path), tmp_path / "out.csv")
    for line in (3, 4):
        with rejects:
            rejects.add(Reject(line, 1, "reason", ["nobody"]))
        assert rejects.count == 1
        assert table(rejects.path)[1:] == [[str(line), "reason", "nobody"]]
    with rejects:
        pass
    assert not rejects.path.exists()


def test_a_list_of_rejects_can_be_mended_and_read(tmp_path: Path) -> None:
    rejects = rejects_of(a_list(tmp_path), tmp_path / "out.csv")
    mended = rejects.path.read_text(encoding="utf-8").replace("nobody", "b@x.example")
    assert PeopleFile.open(a_list(tmp_path, mended, "mended.csv").path).columns == {"email": 2, "company": 3}


def test_without_rejects_there_is_no_list_and_an_old_one_goes(tmp_path: Path) -> None:
    old = tmp_path / "people.rejected.csv"
    old.write_text("from yesterday", encoding="utf-8")
    rejects_of(a_list(tmp_path, "Email\na@x.example\n"), tmp_path / "out.csv")
    assert not old.exists()
    rejects_of(a_list(tmp_path, "Email\na@x.example\n"), tmp_path / "out.csv")
    assert not old.exists()


def listing_that_fails(people: PeopleFile, out: Path, rejects: Sequence[Reject]) -> None:
    with RejectsFile(people, out) as listed:
        for reject in rejects:
            listed.add(reject)
        raise RuntimeError


def test_a_failure_while_listing_rejects_leaves_the_old_list(tmp_path: Path) -> None:
    people, old = a_list(tmp_path), tmp_path / "people.rejected.csv"
    old.write_text("from yesterday", encoding="utf-8")
    for rejects in ([], [Reject(3, 1, "reason", ["nobody"])]):
        with pytest.raises(RuntimeError):
            listing_that_fails(people, tmp_path / "out.csv", rejects)
        assert old.read_text(encoding="utf-8") == "from yesterday"
    assert {path.name for path in tmp_path.iterdir()} == {"people.csv", "people.rejected.csv"}


def test_rejects_of_a_run_to_standard_output_stand_beside_the_input(tmp_path: Path) -> None:
    assert RejectsFile(a_list(tmp_path), STDOUT).path == tmp_path / "people.rejected.csv"


# For any table

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.text("=@-,;| \t\n\"'x", max_size=8)
)
VALUES = st.recursive(LEAVES, lambda part: st.lists(part, max_size=7) | st.dictionaries(st.text(max_size=3), part))


@given(
    body=st.lists(st.lists(CELLS, min_size=1, max_size=4), min_size=1, max_size=8),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    ending=st.sampled_from(["\n", "\r\n"]),
    value=VALUES,
)
@example(body=[["=cmd()", "", "\r", "a\rb"]], delimiter=",", ending="\n", value="=cmd()")
def test_any_input_comes_out_row_for_row_and_nothing_we_add_is_a_formula(
    tmp_path_factory: pytest.TempPathFactory, body: list[list[str]], delimiter: str, ending: str, value: Any
) -> None:
    folder = tmp_path_factory.getbasetemp()
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([["Email", "Company", "Name"], *body, ["a@x.example"]])
    people = a_list(folder, text.getvalue(), "any.csv")
    said = Enriched(
        fields={field: held(value, str(value)) for field in Field},
        statuses={"exa": SourceStatus(str(value), None, str(value))},
        status=str(value),
    )
    write_enriched(people, folder / "any.out.csv", lambda numbers: dict.fromkeys(numbers, said), sources=["exa"])
    _, *rows = table(folder / "any.out.csv", delimiter)
    filled = [cells for cells in [*body, ["a@x.example"]] if any(cell and not cell.isspace() for cell in cells)]
    assert [row[:3] for row in rows] == [[*cells, "", "", ""][:3] for cells in filled]
    added = [cell for row in rows for cell in row[3:]]
    assert {cell[:1] for cell in added}.isdisjoint("\t\r\n")
    assert {cell.lstrip().lstrip('"')[:1] for cell in added}.isdisjoint("=+-@")
    pieces = [piece for cell in added for piece in re.split(r"[,;|\t\r\n]", cell)]
    assert {piece.lstrip('"')[:1] for piece in pieces}.isdisjoint("=+-@"), "for a spreadsheet that splits elsewhere"


# Memory


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        people = a_list(tmp_path, "Email\n" + "".join(f"ines{n}@quell.example\n" for n in range(count)))
        tracemalloc.start()
        try:
            write_enriched(
                people,
                tmp_path / "out.csv",
                lambda numbers: {n: enriched(title=f"{n}") for n in numbers},
                sources=["exa"],
            )
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)  # tables that are loaded once
    assert peak(10_000) < 8_000_000
