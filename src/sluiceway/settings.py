"""One frozen `Settings`, read once from the environment and a `.env` file."""

from __future__ import annotations

import os
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sluiceway.errors import BadSetting
from sluiceway.prospect import Want

ENV_FILE = ".env"

LEAST_ATTEMPTS_DAYS = 93
"""Days for which calls are kept at least: counters live for 90 in Redis, and a billing cycle has up to 31."""


class OnUnknown(StrEnum):
    """What to do about a request that may have been billed and whose answer was lost."""

    ASK_ONCE = "ask-once"
    LEAVE = "leave"


class LogForm(StrEnum):
    """How the service writes its log: `auto` is text on a terminal and JSON everywhere else."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


DATABASE_URL = "sqlite:///sluiceway.db"
"""The store used when none is set: a file in the current folder."""

SANDBOX_DATABASE_URL = "sqlite:///sluiceway-sandbox.db"
"""The store used for a sandbox when none is set, so that a trial never mixes with the real thing."""


class Settings(BaseSettings):
    """Everything that can be set. Names in the environment start with `SLUICEWAY_`, except providers' own keys."""

    model_config = SettingsConfigDict(
        env_prefix="SLUICEWAY_", env_file=ENV_FILE, env_file_encoding="utf-8", extra="ignore", frozen=True,
        populate_by_name=True,
    )  # fmt: skip

    database_url: str = Field(DATABASE_URL, description="Where the ledger is kept, as an SQLAlchemy URL.")
    apollo_api_key: SecretStr = Field(SecretStr(""), alias="APOLLO_API_KEY", description="Key for Apollo.")
    contactout_api_key: SecretStr = Field(SecretStr(""), alias="CONTACTOUT_API_KEY", description="Key for ContactOut.")
    exa_api_key: SecretStr = Field(SecretStr(""), alias="EXA_API_KEY", description="Key for Exa.")
    anthropic_api_key: SecretStr = Field(SecretStr(""), alias="ANTHROPIC_API_KEY", description="Key for Claude.")
    sec_edgar_user_agent: str = Field(
        "", alias="SEC_EDGAR_USER_AGENT", description="Your name and e-mail, which the SEC asks of every caller."
    )
    want: tuple[Want, ...] = Field(
        (Want.WORK_EMAIL,), description="Contact data to buy: work_email, personal_email, phone."
    )
    redis_url: SecretStr = Field(
        SecretStr(""),
        description="Redis for the public counters and for limits, such as redis://localhost; none by default.",
    )
    usage_key_prefix: str = Field(
        "", description="Put before every key in Redis, to keep two installations or another writer apart."
    )
    secret_key: SecretStr = Field(
        SecretStr(""), description="What tenants' own keys are sealed with; by default a file beside the store."
    )
    public_url: str = Field("http://127.0.0.1:8080", description="Where people reach Sluiceway; for links.")
    webhook_allow: str = Field(
        "", description="Private hosts, addresses and networks that webhooks and alerts may reach, comma separated."
    )
    alert_unknown_calls: int = Field(
        20, ge=0, description="Calls of unknown charge within a day that operators are alerted about; 0 never."
    )
    trusted_proxies: tuple[str, ...] = Field(
        (),
        description="Addresses of proxies in front, as JSON, whose word on who asks is taken: what they forward for.",
    )
    quotas_file: str = Field("", description="A TOML file of quotas that hold besides those set with `quota set`.")
    concurrency: int = Field(50, ge=1, le=2000, description="Prospects enriched at the same time.")
    wait_at_most_s: float = Field(
        7200.0, ge=0, description="Seconds a command stays for work that has to wait for a limit or a provider's rest."
    )
    on_unknown: OnUnknown = Field(
        OnUnknown.ASK_ONCE, description="After a request that may have been billed: ask-once or leave."
    )
    fresh_days: int = Field(30, ge=0, description="Days for which what was bought is not bought again.")
    pace: dict[str, float] = Field({}, description='Requests per second by source, as JSON: {"edgar": 9}.')
    timeout_s: dict[str, float] = Field({}, description="Seconds one request may take, by source, as JSON.")
    base_urls: dict[str, str] = Field({}, description="A provider's address by source, as JSON; for a proxy.")
    claude_model: str = Field("claude-haiku-5-5", description="The model that writes summaries.")
    meter_every_s: float = Field(
        300.0, ge=0, description="Seconds between two looks at the providers' own meters; 0 never looks."
    )
    suppression_key: SecretStr = Field(
        SecretStr(""), description="Secret that the suppression list is hashed with; one of the store's own by default."
    )
    purpose: str = Field("", description="What people's data are held for, as a person's report says.")
    keep_people_days: int = Field(
        0, ge=0, description="Days after which people whom nobody asked about again are erased; 0 keeps them."
    )
    keep_attempts_days: int = Field(
        400, ge=0, description="Days for which single calls are kept; 0 keeps them. Their sums are kept anyway."
    )
    upload_most_mb: int = Field(100, ge=1, le=100_000, description="Megabytes that an uploaded file may have at most.")
    log: LogForm = Field(LogForm.AUTO, description="How `serve` writes its log: text, json or auto.")
    metrics_token: SecretStr = Field(
        SecretStr(""), description="Bearer token that reads /metrics from beyond this machine."
    )
    commit_interval_ms: float = Field(3.0, ge=0, le=1000, description="How long a commit waits for company.")

    @field_validator("redis_url")
    @classmethod
    def _of_a_redis(cls, url: SecretStr) -> SecretStr:
        if said := url.get_secret_value():
            parts = urlsplit(said)
            if parts.scheme not in ("redis", "rediss", "unix") or not _has_a_port_or_none(said):
                raise ValueError("is not a URL such as redis://localhost:6379")
        return url

    @field_validator("trusted_proxies")
    @classmethod
    def _of_addresses(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for each in proxies:
            ip_network(each)  # whose ValueError says what is wrong
        return proxies

    @field_validator("keep_attempts_days")
    @classmethod
    def _none_or_enough(cls, days: int) -> int:
        if 0 < days < LEAST_ATTEMPTS_DAYS:
            raise ValueError(f"must be 0 or at least {LEAST_ATTEMPTS_DAYS}: counters and limits need their calls")
        return days

    @property
    def chose_store(self) -> bool:
        """Whether a store was set, rather than left to the default."""
        return "database_url" in self.model_fields_set

    def credential(self, variable: str) -> str:
        """Return a source's credential by its environment variable's name, `""` when it is not set."""
        known = self.model_dump(by_alias=True).get(variable)
        if known is not None:
            return known.get_secret_value() if isinstance(known, SecretStr) else str(known)
        return os.environ.get(variable) or _from_env_file(variable)

    def secrets(self) -> list[str]:
        """Return every secret we hold, for redaction."""
        held = [value.get_secret_value() for value in self.model_dump().values() if isinstance(value, SecretStr)]
        return held + _passwords_in(self.redis_url.get_secret_value()) + _passwords_in(self.database_url)


def _has_a_port_or_none(url: str) -> bool:
    try:
        urlsplit(url).port  # noqa: B018 - reading it is what finds out
    except ValueError:
        return False
    return True


def _passwords_in(url: str) -> list[str]:
    try:
        password = urlsplit(url).password
    except ValueError:  # whoever opens that address says what is wrong with it
        return []
    return [password, unquote(password)] if password else []


def _from_env_file(variable: str) -> str:
    from dotenv import dotenv_values

    return dotenv_values(ENV_FILE).get(variable) or "" if Path(ENV_FILE).is_file() else ""


def load_settings(**given: Any) -> Settings:
    """Read the settings; keyword arguments that are not `None` win over the environment.

    Raises `BadSetting` with one line per mistake.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)]
        raise BadSetting("; ".join(lines)) from None
    except ValueError as error:  # a JSON setting that is not JSON
        raise BadSetting(str(error)) from None
