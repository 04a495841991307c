"""`everylabel doctor` and `connect`: every fault is found, with what to do; connecting twice changes nothing twice."""

from __future__ import annotations

import base64
import re
import threading
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner
from werkzeug.serving import make_server

from everylabel.backend.app import create_app
from everylabel.backend.auth import delivery_secret
from everylabel.backend.label_studio import versions
from everylabel.backend.label_studio.errors import BackendUnreachableError
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.scripts.cli import app
from everylabel.scripts.commands import connect, doctor
from everylabel.scripts.commands.connect import connect_project
from everylabel.scripts.commands.doctor import examine
from tests.stand_in_label_studio import label_config


@pytest.fixture
def served(make_services, stand_in, digit_crops):
    """A backend that really answers on loopback, with a password, and project 1 connected to it."""
    servers = []

    def serve(**changes):
        services = make_services(**{"basic_auth_user": "ann", "basic_auth_pass": "s3cret", **changes})
        server = make_server("127.0.0.1", 0, create_app(services), threaded=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        services.settings.public_url = f"http://127.0.0.1:{server.server_port}"
        services.trainer.start_heartbeat()
        return services

    stand_in.add_project(1)
    stand_in.add_tasks(1, *(image for image, _ in digit_crops[:12]))
    yield serve
    for server in servers:
        server.shutdown()


@pytest.fixture
def connected(served):
    services = served()
    connect_project(services, 1)
    return services


def problems(services, project=1):
    return {finding.check: finding.problem for finding in examine(services, project) if finding.problem}


def test_after_connecting_all_is_well(connected):
    findings = list(examine(connected, 1))
    assert [f.problem for f in findings] == [None] * len(findings)
    assert {f.check for f in findings} >= {"Label Studio", "Token", "Backend", "Webhook", "Media", "Sampling"}


def test_crops_that_cannot_be_read_are_told_and_not_all_is_well(stand_in, connected, monkeypatch):
    monkeypatch.setattr(doctor, "build", lambda settings: connected)
    monkeypatch.setattr(doctor, "load_settings", lambda: connected.settings)

    def said(*options):
        done = CliRunner().invoke(app, ["doctor", *options])
        assert done.exit_code == 0, done.output
        return " ".join(done.output.split())

    assert said("--project", "1").endswith("All is well.")
    (broken,) = stand_in.add_tasks(1, "data:image/png;base64,AAAA")
    connect_project(connected, 1)
    for options in (("--project", "1"), ()):
        told = said(*options)
        assert (
            f"project 1: 1 of 13 crops cannot be read, and nobody is asked for them, e.g. task {broken}: "
            in told
        )
        assert "All is well" not in told
        assert told.endswith("Everything runs. What is marked with ! needs you.")


def test_connecting_twice_changes_nothing_twice(stand_in, connected):
    before = (len(stand_in.webhooks), len(stand_in.backends), len(stand_in.tabs), len(stand_in.predictions))
    connect_project(connected, 1)
    after = (len(stand_in.webhooks), len(stand_in.backends), len(stand_in.tabs), len(stand_in.predictions))
    assert before == after
    assert connected.store.latest_round(1).number == 1


def test_webhook_and_ml_backend_carry_the_key_that_delivers_and_not_the_password(stand_in, connected):
    key = delivery_secret(connected.settings)
    assert [hook["headers"] for hook in stand_in.webhooks.values()] == [{"Authorization": f"Bearer {key}"}]
    (backend,) = stand_in.backends.values()
    assert (backend["basic_auth_user"], backend["basic_auth_pass"]) == ("everylabel", key)


def test_a_project_that_was_connected_with_the_password_is_told_of_and_connected_anew(stand_in, connected):
    (hook,), (backend,) = stand_in.webhooks.values(), stand_in.backends.values()
    new = dict(hook["headers"])
    hook["headers"] = {"Authorization": "Basic " + base64.b64encode(b"ann:s3cret").decode()}
    backend |= {"basic_auth_user": "ann", "basic_auth_pass": "s3cret"}
    found = problems(connected)
    assert found.keys() == {"ML backend", "Webhook"}
    for problem in found.values():
        assert "the key for people" in problem
        assert "everylabel connect --project 1" in problem
        assert "s3cret" not in problem
    connect_project(connected, 1)
    assert hook["headers"] == new
    assert backend["basic_auth_user"] == "everylabel"
    assert problems(connected) == {}


def test_another_backends_webhook_on_this_machine_is_left_alone(stand_in, served):
    theirs = {"id": 1, "project": 1, "url": "http://localhost:9091/webhook", "headers": {}, "actions": []}
    stand_in.webhooks[1] = dict(theirs)
    connect_project(served(), 1)
    assert stand_in.webhooks[1] == theirs
    assert len(stand_in.webhooks) == 2


def test_a_backend_that_moved_takes_its_own_webhook_along(stand_in, connected, served):
    moved = served(model_dir=connected.settings.model_dir)
    assert "connected to" in problems(moved)["ML backend"]
    connect_project(moved, 1)
    assert [hook["url"] for hook in stand_in.webhooks.values()] == [f"{moved.settings.public_url}/webhook"]
    assert problems(moved) == {}


def test_a_server_that_is_down_is_the_only_fault_shown(stand_in, connected):
    stand_in.down = True
    assert list(problems(connected)) == ["Label Studio"]


def test_a_refused_token_is_found(stand_in, connected):
    stand_in.token = "another"
    found = problems(connected)
    assert "LABEL_STUDIO_API_KEY" in found["Token"]
    assert "0123456789abcdef" not in str(found)


def test_a_backend_nobody_started_is_found(connected):
    connected.settings.public_url = "http://127.0.0.1:1"
    assert "everylabel serve" in problems(connected)["Backend"]


def test_a_redis_that_is_away_is_found(served, postgres):
    away = {"database_url": postgres.empty(), "redis_url": "redis://127.0.0.1:1/0"}
    services = served(**away)
    connect_project(services, 1)
    assert list(problems(services)) == ["Redis"]
    assert "does not answer" in problems(services)["Redis"]


def test_a_dead_trainer_is_found(connected, served, tmp_path, monkeypatch):
    idle = served(model_dir=tmp_path / "idle")
    monkeypatch.setattr(idle.heartbeat, "alive", lambda: False)
    assert "trainer is not running" in problems(idle)["Backend"]


def test_a_password_that_differs_is_found(connected, make_services):
    here = make_services(
        basic_auth_user="ann", basic_auth_pass="other", public_url=connected.settings.public_url
    )
    found = problems(here)
    assert "BASIC_AUTH_PASS" in found["Backend"]
    assert "another password" in found["Webhook"]
    assert "s3cret" not in str(found)


@pytest.mark.parametrize(
    ("fault", "check", "told"),
    [
        (lambda s: s.projects.clear(), "Project", "/projects/<number>/"),
        (lambda s: s.projects[1].update(label_config="<View/>"), "Labeling config", "needs an <Image>"),
        (lambda s: s.backends.clear(), "ML backend", "everylabel connect --project 1"),
        (
            lambda s: s.backends[1].update(readable_state="Error", error_message="timed out"),
            "ML backend",
            "timed out.*reachable from Label Studio",
        ),
        (lambda s: s.webhooks.clear(), "Webhook", "training never fires"),
        (lambda s: s.webhooks[1].update(is_active=False), "Webhook", "switched off"),
        (lambda s: s.webhooks[1].update(send_payload=False), "Webhook", "no payload"),
        (lambda s: s.webhooks[1].update(headers={}), "Webhook", "another password"),
        (lambda s: s.projects[1].update(sampling="Sequential sampling"), "Sampling", "queue is not followed"),
        (lambda s: s.projects[1].update(model_version="everylabel"), "Sampling", "is silently random"),
        (lambda s: s.tasks.clear(), "Media", "import some crops"),
        (lambda s: s.tasks[1].update(data={"text": "x"}), "Media", "lacks the text 'image'"),
        (lambda s: s.tasks[1].update(data={"image": "data:image/png;base64,AAAA"}), "Media", "format"),
        (
            lambda s: s.tasks[1].update(data={"image": "http://10.0.0.1/a.png"}),
            "Media",
            "private or reserved",
        ),
    ],
)
def test_each_fault_is_found_with_what_to_do(stand_in, connected, fault, check, told):
    fault(stand_in)
    assert re.search(told, problems(connected)[check])


def test_a_round_that_failed_is_shown(connected):
    connected.store.save_project(1, problem="Label Studio was away.")
    assert problems(connected)["Rounds"] == "Label Studio was away."


def test_the_command_shows_brackets_in_titles_as_they_are_and_says_by_its_code_whether_all_is_well(
    stand_in, connected, monkeypatch
):
    monkeypatch.setattr(doctor, "load_settings", lambda: connected.settings)
    monkeypatch.setattr(doctor, "build", lambda settings: connected)
    stand_in.projects[1]["title"] = "[/] crops [red]"
    well = CliRunner().invoke(app, ["doctor", "--project", "1"])
    assert well.exit_code == 0, well.output
    assert "[/] crops [red]" in well.output
    stand_in.webhooks.clear()
    ill = CliRunner().invoke(app, ["doctor", "--project", "1"])
    assert ill.exit_code == 1
    assert "training never fires" in " ".join(ill.output.split())


@pytest.mark.parametrize(
    ("release", "told"),
    [
        ("1.19.0", r"1\.19\.0 is older .*1\.20\.0.*pip install --upgrade label-studio=="),
        ("99.1.0", r"99\.1\.0 is newer .*make test-label-studio VERSIONS=99\.1\.0"),
        ("unknown", r"'unknown', which cannot be compared"),
    ],
)
def test_a_label_studio_nobody_tested_is_a_warning_with_a_way_out_and_no_failure(
    stand_in, connected, monkeypatch, release, told
):
    monkeypatch.setattr(doctor, "load_settings", lambda: connected.settings)
    monkeypatch.setattr(doctor, "build", lambda settings: connected)
    stand_in.release = release
    said = CliRunner().invoke(app, ["doctor", "--project", "1"])
    assert said.exit_code == 0, said.output
    output = " ".join(said.output.split())
    assert re.search(rf"! Label Studio: .*{told}", output)
    assert problems(connected) == {}


@pytest.mark.parametrize("release", [*versions.TESTED, "1.21.0", "1.23.0.post1"])
def test_a_label_studio_that_was_tested_or_lies_between_two_is_no_warning(stand_in, connected, release):
    stand_in.release = release
    (server, *_) = examine(connected, 1)
    assert (server.problem, server.warning) == (None, None)
    assert release in server.detail
    assert versions.tested_versions() in server.detail


def test_connect_waits_for_a_backend_that_was_started_a_moment_before(stand_in, served, monkeypatch):
    services = served()
    monkeypatch.setattr(connect, "load_settings", lambda: services.settings)
    monkeypatch.setattr(connect, "build", lambda settings: services)
    save, asked = services.label_studio.save_ml_backend, []
    pauses = []
    monkeypatch.setattr(connect, "time", SimpleNamespace(sleep=pauses.append))

    def not_yet(*given, **fields):
        asked.append(fields)
        if len(asked) < 4:
            raise BackendUnreachableError("health check failed")
        return save(*given, **fields)

    monkeypatch.setattr(services.label_studio, "save_ml_backend", not_yet)
    said = CliRunner().invoke(app, ["connect", "--project", "1"])
    assert said.exit_code == 0, said.output
    assert "Connected project 1" in said.output
    assert (len(asked), pauses) == (4, [1, 1, 1])
    asked.clear()
    monkeypatch.setattr(connect, "START_SECONDS", 2)
    said = CliRunner().invoke(app, ["connect", "--project", "1"])
    assert said.exit_code == 1
    assert len(asked) == 3


def test_connect_prints_addresses_that_a_browser_can_open(stand_in, served, monkeypatch):
    """As in containers, where the two call each other by names that nobody else knows."""
    services = served(label_studio_public_url="http://labels.example", page_url="http://page.example/")
    monkeypatch.setattr(connect, "load_settings", lambda: services.settings)
    monkeypatch.setattr(connect, "build", lambda settings: services)
    said = " ".join(CliRunner().invoke(app, ["connect", "--project", "1"]).output.split())
    assert "Connected project 1 at http://labels.example/projects/1/" in said
    assert "See how it goes: http://page.example/projects/1" in said
    assert services.settings.public_url not in said
    assert services.settings.label_studio_url not in said


def test_a_config_that_classifies_no_image_is_refused_before_anything_is_set_up(stand_in, served):
    stand_in.projects[1]["label_config"] = label_config().replace("Choices", "Labels")
    with pytest.raises(LabelConfigError):
        connect_project(served(), 1)
    assert stand_in.webhooks == stand_in.backends == {}


def test_doctor_warns_where_label_studio_takes_a_submit_without_a_class(stand_in, connected):
    def warning():
        return next(f.warning for f in examine(connected, 1) if f.check == "Labeling config")

    assert "connect --project 1 --require-class" in warning()
    plain = stand_in.projects[1]["label_config"]
    stand_in.projects[1]["label_config"] = plain.replace("<Choices ", '<Choices choice="multiple" ')
    assert warning() is None, "of several classes none may be meant"
    stand_in.projects[1]["label_config"] = plain
    connect._offer_required_class(connected.label_studio, 1, None)
    assert stand_in.projects[1]["label_config"] == plain, "nobody was asked"
    connect._offer_required_class(connected.label_studio, 1, True)
    assert warning() is None
    assert 'required="true"' in stand_in.projects[1]["label_config"]


def test_webhooks_that_nobody_works_in_are_told_of_with_what_stops_the_project(connected, monkeypatch):
    connected.store.add_event(1, "ANNOTATION_CREATED", {})
    assert "Waiting" not in problems(connected), "a round takes a moment"
    now = connected.clock()
    connected.store.save_project(1, problem="the encoder cannot be loaded")
    for passed in (600, -600):  # set back, a clock makes nothing well
        monkeypatch.setattr(connected.store, "_clock", lambda passed=passed: now + passed)
        for asked in (1, None):
            told = problems(connected, asked)["Waiting"]
            assert re.search(r"project 1: 1 webhook .* for 10 min \(the encoder cannot be loaded\)", told)


def test_without_a_project_named_every_projects_problem_is_told(connected):
    connected.store.save_project(1, problem="the encoder cannot be loaded")
    assert problems(connected, None)["Waiting"] == "project 1: the encoder cannot be loaded"
