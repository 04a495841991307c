"""A disk that takes nothing is told by every command in a line, and not by a traceback."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from everylabel.backend.bootstrap import Backend
from tests.backend_fixtures import encoder, make_services, services, stand_in  # noqa: F401
from tests.stand_in_label_studio import TOKEN, StandIn


def _no_byte_more() -> None:
    """Let every write to a file fail, as on a full disk; pipes take what they took."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@pytest.mark.parametrize(
    "command",
    [
        ["status", "--project", "1"],
        ["rollback", "--project", "1", "--newest"],
        ["doctor", "--project", "1"],
    ],
    ids=lambda command: command[0],
)
def test_a_full_disk_is_told_in_a_line_whatever_the_command(
    command: list[str],
    services: Backend,  # noqa: F811
    stand_in: StandIn,  # noqa: F811
) -> None:
    services.store.save_project(1, connected=True)
    services.store.close()
    done = subprocess.run(
        [sys.executable, "-m", "everylabel.scripts.cli", *command],
        env={
            **os.environ,
            "MODEL_DIR": str(services.settings.model_dir),
            "LABEL_STUDIO_URL": stand_in.url,
            "LABEL_STUDIO_API_KEY": TOKEN,
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        preexec_fn=_no_byte_more,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "accepts nothing at the moment" in done.stderr + done.stdout
