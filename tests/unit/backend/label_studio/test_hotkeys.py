"""Enter submits, and a person's other hotkeys stay."""

import httpx
import pytest

from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.label_studio.hotkeys import SUBMIT, submit_with_enter, submits_with_enter

SKIP = {"annotation:annotation:skip": {"key": "s", "active": True}}


@pytest.fixture
def label_studio():
    kept = {"custom_hotkeys": dict(SKIP)}

    def answer(request):
        assert request.url.path == "/api/current-user/hotkeys/"
        if request.method == "PATCH":
            kept["custom_hotkeys"] = httpx.Response(200, content=request.content).json()["custom_hotkeys"]
        return httpx.Response(200, json=kept)

    return LabelStudio("http://ls", "0" * 40, transport=httpx.MockTransport(answer))


def test_enter_submits_and_the_other_hotkeys_stay(label_studio):
    assert not submits_with_enter(label_studio.hotkeys())
    assert submit_with_enter(label_studio)
    held = label_studio.hotkeys()
    assert submits_with_enter(held)
    assert "ctrl+enter" in held.pop(SUBMIT)["key"]
    assert held == SKIP


def test_a_label_studio_that_has_no_hotkeys_says_so():
    old = httpx.MockTransport(lambda request: httpx.Response(404, json={}))
    assert not submit_with_enter(LabelStudio("http://ls", "0" * 40, transport=old))
