"""What ``--help`` shows: commands in groups, in the order people need them."""

from typing import Any, Final

from typer.core import TyperGroup

__all__ = ["GROUPS", "Grouped"]

GROUPS: Final = {
    "At a glance": ("status", "failing", "totals"),
    "Handlers and jobs": ("handlers", "jobs", "handler", "job", "schedule", "roll", "busy", "compare"),
    "Runs": ("runs", "slow", "running", "run", "trace", "tail"),
    "What went wrong": ("errors", "error", "sessions", "downtime", "losses", "skips", "incidents"),
    "The file": ("sql", "export", "completion", "demo", "db"),
}
"""docs/cli.md has them in the same order; a command that is in no group comes last."""


class Grouped(TyperGroup):
    """The commands under their headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Click's own, once for each group."""
        named = [name for names in GROUPS.values() for name in names]
        others = [name for name in self.list_commands(ctx) if name not in named]
        for heading, names in [*GROUPS.items(), ("Others", tuple(others))]:
            commands = [(name, self.commands[name]) for name in names if name in self.commands]
            if commands:
                longest = max(map(len, self.commands))
                room = formatter.width - 6 - longest
                lines = [(name.ljust(longest), command.get_short_help_str(room)) for name, command in commands]
                with formatter.section(heading):
                    formatter.write_dl(lines)
