"""Tasks that no reader expects, beside labelling: each has its own problem, and rounds go on in every project."""

from __future__ import annotations

import io
import zlib

import pytest
from PIL import Image

from tests.everylabel_process import wait_until
from tests.hostile_images import (
    bmp_of_runs,
    chunk,
    exif_that_repeats_itself,
    gif_of_comments,
    jpeg_of_comments,
    png_of_chunks,
    tiff_of_strips,
)

ODD = [
    [],
    ["a.png", "b.png"],
    [[{"url": None}]],
    "",
    " \t",
    "x" * 200_000,
    "file://C:\\images[1]\\crop.png",
    "\\\\nas\\share[2\\crop.png",
    "//nas[1:2/crop.png",
    "hdfs://[cluster/x.png",
    "http://xn--0.example/x.png",
    "http://[::ffff:127.0.0.1%25lo]/x.png",
    "http://127.1/x.png",
    "http://0x7f000001:1/x.png",
    "http://169.254.169.254/latest/meta-data",
    "http://user:secret-word@127.0.0.1:1/x.png",
    "http://127.0.0.1:99999999/x.png",
    "ftp://127.0.0.1/x.png",
    "javascript:alert(1)",
    "s3://",
    "s3://bucket",
    "gs://[x/y.png",
    "azure-blob://",
    "data:",
    "data:image/png;base64,!!!!",
    "data:image/png;base64," + "A" * 100_001,
    "data:text/html,<script>alert(1)</script>",
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    "/data/upload/../../../../etc/passwd",
    "/data/local-files/?d=../../etc/passwd",
    "/api/projects/",
    "/logout",
    "\u202egnp.porc\u0661\u0662",
    "half a picture \u0001\u001b[31m.png",
]
"""Values of a task's image that Label Studio takes: texts and lists. None of them is a picture."""


def as_png(width: int, height: int, data: bytes, *before: bytes) -> bytes:
    """A grey PNG that says a size, whatever its pixels are."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(before)
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def zeros(megabytes: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(megabytes)) + packer.flush()


def noise(kind: str, **options: object) -> bytes:
    stored = io.BytesIO()
    Image.effect_noise((64, 64), 60).save(stored, kind, **options)
    return stored.getvalue()


FILES = {
    "pixels.png": lambda: as_png(10_000, 10_000, zeros(100)),
    "one-row.png": lambda: as_png(100_000_000, 1, zeros(100)),
    "one-column.png": lambda: as_png(1, 30_000_000, zeros(60)),
    "no-pixels.png": lambda: as_png(0, 0, b""),
    "huge.png": lambda: as_png(2**31 - 1, 2**31 - 1, zeros(1)),
    "profile.png": lambda: as_png(8, 8, zlib.compress(bytes(72)), chunk(b"iCCP", b"a\0\0" + zeros(200))),
    "text.png": lambda: as_png(8, 8, zlib.compress(bytes(72)), chunk(b"zTXt", b"a\0\0" + zeros(200))),
    "chunks.png": lambda: png_of_chunks(400_000),
    "comments.jpg": lambda: jpeg_of_comments(1_000_000),
    "comments.gif": lambda: gif_of_comments(2_000_000),
    "scans.jpg": lambda: _of_scans(3000),
    "strips.png": lambda: tiff_of_strips(2_000_000),
    "runs.bmp": lambda: bmp_of_runs(200, 200_000),
    "exif.jpg": lambda: noise("JPEG", exif=b"Exif\0\0" + exif_that_repeats_itself(3000, 20_000, 6)[:60_000]),
    "half.jpg": lambda: noise("JPEG")[:900],
    "half.webp": lambda: noise("WEBP")[:400],
    "frames.gif": lambda: _of_frames(3000),
    "zip.png": lambda: b"PK\x03\x04" + bytes(500),
    "script.png": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
}
"""Files that are no pictures, or cost far more than they look."""
READABLE = {
    "one-column.png",
    "profile.png",
    "text.png",
    "chunks.png",
    "comments.jpg",
    "comments.gif",
    "exif.jpg",
    "frames.gif",
    "runs.bmp",
}
"""Those that may be read after all; of each other there must be a problem."""


def _of_scans(scans: int) -> bytes:
    stored = io.BytesIO()
    Image.new("L", (6000, 6000), 99).save(stored, "JPEG", progressive=True)
    jpeg = stored.getvalue()
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + scan * scans + b"\xff\xd9"


def _of_frames(frames: int) -> bytes:
    stored = io.BytesIO()
    first, *more = (Image.new("L", (2, 2), i % 256) for i in range(frames))
    first.save(stored, "GIF", save_all=True, append_images=more)
    return stored.getvalue()


@pytest.fixture(scope="module")
def bystander(connected):
    return connected(60, "beside poisoned tasks", labels=10)


@pytest.fixture(scope="module")
def poisoned(label_studio, connected, tmp_path_factory):
    """A project of 80 digits, ten of them labelled, to which the poison comes once it is connected."""
    project = connected(80, "poisoned tasks", labels=10)
    folder = tmp_path_factory.mktemp("poison")
    for name, make in FILES.items():
        (folder / name).write_bytes(make())
    odd = {}
    for value in ODD:
        task = {"project": project.id, "data": {"image": value}}
        odd[label_studio.api("POST", "/api/tasks/", json=task)["id"]] = repr(value)
    files = label_studio.upload(project.id, [folder / name for name in FILES])
    return project, odd, dict(zip(files, FILES, strict=True))


def label_on(label_studio, backend, project, first, count):
    """Label crops of a project one after the other; each must have its round."""
    for at in range(first, first + count):
        task = project.task_ids[at]
        label_studio.annotate(task, project.labels[task])
        backend.wait_for_round(project.id, labels=at + 1)


@pytest.mark.timeout(900)
def test_labelling_goes_on_in_every_project_and_each_task_has_its_own_problem(
    label_studio, everylabel_backend, bystander, poisoned
):
    project, odd, files = poisoned
    for at in (10, 12):
        label_on(label_studio, everylabel_backend, bystander, at, 2)
        label_on(label_studio, everylabel_backend, project, at, 2)
    store = everylabel_backend.services.store

    def read():
        tasks = {task.id: task for task in store.tasks(project.id)}
        wanted = {*project.task_ids, *odd, *files}
        tried = {id_ for id_, task in tasks.items() if task.problem or task.embedding_row is not None}
        return tasks if wanted <= tried else None

    tasks = wait_until(read, "some tasks were never tried", 400)
    assert all(tasks[id_].embedding_row is not None for id_ in project.task_ids)
    said = {value: tasks[id_].problem for id_, value in odd.items()}
    assert [value for value, problem in said.items() if not problem] == []
    problems = {name: tasks[id_].problem for id_, name in files.items()}
    assert [name for name, problem in problems.items() if not problem and name not in READABLE] == []
    every = "\n".join(filter(None, [*said.values(), *problems.values()]))
    assert "secret-word" not in every
    assert "unexpected" not in every.lower()
    assert max(map(len, every.splitlines())) < 1000
    label_on(label_studio, everylabel_backend, project, 14, 2)
    assert set(everylabel_backend.round(project.id).queue) <= {*project.task_ids, *files}


def test_it_is_told_and_nothing_private_is_logged(everylabel_backend, poisoned):
    project, odd, files = poisoned
    said = everylabel_backend.command("doctor", "--project", str(project.id))
    assert "All is well" not in said.stdout
    assert f"of {len(project.task_ids) + len(odd) + len(files)} crops cannot be read" in said.stdout
    assert "Traceback" not in said.stderr
    assert "secret-word" not in everylabel_backend.log_path.read_text() + said.stdout + said.stderr
    assert "Traceback" not in everylabel_backend.log_path.read_text()
