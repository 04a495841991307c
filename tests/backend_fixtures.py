"""What tests of the backend share: a real store, real crops, the real encoder and a real trainer thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from everylabel.backend.bootstrap import Backend, build
from everylabel.backend.ml_backend import ActiveLearningBackend
from everylabel.backend.settings import Settings
from everylabel.model import encoders
from everylabel.model.encoders import Encoder
from tests.stand_in_label_studio import CLASSES, TOKEN, StandIn, data_uri, png


@pytest.fixture(scope="session")
def digit_crops() -> list[tuple[str, str]]:
    """240 digits 0 to 3 as (data: URI, class), well mixed."""
    digits = load_digits(n_class=len(CLASSES))
    found = zip(digits.images[:240], digits.target[:240], strict=True)
    return [(data_uri(png(pixels)), CLASSES[int(target)]) for pixels, target in found]


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The default encoder, loaded once for all tests; it remembers the crops it has seen."""
    encoder = encoders.create("efficientnet-lite0", device="cpu")
    encode, seen = encoder.encode, dict[bytes, NDArray[Any]]()

    def remembering(crops: NDArray[np.uint8]) -> NDArray[Any]:
        keys = [crop.tobytes() for crop in crops]
        new = list({key: i for i, key in enumerate(keys) if key not in seen}.items())
        seen.update(zip((key for key, _ in new), encode(crops[[i for _, i in new]]), strict=True))
        return np.stack([seen[key] for key in keys])

    encoder.encode = remembering  # type: ignore[method-assign]
    encoder.encode_all = lambda batches: map(remembering, batches)  # type: ignore[method-assign]
    return encoder


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    server = StandIn()
    yield server
    server.close()


@pytest.fixture
def make_services(tmp_path: Path, stand_in: StandIn, encoder: Encoder) -> Iterator[Callable[..., Backend]]:
    """Makes backends on one MODEL_DIR, as a restart does; settings and the encoder may be given."""
    made: list[Backend] = []

    def make(**changes: Any) -> Backend:
        clock = changes.pop("clock", time.time)
        own_encoder = changes.pop("encoder_object", encoder)
        make_executor = changes.pop("make_executor", None)
        settings = Settings(
            **{
                "model_dir": tmp_path / "state",
                "label_studio_url": stand_in.url,
                "label_studio_api_key": TOKEN,
                "coalesce_seconds": 0.0,
                "predict_seconds": 20.0,
                "download_threads": 2,
                **changes,
            }
        )
        services = build(settings, clock, encoder=own_encoder, make_executor=make_executor)
        made.append(services)
        return services

    yield make
    for services in made:
        services.heartbeat.stop()
        services.store.close()


@pytest.fixture
def services(make_services: Callable[..., Backend]) -> Backend:
    return make_services()


@pytest.fixture
def trainer(services: Backend) -> Iterator[None]:
    """The trainer of `services`, in threads of this process."""
    stop = services.jobs.start_trainer_thread()
    yield
    stop()


@pytest.fixture
def wait() -> Callable[[Callable[[], bool]], None]:
    """Waits until something is so; fails after 60 seconds."""

    def until(so: Callable[[], bool]) -> None:
        limit = time.monotonic() + 60
        while not so():
            assert time.monotonic() < limit, "it never came to be"
            time.sleep(0.01)

    return until


@pytest.fixture
def project(stand_in: StandIn, services: Backend, digit_crops: list[tuple[str, str]]) -> dict[int, str]:
    """Project 1 with 40 embedded digits, connected; true class by task id."""
    stand_in.add_project(1)
    ids = stand_in.add_tasks(1, *(image for image, _ in digit_crops[:40]))
    services.store.save_project(1, connected=True)
    services.loop.catch_up(1)
    return dict(zip(ids, (label for _, label in digit_crops[:40]), strict=True))


@pytest.fixture
def send(services: Backend) -> Callable[[dict[str, Any]], object]:
    """A webhook as /webhook takes it in."""
    return lambda body: ActiveLearningBackend(body["project"]["id"], parts=services).fit(body["action"], body)


@pytest.fixture
def teach(
    stand_in: StandIn,
    services: Backend,
    project: dict[int, str],
    send: Callable[[dict[str, Any]], object],
) -> Callable[[int], None]:
    """Label so many crops of project 1 as what they are, and run a round."""

    def label(count: int) -> None:
        for task in list(project)[:count]:
            send(stand_in.annotate(task, project[task]))
        services.loop.catch_up(1)

    return label
