"""What commands write for people, on a disk that is full or read-only: told in a line, and nothing half is left."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.own_mounts import OWN_MOUNTS, skip_if_nobody_may_mount
from tests.stand_in_label_studio import TOKEN

pytestmark = pytest.mark.extended

MOUNT = {
    "full": 'mount -t tmpfs -o size=64k tmpfs "$0" && ! cat /dev/zero > "$0/taken"',
    "read-only": 'mount -t tmpfs -o ro tmpfs "$0"',
}
"""Puts a disk on the folder that the script is called by, for the commands of the script alone."""
RUN = '; "$@"; ended=$?; find "$0" -type f ! -name taken ! -name lock; exit $ended'
"""Runs the command, then lists the files that are left on that disk."""
SAYS = {"full": "No space left on device", "read-only": "Read-only file system"}


@pytest.fixture(scope="module", autouse=True)
def _can_mount(tmp_path_factory):
    skip_if_nobody_may_mount(tmp_path_factory.mktemp("tried"))


@pytest.mark.parametrize("disk", MOUNT)
@pytest.mark.parametrize(
    ("command", "output"),
    [(["dataset"], "digits"), (["dataset", "--copy"], "digits"), (["export"], "digits.onnx")],
    ids=["dataset", "dataset --copy", "export"],
)
def test_it_is_told_in_a_line(command, output, disk, stand_in, services, project, teach, tmp_path):
    teach(16)
    folder = tmp_path / "disk"
    folder.mkdir()
    everylabel = [sys.executable, "-m", "everylabel.scripts.cli", *command]
    done = subprocess.run(
        [
            *(*OWN_MOUNTS, "sh", "-c", MOUNT[disk] + RUN, str(folder)),
            *(*everylabel, "--project", "1", "--output", str(folder / output)),
        ],
        env={
            **os.environ,
            "MODEL_DIR": str(services.settings.model_dir),
            "LABEL_STUDIO_URL": stand_in.url,
            "LABEL_STUDIO_API_KEY": TOKEN,
            "COLUMNS": "200",
        },
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr[-1500:]
    assert SAYS[disk] in done.stderr
    assert str(folder) not in done.stdout, "a file is left"
