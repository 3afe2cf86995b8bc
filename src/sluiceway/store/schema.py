"""Every table, in the order data flows through them.

Moments are text, ISO 8601 UTC with milliseconds, so they sort as they read; a day is a UTC day. Money is integer
micro-dollars and credits are integer milli-credits, `NULL` where unknown. Tenant-owned rows carry `tenant_id`.
Nothing has a foreign key to attempts, which are dropped by age.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()


def _text(name: str, *, optional: bool = False) -> Column[str]:
    return Column(name, Text, nullable=optional)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


def _amount(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=True)


def _failed(name: str, *columns: str) -> Index:
    """Index only source results that failed, which are few."""
    failed = text("fingerprint IS NOT NULL")
    return Index(name, *columns, sqlite_where=failed, postgresql_where=failed)


def _charges() -> list[Column[int]]:
    """Return the columns that finished attempts are summed in."""
    names = ("attempts", "billed", "free", "unknown", "not_sent", "milli_credits", "usd_micros", "unpriced")
    return [_count(name) for name in names]


facts = Table(
    "facts",
    metadata,
    Column("name", Text, primary_key=True),
    _text("value"),
    comment="What is true of the whole store, such as whether its answers come from the real providers.",
)

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    _text("host"),
    Column("pid", Integer, nullable=False),
    _text("started_at"),
    comment="Processes that may hold open attempts; one is proven dead when its lock file is free.",
)

batches = Table(
    "batches",
    metadata,
    Column("id", Text, primary_key=True),
    _text("tenant_id"),
    _text("name"),
    _text("digest"),
    _text("options"),
    _text("trigger"),
    _text("asked_by", optional=True),
    Column("refresh", Boolean, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("rows", Integer, nullable=True),
    Column("rejected", Integer, nullable=True),
    _text("created_at"),
    _text("began_at", optional=True),
    _text("finished_at", optional=True),
    _text("user_id", optional=True),
    _text("api_key_id", optional=True),
    _text("requested_at", optional=True),
    _text("cancelled_at", optional=True),
    UniqueConstraint("tenant_id", "digest", "options", "generation"),
    Index("batches_of_tenant", "tenant_id", "id"),
    Index(
        "batches_to_run",
        "requested_at",
        sqlite_where=text("requested_at IS NOT NULL AND finished_at IS NULL"),
        postgresql_where=text("requested_at IS NOT NULL AND finished_at IS NULL"),
    ),
    comment="What someone asked for at once. The same file with the same options continues the same batch.",
)

batch_rows = Table(
    "batch_rows",
    metadata,
    Column("batch_id", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("prospect_id", Text, nullable=False),
    PrimaryKeyConstraint("batch_id", "number"),
    Index("batch_rows_prospect", "batch_id", "prospect_id"),
    Index("batch_rows_of_prospect", "prospect_id"),
    sqlite_with_rowid=False,
    comment="Which prospect each input row of a batch is; several rows may be one prospect.",
)

batch_rejects = Table(
    "batch_rejects",
    metadata,
    _text("batch_id"),
    Column("number", Integer, nullable=False),
    Column("line", Integer, nullable=True),
    _text("reason"),
    PrimaryKeyConstraint("batch_id", "number"),
    sqlite_with_rowid=False,
    comment="Rows of an upload that could not be used: where, and why; never what they said.",
)

batch_caps = Table(
    "batch_caps",
    metadata,
    _text("batch_id"),
    _text("provider"),
    _text("unit"),
    Column("amount", BigInteger, nullable=False),
    PrimaryKeyConstraint("batch_id", "provider", "unit"),
    CheckConstraint("unit IN ('requests', 'credits', 'usd')", name="batch_caps_unit"),
    sqlite_with_rowid=False,
    comment="The most a batch may spend (requests, milli-credits, micro-dollars) at one provider or (`*`) at all.",
)

prospects = Table(
    "prospects",
    metadata,
    Column("id", Text, primary_key=True),
    _text("tenant_id"),
    _text("identity_key"),
    _text("external_id", optional=True),
    _text("person"),
    Column("fields", Text, nullable=False, server_default=text("'{}'")),
    Column("enrichment_source_status", Text, nullable=False, server_default=text("'{}'")),
    Column("enrichment_status", Text, nullable=False, server_default=text("'none'")),
    _text("last_run_id", optional=True),
    _text("created_at"),
    _text("covered_at", optional=True),
    _text("covered_by", optional=True),
    UniqueConstraint("tenant_id", "identity_key"),
    UniqueConstraint("tenant_id", "external_id"),
    Index("prospects_of_tenant", "tenant_id", "id"),
    Index("prospects_by_status", "tenant_id", "enrichment_status", "id"),
    Index(
        "prospects_of_old",
        "id",
        sqlite_where=text("last_run_id IS NULL AND enrichment_source_status <> '{}'"),
        postgresql_where=text("last_run_id IS NULL AND enrichment_source_status <> '{}'"),
    ),
    comment="Who was asked about, what is held about them, and how each source stands.",
)

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    _text("tenant_id"),
    _text("prospect_id"),
    _text("batch_id", optional=True),
    _text("trigger"),
    _text("worker_id"),
    _text("opened_at"),
    _text("closed_at", optional=True),
    _text("status"),
    Index(
        "runs_one_open",
        "prospect_id",
        unique=True,
        sqlite_where=text("closed_at IS NULL"),
        postgresql_where=text("closed_at IS NULL"),
    ),
    Index("runs_batch", "batch_id", "prospect_id"),
    sqlite_with_rowid=False,
    comment="One enrichment of one prospect; at most one is open per prospect.",
)

source_results = Table(
    "source_results",
    metadata,
    Column("id", Text, primary_key=True),
    _text("tenant_id"),
    _text("run_id"),
    _text("prospect_id"),
    _text("source"),
    _text("subject_key"),
    _text("status"),
    _text("error", optional=True),
    _text("cached_from", optional=True),
    _text("attempt_id", optional=True),
    _text("opened_at"),
    _text("retry_at", optional=True),
    _text("closed_at", optional=True),
    _text("wake_at", optional=True),
    _text("fingerprint", optional=True),
    UniqueConstraint("run_id", "source"),
    Index("source_results_prospect", "prospect_id", "source"),
    _failed("source_results_failed", "closed_at", "id"),
    _failed("source_results_failed_tenant", "tenant_id", "closed_at", "id"),
    _failed("source_results_failed_alike", "fingerprint", "closed_at", "id"),
    sqlite_with_rowid=False,
    comment="One row per run and source, closed once with the outcome a person sees.",
)

attempts = Table(
    "attempts",
    metadata,
    Column("day", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("hour", Integer, nullable=False),
    _text("provider"),
    _text("source"),
    _text("endpoint"),
    _text("request_key"),
    _text("credential_id"),
    _text("worker_id"),
    _text("trigger"),
    _text("tenant_id", optional=True),
    _text("user_id", optional=True),
    _text("api_key_id", optional=True),
    _text("batch_id", optional=True),
    _text("prospect_id", optional=True),
    _text("source_result_id", optional=True),
    _text("begun_at"),
    _text("deadline_at"),
    _text("finished_at", optional=True),
    _text("result", optional=True),
    Column("http_status", Integer, nullable=True),
    _text("charge", optional=True),
    _text("credits", optional=True),
    _amount("milli_credits"),
    _amount("usd_micros"),
    _amount("tokens_in"),
    _amount("tokens_out"),
    _amount("latency_us"),
    _text("provider_request_id", optional=True),
    _text("error", optional=True),
    _text("note", optional=True),
    _amount("reserved_milli_credits"),
    _amount("reserved_usd_micros"),
    PrimaryKeyConstraint("day", "id"),
    CheckConstraint("charge IN ('billed', 'free', 'unknown', 'not_sent')", name="attempts_charge"),
    CheckConstraint("(finished_at IS NULL) = (charge IS NULL)", name="attempts_charged_when_finished"),
    Index(
        "attempts_open",
        "worker_id",
        sqlite_where=text("finished_at IS NULL"),
        postgresql_where=text("finished_at IS NULL"),
    ),
    Index(
        "attempts_unknown",
        "prospect_id",
        "source",
        sqlite_where=text("charge = 'unknown'"),
        postgresql_where=text("charge = 'unknown'"),
    ),
    Index("attempts_source_result", "source_result_id"),
    Index(
        "attempts_own_credential",
        "provider",
        "day",
        sqlite_where=text("credential_id <> 'platform'"),
        postgresql_where=text("credential_id <> 'platform'"),
    ),
    sqlite_with_rowid=False,
    comment="One request to a provider with its one charge; `finished_at` is null while nobody knows how it ended.",
)

answers = Table(
    "answers",
    metadata,
    Column("attempt_id", Text, primary_key=True),
    _text("day"),
    _text("tenant_id"),
    _text("prospect_id"),
    _text("source"),
    _text("request_key"),
    _text("at"),
    _text("reading"),
    Index("answers_prospect", "prospect_id"),
    sqlite_with_rowid=False,
    comment="What a counted answer said, so that a request whose answer is here is never sent again.",
)

documents = Table(
    "documents",
    metadata,
    Column("request_key", Text, primary_key=True),
    _text("provider"),
    _text("attempt_id"),
    _text("etag", optional=True),
    _text("fetched_at"),
    _text("reading"),
    comment="Answers about nobody in particular (public filings), fetched once and shared by all tenants.",
)

external_usage = Table(
    "external_usage",
    metadata,
    Column("id", Text, primary_key=True),
    _text("tenant_id", optional=True),
    _text("provider"),
    _text("day"),
    _text("kind"),
    Column("calls", BigInteger, nullable=False),
    _text("note", optional=True),
    _text("booked_at"),
    CheckConstraint("kind IN ('tracked', 'imported')", name="external_usage_kind"),
    CheckConstraint("calls > 0", name="external_usage_positive"),
    Index("external_usage_day", "provider", "day"),
    Index("external_usage_tenant", "tenant_id", "day"),
    comment="Counts with no attempt behind them, each booked once under its own id.",
)

usage_hours = Table(
    "usage_hours",
    metadata,
    Column("day", Text, nullable=False),
    Column("hour", Integer, nullable=False),
    _text("provider"),
    _text("source"),
    _text("tenant_id"),
    *_charges(),
    _count("latency_us"),
    PrimaryKeyConstraint("day", "hour", "provider", "source", "tenant_id"),
    Index("usage_hours_tenant", "tenant_id", "provider", "day"),
    sqlite_with_rowid=False,
    comment="Rollup of finished attempts by UTC hour; `unpriced` counts billed ones whose dollars are unknown.",
)

provider_hours = Table(
    "provider_hours",
    metadata,
    _text("day"),
    Column("hour", Integer, nullable=False),
    _text("provider"),
    _text("source"),
    _text("trigger"),
    *_charges(),
    PrimaryKeyConstraint("day", "hour", "provider", "source", "trigger"),
    sqlite_with_rowid=False,
    comment="Rollup of everybody's finished attempts by UTC hour: few rows, however many tenants there are.",
)

usage_days = Table(
    "usage_days",
    metadata,
    _text("day"),
    _text("tenant_id"),
    _text("user_id"),
    _text("api_key_id"),
    _text("batch_id"),
    _text("trigger"),
    _text("provider"),
    *_charges(),
    PrimaryKeyConstraint("day", "tenant_id", "user_id", "api_key_id", "batch_id", "trigger", "provider"),
    Index("usage_days_batch", "batch_id"),
    sqlite_with_rowid=False,
    comment="Rollup of finished attempts by UTC day and by who they were for and through what; empty is nobody.",
)

tenant_days = Table(
    "tenant_days",
    metadata,
    _text("day"),
    _text("tenant_id"),
    _text("provider"),
    *_charges(),
    PrimaryKeyConstraint("day", "tenant_id", "provider"),
    sqlite_with_rowid=False,
    comment="Rollup of finished attempts by UTC day and tenant, however many users and batches it has.",
)

unviewed_days = Table(
    "unviewed_days",
    metadata,
    _text("day"),
    _text("tenant_id"),
    _count("usd_micros"),
    _count("unpriced"),
    PrimaryKeyConstraint("day", "tenant_id"),
    sqlite_with_rowid=False,
    comment="What was spent, by UTC day, on prospects whose profile nobody has viewed so far.",
)

duration_days = Table(
    "duration_days",
    metadata,
    _text("day"),
    _text("source"),
    Column("bucket", Integer, nullable=False),
    _count("attempts"),
    PrimaryKeyConstraint("day", "source", "bucket"),
    sqlite_with_rowid=False,
    comment="How long finished attempts took: a histogram per UTC day and source, in fixed buckets.",
)

tenant_duration_days = Table(
    "tenant_duration_days",
    metadata,
    _text("tenant_id"),
    _text("day"),
    _text("source"),
    Column("bucket", Integer, nullable=False),
    _count("attempts"),
    PrimaryKeyConstraint("tenant_id", "day", "source", "bucket"),
    sqlite_with_rowid=False,
    comment="How long finished attempts took, for each tenant.",
)

outcome_days = Table(
    "outcome_days",
    metadata,
    _text("day"),
    _text("source"),
    _text("status"),
    _count("results"),
    PrimaryKeyConstraint("day", "source", "status"),
    sqlite_with_rowid=False,
    comment="How source results ended, by the UTC day they were closed.",
)

tenant_outcome_days = Table(
    "tenant_outcome_days",
    metadata,
    _text("tenant_id"),
    _text("day"),
    _text("source"),
    _text("status"),
    _count("results"),
    PrimaryKeyConstraint("tenant_id", "day", "source", "status"),
    sqlite_with_rowid=False,
    comment="How source results ended, for each tenant.",
)

error_groups = Table(
    "error_groups",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    _text("source"),
    _text("status"),
    _text("message"),
    _text("first_seen"),
    _text("last_seen"),
    _count("results"),
    comment="Failed source results that say the same, with numbers, names and addresses taken out of the message.",
)

error_tenants = Table(
    "error_tenants",
    metadata,
    _text("fingerprint"),
    _text("tenant_id"),
    _text("first_seen"),
    _text("last_seen"),
    _count("results"),
    PrimaryKeyConstraint("fingerprint", "tenant_id"),
    sqlite_with_rowid=False,
    comment="Which tenants an error group is about.",
)

error_days = Table(
    "error_days",
    metadata,
    _text("fingerprint"),
    _text("day"),
    _count("results"),
    PrimaryKeyConstraint("fingerprint", "day"),
    sqlite_with_rowid=False,
    comment="How many results of an error group were closed on each UTC day.",
)

coverage_days = Table(
    "coverage_days",
    metadata,
    _text("day"),
    _text("tenant_id"),
    _count("prospects"),
    _count("covered"),
    PrimaryKeyConstraint("day", "tenant_id"),
    sqlite_with_rowid=False,
    comment="Prospects that are held: on which UTC day they were added, and on which the first field was bought.",
)

activity = Table(
    "activity",
    metadata,
    _text("tenant_id"),
    _text("id"),
    _text("day"),
    _text("at"),
    _text("user_id"),
    _text("action"),
    _text("target", optional=True),
    PrimaryKeyConstraint("tenant_id", "id"),
    Index("activity_at", "tenant_id", "at", "id"),
    Index(
        "activity_target",
        "target",
        sqlite_where=text("action <> 'profile_enriched'"),
        postgresql_where=text("action <> 'profile_enriched'"),
    ),
    sqlite_with_rowid=False,
    comment="What users did: who, on whose behalf, to what, when. Written once under an id of the tenant's.",
)

exported = Table(
    "exported",
    metadata,
    _text("prospect_id"),
    _text("tenant_id"),
    _text("activity_id"),
    PrimaryKeyConstraint("prospect_id", "tenant_id", "activity_id"),
    sqlite_with_rowid=False,
    comment="Which prospects an export took out.",
)

activity_days = Table(
    "activity_days",
    metadata,
    _text("day"),
    _text("tenant_id"),
    _text("user_id"),
    _text("action"),
    _count("events"),
    PrimaryKeyConstraint("day", "tenant_id", "user_id", "action"),
    sqlite_with_rowid=False,
    comment="How often each user did what, by UTC day.",
)

action_days = Table(
    "action_days",
    metadata,
    _text("action"),
    _text("day"),
    _text("tenant_id"),
    _count("events"),
    _count("prospects"),
    PrimaryKeyConstraint("action", "day", "tenant_id"),
    sqlite_with_rowid=False,
    comment="How often each tenant did what, by UTC day; `prospects` are those it was last done to on that day.",
)

active_users = Table(
    "active_users",
    metadata,
    _text("tenant_id"),
    _text("user_id"),
    _text("first_at"),
    _text("last_at"),
    PrimaryKeyConstraint("tenant_id", "user_id"),
    sqlite_with_rowid=False,
    comment="When each user first and last did anything.",
)

prospect_marks = Table(
    "prospect_marks",
    metadata,
    _text("prospect_id"),
    _text("action"),
    _text("tenant_id"),
    _text("day"),
    PrimaryKeyConstraint("prospect_id", "action"),
    sqlite_with_rowid=False,
    comment="On which UTC day a prospect was last viewed, enriched or exported.",
)

daily_totals = Table(
    "daily_totals",
    metadata,
    Column("name", Text, primary_key=True),
    _text("provider"),
    _text("day"),
    _count("billed"),
    _count("tracked"),
    _count("imported"),
    _count("milli_credits"),
    _count("usd_micros"),
    _count("version"),
    sqlite_with_rowid=False,
    comment="Counted calls per provider and UTC day; every commit raises the version.",
)

corrections = Table(
    "corrections",
    metadata,
    Column("id", Text, primary_key=True),
    _text("attempt_day"),
    _text("attempt_id"),
    _text("provider"),
    _text("was"),
    _text("became"),
    _text("note"),
    _text("corrected_by"),
    _text("corrected_at"),
    Index("corrections_attempt", "attempt_id"),
    comment="Unknown charges that a person resolved, with who and why; nothing here is ever changed.",
)

quotas = Table(
    "quotas",
    metadata,
    Column("id", Text, primary_key=True),
    _text("provider"),
    _text("tenant_id", optional=True),
    _text("unit"),
    _text("clock"),
    Column("cycle_day", Integer, nullable=True),
    _text("opens"),
    Column("amount", BigInteger, nullable=False),
    Column("warn_at_percent", Integer, nullable=True),
    Column("hard", Boolean, nullable=False),
    _text("origin"),
    _text("set_by"),
    _text("set_at"),
    CheckConstraint("unit IN ('requests', 'credits', 'usd')", name="quotas_unit"),
    CheckConstraint("clock IN ('in_flight', 'second', 'minute', 'hour', 'day', 'cycle')", name="quotas_clock"),
    CheckConstraint("opens IN ('calendar', 'first_request')", name="quotas_opens"),
    CheckConstraint("amount >= 0", name="quotas_amount"),
    comment="What may be spent at most: requests, milli-credits or micro-dollars per clock, for all or for one tenant.",
)

limit_windows = Table(
    "limit_windows",
    metadata,
    Column("limit_id", Text, nullable=False),
    Column("opens_at", Text, nullable=False),
    _text("closes_at"),
    _count("used"),
    _count("pending"),
    PrimaryKeyConstraint("limit_id", "opens_at"),
    sqlite_with_rowid=False,
    comment="What is used of a limit within each window; `pending` of it is reserved for calls still open.",
)

pauses = Table(
    "pauses",
    metadata,
    Column("scope", Text, nullable=False),
    Column("name", Text, nullable=False),
    _text("reason", optional=True),
    _text("paused_by"),
    _text("paused_at"),
    PrimaryKeyConstraint("scope", "name"),
    CheckConstraint("scope IN ('all', 'provider', 'tenant', 'batch')", name="pauses_scope"),
    comment="What a person has stopped; no new call begins for it until the row is gone.",
)

breakers = Table(
    "breakers",
    metadata,
    Column("provider", Text, nullable=False),
    Column("credential_id", Text, nullable=False),
    _text("state"),
    _text("cause"),
    _text("reason"),
    _text("credential_digest"),
    _text("changed_at"),
    _text("probe_at", optional=True),
    Column("trips", Integer, nullable=False),
    PrimaryKeyConstraint("provider", "credential_id"),
    CheckConstraint("state IN ('closed', 'open')", name="breakers_state"),
    comment="Whether a provider is asked with a credential, and why not.",
)

provider_meters = Table(
    "provider_meters",
    metadata,
    Column("id", Text, primary_key=True),
    _text("provider"),
    _text("credential_id"),
    _text("meter"),
    _text("asked_at"),
    _text("read_at"),
    _text("origin"),
    _text("unit"),
    _amount("used"),
    _amount("amount"),
    _amount("remaining"),
    _text("resets_at", optional=True),
    _text("error", optional=True),
    Index("provider_meters_series", "provider", "credential_id", "meter", "read_at"),
    comment="What providers themselves say was used and is left, as a series; `error` where they would not say.",
)

meter_days = Table(
    "meter_days",
    metadata,
    _text("provider"),
    _text("credential_id"),
    _text("meter"),
    _text("day"),
    _text("unit"),
    _text("since"),
    _text("until"),
    Column("theirs", BigInteger, nullable=False),
    Column("ours_least", BigInteger, nullable=False),
    _amount("ours_most"),
    Column("outside", BigInteger, nullable=False),
    Column("missing", BigInteger, nullable=False),
    PrimaryKeyConstraint("provider", "credential_id", "meter", "day"),
    sqlite_with_rowid=False,
    comment="A provider's own meter beside our attempts on a UTC day, as of its last reading of that day.",
)

suppressions = Table(
    "suppressions",
    metadata,
    Column("tenant_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("hash", Text, nullable=False),
    _text("created_at"),
    _text("reason", optional=True),
    _text("added_by", optional=True),
    PrimaryKeyConstraint("tenant_id", "kind", "hash"),
    CheckConstraint("kind IN ('email', 'linkedin', 'domain', 'name')", name="suppressions_kind"),
    comment="People who must not be asked about, as keyed hashes.",
)

erasures = Table(
    "erasures",
    metadata,
    Column("id", Text, primary_key=True),
    _text("tenant_id"),
    _text("cause"),
    _text("erased_by"),
    _text("erased_at"),
    Column("prospects", BigInteger, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("suppressed", Boolean, nullable=False),
    CheckConstraint("cause IN ('request', 'retention')", name="erasures_cause"),
    comment="That people were erased: when, why, by whom, and how many calls stay as money; never who they were.",
)

# Who may do what, and with whose keys: `tenancy/`.

tenants = Table(
    "tenants",
    metadata,
    Column("id", Text, primary_key=True),
    _text("name"),
    _text("created_at"),
    _text("disabled_at", optional=True),
    comment="Whose prospects there are. `default` is there from the start; a file's tenants come with its rows.",
)

users = Table(
    "users",
    metadata,
    Column("id", Text, primary_key=True),
    _text("tenant_id", optional=True),
    _text("email"),
    _text("role"),
    _text("password_hash", optional=True),
    _text("created_at"),
    _text("last_sign_in_at", optional=True),
    _text("disabled_at", optional=True),
    UniqueConstraint("email"),
    CheckConstraint("role IN ('super_admin', 'tenant_admin', 'agent', 'assistant')", name="users_role"),
    CheckConstraint("(role = 'super_admin') = (tenant_id IS NULL)", name="users_tenant"),
    Index("users_of_tenant", "tenant_id"),
    comment="People who may sign in. A super admin operates the platform and belongs to no tenant.",
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    _text("user_id"),
    _text("tenant_id", optional=True),
    _text("name"),
    _text("prefix"),
    _text("hash"),
    _text("kind"),
    _text("created_at"),
    _text("last_used_at", optional=True),
    _text("revoked_at", optional=True),
    UniqueConstraint("hash"),
    CheckConstraint("kind IN ('live', 'test')", name="api_keys_kind"),
    Index("api_keys_prefix", "prefix"),
    Index("api_keys_user", "user_id"),
    comment="Keys by which programs act for a user; only a hash is kept, and the prefix by which a person knows them.",
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Text, primary_key=True),
    _text("user_id"),
    _text("csrf_secret"),
    _text("created_at"),
    _text("seen_at"),
    _text("expires_at"),
    Index("sessions_user", "user_id"),
    comment="Browsers that are signed in; the id is the hash of what the browser holds.",
)

sign_in_links = Table(
    "sign_in_links",
    metadata,
    Column("hash", Text, primary_key=True),
    _text("user_id"),
    _text("created_at"),
    _text("expires_at"),
    _text("used_at", optional=True),
    Index("sign_in_links_user", "user_id"),
    comment="Links that sign a user in once.",
)

login_attempts = Table(
    "login_attempts",
    metadata,
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("failures", Integer, nullable=False),
    _text("last_at"),
    _text("blocked_until", optional=True),
    PrimaryKeyConstraint("kind", "name"),
    CheckConstraint("kind IN ('account', 'address')", name="login_attempts_kind"),
    Index("login_attempts_age", "last_at"),
    comment="Sign-ins that failed lately, by account and by address (as hashes), so that guessing gets slow.",
)

audit = Table(
    "audit",
    metadata,
    Column("id", Text, primary_key=True),
    _text("at"),
    _text("actor"),
    _text("action"),
    _text("tenant_id", optional=True),
    _text("target"),
    _text("detail", optional=True),
    Index("audit_of_tenant", "tenant_id", "id"),
    comment="Who did what to whom, and when; nothing here is ever changed.",
)

provider_credentials = Table(
    "provider_credentials",
    metadata,
    Column("id", Text, primary_key=True),
    _text("tenant_id"),
    _text("provider"),
    _text("sealed"),
    _text("digest"),
    _text("created_at"),
    _text("created_by"),
    _text("revoked_at", optional=True),
    Index(
        "provider_credentials_one",
        "tenant_id",
        "provider",
        unique=True,
        sqlite_where=text("revoked_at IS NULL"),
        postgresql_where=text("revoked_at IS NULL"),
    ),
    comment="Tenants' own keys for providers, sealed; one at a time for each tenant and provider.",
)

# What is asked for over HTTP, and what is told to others: `api/`, `hooks/`, `alerts/`.

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    _text("tenant_id"),
    _text("route"),
    _text("key"),
    _text("digest"),
    _text("worker_id"),
    _text("created_at"),
    _text("batch_id", optional=True),
    Column("status", Integer, nullable=True),
    _text("answer", optional=True),
    PrimaryKeyConstraint("tenant_id", "route", "key"),
    Index("idempotency_keys_age", "created_at"),
    sqlite_with_rowid=False,
    comment="Requests that cost money, by the key they came with: what they asked, and what they were answered.",
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True),
    _text("tenant_id"),
    _text("url"),
    _text("events"),
    _text("sealed_secret"),
    _text("created_at"),
    _text("created_by"),
    _text("removed_at", optional=True),
    Index("webhooks_of_tenant", "tenant_id"),
    comment="Where a tenant wants to be told that runs and batches ended, and the sealed secret that signs it.",
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", Text, primary_key=True),
    _text("name"),
    _text("form"),
    _text("shown_url"),
    _text("sealed_url"),
    _text("sealed_secret"),
    _text("created_at"),
    _text("created_by"),
    _text("removed_at", optional=True),
    CheckConstraint("form IN ('json', 'text')", name="alerts_form"),
    comment="Where operators want to be told what needs a look; addresses of chat rooms are secrets, so sealed.",
)

alarms = Table(
    "alarms",
    metadata,
    _text("kind"),
    _text("subject"),
    _text("window"),
    _text("said"),
    _text("raised_at"),
    _text("resolved_at", optional=True),
    PrimaryKeyConstraint("kind", "subject", "window"),
    comment="What operators were told needs a look, once for each window, and when it was over.",
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    _text("receiver"),
    _text("receiver_id"),
    _text("tenant_id", optional=True),
    _text("event"),
    _text("target"),
    _text("said", optional=True),
    _text("created_at"),
    _text("next_at", optional=True),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    _text("tried_at", optional=True),
    Column("http_status", Integer, nullable=True),
    _text("error", optional=True),
    _text("delivered_at", optional=True),
    CheckConstraint("receiver IN ('webhook', 'alert')", name="deliveries_receiver"),
    Index(
        "deliveries_due",
        "next_at",
        sqlite_where=text("next_at IS NOT NULL"),
        postgresql_where=text("next_at IS NOT NULL"),
    ),
    Index(
        "deliveries_given_up",
        "receiver",
        sqlite_where=text("next_at IS NULL AND delivered_at IS NULL"),
        postgresql_where=text("next_at IS NULL AND delivered_at IS NULL"),
    ),
    Index("deliveries_of_receiver", "receiver_id", "id"),
    comment="What is to be told to whom, and how that went; what is said of people is read when it is sent.",
)
