"""The slips people make in the label stream lose no label, save none that nobody meant, and serve only the queue."""

import time
from dataclasses import dataclass

import pytest

from everylabel.scripts.commands.doctor import examine
from tests.browser.conftest import CHOSEN, demo_choice

# Twenty-four crops by real key presses: three minutes where two cores are busy.
pytestmark = pytest.mark.timeout(600)

CROPS = 24
LABELS = 40
LATE = 2.0
"""Seconds: Label Studio may serve a round this long before the backend has noted that it is published."""


@dataclass(frozen=True)
class Served:
    """A crop the label stream brought: its prediction's version and classes, and when it was asked for and came."""

    task: int
    version: str
    prefilled: list[str]
    asked_at: float
    came_at: float


class Annotator:
    """Somebody in the label stream who knows every class and has a hasty hand."""

    def __init__(self, form, truth):
        self.form, self.keyboard, self.truth = form, form.page.keyboard, truth
        self.served, self.meant, self.skipped, self.slips = [], {}, [], []
        form.page.on("response", self._note)

    def _note(self, response):
        if "id=next_task" not in response.url:
            return
        asked_at = response.request.timing["startTime"] / 1000
        task = response.json()
        # None, where the crop that is open comes again after a newer round: Label Studio tells that round's alone.
        shown = next(iter(task["predictions"]), {"result": [], "model_version": ""})
        prefilled = shown["result"][0]["value"]["choices"] if shown["result"] else []
        self.served.append(Served(task["id"], shown["model_version"], prefilled, asked_at, time.time()))

    def label(self, task, slip):
        """Label the crop on show with this slip or, where that cannot be made on a pre-filled crop, another."""
        (prefilled,) = self.served[-1].prefilled or [None]
        if prefilled is not None:
            self.form.page.wait_for_function(CHOSEN, arg=prefilled)
            if prefilled == self.truth[task]:
                slip = self.own_key_on_a_prefilled_crop
            elif slip == self.nothing_chosen:
                slip = self.key_twice
        self.slips.append(slip.__name__)
        if slip != self.skip:
            self.meant[task] = self.truth[task]
        slip(task)

    def no_slip(self, task):
        self.form.choose(self.truth[task])
        self.keyboard.press("Enter")

    def double_enter(self, task):
        self.form.choose(self.truth[task])
        with self.form.next_crop_held():
            self.keyboard.press("Enter")
            self.keyboard.press("Enter")

    def double_ctrl_enter(self, task):
        self.form.choose(self.truth[task])
        with self.form.next_crop_held():
            self.keyboard.press("Control+Enter")
            self.keyboard.press("Control+Enter")

    def double_click(self, task):
        self.form.choose(self.truth[task])
        with self.form.next_crop_held():
            self.form.page.get_by_test_id("bottombar-submit-button").dblclick()

    def own_key_on_a_prefilled_crop(self, task):
        self.keyboard.press(self.truth[task])
        self.form.page.wait_for_function(f"name => !({CHOSEN})(name)", arg=self.truth[task])
        self.keyboard.press("Enter")
        self.form.close_warning()
        self.no_slip(task)

    def key_twice(self, task):
        self.form.choose(self.truth[task])
        self.own_key_on_a_prefilled_crop(task)

    def nothing_chosen(self, task):
        self.keyboard.press("Enter")
        self.form.close_warning()
        self.no_slip(task)

    def skip(self, task):
        self.skipped.append(task)
        self.form.page.get_by_test_id("bottombar-skip-button").click()

    def reload_in_the_middle(self, task):
        self.form.choose(self.truth[task])
        self.form.page.reload()
        assert self.form.wait_for_task() == task, "the crop that is open comes again"
        self.no_slip(task)

    def back_and_update_without_a_change(self, task):
        self._back(task, enter=True)
        assert self.form.page.get_by_test_id("bottombar-update-button").is_disabled()
        self._forward(task)

    def back_key_twice_and_update(self, task):
        before = self._back(task)
        self.keyboard.press(self.truth[before])
        self.keyboard.press(self.truth[before])
        self._update(before)
        self._forward(task)

    def wrong_key_then_back_and_the_right_one(self, task):
        wrong = "1" if self.truth[task] == "0" else "0"
        self.form.choose(wrong)
        self.keyboard.press("Enter")
        following = self.form.wait_for_next(task)
        assert self._back(following) == task
        self.form.page.wait_for_function(CHOSEN, arg=wrong)
        self.keyboard.press(self.truth[task])
        self._update(task)
        self.form.page.get_by_test_id("next-task").click()
        self.form.wait_for_next(task)

    def _back(self, task, enter=False):
        self.form.page.get_by_test_id("prev-task").click()
        before = self.form.wait_for_next(task)
        self.form.page.get_by_test_id("bottombar-update-button").wait_for()
        if enter:
            self.keyboard.press("Enter")
        return before

    def _update(self, task):
        self.form.page.wait_for_function(CHOSEN, arg=self.truth[task])
        with self.form.updating():
            self.keyboard.press("Enter")

    def _forward(self, task):
        """Go on to the crop that was open, and label it."""
        before = self.form.task()
        self.form.page.get_by_test_id("next-task").click()
        assert self.form.wait_for_next(before) == task
        self.no_slip(task)


def came_out_of_the_queue(served, rounds, closed):
    """Whether the crop is the first open one of a round that was the newest while it was asked for."""
    published = [one for one in rounds if one.published_at is not None]
    newest = max((r.number for r in published if r.published_at <= served.asked_at), default=0)
    possible = [r for r in published if r.number >= newest and r.published_at <= served.came_at + LATE]
    heads = [next(t for t in r.queue + r.pre_annotated if t not in closed) for r in possible]
    return served.version in {r.model_version for r in possible} and served.task in heads


@pytest.mark.usefixtures("enter")
def test_slips_lose_no_label_and_only_the_newest_queue_is_served(
    form, label_studio, everylabel_backend, demo_project
):
    project = demo_project(150, "slips", labels=LABELS)
    hand = Annotator(form, project.labels)
    slips = [
        hand.no_slip,
        hand.double_enter,
        hand.key_twice,
        hand.double_ctrl_enter,
        hand.skip,
        hand.nothing_chosen,
        hand.back_and_update_without_a_change,
        hand.double_click,
        hand.reload_in_the_middle,
        hand.wrong_key_then_back_and_the_right_one,
        hand.back_key_twice_and_update,
    ]
    form.open_stream(project.id)
    task = form.wait_for_task()
    for number in range(CROPS):
        hand.label(task, slips[number % len(slips)])
        task = form.wait_for_next(task)

    assert "own_key_on_a_prefilled_crop" in hand.slips
    assert len(hand.meant) + len(hand.skipped) == CROPS, "no crop was served twice"
    made = {t["id"]: t["annotations"] for t in label_studio.tasks(project.id)}
    before = {task: project.labels[task] for task in project.task_ids[:LABELS]}
    kept = {
        task: [demo_choice(one)[0]["value"] == a["result"][0]["value"] for a in made[task]]
        for task, one in {**before, **hand.meant}.items()
    }
    assert all(right == [True] for right in kept.values()), "each label that was meant, once"
    assert all([a["was_cancelled"] for a in made[task]] == [True] for task in hand.skipped)
    untouched = made.keys() - kept.keys() - {*hand.skipped}
    assert not any(made[task] for task in untouched), "no label that nobody meant"

    everylabel_backend.wait_for_round(project.id, labels=LABELS + len(hand.meant))
    assert everylabel_backend.labels(project.id) == {**before, **hand.meant}
    rounds, closed, last = everylabel_backend.services.store.rounds(project.id), set(before), None
    for served in hand.served:
        if last is not None and served.task != last:
            closed.add(last)
        if served.task != last:  # otherwise it was open, and the page was loaded again: served by its lock
            assert came_out_of_the_queue(served, rounds, closed), (served, rounds[-3:])
        last = served.task
    reloads = hand.slips.count("reload_in_the_middle")
    assert len(hand.served) == CROPS + 1 + reloads
    told = [f.check for f in examine(everylabel_backend.services, project.id) if f.problem]
    assert not {"Label stream", "Annotations"} & {*told}
