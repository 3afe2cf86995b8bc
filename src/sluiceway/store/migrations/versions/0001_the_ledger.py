"""The ledger, and everything that folds from it."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "answers",
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("prospect_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("request_key", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("reading", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("attempt_id"),
        comment="What a counted answer said, so that a request whose answer is here is never sent again.",
        sqlite_with_rowid=False,
    )
    op.create_index("answers_prospect", "answers", ["prospect_id"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("request_key", sa.Text(), nullable=False),
        sa.Column("credential_id", sa.Text(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=True),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("api_key_id", sa.Text(), nullable=True),
        sa.Column("batch_id", sa.Text(), nullable=True),
        sa.Column("prospect_id", sa.Text(), nullable=True),
        sa.Column("source_result_id", sa.Text(), nullable=True),
        sa.Column("begun_at", sa.Text(), nullable=False),
        sa.Column("deadline_at", sa.Text(), nullable=False),
        sa.Column("finished_at", sa.Text(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("charge", sa.Text(), nullable=True),
        sa.Column("credits", sa.Text(), nullable=True),
        sa.Column("milli_credits", sa.BigInteger(), nullable=True),
        sa.Column("usd_micros", sa.BigInteger(), nullable=True),
        sa.Column("tokens_in", sa.BigInteger(), nullable=True),
        sa.Column("tokens_out", sa.BigInteger(), nullable=True),
        sa.Column("latency_us", sa.BigInteger(), nullable=True),
        sa.Column("provider_request_id", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint("charge IN ('billed', 'free', 'unknown', 'not_sent')", name="attempts_charge"),
        sa.CheckConstraint("(finished_at IS NULL) = (charge IS NULL)", name="attempts_charged_when_finished"),
        sa.PrimaryKeyConstraint("day", "id"),
        comment="One request to a provider with its one charge; `finished_at` is null while nobody knows how it ended.",
        sqlite_with_rowid=False,
    )
    op.create_index(
        "attempts_open",
        "attempts",
        ["worker_id"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index("attempts_source_result", "attempts", ["source_result_id"], unique=False)
    op.create_index(
        "attempts_unknown",
        "attempts",
        ["prospect_id", "source"],
        unique=False,
        sqlite_where=sa.text("charge = 'unknown'"),
        postgresql_where=sa.text("charge = 'unknown'"),
    )
    op.create_table(
        "batch_rows",
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("prospect_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "number"),
        comment="Which prospect each input row of a batch is; several rows may be one prospect.",
        sqlite_with_rowid=False,
    )
    op.create_index("batch_rows_prospect", "batch_rows", ["batch_id", "prospect_id"], unique=False)
    op.create_table(
        "batches",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=True),
        sa.Column("refresh", sa.Boolean(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=True),
        sa.Column("rejected", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("began_at", sa.Text(), nullable=True),
        sa.Column("finished_at", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("tenant_id", "digest", "options", "generation"),
        comment="What someone asked for at once. The same file with the same options continues the same batch.",
    )
    op.create_table(
        "daily_totals",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("billed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("tracked", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("imported", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("milli_credits", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("usd_micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        comment="Counted calls per provider and UTC day; every commit raises the version.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "documents",
        sa.Column("request_key", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.Column("fetched_at", sa.Text(), nullable=False),
        sa.Column("reading", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("request_key"),
        comment="Answers about nobody in particular (public filings), fetched once and shared by all tenants.",
    )
    op.create_table(
        "external_usage",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("booked_at", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('tracked', 'imported')", name="external_usage_kind"),
        sa.CheckConstraint("calls > 0", name="external_usage_positive"),
        sa.PrimaryKeyConstraint("id"),
        comment="Counts with no attempt behind them, each booked once under its own id.",
    )
    op.create_index("external_usage_day", "external_usage", ["provider", "day"], unique=False)
    op.create_table(
        "facts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        comment="What is true of the whole store, such as whether its answers come from the real providers.",
    )
    op.create_table(
        "prospects",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("identity_key", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("fields", sa.Text(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("enrichment_source_status", sa.Text(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("enrichment_status", sa.Text(), server_default=sa.text("'none'"), nullable=False),
        sa.Column("last_run_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("tenant_id", "external_id"),
        sa.UniqueConstraint("tenant_id", "identity_key"),
        comment="Who was asked about, what is held about them, and how each source stands.",
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("prospect_id", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=True),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.Text(), nullable=False),
        sa.Column("closed_at", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        comment="One enrichment of one prospect; at most one is open per prospect.",
        sqlite_with_rowid=False,
    )
    op.create_index("runs_batch", "runs", ["batch_id", "prospect_id"], unique=False)
    op.create_index(
        "runs_one_open",
        "runs",
        ["prospect_id"],
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "source_results",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("prospect_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("subject_key", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("cached_from", sa.Text(), nullable=True),
        sa.Column("attempt_id", sa.Text(), nullable=True),
        sa.Column("opened_at", sa.Text(), nullable=False),
        sa.Column("retry_at", sa.Text(), nullable=True),
        sa.Column("closed_at", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("run_id", "source"),
        comment="One row per run and source, closed once with the outcome a person sees.",
        sqlite_with_rowid=False,
    )
    op.create_index("source_results_prospect", "source_results", ["prospect_id", "source"], unique=False)
    op.create_table(
        "suppressions",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('email', 'linkedin', 'domain')", name="suppressions_kind"),
        sa.PrimaryKeyConstraint("tenant_id", "kind", "hash"),
        comment="People who must not be asked about, as keyed hashes.",
    )
    op.create_table(
        "usage_hours",
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("billed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("free", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("unknown", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("not_sent", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("milli_credits", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("usd_micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("latency_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("day", "hour", "provider", "source", "tenant_id"),
        comment="Rollup of finished attempts by UTC hour; `unpriced` counts billed ones whose dollars are unknown.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        comment="Processes that may hold open attempts; one is proven dead when its lock file is free.",
    )
