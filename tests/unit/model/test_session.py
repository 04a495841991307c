import tracemalloc

import numpy as np
import pytest

from everylabel.model.pseudo_labels.threshold import PseudoLabeler
from everylabel.model.session import ActiveLearningSession, Round

N_CLASSES = 4
CENTRES = np.random.default_rng(8).standard_normal((N_CLASSES, 32))


def a_pool(n: int = 400, noise: float = 1.0, seed: int = 0) -> tuple[np.ndarray, list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(N_CLASSES, size=n)
    x = (CENTRES[codes] + rng.standard_normal((n, 32)) * noise).astype(np.float16)
    return x, ["apple", "birch", "cedar", "dogwood"], codes


@pytest.fixture
def pool():
    x, names, codes = a_pool()
    return x, [names[code] for code in codes]


def label_until(session: ActiveLearningSession, names: list[str], n: int) -> Round:
    outcome = session.run_round()
    while outcome.n_labels < n:
        asked = [*outcome.check, *outcome.batch]
        session.add_labels(asked, [names[index] for index in asked])
        outcome = session.run_round()
    return outcome


def same(one: Round, other: Round) -> bool:
    """Equal in all but the time it took."""
    return (
        (one.number, one.check, one.batch, one.classes, one.threshold, one.pseudo_labels, one.label_issues)
        == (other.number, other.check, other.batch, other.classes, other.threshold, other.pseudo_labels, other.label_issues)
        and one.check_set == other.check_set
        and np.array_equal(one.probabilities, other.probabilities)
    )  # fmt: skip


class TestTheLoop:
    def test_before_any_label_it_asks_for_crops_and_claims_nothing(self, pool):
        outcome = ActiveLearningSession(pool[0]).run_round()
        assert len(set(outcome.batch)) == 5
        assert outcome.probabilities is None
        assert (outcome.classes, outcome.pseudo_labels, outcome.label_issues, outcome.check_set) == (
            (),
            (),
            (),
            None,
        )

    def test_a_few_rounds_learn_the_classes_by_name(self, pool):
        x, names = pool
        session = ActiveLearningSession(x)
        outcome = label_until(session, names, 40)
        assert outcome.classes == ("apple", "birch", "cedar", "dogwood")
        predicted = np.asarray(outcome.classes)[outcome.probabilities.argmax(axis=1)]
        assert (predicted == np.asarray(names)).mean() > 0.95
        assert outcome.number == session.round_number
        assert set(outcome.seconds) == {"train", "score", "select", "pseudo_label", "audit"}

    def test_one_class_only_is_no_crash_and_the_next_batch_looks_elsewhere(self, pool):
        x, names = pool
        apples = [index for index, name in enumerate(names) if name == "apple"][:6]
        session = ActiveLearningSession(x, check_share=0)
        session.add_labels(apples, ["apple"] * 6)
        outcome = session.run_round()
        assert outcome.classes == ("apple",)
        assert outcome.probabilities is None
        assert len(outcome.batch) == 5
        assert names[outcome.batch[0]] != "apple"

    def test_the_cold_start_covers_every_class_and_does_not_ask_again_for_the_same(self, pool):
        """Twelve labels one by one, each after a round of its own, as they come in live."""
        x, names = pool
        session = ActiveLearningSession(x, check_share=0)
        asked = []
        for _ in range(N_CLASSES):
            asked.append(session.run_round().batch[0])
            session.add_labels(asked[-1:], [names[asked[-1]]])
        assert sorted(names[index] for index in asked) == ["apple", "birch", "cedar", "dogwood"]

    def test_a_batch_comes_by_rising_confidence(self, pool):
        outcome = label_until(ActiveLearningSession(pool[0]), pool[1], 20)
        confidence = outcome.probabilities.max(axis=1)[list(outcome.batch)]
        assert (np.diff(confidence) >= 0).all()

    def test_the_last_crops_of_a_pool_are_asked_for_and_then_nothing(self, pool):
        x, names = pool[0][:12], pool[1][:12]
        outcome = label_until(ActiveLearningSession(x), names, 12)
        assert outcome.batch == outcome.check == ()

    def test_an_empty_pool(self):
        assert ActiveLearningSession(np.zeros((0, 8), dtype=np.float16)).run_round().batch == ()

    def test_get_next_batch_and_retrain_model_are_the_loop_by_hand(self, pool):
        x, names = pool
        session = ActiveLearningSession(x)
        for _ in range(6):
            asked = session.get_next_batch()
            assert session.get_next_batch() == asked
            session.add_labels(asked, [names[index] for index in asked])
            session.retrain_model()
        assert session.classifier.predict_proba(x).shape == (400, 4)
        assert len(session.get_next_batch(batch_size=3)) >= 3

    def test_a_memory_map_is_a_pool(self, pool, tmp_path):
        np.save(tmp_path / "pool.npy", pool[0])
        on_disk = np.load(tmp_path / "pool.npy", mmap_mode="r")
        assert same(label_until(ActiveLearningSession(on_disk), pool[1], 20),
                    label_until(ActiveLearningSession(pool[0]), pool[1], 20))  # fmt: skip


class TestLabels:
    def test_the_order_labels_came_in_does_not_change_the_round(self, pool):
        x, names = pool
        rounds = []
        for order in (range(30), reversed(range(30))):
            session = ActiveLearningSession(x)
            for index in order:
                session.add_labels([index], [names[index]])
            rounds.append(session.run_round())
        assert same(*rounds)

    def test_training_data_is_in_the_order_of_the_pool(self, pool):
        session = ActiveLearningSession(pool[0])
        session.add_labels([30, 2, 17], ["b", "c", "a"])
        data = session.get_training_data()
        assert data.indices == (2, 17, 30)
        assert data.labels == ("c", "a", "b")
        assert data.weights.tolist() == [1, 1, 1]
        assert not data.is_pseudo.any()

    def test_a_second_label_replaces_the_first_and_a_removed_one_is_gone(self, pool):
        session = ActiveLearningSession(pool[0])
        session.add_labels([1, 2], ["apple", "apple"])
        session.add_labels([2], ["birch"])
        session.remove_labels([1])
        assert session.labels == {2: "birch"}
        assert session.run_round().n_labels == 1

    def test_a_class_whose_labels_are_all_withdrawn_is_forgotten(self, pool):
        session = ActiveLearningSession(pool[0])
        session.add_labels([1, 2, 3], ["apple", "birch", "typo"])
        assert session.run_round().classes == ("apple", "birch", "typo")
        session.remove_labels([3])
        assert session.run_round().classes == ("apple", "birch")

    def test_a_class_that_appears_late_does_not_shift_the_others(self, pool):
        x, names = pool
        session = ActiveLearningSession(x)
        first = [index for index, name in enumerate(names) if name in {"birch", "dogwood"}][:20]
        session.add_labels(first, [names[index] for index in first])
        assert session.run_round().classes == ("birch", "dogwood")
        late = [index for index, name in enumerate(names) if name == "apple"][:10]
        session.add_labels(late, ["apple"] * 10)
        outcome = session.run_round()
        assert outcome.classes == ("apple", "birch", "dogwood")
        for index in (*first, *late):
            assert outcome.classes[outcome.probabilities[index].argmax()] == names[index]

    def test_a_crop_outside_the_pool_is_refused_and_nothing_is_half_done(self, pool):
        session = ActiveLearningSession(pool[0])
        with pytest.raises(IndexError, match=r"\[400\] are not in the pool, which has crops 0 to 399"):
            session.add_labels([1, 400], ["a", "b"])
        with pytest.raises(ValueError, match="2 crops and 1 labels"):
            session.add_labels([1, 2], ["a"])
        assert session.labels == {}

    def test_excluded_crops_are_never_asked_for_nor_pseudo_labelled(self, pool):
        x, names = pool
        session = ActiveLearningSession(x)
        session.exclude(range(100))
        outcome = label_until(session, names, 40)
        assert min(session.check_crops) >= 100
        assert min(session.labels) >= 100
        assert outcome.pseudo_labels
        assert min(guess.index for guess in outcome.pseudo_labels) >= 100


class TestRestoring:
    def test_a_session_built_anew_for_every_round_goes_the_same_way(self, pool):
        """What the backend does: labels, exclusions, check draws and the round number are all there is to keep."""
        x, names = pool
        kept = ActiveLearningSession(x, seed=4)
        labels: dict[int, str] = {}
        check: tuple[int, ...] = ()
        for number in range(25):
            anew = ActiveLearningSession(x, seed=4, round_number=number)
            anew.add_labels(labels.keys(), labels.values())
            anew.set_check_crops(check)
            outcome, expected = anew.run_round(), kept.run_round()
            assert same(outcome, expected)
            check = anew.check_crops
            index = [*outcome.check, *outcome.batch][0]
            labels[index] = names[index]
            kept.add_labels([index], [names[index]])

    def test_another_seed_draws_other_check_crops(self, pool):
        drawn = set()
        for seed in range(5):
            session = ActiveLearningSession(pool[0], seed=seed)
            label_until(session, pool[1], 30)
            drawn.add(session.check_crops)
        assert len(drawn) == 5


class TestCheckCrops:
    def test_one_label_in_ten_is_a_blind_draw_and_it_comes_first(self, pool):
        session = ActiveLearningSession(pool[0], check_share=0.1)
        label_until(session, pool[1], 100)
        drawn = [index for index in session.check_crops if index in session.labels]
        assert 9 <= len(drawn) <= 11
        assert session.get_next_batch()[0] in session.check_crops or not session.run_round().check

    def test_a_draw_waits_until_it_is_labelled(self, pool):
        x, names = pool
        session = ActiveLearningSession(x, check_share=0.5)
        first = session.run_round()
        for index in first.batch:
            session.add_labels([index], [names[index]])
            assert session.run_round().check[: len(first.check)] == first.check

    def test_an_excluded_draw_is_replaced(self, pool):
        session = ActiveLearningSession(pool[0], check_share=0.5)
        drawn = session.run_round().check
        session.exclude(drawn[:1])
        again = session.run_round().check
        assert len(again) == len(drawn)
        assert drawn[0] not in again

    def test_check_crops_are_never_in_a_batch_and_never_pseudo_labelled(self, pool):
        x, names = pool
        session = ActiveLearningSession(x, check_share=0.3)
        outcome = session.run_round()
        for _ in range(12):
            check = set(session.check_crops)
            assert not check & set(outcome.batch)
            assert not check & {guess.index for guess in outcome.pseudo_labels}
            session.add_labels(outcome.batch, [names[index] for index in outcome.batch])
            outcome = session.run_round()
        assert outcome.check
        assert outcome.pseudo_labels

    def test_draws_are_uniform_whatever_the_strategy_prefers(self):
        """One crop in ten belongs to a far-off group that coverage asks for first; of the draws it gets a tenth."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((100, 8)).astype(np.float32)
        x[:10] += 50
        hits = 0
        for seed in range(200):
            session = ActiveLearningSession(x, check_share=0.5, seed=seed)
            hits += sum(index < 10 for index in session.run_round().check)
        assert 20 <= hits <= 62  # 400 draws

    def test_the_estimate_comes_with_its_interval_and_counts_check_labels_alone(self, pool):
        session = ActiveLearningSession(pool[0], check_share=0.2)
        outcome = label_until(session, pool[1], 60)
        labelled = [index for index in session.check_crops if index in session.labels]
        assert outcome.check_set.n == len(labelled)
        assert outcome.check_set.low < outcome.check_set.estimate <= outcome.check_set.high
        assert outcome.check_set.estimate > 0.7

    def test_no_check_set_when_none_is_wanted(self, pool):
        outcome = label_until(ActiveLearningSession(pool[0], check_share=0), pool[1], 30)
        assert outcome.check == ()
        assert outcome.check_set is None


class TestPseudoLabels:
    def test_none_before_ten_human_labels(self, pool):
        x, names = pool
        session = ActiveLearningSession(x, pseudo_labeler=PseudoLabeler(0.3, 0.3))
        session.add_labels(range(9), names[:9])
        assert session.run_round().pseudo_labels == ()
        session.add_labels([9], names[9:10])
        assert session.run_round().pseudo_labels

    def test_they_clear_the_threshold_most_confident_first(self, pool):
        outcome = label_until(ActiveLearningSession(pool[0]), pool[1], 40)
        confidences = [guess.confidence for guess in outcome.pseudo_labels]
        assert confidences == sorted(confidences, reverse=True)
        assert confidences[-1] >= outcome.threshold
        right = [guess.label == pool[1][guess.index] for guess in outcome.pseudo_labels]
        assert np.mean(right) > 0.9

    def test_the_threshold_falls_with_labels_not_with_rounds(self, pool):
        """A round after every single label must not use the threshold up five times as fast."""
        x, names = pool
        thresholds = []
        session = ActiveLearningSession(x, batch_size=5)
        for index in range(31):
            session.add_labels([index], [names[index]])
            thresholds.append(session.run_round().threshold)
            assert session.run_round().threshold == thresholds[-1]
        assert thresholds[8:14] == [0.9] * 6
        assert thresholds[14] == 0.88
        assert thresholds[29] == 0.82

    def test_the_threshold_rule_adds_at_most_one_to_two_human_labels_and_says_which(self, pool):
        session = ActiveLearningSession(pool[0], pseudo_label_rule="threshold")
        outcome = label_until(session, pool[1], 40)
        data = session.get_training_data()
        assert data.is_pseudo.sum() == outcome.n_labels // 2 == outcome.trained_on_pseudo_labels
        assert not set(np.asarray(data.indices)[data.is_pseudo]) & set(session.labels)
        assert not set(np.asarray(data.indices)[data.is_pseudo]) & set(session.check_crops)
        assert (data.weights[data.is_pseudo] < 1).all()

    def test_agreement_trains_on_crops_nobody_labelled_and_says_how_many(self):
        x, names, codes = a_pool(noise=2.2)
        session = ActiveLearningSession(x)
        outcome = label_until(session, [names[code] for code in codes], 25)
        data = session.get_training_data()
        guessed = np.asarray(data.indices)[data.is_pseudo]
        assert outcome.trained_on_pseudo_labels == len(guessed) > 100
        assert not set(guessed) & (set(session.labels) | set(session.check_crops))
        assert (data.weights[data.is_pseudo] < 1).all()
        assert data.weights[data.is_pseudo].sum() <= 2.001 * outcome.n_labels

    def test_agreement_makes_the_model_better_where_classes_are_clusters(self):
        gains = []
        for seed in range(6):
            x, names, codes = a_pool(noise=2.2, seed=seed)
            truth = np.asarray(names)[codes]
            right = []
            for use in (False, True):
                session = ActiveLearningSession(x, train_on_pseudo_labels=use, seed=seed)
                session.add_labels(range(20), truth[:20])
                outcome = session.run_round(audit=False)
                guesses = np.asarray(outcome.classes)[outcome.probabilities.argmax(axis=1)]
                right.append((guesses[20:] == truth[20:]).mean())
            gains.append(right[1] - right[0])
        assert np.mean(gains) > 0.02

    def test_label_issues_and_accuracy_see_no_pseudo_label(self):
        x, names, codes = a_pool(noise=2.2)
        rounds = []
        for use in (False, True):
            session = ActiveLearningSession(x, train_on_pseudo_labels=use)
            session.set_check_crops(range(0, 40, 4))
            session.add_labels(range(40), [names[code] for code in codes[:40]])
            rounds.append(session.run_round())
        without, with_them = rounds
        assert with_them.trained_on_pseudo_labels and not without.trained_on_pseudo_labels
        assert with_them.label_issues == without.label_issues
        assert with_them.check_set == without.check_set
        assert (with_them.predictions, with_them.stopping) == (without.predictions, without.stopping)


class TestStopping:
    def test_a_session_built_anew_advises_as_one_that_was_kept(self, pool):
        x, names = pool
        kept, history = ActiveLearningSession(x), []
        for n in range(10, 71, 10):
            anew = ActiveLearningSession(x, round_number=kept.round_number)
            anew.set_previous_predictions(history)
            for session in (kept, anew):
                session.add_labels(range(n), names[:n])
            outcome, again = kept.run_round(), anew.run_round()
            assert again.stopping == outcome.stopping
            history.append(outcome.predictions)
        assert outcome.stopping.stop
        assert not outcome.stopping.reason.startswith("too early")

    def test_no_advice_before_there_is_a_model(self, pool):
        assert ActiveLearningSession(pool[0]).run_round().stopping is None


class TestLabelIssues:
    def test_a_wrong_label_is_found_by_its_crop_and_its_names(self, pool):
        x, names = pool
        given = list(names)
        given[123] = "apple" if names[123] != "apple" else "birch"
        session = ActiveLearningSession(x)
        session.add_labels(range(100, 160), given[100:160])
        issue = session.run_round().label_issues[0]
        assert (issue.index, issue.given_label, issue.suggested_label) == (123, given[123], names[123])


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 0}, {"check_share": 1.0}, {"strategy": "bogus"}, {"pseudo_label_rule": "bogus"}],
)
def test_settings_that_cannot_work_are_refused(pool, options):
    with pytest.raises(ValueError, match=r"batch_size|check_share|unknown query strategy|pseudo_label_rule"):
        ActiveLearningSession(pool[0], **options)


class CountingPool:
    """A pool that counts the rows read from it."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.shape, self.read = rows, rows.shape, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key):
        found = self.rows[key]
        self.read += len(found)
        return found


class TestALargePool:
    @pytest.mark.parametrize("train_on_pseudo_labels", [True, False])
    def test_a_round_reads_it_once(self, train_on_pseudo_labels):
        x, names, codes = a_pool(40_000)
        pool = CountingPool(x)
        session = ActiveLearningSession(pool, train_on_pseudo_labels=train_on_pseudo_labels)
        session.add_labels(range(40), [names[code] for code in codes[:40]])
        pool.read = 0
        outcome = session.run_round()
        assert (outcome.trained_on_pseudo_labels > 0) == train_on_pseudo_labels
        assert pool.read < 1.5 * len(pool)
        assert np.array_equal(outcome.probabilities, session.classifier.predict_proba(x))

    def test_a_round_keeps_no_object_a_crop(self):
        """Bytes a crop: 16 of probabilities, and arrays that come and go; a pseudo-label alone would be 200."""
        x, names, codes = a_pool(100_000, noise=0.3)
        session = ActiveLearningSession(x)
        session.add_labels(range(40), [names[code] for code in codes[:40]])
        session.run_round()  # what it takes whatever the pool's size
        tracemalloc.start()
        outcome = session.run_round()
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert len(outcome.pseudo_labels) > 90_000
        assert kept / len(x) < 60

    def test_crops_are_excluded_and_labelled_by_arrays_as_by_numbers(self):
        x, names, codes = a_pool(3000)
        truth = np.asarray(names)[codes]
        rounds = []
        for make in (np.asarray, list, set):
            session = ActiveLearningSession(x)
            session.exclude(make(range(100, 900)))
            session.add_labels(np.arange(30), truth[:30])
            rounds.append(session.run_round())
        assert same(rounds[0], rounds[1])
        assert same(rounds[0], rounds[2])
        shown = {*rounds[0].batch, *rounds[0].check, *(guess.index for guess in rounds[0].pseudo_labels)}
        assert not shown & set(range(100, 900))

    def test_an_exclusion_after_a_round_counts_in_the_next(self):
        x, names, codes = a_pool(3000)
        session = ActiveLearningSession(x)
        session.add_labels(range(40), [names[code] for code in codes[:40]])
        session.run_round()
        trained_on = np.asarray(session.get_training_data().indices)[40:]
        session.exclude(trained_on)
        session.run_round()
        assert not set(session.get_training_data().indices) & set(trained_on.tolist())
