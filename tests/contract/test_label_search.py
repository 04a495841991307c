"""The search by words over the routes: who sees it, what is refused, and that no words make a 5xx."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.test_label_routes import BASE, Person, taught  # noqa: F401
from tests.contract.test_page import BROWSER
from tests.worded_encoder import COLOURS, Worded, coloured


def test_the_search_by_words_is_there_where_the_encoder_reads_them_and_for_those_who_are_signed_in(
    services,
    taught,  # noqa: F811
    monkeypatch,
):
    ann = Person(services, "anns-token")

    def shown(person):
        return 'id="search-words"' in person.client.get(BASE, headers=BROWSER).text

    assert not shown(ann)
    refused = ann.post("pages", kind="words", words="a rusty bolt")
    assert refused.status_code == 409
    assert "'efficientnet-lite0' has no text tower" in refused.json["error"]
    assert "rusty" not in refused.text
    monkeypatch.setattr(services.embeddings, "named", lambda _: Worded())
    monkeypatch.setattr("everylabel.model.encoders.names", tuple)
    assert shown(ann)
    assert not shown(Person(services))


@pytest.fixture
def searched(make_services, stand_in):
    """Ann's browser where the encoder reads words."""
    stand_in.people |= {"anns-token": 7}
    services = make_services(encoder="worded", encoder_object=Worded())
    stand_in.add_project(1)
    rng = np.random.default_rng(0)
    stand_in.add_tasks(1, *(coloured(name, rng) for name in [*COLOURS] * 12))
    services.store.save_project(1, connected=True)
    services.loop.catch_up(1)
    return Person(services, "anns-token")


def test_words_are_asked_for_in_the_body_and_are_in_no_answer(searched, caplog):
    caplog.set_level("DEBUG")
    given = searched.post("pages", kind="words", words="red, but secretly")
    page = given.json["page"]
    assert (page["kind"], page["class_name"], page["like"], len(page["crops"])) == ("words", None, None, 24)
    assert "secretly" not in given.text + caplog.text
    again = searched.post("pages", kind="words", words="red, but secretly", resume=page["id"]).json["page"]
    assert again == page


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"words": ""}, 409),
        ({"words": "   "}, 409),
        ({"words": None}, 409),
        ({}, 409),
        ({"words": "x" * 401}, 400),
        ({"words": ["red"]}, 400),
        ({"words": "\ud800"}, 400),
    ],
)
def test_words_that_are_none_are_refused(searched, body, status):
    refused = searched.post("pages", kind="words", **body)
    assert refused.status_code == status
    assert refused.json["error"]


def test_no_words_at_all_are_answered_with_a_5xx(searched):
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(words=st.text(max_size=420))
    def check(words):
        answer = searched.post("pages", kind="words", words=words)
        assert answer.status_code < 500, answer.text

    check()
