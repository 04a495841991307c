"""Every test in this folder runs against a real Label Studio server, most of them with a real backend beside it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.everylabel_process import EveryLabel
from tests.measure.chaos import sign_up

if TYPE_CHECKING:
    from everylabel.scripts.replay.datasets import Dataset
    from tests.conftest import LabelStudio, Project

    Connected = Callable[..., Project]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.label_studio)


@pytest.fixture(scope="session")
def connected(label_studio: "LabelStudio", everylabel_backend: EveryLabel, digits: "Dataset") -> "Connected":
    """Make a project of digit crops that is connected to the backend: call it with a number of crops and a title."""

    def make(count: int, title: str, labels: int = 0) -> "Project":
        project = label_studio.digits_project(digits, count, title)
        for task in project.task_ids[:labels]:
            label_studio.annotate(task, project.labels[task])
        everylabel_backend.connect(project.id)
        return project

    return make


@pytest.fixture(scope="module")
def sign_in(label_studio: "LabelStudio") -> Iterator[Callable[..., list[httpx.Client]]]:
    """Make people with accounts of their own, given their names; each as a client that is signed in."""
    with ExitStack() as opened:

        def make(*names: str) -> list[httpx.Client]:
            headers = [{"Authorization": f"Token {token}"} for token in sign_up(label_studio, names)]
            return [
                opened.enter_context(
                    httpx.Client(base_url=label_studio.url, headers=own, timeout=60, trust_env=False)
                )
                for own in headers
            ]

        yield make


@pytest.fixture(scope="session")
def personal_access_token(label_studio: "LabelStudio") -> str:
    """A token as a person makes it under Account & Settings."""
    return str(label_studio.api("POST", "/api/token/")["token"])


@pytest.fixture(scope="session")
def guarded_backend(
    label_studio: "LabelStudio", personal_access_token: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EveryLabel]:
    """A second backend, with a password and a personal access token as on a network; tests may restart it."""
    home = tmp_path_factory.mktemp("guarded")
    password = {"basic_auth_user": "label-studio", "basic_auth_pass": "a: pass phrase"}
    backend = EveryLabel(label_studio.url, personal_access_token, home, **password)
    backend.start()
    yield backend
    backend.stop()
