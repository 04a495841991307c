"""The token of the page: one for all processes, and none that can be left out."""

from __future__ import annotations

import stat

import pytest

from everylabel.backend.app import create_app
from everylabel.backend.page_token import HEADER, PageToken
from everylabel.backend.store import StorageError


def test_every_process_has_the_same_token_in_a_file_of_its_owners(tmp_path):
    token = PageToken(tmp_path).value
    assert PageToken(tmp_path).value == token
    assert stat.S_IMODE((tmp_path / "page.token").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["page.token"]


@pytest.mark.parametrize("kept", [b"", b"short", b"\xff" * 64, b"0" * 63 + b"\n", b"0" * 65])
def test_what_a_crash_has_left_of_a_token_opens_nothing_and_is_made_anew(tmp_path, kept):
    (tmp_path / "page.token").write_bytes(kept)
    token = PageToken(tmp_path)
    assert not token.is_shown(None)
    assert not token.is_shown("")
    assert not token.is_shown(kept.decode("latin-1"))
    assert token.is_shown(PageToken(tmp_path).value)


def test_a_token_that_cannot_be_kept_is_told_with_the_way_out(tmp_path):
    (tmp_path / "page.token").mkdir()
    with pytest.raises(StorageError, match="cannot be kept"):
        PageToken(tmp_path).is_shown("0" * 64)


def test_a_route_that_writes_is_closed_while_its_token_is_empty(services):
    (services.settings.model_dir / "page.token").write_bytes(b"")
    client = create_app(services).test_client()
    for headers in ({}, {HEADER: ""}):
        assert client.post("/projects/1/label/undo", json={}, headers=headers).status_code == 403
