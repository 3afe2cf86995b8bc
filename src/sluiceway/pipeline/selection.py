"""Which prospects are meant: by how they stand, what they came with, or when they came."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import JSON, ColumnElement, and_, exists, func, or_, select, type_coerce

from sluiceway.store.schema import batch_rows

_ESCAPED: Final = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})


class Selection(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Prospects that are everything asked for here; nothing asked for is all of them.

    `enrichment_status` is any of these; `source_status` says how sources stand (`{"exa": "failed"}`); `text` is in what
    they were asked with, whatever its case. Moments are stamps, the first included and the last not.
    """

    enrichment_status: tuple[str, ...] = ()
    source_status: dict[str, str] = {}
    batch_id: str = ""
    external_id: str = ""
    text: str = ""
    created_from: str = ""
    created_to: str = ""


def matching(selection: Selection, p: Any) -> ColumnElement[bool]:
    """Return the condition that prospects meet who are meant; `p` are the columns of prospects."""
    conditions: list[ColumnElement[bool]] = []
    if selection.enrichment_status:
        conditions.append(p.enrichment_status.in_(selection.enrichment_status))
    conditions += [_stands(p, source, status) for source, status in sorted(selection.source_status.items())]
    if selection.batch_id:
        row = batch_rows.c
        conditions.append(exists(select(row.number).where(row.batch_id == selection.batch_id, row.prospect_id == p.id)))
    if selection.external_id:
        conditions.append(p.external_id == selection.external_id)
    if selection.text:
        pattern = f"%{selection.text.lower().translate(_ESCAPED)}%"
        conditions.append(func.lower(p.person).like(pattern, escape="\\"))
    if selection.created_from:
        conditions.append(p.created_at >= selection.created_from)
    if selection.created_to:
        conditions.append(p.created_at < selection.created_to)
    return and_(True, *conditions)


def _stands(p: Any, source: str, status: str) -> ColumnElement[bool]:
    """Tell how a source stands; rows of old hold the bare status."""
    said = type_coerce(p.enrichment_source_status, JSON)[source]
    return or_(said["status"].as_string() == status, said.as_string() == status)
