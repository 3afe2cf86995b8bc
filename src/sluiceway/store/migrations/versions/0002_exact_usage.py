"""Limits, stops, the providers' own meters, and corrections."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("reserved_milli_credits", sa.BigInteger(), nullable=True))
    op.add_column("attempts", sa.Column("reserved_usd_micros", sa.BigInteger(), nullable=True))
    op.add_column("source_results", sa.Column("wake_at", sa.Text(), nullable=True))
    op.create_table(
        "corrections",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("attempt_day", sa.Text(), nullable=False),
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("was", sa.Text(), nullable=False),
        sa.Column("became", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("corrected_by", sa.Text(), nullable=False),
        sa.Column("corrected_at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        comment="Unknown charges that a person resolved, with who and why; nothing here is ever changed.",
    )
    op.create_index("corrections_attempt", "corrections", ["attempt_id"], unique=False)
    op.create_table(
        "quotas",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=True),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("clock", sa.Text(), nullable=False),
        sa.Column("cycle_day", sa.Integer(), nullable=True),
        sa.Column("opens", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("warn_at_percent", sa.Integer(), nullable=True),
        sa.Column("hard", sa.Boolean(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("set_by", sa.Text(), nullable=False),
        sa.Column("set_at", sa.Text(), nullable=False),
        sa.CheckConstraint("unit IN ('requests', 'credits', 'usd')", name="quotas_unit"),
        sa.CheckConstraint("clock IN ('in_flight', 'second', 'minute', 'hour', 'day', 'cycle')", name="quotas_clock"),
        sa.CheckConstraint("opens IN ('calendar', 'first_request')", name="quotas_opens"),
        sa.CheckConstraint("amount >= 0", name="quotas_amount"),
        sa.PrimaryKeyConstraint("id"),
        comment="What may be spent at most: requests, milli-credits or micro-dollars per clock, "
        "for all or for one tenant.",
    )
    op.create_table(
        "limit_windows",
        sa.Column("limit_id", sa.Text(), nullable=False),
        sa.Column("opens_at", sa.Text(), nullable=False),
        sa.Column("closes_at", sa.Text(), nullable=False),
        sa.Column("used", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("pending", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("limit_id", "opens_at"),
        comment="What is used of a limit within each window; `pending` of it is reserved for calls still open.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "pauses",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=False),
        sa.Column("paused_at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "name"),
        sa.CheckConstraint("scope IN ('all', 'provider', 'tenant', 'batch')", name="pauses_scope"),
        comment="What a person has stopped; no new call begins for it until the row is gone.",
    )
    op.create_table(
        "breakers",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("credential_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("credential_digest", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.Text(), nullable=False),
        sa.Column("probe_at", sa.Text(), nullable=True),
        sa.Column("trips", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("provider", "credential_id"),
        sa.CheckConstraint("state IN ('closed', 'open')", name="breakers_state"),
        comment="Whether a provider is asked with a credential, and why not.",
    )
    op.create_table(
        "provider_meters",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("credential_id", sa.Text(), nullable=False),
        sa.Column("meter", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.Text(), nullable=False),
        sa.Column("read_at", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=True),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.Column("remaining", sa.BigInteger(), nullable=True),
        sa.Column("resets_at", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        comment="What providers themselves say was used and is left, as a series; `error` where they would not say.",
    )
    op.create_index(
        "provider_meters_series", "provider_meters", ["provider", "credential_id", "meter", "read_at"], unique=False
    )
