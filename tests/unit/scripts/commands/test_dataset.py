"""`everylabel dataset` and `everylabel dataset diff`: what they say, and to whom."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from everylabel.scripts import cli


@pytest.fixture
def run(stand_in, services, digit_crops, monkeypatch, tmp_path):
    """Runs the command where project 1 has ten labelled crops, one of them broken."""
    stand_in.add_project(1)
    ids = stand_in.add_tasks(1, *(image for image, _ in digit_crops[:9]), "ftp://host/[odd].png")
    for task, (_, label) in zip(ids, digit_crops, strict=False):
        stand_in.annotate(task, label)
    services.loop.sync(1)
    services.store.save_project(1, check_tasks=ids[:2])
    monkeypatch.setenv("MODEL_DIR", str(services.settings.model_dir))
    monkeypatch.setenv("LABEL_STUDIO_URL", stand_in.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", stand_in.token)
    monkeypatch.setattr("everylabel.scripts.commands.dataset.build", lambda settings: services)
    monkeypatch.chdir(tmp_path)

    def command(*arguments, code=0):
        answer = CliRunner().invoke(cli.app, ["dataset", *arguments], env={"COLUMNS": "200"})
        assert answer.exit_code == code, answer.output
        return answer.output

    return command


def test_it_says_what_it_wrote_and_names_what_is_broken(run, tmp_path):
    said = " ".join(run("--project", "1", "-o", "d", "--copy").split())
    about = json.loads((tmp_path / "d" / "dataset.json").read_text())
    assert f"project 1-{about['digest'][:8]}: 10 by people" in said
    assert "all │ 8 │ 2" in said
    assert "Left out task 10: " in said
    assert "[odd]" in said, "an address is no markup"
    assert f"digest {about['digest']}" in said
    assert "holds these labels already" in run("--project", "1", "-o", "d", "--copy")
    assert "--replace" in run("--project", "1", "-o", "d", code=1), "without the crops it is another one"


def test_two_exports_are_compared(run, stand_in, tmp_path):
    run("--project", "1", "-o", "before")
    assert "The labels are the same" in run("diff", "before", "before")
    task, label = next(
        (t, a["result"][0]["value"]["choices"]) for t in (3,) for a in stand_in.tasks[t]["annotations"]
    )
    label[0] = "0" if label[0] != "0" else "1"
    stand_in.tasks[4]["annotations"].clear()
    run("--project", "1", "-o", "after")
    said = run("diff", "before", "after")
    assert "0 came, 1 went, 1 changed" in said
    found = json.loads(run("diff", "before", "after", "--json"))
    assert {one["task_id"]: one["kind"] for one in found["differences"]} == {task: "label", 4: "went"}
    assert found["counts"]["label"] == 1
    assert found["before"] == json.loads((tmp_path / "before" / "dataset.json").read_text())["digest"]
    assert "is not a data set of everylabel" in run("diff", "before", ".", code=1)


def test_what_is_missing_is_asked_for(run):
    assert "--output" in run("--project", "1", code=2)
    assert "--project" in run("-o", "d", code=2)
    assert "No rounds of project 9 are known" in " ".join(run("--project", "9", "-o", "d", code=1).split())
