"""Commands start at once: what takes seconds to import is imported where it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from everylabel.backend.bootstrap import build
from everylabel.backend.settings import Settings
from everylabel.scripts.cli import COMMANDS, HIDDEN, app

SLOW = (
    "torch",
    "sklearn",
    "scipy",
    "label_studio_sdk",
    "onnxruntime",
    "pandas",
    "cv2",
    "cleanlab",
    "matplotlib",
)

# Runs a command in this process; prints, as JSON, what it exited with and which slow modules it has imported.
RUN = f"""
import json, sys
from everylabel.scripts.cli import app
found = {{}}
for arguments in json.loads(sys.argv[1]):
    try:
        app(arguments)
    except SystemExit as left:
        found[arguments[0]] = [left.code, [name for name in {SLOW!r} if name in sys.modules]]
print(json.dumps(found), file=sys.stderr)
"""

ENTERED_BY_A_REQUEST = """
import json, sys
import everylabel.backend.ml_backend
before = set(sys.modules)
from everylabel.backend.label_studio import label_config
from everylabel.backend.bootstrap import Backend, build
from everylabel.backend.settings import Settings
services = build(Settings())
label_config.parse(sys.argv[1])
services.rounds, services.publisher, services.reader
from everylabel.backend.rounds.models import make_classifier
from everylabel.backend.rounds.labels import weigh_disagreements
weigh_disagreements([], {}, None, None)
services.files(1).predictions("none")
print(json.dumps([name for name in sys.modules if name not in before]), file=sys.stderr)
"""


def _in_a_process(script: str, argument: str, folder: Path) -> object:
    done = subprocess.run(
        [sys.executable, "-c", script, argument],
        env={**os.environ, "MODEL_DIR": str(folder), "LABEL_STUDIO_API_KEY": "none"},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return json.loads(done.stderr.splitlines()[-1])


def test_the_help_of_no_command_waits_for_a_slow_import(tmp_path: Path) -> None:
    names = [*COMMANDS, *HIDDEN]

    found = _in_a_process(RUN, json.dumps([[name, "--help"] for name in names]), tmp_path)

    assert found == {name: [0, []] for name in names}


CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="class" toName="image">'
    '<Choice value="cat"/><Choice value="dog"/></Choices></View>'
)


@pytest.mark.parametrize("arguments", [["rounds", "--project", "1"], ["status", "--project", "1"]])
def test_looking_at_the_store_loads_no_model(arguments: list[str], tmp_path: Path) -> None:
    settings = Settings(model_dir=tmp_path, label_studio_api_key="none")  # type: ignore[arg-type]
    build(settings).store.save_project(1, connected=True, label_config=CONFIG)

    found = _in_a_process(RUN, json.dumps([arguments]), tmp_path)

    # A labeling config is read by Label Studio's SDK.
    read = ["label_studio_sdk"] if arguments[0] == "status" else []
    assert found == {arguments[0]: [0 if arguments[0] == "status" else 1, read]}


@pytest.mark.parametrize(
    ("typed", "says"), [("statsu", "Did you mean 'status'?"), ("zzz", "No such command 'zzz'.")]
)
def test_an_unknown_command_names_the_near_one(typed: str, says: str) -> None:
    outcome = CliRunner().invoke(app, [typed])

    assert outcome.exit_code == 2
    assert says in outcome.output
    assert ("mean" in outcome.output) == ("mean" in says)


def test_no_request_waits_for_a_slow_import(tmp_path: Path) -> None:
    imported = _in_a_process(ENTERED_BY_A_REQUEST, CONFIG, tmp_path)

    assert isinstance(imported, list)
    slow = [
        name for name in imported if name.partition(".")[0] in SLOW or name.startswith("everylabel.model")
    ]
    assert slow == []
