"""The ten lines of docs/export.md say what `predict` says, and need onnxruntime, numpy and Pillow alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from everylabel.model import encoders
from everylabel.model.classifiers import EmbeddingClassifier
from everylabel.model.exported.compose import to_onnx
from everylabel.model.exported.novelty import Novelty

REPOSITORY = Path(__file__).resolve().parents[3]
ALONE = """
import importlib.metadata as metadata
import sys

wanted, allowed = ["onnxruntime", "numpy", "pillow"], set()
while wanted:
    name = wanted.pop()
    allowed.add(name.lower())
    for needed in metadata.requires(name) or ():
        plain = needed.split(";")[0].split("[")[0].strip("<>=!~ 0123456789.,*")
        if "extra ==" not in needed and plain.lower() not in allowed:
            try:
                metadata.distribution(plain)
            except metadata.PackageNotFoundError:
                continue
            wanted.append(plain)
modules = {
    module
    for module, packages in metadata.packages_distributions().items()
    if not any(package.lower() in allowed for package in packages)
}

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in modules:
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Nothing())
for module in ("torch", "sklearn", "onnx", "everylabel"):
    try:
        __import__(module)
    except ImportError:
        continue
    raise SystemExit(f"{module} is there")
"""


def test_the_ten_lines_say_what_predict_says(tmp_path: Path) -> None:
    encoder = encoders.create("direct-cnn", device="cpu")
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (40, encoder.dim), dtype=np.uint8)
    classifier = EmbeddingClassifier().adapt(rows).fit(rows, ["a", "b"] * 20)
    content = to_onnx(encoder, classifier, Novelty.measured(rows, by_direction=False))
    (tmp_path / "model.onnx").write_bytes(content)
    paths = []
    for number, (size, suffix) in enumerate([((64, 64), "png"), ((200, 150), "jpg"), ((30, 90), "webp")]):
        paths.append(tmp_path / f"{number}.{suffix}")
        Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(paths[-1])

    code, _ = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "export.md").read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line and not line.startswith(("import", "from"))]) <= 12
    done = subprocess.run(
        [sys.executable, "-c", ALONE + code, *map(str, paths)],
        cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

    out = tmp_path / "out.jsonl"
    subprocess.run(
        [sys.executable, "-m", "everylabel.scripts.cli", "predict", *paths, "--model", tmp_path / "model.onnx", "-o", out],
        check=True, timeout=100,
    )  # fmt: skip
    said = [json.loads(line) for line in out.read_text().splitlines()]
    for line, other in zip(done.stdout.splitlines(), said, strict=True):
        path, name, confidence, novel = line.split("\t")
        assert (path, name) == (other["file"], other["class"])
        assert abs(float(confidence) - other["confidence"]) < 1e-3
        assert (novel == "unlike") == other["unlike"]
