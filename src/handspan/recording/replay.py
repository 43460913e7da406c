"""What dead sessions left in their journals, as segments to be committed again.

A session's segments come in the order of their numbers, those up to ``sessions.committed_segment`` left out: a
segment and its mark are one transaction. A page's tail, which nothing sealed, may have been committed all the same
(its seal did not fit on the disk any more), so it comes last, ``idempotent`` and without moving the mark.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from handspan.recording.frames import Extent, read_page, read_records
from handspan.records import Loss, Orphan, Registration, Segment, Session

__all__ = ["JournalFiles"]

_log = logging.getLogger("handspan.recording")
_SUFFIX: Final = ".journal"


@dataclass
class _Contents:
    """All pages of one session, without the spans."""

    session: Session | None = None
    registrations: dict[int, Registration] = field(default_factory=dict)
    sealed: list[tuple[int, Extent, list[Loss]]] = field(default_factory=list)
    tails: list[Extent] = field(default_factory=list)
    damaged: int = 0


class JournalFiles:
    """The journals beside one database: :class:`handspan.records.Journals`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: set[Path] = set()
        self._unread: set[Path] = set()

    def instances(self) -> set[str]:
        return {path.name.split(".")[0] for path in self._directory.glob(f"*.*{_SUFFIX}") if path.is_file()}

    def orphan(self, instance_id: str) -> Orphan:
        contents = self._contents(instance_id)
        session = contents.session or Session(instance_id, "unknown_service")
        return Orphan(session, lambda after: _segments(contents, session, after), contents.damaged)

    def forget(self, instance_id: str) -> None:
        """What could not be read stays, under another name: a person, or another version, may know more."""
        for path in self._pages(instance_id):
            if path in self._unread:
                _kept_unread(path)
            elif path in self._read:
                path.unlink(missing_ok=True)

    def set_aside(self, instance_id: str) -> None:
        """All of it makes no sense."""
        for path in self._pages(instance_id):
            _kept_unread(path)

    def _pages(self, instance_id: str) -> list[Path]:
        return sorted(path for path in self._directory.glob(f"{instance_id}.*{_SUFFIX}") if path.is_file())

    def _contents(self, instance_id: str) -> _Contents:
        found = _Contents()
        for path in self._pages(instance_id):
            try:
                page = read_page(path)
            except OSError as error:
                _log.error("%s cannot be read and is kept as .unread: %s", path, error.strerror)
                self._unread.add(path)
                found.damaged += 1
                continue
            self._read.add(path)
            found.session = found.session or page.session
            found.registrations.update(page.registrations)
            found.sealed.extend(page.sealed)
            found.damaged += page.damaged
            if page.tail is not None:
                found.tails.append(page.tail)
        found.sealed.sort(key=lambda sealed: sealed[0])
        return found


def _kept_unread(path: Path) -> None:
    path.rename(path.with_name(f"{path.name}.unread"))


def _segments(contents: _Contents, session: Session, after: int) -> Iterator[Segment]:
    """Raises OSError where a page cannot be read any more."""
    running: set[bytes] = set()
    before = after
    for number, extent, losses in contents.sealed:
        if number > after:
            segment = _segment(contents, session, extent, running, number, losses)
            # Some parts of the first may be there (see store/isolation.py); a page that somebody copied comes twice.
            segment.idempotent = before in (after, number)
            segment.losses = [] if before == number else segment.losses
            before = number
            yield segment
    last = max([after, *(number for number, _, _ in contents.sealed)])
    for extent in contents.tails:
        tail = _segment(contents, session, extent, running, last, [])
        tail.idempotent = True
        yield tail


def _segment(
    contents: _Contents, session: Session, extent: Extent, running: set[bytes], number: int, losses: list[Loss]
) -> Segment:
    records = read_records(extent)
    known = contents.registrations
    ended, lost = [], 0
    for record in records.ended:
        if record.registration and record.registration not in known:
            lost += 1  # the frame that said what it is of was damaged
        else:
            ended.append(replace(record, was_running=True) if record.span_id in running else record)
    over = {record.span_id for record in records.ended}
    begun = [x for x in records.started.values() if x.span_id not in over and x.registration in known]
    running.update(record.span_id for record in begun)
    segment = Segment(number, session, ended, known, running=begun, losses=list(losses))
    if lost:
        hour_ns = records.ended[0].start_ns // (3600 * 10**9) * 3600 * 10**9
        segment.losses.append(Loss(hour_ns, "store", "span", "journal_damaged", lost))
    return segment
