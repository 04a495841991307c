"""Every test in this folder drives a real Chromium, logged into the real Label Studio."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, Page, StorageState, sync_playwright

if TYPE_CHECKING:
    from tests.conftest import LabelStudio

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
def browser(chromium: Path) -> Iterator[Browser]:
    """One headless Chromium for the session, with a new empty profile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), headless=True, args=list(FLAGS))
        yield browser
        browser.close()


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
    yield context.new_page()
    context.close()
