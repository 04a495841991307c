"""`export_model` writes the model that answers `/predict`, and a card of what it is worth; or nothing at all."""

from __future__ import annotations

import base64
import hashlib
import io
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from everylabel.backend.exporting import export
from everylabel.backend.exporting.export import ExportError, export_model
from everylabel.backend.ml_backend import ActiveLearningBackend
from everylabel.backend.store import Annotator
from everylabel.model import encoders
from everylabel.model.exported.model_file import ExportedModel
from everylabel.scripts.cli import app
from tests.stand_in_label_studio import TOKEN


@pytest.fixture
def taught(services, teach):
    """Project 1 after 16 labels and a round, as the class that answers /predict."""
    services.store.save_annotators([Annotator(1, "Ada Lovelace", "ada@example.org")])
    services.store.save_project(1, title="Digits | by [hand]")
    teach(16)
    return ActiveLearningBackend(1, parts=services)


def picture(stand_in, task):
    content = base64.b64decode(stand_in.plain(task)["data"]["image"].partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_the_exported_model_says_what_predict_says(tmp_path, stand_in, services, project, taught):
    path = tmp_path / "new folder" / "model.onnx"
    export_model(services, 1, path)
    model = ExportedModel(path, threads=1)
    tasks = list(project)[16:]
    found = model.predict([picture(stand_in, task) for task in tasks])
    answers = taught.predict([stand_in.plain(task) for task in tasks])
    for answer, probabilities in zip(answers, found.probabilities, strict=True):
        best = int(probabilities.argmax())
        assert answer["result"][0]["value"]["choices"] == [model.classes[best]]
        assert abs(answer["score"] - probabilities[best]) < 1e-3
    assert found.novelty is not None
    assert sorted(path.name for path in path.parent.iterdir()) == ["model.json", "model.md", "model.onnx"]


def test_the_card_says_what_the_model_is_worth(tmp_path, services, project, taught):
    path = tmp_path / "digits.onnx"
    returned = export_model(services, 1, path)
    text = (tmp_path / "digits.json").read_text()
    card = json.loads(text)
    assert card == returned
    labels = [project[task] for task in list(project)[:16]]
    assert card["labels"]["trained_on"] == card["labels"]["now"] == 16
    assert card["labels"]["by_class"] == {name: labels.count(name) for name in "0123"}
    assert card["labels"]["by_user"] == [{"user": 1, "annotations": 16}]
    assert card["labels"]["first"] <= card["labels"]["last"]
    assert card["round"] == services.store.project(1).model_round
    accuracy, record = card["accuracy"], services.store.round(1, card["round"])
    assert record.accuracy is not None
    assert (accuracy["estimate"], accuracy["low"]) == (record.accuracy["estimate"], record.accuracy["low"])
    assert "blind check crops" in accuracy["how"]
    assert card["encoder"]["licence"].startswith("Apache-2.0")
    assert card["file"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card["not_for"]

    page = (tmp_path / "digits.md").read_text()
    assert page.startswith("# Digits \\| by \\[hand\\]: an image classifier")
    for words in (
        "16 labels",
        "user 1: 16",
        "95 % interval",
        "Apache-2.0",
        "Do not use it for",
        "`digits.json`",
    ):
        assert words in page
    for secret in ("ada@example.org", "Ada Lovelace"):
        assert secret not in text + page + path.read_bytes().decode("latin-1")


def test_calibration_is_measured_on_the_check_crops(tmp_path, services, project, taught):
    services.store.save_project(1, check_tasks=list(project)[:8])
    calibration = export_model(services, 1, tmp_path / "model.onnx")["calibration"]
    assert calibration["n"] == 8
    assert 0 < calibration["mean_confidence"] < 1
    assert 0 <= calibration["expected_calibration_error"] <= 1
    assert "On 8 blind check crops" in (tmp_path / "model.md").read_text()


def test_nothing_is_left_behind_of_an_export_that_fails(tmp_path, services, taught, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"an earlier model")
    (tmp_path / "model.md").mkdir()  # so that the card cannot take its place
    with pytest.raises(ExportError, match=r"cannot be written .*nothing was changed"):
        export_model(services, 1, path)
    assert path.read_bytes() == b"an earlier model"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "state") == [
        "model.md",
        "model.onnx",
    ]

    def broken_off(*_, **__):
        raise KeyboardInterrupt

    (tmp_path / "model.md").rmdir()
    monkeypatch.setattr(export, "to_onnx", broken_off)
    with pytest.raises(KeyboardInterrupt):
        export_model(services, 1, path)
    assert path.read_bytes() == b"an earlier model"


def test_without_a_model_it_says_what_to_do(tmp_path, services, project):
    with pytest.raises(ExportError, match="labels of two classes"):
        export_model(services, 1, tmp_path / "model.onnx")
    with pytest.raises(ExportError, match="labels of two classes"):
        export_model(services, 7, tmp_path / "model.onnx")
    with pytest.raises(ExportError, match=r"-o model\.onnx"):
        export_model(services, 1, tmp_path / "model.pkl")


def test_a_model_for_another_encoder_is_not_exported_and_the_encoder_is_named(
    tmp_path, services, taught, make_services
):
    other = make_services(encoder="direct-cnn", encoder_object=encoders.create("direct-cnn", device="cpu"))
    with pytest.raises(ExportError, match=r"'direct-cnn'.*EVERYLABEL_ENCODER"):
        export_model(other, 1, tmp_path / "model.onnx")


def test_the_command_exports_and_says_what_to_do_next(tmp_path, services, stand_in, taught):
    environment = {
        "MODEL_DIR": str(services.settings.model_dir),
        "LABEL_STUDIO_URL": stand_in.url,
        "LABEL_STUDIO_API_KEY": TOKEN,
    }

    def run(*arguments):
        return CliRunner().invoke(app, ["export", *map(str, arguments)], env=environment)

    path = tmp_path / "model.onnx"
    done = run("--project", 1, "-o", path)
    assert done.exit_code == 0, done.output
    for words in ("from 16 labels", "model.md", "95 % confidence", f"predict --model {path}"):
        assert words in done.stdout
    assert ExportedModel(path, threads=1).classes == tuple("0123")
    unknown = run("--project", 9, "-o", path)
    assert (unknown.exit_code, "everylabel connect --project 9" in unknown.stderr) == (1, True)
    assert run("--project", 1, "-o", tmp_path / "model.bin").exit_code == 1
