"""Every test in this folder drives a real Chromium, logged into the real Label Studio."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, Page, Route, StorageState, expect, sync_playwright

from everylabel.backend.label_studio.hotkeys import submit_with_enter
from everylabel.scripts.image_projects import label_config
from tests.everylabel_process import wait_until

if TYPE_CHECKING:
    from everylabel.scripts.replay.datasets import Dataset
    from tests.conftest import LabelStudio, Project
    from tests.everylabel_process import EveryLabel

#: No sandbox, because CI runs as root; no calls of the browser's own to the outside.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def launch(chromium: Path) -> Iterator[Callable[..., Browser]]:
    """Start a headless Chromium with a new empty profile, and further flags: all are closed in the end."""
    expect.set_options(timeout=30_000)  # of what never comes; how soon it comes is measured elsewhere
    with sync_playwright() as playwright:  # one for the session: it refuses a second beside it
        started = []

        def make(*flags: str) -> Browser:
            started.append(
                playwright.chromium.launch(
                    executable_path=str(chromium), headless=True, args=[*FLAGS, *flags]
                )
            )
            return started[-1]

        yield make
        for browser in started:
            browser.close()


@pytest.fixture(scope="session")
def browser(launch: Callable[..., Browser]) -> Browser:
    """One Chromium for the session."""
    return launch()


@pytest.fixture(scope="session")
def signed_in(browser: Browser, label_studio: "LabelStudio") -> StorageState:
    """The cookies of a person who signed in through Label Studio's own form."""
    context = browser.new_context(base_url=label_studio.url)
    page = context.new_page()
    page.goto("/user/login/")
    page.fill("input[name=email]", label_studio.username)
    page.fill("input[name=password]", label_studio.password)
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "/user/login" not in url, timeout=60_000)
    assert context.request.get("/api/current-user/whoami").ok, (
        f"The login was refused, the page is {page.url}"
    )
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def page(browser: Browser, label_studio: "LabelStudio", signed_in: StorageState) -> Iterator[Page]:
    """A page of its own for the test, signed in; relative addresses are Label Studio's."""
    options: dict[str, Any] = {"viewport": {"width": 1400, "height": 900}}
    context = browser.new_context(base_url=label_studio.url, storage_state=signed_in, **options)
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="session")
def demo_project(
    label_studio: "LabelStudio", everylabel_backend: "EveryLabel", digits: "Dataset"
) -> Callable[..., "Project"]:
    """Make a connected project as the demo does, some crops labelled and some of those wrongly."""

    def make(count: int, title: str, labels: int = 0, wrong: int = 0) -> "Project":
        config = label_config(digits.classes)
        project = label_studio.digits_project(digits, count, title, config)
        mistaken = [task for task in project.task_ids[:labels] if project.labels[task] in "046"][:wrong]
        for task in project.task_ids[:labels]:
            truth = project.labels[task]
            given = str(9 - int(truth)) if task in mistaken else truth
            label_studio.annotate(task, given, result=demo_choice(given))
        everylabel_backend.connect(project.id)
        return project

    return make


@pytest.fixture(scope="module")
def reviewed_project(demo_project: Callable[..., "Project"]) -> "Project":
    """150 crops, 40 of them labelled, three of those wrongly; only to be looked at."""
    return demo_project(150, "to be reviewed", labels=40, wrong=3)


def demo_choice(label: str) -> list[dict[str, Any]]:
    """The result of an annotation in the demo's labeling config."""
    return [{"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [label]}}]


def intercept(tab: Page, pattern: str | re.Pattern[str], handler: Callable[[Route], object]) -> None:
    """Route requests, and return once Chromium asks for them: one in the same instant may still pass by."""
    tab.route(pattern, handler)
    tab.route("**/asked-for", lambda route: route.fulfill(body="yes"))
    wait_until(
        lambda: tab.evaluate("() => fetch('/asked-for').then(({ status }) => status)") == 200,
        "no request is asked for",
    )
    tab.unroute("**/asked-for")


def given(label_studio: "LabelStudio", task: int) -> list[list[str]]:
    """Return the choices of every annotation of a task, an empty one's being []."""
    annotations = label_studio.api("GET", f"/api/tasks/{task}/")["annotations"]
    return [a["result"][0]["value"]["choices"] if a["result"] else [] for a in annotations]


@pytest.fixture
def enter(everylabel_backend: "EveryLabel") -> Iterator[None]:
    """Enter submits, as after `connect --hotkeys`; afterwards as before."""
    label_studio = everylabel_backend.services.label_studio
    before = label_studio.hotkeys()
    assert submit_with_enter(label_studio)
    yield
    label_studio.save_hotkeys(before or {})


TASK_NUMBER = ".lsf-current-task__task-id"
CHOSEN = "name => document.querySelector(`.lsf-choices input[name='${name}']`)?.checked"
"""Whether a class is selected, in the page's JavaScript."""
OPEN_TAB = ".lsf-tabs-dm__item_active > .lsf-tabs-dm__item-left"
"""The title of the data manager's tab that is open; versions before 1.21 give it no role."""


def open_tab(page: Page, title: str) -> None:
    """Open a tab of the data manager by its title, once it is there."""
    page.locator(f".lsf-tabs-dm__item-left[title='{title}']").click()
    page.locator(f"{OPEN_TAB}[title='{title}']").wait_for()


WARNING = ".ant-modal-confirm"
"""What Label Studio shows where it refuses a submit without a class."""


class LabelForm:
    """Label Studio's label form, as far as these tests use it."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def open_stream(self, project: int) -> None:
        """Press *Label All Tasks* in the plain tab."""
        self.page.goto(f"/projects/{project}/data")
        open_tab(self.page, "Default")
        self.page.get_by_role("button", name="Label All Tasks").click()

    def wait_for_task(self) -> int:
        """Return the number of the crop on show, once its picture is there."""
        self.page.locator(TASK_NUMBER).wait_for()
        self.wait_for_picture()
        return self.task()

    def task(self) -> int:
        """Return the number of the crop on show."""
        return int(self.page.locator(TASK_NUMBER).evaluate("number => number.firstChild.textContent"))

    def wait_for_picture(self) -> None:
        self.page.wait_for_function(
            "() => { const i = document.querySelector('img[alt=image]'); return i && i.complete && i.naturalWidth; }"
        )
        self.page.locator(".lsf-choices").wait_for()

    def chosen(self) -> list[str]:
        """Return the classes that are selected."""
        return list(
            self.page.eval_on_selector_all(
                ".lsf-choices input", "inputs => inputs.filter(i => i.checked).map(i => i.name)"
            )
        )

    def wait_for_next(self, task: int) -> int:
        """Wait until another crop than this one is on show, and return its number."""
        self.page.wait_for_function(
            "([number, task]) => { const now = document.querySelector(number)?.firstChild.textContent;"
            " return now && now !== task; }",
            arg=[TASK_NUMBER, str(task)],
        )
        return self.wait_for_task()

    def choose(self, name: str) -> None:
        """Press a class's key, unless the class is chosen already."""
        if self.chosen() != [name]:
            self.page.keyboard.press(name)
        self.page.wait_for_function(CHOSEN, arg=name)

    def close_warning(self) -> None:
        """Wait for the warning, and press Escape until it is closed: while it still opens, it takes no key."""
        warning = self.page.locator(WARNING)
        warning.wait_for()

        def closed() -> bool:
            self.page.keyboard.press("Escape")
            self.page.wait_for_timeout(200)
            return warning.count() == 0

        wait_until(closed, "the warning stays")

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Press *Update* in this block, which ends when Label Studio has taken the annotation."""
        # Not by its message, which is gone again after some seconds, whoever has looked by then.
        with self.page.expect_response(
            lambda r: r.request.method == "PATCH" and "/annotations/" in r.url
        ) as sent:
            yield
        assert sent.value.ok, sent.value.text()

    @contextmanager
    def next_crop_held(self) -> Iterator[None]:
        """Let no further crop come within this block, however slow the hand: it is asked for, and comes afterwards."""
        held: list[Route] = []
        asked = re.compile("id=next_task")

        def hold(route: Route) -> None:
            held.append(route)

        intercept(self.page, asked, hold)
        yield
        self.page.unroute(asked)
        for route in held:
            route.continue_()

    def submit(self, task: int) -> None:
        """Press *Submit* and wait until the crop has made place for another."""
        older = "button[aria-label='Submit current annotation'], button[aria-label=submit]"  # before 1.23, and 1.21
        self.page.locator(f"[data-testid=bottombar-submit-button], {older}").click()
        self.page.wait_for_function(
            "([number, task]) => document.querySelector(number)?.firstChild.textContent !== task",
            arg=[TASK_NUMBER, str(task)],
        )


@pytest.fixture
def form(page: Page) -> LabelForm:
    """The label form on a page of its own."""
    return LabelForm(page)
