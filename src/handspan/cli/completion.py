"""What a shell may complete: commands by themselves, names of handlers, jobs and apps from the file."""

import os
from contextlib import closing
from enum import StrEnum
from typing import Annotated, Final

import typer
from typer.completion import (  # type: ignore[attr-defined]  # typer offers them, without saying so to mypy
    completion_init,
    get_completion_script,
)

from handspan.cli.output import say
from handspan.settings import Settings

__all__ = ["app_keys", "compared_sides", "completion", "group_ids", "handler_names", "job_names", "prepare"]

MOST: Final = 500  # names offered: more than anybody reads
PATIENCE: Final = 0.1  # seconds a press of TAB may wait for a file
COMPLETE_VAR: Final = "_HANDSPAN_COMPLETE"

_NAMES: Final = {
    "handler": "SELECT DISTINCT app_key || '.' || name FROM listeners ORDER BY retired_at IS NOT NULL, 1 LIMIT ?",
    "job": "SELECT DISTINCT app_key || '.' || job_name FROM scheduled_jobs ORDER BY retired_at IS NOT NULL, 1 LIMIT ?",
    "group": "SELECT id FROM error_groups ORDER BY last_seen_at DESC LIMIT ?",
    "side": "SELECT * FROM (SELECT id FROM sessions ORDER BY id DESC LIMIT 20) UNION ALL "
    "SELECT DISTINCT service_version FROM sessions WHERE service_version IS NOT NULL LIMIT ?",
    "app": "SELECT app_key FROM listeners UNION SELECT app_key FROM scheduled_jobs ORDER BY 1 LIMIT ?",
}


class Shell(StrEnum):
    """Whose script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="Whose script to print.")]) -> None:
    """Print a script with which the shell completes names, too.

    For example, in ~/.bashrc: source <(handspan completion bash)
    """
    say(get_completion_script(prog_name="handspan", complete_var=COMPLETE_VAR, shell=shell.value))


def prepare() -> None:
    """Where a shell asks what could follow: typer knows the shells' ways only when told to."""
    if COMPLETE_VAR in os.environ:
        completion_init()


def handler_names(context: typer.Context, incomplete: str) -> list[str]:
    return _names(context, "handler", incomplete)


def job_names(context: typer.Context, incomplete: str) -> list[str]:
    return _names(context, "job", incomplete)


def app_keys(context: typer.Context, incomplete: str) -> list[str]:
    return _names(context, "app", incomplete)


def group_ids(context: typer.Context, incomplete: str) -> list[str]:
    return _names(context, "group", incomplete)


def compared_sides(context: typer.Context, incomplete: str) -> list[str]:
    """What ``compare`` takes: two words, sessions' numbers, versions."""
    words = [each for each in ("last", "previous") if each.startswith(incomplete)]
    return words + _names(context, "side", incomplete)


def _names(context: typer.Context, what: str, incomplete: str) -> list[str]:
    """Nothing rather than a complaint: there is no place for one on a line being typed."""
    path = context.params.get("db") or os.environ.get("HANDSPAN_DB") or Settings.db
    try:
        import time

        from handspan.store.reading import open_quietly

        ends = time.monotonic() + PATIENCE
        with closing(open_quietly(str(path)).conn) as conn:
            conn.asks = lambda: time.monotonic() > ends
            rows = conn.execute(_NAMES[what], (MOST,)).fetchall()
    except Exception:  # noqa: BLE001 - no file, not ours, locked, too slow: then there is nothing to offer
        return []
    found = [str(row[0]) for row in rows]
    return [each for each in found if each.startswith(incomplete) and each.isprintable() and " " not in each]
