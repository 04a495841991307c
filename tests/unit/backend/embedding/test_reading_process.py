"""Crops read by other processes: the same rows, whatever is wrong with a picture or happens to a process."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everylabel.backend.embedding import reading_connection, reading_process
from everylabel.backend.embedding.pipeline import CropEmbedder
from everylabel.backend.embedding.prepared import with_digest
from everylabel.backend.embedding.reading_child import PlainPreparation
from everylabel.backend.embedding.reading_process import ReadingProcesses, processes_for
from everylabel.backend.images.decode import decode
from everylabel.backend.images.decoding_limits import ImageLimits
from everylabel.backend.images.errors import ImageUnreachableError
from everylabel.backend.images.reader import ImageReader
from everylabel.backend.label_studio import crop_shapes
from everylabel.backend.label_studio.crop_shapes import Box
from everylabel.backend.store import Store, Task
from everylabel.backend.store.files import EmbeddingFile
from everylabel.model.encoders import Encoder
from tests.everylabel_process import wait_until

THIS = "tests.unit.backend.embedding.test_reading_process"
SIDE = 24


class Corner(Encoder):
    """Rows are the pixels of a crop's corner, so that a row tells which crop it is of, and how it was prepared."""

    name, dim, dtype, crop_size, batch_size = "corner", 12, np.dtype(np.float32), 24, 32

    def _encode_batch(self, crops):
        return crops[:, 10:12, 10:12].reshape(len(crops), 12)

    def make_classifier(self):
        raise NotImplementedError


class Folder(ImageReader):
    """Fetches files by their path, as from a store of images, and writes down which."""

    def __init__(self, log, authorization=None):
        super().__init__("http://localhost", authorization)
        self._options = {"log": str(log)}

    def described(self):
        return {**super().described(), "of": f"{THIS}:Folder"}

    def fetch(self, url, task_id):
        with Path(self._options["log"]).open("a") as log:
            log.write(f"{url} {self.authorization()}\n")
        if url.startswith("http:"):
            raise ImageUnreachableError("The host is away", "It will be tried again")
        return Path(url).read_bytes()

    def fetched(self):
        return Path(self._options["log"]).read_text().splitlines()


def picture(number, side=40):
    rng = np.random.default_rng(number)
    return Image.fromarray(rng.integers(0, 256, (side, side + number % 7, 3), dtype=np.uint8))


def file_of(image, format_="JPEG", **options):
    written = io.BytesIO()
    image.save(written, format_, **options)
    return written.getvalue()


@pytest.fixture(scope="module")
def processes():
    with ReadingProcesses(2, 3) as made:
        assert made.wait(60)
        yield made
        made.end()


@pytest.fixture
def read(processes, tmp_path):
    """Have the files with these contents read by other processes."""
    passes = count()

    def read(files, side=SIDE, by=processes):
        tasks = []
        for content in files:
            path = tmp_path / f"{len(tasks)} of {next(passes)}"
            path.write_bytes(content)
            tasks.append(Task(len(tasks) + 1, str(path)))
        return by.read(tasks, Folder(tmp_path / "log"), side, str(next(passes)))

    return read


@pytest.fixture
def files(tmp_path):
    """Pictures of several formats; among them one that is damaged, a rare format, and a page of text."""
    found = []
    for number in range(60):
        format_ = ("JPEG", "PNG", "WEBP", "BMP")[number % 4]
        path = tmp_path / f"{number:02d}.{format_.lower()}"
        content = file_of(picture(number), format_)
        path.write_bytes(content[:200] if number == 17 else content)
        found.append(path)
    (tmp_path / "page.html").write_text("<html>")
    return [*found, tmp_path / "page.html"]


def embed(folder, addresses, processes):
    """Embed the crops of tasks at these addresses; return the rows, the problems and what was fetched."""
    folder.mkdir()
    store = Store(f"sqlite:///{folder / 'everylabel.db'}")
    try:
        store.save_project(1, label_config="<View/>")
        store.save_tasks(1, [Task(i, address) for i, address in enumerate(addresses, 1)])
        file, reader = EmbeddingFile(folder / "rows", 12, np.dtype(np.float32)), Folder(folder / "log")
        embedder = CropEmbedder(store, reader, Corner(), 3, processes=processes)
        found = embedder.embed(1, store.tasks_to_embed(1), file)
        tasks = store.tasks(1)
        stored = np.array(file.read())
        rows = {t.id: tuple(stored[t.embedding_row]) for t in tasks if t.embedding_row is not None}
        return rows, {t.id: t.problem for t in tasks if t.problem}, found, reader.fetched()
    finally:
        store.close()


@pytest.fixture
def worth_it(monkeypatch):
    """However few the crops are."""
    monkeypatch.setattr("everylabel.backend.embedding.pipeline.WORTH_IT", 1)


def test_rows_and_problems_are_those_of_threads(tmp_path, files, processes, worth_it):
    addresses = [str(path) for path in files]
    addresses += [crop_shapes.address(addresses[0], Box(10, 10, 50, 50)), addresses[4], addresses[4]]
    rows, problems, found, fetched = embed(tmp_path / "processes", addresses, processes)
    others = embed(tmp_path / "threads", addresses, None)
    assert (rows, problems) == others[:2]
    assert (found.embedded, found.unreadable) == (62, 2)
    assert set(problems) == {18, 61}
    assert len(fetched) <= 64 + 2, (
        "a picture is fetched twice where only this process can say what is wrong with it"
    )


def test_crops_are_prepared_as_in_this_process(read):
    images = [picture(n, side) for n, side in enumerate((3, 24, 40, 600))]
    files = [file_of(image, quality=90) for image in images]
    for file, found in zip(files, read(files), strict=True):
        expected = with_digest(Corner().prepare(decode(file, ImageLimits(), enough=2 * SIDE)))
        assert found.digest == expected.digest
        np.testing.assert_array_equal(found.pixels, expected.pixels)


def test_the_largest_crops_of_the_most_tasks_fit(read):
    files = [file_of(picture(n, 90)) for n in range(reading_connection.AT_A_TIME)]
    found = read(files, side=reading_connection.MOST_PIXELS)
    assert len({one.digest for one in found}) == len(files)
    last = with_digest(PlainPreparation(512).prepare(decode(files[-1], ImageLimits(), enough=1024)))
    assert found[-1].digest == last.digest
    np.testing.assert_array_equal(found[-1].pixels, last.pixels)


def test_what_cannot_be_read_leaves_the_others_alone(read):
    good = file_of(picture(1))
    found = read([good, b"", b"<html>", good[:300], good])
    assert [type(one).__name__ for one in found] == [
        "Prepared",
        "NotAnImageError",
        "NotAnImageError",
        "NotAnImageError",
        "Prepared",
    ]
    assert "empty" in str(found[1])
    assert read([]) == []


def test_a_picture_that_takes_more_memory_than_a_share_is_left_to_this_process(monkeypatch, read):
    monkeypatch.setattr(reading_process, "LEAST_MEMORY", 2_000_000)
    monkeypatch.setattr(reading_process, "BYTES_IN_FLIGHT", 4_000_000)
    with ReadingProcesses(2, 2) as made:
        assert made.wait(60)
        large, small = file_of(picture(1, 1000), "PNG"), file_of(picture(2))
        assert [one is not None for one in read([large, small], by=made)] == [False, True]
        made.end()


def test_the_authorization_of_each_request_is_the_one_of_that_moment(processes, tmp_path):
    (tmp_path / "crop").write_bytes(file_of(picture(1)))
    tokens = iter(("first", "second"))
    reader = Folder(tmp_path / "log", lambda: next(tokens))
    for name in ("one pass", "another"):
        processes.read([Task(1, str(tmp_path / "crop"))], reader, SIDE, name)
    assert [line.split()[-1] for line in reader.fetched()] == ["first", "second"]


def test_what_is_read_again_in_a_later_pass_is_fetched_again(processes, tmp_path):
    reader, path = Folder(tmp_path / "log"), tmp_path / "crop"
    path.write_bytes(file_of(picture(1)))
    first = processes.read([Task(1, str(path))], reader, SIDE, "in spring")[0]
    path.write_bytes(file_of(picture(2)))
    for _ in range(4):  # whichever process has read it
        assert processes.read([Task(1, str(path))], reader, SIDE, "in autumn")[0].digest != first.digest


def test_no_process_knows_a_secret_of_ours(monkeypatch, tmp_path):
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "kept-to-ourselves")
    with ReadingProcesses(2, 2) as made:
        assert made.wait(60)
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                is_ours = b"reading_child" in (folder / "cmdline").read_bytes()
                environment = (folder / "environ").read_bytes()
            except OSError:
                continue
            assert not (is_ours and b"kept-to-ourselves" in environment)
        made.end()


def members(group):
    """The processes of a group that run, as (id, parent's id); proc(5) names the fields."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        fields = fields_of(stat)
        if fields and int(fields[2]) == group and fields[0] not in "ZX":
            found.append((int(stat.parent.name), int(fields[1])))
    return found


def fields_of(stat):
    """State, parent, process group and so on; nothing of a process that has gone."""
    with suppress(OSError):
        return stat.read_text().rpartition(")")[2].split()
    return []


def children(made):
    """The ids of the processes that read."""
    return [id_ for id_, parent in members(made.process_id) if parent == made.process_id]


@pytest.mark.extended
def test_a_killed_process_is_replaced_at_the_next_pass(read):
    with ReadingProcesses(2, 2) as made:
        assert made.wait(60)
        wait_until(lambda: made.wait(0) and len(children(made)) == 2, "two have not started")
        gone = children(made)[0]
        os.kill(gone, signal.SIGKILL)
        wait_until(lambda: gone not in children(made), "it stays")
        for _ in range(4):
            read([file_of(picture(1))], by=made)
    with made:
        assert made.wait(60)
        wait_until(lambda: len(children(made)) == 2, "it is not replaced")
        made.end()
    assert made.process_id is None


@pytest.mark.extended
def test_nothing_is_left_of_processes_that_were_ended(processes):
    with ReadingProcesses(2, 2) as made:
        assert made.wait(60)
        group = made.process_id
        made.end()
        assert not members(group)
        zombies = [
            stat
            for stat in Path("/proc").glob("[0-9]*/stat")
            if (fields := fields_of(stat)) and fields[0] == "Z" and int(fields[2]) == group
        ]
        assert zombies == []


@pytest.mark.extended
def test_crops_are_embedded_though_processes_are_killed(tmp_path, worth_it):
    paths = []
    for number in range(300):
        paths.append(tmp_path / f"{number}.jpeg")
        paths[-1].write_bytes(file_of(picture(number)))
    with ReadingProcesses(2, 2) as made:
        assert made.wait(60)
        os.kill(children(made)[0], signal.SIGKILL)
        rows, problems, _, _ = embed(tmp_path / "one left", [str(path) for path in paths], made)
        assert made.wait(60)
        for id_ in (*children(made), made.process_id):
            os.kill(id_, signal.SIGKILL)
        none_left, _, _, _ = embed(tmp_path / "none left", [str(path) for path in paths], made)
        assert (len(rows), problems, none_left) == (300, {}, rows)
        made.end()


def test_a_host_that_is_away_is_asked_no_more_often_than_without_processes(
    tmp_path, files, processes, worth_it
):
    addresses = [str(path) for path in files[:20]]
    for i in range(400):
        addresses.insert(2 * i, f"http://away/{i}.png")
    rows, _, found, fetched = embed(tmp_path / "processes", addresses, processes)
    assert found.failure is not None
    assert len(rows) == 19  # one is damaged
    # As many as are tried by threads, and one of each request that is under way.
    assert sum(url.startswith("http:") for url in fetched) <= 64 + 3 + 3 * 3


def test_processes_end_with_the_one_that_uses_them(tmp_path):
    program = (
        "import sys, time\n"
        "from everylabel.backend.embedding.reading_process import ReadingProcesses\n"
        "made = ReadingProcesses(2, 2)\n"
        "made.__enter__()\n"
        "assert made.wait(60)\n"
        "print(made.process_id, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as user:
        group = int(user.stdout.readline())
        user.kill()
    wait_until(lambda: not members(group), "the processes go on")


@pytest.mark.extended
def test_processes_without_work_end_and_come_back(monkeypatch, read):
    monkeypatch.setattr(reading_process, "IDLE_SECONDS", 1.0)
    made = ReadingProcesses(2, 2)
    with made:
        assert made.wait(60)
        first = made.process_id
    wait_until(lambda: made.process_id is None, "they stay")
    wait_until(lambda: not members(first), "they are not gone")
    with made:
        assert made.wait(60)
        assert read([file_of(picture(1))], by=made)[0] is not None
    made.end()


@pytest.mark.parametrize(
    ("cores", "device", "expected"),
    [(2, "cpu", 0), (4, "cuda", 2), (8, "cpu", 2), (64, "cpu", 12), (64, "cuda:1", 12)],
)
def test_there_are_as_many_as_the_encoder_leaves_cores_for(monkeypatch, cores, device, expected):
    monkeypatch.setattr(reading_process, "usable_cores", lambda: cores)
    encoder = Corner()
    encoder.device = device
    found = processes_for(encoder, 12)
    assert (0 if found is None else found.count) == expected


def test_an_encoder_that_prepares_in_its_own_way_prepares_here(monkeypatch):
    class Own(Corner):
        def prepare(self, image):
            return super().prepare(image)

    class Texts(Corner):
        reads = "text"

    class Enough(Own):
        enough_pixels = 48

    monkeypatch.setattr(reading_process, "usable_cores", lambda: 64)
    assert processes_for(Corner(), 12) is not None
    for other in (Own(), Texts(), Enough()):
        assert processes_for(other, 12) is None


@pytest.mark.extended
def test_a_failure_of_ours_keeps_no_process_from_the_others(processes, monkeypatch, read):
    def broken(*_):
        raise ZeroDivisionError

    with ReadingProcesses(2, 2) as made:
        assert made.wait(60)
        with monkeypatch.context() as patched:
            patched.setattr(reading_connection, "Prepared", broken)
            with pytest.raises(ZeroDivisionError):
                read([file_of(picture(1))], by=made)
        assert read([file_of(picture(1))], by=made)[0] is not None
        made.end()


@pytest.mark.extended
def test_a_process_that_hangs_is_given_up(monkeypatch, read):
    monkeypatch.setattr(reading_connection, "PATIENCE", 0.5)
    with ReadingProcesses(1, 1) as made:
        assert made.wait(60)
        stopped = children(made)
        os.kill(stopped[0], signal.SIGSTOP)
        begun = time.monotonic()
        assert read([file_of(picture(1))], by=made) == [None]
        assert time.monotonic() - begun < 30
        made.end()
