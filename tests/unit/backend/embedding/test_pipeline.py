"""Embedding a project's crops: bounded, each once, none lost, whatever stands in the way."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everylabel.backend.embedding.hosts import GIVEN_UP_AFTER
from everylabel.backend.embedding.pipeline import CropEmbedder
from everylabel.backend.images.errors import ImageUnreachableError, NotAnImageError
from everylabel.backend.label_studio import crop_shapes
from everylabel.backend.label_studio.crop_shapes import Box
from everylabel.backend.store import Store, Task
from everylabel.backend.store.files import EmbeddingFile
from everylabel.model.encoders import Encoder

REPOSITORY = Path(__file__).resolve().parents[4]


class MeanColour(Encoder):
    """Rows are a crop's mean colour, so that a row tells which crop it is of."""

    name, dim, dtype, crop_size, batch_size = "mean", 3, np.dtype(np.float32), 8, 32

    def __init__(self) -> None:
        self.encoded = 0

    def _encode_batch(self, crops):
        self.encoded += len(crops)
        return crops.mean(axis=(1, 2))

    def make_classifier(self):
        raise NotImplementedError


def colour(number):
    return (number % 251, number // 251 % 251, 7)


class Pictures:
    """Pictures of one colour each, by number: `host/12.png`; what cannot be read is in `broken`."""

    def __init__(self):
        self.read_urls, self.broken, self.pause = [], {}, lambda _: None

    def read(self, url, task_id, *, enough=None):
        self.read_urls.append(url)
        self.pause(url)
        for part, error in self.broken.items():
            if part in url:
                raise error
        return Image.new("RGB", (8, 8), colour(int(Path(url).stem)))


class Project:
    """One project's store, file and parts, as a process that starts on them has them."""

    def __init__(self, folder):
        self.store = Store(f"sqlite:///{folder / 'everylabel.db'}")
        self.store.save_project(1, label_config="<View/>")
        self.file = EmbeddingFile(folder / "mean.rows", 3, np.dtype(np.float32))
        self.encoder, self.pictures = MeanColour(), Pictures()
        self.threads = 4

    def add(self, numbers, host="http://images", first=1):
        self.store.save_tasks(1, [Task(first + i, f"{host}/{n}.png") for i, n in enumerate(numbers)])

    def embed(self, progress=None):
        embedder = CropEmbedder(self.store, self.pictures, self.encoder, self.threads)
        return embedder.embed(1, self.store.tasks_to_embed(1), self.file, progress)

    def rows(self):
        return {t.id: t.embedding_row for t in self.store.tasks(1) if t.embedding_row is not None}

    def check(self, numbers, first=1):
        """Each task has a row of its own, and it is of its own crop."""
        rows = self.rows()
        assert len(set(rows.values())) == len(rows)
        stored = self.file.read()
        for i, number in enumerate(numbers):
            assert tuple(stored[rows[first + i]]) == colour(number)


@pytest.fixture
def project(tmp_path):
    project = Project(tmp_path)
    yield project
    project.store.close()


def test_rows_lie_in_the_order_of_the_tasks_whichever_crop_is_read_first(project):
    project.pictures.pause = lambda url: time.sleep(0.02 if url.endswith("0.png") else 0)
    project.add(range(300))
    said = []
    found = project.embed(lambda done, total: said.append((done, total)))
    assert (found.embedded, found.unreadable, found.failure) == (300, 0, None)
    assert project.rows() == {i + 1: i for i in range(300)}
    project.check(range(300))
    assert said[-1] == (300, 300)


def test_a_store_that_holds_no_picture_fills_no_log(project, caplog):
    project.pictures.broken["images"] = NotAnImageError("It is a web page", "Upload the image again")
    project.add(range(300))
    assert project.embed().unreadable == 300
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) < 10
    assert "300" in warned[-1]
    assert all(task.problem for task in project.store.tasks(1))


def test_crops_are_read_while_others_are_encoded(project):
    project.add(range(200))
    enough_read = threading.Event()
    project.pictures.pause = lambda _: len(project.pictures.read_urls) > 64 and enough_read.set()
    encode, waited = project.encoder.encode, []

    def slow(crops):
        waited.append(enough_read.wait(5))  # the first batch of 32 is not done before the third is being read
        return encode(crops)

    project.encoder.encode = slow
    assert project.embed().embedded == 200
    assert all(waited)


def test_what_is_on_its_way_does_not_grow_with_the_pool(project):
    """What was read and is not on disk: all that is held of a pool."""
    append = project.file.append

    def slow(*args, **options):
        time.sleep(0.05)  # so that reading has to wait for the disk
        return append(*args, **options)

    project.file.append = slow
    on_their_way = []
    project.pictures.pause = lambda _: on_their_way.append(
        len(project.pictures.read_urls) - len(project.file)
    )
    project.add(range(3000))
    project.embed()
    assert 256 < max(on_their_way) < 800
    assert max(on_their_way[2000:]) <= max(on_their_way[:2000]) + 64


def test_crops_of_the_same_pixels_are_encoded_once_and_each_has_a_row(project):
    numbers = [i % 40 for i in range(400)]
    project.add(numbers[:200], host="http://one")
    project.add(numbers[200:], host="http://another", first=201)
    assert project.embed().embedded == 400
    assert project.encoder.encoded == 40
    project.check(numbers)

    project.add([3, 77], host="http://third", first=500)  # in a later pass, and after a restart
    again = Project(project.file.path.parent)
    assert again.embed().embedded == 2
    assert again.encoder.encoded == 1
    again.check([3, 77], first=500)
    again.store.close()


def test_another_encoder_does_not_take_the_rows_of_the_one_before(project):
    project.add(range(5))
    project.embed()
    project.store.forget_embeddings(1, "another")
    project.embed()
    assert project.encoder.encoded == 10
    assert sorted(project.rows().values()) == [5, 6, 7, 8, 9], "what is being read stays as it is"


def test_a_picture_is_read_once_for_boxes_that_do_not_stand_side_by_side(project):
    urls = [
        crop_shapes.address(f"http://images/{i % 5}.png", Box(10 * (i // 5), 0, 10, 100)) for i in range(50)
    ]
    project.store.save_tasks(1, [Task(i + 1, url) for i, url in enumerate(urls)])
    assert project.embed().embedded == 50
    assert sorted(project.pictures.read_urls) == [f"http://images/{i}.png" for i in range(5)]


def test_a_crop_that_cannot_be_read_has_its_reason_and_the_others_their_rows(project):
    project.pictures.broken["/7.png"] = NotAnImageError("It is a web page", "Upload the image again")
    project.add(range(100))
    found = project.embed()
    assert (found.embedded, found.unreadable, found.failure) == (99, 1, None)
    assert "web page" in project.store.tasks(1, [8])[0].problem
    project.pictures.broken.clear()
    assert project.embed().embedded == 0, "not before it is asked for again"
    project.store.forget_problems(1)
    assert project.embed().embedded == 1
    project.check(range(100))


def test_a_host_that_is_away_is_left_alone_and_the_others_crops_are_embedded(project):
    project.pictures.broken["//away"] = ImageUnreachableError("It is away", "It will be tried again")
    project.add(range(300), host="http://away")
    project.add(range(300, 400), first=301)
    found = project.embed()
    assert found.embedded == 100
    assert GIVEN_UP_AFTER <= found.unreadable <= GIVEN_UP_AFTER + project.threads
    assert "away" in str(found.failure)
    assert len(project.store.tasks_to_embed(1)) == 300 - found.unreadable, "not tried, so not recorded"
    project.pictures.broken.clear()
    project.store.forget_problems(1)
    assert project.embed().embedded == 300
    project.check(range(400))


def test_a_task_that_shows_another_picture_by_now_is_embedded_again(project):
    project.add(range(40))
    project.pictures.pause = lambda url: (
        url.endswith("/3.png") and project.store.save_tasks(1, [Task(4, "http://images/200.png")])
    )
    assert project.embed().embedded == 40
    assert [task.image_url for task in project.store.tasks_to_embed(1)] == ["http://images/200.png"]
    project.embed()
    project.check([0, 1, 2, 200])


def test_an_encoder_that_fails_fails_the_pass_and_leaves_no_thread(project):
    project.add(range(500))

    def broken(crops):
        raise FloatingPointError("its weights are damaged")

    project.encoder._encode_batch = broken
    with pytest.raises(FloatingPointError, match="damaged"):
        project.embed()
    left = [thread.name for thread in threading.enumerate()]
    assert not {"batches", "encoder"} & set(left)
    assert not [name for name in left if name.startswith("images")]


def test_what_a_crash_left_at_the_end_of_the_file_is_written_over(project):
    project.add(range(10))
    project.embed()
    project.file.append(np.full((7, 3), 99, dtype=np.float32))  # on disk, and then the process was killed
    project.add(range(10, 20), first=11)
    mapped = project.file.read()
    project.embed()
    assert project.rows() == {i + 1: i for i in range(20)}
    assert len(project.file) == 20
    assert len(mapped) == 17, "who had it mapped can still read it"
    project.check(range(20))


def test_a_database_of_an_earlier_version_keeps_its_rows(project, tmp_path):
    project.add(range(10))
    project.embed()
    project.store.close()
    database = sqlite3.connect(tmp_path / "everylabel.db")
    database.execute("DROP INDEX tasks_by_digest")
    database.execute("ALTER TABLE tasks DROP COLUMN digest")
    database.execute("ALTER TABLE projects DROP COLUMN embedded_until")
    database.close()
    again = Project(tmp_path)
    again.add([10, 3, 10], first=11)
    assert again.embed().embedded == 3
    again.check([*range(10), 10, 3, 10])
    again.store.close()


def test_tasks_are_listed_a_few_at_a_time(project):
    project.add(range(2600))
    project.store.save_problems(1, {7: "broken"})
    open_tasks = project.store.tasks_to_embed(1)
    assert len(open_tasks) == 2599
    assert [task.id for task in open_tasks] == [i for i in range(1, 2601) if i != 7]
    some = project.store.tasks_to_embed(1, [*range(2000, 100, -1), 7, 9999])
    assert [task.id for task in some] == list(range(101, 2001))
    assert len(some) == 1900


KILLED = """
import sys, time
from pathlib import Path
from tests.unit.backend.embedding.test_pipeline import Project
project = Project(Path(sys.argv[1]))
project.pictures.pause = lambda _: time.sleep(0.002)
from everylabel.backend.embedding import pipeline
pipeline.COMMIT_CROPS = 48
print("ready", flush=True)
project.embed(lambda done, total: print(done, flush=True))
print("encoded", project.encoder.encoded, flush=True)
"""


@pytest.mark.extended
def test_killed_at_any_moment_it_goes_on_with_no_crop_twice_and_none_lost(project, tmp_path):
    numbers = [i % 700 for i in range(1500)]
    project.add(numbers)
    commits = 0
    for after in (0, 2, 5, None):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            text=True,
        )
        lines = iter(process.stdout.readline, "")
        assert next(lines) == "ready\n"
        if after is None:
            rest = list(lines)
            assert process.wait() == 0
            assert int(rest[-1].split()[1]) < 700, "what was on disk was not encoded again"
            break
        for _ in range(after):
            next(lines)
        time.sleep(0.03)
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = project.rows()
        assert len(done) >= commits, "what was done stays so"
        project.check(numbers[: len(done)])
        commits = len(done)
    assert 0 < commits < 1500
    assert sorted(project.rows().values()) == list(range(1500)), "each has a row, and no row has none"
    assert len(project.file) == 1500
    project.check(numbers)
