"""Reading a list of people: any CSV that a spreadsheet or a CRM writes, one person a row, never held in memory.

    bytes → scan (encoding, digest) → layout (delimiter, column names) → records (line, cells) → `Row` or `Reject`

`PeopleFile.open` looks at the whole file once and refuses, before anything is spent, what cannot be a list of people.
After that a row that cannot be used is a `Reject` with its line number, and the rest of the file goes on.
"""

from __future__ import annotations

import codecs
import csv
import os
import re
import stat
import unicodedata
from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple, TextIO

import msgspec

from sluiceway.errors import BadInput
from sluiceway.prospect import Person, fold, identity_key, normal_domain, normal_email, normal_linkedin

LONGEST_CELL: Final = 1_000
"""Characters of a cell that tells who somebody is; more is a damaged row, and no provider would take it."""

_LONGEST_RECORD: Final = 1_000_000
_CHUNK: Final = 1 << 20


class Row(msgspec.Struct, frozen=True):
    """One usable row.

    `line` is where it starts, as an editor counts; `number` counts rows from 0, rejects included and blank lines not;
    `cells` is the row's text as it stands in the file, which may be fewer cells than there are headers.
    """

    line: int
    number: int
    person: Person
    tenant: str
    external_id: str
    cells: list[str]


class Reject(msgspec.Struct, frozen=True):
    """One row that cannot be used, and why; `line`, `number` and `cells` as in `Row`, but any number of cells."""

    line: int
    number: int
    reason: str
    cells: list[str]


class PeopleFile(msgspec.Struct, frozen=True):
    """A list of people that was looked at and can be read, as often as needed.

    `columns` tells which column, from 0, each target is read from. `notes` are sentences for whoever gave us the file.
    `delimiter`, `newline` and `bom` (whether a spreadsheet needs one to see our UTF-8) let another file be written
    the same way. `digest` is the SHA-256 of the file.
    """

    path: Path
    headers: tuple[str, ...]
    header_line: int
    columns: Mapping[str, int]
    notes: tuple[str, ...]
    digest: str
    encoding: str
    bom: bool
    delimiter: str
    newline: str
    stamp: tuple[int, int]

    @classmethod
    def open(cls, path: Path, *, mapping: Mapping[str, str] | None = None) -> PeopleFile:
        """Look at a file of people: its encoding, its delimiter, and which column tells what.

        `mapping` names the column of a target (`{"email": "Mail (work)"}`) where the column's name does not tell.
        Raises `BadInput`, which says what was found and what to do, when this is no list of people.
        """
        mapping = _checked(mapping or {})
        scan = _scan(path)
        layout = _layout(path, _sample(path, scan.encoding), mapping)
        columns, passed_over = _columns(layout.headers, mapping)
        _refuse_unusable(path, layout, columns)
        people = cls(
            path=path,
            headers=tuple(layout.headers),
            header_line=layout.line,
            columns=columns,
            notes=(*scan.notes, *layout.notes, *passed_over),
            digest=scan.digest,
            encoding=scan.encoding,
            bom=scan.bom,
            delimiter=layout.delimiter,
            newline=layout.newline,
            stamp=scan.stamp,
        )
        with closing(people.read()) as rows:
            if next(rows, None) is None:
                raise BadInput(f"{path} has column names and no rows below them")
        return people

    def read(self) -> Generator[Row | Reject, None, None]:
        """Yield every row in order; lines that are blank or hold only empty cells are no rows.

        Raises `BadInput` when the file was changed since it was opened, because rows are known by their number.
        """
        with _opened(self.path, self.encoding) as file:
            self._refuse_changed(file)
            records = (record for record in _Records(_lines(file), self.delimiter) if record.line > self.header_line)
            for number, record in enumerate(filter(_filled, records)):
                yield self._judged(number, record)
            self._refuse_changed(file)

    def _judged(self, number: int, record: _Record) -> Row | Reject:
        cells = record.cells
        said = {target: _clean(cells[at]) for target, at in self.columns.items() if at < len(cells)}
        if reason := record.trouble or _malformed(cells, len(self.headers)) or _too_long(said):
            return Reject(record.line, number, reason, cells)
        person = _person(said)
        try:
            identity_key(person)
        except BadInput as lacking:
            return Reject(record.line, number, "; ".join((str(lacking), *_unread(said, person))), cells)
        return Row(record.line, number, person, said.get("tenant", ""), said.get("external_id", ""), cells)

    def _refuse_changed(self, file: TextIO) -> None:
        if _stamp(os.fstat(file.fileno())) != self.stamp:
            raise BadInput(f"{self.path} was changed while it was in use; start again with the file as it is now")


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, read piece by piece."""
    hashed = sha256()
    for chunk in _chunks(path):
        hashed.update(chunk)
    return hashed.hexdigest()


# What the bytes are: one look at the whole file, so that no later pass meets a byte it cannot decode.


class _Scan(msgspec.Struct, frozen=True):
    encoding: str
    bom: bool
    digest: str
    stamp: tuple[int, int]
    notes: tuple[str, ...] = ()


_BOMS: Final = (  # UTF-32 first, whose little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NOT_TEXT: Final = (
    (b"PK\x03\x04", "an Excel workbook (or another zip file); open it and save it as CSV (UTF-8)"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; open it and save it as CSV (UTF-8)"),
    (b"%PDF", "a PDF; export the list as CSV"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first"),
)


def _scan(path: Path) -> _Scan:
    stamp = _stamp_of_file(path)
    start = next(_chunks(path), b"")
    marked = next((encoding for bom, encoding in _BOMS if start.startswith(bom)), None)
    _refuse_binary(path, start, marked)
    encoding, notes = _encoding(path, marked)
    # Excel takes a CSV without the mark for the computer's old code page, so a file that came from there gets one.
    return _Scan(encoding, bom=encoding != "utf-8", digest=digest(path), stamp=stamp, notes=notes)


def _stamp_of_file(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise BadInput(f"{path} does not exist") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    if stat.S_ISDIR(found.st_mode):
        raise BadInput(f"{path} is a folder; give the CSV file itself")
    if not stat.S_ISREG(found.st_mode):
        raise BadInput(f"{path} is a pipe or a device; save the list to disk first, because it is read more than once")
    return _stamp(found)


def _stamp(found: os.stat_result) -> tuple[int, int]:
    """Return what tells that a file was written to: its size and its time."""
    return found.st_size, found.st_mtime_ns


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error


def _refuse_binary(path: Path, start: bytes, marked: str | None) -> None:
    for signature, what in _NOT_TEXT:
        if start.startswith(signature):
            raise BadInput(f"{path} is {what}")
    # A few NULs are damage, which costs only their rows; many are UTF-16 without its mark, or no text at all.
    if marked in (None, "utf-8-sig") and start.count(0) > len(start) // 10:
        raise BadInput(f"{path} is not readable as text; save it as CSV (UTF-8)")


def _encoding(path: Path, marked: str | None) -> tuple[str, tuple[str, ...]]:
    """Return an encoding in which every byte of the file can be read, and a note where it had to be guessed."""
    bad = _undecodable_line(path, marked or "utf-8")
    if bad is None:
        return marked or "utf-8", ()
    if marked:
        name = marked.removesuffix("-sig").upper()
        raise BadInput(f"{path} says it is {name}, but line {bad} is not; save it again as CSV (UTF-8)")
    worse = _undecodable_line(path, "cp1252")
    if worse is None:
        return "cp1252", (f"Line {bad} is not UTF-8, so the file is read as Windows-1252.",)
    return "latin-1", (f"Line {worse} is neither UTF-8 nor Windows-1252; it is read as Latin-1: accents may be wrong.",)


def _undecodable_line(path: Path, encoding: str) -> int | None:
    """Return the first line that is not in this encoding, or `None` when the whole file is."""
    decoder, line = codecs.getincrementaldecoder(encoding)(), 1
    try:
        for chunk in _chunks(path):
            line += decoder.decode(chunk).count("\n")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return line + error.object[: error.start].count(b"\n")
    return None


# Records: rows of cells with the line they start on, going on after a quote that nobody closed.


class _Record(NamedTuple):
    line: int
    lines: int
    cells: list[str]
    trouble: str = ""


def _opened(path: Path, encoding: str) -> TextIO:
    try:
        return path.open(encoding=encoding, newline="")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error


def _lines(file: TextIO) -> Iterator[str]:
    """Yield physical lines; one beyond any sense is cut to just over what a record may hold, and so refused later."""
    longest = _LONGEST_RECORD + 1
    while line := file.readline(longest):
        yield line
        while len(line) == longest and not line.endswith("\n"):
            line = file.readline(longest)


class _Records:
    """Groups lines into records.

    `csv` reads on over line ends until a quote is closed, to the end of the file if need be. Where that was plainly
    not meant, only the line with the stray quote is given up; the lines it swallowed are read again on their own.
    """

    def __init__(self, lines: Iterator[str], delimiter: str) -> None:
        self._lines = lines
        self._delimiter = delimiter
        self._again: deque[str] = deque()
        self._taken: list[str] = []
        self._size = 0
        self._ran_out = False
        self._before = 0
        self._reader = self._new_reader()

    def _new_reader(self) -> Iterator[list[str]]:
        return csv.reader(iter(self._line, None), delimiter=self._delimiter)

    def __iter__(self) -> Iterator[_Record]:
        while (record := self._record()) is not None:
            yield record

    def _line(self) -> str | None:
        line = self._again.popleft() if self._again else next(self._lines, None)
        if line is None:
            self._ran_out = bool(self._taken)  # asked for more in the middle of a record
            return None
        self._taken.append(line)
        self._size += len(line)
        if self._size > _LONGEST_RECORD:
            raise csv.Error
        return line

    def _record(self) -> _Record | None:
        self._taken, self._size, self._ran_out = [], 0, False
        try:
            cells = next(self._reader, [])
        except csv.Error:  # too long, by our measure or by that of `csv`
            return self._given_up()
        if not self._taken:
            return None
        if self._ran_out or (len(self._taken) > 1 and not self._well_quoted()):
            return self._given_up()
        return self._counted(_Record(self._before + 1, len(self._taken), cells))

    def _well_quoted(self) -> bool:
        """Tell whether a record of several lines was meant as one: its closing quote ends a cell."""
        try:
            return len(list(csv.reader(self._taken, delimiter=self._delimiter, strict=True))) == 1
        except csv.Error:
            return False

    def _given_up(self) -> _Record:
        first, *rest = self._taken
        self._again.extendleft(reversed(rest))
        self._reader = self._new_reader()
        # Split without regard to quotes: of a line whose quotes are wrong, that stays closest to what was meant.
        cells = first.rstrip("\r\n").split(self._delimiter)
        trouble = "has a quote that is never closed" if rest or self._ran_out else "is too long to be a row"
        return self._counted(_Record(self._before + 1, 1, cells, trouble))

    def _counted(self, record: _Record) -> _Record:
        self._before += record.lines
        return record


def _filled(record: _Record) -> bool:
    return bool(record.trouble) or any(cell and not cell.isspace() for cell in record.cells)


# The layout: which delimiter, and which record names the columns.

_DELIMITERS: Final = (",", ";", "\t", "|")
_SAMPLE_LINES: Final = 200
_SAMPLE_CHARACTERS: Final = 200_000
_LONGEST_PREAMBLE: Final = 20
_SEP: Final = re.compile(r'"?sep=(\t|[^\w\s"])"?[\r\n]*$', re.IGNORECASE)


class _Layout(msgspec.Struct, frozen=True):
    delimiter: str
    line: int
    headers: list[str]
    newline: str
    score: tuple[int, bool, float, int]
    trouble: str
    notes: tuple[str, ...]


def _sample(path: Path, encoding: str) -> list[str]:
    sample: list[str] = []
    left = _SAMPLE_CHARACTERS
    with _opened(path, encoding) as file:
        for line in _lines(file):
            sample.append(line)
            left -= len(line)
            if left < 0 or len(sample) == _SAMPLE_LINES:
                break
    return sample


def _layout(path: Path, sample: list[str], mapping: Mapping[str, str]) -> _Layout:
    told = _SEP.match(sample[0]) if sample else None  # Excel's own way to say it, on a line before the column names
    known = _known(mapping)
    guesses = [_guess(sample, delimiter, known, 1 if told else 0) for delimiter in (told[1] if told else _DELIMITERS)]
    possible = [guess for guess in guesses if guess is not None]
    if not possible:
        raise BadInput(f"{path} is empty")
    return max(possible, key=lambda guess: guess.score)


def _guess(sample: list[str], delimiter: str, known: Mapping[str, str], after: int) -> _Layout | None:
    """Read the sample with one delimiter, and say how well that goes.

    Best is the delimiter that yields most columns we know; then one that yields columns at all; then the one whose
    rows are as wide as their header.
    """
    records = [record for record in _Records(iter(sample), delimiter) if record.line > after and _filled(record)]
    if not records:
        return None
    at = _header_at(records, known)
    header, rows = records[at], records[at + 1 :]
    width = len(header.cells)
    as_wide = sum(len(row.cells) == width for row in rows) / len(rows) if rows else 1.0
    return _Layout(
        delimiter=delimiter,
        line=header.line,
        headers=header.cells,
        newline=_ending(sample[header.line + header.lines - 2]),
        score=(len(_recognised(header.cells, known)), width > 1, as_wide, width),
        trouble=header.trouble,
        notes=(f"The column names are on line {header.line}; what stands above is left out.",) if at or after else (),
    )


def _header_at(records: Sequence[_Record], known: Mapping[str, str]) -> int:
    """Find the record that names the columns: the first, unless a few lines of prose stand above it.

    LinkedIn's list of connections begins with such lines.
    """
    if _recognised(records[0].cells, known):
        return 0
    likely = (at for at, record in enumerate(records[:_LONGEST_PREAMBLE]) if len(_recognised(record.cells, known)) > 1)
    return next(likely, 0)


def _ending(line: str) -> str:
    return next((ending for ending in ("\r\n", "\n", "\r") if line.endswith(ending)), "\n")


# The columns: which one tells what.

_NAMES: Final = {
    "first_name": """first name | given name | forename | lead first name | contact first name | person first name |
        prospect first name | fname | vorname | rufname | prenom | voornaam | nombre""",
    "last_name": """last name | surname | family name | lead last name | contact last name | person last name |
        prospect last name | lname | nachname | familienname | zuname | nom de famille | achternaam | apellido |
        apellidos | cognome""",
    "full_name": """full name | name | contact name | contact full name | lead name | lead full name | person name |
        person full name | prospect name | prospect full name | display name |
        vollstandiger name | ansprechpartner | kontaktname | nom | nom complet | nom et prenom | nom du contact |
        volledige naam | nombre completo | nome completo""",
    "company": """company | company name | account name | organization | organisation | organization name |
        organisation name | employer | employer name | current company | current company name | current employer |
        lead company | contact company | person company | person organization | person organisation | company account |
        account account name | contact account name | associated company | primary associated company |
        associated company name | organization 1 name | business name | firm | firma | firmenname | unternehmen |
        unternehmensname | firmenbezeichnung | arbeitgeber | societe | nom de la societe | entreprise |
        nom de l entreprise | raison sociale | employeur | nom du compte | bedrijf | bedrijfsnaam | empresa |
        azienda""",
    "domain": """domain | company domain | company domain name | domain name | website | company website | web site |
        website url | company url | company website url | account website | account domain | company web site |
        organization website | organization domain | organisation website | corporate website | employer website |
        employer domain | company website domain | homepage | webseite | webadresse |
        internetadresse | firmenwebsite | firmenwebseite | unternehmenswebsite | domane | firmendomain |
        unternehmensdomain | site web | site internet | site web de l entreprise | site | domaine |
        domaine de l entreprise | sitio web""",
    "email": """email | e mail | email address | e mail address | work email | work e mail | work email address |
        business email | business e mail | business email address | company email | corporate email |
        professional email | office email | primary email | primary e mail | lead email | contact email |
        person email | person email work | prospect email | email work | email 1 | e mail 1 value | mail |
        mail address | mailadresse | emailadresse | e mail adresse | geschaftliche e mail | e mail geschaftlich |
        geschaftliche e mail adresse | berufliche e mail | firmen e mail | courriel | adresse e mail |
        adresse email | adresse mail | adresse electronique | e mail professionnel | email professionnel |
        adresse e mail professionnelle | mail professionnel | correo | correo electronico | e mailadres""",
    "linkedin_url": """linkedin | linkedin url | linkedin profile | linkedin profile url | linkedin link |
        linkedin address | person linkedin | person linkedin url | person linkedin profile | contact linkedin |
        contact linkedin url | contact linkedin profile url | lead linkedin url | prospect linkedin url |
        public linkedin url | linkedin public url | linkedin public profile url | personal linkedin |
        personal linkedin url | li url | li profile url | profile url | default profile url | linkedin profil |
        linkedin profil url | linkedin adresse | profil linkedin | url linkedin | lien linkedin |
        url du profil linkedin | adresse linkedin""",
    "title": """job title | position | current position | current title | job role | designation |
        contact title | lead title | person job title | person title | professional title | organization 1 title |
        organization title | jobtitel | job titel | berufsbezeichnung | stellenbezeichnung | funktion | poste |
        intitule du poste | intitule de poste | fonction | titre du poste | functie | cargo | puesto""",
    "tenant": "tenant | tenant id | tenant name | mandant | mandanten id",
    "external_id": """external id | record id | contact id | lead id | person id | prospect id | crm id | customer id |
        external identifier | external key | apollo contact id | externe id | kontakt id | datensatz id |
        identifiant externe | id externe""",
}
# Read only where no better column is there: these words are also used for other things.
_FAINT_NAMES: Final = {
    "full_name": "person | contact",
    "company": "account | account company | organization 1 | compte",
    "email": "personal email | personal e mail | private email | person email home | e mail privat | email personnel",
    "linkedin_url": "url | profile | profile link | contact url | person url",
    "title": "title | titre | role | job | headline",  # a title may also be `Dr.`
    "external_id": "id | identifier | uuid",
}
TARGETS: Final = tuple(_NAMES)
"""What a column can be read as, and so what a `mapping` may name."""


def _key(header: str) -> str:
    """Fold a column's name so that `First Name`, `first_name` and `firstName` are one."""
    return fold(header).replace(" ", "") or header.strip()


def _by_key(names: Mapping[str, str]) -> dict[str, str]:
    return {name.replace(" ", ""): target for target, spelled in names.items() for name in _words(spelled)}


def _words(spelled: str) -> list[str]:
    return [" ".join(name.split()) for name in spelled.split("|")]


_TARGET: Final = _by_key(_NAMES)
_FAINT_TARGET: Final = _by_key(_FAINT_NAMES)


def _checked(mapping: Mapping[str, str]) -> Mapping[str, str]:
    for target in mapping:
        if target not in TARGETS:
            raise BadInput(f'a column cannot be mapped to "{target}"; the targets are {", ".join(TARGETS)}')
    return mapping


def _known(mapping: Mapping[str, str]) -> Mapping[str, str]:
    return _FAINT_TARGET | _TARGET | {_key(header): target for target, header in mapping.items()}


def _recognised(cells: Iterable[str], known: Mapping[str, str]) -> set[str]:
    return {known[key] for key in map(_key, cells) if key in known}


def _columns(headers: Sequence[str], mapping: Mapping[str, str]) -> tuple[dict[str, int], list[str]]:
    """Decide which column each target is read from, and note the columns that say the same again."""
    columns = {target: _named(headers, target, name) for target, name in mapping.items()}
    claimed = frozenset(columns.values())
    passed_over = []
    for targets in (_TARGET, _FAINT_TARGET):
        for at, header in enumerate(headers):
            target = targets.get(_key(header))
            if target is None or at in claimed or target in mapping:
                continue
            if target in columns:
                passed_over.append(_note_second(header, target, headers[columns[target]]))
            else:
                columns[target] = at
    return columns, passed_over


def _note_second(header: str, target: str, used: str) -> str:
    if header == used:
        return f'There are two columns "{header}"; {target} is read from the first.'
    return f'Column "{header}" is not used: {target} is read from "{used}" (--map {target}="{header}" changes that).'


def _named(headers: Sequence[str], target: str, name: str) -> int:
    if name in headers:
        return headers.index(name)
    keys = [_key(header) for header in headers]
    if _key(name) in keys:
        return keys.index(_key(name))
    raise BadInput(f'no column is called "{name}", wanted for {target}; the columns are {_listed(headers)}')


def _listed(headers: Sequence[str]) -> str:
    shown = [f'"{header if len(header) <= 40 else header[:39] + "…"}"' for header in headers[:30]]
    return ", ".join(shown) + (f" and {len(headers) - 30} more" if len(headers) > 30 else "")


def _refuse_unusable(path: Path, layout: _Layout, columns: Collection[str]) -> None:
    if layout.trouble:
        raise BadInput(f"{path}: line {layout.line} should name the columns, but it {layout.trouble}")
    if any(normal_email(cell) or normal_linkedin(cell) for cell in layout.headers):
        raise BadInput(
            f"{path}: line {layout.line} is already a person; put a line above it that names the columns, "
            "for example: First Name,Last Name,Company,Email,LinkedIn URL"
        )
    named = any(name in columns for name in ("first_name", "last_name", "full_name"))
    employed = "company" in columns or "domain" in columns
    if not ("linkedin_url" in columns or "email" in columns or (named and employed)):
        raise BadInput(
            f"{path}: no column tells who the people are; that takes a LinkedIn URL, an e-mail, or a name together "
            f"with a company. The columns on line {layout.line} are {_listed(layout.headers)}. Say which is which "
            f'with --map, for example --map email="{layout.headers[0][:40]}"; '
            "if that line is already a person, put a line of column names above it"
        )


# The cells: from what somebody typed to what a provider can be asked.

_INVISIBLE: Final = dict.fromkeys(
    chain(
        (code for code in range(0x20) if not chr(code).isspace()),
        range(0x7F, 0xA0),
        (0xAD, 0x200B, 0x200E, 0x200F, 0xFEFF),
        range(0x202A, 0x202F),
        range(0x2060, 0x206A),
    )
)
_NOTHING: Final = frozenset("- -- --- – — . ? n/a #n/a n.a. (null) null none nil undefined nan [null] <null>".split())
_STILL_NAMES: Final = frozenset({"Null", "Nil", "Nan"})  # people are called that; an export would write `null` or `NaN`


def _clean(cell: str) -> str:
    """Strip a cell, make its spaces single, drop what cannot be seen, and read `N/A`, `-` and `null` as empty."""
    if not (cell.isascii() and cell.isprintable()):
        cell = unicodedata.normalize("NFC", cell.translate(_INVISIBLE))
    text = " ".join(cell.split())
    return "" if text.lower() in _NOTHING and text not in _STILL_NAMES else text


def _malformed(cells: Sequence[str], width: int) -> str:
    if any("\0" in cell for cell in cells):
        return "has a NUL character in it, which is a sign of damage"
    if any(cell.strip() for cell in cells[width:]):
        return f"has {len(cells)} cells where there are {width} columns; a cell with the delimiter in it needs quotes"
    return ""


def _too_long(said: Mapping[str, str]) -> str:
    """Say which cell is beyond reason; a headline may be, it tells nobody from anybody and is cut."""
    long = (target for target, text in said.items() if len(text) > LONGEST_CELL and target != "title")
    target = next(long, None)
    return f"has {len(said[target]):,} characters in {target}; at most {LONGEST_CELL:,} make sense" if target else ""


def _person(said: Mapping[str, str]) -> Person:
    first, last, full = _names(said.get("first_name", ""), said.get("last_name", ""), said.get("full_name", ""))
    linkedin = said.get("linkedin_url", "")
    return Person(
        first_name=first,
        last_name=last,
        full_name=full,
        company=said.get("company", ""),
        domain=_domain(said.get("domain", "")),
        email=_email(said.get("email", "")),
        linkedin_url=linkedin if normal_linkedin(linkedin) else "",  # a company's page is not a person
        title=said.get("title", "")[:LONGEST_CELL],
    )


def person_of(said: Mapping[str, str]) -> Person:
    """Return the person that values by target are about, cleaned as a file's cells are.

    Raises `BadInput` for values that are damaged, too long, or not what they should be.
    """
    cleaned = {target: _clean(text) for target, text in said.items()}
    person = _person(cleaned)
    damaged = _malformed(list(said.values()), len(said))
    if reason := damaged or _too_long(cleaned) or "; ".join(_unread(cleaned, person)):
        raise BadInput(reason)
    return person


def _unread(said: Mapping[str, str], person: Person) -> Iterator[str]:
    """Say what was given and could not be used, since the row lacks just that; never the value itself."""
    if said.get("email") and not person.email:
        yield "what stands under e-mail is not an address"
    if said.get("linkedin_url") and not person.linkedin_url:
        yield "what stands under LinkedIn is not a person's profile (linkedin.com/in/…)"
    if said.get("domain") and not person.domain:
        yield "what stands under domain is not a company's website"


_CREDENTIALS: Final = frozenset(
    "jr sr ii iii iv phd dphil mba md jd cpa cfa cfp caia frm esq pe pmp dr dds rn llm msc bsc".split()
)


def _names(first: str, last: str, full: str) -> tuple[str, str, str]:
    """Sort out a name's parts, where the whole name may be `Okafor, Ines` or really only the family name."""
    parts = [part.strip() for part in full.split(",")]
    parts = [part for part in parts if part and fold(part).replace(" ", "") not in _CREDENTIALS]
    match parts:
        case [family, given]:
            return first or given, last or family, ""
        case [whole] if first and not last:  # `Vorname; Name` next to each other, or a first name beside a whole one
            return (first, "", whole) if _begins_with(whole, first) else (first, whole, "")
        case [whole]:
            return first, last, whole
    return first, last, full


def _begins_with(whole: str, first: str) -> bool:
    return f"{fold(whole)} ".startswith(f"{fold(first)} ")


def _email(text: str) -> str:
    """Find the first address in a cell that may hold `Ines <ines@quell.example>`, a `mailto:` link, or several."""
    words = re.split(r"[\s,;<>()\[\]\"]+|mailto:", text, flags=re.IGNORECASE)
    return next((word for word in (word.partition("?")[0].strip(".:'") for word in words) if normal_email(word)), "")


_HOST: Final = re.compile(r"[^\s@/:?#]+\.[^\s@/:?#.]{2,}")


def _domain(text: str) -> str:
    """Reduce a website or a domain to its host; nothing when it has none, or is a page on LinkedIn."""
    word = next(iter(re.split(r"[\s,;]+", text)))
    place = re.split(r"[/?#]", re.sub(r"^(\w+:)?//", "", word))[0]
    host = place.rpartition("@")[2].partition(":")[0]
    if "linkedin.com/" in word.lower() or not _HOST.fullmatch(host):
        return ""
    return normal_domain(host)
