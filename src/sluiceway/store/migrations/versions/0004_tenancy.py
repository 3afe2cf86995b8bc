"""Tenants, users, API keys, sessions, the audit, and tenants' own credentials."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    tenants = op.create_table(
        "tenants",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("disabled_at", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        comment="Whose prospects there are. `default` is there from the start; a file's tenants come with its rows.",
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("last_sign_in_at", sa.Text(), nullable=True),
        sa.Column("disabled_at", sa.Text(), nullable=True),
        sa.CheckConstraint("role IN ('super_admin', 'tenant_admin', 'agent', 'assistant')", name="users_role"),
        sa.CheckConstraint("(role = 'super_admin') = (tenant_id IS NULL)", name="users_tenant"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("email"),
        comment="People who may sign in. A super admin operates the platform and belongs to no tenant.",
    )
    op.create_index("users_of_tenant", "users", ["tenant_id"], unique=False)
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("last_used_at", sa.Text(), nullable=True),
        sa.Column("revoked_at", sa.Text(), nullable=True),
        sa.CheckConstraint("kind IN ('live', 'test')", name="api_keys_kind"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash"),
        comment="Keys by which programs act for a user; only a hash is kept, "
        "and the prefix by which a person knows them.",
    )
    op.create_index("api_keys_prefix", "api_keys", ["prefix"], unique=False)
    op.create_index("api_keys_user", "api_keys", ["user_id"], unique=False)
    op.create_table(
        "sessions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("csrf_secret", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        comment="Browsers that are signed in; the id is the hash of what the browser holds.",
    )
    op.create_index("sessions_user", "sessions", ["user_id"], unique=False)
    op.create_table(
        "sign_in_links",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Text(), nullable=False),
        sa.Column("used_at", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("hash"),
        comment="Links that sign a user in once.",
    )
    op.create_index("sign_in_links_user", "sign_in_links", ["user_id"], unique=False)
    op.create_table(
        "login_attempts",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.Text(), nullable=False),
        sa.Column("blocked_until", sa.Text(), nullable=True),
        sa.CheckConstraint("kind IN ('account', 'address')", name="login_attempts_kind"),
        sa.PrimaryKeyConstraint("kind", "name"),
        comment="Sign-ins that failed lately, by account and by address (as hashes), so that guessing gets slow.",
    )
    op.create_index("login_attempts_age", "login_attempts", ["last_at"], unique=False)
    op.create_table(
        "audit",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=True),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        comment="Who did what to whom, and when; nothing here is ever changed.",
    )
    op.create_index("audit_of_tenant", "audit", ["tenant_id", "id"], unique=False)
    op.create_table(
        "provider_credentials",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("revoked_at", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        comment="Tenants' own keys for providers, sealed; one at a time for each tenant and provider.",
    )
    op.create_index(
        "provider_credentials_one",
        "provider_credentials",
        ["tenant_id", "provider"],
        unique=True,
        sqlite_where=sa.text("revoked_at IS NULL"),
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_index(
        "attempts_own_credential",
        "attempts",
        ["provider", "day"],
        unique=False,
        sqlite_where=sa.text("credential_id <> 'platform'"),
        postgresql_where=sa.text("credential_id <> 'platform'"),
    )
    _take_in_tenants(tenants)


def _take_in_tenants(tenants: sa.Table) -> None:
    """Give every tenant a row that files or options have named so far."""
    connection = op.get_bind()
    known = sa.text("SELECT tenant_id FROM prospects UNION SELECT tenant_id FROM batches")
    ids = {"default", *connection.execute(known).scalars()}
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    op.bulk_insert(tenants, [{"id": name, "name": name, "created_at": now} for name in sorted(ids)])
