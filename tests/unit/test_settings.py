"""Settings: arguments, then ``HANDSPAN_*``, then the defaults; and an error that names what was wrong."""

import math
import pathlib
from dataclasses import FrozenInstanceError, fields

import pytest

import handspan
from handspan import Settings
from handspan.errors import SettingsError
from handspan.settings import misspelt

FIELDS = {field.name: field for field in fields(Settings)}


def test_without_anything_the_defaults_hold():
    """An empty environment gives the documented defaults."""
    assert Settings.load({}) == Settings()


def test_arguments_win_over_the_environment_and_it_over_the_defaults():
    """The order is arguments, environment, defaults; each setting by itself."""
    found = Settings.load({"HANDSPAN_DB": "env.db", "HANDSPAN_SYNC_WORKERS": "3"}, db="argument.db")
    assert (found.db, found.sync_workers, found.segment_max_spans) == ("argument.db", 3, Settings().segment_max_spans)


def test_the_process_environment_is_heard_by_default(monkeypatch, tmp_path):
    """``Settings.load()`` and ``Telemetry()`` read ``os.environ``."""
    path = str(tmp_path / "heard.db")
    monkeypatch.setenv("HANDSPAN_DB", path)
    assert Settings.load().db == path
    telemetry = handspan.Telemetry(set_global_providers=False, handle_sigterm=False)
    assert telemetry.settings.db == path
    telemetry.close()


def test_settings_given_whole_are_taken_as_they_are(monkeypatch, tmp_path):
    """Somebody who built ``Settings`` decided everything: the environment is not asked again."""
    monkeypatch.setenv("HANDSPAN_SYNC_WORKERS", "3")
    settings = Settings(db=str(tmp_path / "x.db"), set_global_providers=False, handle_sigterm=False)
    telemetry = handspan.Telemetry(settings)
    assert telemetry.settings is settings
    telemetry.close()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        pytest.param("db", "/var/lib/home.db", "/var/lib/home.db", id="path"),
        pytest.param("db", "off", "off", id="path-that-reads-like-a-switch"),
        pytest.param("service_name", "on", "on", id="text-that-reads-like-a-switch"),
        pytest.param("service_name", "null", "null", id="text-that-reads-like-null"),
        pytest.param("service_version", "1.10", "1.10", id="text-that-reads-like-a-number"),
        pytest.param("propagation", "child", "child", id="choice"),
        pytest.param("commit_interval", "0.25", 0.25, id="seconds"),
        pytest.param("commit_interval", "2", 2.0, id="whole-seconds"),
        pytest.param("sync_workers", "16", 16, id="count"),
        pytest.param("db_max_size_mb", "1024", 1024, id="megabytes"),
        pytest.param("db_retention_days", "0.5", 0.5, id="days"),
        pytest.param("handle_sigterm", "no", False, id="no"),
        pytest.param("handle_sigterm", "Off", False, id="off"),
        pytest.param("handle_sigterm", "0", False, id="zero"),
        pytest.param("handle_sigterm", "false", False, id="false"),
        pytest.param("handle_sigterm", "YES", True, id="yes"),
        pytest.param("handle_sigterm", " on ", True, id="on-with-spaces"),
        pytest.param("handle_sigterm", "1", True, id="one"),
        pytest.param("redact_keys", "default, webhook id,-pwd", ("default", "webhook id", "-pwd"), id="words"),
        pytest.param("redact_keys", "None", (), id="no-words"),
    ],
)
def test_a_variable_is_read_as_its_setting_s_type(name, text, value):
    """Text from the environment becomes the setting's type, and only a switch is read as a switch."""
    found = getattr(Settings.load({f"HANDSPAN_{name.upper()}": text}), name)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_can_be_given_by_variable(name):
    """There is no setting that only code can reach."""
    default = getattr(Settings(), name)
    text = "given" if default is None else ",".join(default) if isinstance(default, tuple) else str(default)
    assert getattr(Settings.load({f"HANDSPAN_{name.upper()}": text}), name) == (
        default if default is not None else "given"
    )


@pytest.mark.parametrize("name", FIELDS)
def test_an_empty_variable_is_no_variable(name):
    """``HANDSPAN_X=`` in a compose file means: not set."""
    assert Settings.load({f"HANDSPAN_{name.upper()}": ""}) == Settings()


def test_a_path_object_is_a_path():
    """``db`` takes what ``open()`` takes."""
    assert Settings.load({}, db=pathlib.Path("a/b.db")).db == "a/b.db"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("commit_interval", 0, id="zero-seconds"),
        pytest.param("commit_interval", -1.0, id="negative-seconds"),
        pytest.param("commit_interval", math.nan, id="nan-seconds"),
        pytest.param("commit_interval", math.inf, id="endless-seconds"),
        pytest.param("busy_timeout", 1e300, id="more-seconds-than-a-thread-can-wait"),
        pytest.param("db_retention_days", math.inf, id="endless-days"),
        pytest.param("sync_workers", 0, id="no-workers"),
        pytest.param("sync_workers", 2.5, id="half-a-worker"),
        pytest.param("queue_max_mb", "lots", id="text-for-a-number"),
        pytest.param("handle_sigterm", "maybe", id="neither-yes-nor-no"),
        pytest.param("propagation", "sibling", id="no-such-choice"),
        pytest.param("service_name", 5, id="number-for-a-text"),
        pytest.param("db", None, id="no-path"),
        pytest.param("db", 5, id="number-for-a-path"),
        pytest.param("db", b"home.db", id="bytes-for-a-path"),
        pytest.param("db", "", id="empty-path"),
        pytest.param("db", "a\0b", id="path-with-a-nul"),
        pytest.param("redact_keys", "password", id="text-for-words"),
        pytest.param("redact_keys", ["--"], id="word-without-a-letter"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(name, value):
    """The error says which setting it is about: someone has to find it in a file of thirty."""
    with pytest.raises(SettingsError, match=name):
        Settings.load({}, **{name: value})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("commit_interval", "inf", id="endless"),
        pytest.param("commit_interval", "soon", id="word"),
        pytest.param("sync_workers", "0", id="zero"),
        pytest.param("propagation", "sibling", id="no-such-choice"),
        pytest.param("handle_sigterm", "maybe", id="neither"),
    ],
)
def test_a_variable_that_makes_no_sense_is_refused_by_name(name, text):
    """Likewise for the environment."""
    with pytest.raises(SettingsError, match=name):
        Settings.load({f"HANDSPAN_{name.upper()}": text})


def test_a_misspelt_setting_is_refused_and_the_real_ones_are_listed():
    """A typing error never silently does nothing."""
    with pytest.raises(SettingsError, match="no setting 'retention'") as caught:
        Settings.load({}, retention=3)
    assert "db_retention_days" in caught.value.hint


def test_a_wrong_setting_stops_telemetry_before_anything_is_made(tmp_path):
    """Settings are checked when the object is made, not when the first span ends."""
    with pytest.raises(SettingsError, match="sync_workers"):
        handspan.Telemetry(str(tmp_path / "x.db"), sync_workers=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("variable", "text", "says"),
    [
        ("HANDSPAN_PROPAGATION", "sibling", "It is 'link' or 'child'."),
        ("HANDSPAN_HANDLE_SIGTERM", "maybe", "It is true or false."),
        ("HANDSPAN_SYNC_WORKERS", "0", ">= 1"),
    ],
)
def test_a_wrong_variable_is_named_with_its_choices(variable, text, says):
    """Whoever set it knows the variable, not the field."""
    with pytest.raises(SettingsError, match=variable) as caught:
        Settings.load({variable: text})
    assert says in str(caught.value)


def test_a_misspelt_variable_is_noticed_and_the_real_one_named():
    """Nothing reads it, so nothing would say so; those of others are theirs."""
    (sentence,) = misspelt({"HANDSPAN_RETENTION_DAYS": "3", "HANDSPAN_DB": "x", "HANDSPAN_DEBUG": "1", "HANDS": "2"})
    assert sentence.startswith("HANDSPAN_RETENTION_DAYS is no setting")
    assert sentence.endswith("Did you mean HANDSPAN_DB_RETENTION_DAYS?")
    assert "docs/settings.md" in misspelt({"HANDSPAN_XYZZY": "1"})[0]


def test_a_misspelt_variable_is_told_when_recording_begins(monkeypatch, tmp_path, caplog):
    """Once, in the log."""
    monkeypatch.setenv("HANDSPAN_COMMIT_INTERVALL", "1")
    with handspan.Telemetry(str(tmp_path / "x.db"), set_global_providers=False, handle_sigterm=False):
        pass
    told = [record.getMessage() for record in caplog.records if "HANDSPAN_COMMIT_INTERVALL" in record.getMessage()]
    assert [each.rpartition(" ")[2] for each in told] == ["HANDSPAN_COMMIT_INTERVAL?"]


def test_settings_do_not_change():
    """They are a value: what was read is what holds."""
    with pytest.raises(FrozenInstanceError):
        Settings().db = "other.db"


@pytest.mark.parametrize(
    "words", [("-pwd",), ("-pwd", "-token"), ("defaults",), ("default;webhook",), ("default webhook",)], ids=repr
)
def test_a_list_of_keys_that_would_redact_nothing_is_refused(words):
    """A typo must not turn redaction off without a word."""
    with pytest.raises(SettingsError, match="redact_keys"):
        Settings.load({}, redact_keys=words)


@pytest.mark.parametrize("level", ["LOUD", "20", ""])
def test_a_level_that_is_none_lists_those_there_are(level):
    """From the least to the most severe, with what turns it off."""
    with pytest.raises(SettingsError, match=r"Choose one of: NOTSET, DEBUG, INFO, WARN, WARNING, .*CRITICAL, .*OFF"):
        Settings.load({}, log_level=level)


@pytest.mark.parametrize("level", ["debug", "Off", " ERROR ", "CRITICAL"])
def test_a_level_is_a_name_in_any_case(level):
    """As the logging module has them."""
    assert Settings.load({"HANDSPAN_LOG_LEVEL": level}).log_level == level
