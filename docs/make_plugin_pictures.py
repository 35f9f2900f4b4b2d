"""Make what docs/plugins.md shows of plugins: `python docs/make_plugin_pictures.py` writes tables and pictures anew.

A table of a plugin's settings stands between `<!-- settings plugins.file.Class -->` and `<!-- end -->`; whatever is
between the two is replaced. A picture of what a plugin does to a picture is an entry of SHOWN.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
from PIL import Image, ImageDraw

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from core.pictures.images import Box, resize, to_pixels  # noqa: E402  # likewise
from core.preview.grid import labelled_grid  # noqa: E402  # the checkout's, found from anywhere
from events import Plugin  # noqa: E402  # likewise
from events.payloads import Crop  # noqa: E402  # likewise
from events.testing import Harness, sample_context  # noqa: E402  # likewise
from plugins.loading import bundled_classes  # noqa: E402  # likewise

PAGE = ROOT / "docs" / "plugins.md"
FOLDER = ROOT / "docs" / "images" / "plugins"
MARKED = re.compile(r"<!-- settings (\S+) -->\n.*?<!-- end -->", re.DOTALL)
SIZE = 192
"""Of each picture, in pixels."""
Settings = dict[str, Any]
LOOK = "examples/looks/faded.cube"
SHOWN: dict[str, tuple[tuple[str, Settings], ...]] = {
    "plugins.image_color.Gamma": tuple(
        (f"gamma = {power:g}", {"low": power, "high": power}) for power in (0.5, 0.8, 1.6)
    ),
    "plugins.image_color.Hsl": (
        ("hue = 90", {"hue": 90}),
        ("saturation = 0.3", {"saturation": 0.3}),
        ("lightness = 1.4", {"lightness": 1.4}),
    ),
    "plugins.image_grade.Grade": (
        ("temperature = 60", {"temperature": 60}),
        ("tint = 15", {"tint": 15}),
        ("contrast = 1.6", {"contrast": 1.6}),
    ),
    "plugins.image_curves.Curves": (
        ("rgb, lifted", {"rgb": [[0, 60], [128, 150], [255, 255]]}),
        ("rgb, an S", {"rgb": [[0, 0], [64, 30], [192, 225], [255, 255]]}),
        ("red and blue", {"red": [[0, 0], [128, 160], [255, 255]], "blue": [[0, 40], [255, 210]]}),
    ),
    "plugins.image_lut.Lut": tuple(
        (f"strength = {strength:g}", {"file": LOOK, "strength": strength}) for strength in (0.4, 0.7, 1)
    ),
    "plugins.image_sharpness.Sharpen": tuple(
        (f"amount = {amount:g}", {"amount": amount, "radius": 1.5}) for amount in (-1, 1, 3)
    ),
    "plugins.image_crop.Flip": (
        ("horizontal = 1", {"horizontal": 1}),
        ("vertical = 1", {"vertical": 1}),
        ("both", {"horizontal": 1, "vertical": 1}),
    ),
    "plugins.image_crop.CropJitter": tuple(
        (f"one of many, {number}", {"scale": [0.3, 0.7], "aspect": [0.8, 1.25]}) for number in (1, 2, 3)
    ),
}
"""By plugin: three labels, each with settings."""


def main() -> None:
    """Write the tables of the page, and a picture for each plugin that changes pictures."""
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for use in SHOWN:
        picture_of(use).save(FOLDER / f"{use.rpartition('.')[2]}.png", optimize=True)


def with_tables(page: str) -> str:
    """The page with the table of each plugin that it marks."""
    kinds = bundled_classes()
    return MARKED.sub(lambda found: f"<!-- settings {found[1]} -->\n{table_of(kinds[found[1]])}<!-- end -->", page)


def table_of(kind: type[Plugin]) -> str:
    """A row for each setting: name, what it may be, what it is when left out, and what it means."""
    schema = kind.Settings.model_json_schema()
    rows = ["| setting | values | when left out | meaning |", "|---|---|---|---|"]
    for name, field in schema.get("properties", {}).items():
        left_out = "it is needed" if name in schema.get("required", ()) else value_text(field.get("default"))
        cells = (f"`{name}`", values_text(field, schema), left_out, field.get("description", ""))
        rows.append("| " + " | ".join(map(escaped, cells)) + " |")
    return "".join(f"{row}\n" for row in rows) if len(rows) > 2 else "It has no settings.\n"


def escaped(text: str) -> str:
    """As the cell of a table: outside of backticks, what would be taken for a tag is escaped too."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))


def value_text(value: Any) -> str:
    """As the config would have it."""
    return "none" if value in (None, [], {}) else f"`{json.dumps(value, ensure_ascii=False)}`"


def values_text(field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """What a setting may be, in words, from its JSON schema."""
    if "$ref" in field:
        return values_text(schema["$defs"][field["$ref"].rpartition("/")[2]], schema)
    if choices := field.get("enum") or ([field["const"]] if "const" in field else []):
        return ", ".join(f"`{choice}`" for choice in choices)
    if "anyOf" in field:
        kinds = [one for one in field["anyOf"] if one.get("type") != "null"]
        if [one.get("type") for one in kinds] == ["number", "array"]:
            return f"number or [low, high]{bounds_text(kinds[0])}"
        return " or ".join(values_text(one, schema) for one in kinds)
    kind = field.get("type", "any")
    if kind == "array":
        return f"list of {values_text(field.get('items', {}), schema)}" if "prefixItems" not in field else "[from, to]"
    if kind == "object":
        return "table of names"
    words = {
        "string": "text",
        "boolean": "`true`, `false`",
        "integer": "whole number",
        "number": "number",
        "any": "any",
    }
    return ("path" if field.get("format") == "path" else words[kind]) + bounds_text(field)


def bounds_text(field: Mapping[str, Any]) -> str:
    """`, 0 to 1`, `, above 0` and the like."""
    low, high = field.get("minimum"), field.get("maximum")
    above, below = field.get("exclusiveMinimum"), field.get("exclusiveMaximum")
    if field.get("type") == "integer" and above is not None:
        low, above = above + 1, None
    if low is not None and high is not None:
        return f", {low:g} to {high:g}"
    words = (("from", low), ("above", above), ("up to", high), ("below", below))
    return "".join(f", {word} {bound:g}" for word, bound in words if bound is not None)


def picture_of(use: str) -> Image.Image:
    """The scene as it is, and as a plugin makes it with three settings."""
    picture, kind = scene(), bundled_classes()[use]
    cells = [(picture, "as it is", False)]
    for number, (label, settings) in enumerate(SHOWN[use]):
        plugin = kind(kind.Settings.model_validate(settings))
        cells.append((made(plugin, picture, number), label, False))
    return labelled_grid(cells, len(cells), cell_pixels=SIZE)


def made(plugin: Plugin, picture: Image.Image, epoch: int) -> Image.Image:
    """The picture as a plugin makes it in an epoch."""
    with Harness(plugin) as harness:
        sample = sample_context(epoch=epoch, sample_id="scene.png", size=picture.size, target=picture.size)
        crop = harness.apply("sample.crop", Crop(left=0, top=0, right=1, bottom=1), sample)
        box = Box(crop.left, crop.top, crop.right, crop.bottom)
        picture = harness.apply("sample.image", picture, sample)
        picture = resize(picture, box, (SIZE, SIZE), mirror=crop.mirrored, upside_down=crop.upside_down)
        pixels = harness.apply("sample.pixels", to_pixels(picture), sample)
    values = ((pixels + 1) * 127.5).round().clamp(0, 255).byte()
    return Image.fromarray(values.permute(1, 2, 0).contiguous().numpy())


def scene() -> Image.Image:
    """An owl on a hill in the evening, over every hue and every grey, so that each treatment shows on something."""
    down, across = numpy.mgrid[0:SIZE, 0:SIZE] / SIZE
    sky = mixed((46, 84, 148), (248, 196, 140), down / 0.6)
    glow = numpy.exp(-((across - 0.75) ** 2 + (down - 0.42) ** 2) / 0.02)[..., None] * numpy.array([90, 60, 10])
    picture = sky + glow
    for height, colour in ((0.5, (84, 96, 120)), (0.62, (62, 92, 58)), (0.76, (44, 64, 36))):
        ridge = height + 0.05 * numpy.sin(across * 9 + height * 20) + 0.02 * numpy.sin(across * 31 + height * 7)
        texture = 1 + 0.25 * (noise(6) + noise(24) - 1)
        ground = mixed(colour, tuple(part // 2 for part in colour), (down - ridge) * 3) * texture[..., None]
        picture = numpy.where((down > ridge)[..., None], ground, picture)
    image = Image.fromarray(picture.clip(0, 255).astype(numpy.uint8))
    owl = Image.open(ROOT / "examples" / "emoji" / "pictures" / "birds" / "owl.png").convert("RGB")
    owl = owl.resize((76, 76), Image.Resampling.LANCZOS)
    shape = Image.new("L", owl.size, 0)
    ImageDraw.Draw(shape).rounded_rectangle((0, 0, 75, 75), 16, fill=255)
    image.paste(owl, (18, 62), shape)
    strip = numpy.zeros((12, SIZE, 3), dtype=numpy.uint8)
    strip[...] = numpy.linspace(0, 255, SIZE).round()[:, None]
    image.paste(Image.fromarray(strip), (0, SIZE - 12))
    image.paste(hues(), (0, SIZE - 24))
    return image


def mixed(one: tuple[int, ...], other: tuple[int, ...], share: Any) -> Any:
    """From one colour to another; (H, W) -> (H, W, 3)."""
    share = numpy.clip(share, 0, 1)[..., None]
    return (1 - share) * numpy.array(one) + share * numpy.array(other)


def noise(cells: int) -> Any:
    """(SIZE, SIZE) in [0, 1], smooth over so many cells a side."""
    grid = numpy.random.default_rng(cells).integers(0, 256, (cells, cells), dtype=numpy.uint8)
    return numpy.asarray(Image.fromarray(grid).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) / 255


def hues() -> Image.Image:
    """A strip of every hue."""
    strip = numpy.full((12, SIZE, 3), 255, dtype=numpy.uint8)
    strip[..., 0] = numpy.linspace(0, 255, SIZE).round()
    strip[..., 1] = 200
    return Image.fromarray(strip, mode="HSV").convert("RGB")


if __name__ == "__main__":
    main()
