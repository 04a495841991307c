"""`everylabel predict` with a model of texts: files and tables of texts in, a line for each out."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from everylabel.model import encoders
from everylabel.model.exported.compose import to_onnx
from everylabel.model.exported.model_file import TOKENIZER, ExportedModel, ModelFileError
from everylabel.model.exported.novelty import Novelty
from everylabel.scripts.cli import app

PAGE = Path(__file__).resolve().parents[4] / "docs" / "export.md"
CATS = [
    f"The {colour} cat {does}."
    for colour in ("old", "grey", "small", "fat")
    for does in ("sleeps", "eats", "purrs", "runs")
]
MONEY = [
    f"{what} {did} on Monday."
    for what in ("Markets", "Shares", "Banks", "Prices")
    for did in ("fell", "rose", "closed", "slid")
]
NEW = ("A kitten lies in the sun.", "The exchange rate went up.", "A cat sat. " * 100, "Bonds")


@pytest.fixture(scope="module")
def encoder():
    return encoders.create(encoders.DEFAULT_TEXT, device="cpu")


@pytest.fixture(scope="module")
def classifier(encoder):
    rows = encoder.encode(np.stack([encoder.prepare_text(text) for text in CATS + MONEY]))
    return encoder.make_classifier().adapt(rows).fit(rows, ["cats"] * 16 + ["money"] * 16)


@pytest.fixture(scope="module")
def model(encoder, classifier, tmp_path_factory) -> Path:
    rows = encoder.encode(np.stack([encoder.prepare_text(text) for text in CATS + MONEY]))
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    path.write_bytes(to_onnx(encoder, classifier, Novelty.measured(rows, by_direction=True)))
    path.with_suffix(TOKENIZER).write_text(encoder.tokenizer())
    return path


def run(*arguments: object, given: str = "") -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, arguments), "--threads", "1"], input=given)


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {Path(row["file"]).name: row for row in csv.DictReader(file)}


def test_it_says_what_the_encoder_and_the_classifier_say(model, encoder, classifier):
    exported = ExportedModel(model, threads=1)
    found = exported.predict([exported.prepare_text(text) for text in NEW]).probabilities
    rows = encoder.encode(np.stack([encoder.prepare_text(text) for text in NEW]))
    np.testing.assert_allclose(found, classifier.predict_proba(rows), atol=1e-3)


def test_texts_of_a_table_are_predicted_and_taken_up_again(model, tmp_path):
    given, out = tmp_path / "new.csv", tmp_path / "out.csv"
    with given.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["id", "said"], *([number, text] for number, text in enumerate(NEW)), [9, " "]])
    done = run("--model", model, given, "--text", "said", "-o", out)
    assert done.exit_code == 0, done.stderr
    found = table(out)
    assert [found[f"new.csv:{line}"]["class"] for line in (2, 3, 4)] == ["cats", "money", "cats"]
    assert found["new.csv:6"]["error"] == "the text is empty"
    assert "4 texts predicted" in done.stderr
    again = run("--model", model, given, "--text", "said", "-o", out)
    assert "Nothing is left to predict" in again.stderr
    assert table(out) == found


def test_files_of_texts_are_predicted_and_what_is_none_is_named(model, tmp_path):
    folder, out = tmp_path / "letters", tmp_path / "out.jsonl"
    (folder / "deep").mkdir(parents=True)
    (folder / "cat.txt").write_text("\ufeffThe cat and the kitten purr.", encoding="utf-8")
    (folder / "deep" / "money.TXT").write_text("The bank closed on Monday.")
    (folder / "latin.txt").write_bytes("Käse".encode("latin-1"))
    (folder / "picture.png").touch()
    done = run("--model", model, folder, folder / "missing.txt", "-o", out)
    assert done.exit_code == 0, done.stderr
    found = {Path(one["file"]).name: one for one in map(json.loads, out.read_text().splitlines())}
    assert (found["cat.txt"]["class"], found["money.TXT"]["class"]) == ("cats", "money")
    assert found["latin.txt"]["error"] == "the file is not text in UTF-8"
    assert found["missing.txt"]["error"] == "No such file or directory"
    assert "1 file in the folders are not called like texts (.txt)" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--boxes", "bbox"), "--text"), (("--text", "words"), "needs a column 'words'. It has: id.")],
)
def test_options_that_do_not_go_together_are_refused(model, tmp_path, arguments, words):
    (tmp_path / "new.csv").write_text("id\n1\n")
    done = run("--model", model, tmp_path / "new.csv", *arguments)
    assert done.exit_code == 1
    assert words in done.stderr.replace("\n", " ")


def test_without_its_tokenizer_a_model_says_what_is_missing(model, tmp_path):
    (tmp_path / "model.onnx").write_bytes(model.read_bytes())
    with pytest.raises(ModelFileError, match=r"model\.tokenizer\.json.*Put both in one folder"):
        ExportedModel(tmp_path / "model.onnx")
    (tmp_path / "model.tokenizer.json").write_text("{}")
    with pytest.raises(ModelFileError, match="cannot be read"):
        ExportedModel(tmp_path / "model.onnx")


def test_no_torch_is_loaded(model, tmp_path):
    (tmp_path / "a.txt").write_text("The cat sleeps.")
    program = (
        "import sys\n"
        "from everylabel.scripts.cli import app\n"
        "try:\n    app(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'transformers', 'sklearn'} & {*sys.modules}\n"
    )
    arguments = ["predict", "--model", str(model), str(tmp_path / "a.txt")]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "cats" in done.stdout


def test_the_few_lines_of_python_in_the_documentation_say_the_same(model, tmp_path):
    _, code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    shutil.copy(model, tmp_path / "texts.onnx")
    shutil.copy(model.with_suffix(TOKENIZER), tmp_path / "texts.tokenizer.json")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, input="\n".join(NEW), capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = [line.split("\t") for line in done.stdout.splitlines()]
    exported = ExportedModel(model, threads=1)
    found = exported.predict([exported.prepare_text(text) for text in NEW]).probabilities
    assert [name for name, *_ in said] == [exported.classes[best] for best in found.argmax(axis=1)]
    assert [float(share) for _, share, _ in said] == pytest.approx(found.max(axis=1).tolist(), abs=1e-3)
