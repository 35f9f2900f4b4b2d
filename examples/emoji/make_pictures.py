"""Draw the demo pictures from Microsoft's Fluent Emoji (flat style, MIT), one PNG and one caption file each.

    npm pack @iconify-json/fluent-emoji-flat && tar xzf iconify-json-fluent-emoji-flat-*.tgz
    pip install resvg-py
    python examples/emoji/make_pictures.py package              # the pictures shipped here
    python examples/emoji/make_pictures.py package --all DIR    # every named emoji without a skin tone

A picture is 64 x 64 pixels on white in at most 64 colours; its caption is its name in lower case. The folders are
Unicode's subgroups where Unicode has one (fruit, vegetables, birds), else they follow the name.
"""

import argparse
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
SIDE_PIXELS = 64
HELD_OUT = ("green-heart", "orange-circle", "purple-square")
"""Never trained on: colour and shape are each seen in other pictures, the pair is not."""

SKIN = re.compile(r"-(dark|light|medium|medium-dark|medium-light)$")
CODES = {
    "fruit": "1f347-1f353 1f95d 1f345 1f965 1f96d 1fad0 1fad2",
    "vegetables": "1f951 1f346 1f954 1f955 1f33d 1f336 1fad1 1f952 1f96c 1f966 1f9c4 1f9c5 1f95c 1fad8 1f330 1fada 1fadb",
    "birds": "1f983 1f414 1f413 1f423-1f427 1f54a 1f985 1f986 1f9a2 1f989 1f9a4 1f9a9 1f99a 1f99c 1fabf",
    "animals": "1f42d 1f42e 1f42f 1f430 1f431 1f434 1f435 1f436 1f437 1f438 1f439 1f43a 1f43b 1f43c 1f428 1f98a 1f981"
    " 1f984 1f99d",
    "smileys": "1f600-1f62f 1f634 1f637 1f644 1f914 1f917 1f920 1f929 1f970 1f973 1f976",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the unpacked npm package")
    parser.add_argument("--all", type=Path, metavar="DIR", help="draw every named emoji into DIR instead")
    arguments = parser.parse_args()
    icons = json.loads((arguments.package / "icons.json").read_text())
    names = json.loads((arguments.package / "chars.json").read_text())
    code_of = {name: code for code, name in names.items()}
    for name in sorted(icons["icons"]):
        folder = "all" if arguments.all else shipped_folder(name, code_of.get(name, ""))
        if folder and name in code_of and not SKIN.search(name):
            draw(name, icons["icons"][name]["body"], (arguments.all or HERE) / ("" if arguments.all else folder))


def shipped_folder(name: str, code: str) -> str | None:
    """The folder of a shipped picture, or None for one that is only part of the larger set."""
    if name in HELD_OUT:
        return "held_out"
    by_name: dict[str, Callable[[str], bool]] = {
        "pictures/hearts": lambda n: n.endswith("-heart") and n.split("-")[-2] in COLOURS,
        "pictures/circles": lambda n: n.endswith("-circle") and n.removesuffix("-circle") in COLOURS,
        "pictures/squares": lambda n: n.endswith("-square") and re.sub("-(large-)?square", "", n) in COLOURS,
    }
    for folder, matches in by_name.items():
        if matches(name):
            return folder
    for folder, codes in CODES.items():
        if code in expand(codes):
            return f"pictures/{folder}"
    return None


COLOURS = {"red", "orange", "yellow", "green", "blue", "purple", "brown", "black", "white", "grey", "pink"}


def expand(codes: str) -> set[str]:
    """Hexadecimal code points of a list such as ``"1f347-1f349 1f95d"``."""
    found: set[str] = set()
    for part in codes.split():
        first, _, last = part.partition("-")
        found |= {f"{code:x}" for code in range(int(first, 16), int(last or first, 16) + 1)}
    return found


def draw(name: str, body: str, folder: Path) -> None:
    import resvg_py

    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">{body}</svg>'
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIDE_PIXELS, height=SIDE_PIXELS))
    icon = Image.open(io.BytesIO(png)).convert("RGBA")
    page = Image.new("RGBA", icon.size, "white")
    page.alpha_composite(icon)
    folder.mkdir(parents=True, exist_ok=True)
    page.convert("RGB").quantize(64).save(folder / f"{name}.png", optimize=True)
    caption = name.replace("-", " ").replace(" large square", " square")
    (folder / f"{name}.txt").write_text(caption + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
