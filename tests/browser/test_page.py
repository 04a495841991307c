"""The backend's own page in a real Chromium, beside a real Label Studio."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import LabelForm, demo_choice
from tests.conftest import choices_config

HOSTILE = "<img src=x onerror=alert(1)>"
SERIOUS = {"serious", "critical"}


@pytest.fixture(scope="module")
def project(demo_project):
    """150 crops, 40 of them labelled, three of those wrongly; it is labelled on."""
    return demo_project(150, "seen on the page", labels=40, wrong=3)


@pytest.fixture
def address(everylabel_backend, project):
    return f"{everylabel_backend.settings.public_url}/projects/{project.id}"


@pytest.fixture
def errors(page):
    """What the browser complains of; nothing may be refused by the page's own policy."""
    found = []
    page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    return found


def open_page(page, address):
    page.goto(address)
    page.locator("#map.drawn").wait_for()


def test_a_crop_leads_to_its_task_in_label_studio_and_back(
    form, everylabel_backend, project, address, errors
):
    open_page(form.page, address)
    first = everylabel_backend.round(project.id).batch[0]
    crop = form.page.locator(f"#next-{first} a:not(.like)")
    picture = crop.locator("img")
    picture.scroll_into_view_if_needed()
    form.page.wait_for_function("i => i.complete && i.naturalWidth", arg=picture.element_handle())
    assert errors == []
    crop.click()
    assert form.wait_for_task() == first
    form.page.go_back()
    expect(form.page.locator("#accuracy-now")).to_be_visible()
    assert form.page.url == address


def test_an_annotation_moves_the_figures_without_reloading(
    page, label_studio, everylabel_backend, project, address
):
    open_page(page, address)
    page.evaluate("window.still = true")
    before, number = (int(page.locator(f"#{name}-now").inner_text()) for name in ("labels", "round"))
    (task, *_) = [int(i.removeprefix("next-")) for i in page.eval_on_selector_all("[id^=next-]", "found => found.map(e => e.id).filter(i => /\\d$/.test(i))")]  # fmt: skip
    with everylabel_backend.busy_trainer():  # it counts webhooks that wait
        label_studio.annotate(task, project.labels[task], result=demo_choice(project.labels[task]))
        expect(page.locator("#labels-now")).to_have_text(str(before + 1))
        expect(page.locator(f"#next-{task}")).to_have_count(0)
    expect(page.locator("#round-now")).not_to_have_text(str(number))
    expect(page.locator("#status")).to_have_text("Up to date")
    assert page.evaluate("window.still"), "it was not reloaded"


def test_a_suspected_label_is_corrected_from_the_page(form, label_studio, project, address):
    page = form.page
    open_page(page, address)
    page.get_by_role("tab", name="Suspect labels").click()
    suspect = page.locator("li[id^=suspect-]").first
    task = int(suspect.get_attribute("id").removeprefix("suspect-"))
    given, suggested = suspect.locator("del").inner_text(), suspect.locator("ins").inner_text()
    (annotation,) = label_studio.api("GET", f"/api/tasks/{task}/")["annotations"]
    assert annotation["result"][0]["value"]["choices"] == [given]
    suspect.locator("a:not(.like)").click()
    assert form.wait_for_task() == task
    page.wait_for_function("() => document.querySelector('.lsf-choices input:checked')")
    page.keyboard.press(suggested)
    page.wait_for_function(
        f"() => document.querySelector('.lsf-choices input[name=\"{suggested}\"]').checked"
    )
    with page.expect_response(lambda r: "/api/annotations/" in r.url and r.request.method == "PATCH"):
        page.get_by_test_id("bottombar-update-button").click()
    page.goto(address)
    expect(page.locator(f"#suspect-{task} del", has_text=given)).to_have_count(0)
    (annotation,) = label_studio.api("GET", f"/api/tasks/{task}/")["annotations"]
    assert annotation["result"][0]["value"]["choices"] == [suggested]


def test_the_map_is_walked_and_opened_by_keys(form, project, address, errors):
    page = form.page
    open_page(page, address)
    page.locator(".map-view canvas").focus()
    seen = set()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
        expect(page.locator(".map-card")).to_be_visible()
        seen.add(page.locator(".map-card strong").inner_text())
    assert len(seen) > 2
    task = int(page.locator(".map-card strong").inner_text().removeprefix("Task "))
    assert task in project.task_ids
    expect(page.locator(".map-said")).to_contain_text(f"Task {task}")
    page.wait_for_function("() => document.querySelector('.map-card img').naturalWidth > 0")
    assert errors == []
    with page.context.expect_page() as opened:
        page.keyboard.press("Enter")
    opened.value.wait_for_url(f"**/data?task={task}*")
    expect(page.locator(".map-card strong")).to_have_text(f"Task {task}")


def test_a_crop_that_keys_open_from_the_map_is_chosen_still_once_it_is_labelled(form, project, address):
    page = form.page
    open_page(page, address)
    # As for a person, the tab that opens takes the focus: Playwright lets every tab believe that it has it.
    page.context.new_cdp_session(page).send("Emulation.setFocusEmulationEnabled", {"enabled": False})
    page.bring_to_front()
    page.locator(".map-view canvas").focus()
    card = page.locator(".map-card")
    for key in 5 * ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
        expect(card).to_be_visible()
        if "labelled" not in card.inner_text():
            break
    chosen = card.locator("strong").inner_text()
    page.evaluate("window.isKept = true")
    task = int(chosen.removeprefix("Task "))
    with page.context.expect_page() as opened:
        page.keyboard.press("Enter")
    tab = LabelForm(opened.value)
    assert tab.wait_for_task() == task
    tab.choose(project.labels[task])
    tab.page.get_by_test_id("bottombar-submit-button").click()
    tab.page.get_by_text("Annotation saved successfully", exact=True).wait_for()
    tab.page.close()
    page.bring_to_front()
    expect(card).to_be_visible()
    expect(card.locator("strong")).to_have_text(chosen)
    expect(card).to_contain_text(f"labelled {project.labels[task]}")
    assert page.evaluate("window.isKept"), "the page was loaded anew"
    expect(card).to_be_in_viewport(ratio=1)
    walked = set()
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
        walked.add(card.locator("strong").inner_text())
    assert walked != {chosen}, "the keys are the map's still"


def test_pointing_at_the_map_shows_the_crop_and_a_click_opens_it(form, address):
    page = form.page
    open_page(page, address)
    page.locator(".map-view canvas").focus()
    page.keyboard.press("ArrowRight")
    card = page.locator(".map-card strong")
    task = card.inner_text()
    x, y = page.evaluate("() => window.everylabelMap.at(window.everylabelMap.chosen)")
    page.locator(".map-view canvas").blur()
    expect(card).to_be_hidden()
    page.locator(".map-view canvas").hover(position={"x": x, "y": y})
    expect(card).to_have_text(task)
    with page.context.expect_page() as opened:
        page.locator(".map-view canvas").click(position={"x": x, "y": y})
    opened.value.wait_for_url(f"**/data?task={task.removeprefix('Task ')}*")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_serious_keeps_anyone_from_using_the_page(page, everylabel_backend, address, theme):
    page.emulate_media(color_scheme=theme)
    for place in (address, everylabel_backend.settings.public_url + "/", address + "00"):
        page.goto(place)
        page.locator("main h1").wait_for()
        if place == address:
            page.locator("#map.drawn").wait_for()
        found = Axe().run(page).response["violations"]
        assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in SERIOUS] == []


def test_a_tab_that_was_opened_stays_open_while_the_page_renews_itself(page, label_studio, project, address):
    open_page(page, address)
    page.get_by_role("tab", name="Next batch").focus()
    page.keyboard.press("ArrowRight")
    suspects = page.get_by_role("tabpanel", name="Suspect labels")
    expect(suspects).to_be_visible()
    expect(page.get_by_role("tab", name="Suspect labels")).to_be_focused()
    page.get_by_role("tab", name="Near the threshold").click()
    near = page.get_by_role("tabpanel", name="Near the threshold")
    short = near.locator("li:visible").count()
    near.get_by_role("button", name="Show all").click()
    assert near.locator("li:visible").count() > short
    labels = page.locator("#labels-now").inner_text()
    known = {int(task["id"]) for task in label_studio.tasks(project.id) if task["annotations"]}
    task = next(task for task in project.task_ids if task not in known)
    label_studio.annotate(task, project.labels[task], result=demo_choice(project.labels[task]))
    expect(page.locator("#labels-now")).not_to_have_text(labels)
    expect(near).to_be_visible()
    assert near.locator("li:visible").count() > short


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_batch_and_galleries_lie_within_two_screens(page, address, width, height):
    page.set_viewport_size({"width": width, "height": height})
    open_page(page, address)
    for name in ("Next batch", "Suspect labels", "Near the threshold", "Near-duplicates"):
        page.get_by_role("tab", name=name).click()
        box = page.get_by_role("tabpanel", name=name).bounding_box()
        assert box["y"] + page.evaluate("scrollY") + box["height"] <= 2 * height, name


def test_the_theme_is_chosen_and_remembered(page, address):
    page.goto(address)
    background = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    button = page.get_by_role("button", name="Theme")
    button.click()
    button.click()
    assert page.evaluate(background) != light
    page.reload()
    assert page.evaluate(background) != light
    expect(button).to_have_text("Theme: dark")


def test_without_a_choice_the_theme_is_the_systems_from_the_first_paint_on(page, address):
    page.emulate_media(color_scheme="dark")
    # Before the body is there, nothing can have been painted.
    page.add_init_script(
        """
        window.early = [];
        new MutationObserver((_, watch) => {
          if (!document.body) return;
          window.early.push(document.documentElement.dataset.theme);
          watch.disconnect();
        }).observe(document, { childList: true, subtree: true });
        """
    )
    page.goto(address)
    assert page.evaluate("window.early") == ["dark"]
    background = "() => getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"dark => ({background})() !== dark", arg=dark)
    expect(page.get_by_role("button", name="Theme")).to_have_text("Theme: system")


def test_on_a_phone_nothing_is_wider_than_the_screen(page, everylabel_backend, address):
    page.set_viewport_size({"width": 360, "height": 740})
    for place in (address, everylabel_backend.settings.public_url + "/"):
        page.goto(place)
        page.locator("main h1").wait_for()
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_a_class_that_is_a_script_is_only_a_name(page, label_studio, everylabel_backend, digits, errors):
    config = choices_config(["&lt;img src=x onerror=alert(1)&gt;", "0"])
    hostile = label_studio.digits_project(digits, 24, "hostile", config)
    for task in hostile.task_ids[:8]:
        label_studio.annotate(task, HOSTILE if task % 2 else "0")
    everylabel_backend.connect(hostile.id)
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    open_page(page, f"{everylabel_backend.settings.public_url}/projects/{hostile.id}")
    page.get_by_role("radio", name="prediction").check()
    expect(page.locator(".legend button", has_text=HOSTILE)).to_be_visible()
    expect(page.locator(".counts-list .name", has_text=HOSTILE)).to_be_visible()
    page.locator(".map-view canvas").focus()
    page.keyboard.press("ArrowRight")
    page.locator(".map-card").wait_for()
    assert page.locator("img[src=x]").count() == 0
    assert (dialogs, errors) == ([], [])
    assert re.search(r"script-src 'self'", page.request.get(page.url).headers["content-security-policy"])
