"""The store: what is saved is there after a restart, twice is once, and nobody is in another's way."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.event import listen, remove

from everylabel.backend.settings import Settings
from everylabel.backend.store import Annotation, ResolvedDisagreement, RoundRecord, StorageError, Store, Task
from everylabel.backend.store.database import make_engine, waited
from everylabel.scripts import cli

ROUND = RoundRecord(
    number=1,
    model_version="round 1",
    n_labels=3,
    classes=("a", "b"),
    threshold=0.9,
    check=(9,),
    batch=(1, 2),
    pre_annotated=(3,),
    suspected=(4,),
    check_set={"estimate": 0.8, "low": 0.5, "high": 0.9, "n": 10.0},
    seconds={"train": 0.1},
    finished_at=5.0,
    encoder="a 32px 3xfloat32",
)


def an_annotation(id_=1, task=1, choice="a", at="2026-01-01T00:00:01Z", *, cancelled=False):
    return Annotation(id_, task, 1, choice, cancelled, at)


def test_everything_is_there_after_a_restart(store, path):
    store.save_tasks(1, [Task(1, "a.png"), Task(2, None)])
    store.save_embedded(1, {1: 0})
    store.save_problems(1, {2: "no image"})
    store.save_annotations(1, [an_annotation()])
    store.add_event(1, "ANNOTATION_CREATED", {"annotations": []})
    store.save_round(1, ROUND, [9, 8])
    store.close()

    again = Store(path)
    assert again.tasks(1) == [Task(1, "a.png", 0), Task(2, None, None, "no image")]
    assert again.annotations(1) == [an_annotation()]
    assert [e.action for e in again.events(1)] == ["ANNOTATION_CREATED"]
    assert again.rounds(1) == [ROUND]
    assert again.project(1).check_tasks == (9, 8)
    again.close()


def test_saving_twice_is_saving_once(store):
    for _ in range(2):
        store.save_tasks(1, [Task(1, "a.png"), Task(1, "a.png")])
        store.save_annotations(1, [an_annotation(), an_annotation()])
        store.save_round(1, ROUND, [])
    assert len(store.tasks(1)) == len(store.annotations(1)) == len(store.rounds(1)) == 1


def test_an_older_version_of_an_annotation_never_replaces_a_newer_one(store):
    newer = an_annotation(choice="b", at="2026-01-01T00:00:02Z")
    store.save_annotations(1, [newer])
    store.save_annotations(1, [an_annotation(choice="a", at="2026-01-01T00:00:01Z")])
    assert store.annotations(1) == [newer]


def test_what_label_studio_holds_overrules_any_date(store):
    store.save_annotations(1, [an_annotation(choice="b", at="9999")])
    store.save_annotations(1, [an_annotation(choice="a")], as_read=True)
    assert store.annotations(1) == [an_annotation(choice="a")]


def test_a_task_whose_image_has_changed_is_embedded_again(store):
    store.save_tasks(1, [Task(1, "a.png"), Task(2, "b.png")])
    store.save_embedded(1, {1: 0, 2: 1})
    store.save_tasks(1, [Task(1, "changed.png"), Task(2, "b.png")])
    assert list(store.tasks_to_embed(1)) == [Task(1, "changed.png")]


def test_a_crop_whose_image_is_back_has_no_problem_any_more(store):
    store.save_tasks(1, [Task(1, "a.png")])
    store.save_problems(1, {1: "the host is away"})
    assert list(store.tasks_to_embed(1)) == []
    store.forget_problems(1)
    store.save_embedded(1, {1: 0})
    assert store.tasks(1) == [Task(1, "a.png", 0)]


def test_with_another_encoder_every_crop_is_embedded_again(store):
    store.save_tasks(1, [Task(1, "a.png"), Task(2, "b.png")])
    store.save_embedded(1, {1: 0})
    store.save_problems(1, {2: "broken"})
    store.forget_embeddings(1, "another")
    assert [task.id for task in store.tasks_to_embed(1)] == [1, 2]
    assert store.project(1).encoder == "another"


def test_tasks_that_went_away_meanwhile_are_passed_over(store):
    store.save_embedded(1, {77: 0})
    store.save_problems(1, {78: "broken"})
    assert store.tasks(1) == []


def test_projects_are_known_in_which_only_one_kind_of_webhook_waits(store):
    for project, actions in {
        1: ["LOOK"],
        2: ["LOOK", "START_TRAINING"],
        3: ["LOOK", "LOOK"],
        4: ["A"],
    }.items():
        store.save_project(project)
        for action in actions:
            store.add_event(project, action, {})
    assert store.projects_with_events_of_one_kind("LOOK") == {1, 3}


def test_projects_are_kept_apart_and_one_can_be_forgotten_whole(store):
    store.save_project(2)
    for project in (1, 2):
        store.save_tasks(project, [Task(1, f"{project}.png")])
        store.save_annotations(project, [an_annotation(choice=str(project))])
        store.add_event(project, "START_TRAINING", {})
        store.save_round(project, ROUND, [])
    store.delete_project(1)
    assert store.project(1) is None
    assert (store.tasks(1), store.annotations(1), store.events(1), store.rounds(1)) == ([], [], [], [])
    assert [a.choice for a in store.annotations(2)] == ["2"]
    assert store.projects_with_events() == [2]
    assert store.rounds(2) == [ROUND]


def test_deleting_tasks_takes_their_annotations_along(store):
    store.save_tasks(1, [Task(i, f"{i}.png") for i in range(1, 1202)])
    store.save_annotations(1, [an_annotation(1, 1), an_annotation(2, 1201)])
    store.delete_tasks(1, range(2, 1202))
    assert [task.id for task in store.tasks(1)] == [1]
    assert [a.task_id for a in store.annotations(1)] == [1]


@pytest.fixture
def plan_of_state():
    """How SQLite goes about counting a project's tasks, as the page asks for it."""

    def read(store):
        asked = []
        listen(
            store._engine, "before_cursor_execute", lambda _c, _d, sql, given, *_: asked.append((sql, given))
        )
        store.state(1)
        ((sql, given),) = [(sql, given) for sql, given in asked if "FROM tasks" in sql]
        with store._engine.connect() as connection:
            return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", given)]

    return read


@pytest.mark.parametrize("path", ["sqlite"], indirect=True)
def test_where_a_project_stands_is_counted_without_reading_a_text(store, plan_of_state):
    (step,) = plan_of_state(store)
    assert "USING COVERING INDEX" in step


@pytest.mark.parametrize("path", ["sqlite"], indirect=True)
def test_a_store_of_an_earlier_version_counts_as_fast(store, path, plan_of_state):
    with store._writing() as session:
        session.execute(text("DROP INDEX tasks_by_state"))
    store.save_tasks(1, [Task(1, "a.png"), Task(2, "b.png"), Task(3, "c.png")])
    store.save_embedded(1, {1: 0})
    store.save_problems(1, {2: "broken"})
    assert "COVERING" not in plan_of_state(store)[0]
    store.close()
    again = Store(path)
    assert "USING COVERING INDEX" in plan_of_state(again)[0]
    state = again.state(1)
    assert (state.tasks, state.embedded, state.unreadable) == (3, 1, 1)
    again.close()


def test_a_store_of_an_earlier_version_gets_what_it_lacks(store, path):
    with store._writing() as session:
        session.execute(text("ALTER TABLE annotations DROP COLUMN accepted"))
        session.execute(text("ALTER TABLE annotations DROP COLUMN former"))
        session.execute(text("DROP INDEX annotations_by_task"))
    store.close()
    again = Store(path)
    accepted = replace(an_annotation(), accepted=True)
    again.save_annotations(1, [accepted])
    assert again.annotations(1) == [accepted]
    assert {index["name"] for index in inspect(again._engine).get_indexes("annotations")} == {
        "annotations_by_task"
    }
    again.close()


def test_ids_of_any_size_and_texts_of_any_length_are_kept(store):
    largest = 2**63 - 1
    store.save_project(largest, encoder="hf:" + "folder/" * 200, problem="why " * 5000)
    store.save_tasks(largest, [Task(largest, "data:" + "x" * 10_000)])
    store.save_problems(largest, {largest: "because " * 5000})
    store.save_annotations(largest, [an_annotation(largest, largest, "c" * 5000, "no time " * 100)])
    store.add_event(largest, "START_TRAINING", {"text": "\0"})
    assert store.project(largest).problem == "why " * 5000
    assert store.tasks(largest) == [Task(largest, "data:" + "x" * 10_000, None, "because " * 5000)]
    assert store.annotations(largest) == [an_annotation(largest, largest, "c" * 5000, "no time " * 100)]
    assert store.events(largest)[0].payload == {"text": "\0"}


def test_a_character_no_database_need_take_stops_no_label(store):
    store.save_annotations(1, [an_annotation(choice="a\0b")])
    assert store.annotations(1)[0].choice in ("a\0b", "a\ufffdb")


def test_texts_are_ordered_alike_in_every_database(store):
    """A language's own order would put `a` before `B`, and another crop of equals first."""
    times = ["b", "B", "a", "_", "2026-01-01T00:00:01Z", "2026-01-01T00:00:01.5Z", "é"]
    store.save_annotations(1, [an_annotation(i, i, at=at) for i, at in enumerate(times, start=1)])
    assert [annotation.updated_at for annotation in store.annotations(1)] == sorted(times)
    assert store.state(1).annotated_at == max(times)


def test_many_that_start_together_make_the_tables_once(path):
    with ThreadPoolExecutor(6) as starting:
        stores = list(starting.map(lambda _: Store(path), range(6)))
    stores[0].save_project(1)
    assert [store.project(1).id for store in stores] == [1] * 6
    for store in stores:
        store.close()


def test_many_that_make_a_new_file_a_write_ahead_log_at_a_time_wait_for_each_other(tmp_path):
    """SQLite itself does not let them wait for that: one in forty was refused."""

    def journal_mode(path):
        engine = make_engine(f"sqlite:///{path}")
        with engine.connect() as connection:
            found = connection.execute(text("PRAGMA journal_mode")).scalar()
        engine.dispose()
        return found

    with ThreadPoolExecutor(6) as starting:
        for number in range(100):
            assert [*starting.map(journal_mode, [tmp_path / f"{number}.db"] * 6)] == ["wal"] * 6


def test_a_database_that_is_away_is_named_without_its_password():
    address = Settings(database_url="postgresql://ann:s3cret@127.0.0.1:1/labels").store_url
    with pytest.raises(
        StorageError, match=r"ann:\*\*\*@127\.0\.0\.1:1/labels.*EVERYLABEL_DATABASE_URL"
    ) as refused:
        Store(address)
    assert "s3cret" not in str(refused.value)


def test_a_command_shows_a_database_that_is_away_as_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    monkeypatch.setenv("EVERYLABEL_DATABASE_URL", "postgresql://ann@127.0.0.1:1/labels")
    monkeypatch.setattr("sys.argv", ["everylabel", "rounds", "--project", "1"])
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: The database postgresql+psycopg://ann@127.0.0.1:1/labels does not answer")


def test_events_come_in_order_and_tell_their_age(store, path):
    for number in range(3):
        store.add_event(1, "ANNOTATION_CREATED", {"n": number})
    assert [event.payload["n"] for event in store.events(1)] == [0, 1, 2]
    assert store.events_waiting() == (3, 0.0)
    for now, wait in ((160.0, 60.0), (-900.0, 1000.0)):  # a minute later; and where the clock was set back
        later = Store(path, clock=lambda now=now: now)
        assert later.events_waiting(1) == (3, wait)
        later.close()
    store.delete_events([event.id for event in store.events(1)][:2])
    assert [event.payload["n"] for event in store.events()] == [2]


def test_webhooks_that_come_together_share_their_commits_and_each_gets_its_own_number(store):
    commits = []
    listen(store._inbox._engine, "commit", lambda _: (commits.append(1), time.sleep(0.02)))  # as a slow disk
    with ThreadPoolExecutor(8) as senders:
        numbers = list(senders.map(lambda n: store.add_event(1, "START_TRAINING", {"n": n}), range(80)))
    kept = {event.id: event.payload["n"] for event in store.events(1)}
    assert [kept[number] for number in numbers] == list(range(80))
    assert len(commits) < 80  # without sharing, one each; how far below depends on who else computes


def test_a_webhook_is_on_disk_when_its_number_is_given(store, path):
    number = store.add_event(1, "START_TRAINING", {})
    other = Store(path)
    assert [event.id for event in other.events(1)] == [number]
    other.close()


def test_a_commit_that_fails_is_told_to_everyone_who_waited_for_it(store):
    def refuse(_):
        raise OSError("the disk is gone")

    listen(store._inbox._engine, "commit", refuse)
    with ThreadPoolExecutor(4) as senders:
        sent = [senders.submit(store.add_event, 1, "START_TRAINING", {}) for _ in range(8)]
    assert all("disk is gone" in str(each.exception()) for each in sent)
    remove(store._inbox._engine, "commit", refuse)
    store.add_event(1, "START_TRAINING", {})
    assert len(store.events(1)) == 1


def test_a_webhook_does_not_wait_for_a_transaction_of_the_trainer(store):
    with store._writing() as session:  # as while 50,000 tasks are saved
        session.execute(text("UPDATE projects SET problem = 'x'"))
        started = time.monotonic()
        store.add_event(1, "START_TRAINING", {})
        assert time.monotonic() - started < 5, "SQLite gives up on a locked file after 30 s"


def test_suspected_labels_are_stored_under_the_name_that_earlier_versions_read(store, path):
    store.save_round(1, ROUND, check_tasks=[])
    with make_engine(path).connect() as connection:
        record = connection.execute(text("SELECT record FROM rounds")).scalar_one()
    assert json.loads(record)["flagged"] == [4]
    assert store.latest_round(1) == ROUND


def test_a_published_round_says_when(store):
    store.save_round(1, ROUND, [])
    store.mark_published(1, 1)
    assert store.latest_round(1) == replace(ROUND, published_at=100.0)


def test_eight_writers_of_two_processes_lose_nothing_and_refuse_nothing(store, path):
    other = Store(path)
    failures = []

    def write(mine, worker):
        try:
            for number in range(10):
                mine.save_project(2 + number % 2, problem=str(worker))
                mine.save_tasks(
                    1, [Task(100 + number, "same.png"), Task(1000 * worker + number + 1, "own.png")]
                )
                mine.save_annotations(
                    1, [an_annotation(number + 1), an_annotation(1000 * worker + number + 1)]
                )
                mine.add_event(1, "START_TRAINING", {"worker": worker})
        except Exception as error:  # noqa: BLE001 - whatever it is, it is shown
            failures.append(error)

    threads = [threading.Thread(target=write, args=((store, other)[i % 2], i)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert failures == []
    assert len(store.events(1)) == 80
    assert len(store.tasks(1)) == 10 + 80
    assert len(store.annotations(1)) == 80


def test_the_rows_of_embedded_crops_are_read_by_task(store):
    store.save_project(1)
    store.save_project(2)
    store.save_tasks(1, [Task(id_, f"{id_}.png") for id_ in (7, 3, 9, 5)])
    store.save_tasks(2, [Task(4, "4.png")])
    store.save_embedded(1, {9: 0, 3: 1, 5: 2})
    store.save_embedded(2, {4: 0})
    tasks, rows = store.embedding_rows(1)
    assert (tasks.tolist(), rows.tolist()) == ([3, 5, 9], [1, 2, 0])
    assert [len(part) for part in store.embedding_rows(3)] == [0, 0]


def test_how_disagreements_were_resolved_is_kept_with_the_newest_round(store):
    store.save_project(1)
    store.save_project(2)
    assert store.resolved_disagreements(1) == {}
    first = {1: ResolvedDisagreement("a", {"1": "a", "2": "b"}), 2: ResolvedDisagreement("ü", {"1": "ü"})}
    store.save_round(1, ROUND, [], first)
    assert store.resolved_disagreements(1) == first
    assert store.resolved_disagreements(2) == {}
    second = {2: ResolvedDisagreement("b", {"1": "a", "nobody": "b"})}
    store.save_round(1, ROUND, [], second)
    assert store.resolved_disagreements(1) == second
    store.delete_project(1)
    store.save_project(1)
    assert store.resolved_disagreements(1) == {}


@pytest.mark.parametrize(
    ("since", "now", "seconds"),
    [(100.0, 130.0, 30.0), (100.0, 98.0, 0.0), (604_800.0, 0.0, 604_800.0)],
)
def test_what_waited_while_the_clock_was_set_back_is_not_young(since, now, seconds):
    assert waited(since, now) == seconds
