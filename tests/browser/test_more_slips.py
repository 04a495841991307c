"""More slips: a label emptied by *Update*, a skip taken back, and a while without the backend. No label is lost."""

import re

import pytest
from playwright.sync_api import expect

from everylabel.scripts.commands.doctor import examine
from everylabel.scripts.image_projects import label_config
from tests.browser.conftest import CHOSEN, demo_choice, given, open_tab
from tests.browser.test_slips import Annotator
from tests.everylabel_process import EveryLabel

pytestmark = pytest.mark.timeout(900)

LABELS = 40
SKIP_WITH_S = {"annotation:annotation:skip": {"key": "s", "active": True}}
UPDATE = "bottombar-update-button"


@pytest.fixture(scope="module")
def project(label_studio, everylabel_backend, digits):
    """120 crops whose config lets an empty annotation through, connected with `--hotkeys` by the command itself."""
    config = re.sub(r' required\w*="[^"]*"', "", label_config(digits.classes))
    made = label_studio.digits_project(digits, 120, "more slips", config)
    for task in made.task_ids[:LABELS]:
        truth = made.labels[task]
        wrong = str(9 - int(truth)) if task in made.task_ids[:3] else truth
        label_studio.annotate(task, wrong, result=demo_choice(wrong))
    # The command has a low priority, and on a busy machine it would embed for minutes.
    everylabel_backend.connect(made.id)
    client = everylabel_backend.services.label_studio
    before = client.hotkeys()
    client.save_hotkeys(SKIP_WITH_S)
    try:
        said = everylabel_backend.command("connect", "--project", str(made.id), "--hotkeys", seconds=600)
        assert said.returncode == 0, said.stderr
        assert "Enter submits now" in said.stdout
        yield made
    finally:
        client.save_hotkeys(before or {})


def problems(backend, project):
    found = examine(backend.services, project.id)
    return {finding.check: finding.problem for finding in found if finding.problem}


def test_the_key_that_connect_has_set_submits_and_a_person_s_own_key_skips(
    form, label_studio, everylabel_backend, project
):
    latest = everylabel_backend.round(project.id)
    form.open_stream(project.id)
    task = form.wait_for_task()
    form.choose(project.labels[task])
    form.page.keyboard.press("Enter")
    following = form.wait_for_next(task)
    assert given(label_studio, task) == [[project.labels[task]]]
    form.page.keyboard.press("s")
    form.wait_for_next(following)
    (skipped,) = label_studio.api("GET", f"/api/tasks/{following}/")["annotations"]
    assert skipped["was_cancelled"]
    everylabel_backend.wait_for_round(project.id, labels=latest.n_labels + 1)


def test_a_suspected_label_that_update_empties_is_no_review_and_waits_with_the_label_it_had(
    form, label_studio, everylabel_backend, project
):
    before = everylabel_backend.round(project.id)
    task = before.suspected[0]
    ((label,),) = given(label_studio, task)
    open_suspect(form, project, task)
    form.page.wait_for_function(CHOSEN, arg=label)
    form.page.keyboard.press(label)  # meant to confirm it, and takes it back
    form.page.wait_for_function(f"name => !({CHOSEN})(name)", arg=label)
    update(form)
    assert given(label_studio, task) == [[]]

    emptied = everylabel_backend.wait_for_round(project.id, labels=before.n_labels - 1)
    assert emptied.emptied == (task,)
    assert task not in emptied.confirmed
    assert task not in {*emptied.queue, *emptied.pre_annotated, *emptied.reserve}
    assert label_studio.next_task(project.id) == emptied.queue[0]
    waits = f"task {task} (was {label})"
    told = problems(everylabel_backend, project)
    assert waits in told["Annotations"]
    assert "Label stream" not in told
    assert waits in everylabel_backend.command("status", "--project", str(project.id)).stdout
    form.page.goto(f"{everylabel_backend.settings.public_url}/projects/{project.id}")
    expect(form.page.locator("main")).to_contain_text(waits)

    open_suspect(form, project, task)  # it is in the tab still
    form.page.locator(".lsf-annotation-button", has_text=emptied.model_version).wait_for()
    form.page.keyboard.press(label)
    form.page.wait_for_function(CHOSEN, arg=label)
    update(form)
    again = everylabel_backend.wait_for_round(project.id, after=emptied.number, labels=before.n_labels)
    assert again.emptied == ()
    assert "Annotations" not in problems(everylabel_backend, project)
    assert everylabel_backend.labels(project.id)[task] == label


def test_a_skip_that_is_taken_back_is_labelled_once_and_counts_as_a_skip_no_longer(
    form, label_studio, everylabel_backend, project
):
    before = everylabel_backend.round(project.id)
    skips = len(skipped(everylabel_backend, project))
    form.open_stream(project.id)
    task = form.wait_for_task()
    form.page.keyboard.press("s")
    following = form.wait_for_next(task)
    after = everylabel_backend.wait_for_round(project.id, after=before.number)
    assert task in skipped(everylabel_backend, project)
    assert task not in {*after.queue, *after.pre_annotated, *after.reserve}

    form.page.get_by_test_id("prev-task").click()
    assert form.wait_for_next(following) == task
    form.page.get_by_test_id("bottombar-unskip-button").click()
    form.page.get_by_test_id("bottombar-submit-button").wait_for()
    form.choose(project.labels[task])
    form.page.keyboard.press("Enter")
    form.wait_for_next(task)
    assert given(label_studio, task) == [[project.labels[task]]]
    latest = everylabel_backend.wait_for_round(project.id, after=after.number, labels=before.n_labels + 1)
    assert everylabel_backend.labels(project.id)[task] == project.labels[task]
    assert len(skipped(everylabel_backend, project)) == skips
    assert task not in {*latest.queue, *latest.pre_annotated, *latest.reserve}
    assert "Label stream" not in problems(everylabel_backend, project)


def open_suspect(form, project, task):
    """Open a crop by its row in the tab *Suspect labels*."""
    form.page.goto(f"/projects/{project.id}/data")
    open_tab(form.page, "Suspect labels")
    form.page.locator(".lsf-table__row-wrapper").get_by_text(str(task), exact=True).first.click()
    assert form.wait_for_task() == task
    form.page.get_by_test_id(UPDATE).wait_for()


def update(form):
    """Press Enter, which is *Update* on a crop that has an annotation."""
    with form.updating():
        form.page.keyboard.press("Enter")


def skipped(backend, project):
    return {a.task_id for a in backend.services.store.annotations(project.id) if a.cancelled}


@pytest.mark.usefixtures("enter")
def test_slips_while_the_backend_is_down_lose_no_label_and_the_loop_goes_on(
    form, label_studio, digits, tmp_path
):
    backend = EveryLabel(label_studio.url, label_studio.token, tmp_path)
    backend.start()
    try:
        project = label_studio.digits_project(digits, 60, "nobody at home", label_config(digits.classes))
        before = {task: project.labels[task] for task in project.task_ids[:6]}
        for task, label in before.items():
            label_studio.annotate(task, label, result=demo_choice(label))
        backend.connect(project.id)
        hand = Annotator(form, project.labels)
        form.open_stream(project.id)
        task = form.wait_for_task()
        latest = backend.wait_for_round(project.id, labels=len(before))
        backend.stop()
        for slip in (
            hand.no_slip,
            hand.double_enter,
            hand.skip,
            hand.wrong_key_then_back_and_the_right_one,
            hand.key_twice,
            hand.double_click,
            hand.reload_in_the_middle,
            hand.no_slip,
        ):
            hand.label(task, slip)
            task = form.wait_for_next(task)
        shown = [*latest.queue, *latest.pre_annotated, *latest.reserve]
        served = [*dict.fromkeys(one.task for one in hand.served)]
        assert served == shown[: len(served)]
        assert {*served} & {*latest.reserve}, "more than the batch was served"
        check_annotations(label_studio, project, {**before, **hand.meant}, hand.skipped)

        backend.start()
        labels = {**before, **hand.meant}
        back = backend.wait_for_round(project.id, after=latest.number, labels=len(labels))
        assert backend.labels(project.id) == labels
        assert not {*served[:-1]} & {*back.queue, *back.pre_annotated, *back.reserve}
        hand.label(task, hand.no_slip)  # the crop that was open meanwhile
        following = form.wait_for_next(task)
        newer = backend.wait_for_round(project.id, labels=len(labels) + 1)
        assert following not in served
        assert hand.served[-1].version in {f"round {n}" for n in range(back.number, newer.number + 1)}
        assert backend.labels(project.id) == {**before, **hand.meant}
        check_annotations(label_studio, project, {**before, **hand.meant}, hand.skipped)
    finally:
        backend.stop()


def check_annotations(label_studio, project, meant, skipped):
    """Check that each label that was meant is there once, each skip is one, and nothing else was annotated."""
    made = {task["id"]: task["annotations"] for task in label_studio.tasks(project.id)}
    found = {
        task: [None if one["was_cancelled"] else one["result"][0]["value"]["choices"] for one in annotations]
        for task, annotations in made.items()
        if annotations
    }
    assert found == {task: [[label]] for task, label in meant.items()} | {task: [None] for task in skipped}
