"""Pictures of the page in both themes: `python -m tests.screenshots http://127.0.0.1:9090 docs/page --project 1`.

From a backend that runs, such as the demo's. BASIC_AUTH_USER and BASIC_AUTH_PASS open it where it asks.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer
from playwright.sync_api import Page, sync_playwright

WIDE = (1280, 900)
PHONE = (360, 740)


def screenshots(
    backend: Annotated[str, typer.Argument(help="Where the backend answers.")],
    folder: Annotated[Path, typer.Argument(help="Where the pictures go.")],
    project: Annotated[int, typer.Option(help="The project to show.")] = 1,
) -> None:
    """Take a picture of every page, in both themes, wide and on a phone."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    user, password = os.environ.get("BASIC_AUTH_USER"), os.environ.get("BASIC_AUTH_PASS")
    credentials = {"username": user, "password": password} if user and password else None
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, headless=True, args=["--no-sandbox", "--disable-gpu"]
        )
        for theme in ("light", "dark"):
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
        browser.close()


def _wait_for_pictures(page: Page) -> None:
    page.locator("#map.drawn").wait_for()
    page.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
    page.wait_for_function(
        "() => [...document.images].every(i => !i.src || i.naturalWidth || i.classList.contains('missing'))",
        timeout=120_000,
    )


def _map(page: Page, path: Path, mode: str) -> None:
    page.get_by_role("radio", name=mode).check()
    canvas = page.locator(".map-view canvas")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('.map-card img').naturalWidth > 0")
    page.locator("section", has=page.locator("#map")).screenshot(path=path)


if __name__ == "__main__":
    typer.run(screenshots)
