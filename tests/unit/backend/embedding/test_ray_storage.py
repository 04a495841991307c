"""A pool copied to an S3 server over HTTP: what is sent and read, what is wrong, and the same bits as in place."""

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from everylabel.backend.embedding import ray_executor
from everylabel.backend.embedding.executor import ExecutorError
from everylabel.backend.embedding.ray_storage import RowCopy, read_rows
from everylabel.backend.store.files import EmbeddingFile
from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.pool import chunk_rows
from everylabel.scripts import cli
from tests.everylabel_process import REPOSITORY, wait_until
from tests.ray_cluster import backends_on, two_nodes, what_a_round_left, workers
from tests.stand_in_label_studio import TOKEN

pytestmark = pytest.mark.extended

pytest.importorskip("ray", reason="Ray is not installed: pip install 'everylabel[ray]'")
s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed: pip install s3fs")

STORAGE = "s3://bucket/everylabel"


@pytest.fixture
def s3(s3_server, monkeypatch):
    """The server, known by the environment of this process."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    yield s3_server
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def cluster(s3_server):
    """A cluster that was started with what it needs to read from the server."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in s3_server.environment.items():
            environment.setenv(name, value)
        with two_nodes() as cluster:
            yield cluster


@pytest.fixture
def on_ray(make_services, cluster, s3, tmp_path):
    """Makes a backend that embeds and scores on the cluster."""
    with backends_on(cluster, partial(make_services, model_dir=tmp_path / "on ray")) as make:
        yield make


@pytest.fixture
def file(tmp_path):
    return EmbeddingFile(tmp_path / "pool.rows", 4, np.dtype(np.float16))


def numbers(n, first=0):
    """Rows that all differ: (n, 4)."""
    return np.arange(first, first + 4 * n, dtype=np.float16).reshape(n, 4)


def requests(s3, work):
    """What `work` gives, and the method and path of every request it made."""
    before = len(s3.requests())
    return work(), s3.requests()[before:]


def copied(file, n, size=8):
    """The first `n` rows as the cluster reads them."""
    parts = RowCopy(file, STORAGE).slices(n, size)
    assert all(part.url.startswith(STORAGE) for part in parts)
    return np.concatenate([read_rows(part, file.dim, file.dtype) for part in parts])


def uploads(found):
    return [path.rsplit("/", 1)[1] for method, path in found if method == "PUT"]


def test_a_slice_is_uploaded_once_and_again_only_where_it_has_grown(s3, file):
    file.append(numbers(20))
    parts, found = requests(s3, lambda: RowCopy(file, STORAGE).slices(20, 8))
    assert sorted(uploads(found)) == ["000000000000", "000000000008", "000000000016"]
    again, found = requests(s3, lambda: RowCopy(file, STORAGE).slices(20, 8))
    assert again == parts
    assert not uploads(found)
    file.append(numbers(10, 80))
    _, found = requests(s3, lambda: RowCopy(file, STORAGE).slices(30, 8))
    assert sorted(uploads(found)) == ["000000000016", "000000000024"]
    assert (copied(file, 30) == numbers(30)).all()


def test_a_slice_is_read_by_one_request(s3, file):
    file.append(numbers(20))
    (part, *_) = RowCopy(file, STORAGE).slices(20, 8)
    rows, found = requests(s3, lambda: read_rows(part, 4, file.dtype))
    assert (rows == numbers(8)).all()
    assert [method for method, _ in found] == ["GET"]


def test_rows_that_were_written_over_are_copied_anew(s3, file):
    file.append(numbers(20))
    assert (copied(file, 20) == numbers(20)).all()
    file.append(
        numbers(4, 500), at=15
    )  # a crash had left them; as many rows as before, and the last as before
    assert (copied(file, 20) == file.read()).all()


@pytest.mark.parametrize("held", ["torn", "too long", "of other rows", "nothing"])
def test_an_object_that_is_not_the_whole_slice_is_not_taken_for_it(s3, file, held):
    file.append(numbers(20))
    RowCopy(file, STORAGE).slices(20, 8)
    part = RowCopy(file, STORAGE).slices(20, 8)[1]  # which has listed them whole
    whole = numbers(8, 32).tobytes()
    body = {"torn": whole[:-3], "too long": whole + whole, "of other rows": whole[::-1], "nothing": b""}[held]
    s3.client.put_object(Bucket=s3.BUCKET, Key=part.url.removeprefix(f"s3://{s3.BUCKET}/"), Body=body)
    rows, found = requests(s3, lambda: copied(file, 20))
    assert (rows == numbers(20)).all()
    assert uploads(found) == ["000000000008"]


def test_a_command_killed_while_it_uploads_leaves_whole_objects_and_is_gone_on_with(s3, tmp_path):
    dim, rows, size = 2048, 16 * 1024, 1024  # 4 MiB each
    file = EmbeddingFile(tmp_path / "large.rows", dim, np.dtype(np.float16))
    file.append(np.frombuffer(np.random.default_rng(0).bytes(2 * rows * dim), np.float16).reshape(-1, dim))
    before = len(s3.requests())
    script = (
        "import sys, numpy; from pathlib import Path; from everylabel.backend.store.files import EmbeddingFile\n"
        "from everylabel.backend.embedding.ray_storage import RowCopy\n"
        f"file = EmbeddingFile(Path(sys.argv[1]), {dim}, numpy.dtype('float16'))\n"
        f"RowCopy(file, {STORAGE!r}).slices({rows}, {size})"
    )
    process = subprocess.Popen([sys.executable, "-c", script, file.path], cwd=REPOSITORY)
    wait_until(lambda: uploads(s3.requests()[before:]), "nothing is uploaded")
    with s3.standing_still():  # others are on their way
        process.kill()
        process.wait()
    folder = f"everylabel/{file.identity()}/"
    there = wait_until(
        lambda: s3.client.list_objects_v2(Bucket=s3.BUCKET, Prefix=folder).get("Contents"), "nothing is there"
    )
    assert 0 < len(there) < rows // size
    found, made = requests(s3, lambda: copied(file, rows, size))
    assert found.tobytes() == file.read().tobytes()
    # Not counted, for what was under way when it was killed may have come after the listing.
    whole = {found["Key"].rpartition("/")[2] for found in there}
    assert whole.isdisjoint(uploads(made)), "what is there is not copied again"
    kept = s3.client.list_objects_v2(Bucket=s3.BUCKET, Prefix=folder)["Contents"]
    assert len(kept) == rows // size
    assert {found["Size"] for found in kept} == {size * 2 * dim}


def test_a_bucket_that_is_not_there_is_told_in_a_line_and_not_made(s3, file):
    file.append(numbers(20))
    with pytest.raises(
        ExecutorError, match=r"s3://bukcet/everylabel .*bucket does not exist.*docs/deploying.md"
    ) as told:
        RowCopy(file, "s3://bukcet/everylabel").slices(20, 8)
    assert "\n" not in str(told.value)
    assert [bucket["Name"] for bucket in s3.client.list_buckets()["Buckets"]] == [s3.BUCKET]


def test_keys_that_are_wrong_or_missing_are_told_in_a_line(s3, file, monkeypatch):
    file.append(numbers(20))
    with (
        s3.refusing_strangers(),
        pytest.raises(ExecutorError, match=r"does not exist in our records.*credentials"),
    ):
        RowCopy(file, STORAGE).slices(20, 8)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(ExecutorError, match=r"Unable to locate credentials.*docs/deploying.md"):
        RowCopy(file, STORAGE).slices(20, 8)


def test_what_the_docs_export_is_what_these_tests_do(s3_server):
    docs = (REPOSITORY / "docs" / "deploying.md").read_text(encoding="utf-8")
    (block,) = [part for part in docs.split("```") if "pip install s3fs" in part]
    assert set(re.findall(r"export (\w+)=", block)) == set(s3_server.environment)


def test_rounds_scored_from_s3_are_the_local_ones_to_the_bit(
    stand_in, make_services, cluster, s3, digit_crops, monkeypatch, tmp_path
):
    local, ray = (make_services(model_dir=tmp_path / name) for name in ("local", "on ray"))
    stand_in.add_project(1)
    ids = stand_in.add_tasks(1, *(image for image, _ in digit_crops))
    for name, value in (("URL", stand_in.url), ("API_KEY", TOKEN)):
        monkeypatch.setenv(f"LABEL_STUDIO_{name}", value)
    monkeypatch.setenv("MODEL_DIR", str(ray.settings.model_dir))
    command = ["embed", "--project", "1", "--engine", "ray", "--address", cluster.address, "--storage"]

    def annotate(crops):
        for id_, (_, label) in list(zip(ids, digit_crops, strict=True))[crops]:
            stand_in.annotate(id_, label)

    annotate(slice(0, 14))
    wrong = CliRunner().invoke(cli.app, [*command, "s3://bukcet/everylabel"])
    assert wrong.exit_code == 1
    assert "bucket does not exist" in wrong.output
    assert "Traceback" not in wrong.output
    assert ray.store.count_tasks(1)["embedded"] == len(ids)
    for crops in (slice(0, 0), slice(14, 20)):
        annotate(crops)
        answer = CliRunner().invoke(cli.app, [*command, STORAGE])
        assert answer.exit_code == 0, answer.output
        local.loop.catch_up(1, compare=True)
        assert what_a_round_left(ray) == what_a_round_left(local)
    assert ray.store.latest_round(1).number == 2
    file = ray.embeddings.file(1)
    objects = s3.client.list_objects_v2(Bucket=s3.BUCKET, Prefix=f"everylabel/{file.identity()}/")["Contents"]
    assert [found["Size"] for found in objects] == [file.path.stat().st_size]


def test_a_pool_is_scored_from_s3_to_the_same_bit_though_a_worker_is_killed(
    on_ray, s3, monkeypatch, tmp_path
):
    monkeypatch.setattr(ray_executor, "SCORED_ROWS", chunk_rows(96))
    slices = 40
    file = EmbeddingFile(tmp_path / "pool.rows", 96, np.dtype(np.float16))
    file.append(np.random.default_rng(0).normal(size=((slices - 1) * chunk_rows(96) + 5, 96)))
    pool = file.read()
    classifier = EmbeddingClassifier().adapt(pool).fit(pool[:60], [str(n % 11) for n in range(60)])
    score = on_ray(STORAGE).executor.scorer(file)
    before = len(s3.requests())

    def slices_read():
        return [
            path for method, path in s3.requests()[before:] if method == "GET" and "list-type" not in path
        ]

    def kill_one():
        wait_until(slices_read, "nothing is read", 90)
        with s3.standing_still():
            victim = wait_until(lambda: workers("Map"), "nobody scores")[0]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: not Path(f"/proc/{victim}").exists(), "it is not dead")
            return len(set(slices_read()))

    with ThreadPoolExecutor(1) as killer:
        done = killer.submit(kill_one)
        found = score(classifier, pool)
    assert 0 < done.result() < slices
    assert found.tobytes() == classifier.predict_proba(pool).tobytes()
