"""What a project of a million crops must not cost: crops are counted where they lie, never read one by one."""

from __future__ import annotations

import sys
import tracemalloc

import numpy as np
import pytest
from sqlalchemy import event
from typer.testing import CliRunner

from everylabel.backend.app import create_app
from everylabel.backend.regions import region_projects
from everylabel.backend.regions.region_tasks import parse
from everylabel.backend.rounds.bulk_accept import acceptable
from everylabel.backend.store import Task
from everylabel.model.visualization.near_duplicates import MOST_PAIRS, find_near_duplicates
from everylabel.scripts import cli
from tests.measure.large_stand_in import REGIONS
from tests.memory_held import share_held


@pytest.fixture
def tasks_read(monkeypatch):
    """The tasks the store has read as objects, by id."""
    read = []

    def made(*fields):
        read.append(fields[0])
        return Task(*fields)

    monkeypatch.setattr("everylabel.backend.store.tasks.Task", made)
    return read


@pytest.fixture
def run(services, monkeypatch):
    """Runs a command as a person would, on the services' own folder."""
    monkeypatch.setenv("MODEL_DIR", str(services.settings.model_dir))
    monkeypatch.setenv("LABEL_STUDIO_URL", services.settings.label_studio_url)
    key = services.settings.label_studio_api_key.get_secret_value()
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", key)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: CliRunner().invoke(cli.app, [*words, "--project", "1"]).output


def nothing(*given, **options):
    return None


def test_status_counts_crops_and_reads_none(services, project, run, tasks_read):
    services.store.save_tasks(1, [Task(99, None, problem="it is gone")])
    assert "41, 40 embedded, 1 cannot be read" in run("status")
    assert not tasks_read


def test_connect_and_embed_count_crops_and_read_one_that_cannot_be_read(
    services, project, run, tasks_read, monkeypatch
):
    services.store.save_tasks(1, [Task(99, None, problem="it is gone"), Task(98, None, problem="no picture")])
    monkeypatch.setattr("everylabel.scripts.commands.connect.connect_project", nothing)
    monkeypatch.setattr("everylabel.backend.rounds.live_loop.LiveLoop.catch_up", nothing)
    said = run("connect")
    assert "42 crops, 0 labels; round 1 asks for" in said
    assert "2 crops cannot be read, e.g. task 98: no picture" in said
    assert "40 of 42 crops are embedded, 2 cannot be read." in run("embed")
    assert tasks_read == [98]


def test_only_the_crops_that_are_accepted_are_read(stand_in, services, project, send, tasks_read):
    for task in sorted(project)[:20]:
        send(stand_in.annotate(task, project[task]))
    services.trainer.learn(1)
    everything, none_left = acceptable(services, 1, 0.0, 1000)
    assert none_left == 0
    tasks_read.clear()
    crops, left = acceptable(services, 1, 0.0, 3)
    assert crops == everything[:3], "the surest"
    assert left == len(everything) - 3
    assert sorted(tasks_read) == sorted(crop.task_id for crop in crops)
    sure = everything[4].confidence
    crops, left = acceptable(services, 1, sure, 1000)
    assert [crop for crop in everything if crop.confidence >= sure] == crops


def test_to_see_what_would_be_accepted_costs_no_round(stand_in, services, project, send, run, monkeypatch):
    for task in sorted(project)[:20]:
        send(stand_in.annotate(task, project[task]))
    services.trainer.learn(1)
    late = services.store.latest_round(1).batch[0]
    send(stand_in.annotate(late, project[late]))
    monkeypatch.setattr("everylabel.backend.rounds.runner.Rounds.run", None)
    assert "Dry run: nothing was written." in run("accept", "--dry-run", "--min-confidence", "0.5")
    assert late in {annotation.task_id for annotation in services.store.annotations(1)}
    assert services.trainer.waiting() == [1], "the round it asks for is still due"


def test_a_thumbnail_counts_no_crops(services, project):
    page = create_app(services).test_client()
    said = []
    event.listen(services.store._engine, "before_cursor_execute", lambda *given: said.append(given[2]))
    assert page.get(f"/projects/1/crops/{max(project)}").status_code == 200
    assert said
    assert not any("count(" in statement for statement in said)


# --- regions


def test_regions_are_written_as_they_are_read(stand_in, services, digit_crops, monkeypatch):
    monkeypatch.setattr(region_projects, "WRITTEN_TOGETHER", 2)
    stand_in.add_project(1, REGIONS)
    stand_in.add_project(2, parse(REGIONS).config())
    for task in stand_in.add_tasks(1, *(image for image, _ in digit_crops[:3])):
        drawn = [
            {
                "id": f"r{i}",
                "from_name": "part",
                "to_name": "photo",
                "type": "rectanglelabels",
                "value": {"x": 10 * i, "y": 0, "width": 50, "height": 50, "rectanglelabels": ["digit"]},
            }
            for i in range(3)
        ]
        stand_in.tasks[task]["data"] = {"photo": stand_in.tasks[task]["data"]["image"]}
        stand_in.tasks[task]["predictions"] = [{"model_version": "detector", "result": drawn}]
    written = []

    def import_tasks(project, tasks):
        written.append(len(tasks))
        for task in tasks:
            (id_,) = stand_in.add_tasks(project, "")
            stand_in.tasks[id_]["data"] = task["data"]

    monkeypatch.setattr(services.label_studio, "import_tasks", import_tasks)
    assert region_projects.spread_out(services, 1, 2) == (2, 9, 0)
    assert written == [2, 2, 2, 2, 1]
    assert region_projects.spread_out(services, 1, 2) == (2, 0, 0), "none has two tasks"
    for task in [task["id"] for task in stand_in.tasks.values() if task["project"] == 2][::2]:
        result = [{"from_name": "kind", "type": "choices", "value": {"choices": ["1"]}}]
        stand_in.annotate(task, None, result=result)
    assert region_projects.put_back(services, 1, 2, 1.0) == (5, 3)
    shown = stand_in.projects[1]["model_version"]
    assert [p["task"] for p in stand_in.predictions if p["model_version"] == shown] == [1, 2, 3]
    bulk = [path for _, path in stand_in.calls if path == "/api/projects/1/import/predictions"]
    assert len(bulk) == 2


# --- the map


def test_thousands_of_crops_that_are_all_alike_are_not_held_as_pairs():
    alike = np.ones((3000, 8), dtype=np.float32)
    tracemalloc.start()
    found = find_near_duplicates(alike, np.arange(3000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.pairs) == MOST_PAIRS
    assert peak < 60e6, "there are 4.5 million pairs, of 16 bytes each"


PROJECTS = """
from everylabel.model.visualization.projection import principal_components

def work(rows):
    principal_components(rows, np.arange(len(rows)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak of a process's memory")
def test_drawing_a_map_does_not_bring_the_embeddings_into_memory(tmp_path):
    assert share_held(tmp_path, 300_000, 512, PROJECTS) < 0.4
