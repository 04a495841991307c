"""A certificate from its first look to the document, in a real Label Studio: served first, blind, marked, taken back."""

import json

import pytest

from everylabel.backend.label_studio.acceptance_mark import is_accepted, marked_versions
from everylabel.backend.label_studio.publisher import SPOT_CHECK
from everylabel.backend.rounds import certificates

LABELS = 30
ERROR = "25%"


@pytest.fixture(scope="module")
def project(connected):
    """100 crops, 30 of them labelled: a deletion costs Label Studio 150 ms."""
    return connected(100, "certified", labels=LABELS)


def run(backend, command, project, *options):
    said = backend.command(command, "--project", str(project.id), *options)
    assert said.returncode == 0, said.stderr
    return " ".join(said.stdout.split())


def under_way(backend, project):
    services = backend.services
    return certificates.read(services, project.id, services.store.certificate_under_way(project.id))


def annotations(label_studio, project):
    return {a["id"]: a for task in label_studio.tasks(project.id) for a in task["annotations"]}


def test_a_spot_check_is_served_first_and_blind_and_has_a_tab(label_studio, everylabel_backend, project):
    said = run(everylabel_backend, "accept", project, "--max-error", ERROR)
    assert "Certificate 1 has begun." in said
    asked = under_way(everylabel_backend, project).open_tasks
    served = label_studio.api("GET", f"/api/projects/{project.id}/next/")
    assert served["id"] == asked[0]
    version = label_studio.api("GET", f"/api/projects/{project.id}/")["model_version"]
    shown = [p for p in served["predictions"] if p["model_version"] == version]
    assert [p["result"] for p in shown] == [[]]
    tabs = label_studio.api("GET", f"/api/dm/views/?project={project.id}")
    (tab,) = [tab for tab in tabs if tab["data"]["title"] == SPOT_CHECK]
    found = label_studio.api("GET", "/api/tasks/", params={"view": tab["id"], "page_size": 100})
    assert {task["id"] for task in found["tasks"]} == {*asked}


def test_it_certifies_accepts_prints_and_is_taken_back_exactly(label_studio, everylabel_backend, project):
    services = everylabel_backend.services
    while services.store.certificate_under_way(project.id):
        check = under_way(everylabel_backend, project)
        position = check.frozen.tasks.tolist().index
        for task in check.open_tasks:
            label_studio.annotate(task, check.frozen.label(position(task)))
        said = run(everylabel_backend, "accept", project, "--max-error", ERROR)
    assert "Certificate 1: accepted: at most" in said
    held = annotations(label_studio, project)
    made = {id_ for id_, a in held.items() if is_accepted(a)}
    assert all(marked_versions(held[id_]["result"]) == {"accepted, certificate 1"} for id_ in made)
    record = services.store.certificates(project.id)[-1]
    assert not {held[id_]["task"] for id_ in made} & {*record.looks}, "people's labels are theirs"
    latest = services.store.latest_round(project.id)
    assert latest.n_labels == LABELS + record.result["looks_in_all"]

    document = json.loads(
        everylabel_backend.command("certificate", "--project", str(project.id), "--json").stdout
    )
    assert document["accepted"] == document["accepted_now"] == len(made) > 0
    assert document["wrong_at_most"] <= 0.25 * document["crops"]
    assert sum(document["checked_by"].values()) == record.result["looks_in_all"]

    assert f"Took back {len(made)} annotation" in run(
        everylabel_backend, "undo", project, "--certificate", "1"
    )
    assert annotations(label_studio, project).keys() == held.keys() - made
    assert "taken back" in run(everylabel_backend, "certificate", project)
