"""The answers, computed in plain Python from the ledger's and the activity's own rows; and how to spoil the sums."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter, defaultdict
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from sluiceway import activity, rollups
from sluiceway.outcome import ANSWERED, FAILURES
from sluiceway.rollups.durations import BOUNDS_US
from sluiceway.store.schema import metadata

Rows = dict[str, list[dict[str, Any]]]
Within = set[str]


def all_rows(connection: Connection) -> Rows:
    """Every row of what the answers are about, table by table: facts alone, no sums."""
    facts = "activity exported attempts source_results prospects external_usage".split()
    return {name: [dict(row) for row in connection.execute(select(metadata.tables[name])).mappings()] for name in facts}


def finished(rows: Rows, within: Within) -> list[dict[str, Any]]:
    return [a for a in rows["attempts"] if a["finished_at"] and a["day"] in within]


def closed(rows: Rows, within: Within) -> list[dict[str, Any]]:
    return [r for r in rows["source_results"] if r["closed_at"] and r["closed_at"][:10] in within]


def done(rows: Rows, within: Within, tenant: str | None = None) -> list[dict[str, Any]]:
    return [e for e in rows["activity"] if e["day"] in within and tenant in (None, e["tenant_id"])]


def rates(counts: Counter[str]) -> tuple[float | None, float | None]:
    answered = sum(counts[status] for status in ANSWERED)
    failed = sum(counts[status] for status in FAILURES)
    bought = counts["complete"] + counts["no_data"]
    return answered / (answered + failed) if answered + failed else None, counts[
        "complete"
    ] / bought if bought else None


def money(attempts: list[dict[str, Any]]) -> tuple[int, int]:
    """Known micro-dollars, and how many billed calls have no known price."""
    billed = [a for a in attempts if a["charge"] == "billed"]
    return sum(a["usd_micros"] or 0 for a in billed), sum(a["usd_micros"] is None for a in billed)


def bucket_bound(latencies: list[int], share: float) -> int | None:
    """The bound of the bucket that holds the quantile: of all sorted, the first that enough do not exceed."""
    if not latencies:
        return None
    ordered = sorted(latencies)
    at = next(value for place, value in enumerate(ordered, 1) if place >= share * len(ordered))
    bucket = bisect_left(BOUNDS_US, at)
    return BOUNDS_US[bucket] if bucket < len(BOUNDS_US) else None


def exported_on(rows: Rows) -> dict[tuple[str, str], str]:
    """The day of every (tenant, prospect) pair's last export."""
    when = {(e["tenant_id"], e["id"]): e["day"] for e in rows["activity"]}
    last: dict[tuple[str, str], str] = {}
    for row in rows["exported"]:
        key = (row["tenant_id"], row["prospect_id"])
        last[key] = max(last.get(key, ""), when[row["tenant_id"], row["activity_id"]])
    return last


def distinct(rows: Rows, within: Within, action: str, tenant: str | None) -> int:
    if action == "csv_exported":
        whose = [key for key, day in exported_on(rows).items() if day in within]
        return len({prospect for of, prospect in whose if tenant in (None, of)})
    return len({e["target"] for e in done(rows, within, tenant) if e["action"] == action and e["target"]})


def unviewed(rows: Rows, within: Within, tenant: str | None) -> tuple[int, int]:
    viewed = {e["target"] for e in rows["activity"] if e["action"] == "profile_viewed"}
    mine = [
        a for a in finished(rows, within)
        if a["prospect_id"] and a["prospect_id"] not in viewed and tenant in (None, a["tenant_id"])
    ]  # fmt: skip
    return money(mine)


def usage(
    rows: Rows, within: Within, group_by: list[str], which: dict[str, str]
) -> dict[tuple[str, ...], Counter[str]]:
    columns = {"tenant": "tenant_id", "user": "user_id", "key": "api_key_id", "batch": "batch_id"}

    def value(attempt: dict[str, Any], by: str) -> str:
        match by:
            case "hour":
                return f"{attempt['day']}T{attempt['hour']:02}Z"
            case "charge":
                return attempt["charge"] or "open"
            case _:
                return attempt[columns.get(by, by)] or ""

    found: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for attempt in rows["attempts"]:
        if attempt["day"] in within and all(value(attempt, by) == wanted for by, wanted in which.items()):
            sums = found[tuple(value(attempt, by) for by in group_by)]
            sums["attempts"] += 1
            sums[attempt["charge"] or "open"] += 1
            for name in ("milli_credits", "usd_micros"):
                sums[name] += attempt[name] or 0
            sums["unpriced"] += attempt["charge"] == "billed" and attempt["usd_micros"] is None
    return found


def spoil(connection: Connection, luck: random.Random) -> None:
    """Change sums, take some away and invent others, in every table of sums."""
    for rollup in (*rollups.ALL, activity.USER_DAYS, activity.ACTION_DAYS):
        held = connection.execute(select(rollup.table)).mappings().all()
        for row in luck.sample(held, min(3, len(held))):
            key = [rollup.table.c[name] == row[name] for name in rollup.key]
            change = {name: row[name] + luck.randint(1, 9) for name in rollup.sums}
            connection.execute(update(rollup.table).where(*key).values(change))
        for row in luck.sample(held, min(2, len(held))):
            connection.execute(delete(rollup.table).where(*[rollup.table.c[name] == row[name] for name in rollup.key]))
        invented = {
            **held[0],
            "day": held[0]["day"],
            next(n for n in rollup.key if n not in ("day", "hour", "bucket")): "x",
        }
        connection.execute(insert(rollup.table).values(invented))
    connection.execute(delete(metadata.tables["error_groups"]))
