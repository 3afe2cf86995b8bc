"""People's rights: why somebody is on the suppression list, people known by name alone, and a record of erasures."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_KINDS = "kind IN ('email', 'linkedin', 'domain', 'name')"


def upgrade() -> None:
    with op.batch_alter_table("suppressions") as table:
        table.add_column(sa.Column("reason", sa.Text(), nullable=True))
        table.add_column(sa.Column("added_by", sa.Text(), nullable=True))
        table.drop_constraint("suppressions_kind", type_="check")
        table.create_check_constraint("suppressions_kind", _KINDS)
    op.create_index("batch_rows_of_prospect", "batch_rows", ["prospect_id"], unique=False)
    op.create_table(
        "erasures",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("erased_by", sa.Text(), nullable=False),
        sa.Column("erased_at", sa.Text(), nullable=False),
        sa.Column("prospects", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("suppressed", sa.Boolean(), nullable=False),
        sa.CheckConstraint("cause IN ('request', 'retention')", name="erasures_cause"),
        sa.PrimaryKeyConstraint("id"),
        comment="That people were erased: when, why, by whom, and how many calls stay as money; never who they were.",
    )
