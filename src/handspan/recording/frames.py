"""The journal's file format, version 1: what is written at once, and how it is read back after a death.

A *page* is an append-only file. It begins with an eight-byte header, ``HSPJ``, the version as a 16-bit number
and two zero bytes, and holds *frames* back to back (all numbers little-endian):

    u32  length of the payload
    u32  CRC-32 of the payload, begun with the kind
    u8   kind
    ...  payload, MessagePack

    1 SESSION       the session, as a map; the first frame of every page
    2 REGISTRATION  [number, "listener" | "job", the registration as a map]; before its first use in a page
    3 START         [trace_id, span_id, start_ns, number, parent_span_id, link_trace_id, link_span_id,
                     scheduled_ns, queue_ns]: a command begins; what follows it of NULLs is left out
    4 END           the finished span: SpanRecord's fields in their order
    5 END_JSON      the same, its attributes, extra and log lines as JSON text: what MessagePack cannot hold
    6 SEAL          [number, [[hour_ns, stage, kind, reason, count], ...]]: all frames since the last SEAL
                    are segment ``number``; with it came these losses

A page that the process died over ends without a SEAL: its last frames belong to no numbered segment, the *tail*.
One frame is one ``write``, so a death tears at most the last. A frame whose checksum is wrong is skipped if
another one follows where its length says; else the page is cut there, at the last whole frame. Both are counted.
"""

import errno
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from whenever import Instant

from handspan.clock import instant_from_ns, to_ns
from handspan.records import (
    ListenerRegistration,
    Loss,
    Registration,
    Run,
    ScheduledJobRegistration,
    Session,
    SpanRecord,
)
from handspan.serialize import attributes_from_json, attributes_json, clean_text

__all__ = [
    "HEADER",
    "VERSION",
    "Extent",
    "PageContent",
    "Records",
    "end_frame",
    "read_page",
    "read_records",
    "registration_frame",
    "running_frame",
    "seal_frame",
    "session_frame",
    "start_frame",
]

VERSION: Final = 1
_HEADER: Final = struct.Struct("<4sHxx")
HEADER: Final = _HEADER.pack(b"HSPJ", VERSION)
_FRAME: Final = struct.Struct("<IIB")
_pack_head, _crc32 = _FRAME.pack, zlib.crc32

SESSION: Final = 1
REGISTRATION: Final = 2
START: Final = 3
END: Final = 4
END_JSON: Final = 5
SEAL: Final = 6
_KINDS: Final = range(SESSION, SEAL + 1)

_TYPES: Final = {"listener": ListenerRegistration, "job": ScheduledJobRegistration}
_FIELDS: Final = SpanRecord.__struct_fields__
_AS_JSON: Final = tuple(map(_FIELDS.index, ("attributes", "extra", "logs")))


def _instant_to_ns(value: Any) -> Any:
    if isinstance(value, Instant):
        return to_ns(value)
    raise TypeError(type(value).__name__)


def _instant_from_ns(kind: type, value: Any) -> Any:
    return instant_from_ns(value) if kind is Instant else value


_plain = msgspec.msgpack.Encoder().encode
_encode = msgspec.msgpack.Encoder(enc_hook=_instant_to_ns).encode
_decode = msgspec.msgpack.Decoder().decode


# --- writing ----------------------------------------------------------------------------------------------


def _frame(kind: int, payload: bytes) -> bytes:
    return _pack_head(len(payload), _crc32(payload, kind), kind) + payload


def session_frame(session: Session) -> bytes:
    try:
        return _frame(SESSION, _encode(session))
    except Exception:  # noqa: BLE001 - a resource attribute of the application's that MessagePack cannot hold
        return _frame(SESSION, _encode({**_cleaned(vars(session)), "resource": None}))


def registration_frame(number: int, registration: Registration) -> bytes:
    kind = "listener" if isinstance(registration, ListenerRegistration) else "job"
    try:
        return _frame(REGISTRATION, _encode((number, kind, registration)))
    except UnicodeEncodeError:
        return _frame(REGISTRATION, _encode((number, kind, _cleaned(vars(registration)))))


def start_frame(run: Run) -> bytes:
    trace_id, span_id = run.trace_id.to_bytes(16, "big"), run.span_id.to_bytes(8, "big")
    if not (run.parent_span_id or run.link_trace_id) and run.scheduled_ns is None and run.queue_ns is None:
        payload = _plain((trace_id, span_id, run.start_ns, run.number))
    else:
        parent, link = run.parent_span_id, run.link_trace_id
        parts = (
            trace_id,
            span_id,
            run.start_ns,
            run.number,
            parent.to_bytes(8, "big") if parent else None,
            link.to_bytes(16, "big") if link else None,
            run.link_span_id.to_bytes(8, "big") if link else None,
            run.scheduled_ns,
            run.queue_ns,
        )
        try:
            payload = _plain(parts)
        except OverflowError:
            payload = _plain([_held(part) for part in parts])
    return _pack_head(len(payload), _crc32(payload, START), START) + payload


def running_frame(record: SpanRecord) -> bytes:
    """A START made of what a segment says was running."""
    parts = (record.trace_id, record.span_id, record.start_ns, record.registration, record.parent_span_id)
    return _frame(
        START, _plain((*parts, record.link_trace_id, record.link_span_id, record.scheduled_ns, record.queue_ns))
    )


def end_frame(record: SpanRecord) -> bytes:
    try:
        payload = _plain(record)
    except Exception:  # noqa: BLE001 - lone surrogates, integers past 64 bits, whatever an attribute may be
        return _frame(END_JSON, _plain(_with_json(record)))
    return _pack_head(len(payload), _crc32(payload, END), END) + payload


def seal_frame(number: int, losses: list[Loss]) -> bytes:
    return _frame(SEAL, _plain((number, [(x.hour_ns, x.stage, x.kind, x.reason, x.count) for x in losses])))


def _with_json(record: SpanRecord) -> list[Any]:
    fields = msgspec.structs.astuple(record)
    values: list[Any] = [_held(value) for value in fields]
    for index in _AS_JSON:
        if values[index] is not None:
            values[index] = attributes_json(values[index])
    return values


def _held(value: Any) -> Any:
    """As MessagePack can hold it: an instant of the year 9999 is past 64 bits of nanoseconds."""
    if isinstance(value, str):
        return clean_text(value)
    return max(-(2**63), min(value, 2**63 - 1)) if type(value) is int else value


def _cleaned(values: dict[str, Any]) -> dict[str, Any]:
    return {key: clean_text(value) if isinstance(value, str) else value for key, value in values.items()}


# --- reading ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Extent:
    """Where a segment's frames lie."""

    path: Path
    start: int
    end: int


@dataclass
class PageContent:
    """What a page says of itself, found in one pass over its frames."""

    session: Session | None = None
    registrations: dict[int, Registration] = field(default_factory=dict)
    sealed: list[tuple[int, Extent, list[Loss]]] = field(default_factory=list)
    """By segment, in the order of the page."""
    tail: Extent | None = None
    damaged: int = 0
    """Frames that could not be read."""


@dataclass
class Records:
    """The spans of one extent."""

    ended: list[SpanRecord] = field(default_factory=list)
    started: dict[bytes, SpanRecord] = field(default_factory=dict)
    """By span id, in their order."""


def read_page(path: Path) -> PageContent:
    """Everything but the spans. Raises OSError, also for a newer version's; damage is counted, never raised."""
    content, data = PageContent(), path.read_bytes()
    magic, version = _HEADER.unpack(data[: len(HEADER)].ljust(len(HEADER), b"\0"))
    if magic == b"HSPJ" and version > VERSION and len(data) > len(HEADER):
        raise OSError(errno.EPROTONOSUPPORT, f"a journal of version {version}; known are up to {VERSION}", str(path))
    if data[: len(HEADER)] != HEADER:
        content.damaged = 1 if data.strip(b"\0") else 0  # nothing but zeros: a page that never reached the disk
        return content
    start = end = len(HEADER)
    spans = False
    for kind, payload, end in _frames(data, content):
        try:
            if kind == SESSION and content.session is None:
                content.session = msgspec.msgpack.decode(payload, type=Session, dec_hook=_instant_from_ns)
            elif kind == REGISTRATION:
                number, kind_of, values = _decode(payload)
                registration: Registration = msgspec.convert(values, _TYPES[kind_of], dec_hook=_instant_from_ns)
                content.registrations[number] = registration
            elif kind == SEAL:
                number, losses = _decode(payload)
                content.sealed.append((number, Extent(path, start, end), [Loss(*each) for each in losses]))
                start, spans = end, False
            else:
                spans = True
        except Exception:  # noqa: BLE001 - the checksum was right and the content is not: written by who knows what
            content.damaged += 1
    if spans:
        content.tail = Extent(path, start, end)
    return content


def read_records(extent: Extent) -> Records:
    """The spans of one extent. Raises OSError. What cannot be read was counted by :func:`read_page`."""
    with extent.path.open("rb") as file:
        file.seek(extent.start)
        data = file.read(extent.end - extent.start)
    found = Records()
    for kind, payload, _ in _frames(data, PageContent(), begin=0):
        try:
            if kind == START:
                record = _started(_decode(payload))
                found.started[record.span_id] = record
            elif kind in (END, END_JSON):
                found.ended.append(_ended(_decode(payload), json=kind == END_JSON))
        except Exception:  # noqa: BLE001, S112 - as in read_page, which counted it
            continue
    return found


def _frames(data: bytes, content: PageContent, begin: int = len(HEADER)) -> Iterator[tuple[int, bytes, int]]:
    """Kind, payload and end of every whole frame."""
    position = begin
    while position < len(data):
        whole = _frame_at(data, position)
        if whole is None:
            content.damaged += 1
            position = _next_whole(data, position)
            continue
        kind, payload, position = whole
        yield kind, payload, position


def _frame_at(data: bytes, position: int) -> tuple[int, bytes, int] | None:
    body = position + _FRAME.size
    if body > len(data):
        return None
    length, checksum, kind = _FRAME.unpack_from(data, position)
    payload = data[body : body + length]
    if kind not in _KINDS or len(payload) < length or _crc32(payload, kind) != checksum:
        return None
    return kind, payload, body + length


def _next_whole(data: bytes, position: int) -> int:
    """Past a damaged frame, if a whole one follows where its length says; else the end of the page."""
    body = position + _FRAME.size
    if body <= len(data):
        follows = body + int.from_bytes(data[position : position + 4], "little")
        if follows < len(data) and _frame_at(data, follows) is not None:
            return follows
    return len(data)


def _started(values: list[Any]) -> SpanRecord:
    trace_id, span_id, start_ns, number, *rest = values
    return SpanRecord(trace_id, span_id, start_ns, 0, "running", number, *rest)


def _ended(values: list[Any], *, json: bool) -> SpanRecord:
    if json:
        for index in _AS_JSON:
            if index < len(values) and values[index] is not None:  # an earlier version's has no log lines
                values[index] = attributes_from_json(values[index])
    return SpanRecord(*values)
