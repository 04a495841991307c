"""An exported model runs where there is no torch, and a file that is none is refused with the way out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everylabel.model import encoders
from everylabel.model.classifiers import EmbeddingClassifier
from everylabel.model.exported.compose import to_onnx
from everylabel.model.exported.model_file import ExportedModel, ModelFileError
from everylabel.model.onnx_graph import Graph


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    encoder = encoders.create("direct-cnn", device="cpu")
    rows = np.random.default_rng(0).integers(0, 256, (12, encoder.dim), dtype=np.uint8)
    classifier = EmbeddingClassifier().adapt(rows).fit(rows, ["a", "b"] * 6)
    file = tmp_path_factory.mktemp("exported") / "model.onnx"
    file.write_bytes(to_onnx(encoder, classifier, None))
    return file


def test_pictures_of_any_sizes_are_predicted_in_their_order(path: Path) -> None:
    model = ExportedModel(path, threads=1)
    rng = np.random.default_rng(0)
    sizes = [(40, 30), (64, 64), (40, 30), (500, 400), *[(64, 64)] * 9]
    images = [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]
    pictures = [model.prepare(image) for image in images]
    assert pictures[3].shape == (51, 64, 3)  # what is huge is made smaller at once
    together = model.predict(pictures)
    assert together.novelty is None
    for number, picture in enumerate(pictures):
        alone = model.predict([picture])
        np.testing.assert_allclose(alone.probabilities[0], together.probabilities[number], atol=1e-5)
    assert model.predict([]).probabilities.shape == (0, 2)


def test_what_is_no_exported_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="everylabel export"):
        ExportedModel(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(ModelFileError, match="no ONNX model"):
        ExportedModel(tmp_path / "text.onnx")
    graph = Graph("x", ("n",), "float32")
    (tmp_path / "other.onnx").write_bytes(graph.finish({"y": (graph.add("Neg", "x"), ("n",))}))
    with pytest.raises(ModelFileError, match="Export the model again"):
        ExportedModel(tmp_path / "other.onnx")


WITHOUT_TORCH = """
import sys
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "sklearn", "scipy", "onnx", "label_studio_sdk"):
            raise ImportError(f"{name} must not be needed")
sys.meta_path.insert(0, Forbidden())
from everylabel.scripts.cli import app
app(sys.argv[1:])
"""


def test_predict_loads_no_torch(path: Path, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), (200, 10, 10)).save(tmp_path / "red.png")
    arguments = ["predict", "--model", str(path), str(tmp_path), "--threads", "1"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert "1 picture predicted" in done.stderr
