"""`everylabel encoders`: which encoder a project's labels speak for, in words and as figures."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from everylabel.backend.app import create_app
from everylabel.backend.embedding.embeddings import EncoderError
from everylabel.backend.page.figures import status
from everylabel.scripts import cli
from everylabel.scripts.commands.connect import connect_and_say
from tests.conftest import choice

BLIND = '''
"""An encoder that sees nothing but the mean colour."""
import numpy as np
from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.encoders.base import Encoder

class Blind(Encoder):
    def __init__(self, device="auto", threads=None):
        self.name, self.dim, self.dtype, self.crop_size = "blind:Blind", 3, np.dtype(np.float32), 16
        self.licence = "of our own"
    def make_classifier(self):
        return EmbeddingClassifier()
    def _encode_batch(self, crops):
        return crops.mean(axis=(1, 2)).astype(np.float32)
'''


@pytest.fixture
def run(stand_in, services, digit_crops, monkeypatch, tmp_path):
    """Run the command where project 1 has as many labelled digits as asked for, with a blind encoder in use."""
    (tmp_path / "blind.py").write_text(BLIND)
    monkeypatch.syspath_prepend(tmp_path)
    stand_in.add_project(1)
    ids = stand_in.add_tasks(1, *(image for image, _ in digit_crops[:70]), "http://127.0.0.1:9/gone.png")
    settings = services.settings.model_copy(update={"encoder": "blind:Blind"})
    monkeypatch.setenv("MODEL_DIR", str(settings.model_dir))
    monkeypatch.setenv("EVERYLABEL_ENCODER", "blind:Blind")
    monkeypatch.setenv("LABEL_STUDIO_URL", stand_in.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", stand_in.token)

    def command(*arguments, labels=60, code=0):
        for task, (_, label) in zip(ids[:labels], digit_crops, strict=False):
            stand_in.annotate(task, label)
        stand_in.annotate(ids[-1], "0")
        services.loop.sync(1)
        answer = CliRunner().invoke(
            cli.app, ["encoders", "--project", "1", *arguments], env={"COLUMNS": "120"}
        )
        assert answer.exit_code == code, answer.output
        if "--json" in arguments:
            assert "left out" not in answer.output, answer.output
            return answer.stdout
        return " ".join(answer.output.split())

    return command


def test_the_encoder_that_sees_digits_is_named_and_one_that_is_unknown_is_left_out(run):
    said = run("--encoder", "resnet-9000")
    assert "resnet-9000 is left out" in said
    assert "in use" in said
    assert "is better on these labels" in said
    assert "everylabel encoders --project 1 --switch efficientnet-lite" in said
    assert "on 60 labels" in said, "the crop that cannot be read is left out"


def test_the_licence_of_a_hubs_model_is_said_before_it_is_used(run, tmp_path):
    """By every command that chooses one; here each model is only its card, so nothing of it can be used."""
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    model = f"hf:{tmp_path}"
    words = f"Licence of {model}: cc-by-nc-4.0, as its model card says."
    compared = run("--encoder", model)
    assert words in compared
    assert compared.index(words) < compared.index(f"{model} is left out")
    said = run("--switch", model, code=1)
    assert words in said
    assert said.index(words) < said.index(f"Cannot load {model}: the folder has no config.json")


def test_connecting_with_a_hubs_model_says_its_licence(services, stand_in, tmp_path, monkeypatch, capsys):
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    monkeypatch.setattr(services.embeddings, "name", lambda project: f"hf:{tmp_path}")
    stand_in.add_project(1)
    with pytest.raises(EncoderError, match=r"no config\.json"):
        connect_and_say(services, 1, hotkeys=False)
    assert f"Licence of hf:{tmp_path}: mit" in capsys.readouterr().out.replace("\n", "")


def test_the_page_and_status_go_on_saying_it(run, services):
    run()
    said = services.store.state(1).better_encoder
    assert said.startswith("On 60 labels, efficientnet-lite")
    assert "--switch efficientnet-lite" in said
    page = create_app(services).test_client().get("/projects/1/").get_data(as_text=True)
    assert said in page
    answer = CliRunner().invoke(cli.app, ["status", "--project", "1"], env={"COLUMNS": "200"})
    assert "On 60 labels, efficientnet-lite" in answer.output
    services.store.save_project(1, next_encoder="efficientnet-lite2", next_signature="some")
    line = status(1, services.store.state(1), trainer_alive=True)
    assert line.text.startswith("Embedding crops with efficientnet-lite2 too")


def test_a_program_reads_the_figures(run):
    found = json.loads(run("--json"))
    assert found["project"] == 1
    in_use, *others = found["encoders"]
    assert in_use["in_use"]
    assert in_use["gain"] is None
    assert in_use["licence"] == "of our own"
    assert {one["encoder"] for one in others} >= {"efficientnet-lite0", "efficientnet-lite2"}
    for one in others:
        assert one["gain"]["points"] > 0
        assert one["balanced_accuracy"]["low"] < one["balanced_accuracy"]["balanced_accuracy"]
        assert one["crops_per_second"] > 0


def test_with_few_labels_nothing_is_said(run):
    assert "luck decides" in run(labels=10, code=1)


def test_texts_are_tried_with_what_reads_texts(stand_in, services, monkeypatch):
    config = (
        '<View><Text name="text" value="$words"/><Choices name="tone" toName="text">'
        '<Choice value="praise"/><Choice value="complaint"/></Choices></View>'
    )
    stand_in.add_project(2, config)
    ids = stand_in.add_tasks(2, *[""] * 30)
    for number, task in enumerate(ids):
        praised = number % 2 == 0
        words = "a wonderful, friendly place" if praised else "the food was cold and the staff rude"
        stand_in.tasks[task]["data"] = {"words": f"{words}, visit {number}"}
        (given,) = choice("praise" if praised else "complaint")
        stand_in.annotate(task, None, result=[{**given, "from_name": "tone", "to_name": "text"}])
    monkeypatch.setenv("MODEL_DIR", str(services.settings.model_dir))
    monkeypatch.setenv("EVERYLABEL_ENCODER", "all-minilm-l6-v2")
    monkeypatch.setenv("LABEL_STUDIO_URL", stand_in.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", stand_in.token)
    services.store.save_project(2, label_config=config)
    services.loop.reconcile(2)
    answer = CliRunner().invoke(cli.app, ["encoders", "--project", "2", "--encoder", "efficientnet-lite0"])
    assert answer.exit_code == 0, answer.output
    said = " ".join(answer.output.split())
    assert "efficientnet-lite0 is left out: it reads images" in said
    assert "There is no other encoder to compare with" in said
    monkeypatch.setenv("EVERYLABEL_ENCODER", "efficientnet-lite0")
    answer = CliRunner().invoke(cli.app, ["encoders", "--project", "2"])
    assert answer.exit_code == 1
    assert "Start a backend for texts" in " ".join(answer.output.split())


def test_a_switch_is_begun_told_and_called_off(run):
    said = run("--switch", "efficientnet-lite0")
    assert "is being switched from blind:Blind to efficientnet-lite0: 0 of 70 crops are embedded" in said
    assert "blind:Blind goes on answering until all are" in said
    assert "everylabel status --project 1" in said
    assert "The trainer is not running" in said
    assert "0 of 70 crops" in run("--switch", "efficientnet-lite0"), "once more says how far it is"
    assert "The switch to efficientnet-lite0 is called off: project 1 stays with blind:Blind" in run(
        "--switch", "blind:Blind"
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("blind:Blind", "has the encoder blind:Blind already"),
        ("resnet-9000", "Unknown encoder 'resnet-9000'"),
        ("all-minilm-l6-v2", "reads texts"),
    ],
)
def test_what_cannot_be_switched_to_is_said(run, name, said):
    assert said in run("--switch", name, code=1)


def test_a_project_that_is_not_connected_is_not_switched(run):
    answer = CliRunner().invoke(cli.app, ["encoders", "--project", "9", "--switch", "efficientnet-lite0"])
    assert answer.exit_code == 1
    assert "everylabel connect --project 9" in " ".join(answer.output.split())
