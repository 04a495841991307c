"""`everylabel connect --second-labels`, and what `doctor` and `status` say of how many people Label Studio asks."""

import json

import pytest
from typer.testing import CliRunner

from everylabel.backend.label_studio.errors import BackendUnreachableError
from everylabel.scripts.cli import app
from everylabel.scripts.commands import connect, doctor, status
from tests.several_classes import CONFIG, SETS, ticked

LABELLED = 12


@pytest.fixture
def everylabel(services, project, stand_in, send, monkeypatch):
    """Run a command on project 1, where one person has labelled some crops."""
    for task in list(project)[:LABELLED]:
        send(stand_in.annotate(task, project[task], completed_by=5))
    services.loop.catch_up(1)
    for command in (connect, doctor, status):
        monkeypatch.setattr(command, "build", lambda settings: services)
        monkeypatch.setattr(command, "load_settings", lambda **changes: services.settings)

    def run(*words, fails=False):
        done = CliRunner().invoke(app, [*words, "--project", "1"], env={"COLUMNS": "300"})
        assert fails or not done.exception or isinstance(done.exception, SystemExit), done.exception
        assert (done.exit_code == 2) == fails, done.output
        return done.output if "--json" in words else " ".join(done.output.replace("│", " ").split())

    return run


def told(words, of):
    """The line of `doctor` on one check."""
    return words.split(f"{of}: ", 1)[1].split(" ✓ ")[0].split(" ✗ ")[0]


def second_person(stand_in, project, send):
    for task in list(project)[:4]:
        other = str((int(project[task]) + 1) % 4)
        send(stand_in.annotate(task, other if task % 2 else project[task], completed_by=6))
    for task in list(project)[LABELLED : LABELLED + 4]:
        send(stand_in.annotate(task, project[task], completed_by=5))


def settings(stand_in):
    kept = stand_in.projects[1]
    return kept.get("maximum_annotations", 1), kept.get("overlap_cohort_percentage", 100)


def test_they_are_turned_on_and_off_and_both_is_said(everylabel, services, project, stand_in, send):
    words = everylabel("connect", "--second-labels", "2")
    assert settings(stand_in) == (2, 0)
    assert "Second labels are on: Label Studio asks up to 2 people" in words
    assert "--no-second-labels" in words
    assert services.store.project(1).overlap == 2, "known at once"
    second_person(stand_in, project, send)
    services.loop.catch_up(1)
    (asked,) = services.store.latest_round(1).second_labels
    assert stand_in.tasks[asked]["overlap"] == 2

    words = everylabel("connect", "--no-second-labels")
    assert settings(stand_in) == (1, 100)
    assert "Second labels are off" in words
    assert services.store.latest_round(1).second_labels == (), "a round has been run at once"
    assert stand_in.tasks[asked]["overlap"] == 1
    assert "nothing to turn off" in everylabel("connect", "--no-second-labels")


def test_without_the_option_nothing_is_changed(everylabel, stand_in):
    everylabel("connect", "--second-labels", "3")
    everylabel("connect")
    assert settings(stand_in) == (3, 0)


def test_the_newest_labels_are_asked_for_at_once(everylabel, services, project, stand_in, send):
    second_person(stand_in, project, send)
    services.loop.catch_up(1)
    assert services.store.latest_round(1).second_labels == ()
    everylabel("connect", "--second-labels", "2")
    (asked,) = services.store.latest_round(1).second_labels
    assert stand_in.tasks[asked]["overlap"] == 2


def test_where_it_asked_of_every_crop_that_is_said(everylabel, stand_in):
    stand_in.projects[1] |= {"maximum_annotations": 2, "overlap_cohort_percentage": 100}
    words = everylabel("connect", "--second-labels", "2")
    assert "Until now Label Studio asked 2 people about 100 % of the crops" in words
    assert settings(stand_in) == (2, 0)


@pytest.mark.parametrize("words", [("--second-labels", "1"), ("--second-labels", "2", "--no-second-labels")])
def test_what_cannot_be_meant_is_refused(everylabel, stand_in, words):
    everylabel("connect", *words, fails=True)
    assert settings(stand_in) == (1, 100)


def test_doctor_and_status_say_whether_they_are_on_and_what_is_missing(
    everylabel, services, project, stand_in, send
):
    everylabel("connect")
    assert "off: one person is asked about each crop" in told(everylabel("doctor"), "Second labels")
    assert "second labels" not in everylabel("status"), "nobody else labels here"
    everylabel("connect", "--second-labels", "2")
    missing = "on, up to 2 people a crop; none is asked for before two people have labelled: one has"
    assert missing in told(everylabel("doctor"), "Second labels")
    assert missing in everylabel("status")
    (figures,) = json.loads(everylabel("status", "--json"))
    assert (figures["overlap"], figures["own_overlap"]) == (2, 1)
    second_person(stand_in, project, send)
    services.loop.catch_up(1)
    asked = "on, up to 2 people a crop; another person is asked about 1 crop"
    assert asked in told(everylabel("doctor"), "Second labels")
    assert asked in everylabel("status")
    everylabel("connect", "--no-second-labels")
    assert "off; to turn them on: everylabel connect --project 1 --second-labels 2" in everylabel("status")


@pytest.mark.parametrize(("share", "which"), [(100, "every crop"), (20, "20 % of the crops")])
def test_where_label_studio_picks_the_crops_itself_they_say_so(everylabel, services, stand_in, share, which):
    everylabel("connect")
    stand_in.projects[1] |= {"maximum_annotations": 2, "overlap_cohort_percentage": share}
    said = told(everylabel("doctor"), "Second labels")
    assert f"Label Studio itself asks 2 people about {which}" in said
    assert "--second-labels 2" in said
    services.loop.catch_up(1, compare=True)
    assert "Label Studio picks the crops itself, and asks 2 people about each" in everylabel("status")
    (figures,) = json.loads(everylabel("status", "--json"))
    assert (figures["overlap"], figures["own_overlap"]) == (1, 2)


def test_a_setting_that_no_round_has_heeded_yet_is_told(everylabel, stand_in):
    everylabel("connect")
    stand_in.projects[1] |= {"maximum_annotations": 2, "overlap_cohort_percentage": 0}
    assert "the next round asks. Now: everylabel sync" in told(everylabel("doctor"), "Second labels")


def test_where_a_crop_may_have_several_classes_they_are_asked_for_too(
    everylabel, services, project, stand_in, send
):
    """Their votes are weighed class by class."""
    stand_in.projects[1]["label_config"] = CONFIG
    for task, label in project.items():
        for annotation in stand_in.tasks[task]["annotations"]:
            annotation["result"] = ticked(*SETS[label])
    everylabel("connect", "--second-labels", "2")
    services.loop.catch_up(1, compare=True, force=True)
    for at, task in enumerate(list(project)[:4]):
        names = SETS[project[task]] if at % 2 else ["one stroke"]
        send(stand_in.annotate(task, None, result=ticked(*names), completed_by=6))
    for task in list(project)[LABELLED : LABELLED + 4]:
        send(stand_in.annotate(task, None, result=ticked(*SETS[project[task]]), completed_by=5))
    services.loop.catch_up(1)
    (asked,) = services.store.latest_round(1).second_labels
    assert stand_in.tasks[asked]["overlap"] == 2
    assert "another person is asked about 1 crop" in told(everylabel("doctor"), "Second labels")


def test_where_it_was_broken_off_before_its_round_the_next_try_runs_it(
    everylabel, services, project, stand_in, send, monkeypatch
):
    second_person(stand_in, project, send)
    services.loop.catch_up(1)

    def unreachable(*_):
        raise BackendUnreachableError("Nobody listens there.")

    with monkeypatch.context() as broken:
        broken.setattr(connect, "register", unreachable)
        broken.setattr(connect, "START_SECONDS", 0)
        everylabel("connect", "--second-labels", "2")
    assert services.store.latest_round(1).second_labels == ()
    everylabel("connect", "--second-labels", "2")
    (asked,) = services.store.latest_round(1).second_labels
    assert stand_in.tasks[asked]["overlap"] == 2


def test_where_nobodys_labels_are_weighed_they_are_refused_and_nothing_changes(
    everylabel, stand_in, monkeypatch
):
    monkeypatch.setattr(connect, "weighs_votes", lambda _: False)
    words = everylabel("connect", "--second-labels", "2")
    assert "trained whole" in words
    assert settings(stand_in) == (1, 100)
