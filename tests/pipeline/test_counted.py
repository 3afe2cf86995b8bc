"""Each provider's counter moves only when the ledger holds a confirmed answer that the provider counts."""

from __future__ import annotations

from typing import Any

from desk import FOUND, Desk, Open
from sqlalchemy import select

from builders import INES, rows
from sluiceway.outcome import ChargeKind
from sluiceway.pipeline.caller import Budget
from sluiceway.pipeline.turns import Behalf
from sluiceway.sources._contract import Request, Subject
from sluiceway.store.schema import attempts, daily_totals

SUMMARY = "Ines Okafor-Lind is Chief Financial Officer of Harbourline Robotics."
PROFILE = {"url": "https://linkedin.com/in/ines", "full_name": "Ines Okafor-Lind", "company": "Harbourline Robotics",
           "work_email": ["ines@harbourline.example"], "email": ["ines@harbourline.example"],
           "personal_email": [], "phone": []}  # fmt: skip
ARTICLE = {"url": "https://news.example/1", "title": "Ines Okafor-Lind joins Harbourline Robotics", "text": "..."}
MESSAGE = {
    "model": "claude-haiku-5-5", "stop_reason": "end_turn", "usage": {"input_tokens": 400, "output_tokens": 50},
    "content": [{"type": "text", "text": f'{{"summary": "{SUMMARY}", "wealth_signals": []}}'}],
}  # fmt: skip
MAP = {"0": {"cik_str": 1234, "ticker": "HBLR", "title": "Harbourline Robotics, Inc."}}


class Counting:
    """One provider's first request about Ines, sent as often as a test likes."""

    def __init__(self, at: Desk, provider: str) -> None:
        self.at = at
        self.provider = provider
        self.source = at.app.sources[provider]
        findings = {"apollo": {"title": "Chief Financial Officer", "company": "Harbourline Robotics"}}
        self.subject = Subject(INES, at.app.settings.want, at.store.clock.now().date(), findings)
        request = next(self.source.ask(self.subject))
        assert isinstance(request, Request)
        self.request = request

    async def send(self, *statuses: int, expect: ChargeKind, **more: Any) -> None:
        """Have the provider answer so, and see what the counter says before and after."""
        at, before = self.at, self.at.total(self.provider)
        at.answers(*statuses, provider=self.provider, **more)
        behalf = Behalf("api", "default", None, None, None)
        attempt = await at.caller().turns.begin(self.source, self.request, behalf)
        assert self._charge_of(attempt.id) is None
        assert at.total(self.provider) == before
        obtained = await at.caller().obtain(self.source, self.subject, self.request, behalf, Budget(0), attempt)
        assert at.total(self.provider) == before
        await at.write(obtained.finish)
        assert obtained.finish.charge.kind is expect
        assert at.total(self.provider) == before + (expect is ChargeKind.BILLED)

    def _charge_of(self, attempt_id: str) -> Any:
        with self.at.store.read() as connection:
            return connection.execute(select(attempts.c.charge).where(attempts.c.id == attempt_id)).scalar_one()


async def counted_only_after_a_confirmed_answer(desk: Open, provider: str, body: Any) -> None:
    async with desk(provider) as at:
        counting = Counting(at, provider)
        await counting.send(500, 500, 500, expect=ChargeKind.FREE)
        await counting.send(200, 200, 200, expect=ChargeKind.UNKNOWN, body=body, cut="truncate", billed=False)
        await counting.send(409, expect=ChargeKind.FREE, body='{"error": "no"}')
        assert at.total(provider) == 0
        await counting.send(200, expect=ChargeKind.BILLED, body=body)
        await counting.send(200, expect=ChargeKind.BILLED, body=body)
        assert at.total(provider) == 2
        days = {attempt["day"] for attempt in at.attempts() if attempt["charge"] == "billed"}
        assert {total["name"] for total in rows(at.store, daily_totals)} == {f"api_usage:{provider}:{d}" for d in days}


async def test_apollo_is_counted_only_after_a_confirmed_answer(desk: Open) -> None:
    await counted_only_after_a_confirmed_answer(desk, "apollo", FOUND)


async def test_contactout_is_counted_only_after_a_confirmed_answer(desk: Open) -> None:
    await counted_only_after_a_confirmed_answer(desk, "contactout", {"status_code": 200, "profile": PROFILE})


async def test_exa_is_counted_only_after_a_confirmed_answer(desk: Open) -> None:
    await counted_only_after_a_confirmed_answer(desk, "exa", {"results": [ARTICLE], "costDollars": {"total": 0.007}})


async def test_edgar_is_counted_only_after_a_confirmed_answer(desk: Open) -> None:
    await counted_only_after_a_confirmed_answer(desk, "edgar", MAP)


async def test_claude_is_counted_only_after_a_confirmed_answer(desk: Open) -> None:
    await counted_only_after_a_confirmed_answer(desk, "claude", MESSAGE)
