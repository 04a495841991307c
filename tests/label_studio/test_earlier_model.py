"""`connect --from`: a project in Label Studio begins with the model of an earlier one, in the terminal as a person would."""

from dataclasses import replace

import pytest


@pytest.fixture(scope="module")
def model(connected, everylabel_backend, tmp_path_factory):
    """The model of a project of 80 crops, 40 of them labelled."""
    earlier = connected(80, "earlier", labels=40)
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    done = everylabel_backend.command("export", "--project", str(earlier.id), "-o", str(path))
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def project(label_studio, digits):
    """80 other crops, without a label."""
    others = replace(digits, images=digits.images[80:160], labels=digits.labels[80:160])
    return label_studio.digits_project(others, 80, "begins with a model")


def test_a_project_without_a_label_comes_pre_filled_and_its_labels_are_mixed_in(
    label_studio, everylabel_backend, model, project
):
    done = everylabel_backend.command("connect", "--project", str(project.id), "--from", str(model))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Begins with model.onnx" in done.stdout
    first = everylabel_backend.round(project.id)
    assert (first.n_labels, first.earlier["share"]) == (0, 1)
    assert first.pre_annotated
    pushed = label_studio.predictions(project.id, first.model_version)
    right = [
        pushed[task]["result"][0]["value"]["choices"] == [project.labels[task]]
        for task in first.pre_annotated
    ]
    assert sum(right) >= 0.7 * len(right)
    assert label_studio.next_task(project.id) == first.queue[0]

    for _ in range(12):
        task = label_studio.next_task(project.id)
        number = everylabel_backend.number(project.id)
        label_studio.annotate(task, project.labels[task])
        everylabel_backend.wait_for_round(project.id, after=number)
    latest = everylabel_backend.round(project.id)
    assert latest.n_labels == 12
    assert 0 < latest.earlier["share"] < 1
    said = everylabel_backend.command("status", "--project", str(project.id), COLUMNS="300").stdout
    assert "in what is predicted: the labels are predicted better with it" in " ".join(said.split())


def test_forgotten_the_project_goes_on_with_its_own_labels(everylabel_backend, project):
    done = everylabel_backend.command("connect", "--project", str(project.id), "--from", "none")
    assert "model.onnx is forgotten" in done.stdout, done.stdout + done.stderr
    latest = everylabel_backend.round(project.id)
    assert latest.earlier is None
    assert latest.n_labels == 12
