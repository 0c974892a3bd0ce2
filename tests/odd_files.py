"""Odd picture files: those that must be read, with what is seen, and those that must be refused, with the reason."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

HEIGHT, WIDTH = 16, 24
ROWS, COLUMNS = np.meshgrid(np.arange(HEIGHT), np.arange(WIDTH), indexing="ij")
COLOUR = np.stack([ROWS * 16, COLUMNS * 10, 255 - ROWS * 5 - COLUMNS * 5], -1).astype(np.uint8)
GREY = (ROWS * 8 + COLUMNS * 5).astype(np.uint8)
DEEP = (ROWS * 4000 + COLUMNS * 200).astype(np.uint16)
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def orientation(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def tiff(values: bytes, *, bits: int, photometric: int) -> bytes:
    """A little-endian TIFF of one strip and one channel."""
    entries = [
        (256, 3, 1, WIDTH),
        (257, 3, 1, HEIGHT),
        (258, 3, 1, bits),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 3, 1, HEIGHT),
        (279, 4, 1, len(values)),
    ]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    header = b"II*\0" + struct.pack("<I", 8 + len(values))
    return header + values + struct.pack("<H", len(entries)) + directory + bytes(4)


def png(width: int, height: int, *, bits: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG from its raw rows, to write what Pillow cannot."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[:, :, None], 3, axis=2)


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[:, :, None] / 255
    return np.rint(colour * share + 255 * (1 - share))


def plain_jpeg(**options) -> tuple[bytes, np.ndarray]:
    data = encoded(Image.fromarray(COLOUR), "JPEG", quality=95, **options)
    return data, np.asarray(Image.open(io.BytesIO(data)))


def srgb_of_lab(lightness: float, a: float, b: float) -> np.ndarray:
    """CIE L*a*b* (D50) to sRGB, with the D50 matrix of B. Lindbloom."""
    y = (lightness + 16) / 116
    cube = [t**3 if t > 6 / 29 else 3 * (6 / 29) ** 2 * (t - 4 / 29) for t in (y + a / 500, y, y - b / 200)]
    xyz = np.array(cube) * [0.96422, 1.0, 0.82521]
    matrix = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = np.clip(np.array(matrix) @ xyz, 0, 1)
    return np.rint(255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))


def accepted() -> dict[str, tuple[bytes, np.ndarray]]:
    """File name to (bytes, what must be seen)."""
    rng = np.random.default_rng(0)
    corpus: dict[str, tuple[bytes, np.ndarray]] = {}
    jpeg, seen = plain_jpeg()
    for number, turn in UPRIGHT.items():
        corpus[f"exif-{number}.jpg"] = plain_jpeg(exif=orientation(number))[0], turn(seen)
    corpus["really-a-jpeg.png"] = jpeg, seen
    corpus["progressive.jpg"] = plain_jpeg(progressive=True)[0], plain_jpeg(progressive=True)[1]
    corpus["broken-exif.jpg"] = plain_jpeg(exif=b"Exif\0\0 no tags at all")[0], seen
    grey_jpeg = encoded(Image.fromarray(GREY), "JPEG", quality=95)
    corpus["grey.jpg"] = grey_jpeg, three(np.asarray(Image.open(io.BytesIO(grey_jpeg))))
    cmyk = np.full((HEIGHT, WIDTH, 4), (40, 90, 160, 30), np.uint8)
    expected = np.rint((255.0 - cmyk[..., :3]) * (255.0 - cmyk[..., 3:]) / 255)
    corpus["cmyk.jpg"] = encoded(Image.fromarray(cmyk, "CMYK"), "JPEG", quality=100), expected
    corpus["cmyk.tif"] = encoded(Image.fromarray(cmyk, "CMYK"), "TIFF"), expected

    colour, grey = Image.fromarray(COLOUR), Image.fromarray(GREY)
    for name, kind, options in (
        ("plain.png", "PNG", {}),
        ("plain.bmp", "BMP", {}),
        ("plain.ppm", "PPM", {}),
        ("plain.tiff", "TIFF", {}),
        ("plain.webp", "WEBP", {"lossless": True}),
    ):
        corpus[name] = encoded(colour, kind, **options), COLOUR
    corpus["broken-exif.png"] = encoded(colour, "PNG", exif=b"no tags at all"), COLOUR
    corpus["turned.png"] = encoded(colour, "PNG", exif=orientation(6)), UPRIGHT[6](COLOUR)
    corpus["turned.tif"] = encoded(colour, "TIFF", exif=orientation(8)), UPRIGHT[8](COLOUR)
    flat = np.full((HEIGHT, WIDTH, 3), (200, 100, 50), np.uint8)
    corpus["flat.avif"] = encoded(Image.fromarray(flat), "AVIF", quality=100), flat

    deep = three(np.rint(DEEP / 257))
    corpus["deep.png"] = encoded(Image.fromarray(DEEP), "PNG"), deep
    corpus["deep.pgm"] = encoded(Image.fromarray(DEEP), "PPM"), deep
    corpus["deep-big-endian.tif"] = encoded(Image.fromarray(DEEP.astype(">u2")), "TIFF"), deep
    corpus["deep-white-is-zero.tif"] = tiff(DEEP.tobytes(), bits=16, photometric=0), 255 - deep
    rows = b"".join(b"\0" + three(row[None])[0].astype(">u2").tobytes() for row in DEEP)
    corpus["deep-colour.png"] = png(WIDTH, HEIGHT, bits=16, colour=2, rows=rows), deep
    twelve = (ROWS * 250 + COLUMNS * 10).astype(np.uint16)
    pairs = twelve.reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], -1)
    expected = three(np.rint(twelve * (255 / 4095)))
    corpus["twelve-bits.tif"] = tiff(packed.astype(np.uint8).tobytes(), bits=12, photometric=1), expected
    for name, full in (("one", 1), ("byte", 255), ("word", 65535)):
        floats = Image.fromarray((GREY / 255 * full).astype(np.float32))
        corpus[f"float-{name}.tif"] = encoded(floats, "TIFF"), three(GREY)
    signed = (GREY.astype(np.float32) - 100) * 3.7
    stretched = np.rint((GREY - GREY.min()) * (255 / (GREY.max() - GREY.min())))
    corpus["float-signed.tif"] = encoded(Image.fromarray(signed), "TIFF"), three(stretched)
    tall = np.broadcast_to(np.uint16(0x8000), (2**20 + 5, 1)).copy()
    corpus["deep-tall.png"] = encoded(Image.fromarray(tall), "PNG"), three(np.rint(tall / 257))
    corpus["integers.tif"] = encoded(Image.fromarray(DEEP.astype(np.int32)), "TIFF"), deep

    palette = colour.quantize(16)
    indices, table = np.asarray(palette), np.array(palette.getpalette()).reshape(-1, 3)
    corpus["palette.png"] = encoded(palette, "PNG"), table[indices]
    alphas = rng.integers(0, 256, 16).astype(np.uint8)
    data = encoded(palette, "PNG", transparency=alphas.tobytes())
    corpus["palette-transparent.png"] = data, over_white(table[indices], alphas[indices])
    alpha = (ROWS * 17).astype(np.uint8)
    garbage = rng.integers(0, 256, COLOUR.shape).astype(np.uint8)
    hidden = np.where(alpha[..., None] == 0, garbage, COLOUR)
    data = encoded(Image.fromarray(np.dstack([hidden, alpha])), "PNG")
    corpus["transparent.png"] = data, over_white(COLOUR, alpha)
    data = encoded(Image.fromarray(np.dstack([hidden, alpha])), "WEBP", lossless=True, exact=True)
    corpus["transparent.webp"] = data, over_white(COLOUR, alpha)
    data = encoded(Image.merge("LA", [grey, Image.fromarray(alpha)]), "PNG")
    corpus["grey-transparent.png"] = data, over_white(three(GREY), alpha)
    corpus["grey-key.png"] = encoded(grey, "PNG", transparency=40), three(np.where(GREY == 40, 255, GREY))
    key = tuple(int(value) for value in COLOUR[3, 5])
    expected = np.where((key == COLOUR).all(-1, keepdims=True), 255, COLOUR)
    corpus["colour-key.png"] = encoded(colour, "PNG", transparency=key), expected
    extra = chunk(b"tRNS", struct.pack(">H", int(DEEP[2, 2])))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP)
    expected = three(np.where(DEEP[2, 2] == DEEP, 255, np.rint(DEEP / 257)))
    corpus["deep-key.png"] = png(WIDTH, HEIGHT, bits=16, colour=0, rows=rows, extra=extra), expected
    corpus["one-bit.png"] = encoded(Image.fromarray(GREY > 90), "PNG"), three(np.where(GREY > 90, 255, 0))

    lab = encoded(Image.merge("LAB", [Image.new("L", (WIDTH, HEIGHT), v) for v in (150, 140, 100)]), "TIFF")
    expected = np.broadcast_to(srgb_of_lab(150 / 2.55, 140 - 128, 100 - 128), COLOUR.shape)
    corpus["lab.tif"] = lab, expected
    ycc = encoded(Image.new("YCbCr", (WIDTH, HEIGHT), (120, 100, 150)), "TIFF")
    y, blue, red = 120, 100 - 128, 150 - 128
    expected = np.rint([y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue])
    corpus["ycbcr.tif"] = ycc, np.broadcast_to(expected, COLOUR.shape)

    others = [Image.fromarray(255 - COLOUR), Image.fromarray(COLOUR[::-1].copy())]
    more = {"save_all": True, "append_images": others, "duration": 100}
    corpus["animated.png"] = encoded(colour, "PNG", **more), COLOUR
    corpus["animated.webp"] = encoded(colour, "WEBP", lossless=True, **more), COLOUR
    frames = [Image.fromarray(three(np.full_like(GREY, value))) for value in (10, 200)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)
    corpus["animated.gif"] = data, np.full_like(COLOUR, 10)
    corpus["one-pixel.png"] = encoded(Image.fromarray(COLOUR[:1, :1]), "PNG"), COLOUR[:1, :1]
    thin = np.resize(COLOUR[0], (1, 10_000, 3))
    corpus["wide.png"] = encoded(Image.fromarray(thin), "PNG"), thin
    corpus["tall.webp"] = (
        encoded(Image.fromarray(thin.swapaxes(0, 1)), "WEBP", lossless=True),
        thin.swapaxes(0, 1),
    )
    for name in (
        "new\nline.png",
        "-rf.png",
        "$(x) 'a' \"b\" `c`.png",
        "\N{PARTY POPPER} é.png",
        "n" * 230 + ".png",
    ):
        corpus[name] = encoded(colour, "PNG"), COLOUR
    return corpus


ACCEPTED = accepted()


def _endless_tiff() -> bytes:
    """A TIFF whose only page says that it is followed by itself, and has no pixels."""
    data = tiff(b"", bits=8, photometric=1)
    return data[:-4] + struct.pack("<I", 8)


def rejected() -> dict[str, tuple[bytes, str]]:
    """File name to (bytes, words of the reason)."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    jpeg, webp = encoded(noise, "JPEG"), encoded(noise, "WEBP", lossless=True)
    good = encoded(Image.fromarray(COLOUR), "PNG")
    damaged = bytearray(good)
    damaged[60] ^= 0xFF
    header = struct.pack(">IIBBBBB", 8001, 8000, 8, 2, 0, 0, 0)
    bomb = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n"
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(70_000_000)))
    rows = bytes(HEIGHT * (1 + 3 * WIDTH))
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        array, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**6, 3)}
    )
    endless = np.full((HEIGHT, WIDTH), np.nan, np.float32)
    gif = encoded(Image.fromarray(GREY), "GIF")
    drawing = io.BytesIO()
    picture = Image.new("RGB", (8, 8))
    ImageDraw.Draw(picture).line((0, 0, 8, 8))
    picture.save(drawing, "EPS")
    return {
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "truncated.png": (good[: len(good) // 2], ""),
        "truncated.gif": (gif[: len(gif) // 2], ""),
        "truncated.webp": (webp[: len(webp) // 2], ""),
        "truncated.bmp": (encoded(Image.fromarray(COLOUR), "BMP")[:300], "truncated"),
        "damaged.png": (bytes(damaged), ""),
        "empty.jpg": (b"", "empty"),
        "text.jpg": (b"this is no image\n", "not an image in a known format (JPEG, PNG"),
        "page.png": (b"<!DOCTYPE html><title>404</title>", "not an image in a known format"),
        "postscript.png": (drawing.getvalue(), "not an image in a known format"),
        "layers.jpg": (b"8BPS\0\1" + bytes(20), "not an image in a known format"),
        "head-only.jpg": (b"\xff\xd8\xff\xe0", ""),
        "large.png": (
            start + chunk(b"IHDR", header) + chunk(b"IDAT", b""),
            "8001 x 8000 pixels, at most 64 megapixels",
        ),
        "bomb.png": (start + chunk(b"IHDR", bomb) + chunk(b"IDAT", b""), "DecompressionBombError"),
        "text-bomb.png": (png(WIDTH, HEIGHT, bits=8, colour=2, rows=rows, extra=text), "ValueError"),
        "huge.npy": (array.getvalue(), "should hold 3,000,000,000,000 bytes"),
        "cut.avif": (encoded(noise, "AVIF")[:-100], ""),
        "many-pages.tif": (_endless_tiff(), ""),
        "not-finite.tif": (encoded(Image.fromarray(endless), "TIFF"), "not finite"),
    }


REJECTED = rejected()
