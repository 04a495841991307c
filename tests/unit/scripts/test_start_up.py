"""Commands start at once: what takes long to import is imported where it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

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
"""What takes most of a second and more."""
HEAVY = (
    *SLOW,
    "numpy",
    "PIL",
    "sqlalchemy",
    "pydantic_settings",
    "httpx",
    "flask",
    "prometheus_client",
    "huey",
)
"""What takes a tenth of a second and more; Typer itself imports pydantic."""

# Runs commands in this process; prints, as JSON, what each exited with, and all modules imported by then.
RUN = """
import json, sys
from everylabel.scripts.cli import app
found = {}
for arguments in json.loads(sys.argv[1]):
    try:
        app(arguments)
    except SystemExit as left:
        found[arguments[0]] = [left.code, sorted(sys.modules)]
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


def _in_a_process(script: str, argument: str, folder: Path, **environment: str) -> object:
    done = subprocess.run(
        [sys.executable, "-c", script, argument],
        env={**os.environ, "MODEL_DIR": str(folder), "LABEL_STUDIO_API_KEY": "none", **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return json.loads(done.stderr.splitlines()[-1])


def run(arguments: list[list[str]], folder: Path, **environment: str) -> dict[str, tuple[int, set[str]]]:
    """What each command exited with, and which modules were imported by then."""
    found = _in_a_process(RUN, json.dumps(arguments), folder, **environment)
    assert isinstance(found, dict)
    return {name: (code, set(modules)) for name, (code, modules) in found.items()}


def test_the_help_of_a_command_imports_its_options_alone(tmp_path: Path) -> None:
    names = [*COMMANDS, *HIDDEN]

    found = run([[name, "--help"] for name in names], tmp_path)

    assert {name: code for name, (code, _) in found.items()} == dict.fromkeys(names, 0)
    imported = set().union(*(modules for _, modules in found.values()))
    assert imported & {*HEAVY} == set()
    assert {name for name in imported if name.startswith("everylabel.scripts.commands")} == set()
    assert {
        "everylabel.backend.bootstrap",
        "everylabel.backend.store",
        "everylabel.backend.settings",
    } & imported == set()


@pytest.mark.parametrize("command", ["rounds", "status", "doctor"])
def test_a_look_at_a_project_loads_no_model(command, stand_in, services, project) -> None:
    ((code, imported),) = run(
        [[command, "--project", "1"]],
        services.settings.model_dir,
        LABEL_STUDIO_URL=stand_in.url,
        LABEL_STUDIO_API_KEY=services.settings.label_studio_api_key.get_secret_value(),
    ).values()

    # Label Studio's SDK reads the labeling config, which has the classes, and knows the kinds of tokens.
    reads = set() if command == "rounds" else {"label_studio_sdk"}
    assert imported & {*SLOW} == reads
    assert code == (1 if command == "doctor" else 0), "no backend runs, which is a fault"


@pytest.mark.parametrize(
    ("typed", "says"), [("statsu", "Did you mean 'status'?"), ("zzz", "No such command 'zzz'.")]
)
def test_an_unknown_command_names_the_near_one(typed: str, says: str) -> None:
    outcome = CliRunner().invoke(app, [typed])

    assert outcome.exit_code == 2
    assert says in outcome.output
    assert ("mean" in outcome.output) == ("mean" in says)


CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="class" toName="image">'
    '<Choice value="cat"/><Choice value="dog"/></Choices></View>'
)


def test_no_request_waits_for_a_slow_import(tmp_path: Path) -> None:
    imported = _in_a_process(ENTERED_BY_A_REQUEST, CONFIG, tmp_path)

    assert isinstance(imported, list)
    slow = [
        name for name in imported if name.partition(".")[0] in SLOW or name.startswith("everylabel.model")
    ]
    assert slow == []
