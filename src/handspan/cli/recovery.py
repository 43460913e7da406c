"""``handspan db recover``: take over at once what a process that died left in its journal."""

import os
import time

from handspan.cli.figures import amount
from handspan.cli.options import DEFAULT_DB, Db, Json
from handspan.cli.output import show, show_json
from handspan.errors import MissingDatabaseError
from handspan.recording.replay import JournalFiles
from handspan.records import Session
from handspan.settings import Settings
from handspan.store.liveness import abandoned_journals, sidecar_dir
from handspan.store.opening import open_for_writing
from handspan.store.parents import Parents
from handspan.store.sessions import SessionLife

__all__ = ["recover"]

BUSY_TIMEOUT = 5.0  # seconds to wait for a recording process between its commits
_RUNS = "SELECT (SELECT count(*) FROM handler_invocations) + (SELECT count(*) FROM job_executions)"


def recover(db: Db = DEFAULT_DB, json: Json = False) -> None:
    """Read back the journals of processes that died: every run that had finished, and what was in flight.

    The next start of an application does the same; this is for when you want to see what happened before that.
    """
    path = os.path.abspath(db)
    waiting = abandoned_journals(path)
    if not os.path.exists(path) and not waiting:
        raise MissingDatabaseError(f"There is no file at {db}.")
    conn = open_for_writing(path, busy_timeout=BUSY_TIMEOUT)
    try:
        (before,) = conn.execute(_RUNS).fetchone()
        life = SessionLife(conn, Parents(conn, Settings.load().redact_keys), path, Session("", ""))
        sessions = life.bury_the_dead(JournalFiles(sidecar_dir(path)), time.time())
        (after,) = conn.execute(_RUNS).fetchone()
    finally:
        conn.close()
    if json:
        show_json({"sessions": sessions, "journals": len(waiting), "runs": after - before})
    elif sessions or waiting:
        show(f"{amount(sessions, 'session')} had ended without closing; {amount(after - before, 'run')} recovered.")
    else:
        show("No session ended without closing: there is nothing to recover.")
