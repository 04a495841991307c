"""The backend's fixtures."""

from tests.backend_fixtures import (  # noqa: F401
    digit_crops,
    encoder,
    make_services,
    project,
    send,
    services,
    stand_in,
    teach,
    trainer,
    wait,
)
