"""A page as a test reads it: its elements, text and pictures, with every element closed where it must be."""

from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

from PIL import Image

EMPTY = {"br", "img", "meta"}


class Page(HTMLParser):
    """Parsed at once; raises AssertionError for elements that are not nested properly."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        """(innermost element, text)."""
        self._open: list[str] = []
        self.feed(self.source)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and data.strip():
            self.texts.append((self._open[-1], data))

    def all(self, tag: str, class_: str = "") -> list[dict[str, str]]:
        return [own for name, own in self.elements if name == tag and (not class_ or class_ in own.get("class", ""))]

    def text_of(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]

    @property
    def text(self) -> str:
        return " ".join(text for tag, text in self.texts if tag != "style")

    @property
    def pictures(self) -> list[Image.Image]:
        """Decoded from their data URIs."""
        return [
            Image.open(BytesIO(b64decode(own["src"].partition("base64,")[2]))).convert("RGB") for own in self.all("img")
        ]


def assert_stands_alone(page: Page) -> None:
    """No script, no frame, no handler, and nothing that is fetched."""
    allowed = {"src", "style", "class", "alt", "title", "width", "height", "dir", "lang", "charset", "name", "content",
               "http-equiv", "viewbox", "preserveaspectratio", "role", "aria-label", "d"}  # fmt: skip
    for tag, own in page.elements:
        assert tag not in {"script", "link", "iframe", "object", "embed", "form", "base", "a"}
        assert set(own) <= allowed
        assert own.get("src", "data:image/").startswith("data:image/")
    assert "url(" not in page.source
    assert "@import" not in page.source
    policy = next(own["content"] for own in page.all("meta") if "http-equiv" in own)
    assert policy.startswith("default-src 'none'")
