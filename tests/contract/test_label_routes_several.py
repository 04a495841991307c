"""The routes that people label by where a crop may have several classes: labels are lists of them, and no input makes a 5xx."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everylabel.backend.store.round_snapshot import SuspectedLabel
from tests.contract.test_label_routes import BASE, Person
from tests.contract.test_page import BROWSER
from tests.contract.test_routes import values
from tests.several_classes import NAMES, several  # noqa: F401


@pytest.fixture
def ann(services, several):  # noqa: F811
    return Person(services, "anns-token")


def test_a_page_is_labelled_from_sign_in_to_undo(services, ann):
    shown = ann.client.get(BASE, headers=BROWSER).text
    assert 'data-several="yes"' in shown
    assert 'id="hindrance"' not in shown
    found = ann.post("pages", kind="class", class_name="even").json
    assert (found["several"], found["classes"]) == (True, [*NAMES])
    page = found["page"]
    assert page["class_name"] == "even"
    assert all("even" in crop["label"] for crop in page["crops"])
    labels = {str(crop["task"]): crop["label"] for crop in page["crops"]}
    stored = ann.post(f"pages/{page['id']}/confirm", labels=labels, seconds=20).json
    assert (stored["confirmed"], stored["left_out"]) == (len(labels), 0)
    assert ann.post(f"pages/{page['id']}/confirm", labels={"1": 5}, seconds=1).status_code == 400
    assert ann.post(f"pages/{page['id']}/confirm", labels={}, seconds=1).json == stored, "sent twice"
    again = ann.post("undo").json["page"]
    assert {str(crop["task"]): crop["label"] for crop in again["crops"]} == labels
    assert ann.post("pages", kind="class", resume=again["id"]).json["page"] == again


def test_all_labels_that_are_shown_come_as_lists(services, ann, several, monkeypatch):  # noqa: F811
    seed = next(iter(several))
    page = ann.post("pages", kind="like", like=seed).json["page"]
    assert page["like"]["label"] == several[seed].split(" + ")
    assert {crop["label"] for crop in page["crops"]} == {None}
    suspected = (SuspectedLabel(seed, several[seed], "even + odd", 0.1),)
    found = replace(services.labelling.pool_files.snapshot(1), suspected=suspected)
    monkeypatch.setattr(services.labelling.pool_files, "snapshot", lambda _: found)
    (crop,) = ann.post("pages", kind="suspects").json["page"]["crops"]
    assert (crop["given"], crop["suggested"]) == (several[seed].split(" + "), ["even", "odd"])


@pytest.mark.parametrize(
    ("label", "status", "why"),
    [
        ("even", 409, "several classes a crop by now"),
        (["even", "nine"], 409, "no class 'nine' any more"),
        (["even + odd"], 409, "no class 'even + odd' any more"),
        ([], 400, "each class once, and at least one"),
        (["even", "even"], 400, "each class once, and at least one"),
        (["even", 1], 400, "no valid 'labels."),
        ([["even"]], 400, "no valid 'labels."),
        ({"even": True}, 400, "no valid 'labels."),
        (None, 400, "no valid 'labels."),
        (["x" * 5000], 400, "no valid 'labels."),
    ],
)
def test_only_a_list_of_classes_each_once_is_a_label(services, ann, label, status, why):
    page = ann.post("pages", kind="next-batch").json["page"]
    labels = {str(page["crops"][0]["task"]): label, str(page["crops"][1]["task"]): ["odd"]}
    refused = ann.post(f"pages/{page['id']}/confirm", labels=labels, seconds=9)
    assert (refused.status_code, services.store.labels_of_page(page["id"])) == (status, [])
    assert why in refused.json["error"]
    stored = ann.post(f"pages/{page['id']}/confirm", labels={}, seconds=9).json
    assert stored["confirmed"] == 0, "nothing was taken in before"


names = st.lists(st.sampled_from([*NAMES, "nine"]) | values, max_size=4)


def test_no_label_at_all_is_answered_with_a_5xx(services, ann):
    page = ann.post("pages", kind="next-batch").json["page"]
    tasks = st.sampled_from([str(crop["task"]) for crop in page["crops"]]) | st.text(max_size=4)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(labels=st.dictionaries(tasks, names | values) | values, seconds=st.floats() | values)
    def check(labels, seconds):
        answer = ann.client.post(
            f"{BASE}/pages/{page['id']}/confirm",
            data=json.dumps({"labels": labels, "seconds": seconds}),
            headers=ann.headers,
            content_type="application/json",
        )
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            assert answer.json["error"]

    check()
