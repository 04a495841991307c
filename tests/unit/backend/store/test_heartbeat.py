"""The trainer's sign of life goes on, whatever the disk says."""

from __future__ import annotations

import pytest

from everylabel.backend.store.heartbeat import Heartbeat


@pytest.mark.parametrize("refused", ["pathlib.Path.write_text", "os.utime"])
def test_a_disk_that_takes_nothing_does_not_end_it(tmp_path, monkeypatch, refused):
    heartbeat = Heartbeat(tmp_path / "beat")
    heartbeat._write({"a": 1.0})

    def read_only(*_, **__):
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.write_text", read_only)
        patched.setattr(refused, read_only)
        heartbeat._write({"a": 2.0})
    assert heartbeat.alive()
    assert heartbeat.figures() == {"a": 1.0}
    heartbeat._write({"a": 3.0})
    assert heartbeat.figures() == {"a": 3.0}
