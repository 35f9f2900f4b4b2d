"""Settings, states, pictures and other values that handlers are given, in words that fit a line."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from events.plugin import Plugin, PluginTable

from ..config.file import toml_value
from ..log.redaction import Redactor
from ..pages.document import counted, on_one_line

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

SHOWN = 60
"""Signs of one value."""
SIDE = 64
"""In pixels, of the pictures whose colours are averaged."""


def settings_text(plugin: Plugin, table: PluginTable, redactor: Redactor) -> tuple[str, str]:
    """(what the config says, what stands at its default), as in TOML and without secrets."""
    values = {name: getattr(plugin.settings, name) for name in type(plugin.settings).model_fields}
    shown = redactor.tree(values)
    parts = {name: f"{name} = {_value_text(shown[name])}" for name in values}
    chosen = [part for name, part in parts.items() if name in table.settings]
    default = [part for name, part in parts.items() if name not in table.settings]
    return ", ".join(chosen), ", ".join(default)


def state_text(state: Mapping[str, Any], redactor: Redactor) -> str:
    """Each entry of a plugin's state, tensors by their shape and nested entries by their number; empty for an empty state."""
    return ", ".join(_entry_text(key, value, redactor) for key, value in state.items())


def picture_text(image: "Image.Image") -> str:
    """
    >>> from PIL import Image
    >>> picture_text(Image.new("RGB", (40, 30), (255, 0, 16)))
    '40 × 30 RGB, mean colour #ff0010'
    """
    red, green, blue = _mean_colour(image)
    return f"{image.width} × {image.height} {image.mode}, mean colour #{red:02x}{green:02x}{blue:02x}"


def picture_change(before: "Image.Image", after: "Image.Image") -> str:
    """How much of a picture is another: sizes and modes, or the share of pixels and how far their values moved."""
    import numpy

    if before.size != after.size:
        return f"the size, {before.width} × {before.height} to {after.width} × {after.height}"
    if before.mode != after.mode:
        return f"the mode, {before.mode} to {after.mode}"
    old, new = (numpy.asarray(image, dtype=numpy.float32) / 255 for image in (before, after))
    return _moved(numpy.abs(new - old))


def pixels_text(pixels: "Tensor") -> str:
    """Of (3, H, W) in [-1, 1]."""
    from ..pages.thumbnails import picture_of

    said = picture_text(picture_of(pixels)).replace(" RGB", "")
    return f"{said}, values from {float(pixels.min()):.2f} to {float(pixels.max()):.2f}"


def pixels_change(before: "Tensor", after: "Tensor") -> str:
    """As `picture_change`, of (3, H, W) in [-1, 1] each."""
    return _moved(((after - before).abs() / 2).permute(1, 2, 0).numpy())


def caption_text(caption: str, most: int = 300) -> str:
    return f'"{on_one_line(caption, most)}"' if caption else "(empty)"


def _entry_text(key: str, value: Any, redactor: Redactor) -> str:
    if _is_tensor(value):
        return f"{key}: tensor {tuple(value.shape)}"
    if isinstance(value, Mapping | list | tuple):
        if not value:
            return f"{key}: empty"
        tensors = sum(1 for _ in _tensors_in(value))
        if tensors:
            return f"{key}: {counted(tensors, 'tensor')}"
        if len(text := _value_text(redactor.tree({key: value})[key])) <= SHOWN:
            return f"{key} = {text}"
        return f"{key}: {counted(len(value), 'entry', 'entries')}"
    return f"{key} = {_value_text(redactor.tree({key: value})[key])}"


def _value_text(value: Any) -> str:
    """As TOML has it, and for what TOML has not, as Python does."""
    if value is None:
        return "unset"
    try:
        text = toml_value(value)
    except TypeError:
        text = str(value)
    return on_one_line(text)


def _is_tensor(value: object) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _tensors_in(value: Any) -> Iterator[Any]:
    if _is_tensor(value):
        yield value
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from _tensors_in(member)
    elif isinstance(value, list | tuple):
        for member in value:
            yield from _tensors_in(member)


def _mean_colour(image: "Image.Image") -> tuple[int, int, int]:
    import numpy

    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    red, green, blue = numpy.asarray(small).reshape(-1, 3).mean(axis=0).round().astype(int).tolist()
    return red, green, blue


def _moved(distances: Any) -> str:
    """Of an array (H, W, C) or (H, W) of distances in [0, 1]."""
    of_pixels = distances.max(axis=-1) if distances.ndim == 3 else distances
    share, mean, most = 100 * (of_pixels > 0).mean(), 100 * distances.mean(), 100 * distances.max()
    return f"{share:.0f} % of its pixels, by {mean:.1f} % of the range of values on average and {most:.0f} % at most"
