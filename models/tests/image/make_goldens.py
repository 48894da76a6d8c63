"""Makes the pictures of data/ and what PIL makes of them in goldens/.

    python make_goldens.py FOLDER_WITH_THE_ODD_PICTURES

Made with Pillow 12.3.0 (libjpeg-turbo 3.1.4.1, libwebp 1.6.0) and NumPy. The tests need neither.
Pillow 13.0.0 decodes the same; where a resize shrinks the height more than the width, it does the
columns first, so that the two Pillows differ there, by 1 or 2 of 255 on these pictures.
Goldens are what a training script would see: ImageOps.exif_transpose(Image.open(f)).convert("RGB").
Those of PNG files are raw RGB bytes and those of WebP files are PNGs, so that no decoder checks
itself; the rest are lossless WebPs, which are the smallest.
"""

import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).parent
DATA = HERE / "data"
GOLDENS = HERE / "goldens"

# As they are; the other odd pictures are broken ones, which the tests make themselves.
ODD = """alpha.png cmyk.jpg exif-orientation-6.jpg gray16.png grayscale.jpg odd-size-301x199.jpg
palette.png photo.webp progressive-444.jpg tiny-7x5.jpg""".split()


def upright(data: bytes) -> np.ndarray:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode.startswith("I;16"):
        # PIL clips 16-bit grays at 255 on their way to RGB. We keep the high byte, as PIL itself
        # does for 16-bit colours.
        gray = (np.asarray(image) >> 8).astype(np.uint8)
        return np.stack([gray] * 3, axis=-1)
    return np.asarray(image.convert("RGB"))


def keep(name: str, data: bytes) -> None:
    """Writes a picture and its golden."""
    (DATA / name).write_bytes(data)
    pixels = upright(data)
    if name.endswith(".png"):
        (GOLDENS / (name + ".rgb")).write_bytes(pixels.tobytes())
    elif name.endswith(".webp"):
        Image.fromarray(pixels).save(GOLDENS / (name + ".png"), optimize=True)
    else:
        golden(Image.fromarray(pixels), name)


def golden(image: Image.Image, name: str) -> None:
    image.save(GOLDENS / (name + ".webp"), lossless=True, quality=100, method=6, exact=True)


def saved(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def png16(pixels: np.ndarray) -> bytes:
    """A 16-bit RGB or RGBA PNG, which PIL can only read."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def jpegs(small: Image.Image) -> None:
    for name, options in {
        "420": dict(subsampling="4:2:0"),
        "422": dict(subsampling="4:2:2"),
        "444": dict(subsampling="4:4:4"),
        "420-progressive": dict(subsampling="4:2:0", progressive=True),
        "420-restarts": dict(subsampling="4:2:0", restart_marker_blocks=3),
        "420-progressive-restarts": dict(
            subsampling="4:2:0", progressive=True, restart_marker_blocks=3
        ),
        "adobe-rgb": dict(keep_rgb=True),
        "optimized": dict(optimize=True, quality=30),
    }.items():
        keep(f"{name}.jpg", saved(small, "JPEG", **(dict(quality=90) | options)))
    keep("gray-progressive.jpg", saved(small.convert("L"), "JPEG", progressive=True))
    cmyk = saved(small.convert("CMYK"), "JPEG", quality=90)
    at = cmyk.index(b"Adobe") + 11
    assert cmyk[at] == 0
    keep("cmyk-progressive.jpg", saved(small.convert("CMYK"), "JPEG", progressive=True))
    # The same samples taken for YCCK: odd colours, but PIL's and ours must be the same ones.
    keep("ycck.jpg", cmyk[:at] + b"\2" + cmyk[at + 1 :])
    # Nobody says what the four components are.
    keep("cmyk-unmarked.jpg", cmyk[: at - 15] + cmyk[at + 1 :])


def pngs(small: Image.Image) -> None:
    alpha = Image.linear_gradient("L").resize(small.size)
    keep("gray-alpha.png", saved(Image.merge("LA", [small.convert("L"), alpha]), "PNG"))
    keep("one-bit.png", saved(small.convert("1"), "PNG"))
    palette = small.quantize(13)
    keep("palette-4bit.png", saved(palette, "PNG", bits=4))
    keep("palette-transparent.png", saved(palette, "PNG", transparency=3))
    deep = np.asarray(small).astype(np.uint16) * 257 - np.arange(3, dtype=np.uint16) * 100
    keep("rgb16.png", png16(deep))
    keep("rgba16.png", png16(np.dstack([deep, np.asarray(alpha).astype(np.uint16) * 99])))


def webps(small: Image.Image) -> None:
    alpha = small.copy()
    alpha.putalpha(Image.linear_gradient("L").resize(small.size))
    keep("lossless.webp", saved(small, "WebP", lossless=True))
    keep("lossless-alpha.webp", saved(alpha, "WebP", lossless=True, exact=True))
    keep("lossy-alpha.webp", saved(alpha, "WebP", quality=80))
    frames = [ImageOps.invert(small)]
    keep("animated.webp", saved(small, "WebP", save_all=True, append_images=frames, duration=50))


def orientations(small: Image.Image) -> None:
    for orientation in range(1, 9):
        data = saved(small, "JPEG", subsampling="4:4:4", exif=exif(orientation))
        keep(f"orientation-{orientation}.jpg", data)
    keep("orientation-6.png", saved(small, "PNG", exif=exif(6)))
    keep("orientation-8.webp", saved(small, "WebP", exif=exif(8)))


def resizes() -> None:
    """Goldens are resized from the pixels of a golden of a decode, so that inputs are identical."""
    sizes = {
        "progressive-444.jpg": [(64, 43), (100, 20)],
        "444.jpg": [(20, 31), (97, 13), (150, 97), (71, 90), (160, 47)],
    }
    for name in sizes:
        source = Image.open(GOLDENS / (name + ".webp"))
        for width, height in sizes[name]:
            for filter in ["bilinear", "bicubic", "lanczos"]:
                resized = source.resize((width, height), Image.Resampling[filter.upper()])
                golden(resized, f"resize-{Path(name).stem}-{width}x{height}-{filter}")


def main() -> None:
    odd = Path(sys.argv[1])
    DATA.mkdir(exist_ok=True)
    GOLDENS.mkdir(exist_ok=True)
    for name in ODD:
        keep(name, (odd / name).read_bytes())
    photo = Image.open(odd / "progressive-444.jpg").convert("RGB")
    small = photo.crop((120, 60, 300, 180)).resize((71, 47), Image.Resampling.LANCZOS)
    jpegs(small)
    pngs(small)
    webps(small)
    orientations(small)
    resizes()


main()
