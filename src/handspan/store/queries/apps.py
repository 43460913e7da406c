"""Which apps there are."""

from typing import Final

from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["app_keys"]

_SQL: Final = statements("queries/apps.sql")


async def app_keys(db: DatabaseService, *, limit: int = 1000) -> list[str]:
    """Of all that was ever registered and is not pruned."""
    return [row["app_key"] for row in await db.fetch_all(_SQL["app_keys"], {"limit": limit})]
