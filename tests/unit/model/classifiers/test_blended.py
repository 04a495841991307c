"""Two classifiers of one project answer together, each with its share."""

import numpy as np
import onnxruntime
import pytest

from everylabel.model.classifiers.blended import BlendedClassifier, with_state
from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.onnx_graph import Graph

RNG = np.random.default_rng(3)
CENTRES = RNG.standard_normal((4, 16)).astype(np.float32)


def rows(codes):
    return CENTRES[codes] + 0.4 * RNG.standard_normal((len(codes), 16)).astype(np.float32)


@pytest.fixture
def both():
    own, earlier = np.arange(24) % 3, 1 + np.arange(24) % 3
    return (
        EmbeddingClassifier().fit(rows(own), [str(code) for code in own]),
        EmbeddingClassifier().fit(rows(earlier), [str(code) for code in earlier]),
    )


def test_probabilities_are_mixed_by_the_names_of_the_classes(both):
    own, earlier = both
    blended = BlendedClassifier(own, earlier, 0.25)
    assert blended.classes_ == ("0", "1", "2", "3")
    x = rows(np.arange(12) % 4)
    found, mine, theirs = (one.predict_proba(x) for one in (blended, own, earlier))
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(found[:, 0], 0.75 * mine[:, 0])
    assert np.allclose(found[:, 1], 0.75 * mine[:, 1] + 0.25 * theirs[:, 0])
    assert np.allclose(found[:, 3], 0.25 * theirs[:, 2])


def test_it_survives_being_stored_as_arrays(both, tmp_path):
    blended = BlendedClassifier(*both, 0.5)
    np.savez(tmp_path / "model.npz", **blended.state())
    with np.load(tmp_path / "model.npz", allow_pickle=False) as stored:
        again = with_state(EmbeddingClassifier(), {name: stored[name] for name in stored.files})
    x = rows(np.arange(12) % 4)
    assert np.array_equal(again.predict_proba(x), blended.predict_proba(x))
    # An earlier version of the backend reads the project's own part of the same file.
    own = EmbeddingClassifier().load_state(blended.state())
    assert np.array_equal(own.predict_proba(x), both[0].predict_proba(x))
    alone = with_state(EmbeddingClassifier(), both[0].state())
    assert isinstance(alone, EmbeddingClassifier)


def test_it_says_the_same_as_an_onnx_graph(both):
    blended = BlendedClassifier(*both, 0.75)
    graph = Graph("rows", ("n", 16), "float32")
    found = blended.add_to_graph(graph, "rows", 16)
    model = graph.finish({"probabilities": (found, ("n", 4))})
    x = rows(np.arange(12) % 4)
    (said,) = onnxruntime.InferenceSession(model).run(None, {"rows": x})
    assert np.abs(said - blended.predict_proba(x)).max() < 1e-5


def test_a_fresh_copy_learns_the_labels_alone(both):
    own, earlier = both
    fresh = BlendedClassifier(own, earlier, 0.5).fresh()
    codes = np.asarray([0, 3] * 6)
    fresh.fit(rows(codes), [str(code) for code in codes])
    assert fresh.head.classes_ == ("0", "3")
    assert fresh.classes_ == ("0", "1", "2", "3")
    assert not fresh.closed_form
