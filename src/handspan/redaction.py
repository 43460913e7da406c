r"""Secrets out of everything that is stored.

Two ways to know one. By its key: a value is replaced by ``[redacted]`` where its key holds a word of the list, in a
mapping and in a text (``password=x``, ``"token": "x"``, ``Authorization: Bearer x``, ``?access_token=x``,
``--password x``, ``('token', 'x')``). By its shape, where it can be nothing else: the password of a URL, private
keys, JWTs and the tokens of some large services. ``docs/settings.md`` says what is not found.

Where a value ends is a guess in a text, and the guess is on the long side: too much is redacted rather than too
little, but never past the line, unless a bracket says so. Everything is linear in the text: keys are found by a
pattern that cannot backtrack (``++``), values by scanning forward from there. Redacting twice changes nothing: no
pattern matches across ``[redacted]``.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

__all__ = ["DEFAULT_KEYS", "REDACTED", "Redactor", "redactor_for"]

REDACTED: Final = "[redacted]"

DEFAULT_KEYS: Final = (
    "access_key", "account_key", "alarm_code", "amz_signature", "api_key", "api_keys", "auth", "authorization",
    "bearer", "cookie", "cookies", "credential", "credentials", "csrf", "encryption_key", "jwt", "network_key", "otp",
    "passcode", "passphrase", "passwd", "password", "passwords", "pin_code", "private_key", "psk", "pwd", "secret",
    "secrets", "session_key", "signing_key", "ssh_key", "token", "xsrf",
)  # fmt: skip
"""Not ``tokens``, which counts (a language model's); not ``session_id``, OpenTelemetry's name for what belongs
together; not ``pass``, ``pin``, ``code`` and ``key``, which are tests, hardware, statuses and mappings."""

_ABOUT: Final = frozenset(
    {
        "age", "at", "bucket", "count", "denied", "enabled", "endpoint", "error", "exception", "expiration",
        "expired", "expires", "expiry", "file", "found", "kind", "len", "length", "limit", "method",
        "missing", "mode", "name", "path", "policy", "provider", "required", "size", "status", "ttl", "type",
        "uri", "url", "used", "valid", "warning",
    }
)  # fmt: skip
"""Last words of a key that is about a secret and holds none: ``token_count``, ``InvalidTokenError``."""

_HARMLESS: Final = frozenset({"None", "True", "False", "null", "true", "false", "NULL", "nil", "undefined"})
"""Values that say that there is none, or whether: worth reading."""

MAX_KEY: Final = 200  # characters of a key looked at, from its end
MAX_GROUP: Final = 4_000  # characters a bracket after a key may take to close
MAX_LOST_BRACKETS: Final = 16  # that never close, in one text; with the bound above, what keeps the work linear
MAX_DEPTH: Final = 8  # of nesting; the same as handspan.serialize, where deeper values become texts
SLACK: Final = 256  # characters beyond a cut, to see what it would cut in two

# --- keys ---------------------------------------------------------------------------------------------

_HUMPS: Final = re.compile(r"(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_GAPS: Final = re.compile(r"[\W\d_]+")


def _words(key: str) -> list[str]:
    """``X-Api-Key``, ``apiKey`` and ``API_KEY2`` as ``[..., "api", "key"]``."""
    return [word for word in _GAPS.split(_HUMPS.sub("_", key).lower()) if word]


_KEY: Final = re.compile(
    r"""(?<![\w.\-])(?:
        (?=--)(?P<option>[\w.\-]++)[ \t]++(?![=:])                       # --password x
      | (?P<key>[\w.\-]++)(?:
            (?P<quote>\\*+["'])?+\]?+[ \t]*+(?:=>|:=|!=|={1,3}+|(?P<colon>:))[ \t]*+
          | (?P<list>["'],[ \t]*+(?=[bB]?["']))                          # ('token', 'x'), ['--token', 'x']
        )
    )""",
    re.VERBOSE,
)
_NAME: Final = re.compile(r"[\w.\-]{1,100}")
_PAIR: Final = re.compile(r"[(\[][bB]?[\"']\Z")
_OPEN: Final = re.compile(r"(?:[bBrRuUfF]{1,2})?(?P<escape>\\*+)(?P<quote>\"\"\"|'''|\"|')")
_INSIDE: Final = {'"': re.compile(r'(?:[^"\\\r\n]|\\.)*+'), "'": re.compile(r"(?:[^'\\\r\n]|\\.)*+")}
_SCHEME: Final = re.compile(r"(?:basic|bearer|bot|digest|negotiate|ntlm|token)[ \t]++(?=\S)", re.IGNORECASE)
_HEADER: Final = re.compile(r"(?:digest\b|aws4)[^\r\n]*+|[^\r\n\"']*+", re.IGNORECASE)
_HEADERS: Final = frozenset({"authorization", "cookie", "cookies"})
_BARE: Final = re.compile(r"[^\s&\"'<>,;()\[\]{}]++")
_NEXT: Final = re.compile(r"\s|\Z|[\"'\\(\[{]|[\w.\-]{1,64}[ \t]?[=:]")
_BRACKETS: Final = re.compile(r'"(?:[^"\\\r\n]|\\.)*+"|\'(?:[^\'\\\r\n]|\\.)*+\'|[()\[\]{}]')


class _Values:
    """Where the values in one text begin and end."""

    def __init__(self, text: str) -> None:
        self._text, self._lost = text, 0

    def after(self, found: re.Match[str], *, header: bool) -> tuple[int, int, str] | None:
        """Start, end and replacement of the value of a key; None where there is nothing to hide."""
        text, start = self._text, found.end()
        opened = _OPEN.match(text, start)
        if opened is not None:
            start, end = opened.end(), self._end_of_quoted(opened)
            if found["list"] and not found["key"].startswith("--"):
                is_pair = _PAIR.search(text, max(0, found.start() - 3), found.start())
                if not is_pair or text[end + 1 : end + 2] not in (")", "]", ""):  # a list of words, perhaps of keys
                    return None
            return None if text[start:end] in ("", REDACTED) else (start, end, REDACTED)
        if text.startswith(f"{REDACTED}@", start):  # a URL, whose user is called so
            return None
        if header and found["colon"] and not found["quote"]:
            matched = _HEADER.match(text, start)
            end = start if matched is None else start + len(matched[0].rstrip())
        else:
            end = self._end_of_bare(start)
        value, quote = text[start:end], found["quote"] or ""
        if not value or value in _HARMLESS or value == REDACTED:
            return None
        return start, end, f"{quote}{REDACTED}{quote}"  # a number in a JSON object: what replaces it is a string

    def _end_of_quoted(self, opened: re.Match[str]) -> int:
        """Before the closing quote; an unclosed one is taken to the line's end: it was cut, or is none."""
        text, start, quote = self._text, opened.end(), opened["quote"]
        if not opened["escape"] and len(quote) == 1:
            inside = _INSIDE[quote].match(text, start)
            end = start if inside is None else inside.end()
            return end if text.startswith(quote, end) else self._end_of_line(end)
        end_of_line = self._end_of_line(start)
        end = text.find(opened["escape"] + quote, start, end_of_line)
        return end_of_line if end < 0 else end

    def _end_of_bare(self, start: int) -> int:
        text = self._text
        scheme = _SCHEME.match(text, start)
        at = start if scheme is None else scheme.end()
        while True:
            plain = _BARE.match(text, at)
            at = at if plain is None else plain.end()
            char, following = text[at : at + 1], text[at + 1 : at + 2]
            if char and char in "([{":
                end = self._end_of_group(at)
                if end is None:
                    return self._end_of_line(at)
                at = end
            elif char and (
                (char in ")]}" and following.isalnum())
                or (char in "\"'" and at > start and following.isalnum())
                or (char in ",;" and _NEXT.match(text, at + 1) is None)
            ):
                at += 1  # in the middle of a value
            else:
                return at

    def _end_of_group(self, start: int) -> int | None:
        """Past the bracket that closes this one; quoted texts may hold any."""
        if self._lost >= MAX_LOST_BRACKETS:
            return None
        depth = 0
        for found in _BRACKETS.finditer(self._text, start, start + MAX_GROUP):
            char = found[0]
            depth += 1 if char in "([{" else -1 if char in ")]}" else 0
            if depth == 0:
                return found.end()
        self._lost += 1
        return None

    def _end_of_line(self, start: int) -> int:
        end = self._text.find("\n", start)
        return len(self._text) if end < 0 else end - self._text.endswith("\r", start, end)


# --- shapes -----------------------------------------------------------------------------------------------

# What a text must hold for the pattern to be tried, and the pattern; what it calls "keep" stays. Each begins with
# the literal, so that the search for it is the regex engine's quickest.
_SHAPES: Final = tuple(
    (hint, re.compile(pattern))
    for hint, pattern in (
        # To the last @ of the authority: passwords hold unescaped ones. No part of it runs into another URL.
        ("://", r"(?P<keep>://[^\s/?#\"'<>@:]*+:)(?:(?!\[redacted\])[^\s/?#\"'<>])+(?=@)"),
        # A digit among the first 64: "Bearer authentication" is prose.
        ("earer ", r"(?P<keep>earer[ ]++)(?=[^\s\"'<>,;()\[\]{}&]{0,63}\d)[^\s\"'<>,;()\[\]{}&]{8,}+"),
        ("-----BEGIN ", r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z0-9 ]{0,30}KEY-----|\Z)"),
        ("eyJ", r"eyJ(?<![\w\-]eyJ)[\w\-]{8,}+(?:\.[\w\-]*+){2,4}+"),  # a JWT: {" in base64url, then dots
        ("AKIA", r"AKIA(?<!\wAKIA)[A-Z0-9]{16}(?!\w)"),  # Amazon
        ("ASIA", r"ASIA(?<!\wASIA)[A-Z0-9]{16}(?!\w)"),
        ("github_pat_", r"github_pat_\w{22,}+"),
        ("gh", r"gh(?<!\wgh)[pousr]_[A-Za-z0-9]{36,}+"),  # GitHub
        ("glpat-", r"glpat-[\w\-]{20,}+"),  # GitLab
        ("xox", r"xox(?<!\wxox)[abeoprs]-[\w\-]{10,}+"),  # Slack
        ("sk-", r"sk-(?<![\w\-]sk-)(?=[\w\-]{0,63}\d)[\w\-]{20,}+"),  # OpenAI, Anthropic
        ("k_live_", r"k_live_(?<=[sr]k_live_)\w{16,}+"),  # Stripe
        ("AIza", r"AIza(?<!\wAIza)[\w\-]{35}"),  # Google
        ("bot", r"(?P<keep>bot(?<!\wbot))\d{6,12}:[\w\-]{30,}+"),  # Telegram, in the path of each of its URLs
    )
)


SHORTEST_SHAPE: Final = 13  # characters of the shortest that holds no colon: eyJ, eight, two dots


def _shape_hidden(found: re.Match[str]) -> str:
    return (found.groupdict().get("keep") or "") + REDACTED


# --- the redactor -------------------------------------------------------------------------------------------


class Redactor:
    """Hides secrets by a list of key words; with an empty list it changes nothing.

    Words of the list are found in any spelling (``api_key``: ``X-Api-Key``, ``apiKey``, ``APIKEY``), as whole words
    of a longer key (``db.password``). ``default`` stands for :data:`DEFAULT_KEYS`; ``-word`` takes one out.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        listed: dict[str, list[str]] = {}
        for key in keys:
            if key.strip().lower() == "default":
                listed |= {"".join(words): words for words in map(_words, DEFAULT_KEYS)}
            elif key.strip().startswith("-"):
                listed.pop("".join(_words(key)), None)
            elif words := _words(key):
                listed["".join(words)] = words
        self._listed = frozenset(listed)
        self._longest = max(map(len, listed), default=0)
        self._last_words = frozenset(words[-1] for words in listed.values() if len(words) > 1)
        stems = {max(words, key=len) for words in listed.values()}
        self._stems = tuple(sorted(stem for stem in stems if not any(o != stem and o in stem for o in stems)))
        self.is_secret: Callable[[str], bool] = lru_cache(maxsize=1024)(self._is_secret)
        """Whether the value of this key is to be hidden."""
        self._known = lru_cache(maxsize=1024)(lambda name: (self.text(name), self._is_secret(name)))

    def __bool__(self) -> bool:
        return bool(self._listed)

    def text(self, text: str) -> str:
        """The text without the secrets that can be told."""
        if not self._listed:
            return text
        try:
            text = str.__str__(text)
            has_sign = ":" in text or "=" in text or "--" in text or "'," in text or '",' in text
            if not has_sign and len(text) < SHORTEST_SHAPE:
                return text
            for hint, shape in _SHAPES:
                if hint in text and (hint != "://" or "@" in text):
                    text = shape.sub(_shape_hidden, text)
            if not has_sign:
                return text
            lowered = text.lower()
            return self._pairs(text) if any(stem in lowered for stem in self._stems) else text
        except Exception:  # noqa: BLE001 - what could not be looked through is not stored
            return REDACTED

    def value(self, value: Any, room: int = MAX_DEPTH) -> Any:
        """The like of it without secrets; what it holds is copied, never changed. What is nested deeper than
        there is ``room`` for becomes a text."""
        if value is None or isinstance(value, bool | int | float) or not self._listed:
            return value
        try:
            if isinstance(value, str):
                return self.text(value)
            if isinstance(value, bytes | bytearray | memoryview):
                return self.text(bytes(value).decode("latin-1")).encode("latin-1")
            if room > 0 and isinstance(value, list | tuple):
                return self._items(value, room - 1)
            if room > 0 and isinstance(value, set | frozenset):
                return sorted((self.value(item, room - 1) for item in value), key=repr)
            if room > 0 and hasattr(value, "items"):
                return self._mapping(value, room - 1)
            return self.text(str(value))
        except Exception:  # noqa: BLE001 - somebody's __str__ or items()
            return REDACTED

    def mapping(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes, or what is to be stored beside them."""
        return self._mapping(values, MAX_DEPTH - 1) if self._listed else dict(values)

    def head(self, text: str, size: int) -> str:
        """The first characters without secrets, and without the first half of one. All of a text that is no longer
        than ``size`` (and then a little more of it, where the secrets were shorter than what replaces them)."""
        if not self._listed or len(text) <= size:
            return self.text(text[:size])
        begin = text[: size + SLACK]
        if len(begin) < len(text):  # what the cut went through shows no more what it is
            last = max(begin.rfind(space) for space in " \t\n\r") + 1
            if len(begin) - last <= SLACK:
                begin = begin[:last]
            else:  # a word longer than that: it ends where a secret may begin
                begin = begin[: min((at for hint, _ in _SHAPES if (at := begin.find(hint, last)) >= 0), default=None)]
        return self.text(begin)[:size]

    def tail(self, text: str, size: int) -> str:
        """The last characters, likewise. From the start of a line on: what precedes a value may be its key."""
        if not self._listed or len(text) <= size:
            return self.text(text[len(text) - size :] if len(text) > size else text)
        end = text[len(text) - size :]
        end = end[end.find("\n") + 1 :] if "\n" in end else ""
        closing = end.find("PRIVATE KEY-----")
        if closing >= 0 and "-----BEGIN " not in end[:closing]:
            end = end[closing + len("PRIVATE KEY-----") :]
        return self.text(end)

    def _mapping(self, values: Mapping[Any, Any], room: int) -> dict[Any, Any]:
        found = {}
        for key, value in values.items():
            name, is_secret = self._name(key)
            if not is_secret:
                found[name] = self.value(value, room)
            elif value is None or isinstance(value, bool) or (isinstance(value, str) and not value):
                found[name] = value
            else:
                found[name] = REDACTED
        return found

    def _name(self, key: Any) -> tuple[Any, bool]:
        """The key as it is stored, and whether its value is to be hidden."""
        if isinstance(key, str):
            name = str.__str__(key)
            if len(name) <= MAX_KEY:
                return self._known(name)
            return self.text(name), self._is_secret(name[-MAX_KEY:])
        return key, isinstance(key, bytes) and self.is_secret(key[-MAX_KEY:].decode("latin-1"))

    def _items(self, values: list[Any] | tuple[Any, ...], room: int) -> list[Any]:
        """Also ``("authorization", "x")``, as headers are given, and ``["--password", "x"]``."""
        found, hidden = [], False
        for item in values:
            found.append(REDACTED if hidden and isinstance(item, str | bytes) else self.value(item, room))
            key = _as_text(item)
            hidden = (
                key is not None
                and (len(values) == 2 or key.startswith("--"))
                and _NAME.fullmatch(key) is not None
                and self.is_secret(key)
            )
        return found

    def _pairs(self, text: str) -> str:
        values, parts, done, at = _Values(text), [], 0, 0
        while (found := _KEY.search(text, at)) is not None:
            at, key = found.end(), found["option"] or found["key"]
            key = key[-MAX_KEY:]
            if not (self.is_secret(key) or self._is_second_word(text, found.start(), key)):
                continue
            hidden = values.after(found, header=not _HEADERS.isdisjoint(_words(key)))
            if hidden is not None:
                start, end, replacement = hidden
                parts += [text[done:start], replacement]
                done = at = end
        return "".join((*parts, text[done:])) if parts else text

    def _is_second_word(self, text: str, start: int, key: str) -> bool:
        """``API key: x``"""
        if key.lower() not in self._last_words or text[start - 1 : start] != " ":
            return False
        before = re.split(r"[^\w.\-]", text[max(0, start - 33) : start - 1])[-1]
        return self.is_secret(f"{before}_{key}")

    def _is_secret(self, key: str) -> bool:
        words = _words(key)
        for first in range(len(words)):
            joined = ""
            for last in range(first, len(words)):
                joined += words[last]
                if len(joined) > self._longest:
                    break
                if joined in self._listed and (last == len(words) - 1 or words[-1] not in _ABOUT):
                    return True
        return False


def _as_text(key: object) -> str | None:
    if isinstance(key, str):
        return str.__str__(key)
    return key.decode("latin-1") if isinstance(key, bytes) else None


@lru_cache(maxsize=32)
def redactor_for(keys: tuple[str, ...]) -> Redactor:
    """One for each list: what it has learned of keys is shared."""
    return Redactor(keys)
