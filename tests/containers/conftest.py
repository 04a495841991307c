"""The compose file, started as it is: Label Studio and everylabel in containers, ended with the tests."""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from everylabel.scripts.local_label_studio.server import Credentials
from tests.conftest import CACHE, REPOSITORY, LabelStudio
from tests.containers.engine import Compose, Podman, require_engine
from tests.containers.images import make_images
from tests.everylabel_process import free_port, wait_until

COMPOSE_FILE = REPOSITORY / "docker-compose.yml"


@dataclass(frozen=True)
class Published:
    """A Label Studio as people reach it: its address and its first user."""

    url: str
    credentials: Credentials


@dataclass(frozen=True)
class Deployment:
    """What `docker compose up` has started."""

    podman: Podman
    compose: Compose
    label_studio: LabelStudio
    everylabel: httpx.Client

    def health(self) -> dict[str, str]:
        """What everylabel says of itself; nothing while it does not answer."""
        try:
            return dict(self.everylabel.get("/health").raise_for_status().json())
        except httpx.TransportError:
            return {}

    def wait_until_both_answer(self) -> None:
        """Wait until Label Studio answers, and everylabel with a trainer that lives."""
        wait_until(self._label_studio_answers, "Label Studio does not answer", 180)
        wait_until(lambda: self.health().get("trainer") == "alive", "everylabel's trainer does not live", 120)

    def _label_studio_answers(self) -> bool:
        try:
            return self.label_studio.client.get("/health").is_success
        except httpx.TransportError:
            return False


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    """The engine, with every image the compose file names."""
    require_engine()
    engine = Podman(Path(os.environ.get("EVERYLABEL_TEST_CONTAINER_STORAGE") or CACHE / "containers"))
    try:
        make_images(engine)
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="session")
def deployment(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Both containers, answering on ports of this machine that were free."""
    credentials = Credentials("annotator@example.com", secrets.token_urlsafe(16), secrets.token_hex(20))
    variables = {
        "LABEL_STUDIO_PORT": str(free_port()),
        "LABEL_STUDIO_USERNAME": credentials.username,
        "LABEL_STUDIO_PASSWORD": credentials.password,
        "LABEL_STUDIO_API_KEY": credentials.token,
        "EVERYLABEL_PORT": str(free_port()),
        "BASIC_AUTH_USER": "label-studio",
        "BASIC_AUTH_PASS": secrets.token_hex(20),
    }
    with podman.serving() as address:
        compose = Compose(COMPOSE_FILE, variables, address, tmp_path_factory.mktemp("compose"))
        up = compose.try_run("up", "--detach", "--no-build", "--pull", "never", seconds=600)
        if up.returncode != 0:
            logs = compose.try_run("logs", "--no-color", "--tail", "40")
            pytest.fail(f"docker compose up\n{up.stdout}\n{up.stderr}\n{logs.stdout}", pytrace=False)
        published = Published(f"http://127.0.0.1:{variables['LABEL_STUDIO_PORT']}", credentials)
        with httpx.Client(
            base_url=f"http://127.0.0.1:{variables['EVERYLABEL_PORT']}",
            auth=(variables["BASIC_AUTH_USER"], variables["BASIC_AUTH_PASS"]),
            timeout=30,
            trust_env=False,
        ) as everylabel:
            found = Deployment(podman, compose, LabelStudio(published), everylabel)
            found.wait_until_both_answer()
            yield found
        found.label_studio.client.close()
        compose.run("down", "--volumes", "--timeout", "10")
