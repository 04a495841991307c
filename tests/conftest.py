"""What every kind of test may use: a real Label Studio, real digit crops, and where Chromium is.

Only what a test asks for is started. EVERYLABEL_TEST_LABEL_STUDIO names an installed ``label-studio`` to use
instead of installing one, EVERYLABEL_TEST_LABEL_STUDIO_DATABASE=postgresql puts it on PostgreSQL; CI=true turns a
missing Chromium from a skip into a failure.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from everylabel.scripts.local_label_studio.install import environment_in, install
from everylabel.scripts.local_label_studio.server import LabelStudioServer
from everylabel.scripts.replay import datasets
from everylabel.scripts.replay.datasets import Dataset
from tests.everylabel_process import EveryLabel
from tests.label_studio_setups import DATABASES, postgresql_settings, start_with_tables
from tests.servers import S3, Postgres, Redis

REPOSITORY = Path(__file__).resolve().parent.parent
CACHE = REPOSITORY / ".everylabel"
CHROMIUM_MISSING = "Chromium is missing, the browser tests need it: sudo apt-get install -y chromium"

#: Django's own limit on the files of one request, which Label Studio keeps (DATA_UPLOAD_MAX_NUMBER_FILES).
FILES_PER_UPLOAD = 100

CHOICES_CONFIG = """
<View>
  <Image name="image" value="$image"/>
  <Choices name="choice" toName="image" choice="single">
    {choices}
  </Choices>
</View>
"""


ESSENTIAL = (
    "label_studio/test_accept.py",
    "label_studio/test_annotations.py",
    "label_studio/test_connect.py",
    "label_studio/test_postgresql_and_redis.py",
    "label_studio/test_pre_annotations.py",
    "label_studio/test_queue.py",
    "browser/test_first_steps.py",
    "browser/test_label_pages.py",
    "browser/test_page_alone.py",
    "browser/test_sign_in.py",
)
"""Of the files that meet Label Studio, those that show each part at work. The others are `extended`."""
SERVICES = {"postgres", "redis_server", "s3_server", "cluster", "on_ray"}
"""Fixtures that start a server or a cluster."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark what rests on arithmetic, what starts servers, what is extended, and what keeps its order within a module.

    After they were shuffled, the files that meet a Label Studio come first: they take minutes, and in the end no
    process waits for the last of them.
    """
    tests = Path(__file__).parent
    for item in items:
        file = item.path.relative_to(tests).as_posix()
        folder = file.partition("/")[0]
        if folder in ("unit", "contract"):
            if hasattr(getattr(item, "module", None), "np"):
                item.add_marker(pytest.mark.numbers)
            if SERVICES & set(getattr(item, "fixturenames", ())):
                item.add_marker(pytest.mark.services)
        else:
            # The tests of such a module share one project of a real Label Studio; modules come in any order.
            item.add_marker(pytest.mark.random_order(disabled=True))
            if file not in ESSENTIAL:
                item.add_marker(pytest.mark.extended)
    yield
    items.sort(key=lambda item: item.path.relative_to(tests).parts[0] in ("unit", "contract"))


def choices_config(classes: Sequence[str]) -> str:
    """Return a labeling config with one single choice among ``classes``."""
    return CHOICES_CONFIG.format(choices="\n    ".join(f'<Choice value="{name}"/>' for name in classes))


def choice(label: str) -> list[dict[str, Any]]:
    """Return the result of an annotation that picks one class in ``choices_config``."""
    return [{"from_name": "choice", "to_name": "image", "type": "choices", "value": {"choices": [label]}}]


@dataclass(frozen=True)
class Project:
    """A project in the test's Label Studio; ``labels[task id]`` is the true class of a task's digit."""

    id: int
    task_ids: tuple[int, ...]
    labels: dict[int, str]


class LabelStudio:
    """The test session's real Label Studio, and the few things that every test of it does."""

    def __init__(self, server: LabelStudioServer) -> None:
        self.server = server
        self.made: list[int] = []
        """The projects that tests have made and not ended."""
        self.url = server.url
        self.token = server.credentials.token
        self.username = server.credentials.username
        self.password = server.credentials.password
        self.client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Token {self.token}"},
            timeout=120.0,
            trust_env=False,
        )

    def api(self, method: str, path: str, **request: Any) -> Any:
        """Return the decoded JSON answer of an API call; a refusal fails the test with Label Studio's words."""
        answer = self.client.request(method, path, **request)
        # An error of Label Studio's own is a page of HTML; the reason stands in its log.
        reason = self.server.log_tail(40) if answer.is_server_error else answer.text[:500]
        assert answer.is_success, f"{method} {path}: HTTP {answer.status_code}: {reason}"
        return answer.json() if answer.content else None

    def create_project(self, title: str, label_config: str | None = None) -> int:
        """Create an empty project, for the ten digits unless ``label_config`` says otherwise."""
        config = label_config or choices_config("0123456789")
        made = int(self.api("POST", "/api/projects/", json={"title": title, "label_config": config})["id"])
        self.made.append(made)
        return made

    def end_projects(self, ids: Sequence[int]) -> None:
        """Delete projects that no test needs any more: a backend compares all there are, and cleans up in each."""
        for project in ids:
            self.client.delete(f"/api/projects/{project}/")  # a test may have deleted it
            self.made.remove(project)

    def upload(self, project: int, images: Sequence[Path]) -> list[int]:
        """Upload image files as tasks and return the task ids in the order of ``images``."""
        task_ids: list[int] = []
        for start in range(0, len(images), FILES_PER_UPLOAD):
            batch = images[start : start + FILES_PER_UPLOAD]
            with ExitStack() as opened:
                files = [
                    (f"file{number}", (path.name, opened.enter_context(path.open("rb")), "image/png"))
                    for number, path in enumerate(batch)
                ]
                answer = self.api(
                    "POST", f"/api/projects/{project}/import", params={"return_task_ids": "true"}, files=files
                )
            ids = [int(task) for task in answer["task_ids"]]
            assert len(ids) == len(batch), f"Label Studio made {len(ids)} tasks of {len(batch)} files"
            task_ids += self._in_upload_order(project, ids, batch)
        return task_ids

    def tasks(self, project: int, fields: str = "all") -> list[dict[str, Any]]:
        """Return the project's tasks, with their annotations and predictions unless ``fields`` says otherwise."""
        found: list[dict[str, Any]] = []
        while True:
            page = {"project": project, "page": len(found) // 200 + 1, "page_size": 200, "fields": fields}
            answer = self.api("GET", "/api/tasks/", params=page)
            found += answer["tasks"]
            if len(found) >= answer["total"]:
                return found

    def predictions(self, project: int, version: str) -> dict[int, dict[str, Any]]:
        """Return the prediction of one version by task, for the tasks that have one."""
        return {
            int(task["id"]): prediction
            for task in self.tasks(project)
            for prediction in task["predictions"]
            if prediction["model_version"] == version
        }

    def prediction(self, task: int, version: str) -> dict[str, Any] | None:
        """Return one task's prediction of one version, which costs a hundredth of `predictions`."""
        found = self.api("GET", f"/api/tasks/{task}/")["predictions"]
        return next((one for one in found if one["model_version"] == version), None)

    def digits_project(
        self, digits: Dataset, count: int, title: str = "digits", label_config: str | None = None
    ) -> Project:
        """Create a project holding the first ``count`` digit crops as uploaded image files."""
        assert digits.labels is not None
        project = self.create_project(title, label_config)
        task_ids = self.upload(project, digits.images[:count])
        return Project(project, tuple(task_ids), dict(zip(task_ids, digits.labels, strict=False)))

    def annotate(self, task: int, label: str, **fields: Any) -> int:
        """Submit a finished annotation as the label form does and return its id."""
        body = {"result": choice(label), "lead_time": 1.0, **fields}
        return int(self.api("POST", f"/api/tasks/{task}/annotations/", json=body)["id"])

    def next_task(self, project: int) -> int | None:
        """Return the task that *Label All Tasks* shows next, or None when the label stream has ended."""
        answer = self.client.get(f"/api/projects/{project}/next/")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        assert answer.is_success, answer.text[:500]
        return int(answer.json()["id"])

    def _in_upload_order(self, project: int, ids: Sequence[int], batch: Sequence[Path]) -> list[int]:
        # Stored under a random prefix: /data/upload/<project>/<8 hex>-<name>.
        wanted = set(ids)
        by_name = {
            str(next(iter(task["data"].values()))).rsplit("/", 1)[-1].split("-", 1)[1]: int(task["id"])
            for task in self.tasks(project, fields="task_only")
            if task["id"] in wanted
        }
        return [by_name[path.name] for path in batch]


RUNNING = pytest.StashKey[LabelStudio]()
"""The Label Studio of this test session, once a test has needed one."""


@contextmanager
def own_label_studio(
    folder: Path, executable: Path | None, settings: Mapping[str, str] | None = None
) -> Iterator[LabelStudio]:
    """Run a Label Studio with fresh data in this folder, on a free port, ended with the block.

    Args:
        folder: for its files, and its database unless the settings name another.
        executable: an installed `label-studio`; the newest tested one is installed if None.
        settings: environment variables of its own.
    """
    executable = executable or install(environment_in(CACHE))
    if settings is None:
        start_with_tables(folder, executable)
    with LabelStudioServer(folder, executable=executable, extra_environment=settings) as server:
        label_studio = LabelStudio(server)
        yield label_studio
        label_studio.client.close()


@pytest.fixture(scope="session")
def label_studio_executable() -> Path | None:
    """The `label-studio` that EVERYLABEL_TEST_LABEL_STUDIO names; None to install one."""
    named = os.environ.get("EVERYLABEL_TEST_LABEL_STUDIO")
    return Path(named) if named else None


@pytest.fixture(scope="session")
def label_studio(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    label_studio_executable: Path | None,
) -> Iterator[LabelStudio]:
    """A Label Studio of this test session alone: fresh data, a free port, ended with the session."""
    database = os.environ.get("EVERYLABEL_TEST_LABEL_STUDIO_DATABASE", "sqlite")
    assert database in DATABASES, f"EVERYLABEL_TEST_LABEL_STUDIO_DATABASE is {database!r}, not {DATABASES}"
    settings = None
    if database == "postgresql":
        settings = postgresql_settings(request.getfixturevalue("postgres"))
    folder = tmp_path_factory.mktemp("label-studio")
    with own_label_studio(folder, label_studio_executable, settings) as label_studio:
        request.config.stash[RUNNING] = label_studio
        yield label_studio


@pytest.fixture(scope="module", autouse=True)
def _projects_end_with_their_file(request: pytest.FixtureRequest) -> Iterator[None]:
    """Delete a file's projects after its last test, if there is a Label Studio: later ones need not wait for them."""
    yield
    label_studio = request.config.stash.get(RUNNING, None)
    if label_studio is not None:
        label_studio.end_projects([*label_studio.made])


@pytest.fixture(scope="session")
def everylabel_backend(
    label_studio: LabelStudio, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EveryLabel]:
    """The real `everylabel serve` beside that Label Studio, with a memory of its own."""
    backend = EveryLabel(label_studio.url, label_studio.token, tmp_path_factory.mktemp("everylabel"))
    backend.start()
    yield backend
    backend.stop()


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """All 1,797 digit crops as PNG files, with their true labels."""
    return datasets.load("digits", CACHE / "data")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of this test session alone; without one the test is skipped, or fails where CI=true."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """A Redis of this test session alone; without one the test is skipped, or fails where CI=true."""
    server = Redis()
    yield server
    server.close()


@pytest.fixture(scope="session")
def chromium() -> Path:
    """Where Chromium is; without one the test is skipped, or fails where CI=true."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(CHROMIUM_MISSING, pytrace=False)
        pytest.skip(CHROMIUM_MISSING)
    return Path(found)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    """An S3 for all tests."""
    server = S3()
    yield server
    server.close()
