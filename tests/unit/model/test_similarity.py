"""The crops most like one crop."""

import numpy as np
import pytest

from everylabel.model.classifiers.embedding_space import EmbeddingSpace
from everylabel.model.similarity import most_similar, similarity_to

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
