"""Which model answers: the newest that is not clearly worse, or the one a person has gone back to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from everylabel.scripts import cli

runner = CliRunner()


@pytest.fixture
def run(services, monkeypatch):
    monkeypatch.setenv("MODEL_DIR", str(services.settings.model_dir))
    return lambda *words: runner.invoke(cli.app, [*words, "--project", "1"])


@pytest.fixture
def two_rounds(stand_in, services, project, send):
    for count in (8, 4):
        for task in [t for t in project if t not in {a.task_id for a in services.store.annotations(1)}][
            :count
        ]:
            send(stand_in.annotate(task, project[task]))
        services.trainer.learn(1)
    first, second = services.files(1).models()[-2:]
    assert services.store.project(1).model_round == second
    return first, second


def test_the_newest_model_is_in_use(run, two_rounds):
    shown = run("rounds").output
    (line,) = [line for line in shown.splitlines() if "in use" in line]
    assert f"round {two_rounds[1]}" in line


def test_rolling_back_brings_the_earlier_model_and_keeps_it(
    stand_in, services, project, send, run, two_rounds
):
    first, second = two_rounds
    assert run("rollback", "--to", str(first)).exit_code == 0
    services.trainer.learn(1)
    assert services.store.project(1).model_round == first
    newest = services.store.latest_round(1)
    assert newest.number > second
    assert not newest.promoted
    assert not newest.pre_annotated, "a model that is not in use pre-fills nothing"
    assert newest.batch, "the queue goes on"

    assert run("rollback", "--newest").exit_code == 0
    services.trainer.learn(1)
    assert services.store.project(1).model_round == services.store.latest_round(1).number


def test_a_round_whose_model_is_gone_cannot_be_returned_to(run, services, two_rounds):
    first, second = two_rounds
    services.files(1).keep_models(1)
    answer = run("rollback", "--to", str(first))
    assert answer.exit_code == 1
    assert f"round {first} is no longer kept. There are models of: {second}." in answer.output


def test_a_round_that_never_was_is_not_said_to_be_gone(run, two_rounds):
    answer = run("rollback", "--to", "999")
    assert answer.exit_code == 1
    assert "has had no round 999" in answer.output
    assert "any more" not in answer.output


@pytest.mark.parametrize("command", [["rounds"], ["status"], ["rollback", "--newest"]])
def test_a_command_that_finds_no_project_names_the_folder_it_has_searched(command, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "elsewhere"))
    answer = runner.invoke(cli.app, [*command, "--project", "1"])
    assert answer.exit_code == 1
    assert f"MODEL_DIR={tmp_path / 'elsewhere'}" in "".join(answer.output.splitlines())
    assert "the demo's settings are in its environment file" in answer.output


@pytest.mark.parametrize("command", [["connect"], ["sync"], ["sync", "--dry-run"], ["accept"], ["undo"]])
def test_a_command_label_studio_refuses_names_the_folder_without_the_project(
    command, stand_in, tmp_path, monkeypatch
):
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("LABEL_STUDIO_URL", stand_in.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", stand_in.token)
    answer = runner.invoke(cli.app, [*command, "--project", "77"])
    assert answer.exit_code == 1
    assert "77" in answer.output
    assert f"MODEL_DIR={tmp_path / 'elsewhere'}" in "".join(answer.output.splitlines())
    assert "the demo's settings are in its environment file" in answer.output


def test_sync_of_a_project_without_crops_names_the_folder(stand_in, tmp_path, monkeypatch):
    stand_in.add_project(5)
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("LABEL_STUDIO_URL", stand_in.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", stand_in.token)
    answer = runner.invoke(cli.app, ["sync", "--project", "5"])
    assert "no crop that can be read" in answer.output
    assert f"MODEL_DIR={tmp_path / 'elsewhere'}" in answer.output


def test_a_model_clearly_worse_on_the_check_set_is_not_promoted(
    stand_in, services, project, send, two_rounds
):
    in_use = services.store.latest_round(1)
    perfect = {"estimate": 1.0, "low": 0.99, "high": 1.0, "n": 40}
    services.store.save_round(1, replace(in_use, check_set=perfect), services.store.project(1).check_tasks)
    services.store.save_project(1, check_tasks=list(project)[:20])
    wrong = {"a": "b", "b": "a"}
    classes = sorted(set(project.values()))
    for task in list(project)[:20]:  # every check label is wrong, so no model can be right about them
        truth = project[task]
        other = classes[(classes.index(truth) + 1 + task % (len(classes) - 1)) % len(classes)]
        send(stand_in.annotate(task, wrong.get(truth, other)))
    services.trainer.learn(1)
    newest = services.store.latest_round(1)
    assert newest.check_set["estimate"] < 0.99
    assert not newest.promoted
    assert services.store.project(1).model_round == in_use.number
