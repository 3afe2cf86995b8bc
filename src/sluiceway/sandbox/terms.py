"""What the accounts at the imitated providers allow; a scenario may tighten any of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ApolloTerms:
    """Requests per window and endpoint (0 means no limit), and credits in all."""

    minute: int = 100_000
    hour: int = 1_000_000
    day: int = 10_000_000
    credits: int = 10_000_000


@dataclass(frozen=True, slots=True)
class ContactOutTerms:
    """How the account pays, which shapes `/stats`, and the credits in each of its three pools."""

    plan: str = "post-paid"
    credits: int = 10_000_000


@dataclass(frozen=True, slots=True)
class ExaTerms:
    """Searches per second; 0 means no limit."""

    limit: int = 0


@dataclass(frozen=True, slots=True)
class EdgarTerms:
    """Requests per second over all SEC hosts together; 0 means no limit."""

    limit: int = 10
