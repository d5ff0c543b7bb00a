"""Images of every kind: transparency, depths, orientations, endings, sizes."""

import contextlib
import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arsvd.data import DataError, Dataset, load

SPLITS = ("train", "validation", "test")


def save_all(folder: Path, write: Callable[[Path, int], None], suffix: str = "png", count: int = 8) -> Path:
    """Two classes of `count` images; `write` gets the path and a number that differs for each."""
    for label, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            write(folder / name / f"{i}.{suffix}", 20 * label + i)
    return folder


def images(data: Dataset) -> torch.Tensor:
    return torch.cat([getattr(data, name).images for name in SPLITS])


def drawing(number: int) -> Image.Image:
    """Black strokes on nothing: every colour is black, alpha alone tells the strokes."""
    alpha = np.zeros((8, 8), dtype=np.uint8)
    alpha.reshape(-1)[: number + 1] = 255
    alpha[7, 7] = 128
    return Image.fromarray(np.dstack([np.zeros((8, 8, 3), dtype=np.uint8), alpha]))


def indexed(number: int) -> Image.Image:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 0, 0, 0])
    for i in range(number + 1):
        image.putpixel((i % 8, i // 8), 0)
    return image


TRANSPARENT: dict[str, tuple[Callable[[int], Image.Image], dict[str, object], str, bool]] = {
    "RGBA": (drawing, {}, "png", True),
    "LA": (lambda n: drawing(n).convert("LA"), {}, "png", False),
    "WebP": (drawing, {"lossless": True, "exact": True}, "webp", True),
    "palette with one transparent colour": (indexed, {"transparency": 1}, "png", True),
    "palette with an alpha a colour": (indexed, {"transparency": b"\xff\x00"}, "png", True),
    "GIF": (indexed, {"transparency": 1}, "gif", True),
    "TIFF": (drawing, {}, "tif", True),
}


@pytest.mark.parametrize(("make", "options", "suffix", "colour"), TRANSPARENT.values(), ids=TRANSPARENT)
def test_transparent_pixels_are_white(
    tmp_path: Path,
    make: Callable[[int], Image.Image],
    options: dict[str, object],
    suffix: str,
    colour: bool,
) -> None:
    save_all(tmp_path, lambda path, n: make(n).save(path, **options), suffix)
    data = load("imagefolder", path=tmp_path, validation=4)
    found = images(data)
    assert found.shape[1] == (3 if colour else 1)
    strokes = sorted(int((image[0] == 0).sum()) for image in found)
    assert strokes == sorted(20 * label + i + 1 for label in (0, 1) for i in range(8))
    assert int((found[:, 0] == 255).sum()) >= 16 * 20
    if make is drawing:
        assert set(found[:, 0, 7, 7].tolist()) <= {127, 128}
    assert "16 images have transparent pixels, which are laid on white" in data.notes


def test_a_transparent_level_of_greyscale_and_of_colour(tmp_path: Path) -> None:
    def write(path: Path, number: int) -> None:
        mode, key = ("L", 50) if number % 2 else ("RGB", (50, 60, 70))
        image = Image.new(mode, (8, 8), key)
        image.putpixel((number % 8, number // 8), 10 if mode == "L" else (10, 10, 10))
        image.save(path, transparency=key)

    found = images(load("imagefolder", path=save_all(tmp_path, write), validation=4))
    assert sorted(set(found.reshape(-1).tolist())) == [10, 255]


def test_opaque_alpha_changes_nothing(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    levels = generator.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    for folder, mode in (("a", "RGB"), ("b", "RGBA")):
        save_all(
            tmp_path / folder, lambda path, n, mode=mode: Image.fromarray(levels[n]).convert(mode).save(path)
        )
    plain, opaque = (load("imagefolder", path=tmp_path / folder, validation=4) for folder in "ab")
    assert plain.hash == opaque.hash
    assert not any("transparent" in note for note in opaque.notes)


def png16(levels: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, which Pillow cannot write in colour."""
    height, width, channels = levels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    body = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(body)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff16(levels: np.ndarray, order: str) -> bytes:
    """An uncompressed TIFF of 16 bits a colour channel."""
    height, width, channels = levels.shape
    data = levels.astype(f"{order}u2").tobytes()
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, channels, 8 + len(data)), (259, 3, 1, 1)]
    entries += [(262, 3, 1, 2), (273, 4, 1, 8), (277, 3, 1, channels), (278, 3, 1, height)]
    entries += [(279, 4, 1, len(data))]
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    directory = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        inline = (
            struct.pack(f"{order}HH", value, 0)
            if kind == 3 and count == 1
            else struct.pack(f"{order}I", value)
        )
        directory += struct.pack(f"{order}HHI", tag, kind, count) + inline
    magic = b"II*\0" if order == "<" else b"MM\0*"
    offset = 8 + len(data) + len(bits)
    return magic + struct.pack(f"{order}I", offset) + data + bits + directory + b"\0" * 4


DEEP: dict[str, tuple[str, int, Callable[[Path, np.ndarray], object]]] = {
    "16-bit PNG": ("png", 1, lambda path, x: Image.fromarray(x[..., 0]).save(path)),
    "16-bit TIFF": ("tif", 1, lambda path, x: Image.fromarray(x[..., 0]).save(path)),
    "32-bit TIFF": ("tif", 1, lambda path, x: Image.fromarray(x[..., 0].astype(np.int32)).save(path)),
    "16-bit colour PNG": ("png", 3, lambda path, x: path.write_bytes(png16(x))),
    "16-bit colour PNG, opaque": (
        "png",
        3,
        lambda path, x: path.write_bytes(png16(np.dstack([x, np.full_like(x[..., :1], 65535)]))),
    ),
    "16-bit colour TIFF": ("tif", 3, lambda path, x: path.write_bytes(tiff16(x, "<"))),
    "16-bit colour TIFF, big-endian": ("tif", 3, lambda path, x: path.write_bytes(tiff16(x, ">"))),
}


@pytest.mark.parametrize("largest", [200, 4095, 65535])
@pytest.mark.parametrize(("suffix", "channels", "write"), DEEP.values(), ids=DEEP)
def test_deep_levels_are_scaled_by_the_largest_of_the_training_split(
    tmp_path: Path, suffix: str, channels: int, write: Callable[[Path, np.ndarray], object], largest: int
) -> None:
    generator = np.random.default_rng(largest)
    levels = generator.integers(0, largest // 2 + 1, (80, 8, 8, channels)).astype(np.uint16)
    levels[:40, 0, 0] = largest // 2 + 1 + np.arange(40)[:, None]  # differs from image to image
    levels[47, 0, 0, 0] = levels[:40].max()
    levels[48, 0, 0, 0] = largest  # a test image, darker or brighter than all of training
    save_all(tmp_path / "train", lambda path, n: write(path, levels[n]), suffix)
    save_all(tmp_path / "test", lambda path, n: write(path, levels[40 + n]), suffix)
    data = load("imagefolder", path=tmp_path, validation=4)
    held = {int(image[0, 0, 0]) for image in data.validation.images}
    assert data.train.images.max() == 255
    assert data.shape == (channels, 8, 8)
    train = levels[np.r_[0:8, 20:28]]
    peaks = train.reshape(16, -1).max(1)
    assert data.scale in peaks.astype(float)
    scaled = np.rint(np.minimum(train / data.scale, 1) * 255).astype(np.uint8).transpose(0, 3, 1, 2)
    expected = {image.tobytes() for image in scaled}
    assert {
        image.numpy().tobytes() for part in (data.train, data.validation) for image in part.images
    } == expected
    assert held
    assert any(f"are divided by {data.scale:g}, the largest of the training images" in n for n in data.notes)


def test_brighter_test_images_are_clipped_and_counted(tmp_path: Path) -> None:
    def write(path: Path, number: int, offset: int) -> None:
        levels = np.zeros((8, 8), dtype=np.uint16)
        levels[0, 0], levels[1, 1] = 1000, 10 * number
        levels[2, 2] = offset
        Image.fromarray(levels).save(path)

    save_all(tmp_path / "train", lambda path, n: write(path, n, 0))
    save_all(tmp_path / "test", lambda path, n: write(path, 40 + n, 4000 if n < 3 else 500))
    data = load("imagefolder", path=tmp_path, validation=4)
    assert data.scale == 1000.0
    assert sorted(data.test.images[:, 0, 2, 2].tolist()) == [128] * 13 + [255] * 3
    assert "3 validation or test images have larger levels, which count as 1" in data.notes


def test_images_that_differ_by_less_than_eight_bits_show_are_in_one_split(tmp_path: Path) -> None:
    def write(path: Path, number: int) -> None:
        levels = np.full((8, 8), 60000, dtype=np.uint16)
        levels[0, 0] = 1000 * (number // 2) + number % 2
        Image.fromarray(levels).save(path)

    data = load("imagefolder", path=save_all(tmp_path, write, count=20), validation=8)
    rows = [image.numpy().tobytes() for image in images(data)]
    assert 20 <= len(rows) == len(set(rows)) < 40
    assert any("equal others in 8 bits and are left out" in note for note in data.notes)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda p, x: Image.fromarray(x.astype(np.int32) - 5000).save(p), "negative greyscale values"),
        (lambda p, x: Image.fromarray(x.astype(np.float32)).save(p), "floating-point pixels"),
        (lambda p, x: p.write_bytes(png16(np.dstack([x] * 4))), "16 bits a channel and transparent pixels"),
        (
            lambda p, x: p.write_bytes(png16(np.dstack([x] * 2))),
            "16 bits a channel in a form that is not read",
        ),
        (lambda p, x: Image.fromarray((x >> 8).astype(np.uint8)).save(p), "and .* has 8: no scale fits both"),
    ],
    ids=["negative", "floats", "colour and alpha", "grey and alpha", "two depths"],
)
def test_depths_that_have_no_scale_are_refused(
    tmp_path: Path, write: Callable[[Path, np.ndarray], object], says: str
) -> None:
    levels = np.random.default_rng(0).integers(0, 4096, (40, 8, 8)).astype(np.uint16)
    save_all(tmp_path, lambda path, n: Image.fromarray(levels[n]).save(path), "tif")
    suffix = "png" if "channel" in says else "tif"
    write(tmp_path / "cat" / f"odd.{suffix}", levels[39])
    with pytest.raises(DataError, match=says):
        load("imagefolder", path=tmp_path, validation=4)


@pytest.mark.parametrize(
    ("suffix", "side"), [("jpg", 48), ("jpg", 640), ("png", 48), ("webp", 48), ("tif", 48)]
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stand_upright(tmp_path: Path, suffix: str, orientation: int, side: int) -> None:
    """A bright corner that EXIF turns to the upper left, in a picture that is twice as wide as high."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }

    def write(path: Path, number: int) -> None:
        image = Image.new("L", (side, side // 2), 10)
        image.paste(240, (0, 0, side // 4, side // 4))
        image.paste(100 + number, (side // 2, side // 4, side, side // 2))
        if orientation in undo:
            image = image.transpose(undo[orientation])
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))

    data = load("imagefolder", path=save_all(tmp_path, write, suffix, count=5), validation=2)
    height, width = data.shape[1:]
    assert (height, width) == ((24, 48) if side == 48 else (32, 32))
    corners = images(data)[:, 0, :: height - 1, :: width - 1].float()
    assert (corners[:, 0, 0] > 200).all()
    assert (corners[:, 0, 1] < 60).all()
    assert (corners[:, 1, 0] < 60).all()
    assert ((corners[:, 1, 1] > 80) & (corners[:, 1, 1] < 180)).all()


def test_damaged_exif_does_not_stop_an_image(tmp_path: Path) -> None:
    def write(path: Path, number: int) -> None:
        Image.new("L", (8, 8), number).save(path, exif=b"Exif\0\0MM\0*broken")
        with Image.open(path) as image:
            changed = image.copy()
        changed.putpixel((1, 1), 200)
        changed.save(path, exif=b"Exif\0\0XX\xff\xff broken", quality=100)

    assert len(images(load("imagefolder", path=save_all(tmp_path, write, "jpg"), validation=4))) == 16


READ = [
    "jfif",
    "JPG",
    "jpe",
    "gif",
    "avif",
    "tga",
    "jp2",
    "qoi",
    "pcx",
    "sgi",
    "dib",
    "ico",
    "PNG",
    "pbm",
    "apng",
]


@pytest.mark.parametrize("suffix", READ)
def test_images_of_many_endings_are_read(tmp_path: Path, suffix: str) -> None:
    if f".{suffix.lower()}" not in {**Image.registered_extensions(), ".avif": ""} or (
        suffix == "avif" and ".avif" not in Image.registered_extensions()
    ):
        pytest.skip("this Pillow does not read it")

    def write(path: Path, number: int) -> None:
        image = Image.new("1" if suffix == "pbm" else "L", (16, 16), 255)
        image.paste(0, (0, 0, 16, 4 + 2 * (number % 20)))
        image.paste(0, (0, 0, 4 + number // 20 * 6, 16))
        image.convert({"ico": "RGBA", "qoi": "RGB"}.get(suffix, image.mode)).save(path)

    save_all(tmp_path, write, suffix, count=5)
    data = load("imagefolder", path=tmp_path, validation=2)
    assert len(images(data)) == 10
    assert (images(data)[:, 0, 0, 0] < 40).all()


def test_other_files_are_counted_by_their_ending(tmp_path: Path) -> None:
    save_all(tmp_path, lambda path, n: drawing(n).save(path))
    for name in ("a.heic", "b.HEIC", "c.txt", "00aa", "Thumbs.db", "d.pfm", "e.pdf"):
        (tmp_path / "cat" / name).write_bytes(b"x")
    (tmp_path / "readme.md").write_text("x")
    drawing(70).save(tmp_path / "loose.png")
    data = load("imagefolder", path=tmp_path, validation=4)
    assert f"16 image files in {tmp_path}" in data.notes
    assert (
        "left out: 1 .db files, 2 .heic files, 1 .pdf files, 1 .pfm files, 1 .txt files, "
        "1 files without an ending, 1 images beside the class folders, 1 other files beside the class folders"
        in data.notes
    )


def test_a_class_of_other_files_says_what_is_there(tmp_path: Path) -> None:
    save_all(tmp_path, lambda path, n: drawing(n).save(path))
    (tmp_path / "eel").mkdir()
    (tmp_path / "eel" / "a.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no images in the class folder eel of .*; 1 \.heic files\. Add"):
        load("imagefolder", path=tmp_path, validation=4)


@pytest.mark.parametrize("suffix", ["gif", "tif", "png", "webp"])
def test_only_the_first_of_several_frames_is_read(tmp_path: Path, suffix: str) -> None:
    def frame(number: int) -> Image.Image:
        return Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) + np.uint8(number))

    def write(path: Path, number: int) -> None:
        lossless = {"lossless": True} if suffix == "webp" else {}
        frame(number).save(path, save_all=True, append_images=[frame(150), frame(190)], **lossless)

    data = load("imagefolder", path=save_all(tmp_path, write, suffix), validation=4)
    assert sorted(images(data)[:, 0, 0, 0].tolist()) == [*range(8), *range(20, 28)]
    assert "16 images have several frames, of which the first is read" in data.notes


def test_postscript_under_another_name_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_all(tmp_path, lambda path, n: drawing(n).save(path))
    Image.new("RGB", (8, 8)).save(tmp_path / "cat" / "ps.png", format="EPS")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: pytest.fail("Ghostscript was started"))
    with pytest.raises(DataError, match=r"ps\.png: cannot identify image file"):
        load("imagefolder", path=tmp_path, validation=4)


@pytest.mark.parametrize("pixels", [100, 1000])
def test_images_of_enormous_size_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: int, recwarn: pytest.WarningsRecorder
) -> None:
    """Beyond Pillow's limit, where it warns, and beyond twice that, where it raises."""
    save_all(tmp_path, lambda path, n: drawing(n).save(path))
    Image.new("L", (10, pixels // 10)).save(tmp_path / "cat" / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 90)
    with pytest.raises(
        DataError, match=r"huge.png: .*(has 10×10 pixels, more than the 90|decompression bomb)"
    ):
        load("imagefolder", path=tmp_path, validation=4)
    assert not recwarn.list


def test_a_file_that_claims_gigabytes_takes_no_more_memory_than_its_size(tmp_path: Path) -> None:
    save_all(tmp_path, lambda path, number: drawing(number).save(path), count=4)
    packed = io.BytesIO()
    Image.new("L", (8, 8), 9).save(packed, "PNG")
    content = packed.getvalue()
    place = content.index(b"IDAT") - 4
    (tmp_path / "cat" / "long.png").write_bytes(
        content[:place] + (2**31 - 1).to_bytes(4, "big") + content[place + 4 :]
    )
    tracemalloc.start()
    try:
        with contextlib.suppress(DataError):
            load("imagefolder", path=tmp_path, validation=2)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()
