import numpy as np
import pytest

from everylabel.model.label_quality.label_errors import audit_labels, detect_label_errors, rank_labels


def blobs(n: int = 100, n_classes: int = 4, seed: int = 0):
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % n_classes
    centres = np.random.default_rng(5).standard_normal((n_classes, 300))
    return (centres[codes] + rng.standard_normal((n, 300))).astype(np.float32), [f"kind {c}" for c in codes]


def test_flipped_labels_come_first_with_the_class_they_should_have():
    x, labels = blobs()
    noisy = list(labels)
    flipped = [3, 17, 42, 60, 88]
    for index in flipped:
        noisy[index] = f"kind {(int(labels[index][-1]) + 1) % 4}"
    audit = audit_labels(x, noisy)
    assert set(np.argsort(-audit.wrong)[:5]) == set(flipped)
    assert {issue.index for issue in audit.issues} <= set(flipped)
    assert len(audit.issues) >= 3
    assert detect_label_errors(x, noisy) == list(audit.issues)
    for issue in audit.issues:
        assert issue.given_label == noisy[issue.index]
        assert issue.suggested_label == labels[issue.index]


def test_probabilities_are_out_of_sample():
    """300 dimensions separate 100 rows whatever their labels: in-sample probabilities would flag nothing at all."""
    x, labels = blobs()
    labels[7] = "kind 0"
    assert 7 in [issue.index for issue in detect_label_errors(x, labels)]


def test_ranked_by_self_confidence_most_suspicious_first():
    x, labels = blobs()
    rng = np.random.default_rng(1)
    for index in rng.choice(100, 20, replace=False):
        labels[index] = f"kind {rng.integers(4)}"
    scores = [issue.score for issue in detect_label_errors(x, labels)]
    assert len(scores) > 3
    assert scores == sorted(scores)
    assert all(0 <= score <= 1 for score in scores)


def test_clean_labels_of_clear_classes_are_left_alone():
    assert detect_label_errors(*blobs()) == []


@pytest.mark.parametrize(
    "labels", [[], ["cat"], ["cat"] * 6, ["cat", "dog"], ["cat"] * 5 + ["dog"], list("abcdef")]
)
def test_too_little_to_judge_gives_an_empty_list(labels):
    x = np.random.default_rng(0).standard_normal((len(labels), 8))
    assert detect_label_errors(x, labels) == []


def test_a_class_with_one_example_is_not_accused_and_does_not_stop_the_others_being_judged():
    x, labels = blobs()
    labels[0] = "the only one"
    labels[11] = "kind 1"
    issues = detect_label_errors(x, labels)
    assert 0 not in [issue.index for issue in issues]
    assert issues[0].index == 11
    assert issues[0].suggested_label == "kind 3"


def test_tiny_classes():
    x, labels = blobs(9, 4)
    for issue in detect_label_errors(x, labels):
        assert issue.given_label in labels


def test_columns_are_read_by_name_not_by_position():
    labels = ["zebra", "ant", "zebra", "ant"] * 5
    sure = np.array([[0.05, 0.95] if name == "zebra" else [0.95, 0.05] for name in labels])
    assert rank_labels(labels, sure, ["ant", "zebra"]).issues == ()
    issues = rank_labels([*labels[:-1], "zebra"], sure, ["ant", "zebra"]).issues
    assert [(issue.index, issue.suggested_label) for issue in issues] == [(19, "ant")]


def test_numbers_are_names_too():
    x, labels = blobs()
    numbers = [int(label[-1]) for label in labels]
    numbers[3] = 0
    assert detect_label_errors(x, numbers)[0].suggested_label == "3"


def test_rows_and_labels_must_pair_up():
    x, labels = blobs()
    with pytest.raises(ValueError, match="100 rows and 99 labels"):
        detect_label_errors(x, labels[:-1])


def test_an_issue_always_suggests_another_class():
    rng = np.random.default_rng(0)
    for _ in range(100):
        labels = [f"kind {code}" for code in rng.integers(4, size=16)]
        for issue in detect_label_errors(rng.standard_normal((16, 4)), labels):
            assert issue.given_label != issue.suggested_label
            assert issue.given_label == labels[issue.index]
