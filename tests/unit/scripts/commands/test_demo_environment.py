"""The environment file that lets other commands reach what `everylabel demo` has started."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from everylabel.scripts.commands.demo import write_environment


def test_a_shell_reads_it_and_only_its_owner_can(tmp_path: Path) -> None:
    wanted = {"LABEL_STUDIO_API_KEY": "a'b $HOME", "MODEL_DIR": "/a folder/é"}
    path = tmp_path / "environment"
    path.write_text("of an earlier run, and longer than what is written now" * 10, encoding="utf-8")
    path.chmod(0o644)

    write_environment(wanted, path)

    tell = "import json, os; print(json.dumps(dict(os.environ)))"
    read = subprocess.run(
        ["/bin/sh", "-c", '. "$1" && exec "$2" -c "$3"', "sh", str(path), sys.executable, tell],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert wanted.items() <= json.loads(read.stdout).items()
    assert path.stat().st_mode & 0o777 == 0o600
