"""Secrets: found in any spelling, gone from every text and mapping, and nothing else changed."""

import copy
import json
import re
import time
import tracemalloc
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handspan.redaction import DEFAULT_KEYS, REDACTED, Redactor, redactor_for
from handspan.serialize import attributes_json, safe_json_serialize

ALL = Redactor(["default"])
NONE = Redactor(())
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEhunter2==\n-----END RSA PRIVATE KEY-----"

# --- keys ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", DEFAULT_KEYS)
@pytest.mark.parametrize("spelling", ["{}", "ha_{}", "db.{}", "X-{}", "{}_old", "{}2", "config[{}]", "{}value"])
def test_a_word_of_the_list_is_found_in_longer_keys(word, spelling):
    """As a whole word: at the beginning, in the middle, at the end; but not as part of another."""
    assert ALL.is_secret(spelling.format(word)) is (spelling != "{}value")


@pytest.mark.parametrize(
    "key",
    ["API-Key", "apiKey", "api_key", "X-Api-Key", "APIKEY", "apikey", "APIKey", "api key", "http.api-key", "k8sApiKey"],
)
def test_every_spelling_is_one_word(key):
    """Headers, camels, snakes and environment variables."""
    assert Redactor(["api_key"]).is_secret(key)
    assert Redactor(["ApiKey"]).is_secret(key)


@pytest.mark.parametrize(
    "key",
    [
        "tokens_used", "input_tokens", "token_count", "max_token_length", "author", "authority", "authenticated",
        "tokenizer", "secretary", "keyboard", "key", "session.id", "user_id", "entity_id", "password_expired",
        "TokenError", "cookie_policy", "api", "bypass", "", "...", "é",
    ],
)  # fmt: skip
def test_other_keys_are_nobodys_secret(key):
    """Counters, names, what is said about a secret, and words that only contain one."""
    assert not ALL.is_secret(key)


def test_the_list_can_be_added_to_replaced_and_shortened():
    """``default`` stands for the list, ``-word`` takes one out, in the order given."""
    more = Redactor(["default", "webhook id", "-pwd"])
    assert [more.is_secret(key) for key in ("webhookId", "password", "PWD")] == [True, True, False]
    assert [Redactor(["pin"]).is_secret(key) for key in ("pin", "password")] == [True, False]
    assert Redactor(["-pwd", "default"]).is_secret("pwd")


def test_without_a_list_nothing_is_looked_for():
    """Not even what cannot be anything else."""
    value = {"password": "hunter2", "url": "https://u:p@h", "jwt": [JWT]}
    assert NONE.mapping(value) == NONE.value(value) == value
    assert NONE.text(PEM) == PEM
    assert (bool(NONE), bool(ALL), bool(Redactor(["default", *(f"-{key}" for key in DEFAULT_KEYS)]))) == (
        False, True, False,
    )  # fmt: skip


def test_one_list_has_one_redactor():
    """What it has learned of keys is shared between everything of one setting."""
    assert redactor_for(("default",)) is redactor_for(("default",)) is not redactor_for(())


# --- texts --------------------------------------------------------------------------------------------------

HIDDEN = [
    ("password=hunter2", "password=[redacted]"),
    ("login(user='bob', password='hunt\\'er2') failed", "login(user='bob', password='[redacted]') failed"),
    ('{"token": "a b c", "x": 1}', '{"token": "[redacted]", "x": 1}'),
    ('{"pin_code": 1234, "x": [1]}', '{"pin_code": "[redacted]", "x": [1]}'),
    ('{"credentials": {"user": "u", "keys": ["}"]}, "b": 2}', '{"credentials": "[redacted]", "b": 2}'),
    (r'{\"token\": \"abc\", \"x\": 1}', r'{\"token\": \"[redacted]\", \"x\": 1}'),
    ("{'Authorization': 'Bearer xyz', 'x': 1}", "{'Authorization': '[redacted]', 'x': 1}"),
    ("Authorization: Bearer xyz", "Authorization: [redacted]"),
    ("> Cookie: a=b; c=d\r\n> Host: x", "> Cookie: [redacted]\r\n> Host: x"),
    ('Authorization: Digest username="u", response="abc"\nHost: x', "Authorization: [redacted]\nHost: x"),
    ("authorization=Bearer abc next", "authorization=[redacted] next"),
    ("api_key='...'", "api_key='[redacted]'"),
    ("api_key=\"\"\"a 'b' c\"\"\" + x", 'api_key="""[redacted]""" + x'),
    ("token=b'abc'", "token=b'[redacted]'"),
    ("https://bob:pa@ss@host:80/x", "https://bob:[redacted]@host:80/x"),
    ("redis://:pass@host", "redis://:[redacted]@host"),
    ("https://token:abc@host/x", "https://token:[redacted]@host/x"),
    ("GET /cb?access_token=abc&x=1", "GET /cb?access_token=[redacted]&x=1"),
    ("Server=x;Password=y;User=z", "Server=x;Password=[redacted];User=z"),
    ("f(token=abc, user=bob)", "f(token=[redacted], user=bob)"),
    ("token=Secret('hunter2') more", "token=[redacted] more"),
    ("auth=('bob', 'a)b') more", "auth=[redacted] more"),
    ("kwargs={'cookies': ['a',\n 'b'], 'c': 1}", "kwargs={'cookies': '[redacted]', 'c': 1}"),
    ("data['password'] = 'x'", "data['password'] = '[redacted]'"),
    ("assert token == 'abc'", "assert token == '[redacted]'"),
    ("Incorrect API key: abc-def.", "Incorrect API key: [redacted]"),
    ("[(b'authorization', b'abc'), (b'host', b'h')]", "[(b'authorization', b'[redacted]'), (b'host', b'h')]"),
    ("mysql --password hunter2 -v", "mysql --password [redacted] -v"),
    ("Command ['mysql', '--password', 'x'] failed", "Command ['mysql', '--password', '[redacted]'] failed"),
    ("mysql --password=hunter2", "mysql --password=[redacted]"),
    ("DB_PASSWORD: don't,do;this now", "DB_PASSWORD: [redacted] now"),
    ('{"password": "cut in the mid', '{"password": "[redacted]'),
    ("token = (\nnext line", "token = [redacted]\nnext line"),
    (f"got {JWT}, why", "got [redacted], why"),
    (f"key:\n{PEM}\nend", "key:\n[redacted]\nend"),
    (PEM[:50], "[redacted]"),
    ("sent Bearer abcdef12 to", "sent Bearer [redacted] to"),
    ("AKIAIOSFODNN7EXAMPLE", "[redacted]"),
    ("ghp_" + "a1" * 18, "[redacted]"),
    ("sk-ant-api03-" + "a1" * 18, "[redacted]"),
    ("xoxb-1234567890-abc", "[redacted]"),
    ("https://api.telegram.org/bot123456789:" + "A1b2" * 8 + "/send", "https://api.telegram.org/bot[redacted]/send"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "without"), HIDDEN)
def test_a_secret_in_a_text_is_hidden_and_the_rest_stays(text, without):
    """In the forms that messages, tracebacks, headers, URLs and sources have; and hiding it twice changes nothing."""
    assert ALL.text(text) == without
    assert ALL.text(without) == without


@pytest.mark.parametrize(
    "text",
    [
        "the bulb in the kitchen does not answer",
        "InvalidTokenError: Signature has expired",
        "missing 3 required positional arguments: 'token', 'topic', and 'c'",
        "tokens_used=512, token_count: 7, author=me",
        "password=None token: null secret = True password='' token=",
        'File "/app/token.py", line 3, in token',
        "http://host:8080/path?x=1 mail a@b.c",
        "Bearer authentication is required; basic knowledge",
        "both bots in the risk-management task-list disk-0123456789012345678901",
        "state: on, keyboard: de, code=200",
        "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
        "",
    ],
)
def test_a_text_without_a_secret_is_the_same(text):
    """What a person needs to understand a failure is not in the way."""
    assert ALL.text(text) == text


WORDS = st.sampled_from([
    "password", "token", "API key", "x-api-key", "Authorization", "cookie", "user", "count", "=", ":", ": ", " = ",
    "==", '"', "'", "\\", '\\"', '"""', "(", ")", "[", "]", "{", "}", ",", ", ", ";", "; ", "&", "?", "@", "://", "/",
    "--", " ", "\n", "\r\n", "[redacted]", "Bearer ", "Digest ", "hunter2", "abc.def", "eyJhbGciOiJI", "None", "null",
    "é", "\0", "AKIAIOSFODNN7EXAMPLE", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "b'", "sk-",
    "bot123456789:", "a1" * 20,
])  # fmt: skip
HOSTILE = st.one_of(
    st.text(), st.lists(WORDS, max_size=30).map("".join), st.lists(WORDS | st.text(max_size=5)).map("".join)
)


@given(HOSTILE)
def test_redacting_twice_is_redacting_once(text):
    """Whatever the text: what is stored may pass here again on its way out."""
    once = ALL.text(text)
    assert ALL.text(once) == once


@given(st.text(alphabet=st.characters(exclude_characters=":=-'\"")))
def test_prose_is_left_alone(text):
    """Without a sign between key and value, and without a known shape, a text is what it was."""
    if not re.search("eyJ|AKIA|ASIA|AIza|earer|github_pat|gh[pousr]_|k_live_", text):
        assert ALL.text(text) == text


SECRETS = st.text(st.sampled_from("abcXYZ0189_-+/.~!%*"), min_size=3, max_size=40).map(lambda s: f"q{s}q7")
KEYS = st.sampled_from(
    ["password", "ha_token", "X-Api-Key", "clientSecret", "db.password", "access_token", "AUTH_TOKEN"]
)
FORMS = st.sampled_from([
    "{k}={s}", "{k}: {s}", "{k} = {s}", "{k}='{s}'", '{k}="{s}"', '{{"{k}": "{s}"}}', "{{'{k}': '{s}', 'a': 1}}",
    "?a=1&{k}={s}&b=2", "https://u:{s}@host/", "--{k} {s}", "('{k}', '{s}')", '{{\\"{k}\\": \\"{s}\\"}}',
    "Authorization: Basic {s}", "{k}=Wrapper('{s}')", "{k}=['{s}', 1]",
])  # fmt: skip
AROUND = st.text(st.sampled_from("abc XYZ.\n,é"), max_size=30)


@given(KEYS, SECRETS, FORMS, AROUND, AROUND)
def test_no_generated_secret_survives_in_a_text(key, secret, form, before, after):
    """In every form of key and value, whatever stands around it; and that stays."""
    secret = secret.replace("/", "-") if "://" in form else secret
    text = f"{before} {form.format(k=key, s=secret)} {after}"
    redacted = ALL.text(text)
    assert secret not in redacted
    assert REDACTED in redacted
    assert redacted.startswith(before)
    assert redacted.endswith(after) or "Authorization" in form


# --- values ------------------------------------------------------------------------------------------------------

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.sampled_from("abc é"))
NESTED = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "state", "count"]), inner),
    max_leaves=10,
)


@given(NESTED)
def test_a_value_without_a_secret_is_the_same(value):
    """Numbers, texts, lists and mappings."""
    assert ALL.value(value) == value


@given(NESTED, KEYS, SECRETS, st.lists(st.sampled_from(["list", "mapping", "pair", "text"]), max_size=5))
def test_no_generated_secret_survives_in_a_value(beside, key, secret, path):
    """However deep it lies; what is beside it stays; the original is not touched; JSON stays JSON."""
    value = {key: secret, "beside": beside}
    for step in path:
        value = {
            "list": [beside, value, 1], "mapping": {"m": value, "n": beside}, "pair": (key, secret, value),
            "text": {"t": f"{key}={secret}", "m": value},
        }[step] if step != "pair" else {"headers": [(key, secret)], "m": value}  # fmt: skip
    before = copy.deepcopy(value)
    redacted = ALL.value(value, 100)
    assert value == before
    assert secret not in repr(redacted)
    assert ALL.value(redacted, 100) == redacted
    assert secret not in attributes_json(ALL.mapping({"v": value}))
    stored = safe_json_serialize(value, ALL)
    assert secret not in stored
    assert json.loads(stored) == json.loads(safe_json_serialize(redacted))


@pytest.mark.parametrize(
    ("value", "without"),
    [
        ({"password": 1234}, {"password": REDACTED}),
        ({"token": ["a"], "cookies": {"sid": 1}}, {"token": REDACTED, "cookies": REDACTED}),
        ({"password": None, "use_token": True, "secret": ""}, {"password": None, "use_token": True, "secret": ""}),
        ([("authorization", "x"), ("host", "h")], [["authorization", REDACTED], ["host", "h"]]),
        (["mysql", "--password", "x", "-v"], ["mysql", "--password", REDACTED, "-v"]),
        (["token", "topic", "light"], ["token", "topic", "light"]),
        (["wrong password", "kitchen"], ["wrong password", "kitchen"]),
        (b"password=hunter2\xff", b"password=[redacted]"),
        ({b"password": b"x", 1: 2}, {b"password": REDACTED, 1: 2}),
        (OrderedDict(a=OrderedDict(api_key="x")), {"a": {"api_key": REDACTED}}),
        ({"token=a"}, ["token=[redacted]"]),
    ],
)
def test_values_of_every_kind(value, without):
    """Fixed text for whatever the key hides; what says that there is none is worth reading."""
    assert ALL.value(value) == without


def test_an_object_is_looked_through_as_the_text_it_is_stored_as():
    """Its ``repr`` may show what it was made with."""

    class Client:
        def __repr__(self):
            return "Client(user='bob', password='hunter2')"

    assert ALL.value([Client()]) == ["Client(user='bob', password='[redacted]')"]
    assert "hunter2" not in safe_json_serialize({"client": Client()}, ALL)


def test_what_lies_too_deep_is_a_text_without_secrets():
    """As deep as it is stored; below that, a text."""
    value = {"password": "hunter2"}
    for _ in range(20):
        value = {"in": [value]}
    assert "hunter2" not in repr(ALL.value(value))
    assert "hunter2" not in attributes_json(ALL.mapping(value))
    assert "hunter2" not in safe_json_serialize(value, ALL)
    assert REDACTED in safe_json_serialize(value, ALL)


def test_what_cannot_be_looked_through_is_not_kept():
    """Nothing raises, and nothing slips through because something raised."""

    class Mute:
        def __str__(self):
            raise ValueError("hunter2")

    class Broken(dict):
        def items(self):
            raise ValueError("hunter2")

    loop = {}
    loop["again"] = [loop, loop]
    assert ALL.value({"a": Mute(), "b": Broken(password="hunter2")}) == {"a": REDACTED, "b": REDACTED}
    assert "again" in ALL.value(loop)
    assert ALL.text("\ud800 password=\udfff\0") == "\ud800 password=[redacted]"


# --- bounds ----------------------------------------------------------------------------------------------------------


@given(KEYS, SECRETS, st.integers(0, 400), st.integers(1, 400))
def test_a_secret_cut_in_two_does_not_survive(key, secret, before, size):
    """Neither the half before a cut nor the half after it."""
    for text in (
        "x " * (before // 2) + f"{key}='{secret} and more words' " + "y " * 1000,
        "x " * (before // 2) + f"https://bob:{secret.replace('/', '-')}@host/ " + "y " * 1000,
        "x " * (before // 2) + f"Bearer {'a1' * 20}{secret}== " + "y " * 1000,
    ):
        head, tail = ALL.head(text, size), ALL.tail(text + "\nlast line", size + 2000)
        assert len(head) <= size
        for half in (secret[: max(4, len(secret) // 2)], secret[-max(4, len(secret) // 2) :], "more words", "a1" * 5):
            assert half.replace("/", "-") not in head.replace("/", "-").replace(key, "")
            assert half.replace("/", "-") not in tail.replace("/", "-").replace(key, "")
        assert tail.endswith("last line")


def test_a_word_of_a_megabyte_ends_where_a_secret_may_begin():
    """Where no space tells where it ends, its first signs do."""
    assert ALL.head("x" * 1_000_000, 4_000) == "x" * 4_000
    assert ALL.head("x" * 3_900 + "://bob:" + "hunter2" * 1_000 + "@host", 4_000) == "x" * 3_900
    assert ALL.head("x" * 3_900 + PEM[:40] + "A" * 10_000, 3_950) == "x" * 3_900 + REDACTED


def test_a_private_key_of_which_only_the_end_is_left():
    """A tail begins with a line, and a key has many."""
    text = "y" * 5_000 + "\n" + PEM + "\nend"
    assert ALL.tail(text, len("hunter2==\n-----END RSA PRIVATE KEY-----\nend") + 20).strip() == "end"


PIECES = [
    "x", "token=", 'token="', "token='", "token=(", "token=[", "token={'", "a.", "a-", "--token ", "'token','", "://a:",
    "://a:b", "@://a:b", "eyJaaaaaaaa.", "eyJ", "-----BEGIN PRIVATE KEY-----", "token:[redacted]@", "Bearer ",
    "token\\", "token = ", '("token","', "api key: ", '{"token": {', "token=a,", "token=a;b", "sk-", "password:'",
    "cookie: a'", "token=a)", "token=a'a", "token==", "token \t", "AKIA", "token=\\'", 'token="""', "bot1234567:",
    "TokenTOKEN_", "=", "İ=",
]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
def test_work_grows_with_the_text_and_not_faster(piece):
    """Eight times the text is about eight times the work, and not sixty-four times: a pattern that backtracks, or
    a scan that begins again, would show. Processor time of this thread, each the best of three."""

    def best(size):
        text = "password " + (piece * (size // len(piece) + 1))[:size]
        times = []
        for _ in range(3):
            started = time.thread_time()
            ALL.text(text)
            times.append(time.thread_time() - started)
        return min(times)

    small, large = best(8_000), best(64_000)
    assert large < 8 * 3 * max(small, 0.0001)


def test_keys_of_a_megabyte_are_not_learned_by_heart():
    """What is remembered of keys is bounded in number and in size."""
    redactor = Redactor(["default"])
    tracemalloc.start()
    for number in range(20):
        key = f"{number}_" + "a_" * 500_000 + "password"
        assert redactor.text(f"{key}=x").endswith("password=[redacted]")
        assert redactor.value({key: "x"}) == {key: REDACTED}
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 5_000_000
