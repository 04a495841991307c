"""Settings: Label Studio's own names, refusals that name the variable, secrets that stay secret."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from everylabel.backend.settings import Settings
from everylabel.scripts.cli import app
from everylabel.scripts.commands import serve
from everylabel.scripts.commands.serve import _is_loopback


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch):
    for name in (
        "LABEL_STUDIO_URL",
        "LABEL_STUDIO_HOST",
        "LABEL_STUDIO_API_KEY",
        "LABEL_STUDIO_ACCESS_TOKEN",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("MODEL_DIR", "BASIC_AUTH_USER", "BASIC_AUTH_PASS", "LOG_LEVEL", "EVERYLABEL_BATCH_SIZE"):
        monkeypatch.delenv(name, raising=False)


def test_the_names_label_studio_users_know_are_read(monkeypatch, tmp_path):
    for name, value in {
        "LABEL_STUDIO_URL": "https://labels.example/",
        "LABEL_STUDIO_API_KEY": "t0ken",
        "MODEL_DIR": str(tmp_path),
        "BASIC_AUTH_USER": "ann",
        "BASIC_AUTH_PASS": "s3cret",
        "LOG_LEVEL": "DEBUG",
        "EVERYLABEL_BATCH_SIZE": "7",
    }.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.label_studio_url == "https://labels.example"
    assert settings.label_studio_api_key.get_secret_value() == "t0ken"
    assert settings.model_dir == tmp_path
    assert settings.has_auth
    assert settings.log_level == "DEBUG"
    assert settings.batch_size == 7


def test_the_older_names_of_label_studio_ml_backends_are_read_too(monkeypatch):
    monkeypatch.setenv("LABEL_STUDIO_HOST", "http://old.example")
    monkeypatch.setenv("LABEL_STUDIO_ACCESS_TOKEN", "old")
    settings = Settings()
    assert settings.label_studio_url == "http://old.example"
    assert settings.label_studio_api_key.get_secret_value() == "old"


def test_a_setting_that_was_renamed_is_read_under_its_older_name_too(monkeypatch):
    monkeypatch.setenv("EVERYLABEL_FLAGS_PER_ROUND", "7")
    assert Settings().suspects_per_round == 7
    monkeypatch.setenv("EVERYLABEL_SUSPECTS_PER_ROUND", "9")
    assert Settings().suspects_per_round == 9


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("LABEL_STUDIO_URL", "labels.example", "LABEL_STUDIO_URL"),
        ("EVERYLABEL_BATCH_SIZE", "0", "batch_size"),
        ("EVERYLABEL_CHECK_SHARE", "2", "check_share"),
        ("EVERYLABEL_DATABASE_URL", "mysql://db/labels", "database_url"),
        ("EVERYLABEL_DATABASE_URL", "db.example", "database_url"),
        ("EVERYLABEL_REDIS_URL", "redis.example", "redis_url"),
        ("EVERYLABEL_REDIS_URL", "redis://redis.example/0", "EVERYLABEL_DATABASE_URL"),
        ("LOG_LEVEL", "LOUD", "LOG_LEVEL"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(monkeypatch, name, value, named):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=named):
        Settings()


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_the_store_lies_in_model_dir_or_in_the_postgresql_that_is_named(tmp_path, scheme):
    assert Settings(model_dir=tmp_path).store_url == f"sqlite:///{tmp_path}/everylabel.db"
    named = Settings(model_dir=tmp_path, database_url=f"{scheme}://ann:s3cret@db/labels")
    assert named.store_url == "postgresql+psycopg://ann:s3cret@db/labels"
    assert "s3cret" not in repr(named)


@pytest.mark.parametrize("given", [{"basic_auth_user": "ann"}, {"basic_auth_pass": "s3cret"}])
def test_a_user_without_a_password_is_an_error_not_an_open_door(given):
    with pytest.raises(ValidationError, match=", or neither"):
        Settings(**given)


@pytest.mark.parametrize(
    "secret", ["short", "fifteen-letters", "sixteen letters!", "sixteen-lettersé", "a" * 15]
)
def test_a_secret_that_can_be_guessed_or_not_be_sent_is_refused(secret):
    with pytest.raises(ValidationError, match="openssl rand") as refused:
        Settings(bearer_secret=secret)
    assert secret not in str(refused.value)


def test_a_bearer_secret_is_enough_to_listen_beyond_loopback():
    assert Settings(bearer_secret="sixteen-letters!").has_auth


def test_no_secret_is_shown():
    settings = Settings(
        label_studio_api_key="t0ken",
        basic_auth_user="ann",
        basic_auth_pass="s3cret",
        bearer_secret="s3cret-of-sixteen",
    )
    assert "t0ken" not in repr(settings)
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in str(settings.model_dump())


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.0.0.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
    ],
)
def test_only_loopback_may_be_served_without_a_password(host, loopback):
    assert _is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("host", "page_url", "shown"),
    [
        ("127.0.0.1", "", "http://127.0.0.1:9191/"),
        ("::1", "", "http://[::1]:9191/"),
        ("0.0.0.0", "", "http://localhost:9191/"),
        ("::", "", "http://localhost:9191/"),
        ("0.0.0.0", "https://everylabel.example.org/", "https://everylabel.example.org/"),
    ],
)
def test_serve_says_where_a_browser_finds_the_page(monkeypatch, tmp_path, host, page_url, shown):
    started = []
    monkeypatch.setattr(serve, "supervise", started.extend)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVERYLABEL_PAGE_URL", page_url)
    monkeypatch.setenv("BASIC_AUTH_USER", "ann")
    monkeypatch.setenv("BASIC_AUTH_PASS", "s3cret")
    said = CliRunner().invoke(app, ["serve", "--host", host, "--port", "9191"])
    assert said.exit_code == 0, said.output
    assert f"The page for people: {shown}\n" in said.output
    bound = started[0].command[started[0].command.index("--bind") + 1]
    assert bound == (f"[{host}]:9191" if ":" in host else f"{host}:9191")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"delivery_secret": "sixteen-letters!"}, "for people"),
        ({"delivery_secret": "short", "bearer_secret": "sixteen-letters?"}, "16 or more"),
        (
            {"delivery_secret": "sixteen-letters!", "bearer_secret": "sixteen-letters!"},
            "must not be the people's",
        ),
        ({"allowed_hosts": "a.example.org,http://b"}, "not a host name"),
        ({"allowed_hosts": "a.example.org:9090"}, "without scheme or port"),
    ],
)
def test_keys_and_names_that_would_not_do_what_they_say_are_refused(given, told):
    with pytest.raises(ValidationError, match=told) as refused:
        Settings(**given)
    assert "sixteen" not in str(refused.value)
