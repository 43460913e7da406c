"""Incidents: what happened to recording that is not a run (a damaged file set aside, a database out of reach).

Views are not here: every upgrade drops them and makes them again from ``schema.sql``.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE incidents (
            id         INTEGER PRIMARY KEY AUTOINCREMENT,
            session_id INTEGER NOT NULL REFERENCES sessions (id),
            started_at REAL NOT NULL,
            ended_at   REAL,
            kind       TEXT NOT NULL,
            detail     TEXT NOT NULL,
            count      INTEGER
        )
        """
    )


def downgrade() -> None:
    raise RuntimeError("A file is never downgraded: go back to the copy that was made before the upgrade.")
