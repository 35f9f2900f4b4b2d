"""A picture file becomes upright sRGB of the right colours, and only the part its bucket shows becomes numbers."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile, PngImagePlugin

from core.pictures import colours, images
from core.pictures.files import Refused, open_picture, reason_of, strict_warnings
from core.pictures.images import Box, Picture, corner, crop_box, mask_values, read_picture, resize, to_pixels
from core.pictures.orientation import orientation, upright_size
from events.payloads import Mask
from tests.zoo import ODD, chunk, with_orientation

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def read(path: Path, mask: Mask = "", target: tuple[int, int] | None = None) -> Picture:
    return read_picture(path, transparent="white", mask=mask, target=target)


def near(image: Image.Image, place: tuple[int, int], colour: tuple[int, ...], within: int = 12) -> bool:
    found = image.getpixel(place)
    assert isinstance(found, tuple)
    return all(abs(a - b) <= within for a, b in zip(found, colour, strict=True))


def red_left_of_blue(size: tuple[int, int] = (96, 64)) -> Image.Image:
    image = Image.new("RGB", size, BLUE)
    image.paste(RED, (0, 0, size[0] // 2, size[1]))
    return image


def png_with(path: Path, extra: bytes, *, before: bytes) -> None:
    """A PNG with another chunk before the named one."""
    file = io.BytesIO()
    red_left_of_blue().save(file, "PNG")
    data = file.getvalue()
    at = data.index(before) - 4
    path.write_bytes(data[:at] + extra + data[at:])


def textured(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Smooth shapes with some grain, as a photograph has."""
    random = numpy.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (size[1] // 24 + 2, size[0] // 24 + 2, 3), dtype=numpy.uint8))
    smooth = numpy.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=numpy.float32)
    grain = random.normal(0, 4, (size[1], size[0], 1))
    return Image.fromarray((smooth + grain).clip(0, 255).astype(numpy.uint8))


def psnr(image: Image.Image, other: Image.Image) -> float:
    difference = numpy.asarray(image, dtype=numpy.float64) - numpy.asarray(other, dtype=numpy.float64)
    return float(10 * numpy.log10(255**2 / max(1e-12, (difference**2).mean())))


# which way up


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif", "avif"])
@pytest.mark.parametrize("value", range(1, 9))
def test_a_picture_is_turned_as_its_exif_asks_and_the_header_tells_the_same_size(
    tmp_path: Path, kind: str, value: int
) -> None:
    path = tmp_path / f"a.{kind}"
    red_left_of_blue().save(path, exif=with_orientation(value))
    with path.open("rb") as file, open_picture(file) as image:
        size = upright_size(image)
    picture = read(path)
    assert size == picture.size == picture.image.size == ((64, 96) if value >= 5 else (96, 64))
    where_red_is = {1: (9, 32), 2: (86, 32), 3: (86, 32), 4: (9, 32), 5: (32, 9), 6: (32, 9), 7: (32, 86), 8: (32, 86)}
    assert near(picture.image, where_red_is[value], RED, within=40)


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_exif_of_a_png_counts_before_and_after_the_pixels(tmp_path: Path, before: bytes) -> None:
    png_with(tmp_path / "a.png", chunk(b"eXIf", with_orientation(6).tobytes()[6:]), before=before)
    with (tmp_path / "a.png").open("rb") as file, open_picture(file) as image:
        assert orientation(image) == 6
        assert upright_size(image) == (64, 96)
    assert read(tmp_path / "a.png").image.size == (64, 96)


def test_the_orientation_of_a_png_is_found_without_decoding_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    png_with(tmp_path / "a.png", chunk(b"eXIf", with_orientation(8).tobytes()[6:]), before=b"IEND")

    def refuse(image: Image.Image) -> None:
        raise AssertionError("the pixels were decoded")

    with (tmp_path / "a.png").open("rb") as file, open_picture(file) as image:
        monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
        assert orientation(image) == 8


def test_a_png_that_ends_within_its_chunks_has_no_orientation(tmp_path: Path) -> None:
    red_left_of_blue().save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:70])
    with (tmp_path / "a.png").open("rb") as file, open_picture(file) as image:
        assert orientation(image) == 1


def test_an_orientation_that_means_nothing_and_damaged_exif_leave_the_picture_as_it_is(tmp_path: Path) -> None:
    red_left_of_blue().save(tmp_path / "nine.jpg", exif=with_orientation(9))
    assert read(tmp_path / "nine.jpg").image.size == (96, 64)
    with strict_warnings():
        for number, damaged in enumerate((b"II*\0\xff\xff\xff\xff", b"II", b"no exif")):
            red_left_of_blue().save(tmp_path / f"{number}.jpg", exif=b"Exif\0\0" + damaged)
            red_left_of_blue().save(tmp_path / f"{number}.png", exif=damaged)
            assert read(tmp_path / f"{number}.jpg").image.size == (96, 64)
            assert read(tmp_path / f"{number}.png").image.size == (96, 64)


def test_a_small_decode_is_turned_as_the_large_one(tmp_path: Path) -> None:
    red_left_of_blue((960, 640)).save(tmp_path / "a.jpg", exif=with_orientation(6))
    picture = read(tmp_path / "a.jpg", target=(64, 96))
    assert picture.size == (640, 960)
    assert picture.image.size == (80, 120)
    assert near(picture.image, (40, 10), RED)
    assert near(picture.image, (40, 110), BLUE)


# colours


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1", "RGB"])
def test_transparency_shows_the_configured_colour(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0)).convert(mode)
    marked = {} if mode in ("RGBA", "LA") else {"transparency": image.getpixel((0, 0))}
    image.save(tmp_path / "a.png", **marked)
    assert read(tmp_path / "a.png").image.getpixel((4, 4)) == WHITE


def test_half_transparent_colours_are_mixed_with_the_page(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (255, 0, 0, 128)).save(tmp_path / "a.png")
    assert near(read(tmp_path / "a.png").image, (4, 4), (255, 127, 127), within=1)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, name: str) -> None:
    values = numpy.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(numpy.uint16)
    Image.fromarray(values).save(tmp_path / name)
    mean = numpy.asarray(read(tmp_path / name).image).mean()
    assert mean == pytest.approx(127.5, abs=0.1)


def test_sixteen_bit_grey_in_the_other_byte_order_and_with_a_transparent_value_is_read(tmp_path: Path) -> None:
    values = numpy.full((8, 8), 257 * 100, dtype=numpy.uint16)
    Image.fromarray(values.astype(">u2")).save(tmp_path / "a.tif")
    Image.fromarray(values).save(tmp_path / "a.png", transparency=257 * 100)
    assert read(tmp_path / "a.tif").image.getpixel((0, 0)) == (100, 100, 100)
    assert read(tmp_path / "a.png").image.getpixel((0, 0)) == WHITE


@pytest.mark.parametrize(
    ("dtype", "value", "grey"),
    [
        ("int32", 100, 100),
        ("int32", 25700, 100),
        ("float32", 0.5, 128),
        ("float32", 100.0, 100),
        ("float32", 25700, 100),
    ],
)
def test_grey_of_a_range_no_header_tells_is_read_sensibly(tmp_path: Path, dtype: str, value: float, grey: int) -> None:
    Image.fromarray(numpy.full((8, 8), value, dtype=dtype)).save(tmp_path / "a.tif")
    assert read(tmp_path / "a.tif").image.getpixel((0, 0)) == (grey, grey, grey)


def test_a_float_picture_with_holes_is_read(tmp_path: Path) -> None:
    values = numpy.full((8, 8), 0.5, dtype=numpy.float32)
    values[0, :3] = (numpy.nan, numpy.inf, -numpy.inf)
    Image.fromarray(values).save(tmp_path / "a.tif")
    picture = read(tmp_path / "a.tif").image
    assert picture.getpixel((0, 0)) == (0, 0, 0)


def test_cmyk_is_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.jpg")
    assert read(tmp_path / "a.jpg").image.getpixel((0, 0)) == WHITE


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_file_that_can_be_used_is_upright_and_has_its_colours(tmp_path: Path, kind: str) -> None:
    name, make, size, mean = ODD[kind]
    (tmp_path / name).write_bytes(make())
    image = read(tmp_path / name).image
    assert (image.mode, image.size) == ("RGB", size)
    assert mean is None or numpy.asarray(image).mean() == pytest.approx(mean, abs=1)


def test_colours_without_a_way_to_rgb_are_refused_by_name(tmp_path: Path) -> None:
    Image.new("LAB", (8, 8)).save(tmp_path / "a.tif")
    with pytest.raises(Refused, match="LAB colours"):
        read(tmp_path / "a.tif")


def profile_that_swaps_red_and_green() -> bytes:
    """sRGB with the primaries' tags exchanged: unmistakable, and valid."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile)


def test_a_colour_profile_is_followed(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), RED).save(tmp_path / "a.png", icc_profile=profile_that_swaps_red_and_green())
    assert near(read(tmp_path / "a.png").image, (4, 4), (0, 255, 0), within=3)


def test_a_colour_profile_is_followed_below_transparency_and_in_a_small_decode(tmp_path: Path) -> None:
    profile = profile_that_swaps_red_and_green()
    Image.new("RGBA", (8, 8), (255, 0, 0, 128)).save(tmp_path / "a.png", icc_profile=profile)
    Image.new("RGB", (640, 640), RED).save(tmp_path / "a.jpg", icc_profile=profile)
    assert near(read(tmp_path / "a.png").image, (4, 4), (127, 255, 127), within=3)
    assert near(read(tmp_path / "a.jpg", target=(64, 64)).image, (4, 4), (0, 255, 0), within=6)


def profile_of_linear_grey() -> bytes:
    """The smallest valid one: a header, and a curve that is a straight line."""
    curve = b"curv\0\0\0\0" + (0).to_bytes(4)
    white = b"XYZ \0\0\0\0" + b"".join(round(value * 65536).to_bytes(4) for value in (0.9642, 1.0, 0.8249))
    at, data = 128 + 4 + 2 * 12, curve + white
    tags = (b"kTRC", at, len(curve)), (b"wtpt", at + len(curve), len(white))
    table = (2).to_bytes(4) + b"".join(name + start.to_bytes(4) + size.to_bytes(4) for name, start, size in tags)
    header = bytearray(128)
    header[0:4], header[8:12] = (at + len(data)).to_bytes(4), b"\x02\x10\0\0"
    header[12:24], header[36:40] = b"mntrGRAYXYZ ", b"acsp"
    header[68:80] = white[8:]
    return bytes(header) + table + data


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_grey_profile_is_followed_at_8_and_16_bits(tmp_path: Path, dtype: str) -> None:
    half = numpy.full((8, 8), numpy.iinfo(dtype).max // 2, dtype=dtype)
    Image.fromarray(half).save(tmp_path / "a.png", icc_profile=profile_of_linear_grey())
    assert near(read(tmp_path / "a.png").image, (4, 4), (188, 188, 188), within=2)  # sRGB of half the light


def test_a_profile_that_is_srgb_changes_no_colour_and_costs_nothing(tmp_path: Path) -> None:
    image = textured((64, 64))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(tmp_path / "a.png", icc_profile=profile)
    assert read(tmp_path / "a.png").image.tobytes() == image.tobytes()
    assert colours._transform(profile, "RGB") is None


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_broken_profile_and_one_for_other_colours_are_ignored(tmp_path: Path, mode: str) -> None:
    of_rgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for number, profile in enumerate((b"no profile", of_rgb[:200], of_rgb if mode != "RGB" else b"\0" * 128)):
        path = tmp_path / f"{number}.tif"
        Image.new(mode, (8, 8)).save(path, icc_profile=profile)
        assert read(path).image.tobytes() == Image.new(mode, (8, 8)).convert("RGB").tobytes()


def test_the_transform_of_a_profile_is_built_once(tmp_path: Path) -> None:
    image, profile = Image.new("RGB", (8, 8), RED), profile_that_swaps_red_and_green() + b"\0\0\0\1"
    before = colours._transform.cache_info().misses
    for name in ("a.png", "b.png", "c.png"):
        image.save(tmp_path / name, icc_profile=profile)
        read(tmp_path / name)
    assert colours._transform.cache_info().misses == before + 1


# masks


def test_alpha_is_the_mask_where_asked_and_the_colours_lie_on_the_page_all_the_same(tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 4, 8))
    image.save(tmp_path / "a.png")
    picture = read(tmp_path / "a.png", mask="alpha")
    assert picture.mask is not None
    assert (picture.mask.getpixel((1, 1)), picture.mask.getpixel((6, 1))) == (255, 0)
    assert (picture.image.getpixel((1, 1)), picture.image.getpixel((6, 1))) == (RED, WHITE)


def test_alpha_is_no_mask_where_none_is_asked_for(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png").mask is None


def test_an_opaque_picture_has_no_mask_of_its_own(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (255, 0, 0, 255)).save(tmp_path / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    assert read(tmp_path / "a.png", mask="alpha").mask is None
    assert read(tmp_path / "a.jpg", mask="alpha").mask is None


@pytest.mark.parametrize("size", [(96, 64), (48, 32), (192, 128), (97, 64)])
def test_a_mask_file_is_brought_to_the_size_of_its_picture(tmp_path: Path, size: tuple[int, int]) -> None:
    red_left_of_blue().save(tmp_path / "a.png")
    mask = Image.new("L", size, 0)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    mask.save(tmp_path / "a.mask.png")
    picture = read(tmp_path / "a.png", mask=tmp_path / "a.mask.png")
    assert picture.mask is not None
    assert (picture.mask.mode, picture.mask.size) == ("L", (96, 64))
    assert (picture.mask.getpixel((40, 30)), picture.mask.getpixel((56, 30))) == (255, 0)


def test_a_mask_file_follows_its_own_orientation_and_the_small_decode(tmp_path: Path) -> None:
    red_left_of_blue((645, 430)).save(tmp_path / "a.jpg")
    upright = Image.new("L", (645, 430), 0)
    upright.paste(255, (0, 0, 322, 430))
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "m.png", exif=with_orientation(6))
    picture = read(tmp_path / "a.jpg", mask=tmp_path / "m.png", target=(96, 64))
    assert picture.mask is not None
    assert picture.mask.size == picture.image.size == (162, 108)
    assert (picture.mask.getpixel((70, 50)), picture.mask.getpixel((90, 50))) == (255, 0)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "1", "I;16"])
def test_a_mask_file_of_any_colours_is_read_as_grey(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    mask = Image.new("L", (8, 8), 255) if mode in ("1", "CMYK") else Image.new("RGB", (8, 8), WHITE)
    image = Image.new("I;16", (8, 8), 65535) if mode == "I;16" else mask.convert("RGB").convert(mode)
    image.save(tmp_path / "m.tif")
    picture = read(tmp_path / "a.png", mask=tmp_path / "m.tif")
    assert picture.mask is not None
    assert picture.mask.getextrema() == (255, 255)


def test_transparent_parts_of_a_mask_file_do_not_count(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Image.new("RGBA", (8, 8), (255, 255, 255, 0)).save(tmp_path / "m.png")
    picture = read(tmp_path / "a.png", mask=tmp_path / "m.png")
    assert picture.mask is not None
    assert picture.mask.getextrema() == (0, 0)


def test_a_mask_of_another_aspect_and_a_missing_one_are_refused_by_name(tmp_path: Path) -> None:
    red_left_of_blue().save(tmp_path / "a.png")
    Image.new("L", (96, 70)).save(tmp_path / "m.png")
    with pytest.raises(Refused, match=r"m\.png has 96 x 70 pixels, of another aspect"):
        read(tmp_path / "a.png", mask=tmp_path / "m.png")
    with pytest.raises(Refused, match=r"none\.png does not exist"):
        read(tmp_path / "a.png", mask=tmp_path / "none.png")


def test_the_value_of_a_latent_cell_is_the_mean_of_the_mask_under_it() -> None:
    mask = Image.new("L", (16, 8), 255)
    mask.paste(0, (0, 0, 4, 8))
    values = mask_values(mask, (2, 1))
    assert (values.shape, values.dtype) == ((1, 1, 2), torch.float32)
    assert values.tolist() == [[[0.5, 1.0]]]


# decoding smaller


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
@given(
    width=st.integers(16, 700), height=st.integers(16, 700), target=st.tuples(st.integers(8, 96), st.integers(8, 96))
)
def test_a_small_decode_still_covers_its_target(
    tmp_path_factory: pytest.TempPathFactory, kind: str, width: int, height: int, target: tuple[int, int]
) -> None:
    path = tmp_path_factory.mktemp("small") / f"a.{kind}"
    Image.new("RGB", (width, height)).save(path)
    picture = read(path, target=target)
    scale = min(1.0, max(target[0] / width, target[1] / height))
    assert picture.size == (width, height)
    assert picture.image.width >= width * scale - 1e-6
    assert picture.image.height >= height * scale - 1e-6


def test_large_files_are_decoded_smaller_and_only_with_a_target(tmp_path: Path) -> None:
    for kind in ("jpg", "png"):
        Image.new("RGB", (1600, 1200)).save(tmp_path / f"a.{kind}")
    assert read(tmp_path / "a.jpg", target=(128, 128)).image.size == (200, 150) != read(tmp_path / "a.jpg").image.size
    assert read(tmp_path / "a.png", target=(128, 128)).image.size == (400, 300) != read(tmp_path / "a.png").image.size


@pytest.mark.parametrize("size", [(1536, 1024), (1531, 1021)])
@pytest.mark.parametrize(("kind", "options"), [("jpg", {"quality": 92}), ("png", {})])
def test_a_small_decode_shows_what_the_full_one_shows(
    tmp_path: Path, size: tuple[int, int], kind: str, options: dict[str, int]
) -> None:
    path, target = tmp_path / f"a.{kind}", (192, 192)
    textured(size).save(path, **options)
    box = crop_box(size, target, "random", Random(3))
    small = read(path, target=target)
    full = read(path)
    assert small.image.width < full.image.width
    shown = resize(small.image, box, target, mirror=False, whole=small.size)
    left, top, right, bottom = (part * side for part, side in zip(box, size + size, strict=True))
    reference = full.image.resize(target, Image.Resampling.LANCZOS, box=(left, top, min(right, size[0]), bottom))
    assert psnr(shown, reference) > 40


def test_a_picture_is_a_function_of_file_and_target_alone(tmp_path: Path) -> None:
    textured((800, 600)).save(tmp_path / "a.jpg")
    first, second = (read(tmp_path / "a.jpg", target=(96, 96)).image.tobytes() for _ in range(2))
    assert first == second


def test_a_cameras_file_of_several_pictures_gives_the_first_one(tmp_path: Path) -> None:
    red_left_of_blue((640, 480)).save(
        tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[Image.new("RGB", (64, 48), "green")]
    )
    picture = read(tmp_path / "a.jpg", target=(64, 64))
    assert (picture.size, picture.image.size) == ((640, 480), (160, 120))
    assert near(picture.image, (20, 60), RED)


# crop, resize and corner


@given(
    size=st.tuples(st.integers(8, 4000), st.integers(8, 4000)),
    target=st.tuples(st.integers(8, 1024), st.integers(8, 1024)),
    crop=st.sampled_from(["centre", "random", "jitter"]),
    seed=st.integers(0, 99),
)
def test_a_crop_lies_within_the_picture_and_has_the_targets_aspect(
    size: tuple[int, int], target: tuple[int, int], crop: images.Crop, seed: int
) -> None:
    box = crop_box(size, target, crop, Random(seed))
    assert 0 <= box.left < box.right <= 1 + 1e-9
    assert 0 <= box.top < box.bottom <= 1 + 1e-9
    width, height = (box.right - box.left) * size[0], (box.bottom - box.top) * size[1]
    assert width / height == pytest.approx(target[0] / target[1], rel=1e-6)
    assert max(box.right - box.left, box.bottom - box.top) == pytest.approx(1)
    assert resize(Image.new("RGB", (40, 30)), box, (16, 16), mirror=False).size == (16, 16)


def test_a_centred_crop_draws_no_random_number_and_the_others_draw_two() -> None:
    for crop, draws in (("centre", 0), ("random", 2), ("jitter", 2)):
        random, reference = Random(5), Random(5)
        crop_box((300, 100), (64, 64), crop, random)  # type: ignore[arg-type]
        for _ in range(draws):
            reference.random()
        assert random.random() == reference.random()


def test_jitter_stays_nearer_the_centre_than_random() -> None:
    def spread(crop: images.Crop) -> float:
        random = Random(1)
        return float(numpy.std([crop_box((300, 100), (64, 64), crop, random).left for _ in range(2000)]))

    # Over [0, 2/3]: uniform has deviation 1/sqrt(12), triangular 1/sqrt(24) of the width.
    assert spread("random") == pytest.approx(2 / 3 / 12**0.5, rel=0.05)
    assert spread("jitter") == pytest.approx(2 / 3 / 24**0.5, rel=0.05)


def test_the_middle_of_a_wide_picture_is_shown() -> None:
    image = Image.new("RGB", (300, 100), BLUE)
    image.paste(RED, (100, 0, 200, 100))
    box = crop_box(image.size, (50, 50), "centre", Random(0))
    shown = resize(image, box, (50, 50), mirror=False)
    assert box == pytest.approx((1 / 3, 0, 2 / 3, 1))
    assert shown.getpixel((25, 25)) == RED


def test_one_box_fits_the_picture_its_small_decode_and_its_mask(tmp_path: Path) -> None:
    red_left_of_blue((1299, 866)).save(tmp_path / "a.jpg")
    mask = Image.new("L", (1299, 866), 0)
    mask.paste(255, (0, 0, 649, 866))
    mask.save(tmp_path / "m.png")
    picture = read(tmp_path / "a.jpg", mask=tmp_path / "m.png", target=(64, 64))
    assert picture.mask is not None
    box = crop_box(picture.size, (64, 64), "centre", Random(0))
    shown = resize(picture.image, box, (64, 64), mirror=True, whole=picture.size)
    counts = resize(picture.mask, box, (64, 64), mirror=True, whole=picture.size)
    assert near(shown, (50, 32), RED)
    assert near(shown, (13, 32), BLUE)
    assert (counts.getpixel((50, 32)), counts.getpixel((13, 32))) == (255, 0)


def test_a_mask_does_not_overshoot_at_its_edge() -> None:
    mask = Image.new("L", (100, 100), 64)
    mask.paste(192, (50, 0, 100, 100))
    shown = resize(mask, Box(0, 0, 1, 1), (32, 32), mirror=False)
    assert shown.getextrema() == (64, 192)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_corner_is_where_the_crop_lies_in_the_resized_and_mirrored_picture(mirrored: bool) -> None:
    size, target = (300, 200), (100, 100)
    box = Box(0.1, 0.0, 0.1 + 200 / 300, 1.0)
    # Resized to cover: 150 x 100. The crop begins 15 pixels from the left, and ends 35 from the right.
    assert corner(box, size, target, mirrored=mirrored) == ((0, 35) if mirrored else (0, 15))


def test_a_tall_picture_has_its_corner_below_the_top() -> None:
    assert corner(crop_box((100, 300), (50, 50), "centre", Random(0)), (100, 300), (50, 50), mirrored=True) == (50, 0)


@pytest.mark.parametrize(
    ("mirrored", "upside_down", "expected"),
    [(False, False, (20, 60)), (True, False, (20, 40)), (False, True, (80, 60)), (True, True, (80, 40))],
)
def test_the_corner_of_a_smaller_part_is_that_in_the_picture_so_much_larger(
    mirrored: bool, upside_down: bool, expected: tuple[int, int]
) -> None:
    # Of 200 x 200 pixels, 100 x 100 at (60, 20) as they are: the picture is not resized.
    box = Box(0.3, 0.1, 0.8, 0.6)
    assert corner(box, (200, 200), (100, 100), mirrored=mirrored, upside_down=upside_down) == expected


def test_the_corner_of_a_part_that_is_stretched_is_counted_along_each_side_by_itself() -> None:
    assert corner(Box(0.1, 0.5, 0.6, 1.0), (200, 400), (100, 50), mirrored=False) == (50, 20)


@given(
    size=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    target=st.tuples(st.integers(8, 1024), st.integers(8, 1024)),
    crop=st.sampled_from(["centre", "random"]),
    seed=st.integers(0, 99),
)
def test_a_crop_that_nobody_made_smaller_has_its_corner_at_the_scale_that_covers_the_target(
    size: tuple[int, int], target: tuple[int, int], crop: images.Crop, seed: int
) -> None:
    """To the pixel, also where half pixels are rounded."""
    box, scale = crop_box(size, target, crop, Random(seed)), max(target[0] / size[0], target[1] / size[1])
    assert corner(box, size, target, mirrored=False) == (
        round(box.top * size[1] * scale),
        round(box.left * size[0] * scale),
    )


def test_upside_down_top_and_bottom_change_places() -> None:
    image = red_left_of_blue((64, 64)).transpose(Image.Transpose.ROTATE_90)
    box = crop_box(image.size, (32, 32), "centre", Random(0))
    plain = resize(image, box, (32, 32), mirror=False)
    turned = resize(image, box, (32, 32), mirror=False, upside_down=True)
    assert plain.getpixel((0, 0)) != turned.getpixel((0, 0)) == plain.getpixel((0, 31))


# numbers


def test_pixels_are_in_minus_one_to_one() -> None:
    pixels = to_pixels(Image.new("RGB", (4, 2), (0, 255, 51)))
    assert (pixels.shape, pixels.dtype) == ((3, 2, 4), torch.float32)
    assert pixels[:, 0, 0].tolist() == pytest.approx([-1.0, 1.0, -0.6])
    assert pixels.is_contiguous()


def test_every_value_of_a_channel_is_told_apart_and_none_leaves_the_range() -> None:
    image = Image.fromarray(numpy.arange(256, dtype=numpy.uint8)[None].repeat(3, 0)).convert("RGB")
    values = to_pixels(image)[0, 0]
    assert (values[0], values[-1], len(values.unique())) == (-1.0, 1.0, 256)
    torch.testing.assert_close(values, torch.arange(256, dtype=torch.float32) / 127.5 - 1, rtol=0, atol=0)


# refused


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.mkdir(), "is a folder, not a file"),
        (lambda path: os.mkfifo(path), "is a named pipe, not a file"),
        (lambda path: path.symlink_to(path.parent / "gone"), "does not exist"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("no picture at all"), "no picture of a format that is read"),
        (lambda path: Image.new("1", (10_000, 10_000)).save(path, "PNG"), "more than the 64,000,000"),
    ],
)
def test_what_is_no_picture_is_refused_in_a_sentence(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    path = tmp_path / "x.png"
    make(path)
    with pytest.raises(Exception) as raised:  # noqa: PT011  # the kinds are Pillow's; the sentence is ours
        read(path)
    assert reason in reason_of(raised.value)


def test_the_limit_of_pixels_holds_whatever_the_process_does_with_warnings(tmp_path: Path) -> None:
    import warnings

    Image.new("1", (10_000, 10_000)).save(tmp_path / "large.png")
    Image.new("1", (9_000, 9_000)).save(tmp_path / "medium.png")
    for name in ("large.png", "medium.png"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(Refused, match="more than the 64,000,000"):
                read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.gif"])
def test_what_a_file_says_beside_its_pixels_goes_no_further(tmp_path: Path, name: str) -> None:
    text, exif = PngImagePlugin.PngInfo(), Image.Exif()
    text.add_text("parameters", "secret")
    exif[0x010E] = "secret"
    profile = profile_that_swaps_red_and_green() if name != "a.gif" else None
    extras = {"pnginfo": text} if name == "a.png" else {} if name in ("a.tif", "a.webp") else {"comment": b"secret"}
    red_left_of_blue().save(tmp_path / name, exif=exif, icc_profile=profile, xmp=b"<secret/>", **extras)
    assert b"secret" in (tmp_path / name).read_bytes()
    image = read(tmp_path / name).image
    assert image.info == {}
    for kind in ("jpeg", "png", "webp"):
        file = io.BytesIO()
        image.save(file, kind)
        assert b"secret" not in file.getvalue()
        assert not Image.open(io.BytesIO(file.getvalue())).getexif()


def test_half_a_file_is_not_shown_with_a_grey_rest(tmp_path: Path) -> None:
    textured((96, 64)).save(tmp_path / "a.jpg", quality=92)
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(OSError, match="truncated"):
        read(tmp_path / "a.jpg")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
