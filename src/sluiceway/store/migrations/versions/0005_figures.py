"""What users did, and the sums that every figure for an operator is read from."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_OF_OLD = sa.text("last_run_id IS NULL AND enrichment_source_status <> '{}'")
_NOT_OF_RUNS = sa.text("action <> 'profile_enriched'")
_FAILED = sa.text("fingerprint IS NOT NULL")


def upgrade() -> None:
    op.add_column("prospects", sa.Column("covered_at", sa.Text(), nullable=True))
    op.add_column("prospects", sa.Column("covered_by", sa.Text(), nullable=True))
    _index("prospects_of_old", "prospects", ["id"], _OF_OLD)
    op.add_column("source_results", sa.Column("fingerprint", sa.Text(), nullable=True))
    _index("source_results_failed", "source_results", ["closed_at", "id"], _FAILED)
    _index("source_results_failed_tenant", "source_results", ["tenant_id", "closed_at", "id"], _FAILED)
    _index("source_results_failed_alike", "source_results", ["fingerprint", "closed_at", "id"], _FAILED)
    op.create_index("usage_hours_tenant", "usage_hours", ["tenant_id", "provider", "day"], unique=False)
    op.create_table(
        "provider_hours",
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("billed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("free", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("unknown", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("not_sent", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("milli_credits", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("usd_micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("day", "hour", "provider", "source", "trigger"),
        comment="Rollup of everybody's finished attempts by UTC hour: few rows, however many tenants there are.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage_days",
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("api_key_id", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("billed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("free", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("unknown", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("not_sent", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("milli_credits", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("usd_micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("day", "tenant_id", "user_id", "api_key_id", "batch_id", "trigger", "provider"),
        comment="Rollup of finished attempts by UTC day and by who they were for and through what; empty is nobody.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tenant_days",
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("billed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("free", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("unknown", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("not_sent", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("milli_credits", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("usd_micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("day", "tenant_id", "provider"),
        comment="Rollup of finished attempts by UTC day and tenant, however many users and batches it has.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "unviewed_days",
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("usd_micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("day", "tenant_id"),
        comment="What was spent, by UTC day, on prospects whose profile nobody has viewed so far.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "duration_days",
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("day", "source", "bucket"),
        comment="How long finished attempts took: a histogram per UTC day and source, in fixed buckets.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tenant_duration_days",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "day", "source", "bucket"),
        comment="How long finished attempts took, for each tenant.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outcome_days",
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("results", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("day", "source", "status"),
        comment="How source results ended, by the UTC day they were closed.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tenant_outcome_days",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("results", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "day", "source", "status"),
        comment="How source results ended, for each tenant.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "error_groups",
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("first_seen", sa.Text(), nullable=False),
        sa.Column("last_seen", sa.Text(), nullable=False),
        sa.Column("results", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint"),
        comment="Failed source results that say the same, with numbers, names and addresses taken out of the message.",
    )
    op.create_table(
        "error_tenants",
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("first_seen", sa.Text(), nullable=False),
        sa.Column("last_seen", sa.Text(), nullable=False),
        sa.Column("results", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", "tenant_id"),
        comment="Which tenants an error group is about.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "error_days",
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("results", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", "day"),
        comment="How many results of an error group were closed on each UTC day.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "coverage_days",
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("prospects", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("covered", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("day", "tenant_id"),
        comment="Prospects that are held: on which UTC day they were added, and on which the first field was bought.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "activity",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "id"),
        comment="What users did: who, on whose behalf, to what, when. Written once under an id of the tenant's.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "exported",
        sa.Column("prospect_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("activity_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("prospect_id", "tenant_id", "activity_id"),
        comment="Which prospects an export took out.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "activity_days",
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("events", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("day", "tenant_id", "user_id", "action"),
        comment="How often each user did what, by UTC day.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "action_days",
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("events", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("prospects", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("action", "day", "tenant_id"),
        comment="How often each tenant did what, by UTC day; `prospects` are those it was last done to on that day.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "active_users",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("first_at", sa.Text(), nullable=False),
        sa.Column("last_at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "user_id"),
        comment="When each user first and last did anything.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "prospect_marks",
        sa.Column("prospect_id", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("prospect_id", "action"),
        comment="On which UTC day a prospect was last viewed, enriched or exported.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "meter_days",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("credential_id", sa.Text(), nullable=False),
        sa.Column("meter", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("since", sa.Text(), nullable=False),
        sa.Column("until", sa.Text(), nullable=False),
        sa.Column("theirs", sa.BigInteger(), nullable=False),
        sa.Column("ours_least", sa.BigInteger(), nullable=False),
        sa.Column("ours_most", sa.BigInteger(), nullable=True),
        sa.Column("outside", sa.BigInteger(), nullable=False),
        sa.Column("missing", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("provider", "credential_id", "meter", "day"),
        comment="A provider's own meter beside our attempts on a UTC day, as of its last reading of that day.",
        sqlite_with_rowid=False,
    )
    _index("activity_target", "activity", ["target"], _NOT_OF_RUNS)


def _index(name: str, table: str, columns: list[str], where: sa.TextClause) -> None:
    op.create_index(name, table, columns, unique=False, sqlite_where=where, postgresql_where=where)
