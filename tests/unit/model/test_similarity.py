"""The crops most like one crop."""

import numpy as np
import pytest

from everylabel.model import similarity
from everylabel.model.classifiers.embedding_space import EmbeddingSpace
from everylabel.model.similarity import Sketch, most_similar, similarity_to, similarity_to_row

RNG = np.random.default_rng(0)
GROUPS = (
    RNG.standard_normal((5, 64)) * 2 + 30
)  # what all embeddings share is far larger than what tells groups apart
OF_GROUP = np.arange(300) % 5
POOL = (GROUPS[OF_GROUP] + RNG.standard_normal((300, 64))).astype(np.float16)


def test_crops_of_the_same_group_are_the_most_similar():
    for row in (0, 7, 299):
        found = similarity_to(POOL, row)
        assert found.shape == (300,)
        assert found[row] == pytest.approx(1.0, abs=1e-3)
        nearest = most_similar(found, 25, np.arange(300) != row)
        assert row not in nearest
        assert (OF_GROUP[nearest] == OF_GROUP[row]).all()
        assert (np.diff(found[nearest]) <= 0).all()


def test_it_is_the_cosine_in_the_space_that_is_given():
    space = EmbeddingSpace(standardized=16).adapt(POOL)
    features = space.features(POOL)
    assert similarity_to(POOL, 3, space) == pytest.approx(features @ features[3], abs=1e-3)
    without = EmbeddingSpace(standardized=16)
    assert similarity_to(POOL, 3, without) == pytest.approx(features @ features[3], abs=1e-3)
    assert not without.has_centre, "the space of somebody else stays as it is"


def test_few_crops_and_none():
    found = similarity_to(POOL, 0)
    assert list(most_similar(found, 0)) == []
    assert len(most_similar(found, 1000)) == 300
    assert list(most_similar(found, 5, np.zeros(300, dtype=bool))) == []
    assert list(most_similar(np.zeros(4, dtype=np.float32), 2)) == [0, 1]
    assert list(similarity_to(POOL[:1], 0)) == pytest.approx([0.0], abs=1e-3), (
        "a pool of one lies at its centre"
    )


@pytest.mark.parametrize("row", [-1, 300])
def test_a_row_that_is_not_in_the_pool_is_refused(row):
    with pytest.raises(IndexError, match="The pool has 300 crops"):
        similarity_to(POOL, row)


@pytest.fixture
def short(monkeypatch):
    """A sketch whose shortlist is a fifth of the pool."""
    monkeypatch.setattr(similarity, "SHORTLIST", 60)


def test_a_sketch_finds_the_crops_worth_comparing_and_compares_these_exactly(short):
    space = EmbeddingSpace(standardized=16)
    sketch = Sketch.of(POOL, space)
    shared = []
    for row in range(0, 300, 7):
        exact, found = similarity_to(POOL, row, space), sketch.similarity_to(POOL, row)
        compared = found > -1.01
        assert compared.sum() == 60
        assert found[compared] == pytest.approx(exact[compared], abs=1e-3)
        assert most_similar(found, 1) == [row]
        assert {*most_similar(found, 300)} == {*range(300)}, "the others follow"
        shared.append(len({*most_similar(found, 24)} & {*most_similar(exact, 24)}))
    assert np.mean(shared) > 21, "of 24, where only noise tells the crops of a group apart"


def test_a_pool_that_has_grown_is_compared_to_its_end(short):
    space = EmbeddingSpace().adapt(POOL)
    grown = Sketch.of(POOL[:200], space).extended(POOL)
    assert len(grown) == 300
    for row in (3, 299):
        nearest = most_similar(grown.similarity_to(POOL, row), 40)
        assert (OF_GROUP[nearest] == OF_GROUP[row]).all()
        assert nearest.max() >= 200


def test_a_sketch_of_few_crops():
    sketch = Sketch.of(POOL[:3])
    assert sketch.similarity_to(POOL[:3], 1) == pytest.approx(similarity_to(POOL[:3], 1), abs=1e-3)
    with pytest.raises(IndexError):
        sketch.similarity_to(POOL[:3], 3)


APART = np.random.default_rng(1).standard_normal(64)
APART -= GROUPS.T @ np.linalg.lstsq(GROUPS.T, APART)[0]
APART *= 20 / np.linalg.norm(APART)  # what all words share says nothing of crops


def words_for(group):
    """A row that is no crop's, as a text tower makes it."""
    noise = np.random.default_rng(group).standard_normal(64)
    return (GROUPS[group] - 30 + noise + APART).astype(np.float32)


def test_a_row_that_is_no_crop_is_compared_as_it_is_stored():
    for group in range(5):
        row = words_for(group)
        found = similarity_to_row(POOL, row)
        rows = POOL.astype(np.float64)
        assert found == pytest.approx(
            rows @ row / np.linalg.norm(rows, axis=1) / np.linalg.norm(row), abs=1e-5
        )
        assert (OF_GROUP[most_similar(found, 25)] == group).all()
    assert similarity_to_row(POOL[:0], words_for(0)).shape == (0,)


def test_a_sketch_finds_the_crops_worth_comparing_with_words(monkeypatch):
    monkeypatch.setattr(similarity, "SHORTLIST_OF_WORDS", 60)
    sketch = Sketch.of(POOL, EmbeddingSpace())
    for group in range(5):
        row = words_for(group)
        exact, found = similarity_to_row(POOL, row), sketch.similarity_to_row(POOL, row)
        compared = found > -1.01
        assert compared.sum() == 60
        assert found[compared] == pytest.approx(exact[compared], abs=1e-5)
        assert len({*most_similar(found, 24)} & {*most_similar(exact, 24)}) >= 22
        assert {*most_similar(found, 300)} == {*range(300)}, "the others follow"
