"""Asking for batches over HTTP: named, filtered, priced, capped, followed, stopped."""

from __future__ import annotations

from people import with_people
from served import Served


def test_one_prospect_is_enriched_while_one_waits(served: Served) -> None:
    (prospect,) = with_people(served, 1)
    answer = served.post(f"/prospects/{prospect}/enrich", headers={"Prefer": "wait=20"})
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert said["enrichment_status"] == "complete"
    assert said["enrichment_source_status"]["apollo"]["status"] in ("complete", "no_data")
    assert said["fields"]["title"]["source"]
