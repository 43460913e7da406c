"""Values to JSON text that SQLite, people and other tools can read, whatever the value was."""

import base64
import json
import math
import re
import sys
from typing import Any, Final

import msgspec

from handspan.redaction import Redactor

__all__ = ["attributes_from_json", "attributes_json", "clean_text", "safe_json_serialize"]

NON_SERIALIZABLE: Final = '"<NON_SERIALIZABLE>"'
_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")
_TAGS: Final = frozenset({"$bytes", "$float", "$int", "$map"})
MAX_DEPTH: Final = 8  # OTLP allows nesting; a cycle or a bomb ends here

_encode = msgspec.json.Encoder(order="deterministic").encode


def safe_json_serialize(value: object, redactor: Redactor | None = None) -> str:
    """JSON of registration-time arguments; a fixed placeholder for what has none.

    The same program gives the same text at every start: no memory address, no order of a set. A registration
    would look changed after each restart otherwise.
    """
    try:
        plain = _stable(value)
        if redactor is not None:
            plain = redactor.value(plain, sys.getrecursionlimit())  # a tree by now: as deep as it is
        return json.dumps(plain, sort_keys=True, ensure_ascii=False)
    except Exception:  # noqa: BLE001 - a hostile __str__ may raise anything; RecursionError and TypeError are common
        return NON_SERIALIZABLE


def _stable(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean_text(str.__str__(value))
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value) if math.isfinite(value) else float.__repr__(value)
    if isinstance(value, list | tuple):
        return [_stable(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_stable(item) for item in value), key=repr)
    if isinstance(value, dict):
        return {clean_text(key) if isinstance(key, str) else key: _stable(item) for key, item in value.items()}
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return clean_text(_ADDRESS.sub("", str(value)))


def clean_text(text: str) -> str:
    """Text that UTF-8 and C strings can hold: lone surrogates and NUL become escapes.

    sqlite3 refuses the first with UnicodeEncodeError, and tools cut the second's text short.
    """
    if text.isascii():
        return text.replace("\0", "\\x00") if "\0" in text else text
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


def attributes_json(value: dict[str, Any]) -> str:
    """Attributes, events and the like as JSON, lossless for every OpenTelemetry value type.

    What JSON cannot say is tagged: bytes as ``{"$bytes": base64}``, NaN and infinities as
    ``{"$float": "nan"}``, integers past 64 bits as ``{"$int": "0x..."}``. A mapping of the user's that looks
    like a tag is wrapped: ``{"$map": {...}}``.
    """
    return _encode(_plain(value, 0)).decode()


def attributes_from_json(text: str) -> Any:
    """The reverse of :func:`attributes_json` (tuples come back as lists, sets as sorted ones)."""
    return _restore(msgspec.json.decode(text))


def _plain(value: Any, depth: int) -> Any:
    kind = type(value)  # never isinstance: ``__class__`` may lie
    if value is None or value is True or value is False:
        return value
    if issubclass(kind, str):
        return clean_text(str.__str__(value))  # a subclass (an enumeration) as the text it is
    if issubclass(kind, int):
        whole = int.__int__(value)
        return whole if -(2**63) <= whole < 2**63 else {"$int": hex(whole)}  # decimal ends at 4,300 digits
    if issubclass(kind, float):
        return float.__float__(value) if math.isfinite(value) else {"$float": float.__repr__(value)}
    if issubclass(kind, bytes | bytearray | memoryview):
        return {"$bytes": base64.b64encode(value).decode()}
    if depth < MAX_DEPTH and issubclass(kind, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if depth < MAX_DEPTH and issubclass(kind, set | frozenset):
        return sorted((_plain(item, depth + 1) for item in value), key=_encode)
    if depth < MAX_DEPTH and hasattr(kind, "items"):
        found = {clean_text(_text(key)): _plain(item, depth + 1) for key, item in value.items()}
        return {"$map": found} if len(found) == 1 and next(iter(found)) in _TAGS else found
    return clean_text(_text(value))


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - someone else's __str__
        return f"<{type(value).__name__} without text>"


def _restore(value: Any) -> Any:
    if isinstance(value, list):
        return [_restore(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((tag, inner),) = value.items()
        if tag == "$bytes":
            return base64.b64decode(inner)
        if tag == "$float":
            return float(inner)
        if tag == "$int":
            return int(inner, 16)
        if tag == "$map":
            value = inner
    return {key: _restore(item) for key, item in value.items()}
