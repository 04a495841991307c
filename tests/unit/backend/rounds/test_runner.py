"""What a round makes of a project: labels, queue, restarts, projects kept apart."""

from __future__ import annotations

from dataclasses import replace

from everylabel.backend.label_studio import webhooks
from everylabel.backend.label_studio.publisher import SUSPECTS
from everylabel.backend.rounds.labels import closed_tasks, resolve_labels
from everylabel.backend.rounds.runner import confirmed_labels
from everylabel.backend.store import Annotation, RoundRecord, Task


def annotation(id_, task, choice, *, cancelled=False, annotator=1):
    return Annotation(id_, task, annotator, choice, cancelled, f"2026-01-01T00:00:{id_:02d}Z")


def label(stand_in, services, truth, count):
    """Label the next `count` crops as the stand-in's queue serves them, a round after every four."""
    for number in range(1, count + 1):
        task = stand_in.queue(1)[0]
        services.store.add_event(1, *event(stand_in.annotate(task, truth[task])))
        if number % 4 == 0 or number == count:
            services.loop.catch_up(1)


def event(body):
    return body["action"], webhooks.read(body).kept()


def test_a_task_has_the_label_that_most_of_its_annotators_chose():
    annotations = [annotation(1, 7, "a"), annotation(2, 7, "b"), annotation(3, 7, "a")]
    assert resolve_labels(annotations, ("a", "b"), {}) == {7: "a"}


def test_of_equally_many_votes_the_latest_counts():
    assert resolve_labels([annotation(1, 7, "a"), annotation(2, 7, "b")], ("a", "b"), {}) == {7: "b"}


def test_skipped_and_empty_annotations_and_classes_that_left_the_config_say_nothing():
    annotations = [
        annotation(1, 1, "a", cancelled=True),
        annotation(2, 2, None),
        annotation(3, 3, "gone"),
        annotation(4, 4, "a"),
    ]
    labels = resolve_labels(annotations, ("a", "b"), {})
    assert labels == {4: "a"}
    assert closed_tasks(annotations, labels) == {1, 2, 3}, "Label Studio serves none of them again"


def test_the_queue_is_the_rounds_batch_before_and_after_a_model_is_known(stand_in, services, project):
    first = services.store.latest_round(1)
    assert stand_in.projects[1]["model_version"] == first.model_version == "round 1"
    assert stand_in.queue(1)[: len(first.queue)] == list(first.queue)
    assert len(first.batch) == 5

    label(stand_in, services, project, 12)

    latest = services.store.latest_round(1)
    assert latest.n_labels == 12
    assert stand_in.projects[1]["model_version"] == latest.model_version
    assert stand_in.queue(1)[: len(latest.queue)] == list(latest.queue)
    assert not set(latest.queue) & {t["id"] for t in stand_in.tasks.values() if t["annotations"]}


def test_an_annotation_changes_the_next_crop(stand_in, services, project):
    before = stand_in.queue(1)[0]
    label(stand_in, services, project, 1)
    assert stand_in.queue(1)[0] != before


def test_a_check_crop_is_never_pre_annotated_nor_in_a_batch(stand_in, services, project):
    label(stand_in, services, project, 24)
    drawn = set(services.store.project(1).check_tasks)
    assert drawn, "no check crop was ever drawn"
    rounds = services.store.rounds(1)
    first_drawn = {task: min(r.number for r in rounds if task in r.check) for task in drawn}
    shown = {(p["model_version"], p["task"]): p["result"] for p in stand_in.predictions}
    for record in rounds:
        for task, number in first_drawn.items():
            if record.number >= number:
                assert task not in record.batch
                assert task not in record.pre_annotated
                if task in record.check:
                    assert shown[record.model_version, task] == []


def test_a_check_crop_that_cannot_be_read_for_a_while_stays_a_check_crop(stand_in, services, project):
    label(stand_in, services, project, 12)
    drawn = services.store.project(1).check_tasks
    services.store.save_tasks(1, [Task(drawn[0], "http://elsewhere.example/crop.png")])
    services.store.save_problems(1, {drawn[0]: "its host is away"})

    services.rounds.run(services.store.project(1))

    assert services.store.project(1).check_tasks[: len(drawn)] == drawn


def test_a_restart_gives_the_same_state_and_the_same_next_round(stand_in, services, project, make_services):
    label(stand_in, services, project, 12)
    again = make_services()

    assert again.store.rounds(1) == services.store.rounds(1)
    assert again.store.annotations(1) == services.store.annotations(1)
    mine = services.rounds.run(services.store.project(1), save=False)
    theirs = again.rounds.run(again.store.project(1), save=False)
    assert mine.queue == theirs.queue
    assert mine.record.number == theirs.record.number == services.store.latest_round(1).number + 1


def test_projects_are_kept_apart(stand_in, services, project, digit_crops):
    stand_in.add_project(2)
    others = stand_in.add_tasks(2, *(image for image, _ in digit_crops[60:80]))
    services.store.save_project(2, connected=True)
    services.loop.catch_up(2)
    label(stand_in, services, project, 6)

    assert services.store.latest_round(1).n_labels == 6
    assert services.store.latest_round(2).n_labels == 0
    assert set(stand_in.queue(2)) <= set(others)
    assert set(stand_in.queue(1)) <= set(project)
    assert services.models.of(2) is None
    assert services.models.of(1) is not None


def test_with_one_class_labelled_there_is_a_batch_but_no_guess(stand_in, services, project):
    for task in [t for t, digit in project.items() if digit == "0"][:4]:
        services.store.add_event(1, *event(stand_in.annotate(task, "0")))
    services.loop.catch_up(1)
    latest = services.store.latest_round(1)
    assert latest.n_labels == 4
    assert len(latest.batch) == 5
    assert services.models.of(1) is None
    assert all(p["result"] == [] for p in stand_in.predictions)


def test_a_skipped_crop_is_not_asked_for_again(stand_in, services, project):
    skipped = stand_in.queue(1)[0]
    services.store.add_event(1, *event(stand_in.annotate(skipped, None, was_cancelled=True)))
    services.loop.catch_up(1)
    assert skipped not in services.store.latest_round(1).queue


def test_trying_a_round_keeps_nothing_of_it_and_loses_no_event(stand_in, services, project):
    task = stand_in.queue(1)[0]
    services.store.add_event(1, *event(stand_in.annotate(task, project[task])))
    before = services.store.rounds(1)
    tried = services.loop.preview(1)
    assert tried.record.n_labels == 1
    assert services.store.rounds(1) == before
    assert stand_in.projects[1]["model_version"] == "round 1"
    services.loop.catch_up(1)
    assert services.store.latest_round(1).n_labels == 1


def flagging(number, suspected, updates, confirmed=None):
    """A round that suspected these tasks, whose newest annotations were of these times."""
    return RoundRecord(
        number=number,
        model_version=f"round {number}",
        n_labels=9,
        classes=("a", "b"),
        threshold=0.9,
        check=(),
        batch=(),
        pre_annotated=(),
        suspected=suspected,
        check_set=None,
        seconds={},
        finished_at=0.0,
        suspected_updates=updates,
        confirmed=confirmed or {},
    )


def test_a_flagged_label_somebody_submits_again_is_reviewed_until_it_changes():
    given = annotation(3, 7, "a"), annotation(4, 8, "a")
    suspected = flagging(1, (7, 8), {7: given[0].updated_at, 8: given[1].updated_at})
    assert confirmed_labels(suspected, given, {7: "a", 8: "a"}) == {}
    again = replace(given[0], updated_at="2026-01-02T00:00:00Z")
    assert confirmed_labels(suspected, (given[1], again), {7: "a", 8: "a"}) == {7: "a"}
    later = flagging(2, (), {}, confirmed={7: "a"})
    assert confirmed_labels(later, (given[1], again), {7: "a", 8: "a"}) == {7: "a"}
    assert confirmed_labels(later, (given[1], again), {7: "b", 8: "a"}) == {}
    assert confirmed_labels(None, given, {7: "a"}) == {}


def test_a_reviewed_label_leaves_the_tab_and_an_unreviewed_one_stays(stand_in, services, project):
    label(stand_in, services, project, 24)
    labelled = [t for t in stand_in.tasks.values() if t["annotations"]]
    for task in labelled[:3]:
        wrong = next(name for name in "0123" if name != project[task["id"]])
        services.store.add_event(1, *event(stand_in.annotate(task["id"], wrong)))
    services.loop.catch_up(1)
    before = services.store.latest_round(1)
    assert len(before.suspected) > 1
    reviewed, *others = before.suspected
    given = services.store.annotations(1)
    kept = next(a for a in reversed(given) if a.task_id == reviewed)
    services.store.add_event(1, *event(stand_in.annotate(reviewed, kept.choice)))
    services.loop.catch_up(1)
    after = services.store.latest_round(1)
    assert reviewed not in after.suspected
    assert set(others) & set(after.suspected)
    assert after.confirmed[reviewed] == kept.choice
    (tab,) = [tab for tab in stand_in.tabs.values() if tab["data"]["title"] == SUSPECTS]
    assert reviewed not in {item["value"] for item in tab["data"]["filters"]["items"]}


def test_a_round_reads_no_task_but_those_it_shows(stand_in, services, project, monkeypatch):
    """Of a million tasks as objects, reading alone would take longer than the round."""
    label(stand_in, services, project, 12)
    asked, read = [], services.store.tasks

    def watched(project_id, task_ids=None):
        asked.append(task_ids)
        return read(project_id, task_ids)

    monkeypatch.setattr(services.store, "tasks", watched)
    finished = services.rounds.run(services.store.project(1))
    assert None not in asked
    shown = {crop.task_id for crop in [*finished.queue.batch, *finished.queue.pre_annotated]}
    assert shown <= {id_ for ids in asked for id_ in ids}
    assert all(crop.url for crop in finished.queue.batch)
