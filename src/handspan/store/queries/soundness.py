"""Whether the file is sound, and what lies beside it. For maintenance: it reads everything, without a deadline."""

import os
from typing import Final

from handspan.store.damage import files_set_aside
from handspan.store.liveness import abandoned_journals, is_alive, sidecar_dir
from handspan.store.service import DatabaseService
from handspan.store.statements import statements
from handspan.wording import amount

__all__ = ["damage", "lies_beside"]

_SQL: Final = statements("queries/soundness.sql")

NAMED: Final = 3  # journals that could not be read, so that it stays a line
LINES: Final = 100  # what a person can take in, and integrity_check's own default


async def damage(db: DatabaseService) -> list[str]:
    """What is wrong with the file, structure first; empty if nothing.

    ``integrity_check`` and not ``quick_check``: SQLite 3.40's sees a NULL in each row of a WITHOUT ROWID table whose
    key names its columns in another order than the table does.
    """
    found = [str(row[0]) for row in await db.fetch_all(_SQL["integrity_check"], deadline=None)]
    if found == ["ok"]:
        found = []
    orphans = await db.fetch_all(_SQL["foreign_key_check"], deadline=None)
    found += [f"{row['table']} row {row['rowid']} has no parent in {row['parent']}" for row in orphans[:LINES]]
    if len(orphans) > LINES:
        found.append(f"{len(orphans) - LINES} more rows have no parent")
    for row in await db.fetch_all(_SQL["ended_with_running"], deadline=None):
        found.append(f"session {row['instance_id']} has ended, and {row['n']} of its commands count as running")
    for row in await db.fetch_all(_SQL["ended_with_holdings"], deadline=None):
        found.append(f"session {row['instance_id']} has ended, and holds {row['n']} registrations")
    for row in await db.fetch_all(_SQL["odd_losses"], deadline=None):
        found.append(f"losses row {row['id']} makes no sense: {row['count']} lost")
    for row in await db.fetch_all(_SQL["lines_without_run"], deadline=None):
        if row["n"]:
            found.append(f"{row['n']} log lines belong to no stored run")
    return found


def lies_beside(path: str) -> list[str]:
    """What to know of the files beside it: none of it is damage of this one."""
    found = [f"A damaged file was set aside as {each}." for each in files_set_aside(path)]
    directory = sidecar_dir(path)
    locks = sorted(each.stem for each in directory.glob("*.lock"))
    dead = [instance for instance in locks if not is_alive(path, instance)]
    if dead:
        found.append(f"{len(dead)} of {len(locks)} session locks are of processes that are gone.")
    left = abandoned_journals(path)
    if left:
        size = sum(os.stat(each).st_size for each in left)
        found.append(
            f"{amount(len(left), 'journal file')} ({size:,} bytes) of processes that are gone "
            f"{'waits' if len(left) == 1 else 'wait'} to be read back."
        )
    if dead or left:
        found.append("The next start of an application takes care of them; `handspan db recover` does it now.")
    unread = sorted(directory.glob("*.journal.unread"))
    if unread:
        names = ", ".join(each.name for each in unread[:NAMED]) + (" and more" if len(unread) > NAMED else "")
        found.append(
            f"{len(unread)} journal files in {directory} could not be read, damaged or of a newer handspan, and are "
            f"kept: {names}. Renamed back to .journal, the next start tries them again."
        )
    return found
