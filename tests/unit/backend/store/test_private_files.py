"""What the backend keeps on disk is its owner's alone."""

from __future__ import annotations

import os

from everylabel.backend.store.private_files import OTHERS


def modes(folder):
    return {
        str(path.relative_to(folder)): path.stat().st_mode & OTHERS
        for path in [folder, *folder.rglob("*")]
        if not path.is_symlink()
    }


def test_databases_and_everything_beside_them_is_private(make_services):
    before = os.umask(0o022)
    try:
        folder = make_services().settings.model_dir
        found = modes(folder)
    finally:
        os.umask(before)
    assert {"everylabel.db", "everylabel-inbox.db", "jobs.db"} <= found.keys()
    assert set(found.values()) == {0}


def test_what_an_earlier_version_left_open_is_closed(make_services, tmp_path):
    folder = tmp_path / "state"
    (folder / "projects" / "1").mkdir(parents=True)
    (folder / "projects" / "1" / "model.npz").write_bytes(b"x")
    (folder / "away").symlink_to(tmp_path / "elsewhere")
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
    make_services()
    assert set(modes(folder).values()) == {0}
