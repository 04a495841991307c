"""`accept --max-error`, `certificate`, `undo --certificate`, and what `status` says: from the first look to the document."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from everylabel.backend.rounds import certificates
from everylabel.scripts import cli
from everylabel.scripts.cli.options import share

LABELS = 30


@pytest.fixture
def run(stand_in, services, digit_crops, monkeypatch):
    """Runs a command on project 1, which has 240 crops, 30 of them labelled by Ann."""
    stand_in.add_project(1)
    ids = stand_in.add_tasks(1, *(image for image, _ in digit_crops))
    for task, (_, label) in zip(ids[:LABELS], digit_crops, strict=False):
        stand_in.annotate(task, label)
    services.store.save_project(1, connected=True)
    services.loop.catch_up(1)
    monkeypatch.setenv("MODEL_DIR", str(services.settings.model_dir))
    monkeypatch.setenv("LABEL_STUDIO_URL", stand_in.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", stand_in.token)
    monkeypatch.setenv("EVERYLABEL_COALESCE_SECONDS", "0")
    monkeypatch.setattr("everylabel.scripts.commands.certify.build", lambda settings: services)

    def command(*arguments, fails=False):
        answer = CliRunner().invoke(cli.app, [arguments[0], "--project", "1", *arguments[1:]])
        assert answer.exit_code == int(fails), answer.output
        return " ".join(answer.output.split())

    return command


def look(stand_in, services):
    check = certificates.read(services, 1, services.store.certificate_under_way(1))
    position = check.frozen.tasks.tolist().index
    for task in check.open_tasks:
        stand_in.annotate(task, check.frozen.label(position(task)))


def test_from_the_first_look_to_the_document_and_back(run, stand_in, services):
    said = run("accept", "--max-error", "10%", "--dry-run")
    assert "if every label is right" in said
    assert services.store.certificates(1) == []

    said = run("accept", "--max-error", "10%")
    assert "Certificate 1 has begun. To certify 10.0% on about" in said
    assert "Label All Tasks serves its crops first" in said
    look(stand_in, services)
    said = run("accept", "--max-error", "10%")
    assert "Certificate 1: 10 looked at, 0 wrong; about" in said
    assert "certificate" in run("status")
    assert "none yet" in run("certificate").lower()
    assert "under way with --max-error 10.000%" in run("accept", "--max-error", "5%", fails=True)

    while services.store.certificate_under_way(1):
        look(stand_in, services)
        said = run("accept", "--max-error", "10%")
    assert "Certificate 1: accepted: at most" in said
    assert "everylabel undo --project 1 --certificate 1" in said

    held = json.loads(run("certificate", "--json"))
    assert held["state"] == "accepted"
    assert held["wrong_at_most"] <= 0.1 * held["crops"]
    assert held["accepted"] == held["accepted_now"] > 0
    assert sum(held["checked_by"].values()) == held["looked_at_in_all"] >= held["looked_at"]
    text = run("certificate", "--number", "1")
    for part in (
        f"at most {held['wrong_at_most']} are wrong",
        "with 95% probability",
        "round",
        "by ",
        "UTC",
        held["mark"],
    ):
        assert part in text

    assert f"Took back {held['accepted']} annotations" in run("undo", "--certificate", "1")
    assert "taken back" in run("certificate")


def test_cancel_drops_it_and_keeps_the_labels(run, stand_in, services):
    run("accept", "--max-error", "10%")
    look(stand_in, services)
    assert "Certificate 1 is cancelled" in run("accept", "--cancel")
    assert "no certificate under way" in run("accept", "--cancel", fails=True)
    assert "it was cancelled" in run("certificate")
    assert services.store.latest_round(1).n_labels > LABELS
    run("accept", "--max-error", "10%")
    assert json.loads(run("certificate", "--json"))["earlier_attempts"] == [1]
    assert "failed or cancelled in this project: number 1;" in run("certificate"), "it is no first attempt"


def test_without_a_certificate_it_is_said_how_to_begin_one(run):
    assert "everylabel accept --project 1 --max-error 2%" in run("certificate", fails=True)


@pytest.mark.parametrize(("text", "found"), [("2%", 0.02), ("0.05", 0.05), (" 2.5% ", 0.025)])
def test_a_share_is_a_percentage_or_a_number(text, found):
    assert share(text) == pytest.approx(found)


@pytest.mark.parametrize("text", ["2", "0", "-1%", "90%", "few", "nan"])
def test_what_is_no_share_is_refused(text, run):
    assert "write 2% or 0.02" in " ".join(
        CliRunner()
        .invoke(cli.app, ["accept", "--project", "1", f"--max-error={text}"])
        .output.replace("│", "")
        .split()
    )
