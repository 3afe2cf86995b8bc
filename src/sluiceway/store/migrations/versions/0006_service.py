"""What is asked for over HTTP, and what is told to others."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TO_RUN = sa.text("requested_at IS NOT NULL AND finished_at IS NULL")
_DUE = sa.text("next_at IS NOT NULL")
_GIVEN_UP = sa.text("next_at IS NULL AND delivered_at IS NULL")


def upgrade() -> None:
    for name in ("user_id", "api_key_id", "requested_at", "cancelled_at"):
        op.add_column("batches", sa.Column(name, sa.Text(), nullable=True))
    op.create_index("batches_of_tenant", "batches", ["tenant_id", "id"])
    _index("batches_to_run", "batches", ["requested_at"], _TO_RUN)
    op.create_index("prospects_by_status", "prospects", ["tenant_id", "enrichment_status", "id"])
    op.create_index("prospects_of_tenant", "prospects", ["tenant_id", "id"])
    op.create_index("usage_days_batch", "usage_days", ["batch_id"])
    op.create_index("external_usage_tenant", "external_usage", ["tenant_id", "day"])
    op.create_index("activity_at", "activity", ["tenant_id", "at", "id"])
    op.create_table(
        "batch_rejects",
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "number"),
        comment="Rows of an upload that could not be used: where, and why; never what they said.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "batch_caps",
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("unit IN ('requests', 'credits', 'usd')", name="batch_caps_unit"),
        sa.PrimaryKeyConstraint("batch_id", "provider", "unit"),
        comment="The most a batch may spend (requests, milli-credits, micro-dollars) at one provider or (`*`) at all.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "route", "key"),
        comment="Requests that cost money, by the key they came with: what they asked, and what they were answered.",
        sqlite_with_rowid=False,
    )
    op.create_index("idempotency_keys_age", "idempotency_keys", ["created_at"])
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("sealed_secret", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("removed_at", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        comment="Where a tenant wants to be told that runs and batches ended, and the sealed secret that signs it.",
    )
    op.create_index("webhooks_of_tenant", "webhooks", ["tenant_id"])
    op.create_table(
        "alerts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("form", sa.Text(), nullable=False),
        sa.Column("shown_url", sa.Text(), nullable=False),
        sa.Column("sealed_url", sa.Text(), nullable=False),
        sa.Column("sealed_secret", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("removed_at", sa.Text(), nullable=True),
        sa.CheckConstraint("form IN ('json', 'text')", name="alerts_form"),
        sa.PrimaryKeyConstraint("id"),
        comment="Where operators want to be told what needs a look; addresses of chat rooms are secrets, so sealed.",
    )
    op.create_table(
        "alarms",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("window", sa.Text(), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("raised_at", sa.Text(), nullable=False),
        sa.Column("resolved_at", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("kind", "subject", "window"),
        comment="What operators were told needs a look, once for each window, and when it was over.",
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("receiver_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=True),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("said", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("next_at", sa.Text(), nullable=True),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("tried_at", sa.Text(), nullable=True),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("delivered_at", sa.Text(), nullable=True),
        sa.CheckConstraint("receiver IN ('webhook', 'alert')", name="deliveries_receiver"),
        sa.PrimaryKeyConstraint("id"),
        comment="What is to be told to whom, and how that went; what is said of people is read when it is sent.",
    )
    _index("deliveries_due", "deliveries", ["next_at"], _DUE)
    _index("deliveries_given_up", "deliveries", ["receiver"], _GIVEN_UP)
    op.create_index("deliveries_of_receiver", "deliveries", ["receiver_id", "id"])


def _index(name: str, table: str, columns: list[str], where: sa.TextClause) -> None:
    op.create_index(name, table, columns, unique=False, sqlite_where=where, postgresql_where=where)
