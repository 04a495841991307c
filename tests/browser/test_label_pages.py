"""Two people label on the page at once, beside a real Label Studio, while the backend is killed in between."""

from __future__ import annotations

from collections import defaultdict

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from everylabel.backend.label_pages.annotations import annotator_of
from tests.browser.conftest import demo_choice, intercept
from tests.everylabel_process import wait_until

CROPS, LABELLED = 110, 24
SERIOUS = {"serious", "critical"}


def member(label_studio, name):
    """A user of Label Studio's: id and token, made as the owner invites one."""
    link = label_studio.api("GET", "/api/invite")["invite_url"]
    with label_studio.client.__class__(
        base_url=label_studio.url, trust_env=False, follow_redirects=True
    ) as browser:
        browser.get(link)
        form = {
            "email": f"{name}@example.org",
            "password": f"{name}-password-1",
            "allow_newsletters": "false",
        }
        token = browser.cookies["csrftoken"]
        headers = {"Referer": label_studio.url, "X-CSRFToken": token}
        answer = browser.post(link, data={**form, "csrfmiddlewaretoken": token}, headers=headers)
        assert answer.is_success, answer.text[:300]
        me = browser.get("/api/current-user/whoami").json()
        return int(me["id"]), str(browser.get("/api/current-user/token").json()["token"])


@pytest.fixture(scope="module")
def project(demo_project):
    """110 digits, 24 of them labelled by the project's owner."""
    return demo_project(CROPS, "labelled on the page", labels=LABELLED)


@pytest.fixture(scope="module")
def people(label_studio):
    return {name: member(label_studio, name) for name in ("ann", "bob")}


@pytest.fixture
def address(everylabel_backend, project):
    return f"{everylabel_backend.settings.public_url}/projects/{project.id}/label"


@pytest.fixture
def windows(browser, address, people):
    """A window of each person's, signed in."""
    opened = []

    def make(name, **options):
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        context.set_default_timeout(30_000)
        opened.append(context)
        tab = context.new_page()
        tab.goto(address)
        tab.get_by_label("Your Label Studio token").fill(people[name][1])
        tab.get_by_role("button", name="Sign in").click()
        tab.locator("#grid .cell").first.wait_for()
        return tab

    yield make
    for context in opened:
        for tab in context.pages:
            tab.goto("about:blank")  # as a person leaves it, so that others get its crops
        context.close()


def tasks(tab):
    return tab.eval_on_selector_all("#grid .cell", "cells => cells.map(cell => Number(cell.dataset.task))")


def given(tab):
    """The class of each crop on show, by task; those that are left out have none."""
    found = tab.eval_on_selector_all(
        "#grid .cell",
        "cells => cells.map(cell => [Number(cell.dataset.task), cell.dataset.state, cell.querySelector('.given').textContent])",
    )
    return {task: label for task, state, label in found if state not in ("open", "left-out")}


def correct(tab, project):
    """Give every crop that has the wrong class its own by the keyboard alone."""
    for at, task in enumerate(tasks(tab)):
        if given(tab).get(task) != project.labels[task]:
            tab.locator(f"[data-task='{task}']").focus()
            tab.keyboard.press(project.labels[task])
            expect(tab.locator(f"[data-task='{task}'] .given")).to_have_text(project.labels[task])
            assert at >= 0


def confirm(tab):
    """Press Enter, and wait until the page has made place for another."""
    before = tasks(tab)
    tab.locator("#grid .cell").first.focus()
    tab.keyboard.press("Enter")
    tab.wait_for_function(
        "before => { const now = [...document.querySelectorAll('#grid .cell')].map(c => Number(c.dataset.task));"
        " return !now.some(task => before.includes(task)); }",
        arg=before,
    )
    return before


def annotations(label_studio, project, people):
    """What each person has submitted: tasks and classes, every annotation of theirs."""
    found = defaultdict(list)
    for task in label_studio.tasks(project.id):
        for annotation in task["annotations"]:
            by = annotation["completed_by"]
            number = by["id"] if isinstance(by, dict) else by
            found[number].append(
                (task["id"], annotation["result"][0]["value"]["choices"][0], annotation["lead_time"])
            )
    return {name: found[number] for name, (number, _) in people.items()}


def is_sending(everylabel_backend, project):
    """Whether labels wait for Label Studio, which has more to do the more often it is asked what has come."""
    return bool(everylabel_backend.services.store.labels_to_do(project.id))


@pytest.mark.timeout(600)
def test_two_people_label_at_once_while_the_backend_is_killed_and_each_label_is_theirs_once(
    windows, label_studio, everylabel_backend, project, people
):
    tabs = {name: windows(name) for name in ("ann", "bob")}
    wanted = {"ann": {}, "bob": {}}
    assert not {*tasks(tabs["ann"])} & {*tasks(tabs["bob"])}
    for turn in range(2):
        for name, tab in tabs.items():
            if not tasks(tab):
                continue
            correct(tab, project)
            wanted[name] |= given(tab)
            confirm(tab)
        if turn == 0:
            everylabel_backend.kill()
            everylabel_backend.start()
    assert {*wanted["ann"].values()} <= {*"0123456789"}
    total = sum(map(len, wanted.values()))
    assert total >= 12

    def sent():
        if is_sending(everylabel_backend, project):
            return None
        found = annotations(label_studio, project, people)
        return found if sum(map(len, found.values())) >= total else None

    found = wait_until(sent, "the labels have not come to Label Studio", 240)
    for name, expected in wanted.items():
        assert sorted((task, label) for task, label, _ in found[name]) == sorted(expected.items())
        assert all(0 < seconds < 120 for _, _, seconds in found[name])
    everylabel_backend.wait_for_round(project.id, labels=LABELLED + total)
    assert everylabel_backend.labels(project.id).items() >= (wanted["ann"] | wanted["bob"]).items()


def test_the_last_page_is_undone_in_label_studio_too(
    windows, label_studio, everylabel_backend, project, people
):
    tab = windows("ann")
    tab.get_by_label("Show", exact=True).select_option("next-batch")
    tab.get_by_text("without a class", exact=False).first.wait_for()
    before = {(task, label) for task, label, _ in annotations(label_studio, project, people)["ann"]}
    page = tasks(tab)
    for task in page[:3]:
        tab.keyboard.press(project.labels[task])  # and on to the next by itself
    wanted = {task: project.labels[task] for task in page[:3]}
    assert given(tab) == wanted
    confirm(tab)

    def mine():
        return {
            (task, label) for task, label, _ in annotations(label_studio, project, people)["ann"]
        } - before

    def is_there(labels):
        return not is_sending(everylabel_backend, project) and mine() == {*labels.items()}

    wait_until(lambda: is_there(wanted), "the page has not come to Label Studio", 120)
    tab.keyboard.press("Control+z")
    tab.wait_for_function(f"() => document.querySelector('#grid .cell')?.dataset.task === '{page[0]}'")
    assert given(tab) == wanted, "with the classes that were given"
    wait_until(lambda: is_there({}), "the page is still in Label Studio", 120)


def test_choices_outlive_a_reload_and_a_session_that_ended(windows, everylabel_backend, project, people):
    tab = windows("bob")
    page = tasks(tab)
    tab.locator("#grid .cell").first.focus()
    tab.keyboard.press("Backspace")
    kept = given(tab)
    assert page[0] not in kept
    tab.reload()
    tab.locator("#grid .cell").first.wait_for()
    assert (tasks(tab), given(tab)) == (page, kept)
    tab.context.clear_cookies()
    tab.locator("#grid .cell").first.focus()
    tab.keyboard.press("Enter")
    expect(tab.locator("#sign-in-refused")).to_contain_text("You are not signed in any more")
    tab.get_by_label("Your Label Studio token").fill("not-a-token-of-anybody")
    tab.get_by_role("button", name="Sign in").click()
    expect(tab.locator("#sign-in-refused")).to_contain_text("does not accept this token")
    tab.get_by_label("Your Label Studio token").fill(people["bob"][1])
    tab.get_by_role("button", name="Sign in").click()
    tab.locator("#grid .cell").first.wait_for()
    assert (tasks(tab), given(tab)) == (page, kept)


def test_what_was_labelled_in_label_studio_meanwhile_is_not_overwritten_and_told(
    windows, label_studio, project, everylabel_backend, people
):
    tab = windows("ann")
    with everylabel_backend.busy_trainer():
        page = confirm(tab)
        label_studio.annotate(page[0], "9", result=demo_choice("9"))
    told = tab.locator("#trouble li")
    expect(told).to_have_count(1)
    expect(told).to_contain_text(f"Task {page[0]}")
    expect(told).to_contain_text("Somebody else has labelled it meanwhile")
    held = label_studio.api("GET", f"/api/tasks/{page[0]}/")["annotations"]
    assert [annotation["result"][0]["value"]["choices"] for annotation in held] == [["9"]]


def test_a_review_changes_ones_own_annotation_and_stands_beside_that_of_another(
    label_studio, everylabel_backend, project, people
):
    services = everylabel_backend.services
    owns = project.task_ids[0]
    person = {
        name: services.labelling.sign_in.person(services.labelling.sign_in.sign_in(project.id, token, ""))
        for name, token in (("owner", label_studio.token), ("ann", people["ann"][1]))
    }

    def held():
        found = label_studio.api("GET", f"/api/tasks/{owns}/")["annotations"]
        return {(a["id"], annotator_of(a), a["result"][0]["value"]["choices"][0]) for a in found}

    def review(name, label):
        page = services.store.reserve_page(project.id, person[name].id, "suspects", lambda _: (None, [owns]))
        services.labelling.pages.confirm(project.id, person[name], page.id, {owns: label}, 9.0)

    before = held()
    ((number, owner, given_label),) = before
    other = "8" if given_label != "8" else "9"
    review("owner", other)
    wait_until(lambda: held() == {(number, owner, other)}, "the review has not come", 120)
    services.labelling.pages.undo(project.id, person["owner"])
    wait_until(lambda: held() == before, "it was not put back", 120)
    review("ann", other)
    wait_until(lambda: len(held()) == 2, "the review of another person has not come", 120)
    assert held() >= before
    assert {(by, label) for _, by, label in held() - before} == {(people["ann"][0], other)}
    services.labelling.pages.undo(project.id, person["ann"])
    wait_until(lambda: held() == before, "it was not taken back", 120)


def test_by_keyboard_alone_a_crop_is_found_seen_large_and_given_a_class_by_name(windows, project):
    tab = windows("bob")
    errors = []
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.locator("#grid .cell").first.focus()
    for key, at in (("ArrowRight", 1), ("ArrowLeft", 0), ("End", len(tasks(tab)) - 1), ("Home", 0)):
        tab.keyboard.press(key)
        expect(tab.locator("#grid .cell").nth(at)).to_be_focused()
    tab.keyboard.press("Space")
    expect(tab.locator("#zoom")).to_be_visible()
    tab.wait_for_function("() => document.querySelector('#zoom img').naturalWidth > 128")
    tab.keyboard.press("Escape")
    expect(tab.locator("#zoom")).to_be_hidden()
    tab.keyboard.press("/")
    expect(tab.get_by_role("dialog")).to_be_visible()
    tab.keyboard.type("7")
    tab.keyboard.press("Enter")
    expect(tab.locator("#grid .cell .given").first).to_have_text("7")
    expect(tab.locator("#grid .cell").first).to_be_focused()
    label = tab.locator("#grid .cell").first.get_attribute("aria-label")
    assert label.endswith(": 7")
    assert errors == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_serious_keeps_anyone_from_labelling(windows, browser, address, theme):
    signed_out = browser.new_page(color_scheme=theme)
    signed_out.goto(address)
    signed_in = windows("ann", color_scheme=theme)
    for tab in (signed_out, signed_in):
        found = Axe().run(tab).response["violations"]
        assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in SERIOUS] == []
    signed_in.keyboard.press("/")
    found = Axe().run(signed_in).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in SERIOUS] == []
    signed_out.close()


def test_nothing_is_wider_than_the_screen(windows):
    tab = windows("ann")
    for width, height in ((360, 740), (768, 900), (3840, 2160)):
        tab.set_viewport_size({"width": width, "height": height})
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert tab.locator("#grid .cell").first.bounding_box()["width"] >= 100


def test_the_next_page_is_here_before_it_is_asked_for(windows):
    tab = windows("bob")
    tab.wait_for_load_state("networkidle")
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    before = tasks(tab)
    intercept(tab, "**/confirm", lambda route: None)  # never answered
    tab.locator("#grid .cell").first.focus()
    tab.keyboard.press("Enter")
    tab.wait_for_function(
        "before => { const cells = [...document.querySelectorAll('#grid .cell')];"
        " return cells.length && !before.includes(Number(cells[0].dataset.task)); }",
        arg=before,
    )
    assert [url for url in asked if url.endswith("/pages")] == []
