"""ContactOut, imitated: people/enrich, people/linkedin and stats, with its three pools of credits."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from sluiceway.sandbox.wire import encode, json_answer, judge_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sluiceway.sandbox.companies import Company
    from sluiceway.sandbox.terms import ContactOutTerms
    from sluiceway.sandbox.wire import Answer, Ask, Bend
    from sluiceway.sandbox.world import Person, World

ENRICH, LINKEDIN, STATS = "/v1/people/enrich", "/v1/people/linkedin", "/v1/stats"
_PRIMARY = ("linkedin_url", "email", "phone")
_SECONDARY = ("company", "company_domain", "education", "location", "job_title")
_INCLUDABLE = ("work_email", "personal_email", "phone")
_SENIORITIES = {"c_suite": "CXO", "founder": "Owner", "vp": "VP", "director": "Director", "manager": "Manager"}
_PERIOD = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


@dataclass(slots=True)
class Pools:
    """How many credits of each pool a key has used."""

    search: int = 0
    email: int = 0
    phone: int = 0


class ContactOut:
    """The provider `contactout`."""

    name = "contactout"

    def __init__(self, world: World, terms: ContactOutTerms) -> None:
        self._world = world
        self._terms = terms
        self._used: dict[str, Pools] = {}
        self._routes: dict[tuple[str, str], Callable[[Ask, Bend | None], Answer]] = {
            ("POST", ENRICH): self._enrich,
            ("GET", LINKEDIN): self._linkedin,
            ("GET", STATS): self._stats,
        }

    def credential(self, ask: Ask) -> str:
        """Read the key; the `authorization: basic` sent along with it means nothing."""
        return ask.headers.get("token", "")

    def answer(self, ask: Ask, bend: Bend | None) -> Answer:
        """Decide the answer to one request."""
        bend = judge_key(self.credential(ask)) or bend
        match bend:
            case "bad-key" | "revoked":
                return _said(400, "Bad credentials")
            case "no-scope":
                return _said(403, "No access to endpoint")
            case "canned":
                return _CANNED_STATS if ask.path == STATS else _CANNED_PROFILE
        route = self._routes.get((ask.method, ask.path))
        return _said(404, "Not Found") if route is None else route(ask, bend)

    def refuse(self, status: int, retry_after: int | None) -> Answer:
        """Word a refusal that has nothing to do with the request."""
        headers = () if retry_after is None else (("retry-after", str(retry_after)),)
        text = "Too Many Requests" if status == 429 else "Server Error"
        return json_answer(status, {"status_code": status, "message": text}, headers)

    def _enrich(self, ask: Ask, bend: Bend | None) -> Answer:
        wanted = ask.json()
        if not isinstance(wanted, dict) or not _is_enough(wanted):
            return _said(401, "Bad request")
        include = wanted.get("include", [])
        if not isinstance(include, list) or not all(each in _INCLUDABLE for each in include):
            return _said(401, "Bad request")
        if self._is_out(ask, bend):
            return _OUT_OF_CREDITS
        person = self._known(*_look_up(self._world, wanted), bend)
        if person is None:
            return _said(404, "Not Found")
        contacts = _contacts(person, include)
        self._charge(ask, contacts, search=1)
        return json_answer(200, {"status_code": 200, "profile": _profile(person, contacts)})

    def _linkedin(self, ask: Ask, bend: Bend | None) -> Answer:
        url = ask.query.get("profile", "")
        if "linkedin.com/in/" not in url and "linkedin.com/pub/" not in url:
            return _said(401, "Bad request")
        if self._is_out(ask, bend):
            return _OUT_OF_CREDITS
        person = self._known(self._world.by_linkedin(url), False, bend)
        if person is None:
            return _said(404, "Not Found")
        contacts = _contacts(person, _asked_contacts(ask.query))
        self._charge(ask, contacts, search=0)
        return json_answer(200, {"status_code": 200, "profile": _short_profile(person, contacts)})

    def _known(self, person: Person | None, by_name_only: bool, bend: Bend | None) -> Person | None:
        if person is None or not person.in_contactout:
            return None
        mistaken = bend == "namesake" or (by_name_only and person.shares_a_name)
        return self._world.namesake(person) if mistaken else person

    def _is_out(self, ask: Ask, bend: Bend | None) -> bool:
        used = self._pools(ask)
        return bend == "out-of-credits" or max(used.search, used.email, used.phone) >= self._terms.credits

    def _pools(self, ask: Ask) -> Pools:
        return self._used.setdefault(self.credential(ask), Pools())

    def _charge(self, ask: Ask, contacts: dict[str, list[str]], search: int) -> None:
        used = self._pools(ask)
        used.search += search
        used.email += bool(contacts["email"])
        used.phone += bool(contacts["phone"])

    def _stats(self, ask: Ask, bend: Bend | None) -> Answer:
        today = self._world.today
        period = _PERIOD.fullmatch(ask.query.get("period") or f"{today:%Y-%m}")
        if period is None:
            return _said(401, "Bad request")
        year, month = int(period[1]), int(period[2])
        used = self._pools(ask) if (year, month) == (today.year, today.month) else Pools()
        dates = {
            "start": f"{period[0]}-01",
            "end": f"{period[0]}-{calendar.monthrange(year, month)[1]}",
        }
        return json_answer(200, {"status_code": 200, "period": dates, "usage": self._usage(used, bend)})

    def _usage(self, used: Pools, bend: Bend | None) -> dict[str, int]:
        usage: dict[str, int] = {}
        for prefix, count in (("", used.email), ("phone_", used.phone), ("search_", used.search)):
            left = 0 if bend == "out-of-credits" else max(0, self._terms.credits - count)
            usage[f"{prefix}count"] = count
            if self._terms.plan == "pre-paid":
                usage[f"{prefix}quota"] = left  # on these accounts the quota is what is left, not what was bought
                continue
            usage |= {f"{prefix}quota": count + left, f"{prefix}remaining": left, f"{prefix}over_quota": 0}
        return usage


def _said(status: int, message: str) -> Answer:
    return json_answer(status, {"status_code": status, "message": message})


_OUT_OF_CREDITS = _said(
    403, "You're out of credits, please email your sales manager or book a meeting to get more of them."
)


def _is_enough(wanted: Mapping[str, Any]) -> bool:
    """Check for a primary key, or a name with something to go by beside it."""
    if any(wanted.get(key) for key in _PRIMARY):
        return True
    named = wanted.get("full_name") or (wanted.get("first_name") and wanted.get("last_name"))
    return bool(named and any(wanted.get(key) for key in _SECONDARY))


def _look_up(world: World, wanted: Mapping[str, Any]) -> tuple[Person | None, bool]:
    """Find whom the keys mean; the second value says the name was all there was to go by."""
    if found := world.by_linkedin(_text(wanted.get("linkedin_url"))):
        return found, False
    if found := world.by_email(_text(wanted.get("email"))):
        return found, False
    name = _text(wanted.get("full_name")) or f"{_text(wanted.get('first_name'))} {_text(wanted.get('last_name'))}"
    for key in ("company_domain", "company"):
        for employer in _listed(wanted.get(key)):
            where = {"domain": employer} if key == "company_domain" else {"company": employer}
            if found := world.by_name(name, **where):
                return found, True
    return None, True


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _listed(value: object) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items[:10] if isinstance(item, str)]


def _asked_contacts(query: Mapping[str, str]) -> list[str]:
    kinds = query.get("email_type", "personal,work").split(",")
    include = [f"{kind}_email" for kind in kinds if kind in ("personal", "work")]
    return [*include, "phone"] if query.get("include_phone") == "true" else include


def _contacts(person: Person, include: Iterable[str]) -> dict[str, list[str]]:
    """Give the contact arrays; whatever was not asked for is empty."""
    held = {
        "work_email": person.email if person.email_status != "unavailable" else None,
        "personal_email": person.personal_email,
        "phone": person.phone,
    }
    arrays = {kind: [value] if value and kind in include else [] for kind, value in held.items()}
    return {"email": arrays["work_email"] + arrays["personal_email"], **arrays}


def _short_profile(person: Person, contacts: dict[str, list[str]]) -> dict[str, Any]:
    status = "Verified" if person.email_status == "verified" else "Unverified"
    return {
        "url": f"https://linkedin.com/in/{person.slug}",
        **contacts,
        "work_email_status": dict.fromkeys(contacts["work_email"], status),
        "github": [],
    }


def _profile(person: Person, contacts: dict[str, list[str]]) -> dict[str, Any]:
    company = person.company
    return {
        "url": f"https://linkedin.com/in/{person.slug}",
        **contacts,
        "github": [],
        "twitter": [],
        "full_name": person.name,
        "headline": f"{person.title} at {company.name}",
        "industry": company.industry.title(),
        "company": _company(company),
        "location": f"{company.city}, {company.country}",
        "country": company.country,
        "summary": f"{person.title} at {company.name} since {person.since.year}.",
        "languages": [{"name": "English", "proficiency": "Professional"}],
        "experience": [_experience(person)],
        "education": [_education(person)],
        "skills": [person.function.title()],
        "certifications": [],
        "publications": [],
        "projects": [],
        "followers": person.followers,
        "job_function": person.function.title(),
        "seniority": _SENIORITIES.get(person.seniority, "Senior"),
        "work_status": None,
        "profile_picture_url": None,
        "updated_at": f"{person.since} 11:20:05",
    }


def _experience(person: Person) -> dict[str, Any]:
    since = person.since
    return {
        "start_date": f"{since.year}{since.month}",  # glued without padding: 20223 is March 2022
        "end_date": "",
        "title": person.title,
        "summary": "",
        "locality": person.company.city,
        "company_name": person.company.name,
        "linkedin_url": _page(person.company),
        "start_date_year": since.year,
        "start_date_month": since.month,
        "end_date_year": None,
        "end_date_month": None,
        "is_current": True,
    }


def _education(person: Person) -> dict[str, Any]:
    end = person.since.year - 6
    return {
        "field_of_study": person.field_of_study,
        "description": None,
        "start_date_year": str(end - 4),
        "end_date_year": str(end),
        "degree": "BSc",
        "school_name": person.school,
    }


def _page(company: Company) -> str:
    return f"https://linkedin.com/company/{company.domain.removesuffix('.example')}"


@lru_cache(maxsize=16_384)
def _company(company: Company) -> msgspec.Raw:
    return msgspec.Raw(encode({
        "name": company.name,
        "url": _page(company),
        "linkedin_company_id": 9_000_000 + company.number,
        "domain": company.domain,
        "email_domain": company.domain,
        "overview": f"{company.name} works in {company.industry}.",
        "type": "Public Company" if company.ticker else "Privately Held",
        "size": company.employees,
        "country": company.country,
        "revenue": company.revenue,
        "founded_at": company.founded,
        "industry": company.industry.title(),
        "headquarter": company.city,
        "website": f"https://{company.domain}",
        "logo_url": None,
        "specialties": [company.industry],
        "locations": [f"{company.city}, {company.country_code}"],
    }))  # fmt: skip


# what a key without credits or access gets instead of an error: a sample that looks like an answer
_CANNED_PROFILE = json_answer(
    200,
    {
        "status_code": 200,
        "message": "This is a sample response. Book a call with our team to get access to live data.",
        "profile": {
            "url": "https://linkedin.com/in/example-person",
            "email": ["email1@example.com", "email2@example.com"],
            "work_email": ["email1@example.com"],
            "personal_email": ["email2@example.com"],
            "work_email_status": {"email1@example.com": "Verified"},
            "phone": ["phone number 1"],
            "github": ["example-person"],
            "twitter": ["example-person"],
            "full_name": "Example Person",
            "headline": "Headline",
            "company": {"name": "Example Company", "domain": "example.com"},
        },
    },
)
_CANNED_STATS = json_answer(
    200,
    {
        "status_code": 200,
        "period": {"start": "2023-04-01", "end": "2023-04-30"},
        "usage": {"count": 0, "quota": 200, "remaining": 200, "over_quota": 0},
    },
)
