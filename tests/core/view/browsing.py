"""A real browser that looks at a live view: Chromium without a window, which keeps what its console says."""

import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 60.0
"""How long the page may take to show something on a machine that is busy."""
DESKTOP, PHONE = (1280, 860), (390, 844)


@contextmanager
def browser() -> Generator[Browser, None, None]:
    """Raises FileNotFoundError, which says how to install one, where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise FileNotFoundError(f"no browser: none of {', '.join(NAMES)} is there; apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Window:
    """A page, and what went wrong on it."""

    page: Page
    said: list[str] = field(default_factory=list)
    """Errors and warnings of its console, and exceptions that no script caught."""

    def count(self, selector: str) -> int:
        return self.page.locator(selector).count()

    def text(self, selector: str) -> str:
        return self.page.locator(selector).first.inner_text()

    def until(self, expression: str) -> Any:
        """Wait until an expression of JavaScript holds; returns its value. Raises TimeoutError."""
        end = time.monotonic() + SECONDS
        while not (value := self.page.evaluate(expression)):  # the page's policy lets nothing wait within it
            if time.monotonic() > end:
                raise TimeoutError(f"{expression} does not hold; the page says {self.said}")
            self.page.wait_for_timeout(50)
        return value

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))

    def ink(self, selector: str, colour: str) -> int:
        """Pixels of a canvas that are about of a colour of the page, such as "c0"."""
        return int(self.page.evaluate(INK, [selector, colour]))


INK = """
([selector, name]) => {
  const canvas = document.querySelector(selector), copy = document.createElement("canvas");
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const pen = copy.getContext("2d", { willReadFrequently: true });
  pen.drawImage(canvas, 0, 0);
  const data = pen.getImageData(0, 0, canvas.width, canvas.height).data;
  const hex = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const colour = [1, 3, 5].map(place => parseInt(hex.slice(place, place + 2), 16));
  let count = 0;
  for (let place = 0; place < data.length; place += 4) {
    const isNear = colour.every((part, index) => Math.abs(data[place + index] - part) < 24);
    count += isNear && data[place + 3] > 200;
  }
  return count;
}
"""


@contextmanager
def window(
    browser: Browser, url: str, *, size: tuple[int, int] = DESKTOP, dark: bool = False, sharpness: float = 1.0
) -> Generator[Window, None, None]:
    """A window that knows nothing of others, with a run's page in it as soon as that is drawn."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        device_scale_factor=sharpness,
    )
    try:
        found = Window(context.new_page())
        found.page.on(
            "console", lambda said: found.said.append(said.text) if said.type in ("error", "warning") else None
        )
        found.page.on("pageerror", lambda error: found.said.append(str(error)))
        found.page.goto(url)
        found.until("document.querySelector('#far').textContent !== ''")
        yield found
    finally:
        context.close()
