"""`everylabel status`: where a project stands, for people and for programs."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from everylabel.scripts import cli
from tests.contract.test_page import CHECKED, STATED


@pytest.fixture
def status(services, project, send, stand_in, monkeypatch):
    """Run the command on a project with a round of a stated accuracy."""
    first, second, *_ = project
    send(stand_in.annotate(first, "0"))
    send(stand_in.annotate(second, "1"))
    assert services.trainer.learn(1)
    latest = services.store.latest_round(1)
    stated = replace(latest, number=latest.number + 1, accuracy=STATED, check_set=CHECKED, classes=("0", "1"))
    services.store.save_round(1, stated, [])
    monkeypatch.setenv("MODEL_DIR", str(services.settings.model_dir))
    monkeypatch.setenv("LABEL_STUDIO_URL", stand_in.url)

    def run(*options):
        found = CliRunner().invoke(cli.app, ["status", "--project", "1", *options], env={"COLUMNS": "200"})
        assert found.exit_code == 0, found.output
        # A narrow terminal breaks lines.
        return found.output if "--json" in options else " ".join(found.output.replace("│", " ").split())

    return run


def test_it_says_how_often_the_model_is_right_on_the_crops_nobody_has_labelled(status):
    said = status()
    assert "93 %, between 88 and 97 % on the 1,540 crops nobody has labelled" in said
    assert "right on 5 of 6 blind check crops" in said


def test_it_says_of_how_many_crops_another_person_is_asked(status, services):
    assert "second label" not in status()
    assert json.loads(status("--json"))[0]["second_labels"] == []
    latest = services.store.latest_round(1)
    services.store.save_round(1, replace(latest, number=latest.number + 1, second_labels=(2,)), [])
    assert "second labels of 1 crop, " in status()
    assert json.loads(status("--json"))[0]["second_labels"] == [2]


def test_a_program_reads_the_same_with_every_class(status):
    (found,) = json.loads(status("--json"))
    assert found["project"] == 1
    assert found["labels"] == 2
    accuracy = found["accuracy"]
    assert (accuracy["estimate"], accuracy["low"], accuracy["high"]) == (0.93, 0.88, 0.97)
    assert (accuracy["n_crops"], accuracy["n"], accuracy["correct"]) == (1540, 6, 5)
    (crack,) = accuracy["by_class"]
    assert crack["recall"] == {"estimate": 0.91, "low": 0.8, "high": 0.96}
    assert accuracy["confusions"][0]["predicted"] == "dirt"


@pytest.mark.parametrize(
    ("number", "words"), [(1, "1 suspected label issue;"), (2, "2 suspected label issues;")]
)
def test_the_queue_is_counted_in_whole_words(status, services, number, words):
    latest = services.store.latest_round(1)
    tasks = tuple(range(number))
    services.store.save_round(1, replace(latest, number=latest.number + 1, check=tasks, suspected=tasks), [])
    said = status()
    assert f"{number} blind check crop{'' if number == 1 else 's'}, " in said
    assert words in said
