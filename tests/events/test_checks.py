"""The catalogue's checks refuse a wrong type, shape, dtype, device, key or non-finite value, and say what they found."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from events import checks
from events.catalogue import (
    BATCH_DEVICE,
    BATCH_HOST,
    CATALOGUE,
    EPOCH_PLAN,
    SAMPLE_CROP,
    SAMPLE_PIXELS,
    SAMPLE_SETTINGS,
)
from events.payloads import Batch, Crop, Item, Prompt, SampleKey, SampleSettings
from events.spec import Build, Check, Transform
from events.testing import ITEM, PROMPT, batch

PIXELS = torch.zeros(3, 4, 4)
NAN = torch.full((3, 4, 4), float("nan"))


def test_every_transform_and_build_of_the_catalogue_declares_a_check() -> None:
    assert all(callable(spec.check) for spec in CATALOGUE if isinstance(spec, Transform | Build))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (torch.zeros(3, 4, 5), "expected Tensor[3, 4, 4] float32 on cpu, got Tensor[3, 4, 5] float32 on cpu"),
        (torch.zeros(3, 4, 4, dtype=torch.float64), "got Tensor[3, 4, 4] float64 on cpu"),
        (torch.zeros(3, 4, 4, device="meta"), "got Tensor[3, 4, 4] float32 on meta"),
        ([0.0], "expected Tensor[3, 4, 4] float32 on cpu, got list [0.0]"),
        (NAN, "expected finite values, got NaN or infinity"),
        (NAN.nan_to_num(float("inf")), "expected finite values, got NaN or infinity"),
    ],
)
def test_pixels_keep_shape_dtype_device_and_are_finite(wrong: object, said: str) -> None:
    assert said in (SAMPLE_PIXELS.check(PIXELS, wrong) or "")


def test_pixels_changed_in_place_are_looked_at_too() -> None:
    pixels = torch.full((3, 4, 4), float("nan"))
    assert SAMPLE_PIXELS.check(pixels, pixels) == "expected finite values, got NaN or infinity"


WHOLE = Crop(left=0, top=0, right=1, bottom=1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ((0, 0, 1, 1), "expected Crop, got tuple"),
        (replace(WHOLE, left=0.5, right=0.5), "left and right: expected 0 <= left < right <= 1, got 0.5 and 0.5"),
        (replace(WHOLE, bottom=1.1), "top and bottom: expected 0 <= top < bottom <= 1, got 0 and 1.1"),
        (replace(WHOLE, left=-0.1), "left and right: expected 0 <= left < right <= 1, got -0.1 and 1"),
        (replace(WHOLE, top=float("nan")), "top and bottom: expected 0 <= top < bottom <= 1, got nan and 1"),
        (replace(WHOLE, right="1"), "left and right: expected 0 <= left < right <= 1, got 0 and '1'"),
    ],
)
def test_a_crop_is_a_part_of_its_picture(wrong: object, said: str) -> None:
    assert said in (SAMPLE_CROP.check(WHOLE, wrong) or "")


def test_a_crop_may_reach_as_far_out_as_rounding_puts_it() -> None:
    assert SAMPLE_CROP.check(WHOLE, replace(WHOLE, left=-1e-9, bottom=1 + 1e-9, upside_down=True)) is None


def changed(**fields: Any) -> Batch:
    return replace(BATCH, **fields)


BATCH = batch(torch.zeros(2, 3, 4, 4))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (changed(pixels=torch.zeros(3, 3, 4, 4)), "pixels: expected Tensor[2, 3, 4, 4] float32 on cpu, got Tensor[3,"),
        (changed(weight=torch.full((2,), float("nan"))), "weight: expected finite values"),
        (changed(tokens={}), "tokens: expected the keys 'text_encoder', got dict {}"),
        (changed(tokens={"text_encoder": torch.zeros(2, 9)}), "tokens: text_encoder: expected Tensor[2, 8] int64"),
        (changed(captions=("one",)), "captions: expected a tuple of 2, got tuple ('one',)"),
        (changed(keys=None), "keys: expected a tuple of 2, got None"),
        ({"pixels": BATCH.pixels}, "expected Batch, got dict"),
    ],
)
def test_a_batch_keeps_its_size_keys_shapes_and_is_finite(wrong: object, said: str) -> None:
    assert said in (BATCH_HOST.check(BATCH, wrong) or "")


def test_a_batch_changed_in_place_is_looked_at_too() -> None:
    spoilt = batch(torch.zeros(1, 3, 4, 4))
    spoilt.pixels.fill_(float("inf"))
    assert BATCH_HOST.check(spoilt, spoilt) == "pixels: expected finite values, got NaN or infinity"


def test_a_batch_may_have_other_values() -> None:
    other = changed(pixels=torch.ones(2, 3, 4, 4), captions=("x", "y"))
    assert BATCH_HOST.check(BATCH, other) is None


def test_no_value_on_the_device_is_read() -> None:
    """A tensor on `meta` has no values, so reading one would raise."""
    ghost = changed(
        pixels=BATCH.pixels.to("meta"), weight=BATCH.weight.to("meta"),
        tokens={name: ids.to("meta") for name, ids in BATCH.tokens.items()},
    )  # fmt: skip
    assert BATCH_DEVICE.check(ghost, replace(ghost)) is None
    assert "got Tensor[2, 3, 4, 4] float32 on cpu" in (BATCH_DEVICE.check(ghost, BATCH) or "")


def test_a_batch_on_the_device_that_is_only_handed_on_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its tensors would be held against itself, at every plugin and step."""
    monkeypatch.setattr(checks, "_same_shape", None)
    assert BATCH_DEVICE.check(BATCH, BATCH) is None


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), "1", None])
def test_a_samples_loss_scale_is_a_finite_number(scale: Any) -> None:
    said = SAMPLE_SETTINGS.check(SampleSettings(), SampleSettings(loss_scale=scale)) or ""
    assert said.startswith("loss_scale: expected a finite number, got")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([], "expected a tuple of tuple, got list []"),
        (([SampleKey(0, 0, 0)],), "expected tuple in the tuple, got list"),
        (((SampleKey(0, 0, 0),), ()), "batch 1: expected at least one SampleKey"),
        (((3,),), "batch 0: expected SampleKey in the tuple, got int 3"),
    ],
)
def test_a_plan_is_batches_of_at_least_one_sample_key(wrong: object, said: str) -> None:
    assert said in (EPOCH_PLAN.check((), wrong) or "")


@pytest.mark.parametrize(
    ("check", "before", "right"),
    [
        (checks.of_type(str), "a", "b"),
        (checks.same_type, SampleSettings(), SampleSettings(loss_scale=2.0)),
        (checks.finite_field("loss_scale"), SampleSettings(), SampleSettings(loss_scale=0)),
        (checks.tuple_of(Item), (ITEM,), ()),
        (checks.tuple_of(Prompt), (), (PROMPT,)),
        (checks.batches_of(SampleKey), (), ((SampleKey(0, 1, 0), SampleKey(0, 2, 0)),)),
        (checks.string_values, {}, {"format": "pt"}),
        (checks.float_values, {}, {"loss": 0.5, "images": 3, "skipped": float("nan")}),
        (checks.like_image, None, Image.new("RGB", (2, 2))),
        (checks.like_tensor, PIXELS, NAN),
        (checks.finite_tensor, PIXELS, PIXELS + 1),
        (checks.host_tensors, {"a": PIXELS}, {"a": PIXELS.half(), "b": torch.zeros(1)}),
        (checks.modules, {"unet": None}, {"unet": torch.nn.Identity(), "extra": torch.nn.Identity()}),
        (checks.is_callable, None, print),
        (checks.with_methods("step"), None, torch.optim.SGD([torch.zeros(1, requires_grad=True)])),
    ],
)
def test_a_right_value_passes(check: Check, before: object, right: object) -> None:
    assert check(before, right) is None


@pytest.mark.parametrize(
    ("check", "before", "wrong", "said"),
    [
        (checks.same_type, SampleSettings(), {}, "expected SampleSettings, got dict {}"),
        (checks.tuple_of(Item), (ITEM,), [ITEM], "expected a tuple of Item, got list"),
        (checks.tuple_of(Item), (ITEM,), ("a",), "expected Item in the tuple, got str 'a'"),
        (checks.string_values, {}, [], "expected a dict of str to str, got list []"),
        (checks.string_values, {}, {"a": 1}, "expected a str for 'a', got int 1"),
        (checks.string_values, {}, {1: "a"}, "expected keys of type str, got int 1"),
        (checks.float_values, {}, {"a": torch.zeros(())}, "expected a float for 'a', got Tensor[] float32 on cpu"),
        (checks.float_values, {}, {"a": "1"}, "expected a float for 'a', got str '1'"),
        (checks.like_image, None, "picture.png", "expected a PIL image, got str 'picture.png'"),
        (checks.host_tensors, {}, {"a": PIXELS.to("meta")}, "expected a CPU tensor for 'a', got Tensor[3, 4, 4] float32 on meta"),
        (checks.host_tensors, {}, {"a": 1}, "expected a CPU tensor for 'a', got int 1"),
        (checks.host_tensors, {"a": PIXELS}, {"a": PIXELS[:1]}, "a: expected Tensor[3, 4, 4]"),
        (checks.host_tensors, {}, [], "expected a dict of tensors, got list []"),
        (checks.modules, {"unet": 1, "vae": 2}, {"vae": torch.nn.Identity()}, "expected all of unet, vae, but 'unet' is missing"),
        (checks.modules, {}, {"unet": print}, "expected a module for 'unet', got builtin_function_or_method"),
        (checks.modules, {}, [], "expected a dict of name to module, got list []"),
        (checks.is_callable, None, 3, "expected a function, got int 3"),
        (checks.with_methods("step", "zero_grad"), None, 3, "expected an object with step, zero_grad, got int 3"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_described(check: Check, before: object, wrong: object, said: str) -> None:
    assert said in (check(before, wrong) or "")


def test_a_long_value_is_cut_in_a_message() -> None:
    assert checks.describe("a" * 100) == "str '" + "a" * 56 + "..."
