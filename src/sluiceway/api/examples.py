"""Examples of answers, made from their kinds: what a field is called says what stands in it."""

from __future__ import annotations

from typing import Any, Final

from msgspec import inspect

_AT: Final = "2026-11-24T15:04:05.678Z"
_ID: Final = "01a21ab09af7758bb53aa20234f46312"
_NAMED: Final[dict[str, Any]] = {
    "action": "profile_viewed", "apollo_id": "66f0a1b2c3d4e5f60718293a", "batch_id": _ID, "charge": "billed",
    "company": "Harbourline Robotics", "day": "2026-11-24", "detail": "say who you are",
    "domain": "harbourline.example",
    "email": "ines@harbourline.example", "endpoint": "people/match", "external_id": "crm-4711", "field": "title",
    "first_name": "Ines", "full_name": "Ines Okafor-Lind", "hour": 15, "http_status": 200, "id": _ID,
    "last_name": "Okafor-Lind", "line": 7, "linkedin_url": "https://linkedin.com/in/ines-okafor-lind",
    "milli_credits": 1000,
    "name": "Ines Okafor-Lind", "provider": "apollo", "since": "2026-11-11", "source": "apollo", "status": "complete",
    "tenant_id": "acme", "title": "Chief Financial Officer", "trigger": "api", "until": "2026-11-24", "unit": "credits",
    "url": "https://crm.acme.example/sluiceway", "usd_micros": 26000, "value": 0.97,
}  # fmt: skip
"""What usually stands in fields of these names; others have something of their kind."""

_KEYS: Final = {"fields": "work_email", "outcomes": "apollo", "spent": "apollo", "sources": "apollo"}


def example_of(kind: Any) -> Any:
    """Return an example of a kind of answer, as JSON would hold it."""
    return _of(inspect.type_info(kind), "")


def _of(kind: inspect.Type, name: str) -> Any:
    match kind:
        case inspect.StructType(fields=fields, tag_field=tag_field, tag=tag):
            tagged = {tag_field: tag} if tag_field else {}
            return tagged | {field.encode_name: _of(field.type, field.name) for field in fields}
        case inspect.ListType(item_type=item) | inspect.CollectionType(item_type=item):
            return [_of(item, name.removesuffix("s"))]
        case inspect.VarTupleType(item_type=item):
            return [_of(item, name.removesuffix("s"))]
        case inspect.TupleType(item_types=items):
            return [_of(item, name) for item in items]
        case inspect.DictType(value_type=value):
            return {_KEYS.get(name, "apollo"): _of(value, "")}
        case inspect.UnionType(types=types):
            return _of(next(each for each in types if not isinstance(each, inspect.NoneType)), name)
        case inspect.EnumType(cls=cls):
            return next(iter(cls)).value
        case inspect.LiteralType(values=values):
            return values[0]
    return _plain(kind, name)


def _plain(kind: inspect.Type, name: str) -> Any:
    """Return a value of a simple kind that fits a field's name."""
    known = _NAMED.get(name)
    match kind:
        case inspect.BoolType():
            return True
        case inspect.IntType():
            return known if isinstance(known, int) else 12
        case inspect.FloatType():
            return known if isinstance(known, float) else 0.5
        case inspect.StrType() if isinstance(known, str):
            return known
        case inspect.StrType() if name.endswith("_id"):
            return _ID
        case inspect.StrType():
            return _AT if name == "at" or name.endswith(("_at", "_from", "_to")) else "…"
        case inspect.DateTimeType():
            return _AT
        case inspect.DateType():
            return _NAMED["day"]
    return known or "…"  # whatever it is, it is not null, which the document would leave out
