"""The Ray engine on a cluster of two nodes: the same rows, rounds and selections as the local engine, to the bit."""

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from typer.testing import CliRunner

from everylabel.backend.embedding import ray_executor
from everylabel.backend.embedding.executor import ExecutorError
from everylabel.backend.embedding.ray_storage import RowCopy, read_rows
from everylabel.backend.store import Task
from everylabel.backend.store.files import EmbeddingFile
from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.pool import chunk_rows
from everylabel.scripts import cli
from tests.everylabel_process import REPOSITORY, wait_until
from tests.ray_cluster import backends_on, two_nodes, what_a_round_left, workers
from tests.stand_in_label_studio import TOKEN, data_uri

pytestmark = pytest.mark.extended

pytest.importorskip("ray", reason="Ray is not installed: pip install 'everylabel[ray]'")

LABELLED = 14


@pytest.fixture(scope="module")
def cluster():
    """A cluster that was started without credentials for anything."""
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            environment.delenv(name)
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            environment.setenv(name, os.devnull)
        with two_nodes() as cluster:
            yield cluster


@pytest.fixture
def on_ray(make_services, cluster, tmp_path):
    """Makes a backend that embeds and scores on the cluster."""
    with backends_on(cluster, partial(make_services, model_dir=tmp_path / "on ray")) as make:
        yield make


def test_a_project_embedded_and_scored_on_ray_is_the_same_to_the_bit_though_a_worker_is_killed(
    stand_in, make_services, cluster, digit_crops, monkeypatch, tmp_path
):
    monkeypatch.setattr(ray_executor, "CHUNK", 8)  # the killed one has work left
    monkeypatch.setattr(ray_executor, "SLICE_CALLS", 10)  # a second slice, of the last ten calls
    local, ray = (make_services(model_dir=tmp_path / name) for name in ("local", "on ray"))
    stand_in.add_project(1)
    images = [image for image, _ in digit_crops]
    images[5] = data_uri(b"no picture")
    ids = stand_in.add_tasks(1, *images)
    for id_, (_, label) in list(zip(ids, digit_crops, strict=False))[6 : 6 + LABELLED]:
        stand_in.annotate(id_, label)

    def kill_one():
        done = wait_until(lambda: ray.store.count_tasks(1)["embedded"], "nothing is embedded", 90)
        os.kill(workers("MapWorker")[0], signal.SIGKILL)
        return done

    for name, value in (("URL", stand_in.url), ("API_KEY", TOKEN)):
        monkeypatch.setenv(f"LABEL_STUDIO_{name}", value)
    monkeypatch.setenv("MODEL_DIR", str(ray.settings.model_dir))
    command = ["embed", "--project", "1", "--engine", "ray", "--address", cluster.address]
    with ThreadPoolExecutor(1) as killer:
        done = killer.submit(kill_one)
        answer = CliRunner().invoke(cli.app, [*command, "--storage", f"file://{tmp_path}/storage"])
    assert answer.exit_code == 0, answer.output
    assert 0 < done.result() < len(ids)
    assert "239 of 240 crops are embedded, 1 cannot be read." in answer.output

    local.loop.catch_up(1)
    expected = what_a_round_left(local)
    assert what_a_round_left(ray) == expected
    assert expected["round"].n_labels == LABELLED
    assert list((tmp_path / "storage").glob("*/000000000000"))


def test_crops_on_one_picture_lie_in_the_same_rows(make_services, on_ray, digit_crops, tmp_path):
    pictures = [image for image, _ in digit_crops[:3]]
    boxes = [f"{pictures[n % 3]}#xywh=percent:{n},{n},50,50" for n in range(12)]
    rows = []
    for services in (make_services(model_dir=tmp_path / "local"), on_ray()):
        services.store.save_project(
            1,
            label_config='<View><Image name="i" value="$image"/><Choices name="c" toName="i">'
            '<Choice value="a"/><Choice value="b"/></Choices></View>',
        )
        services.store.save_tasks(1, [Task(n + 1, box) for n, box in enumerate(boxes)])
        services.pool_embedding.embed(1)
        rows.append((services.store.tasks(1), np.asarray(services.embeddings.read(1)).tobytes()))
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("name", "value", "address", "way_out"),
    [
        ("RAY_TMPDIR", "/dev/null/ray", "local", r"Not a directory.*Set RAY_TMPDIR to a folder"),
        ("RAY_AUTH_MODE", "token", "127.0.0.1:1", r"127.0.0.1:1.*Set RAY_AUTH_TOKEN_PATH"),
    ],
)
def test_a_machine_that_cannot_join_is_told_why_in_a_line_and_keeps_its_home_folder(
    name, value, address, way_out, tmp_path
):
    program = "import sys; from everylabel.backend.embedding.ray_executor import RayExecutor; RayExecutor(None, sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", program, address],
        env={**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY), name: value},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert re.fullmatch(rf".*ExecutorError: .*{way_out}.*", done.stderr.strip().splitlines()[-1])
    assert not list(tmp_path.iterdir())


def test_a_large_pool_is_scored_in_slices_to_the_same_bit(on_ray, monkeypatch, tmp_path):
    assert ray_executor.SCORED_ROWS % chunk_rows(1) == ray_executor.SCORED_ROWS % chunk_rows(96) == 0
    monkeypatch.setattr(ray_executor, "SCORED_ROWS", chunk_rows(96))
    rng = np.random.default_rng(0)
    file = EmbeddingFile(tmp_path / "pool.rows", 96, np.dtype(np.float16))
    file.append(rng.normal(size=(3 * chunk_rows(96) + 5, 96)))
    pool = file.read()
    classifier = EmbeddingClassifier().adapt(pool).fit(pool[:60], [str(n % 11) for n in range(60)])
    expected = classifier.predict_proba(pool).tobytes()
    for storage in ("", f"file://{tmp_path}/storage"):  # in the shared folder, and copied
        assert on_ray(storage).executor.scorer(file)(classifier, pool).tobytes() == expected


def test_a_copy_grows_with_its_file_and_belongs_to_it_alone(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 4)).astype(np.float16)
    storage = f"file://{tmp_path}/storage"
    file = EmbeddingFile(tmp_path / "pool.rows", 4, np.dtype(np.float16))

    def copied(n):
        parts = list(RowCopy(file, storage).slices(n, 8))
        assert all(part.url.startswith(storage) for part in parts)
        return np.concatenate([read_rows(part, 4, file.dtype) for part in parts])

    file.append(rows[:20])
    assert (copied(20) == rows[:20]).all()
    file.append(rows[20:])
    assert (copied(30) == rows).all()
    file.append(rows[:10], at=20)  # a crash had left what was there
    assert (copied(30)[20:] == rows[:10]).all()
    file.path.unlink()
    anew = EmbeddingFile(file.path, 4, file.dtype)
    anew.append(rows[::-1])
    assert (copied(30) == rows[::-1]).all()


def test_a_slice_that_is_not_there_in_full_is_an_error(tmp_path):
    file = EmbeddingFile(tmp_path / "pool.rows", 4, np.dtype(np.float16))
    file.append(np.zeros((3, 4)))
    (part,) = RowCopy(file, "").slices(3, 8)
    with pytest.raises(EOFError, match="24 of 32 bytes"):
        read_rows(replace(part, n=4), 4, file.dtype)


def test_what_fails_on_the_cluster_is_told_in_a_line(on_ray, monkeypatch):
    services = on_ray()
    target = services.embeddings.target(services.store.save_project(1))
    monkeypatch.setattr(target.encoder, "name", "another-version", raising=True)
    with pytest.raises(ExecutorError, match="install the same version of everylabel everywhere"):
        services.executor.embed(1, [Task(1, data_uri(b""))], target)


def test_a_cluster_without_the_storages_credentials_is_told_in_a_line(
    on_ray, s3_server, monkeypatch, capfd, tmp_path
):
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)  # in this process alone
    file = EmbeddingFile(tmp_path / "pool.rows", 96, np.dtype(np.float16))
    file.append(np.random.default_rng(0).normal(size=(100, 96)))
    classifier = EmbeddingClassifier().adapt(file.read()).fit(file.read()[:20], ["a", "b"] * 10)
    with pytest.raises(
        ExecutorError, match=r"failed: s3://bucket/.* cannot be read .Unable to locate credentials.*ray start"
    ) as told:
        on_ray("s3://bucket/everylabel").executor.scorer(file)(classifier, file.read())
    assert "\n" not in str(told.value)
    assert s3_server.environment["AWS_SECRET_ACCESS_KEY"] not in str(told.value)
    assert "xception" not in capfd.readouterr().err
