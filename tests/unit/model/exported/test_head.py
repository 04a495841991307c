"""The head of an exported model is read out of its file, and nothing else is believed."""

from __future__ import annotations

import json
import os

import numpy as np
import onnx
import pytest

from everylabel.model import label_set
from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.classifiers.multi_label import MultiLabelClassifier
from everylabel.model.exported.head import (
    ENTRY,
    HeadError,
    _digest,
    _packed,
    pack,
    read_head,
    restricted,
)
from everylabel.model.onnx_graph import Graph
from tests.coarse_encoder import Coarse

CLASSES = ("apple", "birch", "cedar")
CENTRES = np.random.default_rng(5).standard_normal((3, 64)).astype(np.float32)


class OtherWeights(Coarse):
    """Of the same name and shape, and other numbers."""

    def _encode_batch(self, crops):
        return super()._encode_batch(crops)[:, ::-1].copy()


def rows(n=60, seed=0):
    codes = np.arange(n) % 3
    noise = np.random.default_rng(seed).standard_normal((n, 64)).astype(np.float32)
    return CENTRES[codes] + 0.3 * noise, [CLASSES[code] for code in codes]


def trained():
    return EmbeddingClassifier().fit(*rows())


def written(path, metadata):
    """An ONNX model with this metadata."""
    graph = Graph("pixels", ("n", 3), "uint8")
    path.write_bytes(graph.finish({"probabilities": (graph.cast("pixels", "float32"), ("n", 3))}, metadata))
    return path


def told(classifier, encoder=None, **more):
    encoder = encoder or Coarse()
    return {
        "everylabel_format": "1",
        "encoder": encoder.signature,
        "reads": "image",
        "card": json.dumps({"project": {"id": 3, "title": "old"}, "round": 12, "labels": {"trained_on": 60}}),
        **pack(classifier, encoder),
        **more,
    }


def test_the_head_predicts_what_the_classifier_did(tmp_path):
    classifier = trained()
    head = read_head(written(tmp_path / "model.onnx", told(classifier)))
    assert (head.classes, head.reads, head.multiple) == (CLASSES, "image", False)
    assert head.origin == {"project": {"id": 3, "title": "old"}, "round": 12, "labels": 60}
    x, _ = rows(seed=1)
    again = EmbeddingClassifier().load_state(head.state)
    assert np.array_equal(again.predict_proba(x), classifier.predict_proba(x))


def test_the_head_of_several_classes_a_crop_is_read_as_well(tmp_path):
    x, names = rows()
    labels = [label_set.join({name, "dirt"} if i % 2 else {name}) for i, name in enumerate(names)]
    classifier = MultiLabelClassifier().adapt(x).fit(x, labels)
    head = read_head(written(tmp_path / "model.onnx", told(classifier)))
    assert head.multiple
    assert head.classes == (*CLASSES, "dirt")
    again = MultiLabelClassifier().load_state(head.state)
    assert np.array_equal(again.predict_proba(x), classifier.predict_proba(x))
    kept = restricted(head.state, frozenset({"apple", "dirt"}))
    fewer = MultiLabelClassifier().load_state(kept)
    assert set(fewer.classes_) == {"apple", "dirt", "apple + dirt"}
    assert np.allclose(fewer.predict_proba(x).sum(axis=1), 1, atol=1e-5)


def test_it_knows_its_encoder_by_what_that_makes_of_a_crop(tmp_path):
    head = read_head(written(tmp_path / "model.onnx", told(trained())))
    assert head.is_of(Coarse())
    assert OtherWeights().signature == Coarse().signature
    assert not head.is_of(OtherWeights())


def test_classes_that_are_not_wanted_are_left_out(tmp_path):
    head = read_head(written(tmp_path / "model.onnx", told(trained())))
    fewer = EmbeddingClassifier().load_state(restricted(head.state, frozenset({"apple", "cedar", "oak"})))
    assert fewer.classes_ == ("apple", "cedar")
    x, names = rows(seed=2)
    known = np.asarray([name != "birch" for name in names])
    found = np.asarray(fewer.classes_)[fewer.predict_proba(x[known]).argmax(axis=1)]
    assert (found == np.asarray(names)[known]).all()
    assert restricted(head.state, frozenset({"apple", "oak"})) is None


def test_files_that_are_no_model_of_ours_are_refused_with_the_way_out(tmp_path):
    missing, text, foreign = (tmp_path / name for name in ("missing.onnx", "text.onnx", "foreign.onnx"))
    text.write_text("not a model at all")
    written(foreign, {})
    without = written(tmp_path / "old.onnx", {"everylabel_format": "1", "encoder": "e"})
    for path, words in (
        (missing, "cannot be read"),
        (text, "is no ONNX model, or damaged"),
        (foreign, "everylabel did not write"),
        (without, "holds no head"),
    ):
        with pytest.raises(HeadError, match=words) as raised:
            read_head(path)
        assert str(path) in str(raised.value)
        assert "everylabel export" in str(raised.value)


def test_a_file_that_was_cut_off_or_changed_is_damaged(tmp_path):
    path = written(tmp_path / "model.onnx", told(trained()))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HeadError, match="damaged"):
        read_head(path)
    place = whole.index(b'\\"data\\"') + 200
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(HeadError, match="damaged"):
        read_head(path)


def test_a_file_larger_than_any_model_is_not_read(tmp_path):
    path = tmp_path / "huge.onnx"
    path.touch()
    os.truncate(path, 2**31)  # a hole: it takes no room
    with pytest.raises(HeadError, match="no ONNX file has more than 2 GB"):
        read_head(path)


@pytest.mark.parametrize(
    "change",
    [
        {"weights": np.zeros((64, 2), np.float32)},
        {"bias": np.asarray([0, np.nan, 0], np.float32)},
        {"centre": np.zeros(3, np.float32)},
        {"scales": np.ones(7, np.float32)},
        {"classes": np.asarray(["cedar", "apple", "birch"])},
        {"classes": np.asarray(["apple", "apple", "birch"])},
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(tmp_path, change, monkeypatch):
    classifier = trained()
    state = classifier.state()
    monkeypatch.setattr(EmbeddingClassifier, "state", lambda _: {**state, **change})
    with pytest.raises(HeadError, match="damaged"):
        read_head(written(tmp_path / "model.onnx", told(classifier)))


def test_a_classifier_of_another_package_is_exported_without_a_head():
    class Theirs(EmbeddingClassifier):
        def state(self):
            return {**super().state(), "note": np.asarray(["one", "two"])}

    assert pack(Theirs().fit(*rows()), Coarse()) == {}


def entry(change):
    """The entry of a good file with its body changed, and a sum that fits."""
    found = json.loads(told(trained())[ENTRY])
    body = json.loads(found["body"])
    change(body)
    text = json.dumps(body, ensure_ascii=False, sort_keys=True)
    return json.dumps({**found, "body": text, "sha256": _digest(text)})


def far_too_large(body):
    body["arrays"]["weights"] = _packed(np.full((64, 3), 3e38, dtype=np.float32))


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param("[" * 200_000, id="deep"),
        pytest.param(entry(far_too_large), id="large numbers"),
        pytest.param(
            entry(lambda body: body["arrays"]["bias"].update(shape=[float("inf")])), id="endless shape"
        ),
        pytest.param(entry(lambda body: body.update(classes=["a" * 5000, "b", "c"])), id="long name"),
        pytest.param(entry(lambda body: body.update(classes=["a"] * 20_000)), id="many names"),
        pytest.param(entry(lambda body: body.update(classes=7)), id="no names"),
    ],
)
def test_what_nobody_has_written_is_damaged(tmp_path, entry):
    with pytest.raises(HeadError, match="damaged"):
        read_head(written(tmp_path / "model.onnx", {**told(trained()), ENTRY: entry}))


def test_arrays_that_are_none_of_a_heads_are_left_out(tmp_path):
    more = entry(lambda body: body["arrays"].update(file=body["arrays"]["bias"]))
    assert "file" not in read_head(written(tmp_path / "model.onnx", {**told(trained()), ENTRY: more})).state


@pytest.mark.parametrize(
    "card", ["[" * 200_000, '{"labels": {"trained_on": Infinity}}', '{"round": "' + "x" * 100_000 + '"}']
)
def test_a_card_that_nobody_has_written_is_damaged(tmp_path, card):
    with pytest.raises(HeadError, match="damaged"):
        read_head(written(tmp_path / "model.onnx", told(trained(), card=card)))


def test_a_later_version_is_told_from_a_damaged_file(tmp_path):
    entry = json.loads(told(trained())[ENTRY])
    later = told(trained()) | {ENTRY: json.dumps({**entry, "format": 99})}
    with pytest.raises(HeadError, match="later version"):
        read_head(written(tmp_path / "model.onnx", later))


def test_the_metadata_holds_numbers_as_text_and_no_pickle(tmp_path):
    path = written(tmp_path / "model.onnx", told(trained()))
    entries = {entry.key: entry.value for entry in onnx.load_model(str(path)).metadata_props}
    body = json.loads(json.loads(entries[ENTRY])["body"])
    assert {one["dtype"] for one in body["arrays"].values()} <= {"float32", "float64"}
