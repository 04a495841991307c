"""Webhooks, in the bodies Label Studio 1.23.2 sends, and reading a project whole: the store ends up equal to it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everylabel.backend.label_studio import webhooks
from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.label_studio.label_config import parse
from everylabel.backend.label_studio.request_bodies import BodyError
from everylabel.backend.rounds.labels import resolve_labels
from everylabel.backend.store import Annotation, Store, Task
from everylabel.backend.sync import task_listing
from everylabel.backend.sync.mirror import Change, Mirror
from tests.stand_in_label_studio import choice

CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="digit" toName="image">'
    '<Choice value="0"/><Choice value="1"/></Choices></View>'
)
WITHOUT_1 = CONFIG.replace('<Choice value="1"/>', '<Choice value="2"/>')


def a_project(config=CONFIG):
    """The fields of `ProjectWebhookSerializer` that matter, and some that do not."""
    return {
        "id": 1,
        "task_number": 60,
        "title": "Digits",
        "label_config": config,
        "created_at": "2026-01-01T00:00:00.000000Z",
        "model_version": "round 1",
        "sampling": "Uncertainty sampling",
        "created_by": 1,
        "color": "#FFFFFF",
    }


def a_task(id_, image="/data/upload/1/a.png"):
    return {
        "id": id_,
        "data": {"image": image},
        "meta": {},
        "created_at": "2026-01-01T00:00:00.000000Z",
        "is_labeled": True,
        "overlap": 1,
        "inner_id": id_,
        "project": 1,
        "updated_by": 1,
        "comment_authors": [],
    }


def an_annotation(id_, task, label="0", second=0, **fields):
    return {
        "id": id_,
        "result": []
        if label is None
        else [
            {
                "id": "Rz1",
                "type": "choices",
                "value": {"choices": [label]},
                "origin": "manual",
                "to_name": "image",
                "from_name": "digit",
            }
        ],
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-01-01T00:00:00.000000Z",
        "updated_at": f"2026-01-01T00:00:{second:02d}.000000Z",
        "draft_created_at": None,
        "lead_time": 1.5,
        "prediction": {},
        "result_count": 1,
        "task": task,
        "project": 1,
        "completed_by": 1,
        "updated_by": 1,
        "parent_prediction": None,
    } | fields


def created(id_, task, label="0", second=0, **fields):
    annotation = an_annotation(id_, task, label, second, **fields)
    return {
        "action": "ANNOTATION_CREATED",
        "annotation": annotation,
        "task": a_task(task),
        "project": a_project(),
    }


def updated(id_, task, label, second):
    return created(id_, task, label, second) | {"action": "ANNOTATION_UPDATED"}


def created_in_bulk(*annotations):
    return {
        "action": "ANNOTATIONS_CREATED",
        "annotation": list(annotations),
        "task": [a_task(a["task"]) for a in annotations],
        "project": a_project(),
    }


def deleted(*ids):
    return {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": i} for i in ids], "project": a_project()}


def tasks_created(*ids):
    return {"action": "TASKS_CREATED", "tasks": [a_task(i) for i in ids], "project": a_project()}


def tasks_deleted(*ids):
    return {"action": "TASKS_DELETED", "tasks": [{"id": i} for i in ids], "project": a_project()}


@pytest.fixture
def store(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'everylabel.db'}")
    store.save_project(1, label_config=CONFIG)
    yield store
    store.close()


@pytest.fixture
def receive(store):
    """Takes webhooks in as /webhook does, and works them in as the trainer does."""

    def take(*bodies):
        for body in bodies:
            store.add_event(1, body["action"], webhooks.read(body).kept())
        events = store.events(1)
        change = Mirror(store).apply(store.project(1), events)
        store.delete_events(event.id for event in events)
        return change

    return take


def labels(store):
    return {a.task_id: a.choice for a in store.annotations(1)}


def test_an_annotation_brings_its_label_and_its_task(store, receive):
    change = receive(created(11, 5, "1"))
    assert change == Change(labels=True, training_asked=True)
    assert labels(store) == {5: "1"}
    assert store.tasks(1)[0].image_url == "/data/upload/1/a.png"


def test_an_updated_annotation_replaces_its_label(store, receive):
    receive(created(11, 5, "1", 1), updated(11, 5, "0", 2))
    assert labels(store) == {5: "0"}


def test_annotations_created_in_bulk_all_count(store, receive):
    receive(created_in_bulk(an_annotation(11, 5, "0"), an_annotation(12, 6, "1")))
    assert labels(store) == {5: "0", 6: "1"}


def test_deleted_annotations_take_their_labels_along(store, receive):
    receive(created(11, 5), created(12, 6), deleted(11))
    assert labels(store) == {6: "0"}


def test_a_skipped_task_is_known_as_skipped(store, receive):
    receive(created(11, 5, None, was_cancelled=True))
    assert store.annotations(1)[0].cancelled


def test_tasks_come_and_go(store, receive):
    assert receive(tasks_created(5, 6, 7)).tasks
    receive(created(11, 5), tasks_deleted(5, 6))
    assert [task.id for task in store.tasks(1)] == [7]
    assert labels(store) == {}


def test_starting_training_by_hand_asks_for_a_round_and_changes_nothing(store, receive):
    assert receive({"action": "START_TRAINING", "project": a_project()}) == Change(training_asked=True)


def test_a_setting_that_is_not_the_labeling_config_changes_nothing(store, receive):
    assert not receive({"action": "PROJECT_UPDATED", "project": a_project() | {"title": "New"}})


def test_every_event_twice_is_every_event_once(store, receive):
    bodies = [
        tasks_created(5, 6, 7),
        created(11, 5, "1", 1),
        created_in_bulk(an_annotation(12, 6, "0", 2), an_annotation(13, 7, "1", 3)),
        updated(11, 5, "0", 4),
        deleted(13),
        tasks_deleted(7),
    ]
    receive(*(body for body in bodies for _ in range(2)))
    assert labels(store) == {5: "0", 6: "0"}
    assert [task.id for task in store.tasks(1)] == [5, 6]


def test_annotations_and_updates_in_any_order_end_in_the_newest(store, receive):
    versions = [
        created(11, 5, "0", 1),
        *(updated(11, 5, label, s) for label, s in (("1", 2), ("0", 3), ("1", 4))),
    ]
    for seed in range(5):
        random.Random(seed).shuffle(versions)
        receive(*versions)
        assert labels(store) == {5: "1"}


def test_an_annotation_deleted_before_it_was_created_stays_deleted(store, receive):
    receive(deleted(11), created(11, 5), created_in_bulk(an_annotation(11, 5), an_annotation(12, 6, "1")))
    receive(updated(11, 5, "1", 9))
    assert labels(store) == {6: "1"}


def test_a_deleted_task_does_not_come_back_with_a_late_annotation(store, receive):
    receive(tasks_deleted(5))
    receive(tasks_created(5, 6), created(11, 5))
    assert [task.id for task in store.tasks(1)] == [6]
    assert labels(store) == {}


def test_a_whole_second_is_not_later_than_its_fractions(store, receive):
    whole, later = "2026-01-01T00:00:01Z", "2026-01-01T00:00:01.500000Z"
    receive(created(11, 5, "0", updated_at=whole), created(11, 5, "1", updated_at=later))
    assert labels(store) == {5: "1"}
    receive(created(11, 5, "0", updated_at="2026-01-01T02:00:01+02:00"))
    assert labels(store) == {5: "1"}


def test_deletions_are_remembered_for_a_day(tmp_path):
    now = [0.0]
    store = Store(f"sqlite:///{tmp_path / 'clocked.db'}", clock=lambda: now[0])
    store.save_project(1, label_config=CONFIG)
    store.delete_annotations(1, [11])
    found = Annotation(11, 5, 1, "1", cancelled=False, updated_at="")
    store.forget_old_deletions(1)
    store.save_annotations(1, [found])
    assert store.annotations(1) == []
    now[0] = 2 * 86_400
    store.forget_old_deletions(1)
    store.save_annotations(1, [found])
    assert store.annotations(1) == [found]
    store.close()


class LabelStudioHistory:
    """What people do in Label Studio, the webhooks it sends of it, and what it holds in the end."""

    def __init__(self):
        self.tasks, self.held, self.sent, self.clock = {5, 6, 7}, {}, [tasks_created(5, 6, 7)], 0

    def act(self, kind, task, label):
        self.clock += 1
        of_task = [id_ for id_, annotation in self.held.items() if annotation["task"] == task]
        if kind == "create" and task in self.tasks:
            self.held[self.clock] = an_annotation(self.clock, task, label, self.clock)
            self.sent.append(created(self.clock, task, label, self.clock))
        elif kind == "create in bulk" and task in self.tasks:
            ids = (self.clock, 100 + self.clock)
            self.held |= {id_: an_annotation(id_, task, label, self.clock) for id_ in ids}
            self.sent.append(created_in_bulk(*(self.held[id_] for id_ in ids)))
        elif kind == "update" and of_task:
            self.held[of_task[0]] = an_annotation(of_task[0], task, label, self.clock)
            self.sent.append(updated(of_task[0], task, label, self.clock))
        elif kind == "delete" and of_task:
            del self.held[of_task[0]]
            self.sent.append(deleted(of_task[0]))
        elif kind == "delete the task" and task in self.tasks:
            self.tasks.remove(task)
            self.held = {id_: found for id_, found in self.held.items() if found["task"] != task}
            self.sent.append(tasks_deleted(task))


acts = st.tuples(
    st.sampled_from(["create", "create", "create in bulk", "update", "update", "delete", "delete the task"]),
    st.sampled_from([5, 6, 7]),
    st.sampled_from(["0", "1"]),
)


@settings(max_examples=50, deadline=None)
@given(acts=st.lists(acts, max_size=12), data=st.data())
def test_webhooks_in_any_order_twice_and_in_any_portions_end_in_what_label_studio_holds(acts, data):
    history = LabelStudioHistory()
    for act in acts:
        history.act(*act)
    twice = history.sent + data.draw(st.lists(st.sampled_from(history.sent), max_size=4))
    arrived = data.draw(st.permutations(twice))
    portion = data.draw(st.integers(1, len(arrived)))
    store = Store("sqlite://")
    store.save_project(1, label_config=CONFIG)
    for start in range(0, len(arrived), portion):
        for body in arrived[start : start + portion]:
            store.add_event(1, body["action"], webhooks.read(body).kept())
        events = store.events(1)
        Mirror(store).apply(store.project(1), events)
        store.delete_events(event.id for event in events)
    assert {task.id for task in store.tasks(1)} == history.tasks
    assert {a.id: a.choice for a in store.annotations(1)} == {
        id_: found["result"][0]["value"]["choices"][0] for id_, found in history.held.items()
    }
    store.close()


def test_a_label_whose_class_left_the_config_is_kept_and_counts_again_when_it_comes_back(store, receive):
    def counted():
        return resolve_labels(store.annotations(1), parse(store.project(1).label_config).classes, {})

    receive(created(11, 5, "1"))
    assert receive({"action": "PROJECT_UPDATED", "project": a_project(WITHOUT_1)}).config
    assert counted() == {}
    assert receive({"action": "PROJECT_UPDATED", "project": a_project(CONFIG)}).config
    assert counted() == {5: "1"}


def test_a_task_without_the_image_key_is_told_apart(store, receive):
    body = tasks_created(5, 6)
    body["tasks"][0]["data"] = {"text": "no image here"}
    body["tasks"][1]["data"] = [1, 2]
    receive(body)
    assert all("'image'" in (task.problem or "") for task in store.tasks(1))


def test_a_task_s_polygon_comes_with_its_webhook(store, receive):
    config = CONFIG.replace(
        '"$image"/>', '"$image" cropPoints="$points" cropUnit="percent"/><Polygon name="p" toName="image"/>'
    )
    data = {"image": "/data/upload/1/a.png", "points": [[10, 10], [30, 10.5], [20, 40]]}
    receive({**tasks_created(7), "tasks": [{**a_task(7), "data": data}], "project": a_project(config)})
    (task,) = store.tasks(1)
    assert task.problem is None
    assert task.image_url == "/data/upload/1/a.png#polygon=percent:10,10,30,10.5,20,40"


def test_a_changed_image_in_an_event_is_embedded_again(store, receive):
    receive(tasks_created(5))
    store.save_embedded(1, {5: 0})
    body = created(11, 5)
    body["task"]["data"]["image"] = "/data/upload/1/new.png"
    receive(body)
    assert [task.image_url for task in store.tasks_to_embed(1)] == ["/data/upload/1/new.png"]


def test_what_is_kept_of_an_event_is_small_and_holds_nothing_private(store):
    body = created(11, 5)
    body["annotation"]["result"].append(
        {"type": "brushlabels", "from_name": "b", "value": {"rle": [0] * 100_000}}
    )
    body["task"]["data"]["patient"] = {"name": "somebody"}
    body["project"]["task_data_password"] = "s3cret"
    store.add_event(1, "ANNOTATION_CREATED", webhooks.read(body).kept())
    kept = str(store.events(1))
    assert len(kept) < 2000
    assert "s3cret" not in kept
    assert "somebody" not in kept


@pytest.mark.parametrize(
    ("action", "body", "told"),
    [
        ("ANNOTATION_CREATED", {}, "'annotation'"),
        ("ANNOTATION_CREATED", {"annotation": {"id": 1}, "task": {"id": 1}}, "no id or no task"),
        ("ANNOTATION_CREATED", {"annotation": {"id": "7", "task": 1}, "task": {"id": 1}}, "no id or no task"),
        (
            "ANNOTATION_CREATED",
            {"annotation": {"id": True, "task": 1}, "task": {"id": 1}},
            "no id or no task",
        ),
        ("ANNOTATION_CREATED", {"annotation": {"id": 1, "task": -1}, "task": {"id": 1}}, "no id or no task"),
        (
            "ANNOTATION_CREATED",
            {"annotation": {"id": 2**63, "task": 1}, "task": {"id": 1}},
            "no id or no task",
        ),
        ("ANNOTATION_CREATED", {"annotation": {"id": 1, "task": 1}}, "'task'"),
        ("ANNOTATIONS_DELETED", {"annotations": [1, 2]}, "'annotations'"),
        ("ANNOTATIONS_DELETED", {}, "'annotations'"),
        ("TASKS_CREATED", {"tasks": "all"}, "'tasks'"),
        ("TASKS_DELETED", {"tasks": 7}, "'tasks'"),
    ],
)
def test_a_body_that_lacks_what_its_action_has_is_refused_by_name(action, body, told):
    with pytest.raises(BodyError, match=told):
        webhooks.read({"action": action, "project": {"id": 1}, **body})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
annotations = st.fixed_dictionaries(
    {"id": json_values, "task": json_values},
    optional={
        "completed_by": json_values,
        "result": json_values
        | st.lists(st.fixed_dictionaries({"from_name": json_values, "value": json_values})),
        "was_cancelled": json_values,
        "updated_at": json_values,
    },
)


@settings(deadline=None)
@given(
    action=st.sampled_from(sorted(webhooks.MODELS)),
    body=st.fixed_dictionaries(
        {
            "project": st.fixed_dictionaries({"id": st.just(1)}, optional={"label_config": json_values})
            | json_values
        },
        optional={
            "annotation": annotations | st.lists(annotations, max_size=2) | json_values,
            "annotations": st.lists(st.fixed_dictionaries({"id": json_values})) | json_values,
            "task": st.fixed_dictionaries({"id": json_values, "data": json_values}) | json_values,
            "tasks": st.lists(st.fixed_dictionaries({"id": json_values, "data": json_values})) | json_values,
        },
    ),
)
def test_any_body_is_refused_at_the_door_or_can_be_worked_in(action, body):
    """What passes the door must not fail in the trainer: it would fail there again and again."""
    try:
        payload = webhooks.read({**body, "action": action}).kept()
    except BodyError:
        return
    store = Store("sqlite://")
    store.save_project(1, label_config=CONFIG)
    store.add_event(1, action, payload)
    Mirror(store).apply(store.project(1), store.events(1))
    store.close()


# --- reading a project whole


@pytest.fixture
def reconcile(stand_in, store):
    client = LabelStudio(stand_in.url, stand_in.token)
    yield lambda: Mirror(store).reconcile(client, 1)
    client.close()


def test_what_webhooks_lost_is_found_by_reading_the_project(stand_in, store, receive, reconcile):
    stand_in.add_project(1, CONFIG)
    first, second, third = stand_in.add_tasks(1, "a.png", "b.png", "c.png")
    body = stand_in.annotate(first, "1")
    receive(tasks_created(99), created(77, 99, "0"))  # deleted in the meantime, unheard of
    assert reconcile() == Change(labels=True, tasks=True)
    assert labels(store) == {first: "1"}
    assert [task.id for task in store.tasks(1)] == [first, second, third]
    receive(body)  # and the lost webhook still comes
    assert labels(store) == {first: "1"}
    assert not reconcile(), "nothing new is no change"


class Clock:
    """The time, for Label Studio and for the backend."""

    def __init__(self, stand_in):
        self.now = 1_800_000_000.0
        stand_in.clock = self

    def __call__(self):
        return self.now

    def pass_by(self, seconds=3600.0):
        self.now += seconds


@pytest.fixture
def clock(stand_in):
    return Clock(stand_in)


@pytest.fixture
def look(stand_in, store, clock):
    """Compares after an hour; returns what has changed, and how many tasks were read."""
    client = LabelStudio(stand_in.url, stand_in.token)

    def compare():
        clock.pass_by()
        read = []
        tell = lambda what, done, _: what == "Reading tasks" and read.append(done)  # noqa: E731
        return Mirror(store, clock).reconcile(client, 1, tell), max(read, default=0)

    yield compare
    client.close()


def test_only_tasks_that_are_new_or_have_changed_are_read_again(stand_in, store, look):
    stand_in.add_project(1, CONFIG)
    first, second, *rest = stand_in.add_tasks(1, *(f"{i}.png" for i in range(700)))
    assert look() == (Change(tasks=True), 700)
    assert look() == (Change(), 0)
    stand_in.annotate(first, "1")
    assert look() == (Change(labels=True), 1)
    assert labels(store) == {first: "1"}
    new = stand_in.add_tasks(1, "new.png", "newer.png")
    assert look() == (Change(tasks=True), 2)
    stand_in.tasks[second]["data"]["image"] = "other.png"
    assert look() == (Change(tasks=True), 1)
    assert [task.image_url for task in store.tasks(1, [second])] == ["other.png"]
    assert [task.id for task in store.tasks(1)] == [first, second, *rest, *new]


@pytest.fixture
def look_at_annotations(stand_in, store, clock):
    """Compares after an hour; returns whether labels have changed, and of how many tasks annotations were read."""
    client = LabelStudio(stand_in.url, stand_in.token)

    def compare():
        clock.pass_by()
        read = {}
        tell = lambda what, done, total: read.setdefault(what, []).append(total)  # noqa: E731
        change = Mirror(store, clock).reconcile(client, 1, tell)
        return change.labels, max(read.get("Reading annotations", [0]))

    yield compare
    client.close()


def test_only_annotations_of_tasks_that_have_changed_are_read_again(stand_in, store, look_at_annotations):
    stand_in.add_project(1, CONFIG)
    first, second, third, *rest = stand_in.add_tasks(1, *(f"{i}.png" for i in range(40)))
    for task in (first, second, third, *rest):
        stand_in.annotate(task, "0")
    assert look_at_annotations() == (True, 40)
    assert look_at_annotations() == (False, 0)
    stand_in.tasks[first]["annotations"][0] |= {"result": choice("1"), "updated_at": "2026-02-01T00:00:00Z"}
    stand_in.changed_at(stand_in.tasks[first])
    assert look_at_annotations() == (True, 1)
    assert labels(store)[first] == "1"
    stand_in.tasks[second]["annotations"].clear()
    stand_in.changed_at(stand_in.tasks[second])
    assert look_at_annotations() == (True, 0)
    assert second not in labels(store)
    stand_in.annotate(second, None, was_cancelled=True)
    assert look_at_annotations() == (True, 1)
    assert look_at_annotations() == (False, 0)


def test_annotations_are_all_read_where_their_number_is_not_the_one_known(
    stand_in, store, clock, look_at_annotations
):
    stand_in.add_project(1, CONFIG)
    tasks = stand_in.add_tasks(1, *(f"{i}.png" for i in range(40)))
    for task in tasks[:20]:
        stand_in.annotate(task, "0")
    look_at_annotations()
    clock.pass_by(-7200)  # a transaction that had begun before the last look, and ended after it
    stand_in.annotate(tasks[30], "1")
    clock.pass_by(7200)
    assert look_at_annotations() == (True, 21)
    assert labels(store)[tasks[30]] == "1"


def test_tasks_that_are_gone_are_missed_by_their_number(stand_in, store, look):
    stand_in.add_project(1, CONFIG)
    first, second, third = stand_in.add_tasks(1, "a.png", "b.png", "c.png")
    look()
    del stand_in.tasks[second]
    assert look() == (Change(tasks=True), 2)
    del stand_in.tasks[third]
    (fourth,) = stand_in.add_tasks(1, "d.png")  # as many as before
    stand_in.annotate(fourth, "0")
    assert look()[0] == Change(labels=True, tasks=True)
    assert [task.id for task in store.tasks(1)] == [first, fourth]
    assert labels(store) == {fourth: "0"}


def test_a_task_that_is_made_while_all_are_read_is_not_taken_for_gone(stand_in, store, clock):
    stand_in.add_project(1, CONFIG)
    stand_in.add_tasks(1, "a.png", "b.png")
    client = LabelStudio(stand_in.url, stand_in.token)

    def meanwhile(what, done, total):
        """Label Studio asks for a prediction of a task that was made after the last page."""
        if what == "Reading tasks" and len(stand_in.tasks) == 2:
            (task,) = stand_in.add_tasks(1, "c.png")
            store.save_tasks(1, [Task(task, "c.png")], as_read=True)

    Mirror(store, clock).reconcile(client, 1, meanwhile)
    client.close()
    assert [task.image_url for task in store.tasks(1)] == ["a.png", "b.png", "c.png"]


def test_tasks_whose_import_took_longer_than_is_looked_back_are_read(stand_in, store, clock, look):
    stand_in.add_project(1, CONFIG)
    stand_in.add_tasks(1, *(f"{i}.png" for i in range(700)))
    look()
    clock.pass_by(-7200)  # their transaction had begun before the last look and ended after it
    late = stand_in.add_tasks(1, "late.png", "later.png")
    clock.pass_by(7200)
    assert look() == (Change(tasks=True), 2)
    assert [task.id for task in store.tasks(1)][-2:] == late


def test_every_task_is_read_again_once_a_day_and_when_asked(stand_in, store, clock, look):
    stand_in.add_project(1, CONFIG)
    stand_in.add_tasks(1, "a.png", "b.png")
    look()
    assert look()[1] == 0
    clock.pass_by(86_400)
    assert look() == (Change(), 2)
    assert look()[1] == 0
    client = LabelStudio(stand_in.url, stand_in.token)
    read = []
    Mirror(store, clock).reconcile(client, 1, lambda _, done, __: read.append(done), whole=True)
    client.close()
    assert read == [2]


def test_what_changed_before_a_clock_was_set_back_is_found(stand_in, store, clock, look):
    stand_in.add_project(1, CONFIG)
    (task,) = stand_in.add_tasks(1, "a.png")
    made = stand_in.annotate(task, "1")["annotation"]["id"]
    clock.pass_by(7 * 86_400)
    look()
    stand_in.update(made, "2")
    clock.pass_by(-7 * 86_400)
    stand_in._seen.clear()  # Label Studio's own clock was right all the time
    assert look()[0] == Change(labels=True)
    assert labels(store) == {task: "2"}
    look()
    assert look() == (Change(), 0), "and afterwards only the changes are read again"


def test_a_first_reading_that_is_broken_off_goes_on_where_it_stopped(stand_in, store, monkeypatch):
    monkeypatch.setattr(task_listing, "SAVED_TOGETHER", 500)
    stand_in.add_project(1, CONFIG)
    ids = stand_in.add_tasks(1, *(f"{i}.png" for i in range(2300)))
    client = LabelStudio(stand_in.url, stand_in.token)

    def broken_off(what, done, total):
        if done >= 1500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Mirror(store).reconcile(client, 1, broken_off)
    kept = len(store.tasks(1))
    assert kept >= 1000, "what was read is kept"
    said = []
    assert Mirror(store).reconcile(client, 1, lambda *told: said.append(told)) == Change(tasks=True)
    assert said[0][1] == kept + 500
    assert said[-1] == ("Reading tasks", 2300, 2300)
    assert [task.id for task in store.tasks(1)] == ids

    said.clear()
    del stand_in.tasks[ids[3]]
    Mirror(store).reconcile(client, 1, lambda *told: said.append(told))
    assert said[-1] == ("Reading tasks", 2299, 2299), "and the next one reads all of them"
    assert ids[3] not in {task.id for task in store.tasks(1)}
    client.close()


def test_a_reading_broken_off_under_another_labeling_config_begins_anew(stand_in, store, monkeypatch):
    monkeypatch.setattr(task_listing, "SAVED_TOGETHER", 500)
    stand_in.add_project(1, CONFIG)
    ids = stand_in.add_tasks(1, *(f"{i}.png" for i in range(2300)))
    for id_ in ids:
        stand_in.tasks[id_]["data"]["other"] = f"other-{id_}.png"
    client = LabelStudio(stand_in.url, stand_in.token)

    def broken_off(what, done, total):
        if done >= 1500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Mirror(store).reconcile(client, 1, broken_off)
    stand_in.projects[1]["label_config"] = CONFIG.replace("$image", "$other")
    Mirror(store).reconcile(client, 1)
    client.close()
    assert [task.image_url for task in store.tasks(1)] == [f"other-{id_}.png" for id_ in ids]


def test_what_reading_the_project_shows_is_there_though_it_was_said_to_be_deleted(
    stand_in, store, receive, reconcile
):
    stand_in.add_project(1, CONFIG)
    (task,) = stand_in.add_tasks(1, "a.png")
    body = stand_in.annotate(task, "1")
    receive(tasks_deleted(task), deleted(body["annotation"]["id"]), body)
    assert labels(store) == {}
    reconcile()
    assert labels(store) == {task: "1"}
    receive(body | {"action": "ANNOTATION_UPDATED"})
    assert labels(store) == {task: "1"}


def test_a_date_in_the_future_does_not_hold_an_annotation_for_ever(stand_in, store, receive, reconcile):
    stand_in.add_project(1, CONFIG)
    (task,) = stand_in.add_tasks(1, "a.png")
    body = stand_in.annotate(task, "1")
    receive(created(body["annotation"]["id"], task, "0", updated_at="9999"))
    assert labels(store) == {task: "0"}
    reconcile()
    assert labels(store) == {task: "1"}
    assert not reconcile()


def test_a_changed_config_reads_old_labels_by_the_new_names(stand_in, store, receive, reconcile):
    stand_in.add_project(1, CONFIG)
    (task,) = stand_in.add_tasks(1, "a.png")
    stand_in.annotate(task, "1")
    reconcile()
    stand_in.projects[1]["label_config"] = CONFIG.replace('name="digit"', 'name="kind"')
    assert reconcile().config
    assert labels(store) == {task: None}
