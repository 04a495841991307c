"""Certificates: what is frozen, what people are asked, what counts, what is accepted and taken back."""

from __future__ import annotations

import pytest

from everylabel.backend.rounds import certificates
from everylabel.backend.rounds.bulk_accept import undo
from everylabel.backend.rounds.spot_check import SERVED, CertificateError, FrozenLabelsLostError
from everylabel.backend.store.certificates import ACCEPTED, CERTIFIED, FAILED, TAKEN_BACK

LABELS = 30
ERROR = 0.1
OTHER = {"0": "1", "1": "2", "2": "3", "3": "0"}


@pytest.fixture
def truth(stand_in, services, digit_crops):
    """The true class of 240 crops, 30 of which are labelled."""
    stand_in.add_project(1)
    ids = stand_in.add_tasks(1, *(image for image, _ in digit_crops))
    truth = dict(zip(ids, (label for _, label in digit_crops), strict=True))
    for task in ids[:LABELS]:
        stand_in.annotate(task, truth[task])
    services.store.save_project(1, connected=True)
    services.loop.catch_up(1)
    return truth


def begun(services):
    record, _ = certificates.begin(services, 1, ERROR)
    services.loop.catch_up(1, force=True)
    return record


def under_way(services):
    record = services.store.certificate_under_way(1)
    return certificates.read(services, 1, record)


def machine_label(check, task):
    return check.frozen.label(check.frozen.tasks.tolist().index(task))


def answer(stand_in, services, tasks, say):
    """Have people label these tasks, and the backend learn of it."""
    check = under_way(services)
    for task in tasks:
        stand_in.annotate(task, say(machine_label(check, task)))
    services.loop.catch_up(1, compare=True)


def looked_through(stand_in, services, say=lambda machine: machine):
    """Answer what is asked until the spot check certifies a set or fails; return the certificate."""
    while not ((check := under_way(services)).plan.certified or check.has_failed):
        assert check.open_tasks
        answer(stand_in, services, check.open_tasks, say)
    return certificates.conclude(services, 1, check)


def test_what_it_costs_is_known_before_it_begins(services, truth):
    record, cost = certificates.begin(services, 1, ERROR, dry_run=True)
    assert services.store.certificate_under_way(1) is None
    assert 0 < cost.if_all_right < cost.if_some_wrong <= cost.crops <= sum(record.sizes)
    assert sum(record.sizes) <= len(truth) - LABELS


def test_its_crops_are_served_first_and_blind(stand_in, services, truth):
    begun(services)
    check = under_way(services)
    latest = services.store.latest_round(1)
    assert len(check.open_tasks) == SERVED
    assert latest.spot_check == check.open_tasks
    assert stand_in.queue(1)[:SERVED] == list(check.open_tasks)
    assert not {*latest.spot_check} & {*latest.check, *latest.batch, *latest.pre_annotated}
    served = [p for p in stand_in.predictions if p["model_version"] == latest.model_version]
    assert all(p["result"] == [] for p in served if p["task"] in check.open_tasks)


def test_right_answers_certify_the_most_confident_crops_and_those_nobody_looked_at_are_accepted(
    stand_in, services, truth
):
    begun(services)
    before = services.store.latest_round(1).n_labels
    record = looked_through(stand_in, services)
    assert record.state == CERTIFIED
    found = record.result
    assert found["wrong"] == 0
    assert found["wrong_at_most"] <= ERROR * found["crops"]
    assert (
        sum(found["checked_by"].values())
        == found["looks_in_all"]
        == len(record.looks) - len(under_way(services).open_tasks)
    )
    assert services.store.latest_round(1).n_labels == before + found["looks_in_all"], "they train the model"

    certificates.accept(services, 1, record)
    services.loop.catch_up(1, compare=True)
    record = certificates.finish(services, 1, record)
    inside = {*under_way_tasks(services, record)}
    made = {a.task_id: a for a in services.store.annotations(1) if a.accepted}
    assert made.keys() == inside - {*record.looks} - {*services.store.project(1).check_tasks} - asked(
        services
    )
    assert record.state == ACCEPTED
    assert record.result["accepted"] == len(made)
    assert services.store.latest_round(1).n_labels == before + found["looks_in_all"], "nor do these"
    written = [a for task in stand_in.tasks.values() for a in task["annotations"]]
    marked = [a for a in written if "meta" in str(a["result"])]
    assert len(marked) == len(made)
    assert all(f"accepted, certificate {record.number}: in bulk" in str(a["result"]) for a in marked)


def asked(services):
    latest = services.store.latest_round(1)
    return {*latest.queue, *latest.suspected}


def under_way_tasks(services, record):
    return certificates.read(services, 1, record).tasks_of(record.result["target"])


def test_wrong_answers_end_it_with_the_number_of_errors_and_nothing_is_accepted(stand_in, services, truth):
    begun(services)
    record = looked_through(stand_in, services, OTHER.get)
    assert record.state == FAILED
    assert record.result["wrong"] == record.result["looks"] > 0
    assert services.store.certificate_under_way(1) is None
    assert not any(a.accepted for a in services.store.annotations(1))


def test_the_certificate_stays_about_the_labels_that_were_frozen(stand_in, services, truth):
    begun(services)
    check = under_way(services)
    tasks = check.open_tasks
    answer(stand_in, services, tasks, lambda machine: machine)
    again = under_way(services)
    assert again.record.model_round == check.record.model_round < services.store.project(1).model_round
    assert [machine_label(again, task) for task in tasks] == [machine_label(check, task) for task in tasks]
    assert again.record.looks[: len(tasks)] == tasks, "what was sampled stays sampled"


def test_a_skipped_an_empty_a_deleted_and_an_unreadable_crop_count_as_wrong(stand_in, services, truth):
    begun(services)
    skipped, empty, deleted, unreadable = under_way(services).open_tasks[:4]
    stand_in.annotate(skipped, None, was_cancelled=True)
    stand_in.annotate(empty, None)
    services.loop.catch_up(1, compare=True)
    services.store.delete_tasks(1, [deleted])
    services.store.save_problems(1, {unreadable: "it cannot be read"})
    check = under_way(services)
    assert check.unanswerable == {0, 1, 2, 3}
    assert (check.tally.looks.sum(), check.tally.wrong.sum()) == (4, 4)
    services.store.save_annotations(1, [])
    stand_in.annotate(skipped, machine_label(check, skipped))
    services.loop.catch_up(1, compare=True)
    check = under_way(services)
    assert check.answers[0] is True, "a label counts after all"


def test_a_crop_passed_over_counts_as_wrong_until_it_is_answered_and_one_still_to_come_does_not(
    stand_in, services, truth
):
    begun(services)
    first, second, *_ = under_way(services).open_tasks
    answer(stand_in, services, [second], lambda machine: machine)
    check = under_way(services)
    assert (check.tally.looks.sum(), check.tally.wrong.sum()) == (2, 1)
    assert check.expected_tally.wrong.sum() == 0, "what is asked next does not depend on who is quicker"
    answer(stand_in, services, [first], lambda machine: machine)
    assert under_way(services).tally.wrong.sum() == 0


def test_of_several_annotators_the_label_that_counts_for_the_round_counts_here(stand_in, services, truth):
    begun(services)
    task = under_way(services).open_tasks[0]
    machine = machine_label(under_way(services), task)
    stand_in.annotate(task, OTHER[machine], completed_by=1)
    stand_in.annotate(task, machine, completed_by=2)
    stand_in.annotate(task, machine, completed_by=3)
    services.loop.catch_up(1, compare=True)
    assert under_way(services).answers[0] is True


def test_a_certificate_is_taken_back_exactly(stand_in, services, truth):
    begun(services)
    record = looked_through(stand_in, services)
    certificates.accept(services, 1, record)
    services.loop.catch_up(1, compare=True)
    record = certificates.finish(services, 1, record)
    people = {a.id for a in services.store.annotations(1) if not a.accepted}
    undone = undo(services, 1, version="accepted, certificate 9")
    assert undone.taken_back == 0, "another certificate's are not touched"
    undone = undo(services, 1, version=f"accepted, certificate {record.number}")
    services.loop.catch_up(1, compare=True)
    certificates.mark_taken_back(services, 1)
    assert undone.taken_back == record.result["accepted"]
    assert {a.id for a in services.store.annotations(1)} == people
    assert services.store.certificates(1)[0].state == TAKEN_BACK


def test_it_can_be_cancelled_and_another_begun(services, truth):
    begun(services)
    certificates.cancel(services, 1)
    services.loop.catch_up(1, force=True)
    assert services.store.latest_round(1).spot_check == ()
    assert begun(services).number == 2


def test_lost_labels_and_a_changed_config_are_said_with_the_way_out(stand_in, services, truth):
    record = begun(services)
    (services.files(1).folder / "certificates" / "1.npz").write_bytes(b"no longer")
    with pytest.raises(FrozenLabelsLostError, match="--cancel"):
        certificates.read(services, 1, record)
    assert services.loop.catch_up(1, force=True) is not None, "rounds go on"
    config = services.store.project(1).label_config.replace('value="3"', 'value="three"')
    services.store.save_project(1, label_config=config)
    with pytest.raises(CertificateError, match="--cancel"):
        certificates.read(services, 1, record)


def test_too_small_a_share_of_errors_for_so_few_crops_is_refused_before_anybody_looks(services, truth):
    with pytest.raises(CertificateError, match="No set of the"):
        certificates.begin(services, 1, 0.002)
    assert services.store.certificates(1) == []
