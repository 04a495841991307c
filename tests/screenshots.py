"""Pictures of the page, and of our tabs in Label Studio, in both themes, from servers that run, such as the demo's:

    python -m tests.screenshots http://127.0.0.1:9090 docs/page --project 1 --label-studio http://127.0.0.1:8080

BASIC_AUTH_USER and BASIC_AUTH_PASS open the backend where it asks; LABEL_STUDIO_USERNAME and LABEL_STUDIO_PASSWORD
sign in to Label Studio.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer
from playwright.sync_api import Browser, Page, sync_playwright

from everylabel.backend.label_studio.publisher import NEXT_BATCH, PLAIN_TAB, PRE_ANNOTATED, SUSPECTS
from everylabel.backend.rounds.bulk_accept import ACCEPTED

WIDE = (1280, 900)
PHONE = (360, 740)
TABS = (PLAIN_TAB, NEXT_BATCH, PRE_ANNOTATED, SUSPECTS, ACCEPTED)


def screenshots(
    backend: Annotated[str, typer.Argument(help="Where the backend answers.")],
    folder: Annotated[Path, typer.Argument(help="Where the pictures go.")],
    project: Annotated[int, typer.Option(help="The project to show.")] = 1,
    label_studio: Annotated[str, typer.Option(help="Where Label Studio answers; without, no tabs.")] = "",
) -> None:
    """Take a picture of every page and tab, in both themes; of the page on a phone too."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, headless=True, args=["--no-sandbox", "--disable-gpu"]
        )
        for theme in ("light", "dark"):
            _page(browser, backend, folder, project, theme)
            if label_studio:
                _tabs(browser, label_studio, folder, project, theme)
        browser.close()


def _page(browser: Browser, backend: str, folder: Path, project: int, theme: str) -> None:
    user, password = os.environ.get("BASIC_AUTH_USER"), os.environ.get("BASIC_AUTH_PASS")
    credentials = {"username": user, "password": password} if user and password else None
    for name, (width, height) in (("", WIDE), ("-phone", PHONE)):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,  # type: ignore[arg-type]
            http_credentials=credentials,  # type: ignore[arg-type]
        )
        page = context.new_page()
        page.goto(f"{backend}/")
        page.locator("main h1").wait_for()
        page.screenshot(path=folder / f"projects{name}-{theme}.png", full_page=True)
        page.goto(f"{backend}/projects/{project}")
        _wait_for_pictures(page)
        page.screenshot(path=folder / f"page{name}-{theme}.png")
        page.screenshot(path=folder / f"page-whole{name}-{theme}.png", full_page=True)
        if not name:
            for mode in ("label", "prediction", "uncertainty", "round"):
                _map(page, folder / f"map-{mode}-{theme}.png", mode)
        context.close()


def _wait_for_pictures(page: Page) -> None:
    page.locator("#map.drawn").wait_for()
    # Those out of sight are not asked for.
    for height in range(0, page.evaluate("document.documentElement.scrollHeight"), 500):
        page.evaluate("height => scrollTo(0, height)", height)
        page.wait_for_timeout(100)
    page.wait_for_function(
        "() => [...document.querySelectorAll('.gallery img')].filter(i => i.offsetParent)"
        ".every(i => i.naturalWidth || i.matches('.missing'))"
    )
    page.evaluate("scrollTo(0, 0)")


def _map(page: Page, path: Path, mode: str) -> None:
    page.get_by_role("radio", name=mode).check()
    canvas = page.locator(".map-view canvas")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('.map-card img').naturalWidth > 0")
    page.locator("section", has=page.locator("#map")).screenshot(path=path)


def _tabs(browser: Browser, label_studio: str, folder: Path, project: int, theme: str) -> None:
    context = browser.new_context(
        base_url=label_studio,
        viewport={"width": WIDE[0], "height": WIDE[1]},
        color_scheme=theme,  # type: ignore[arg-type]
    )
    # Where Label Studio 1.23.2 keeps a person's choice.
    context.add_init_script(f"localStorage.setItem('preferred-color-scheme', '{theme.title()}')")
    page = context.new_page()
    page.goto("/user/login/")
    page.fill("input[name=email]", os.environ["LABEL_STUDIO_USERNAME"])
    page.fill("input[name=password]", os.environ["LABEL_STUDIO_PASSWORD"])
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "/user/login" not in url, timeout=60_000)
    page.goto(f"/projects/{project}/data")
    page.locator("[role=tab][title=Default]").wait_for()
    for title in TABS:
        tab = page.locator(f"[role=tab][title='{title}']")
        if not tab.count():
            continue
        name = title.lower().replace(" ", "-")
        tab.click()
        page.locator(f"[role=tab][title='{title}'][aria-selected=true]").wait_for()
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(1000)  # for the pictures of the grid, which it draws one by one
        page.screenshot(path=folder / f"tab-{name}-{theme}.png")
    context.close()


if __name__ == "__main__":
    typer.run(screenshots)
