"""Signing in with one's own Label Studio token, and what is kept of it."""

from __future__ import annotations

import stat
import time

import pytest

from everylabel.backend.label_pages.sign_in import TRIES, SignInError
from everylabel.backend.store import Person, StorageError
from everylabel.backend.store.sign_ins import SIGNED_IN_SECONDS


@pytest.fixture
def signing(services, taught):
    return services.labelling.sign_in


def test_a_person_is_who_label_studio_says(signing):
    person = signing.person(signing.sign_in(1, " anns-token\n", "a"))
    assert (person.id, person.name) == (7, "7@example.org")
    assert signing.person("another") is None
    assert signing.person(None) is None


@pytest.mark.parametrize(
    ("project_id", "token", "status", "why"),
    [
        (1, "unknown", 401, "does not accept this token"),
        (1, "", 400, "not a token"),
        (1, "a b\x00", 400, "not a token"),
        (1, "x" * 5000, 400, "not a token"),
        (9, "anns-token", 403, "may not see project 9"),
    ],
)
def test_who_cannot_sign_in_reads_why(signing, project_id, token, status, why):
    with pytest.raises(SignInError, match=why) as refused:
        signing.sign_in(project_id, token, "a")
    assert refused.value.status == status
    if token:
        assert token not in str(refused.value)


def test_the_token_is_in_a_file_for_the_backends_user_alone_and_in_no_database(services, signing):
    cookie = signing.sign_in(1, "anns-token", "a")
    folder = services.settings.model_dir
    path = folder / "tokens" / "7.token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for database in folder.glob("*.db*"):
        assert b"anns-token" not in database.read_bytes()
        assert cookie.encode() not in database.read_bytes()


def test_no_log_has_a_token(signing, caplog):
    caplog.set_level("DEBUG")
    signing.sign_in(1, "anns-token", "a")
    with pytest.raises(SignInError):
        signing.sign_in(1, "unknown-token", "a")
    assert "anns-token" not in caplog.text
    assert "unknown-token" not in caplog.text


def test_a_sign_in_ends_and_the_token_goes(make_services, signing):
    cookie = signing.sign_in(1, "anns-token", "a")
    later = make_services(clock=lambda: time.time() + SIGNED_IN_SECONDS + 1)
    assert later.labelling.sign_in.person(cookie) is None
    later.labelling.sender.forget_tokens()
    assert not (later.settings.model_dir / "tokens" / "7.token").exists()


def test_signing_out_ends_it_at_once(signing):
    cookie = signing.sign_in(1, "anns-token", "a")
    signing.sign_out(cookie)
    assert signing.person(cookie) is None


def test_a_team_behind_one_address_signs_in(signing):
    for _ in range(2 * TRIES):
        signing.sign_in(1, "anns-token", "a")


def test_who_tries_again_and_again_has_to_wait(signing):
    for _ in range(TRIES):
        with pytest.raises(SignInError, match="does not accept"):
            signing.sign_in(1, "unknown", "a")
    with pytest.raises(SignInError, match="Wait a minute") as refused:
        signing.sign_in(1, "anns-token", "a")
    assert refused.value.status == 429
    assert signing.sign_in(1, "anns-token", "b"), "another address may"


def test_who_may_not_see_the_project_any_more_is_refused_while_others_go_on(make_services, stand_in, signing):
    person = signing.person(signing.sign_in(1, "anns-token", "a"))
    again = make_services().labelling.sign_in  # of another process: it has to ask
    del stand_in.people["anns-token"]
    signing.check_member(person, 1)
    with pytest.raises(SignInError, match="does not accept this token"):
        again.check_member(person, 1)
    stand_in.down = True
    with pytest.raises(SignInError, match="does not answer"):
        again.check_member(person, 1)


def test_a_sign_in_of_a_clock_that_was_set_back_has_ended(make_services, services, signing):
    ahead = make_services(clock=lambda: time.time() + 7 * 86_400.0)
    cookie = ahead.labelling.sign_in.sign_in(1, "anns-token", "a")
    assert ahead.labelling.sign_in.person(cookie) is not None
    assert signing.person(cookie) is None, "it would hold for a week"


@pytest.mark.parametrize("kept", [b"\xff\xfe\x00", b"", b"two\nlines", "ta\u00fe".encode()])
def test_a_token_that_was_damaged_on_the_disk_ends_the_sign_in_and_stops_nothing(
    services, stand_in, taught, trainer, wait, pages, ann, bob, send, kept
):
    page = pages.give(1, ann, "class")
    path = services.settings.model_dir / "tokens" / "7.token"
    path.write_bytes(kept)
    pages.confirm(1, ann, page.id, dict(page.preset), 30.0)
    with pytest.raises(SignInError, match="Sign in again"):
        services.labelling.sign_in.check_member(Person(7, "ann"), 2)
    before = services.store.latest_round(1).number
    other = next(t for t in taught if t not in page.tasks and not stand_in.tasks[t]["annotations"])
    send(stand_in.annotate(other, taught[other]))
    wait(lambda: services.store.latest_round(1).number > before and not services.store.events(1))
    assert {label.state for label in services.store.labels_of_page(page.id)} == {"unsent"}

    services.labelling.sign_in.sign_in(1, "anns-token", "")
    wait(lambda: {label.state for label in services.store.labels_of_page(page.id)} == {"sent"})


def test_where_a_token_cannot_be_kept_the_reason_is_told_and_nothing_is_left(services, signing, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.write_text", full)
        with pytest.raises(StorageError, match="No space left on device"):
            signing.sign_in(1, "anns-token", "a")
    assert list((services.settings.model_dir / "tokens").iterdir()) == []
