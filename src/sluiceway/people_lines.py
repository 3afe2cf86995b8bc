"""Reading a list of people that a program wrote: one JSON object per line, with the field names of a person."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, Self

import msgspec

from sluiceway.errors import BadInput
from sluiceway.people_file import TARGETS
from sluiceway.people_row import Reject, Row, judged

_LONGEST_LINE: Final = 1_000_000
_SAMPLE_LINES: Final = 200
_MOST_NAMED: Final = 20
_BOM: Final = b"\xef\xbb\xbf"
_NOTHING: Final = b" \t\r\n"

_Text = str | None
_Id = str | Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None  # a database's own ids are numbers
_Said = msgspec.defstruct("_Said", [(name, _Id if name == "external_id" else _Text, None) for name in TARGETS])


class _Line(NamedTuple):
    line: int
    text: bytes


class PeopleLines(msgspec.Struct, frozen=True):
    """A list of people, one JSON object per line, that was looked at and can be read.

    `names` are the fields of a person that its first lines have; `notes` are sentences for whoever gave it to us.
    """

    path: Path
    names: tuple[str, ...]
    notes: tuple[str, ...]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Look at the first lines; raises `BadInput` when they are no JSON objects, or there is none."""
        named: dict[str, None] = {}
        sample = list(islice(_lines(path), _SAMPLE_LINES))
        if not sample:
            raise BadInput(f"{path} is empty")
        found = [keys for keys in (_keys(line.text) for line in sample) if keys is not None]
        if not found:
            raise BadInput(
                f"{path}: line {sample[0].line} is no JSON object; write one person per line, for example "
                '{"full_name": "Ines Okafor", "company": "Quell Holdings", "email": "ines@quell.example"}'
            )
        for keys in found:
            named |= dict.fromkeys(keys)
        return cls(path, tuple(name for name in TARGETS if name in named), _notes([*named]))

    def read(self) -> Generator[Row | Reject, None, None]:
        """Yield every row in order; empty lines are no rows, and rows have no cells."""
        for number, (line, text) in enumerate(_lines(self.path)):
            yield _judged(line, number, text)


def _judged(line: int, number: int, text: bytes) -> Row | Reject:
    if len(text) > _LONGEST_LINE:
        return Reject(line, number, "is too long to be a row", [])
    try:
        said = msgspec.json.decode(text, type=_Said)
    except msgspec.ValidationError as wrong:
        return Reject(line, number, _of_another_kind(wrong), [])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Reject(line, number, "is not JSON", [])
    return judged(line, number, _typed(msgspec.structs.asdict(said)), [])


def _typed(said: Mapping[str, Any]) -> dict[str, str]:
    return {target: str(value) for target, value in said.items() if value is not None}


def _of_another_kind(wrong: msgspec.ValidationError) -> str:
    """Say which field is no text; never what it holds."""
    name = str(wrong).rpartition("`$.")[2].rstrip("`")
    return f"has something other than text in {name}" if name in TARGETS else "is no JSON object"


def _keys(text: bytes) -> list[str] | None:
    try:
        return list(msgspec.json.decode(text, type=dict[str, msgspec.Raw]))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _notes(named: list[str]) -> tuple[str, ...]:
    unknown = [f'"{name[:40]}"' for name in named if name not in TARGETS]
    if not unknown:
        return ()
    more = f" and {len(unknown) - _MOST_NAMED} more" if len(unknown) > _MOST_NAMED else ""
    return (f"These fields are not used: {', '.join(unknown[:_MOST_NAMED])}{more}.",)


def _lines(path: Path) -> Iterator[_Line]:
    """Yield the lines that have anything on them; one beyond any sense is cut to just over what a line may hold."""
    try:
        with path.open("rb") as file:
            number, most = 0, _LONGEST_LINE + 1
            while text := file.readline(most):
                number += 1
                if filled := (text.removeprefix(_BOM) if number == 1 else text).strip(_NOTHING):
                    yield _Line(number, filled)
                while len(text) == most and not text.endswith(b"\n"):
                    text = file.readline(most)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
