import numpy as np
import pytest

from everylabel.model.classifiers.ridge import fit_ridge, leave_one_out_scores


def rows(n: int, d: int, n_classes: int = 3, seed: int = 0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.integers(n_classes, size=n), rng.uniform(0.2, 2.0, size=n)


@pytest.mark.parametrize("d", [5, 60])
def test_leaving_a_row_out_in_closed_form_is_what_leaving_it_out_gives(d):
    x, codes, weight = rows(20, d)
    scores = leave_one_out_scores(x, codes, 3, weight=weight, penalties=[0.3, 2.0])
    for number, penalty in enumerate((0.3, 2.0)):
        for row in range(20):
            rest = np.arange(20) != row
            weights, bias = fit_ridge(x[rest], codes[rest], 3, weight=weight[rest], penalty=penalty)
            np.testing.assert_allclose(scores[number, row], x[row] @ weights + bias, atol=1e-8)


def test_more_rows_than_dimensions_and_fewer_give_the_same_solution():
    x, codes, weight = rows(30, 12)
    weights, bias = fit_ridge(x, codes, 3, weight=weight, penalty=0.5)
    wide = np.concatenate([x, np.zeros((30, 40))], axis=1)
    padded, same_bias = fit_ridge(wide, codes, 3, weight=weight, penalty=0.5)
    np.testing.assert_allclose(padded[:12], weights, atol=1e-8)
    np.testing.assert_allclose(same_bias, bias, atol=1e-8)


def test_a_weight_of_zero_takes_a_row_out():
    x, codes, _ = rows(20, 5)
    weight = np.where(np.arange(20) < 10, 1.0, 0.0)
    weights, _ = fit_ridge(x, codes, 3, weight=weight, penalty=1.0)
    alone, _ = fit_ridge(x[:10], codes[:10], 3, weight=np.ones(10), penalty=1.0)
    np.testing.assert_allclose(weights, alone, atol=1e-4)


def test_a_class_without_rows_scores_nothing():
    x, codes, weight = rows(20, 5, n_classes=2)
    weights, bias = fit_ridge(x, codes, 4, weight=weight, penalty=1.0)
    assert np.abs((x @ weights + bias)[:, 2:]).max() < 1e-9
