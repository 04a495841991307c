import numpy as np
import pytest
import torch

from everylabel.model.classifiers.torch_classifier import TorchClassifier
from everylabel.model.session import ActiveLearningSession

RNG = np.random.default_rng(0)
CODES = RNG.integers(3, size=200)
# uint8 crops, as an encoder's store holds them: each class is bright in another column.
PIXELS = (
    RNG.integers(0, 60, size=(200, 6, 6)) + 150 * (np.arange(6)[None, None] // 2 == CODES[:, None, None])
).astype(np.uint8)
NAMES = [f"column {code}" for code in CODES]


class Net(torch.nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(36, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU())
        self.head = torch.nn.Linear(16, outputs)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x.flatten(1) / 255)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


class FewShot(torch.nn.Module):
    """Remembers one mean a class; nothing to train."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.register_buffer("support", torch.zeros(0, 36))
        self.register_buffer("codes", torch.zeros(0, dtype=torch.long))
        self.n_classes = n_classes

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) / 255

    def set_support(self, rows: torch.Tensor, codes: torch.Tensor) -> None:
        self.support, self.codes = self.encode(rows), codes

    def predict_proba(self, x: torch.Tensor) -> torch.Tensor:
        means = torch.stack([self.support[self.codes == code].mean(0) for code in range(self.n_classes)])
        return (-torch.cdist(self.encode(x), means)).softmax(1)


def accuracy(classifier: TorchClassifier) -> float:
    predicted = np.asarray(classifier.classes_)[classifier.predict_proba(PIXELS).argmax(axis=1)]
    return float((predicted == np.asarray(NAMES)).mean())


@pytest.mark.parametrize("factory", [Net, FewShot])
def test_it_learns_from_pixels(factory):
    classifier = TorchClassifier(factory).fit(PIXELS[:60], NAMES[:60])
    assert classifier.classes_ == ("column 0", "column 1", "column 2")
    assert accuracy(classifier) > 0.95


@pytest.mark.parametrize("factory", [Net, FewShot])
def test_saved_arrays_predict_the_same_and_need_no_pickle(factory, tmp_path):
    fitted = TorchClassifier(factory).fit(PIXELS[:60], NAMES[:60])
    np.savez(tmp_path / "model.npz", **fitted.state())
    with np.load(tmp_path / "model.npz", allow_pickle=False) as state:
        loaded = TorchClassifier(factory).load_state(dict(state))
    np.testing.assert_array_equal(loaded.predict_proba(PIXELS), fitted.predict_proba(PIXELS))


def test_the_same_seed_trains_the_same_module_and_leaves_the_callers_generator_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = TorchClassifier(Net, seed=3).fit(PIXELS[:40], NAMES[:40]).predict_proba(PIXELS)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    other = TorchClassifier(Net, seed=3).fit(PIXELS[:40], NAMES[:40]).predict_proba(PIXELS)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("n", [1, 2, 33])
def test_a_last_batch_of_one_row_does_not_break_batch_normalisation(n):
    names = ["a" if i % 2 else "b" for i in range(n)]
    assert TorchClassifier(Net, epochs=2).fit(PIXELS[:n], names).predict_proba(PIXELS[:1]).shape[0] == 1


def test_one_known_class_is_certain():
    classifier = TorchClassifier(Net).fit(PIXELS[:3], ["cat"] * 3)
    assert (classifier.predict_proba(PIXELS) == 1).all()
    again = TorchClassifier(Net).load_state(classifier.state())
    assert again.classes_ == ("cat",)
    assert (again.predict_proba(PIXELS[:2]) == 1).all()


def test_features_are_there_before_the_first_fit():
    features = TorchClassifier(Net).adapt(PIXELS).features(PIXELS)
    assert features.shape == (200, 36)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)


class TestASessionAroundAModule:
    def test_it_trains_a_copy_and_runs_a_whole_round(self):
        module = Net(3)
        weights = module.head.weight.detach().clone()
        session = ActiveLearningSession(PIXELS, classifier=module, seed=0)
        session.add_labels(range(30), NAMES[:30])
        outcome = session.run_round()
        assert len(outcome.batch) == 5
        assert outcome.probabilities is not None
        predicted = np.asarray(outcome.classes)[outcome.probabilities.argmax(axis=1)]
        assert (predicted == np.asarray(NAMES)).mean() > 0.9
        assert torch.equal(weights, module.head.weight)

    def test_a_module_with_one_logit_serves_two_classes(self):
        names = ["yes" if code else "no" for code in CODES]
        session = ActiveLearningSession(PIXELS, classifier=Net(1))
        session.add_labels(range(40), names[:40])
        outcome = session.run_round()
        assert outcome.classes == ("no", "yes")
        assert (np.asarray(outcome.classes)[outcome.probabilities.argmax(axis=1)] == names).mean() > 0.9

    def test_more_classes_than_outputs_is_an_error_with_a_way_out(self):
        session = ActiveLearningSession(PIXELS, classifier=Net(2))
        session.add_labels(range(30), NAMES[:30])
        with pytest.raises(ValueError, match="2 outputs for 3 classes: give it one output for each class"):
            session.run_round()

    def test_cold_start_before_any_label(self):
        assert len(ActiveLearningSession(PIXELS, classifier=Net(3)).run_round().batch) == 5
