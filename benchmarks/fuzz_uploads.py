"""Uploaded photos of the worst kind: thousands of damaged files, bombs and files that are two things at once.

Small photos of every format that is taken are truncated, flipped, spliced and lied about, by a seed; beside them stand
bombs made by hand. Each file is decoded as an upload is. Nothing may come out but a small RGB image or an
`UploadError`, within `MAX_SECONDS`, and memory may grow by no more than `MAX_GROWTH_MB` for any one of them.

    .venv/bin/python benchmarks/fuzz_uploads.py [--cases 2000] [--seed 0]    writes results/benchmarks/fuzz-uploads.json
"""

import argparse
import io
import itertools
import json
import os
import resource
import struct
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from panfit.serve.settings import Limits
from panfit.serve.uploads import KEPT_SIDE, MAX_JUNK, MAX_PIECES, MAX_SCANS, MAX_SIDE, UploadError, decode_file

ROOT = Path(__file__).resolve().parent.parent
LIMITS = Limits()
STATUSES = (413, 415, 422)
NOT_TAKEN = ("bmp", "tiff", "jpeg 2000", "ppm")
"""Formats of `photos` that an upload may not have."""
MAX_SECONDS = 5.0
"""CPU seconds for any one file."""
MAX_GROWTH_MB = 500.0
"""At the peak, above what the process had before the first file: one photo of the most pixels is decoded at a time."""


@dataclass(frozen=True)
class Case:
    """A file, and what was done to it."""

    name: str
    data: bytes


def photos(rng: np.random.Generator, side: int = 48) -> dict[str, bytes]:
    """{name: file}: a photo-like picture in every format that is understood, and in several of its ways."""
    coarse = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((side, side * 3 // 4), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description " * 20
    clear = image.copy()
    clear.putalpha(Image.linear_gradient("L").resize(image.size))
    frames = [image.rotate(10 * turn) for turn in range(1, 4)]
    deep = Image.fromarray(np.asarray(image.convert("L"), dtype=np.uint16) * 257)

    def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
        file = io.BytesIO()
        picture.save(file, kind, **options)
        return file.getvalue()

    return {
        "jpeg": saved(image, "JPEG", exif=exif),
        "jpeg progressive": saved(image, "JPEG", progressive=True),
        "jpeg gray": saved(image.convert("L"), "JPEG"),
        "jpeg cmyk": saved(image.convert("CMYK"), "JPEG"),
        "mpo": saved(image, "MPO", save_all=True, append_images=frames),
        "png": saved(image, "PNG", exif=exif),
        "png alpha": saved(clear, "PNG"),
        "png palette": saved(image.quantize(16), "PNG", transparency=3),
        "png 16 bits": saved(deep, "PNG"),
        "png bits": saved(image.convert("1"), "PNG"),
        "apng": saved(image, "PNG", save_all=True, append_images=frames),
        "webp": saved(image, "WEBP", exif=exif),
        "webp lossless": saved(clear, "WEBP", lossless=True),
        "webp frames": saved(image, "WEBP", save_all=True, append_images=frames),
        "gif": saved(image, "GIF"),
        "gif frames": saved(image, "GIF", save_all=True, append_images=frames),
        "bmp": saved(image, "BMP"),
        "tiff": saved(image, "TIFF"),
        "tiff lzw": saved(image, "TIFF", compression="tiff_lzw"),
        "tiff deflate": saved(deep, "TIFF", compression="tiff_adobe_deflate"),
        "tiff jpeg": saved(image, "TIFF", compression="jpeg"),
        "tiff float": saved(image.convert("F"), "TIFF"),
        "avif": saved(image, "AVIF"),
        "jpeg 2000": saved(image, "JPEG2000"),
        "ppm": saved(image, "PPM"),
    }


# --- what is done to them


def truncate(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    """Its beginning."""
    return data[: int(rng.integers(0, len(data)))]


def flip(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    """Some bits are others; half the time near the beginning, where headers are."""
    changed = bytearray(data)
    end = len(data) if rng.random() < 0.5 else min(len(data), 200)
    for place in rng.integers(0, end, int(rng.integers(1, 40))):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def lie(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    """A number in it is a very large, very small or negative one, in either order of bytes."""
    changed = bytearray(data)
    for _lie in range(int(rng.integers(1, 4))):
        number = int(rng.choice([0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 30_000, 16_384]))
        width = int(rng.choice([2, 4]))
        written = (number & (256**width - 1)).to_bytes(width, "big" if rng.random() < 0.5 else "little")
        place = int(rng.integers(0, min(len(data), 400)))
        changed[place : place + width] = written
    return bytes(changed)


def splice(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """The beginning of one and the end of another."""
    return data[: int(rng.integers(0, len(data)))] + other[int(rng.integers(0, len(other))) :]


def repeat(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    """A piece of it, many times over."""
    first = int(rng.integers(0, len(data)))
    last = first + int(rng.integers(1, 300))
    return data[:last] + data[first:last] * int(rng.integers(2, 200)) + data[last:]


def remove(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    """A piece of it is missing."""
    first = int(rng.integers(0, len(data)))
    return data[:first] + data[first + int(rng.integers(1, 100)) :]


def insert(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    """Noise within it."""
    first = int(rng.integers(0, len(data)))
    return data[:first] + rng.bytes(int(rng.integers(1, 3000))) + data[first:]


def follow(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    """Whole, and more behind it."""
    return data + rng.bytes(int(rng.integers(1, 5000)))


MUTATIONS: tuple[Callable[[bytes, bytes, np.random.Generator], bytes], ...] = (
    *(truncate, flip, flip, lie, lie, splice, repeat, remove, insert, follow),
)


def mutated(count: int, seed: int) -> Iterator[Case]:
    """So many damaged files of formats that are taken; a part of them damaged twice. The same seed, the same files."""
    rng = np.random.default_rng(seed)
    made = {name: data for name, data in photos(rng).items() if not name.startswith(NOT_TAKEN)}
    names = list(made)
    for number in range(count):
        name, other = names[number % len(names)], names[int(rng.integers(len(names)))]
        data, done = made[name], []
        for _ in range(1 + int(rng.random() < 0.3)):
            mutate = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
            data = mutate(data, made[other], rng) or b"\0"
            done.append(mutate.__name__)
        yield Case(f"{number}: {name}, {' and '.join(done)}", data)


# --- bombs


def png(
    width: int, height: int, *, bits: int = 8, color: int = 0, data: bytes | None = None, more: bytes = b""
) -> bytes:
    """A PNG of zeros of any size, written without its pixels ever being there; or of other compressed data."""
    if data is None:
        channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
        row = bytes(1 + (width * channels * bits + 7) // 8)
        packer = zlib.compressobj(9)
        data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + more + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A piece of a PNG, with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def gif(width: int, height: int, frames: int) -> bytes:
    """A GIF of as many frames, each of one pixel."""
    frame = b"!\xf9\x04\0\0\0\0\0" + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame * frames + b";"


def tiff(entries: list[tuple[int, int, int, int]], following: int = 0, tail: bytes = b"") -> bytes:
    """A TIFF of one directory, (tag, type, count, value) each; where the next one is; what comes behind."""
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + struct.pack("<I", following) + tail


def scans(jpeg: bytes, times: int) -> bytes:
    """A progressive JPEG whose last pass over its pixels is made as many times."""
    first = jpeg.rindex(b"\xff\xda")
    return jpeg[:first] + jpeg[first:-2] * times + b"\xff\xd9"


def zipped() -> bytes:
    """A zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../evil.html", "<script>alert(1)</script>")
    return file.getvalue()


def bombs(rng: np.random.Generator) -> Iterator[Case]:
    """Made by hand, each for one way in which a reader may be led astray."""
    made = photos(rng)
    jpeg, small_png = made["jpeg"], made["png"]
    most = int(LIMITS.photo_pixels**0.5)  # pixels a side
    yield Case("empty", b"")
    yield Case("zero bytes", bytes(100_000))
    yield Case("too many bytes", jpeg + bytes(LIMITS.photo_bytes))
    yield Case("png of 30,000 x 30,000, one color", png(30_000, 30_000, bits=1))
    yield Case("png of 2^31 - 1 a side", png(2**31 - 1, 2**31 - 1, data=zlib.compress(b"\0" * 100)))
    yield Case("png without a side", png(0, 5, data=zlib.compress(b"")))
    yield Case("png of one row", png(LIMITS.photo_pixels, 1, color=2))
    yield Case("png of one column", png(1, LIMITS.photo_pixels, color=6, data=zlib.compress(bytes(100_000_000))))
    yield Case("png of the longest row", png(MAX_SIDE, LIMITS.photo_pixels // MAX_SIDE, color=6))
    yield Case("png of the longest column", png(LIMITS.photo_pixels // MAX_SIDE, MAX_SIDE, color=6))
    for color, name in ((0, "gray"), (2, "rgb"), (4, "gray with alpha"), (6, "rgb with alpha")):
        yield Case(f"png of the most pixels, {name}", png(most, most, color=color))
        yield Case(f"png of the most pixels, {name}, 16 bits", png(most, most, color=color, bits=16))
    palette = png_chunk(b"PLTE", bytes(range(6))) + png_chunk(b"tRNS", b"\x80")
    yield Case("png of the most pixels, palette with alpha", png(most, most, color=3, bits=1, more=palette))
    yield Case("png with one pixel too many", png(LIMITS.photo_pixels + 1, 1))
    text = zlib.compress(bytes(200 << 20), 9)
    yield Case("png with 200 MB of text", png(4, 4, more=png_chunk(b"zTXt", b"a\0\0" + text)))
    yield Case("png with 200 MB of a color profile", png(4, 4, more=png_chunk(b"iCCP", b"a\0\0" + text)))
    yield Case("png with 100,000 texts", png(4, 4, more=png_chunk(b"tEXt", b"a\0b") * 100_000))
    yield Case("png that unpacks to much more", png(4, 4, data=text))
    yield Case("png without an end", small_png[:8] + png_chunk(b"tEXt", b"a\0b") * 200_000)
    yield Case("gif of 100,000 frames", gif(8, 8, 100_000))
    yield Case("gif of 65,535 x 65,535", gif(65_535, 65_535, 1))
    yield Case("gif of the most pixels", gif(most, most, 3))
    yield Case(
        "gif of many codes",
        gif(most, most, 0)[:-1] + b"," + struct.pack("<HHHHB", 0, 0, most, most, 0) + b"\x08" + b"\xff" * 200_000,
    )
    yield Case(
        "bmp that says it is large",
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 9, 0, 0, 54, 40, 2**31 - 1, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0),
    )
    yield Case(
        "bmp with a large run",
        b"BM"
        + struct.pack("<IHHIIiiHHIIiiII", 9, 0, 0, 1078, 40, most, most, 1, 8, 1, 0, 0, 0, 0, 0)
        + bytes(1024)
        + b"\xff\0" * 100_000,
    )
    yield Case("ppm that says it is large", b"P6 999999999 999999999 255\n" + bytes(100))
    yield Case("ppm of the most pixels, nothing there", b"P6 %d %d 255\n" % (most, most))
    yield Case("ppm of one endless number", b"P3 " + b"1" * 1_000_000)
    yield Case("ppm of comments", b"P3 1000 1000 255\n" + b"#\n" * 3_000_000)
    yield Case(
        "bmp of short runs",
        b"BM"
        + struct.pack("<IHHIIiiHHIIiiII", 9, 0, 0, 1078, 40, 4000, 4000, 1, 8, 1, 0, 0, 0, 0, 0)
        + bytes(1024)
        + b"\1\0" * 3_500_000,
    )
    yield Case("gif of small blocks", gif(8, 8, 0)[:-1] + b"!\xfe" + b"\1a" * 4_000_000 + b"\0;")
    yield Case("gif of small comments", gif(8, 8, 0)[:-1] + b"!\xfe\1a\0" * 1_500_000 + b";")
    yield Case("gif of junk", gif(8, 8, 0)[:-1] + bytes(8_000_000))
    yield Case(
        "webp of small chunks",
        b"RIFF"
        + struct.pack("<I", 8_000_000)
        + b"WEBPVP8X"
        + struct.pack("<I", 10)
        + bytes(10)
        + b"abcd\0\0\0\0" * 900_000,
    )
    yield Case("avif of small boxes", b"\0\0\0\x18ftypavif\0\0\0\0avifmif1" + b"\0\0\0\x08free" * 900_000)
    sides = [(256, 4, 1, most), (257, 4, 1, most)]
    yield Case("tiff that leads to itself", tiff([*sides, (259, 3, 1, 1)], following=8))
    yield Case("tiff of 4 billion entries", tiff([(256, 4, 2**32 - 1, 8), (257, 4, 2**31, 8)]))
    yield Case(
        "tiff of large tiles",
        tiff(
            [
                *sides,
                (258, 3, 1, 8),
                (259, 3, 1, 5),
                (262, 3, 1, 1),
                (322, 4, 1, 2**30),
                (323, 4, 1, 2**30),
                (324, 4, 1, 8),
                (325, 4, 1, 100),
            ]
        ),
    )
    yield Case(
        "tiff of one large strip",
        tiff(
            [
                *sides,
                (258, 3, 1, 8),
                (259, 3, 1, 5),
                (262, 3, 1, 1),
                (273, 4, 1, 8),
                (278, 4, 1, 2**32 - 1),
                (279, 4, 1, 2**32 - 1),
            ]
        ),
    )
    yield Case(
        "tiff of 60,000 channels",
        tiff([*sides, (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 2), (277, 3, 1, 60_000), (273, 4, 1, 8)]),
    )
    yield Case("tiff of 1,000,000 directories", tiff([(256, 4, 1, 4)], following=30, tail=bytes(6_000_000)))
    segment = b"\xff\xe1" + struct.pack(">H", 65_535) + b"Exif\0\0" + bytes(65_527)
    yield Case("jpeg with 100 large exifs", jpeg[:2] + segment * 100 + jpeg[2:])
    inside = b"Exif\0\0" + tiff([(0x8769, 4, 1, 8), (0x0112, 3, 2**30, 8), (0x010E, 2, 2**32 - 1, 8)], following=8)
    yield Case(
        "jpeg whose exif leads to itself",
        jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(inside) + 2) + inside + jpeg[2:],
    )
    profile = b"\xff\xe2" + struct.pack(">H", 65_535) + b"ICC_PROFILE\0\x01\xff" + bytes(65_519)
    yield Case("jpeg with 100 large color profiles", jpeg[:2] + profile * 100 + jpeg[2:])
    large = io.BytesIO()
    Image.new("RGB", (most, most), "red").save(large, "JPEG", quality=30, progressive=True)
    yield Case("jpeg of the most pixels", large.getvalue())
    yield Case("jpeg of the most pixels and 3,000 passes", scans(large.getvalue(), 3000)[: LIMITS.photo_bytes])
    yield Case("jpeg of as many passes as may be", scans(large.getvalue(), MAX_SCANS - 9)[: LIMITS.photo_bytes])
    yield Case(
        "jpeg of 65,500 a side",
        scans(jpeg, 1).replace(struct.pack(">HH", 36, 48), struct.pack(">HH", 65_500, 65_500), 1),
    )
    yield Case("jpeg of markers alone", b"\xff\xd8" + b"\xff" * 8_000_000)
    yield Case("jpeg of markers in its data", jpeg[:-2] + b"\xff" * 8_000_000)
    yield Case("jpeg of junk", b"\xff\xd8" + bytes(8_000_000))
    yield Case("jpeg of empty segments", b"\xff\xd8" + b"\xff\xe0\0\x02" * 2_000_000)
    yield Case("jpeg of as many segments as may be", jpeg[:2] + b"\xff\xe0\0\x02" * (MAX_PIECES - 20) + jpeg[2:])
    yield Case("jpeg of as much junk as may be", jpeg[:2] + bytes(MAX_JUNK) + jpeg[2:])
    for lossless in (True, False):
        wide = io.BytesIO()
        Image.new("RGB", (most, most)).save(wide, "WEBP", lossless=lossless, quality=0, method=0)
        yield Case(f"webp of the most pixels, {'lossless' if lossless else 'lossy'}", wide.getvalue())
    wide = io.BytesIO()
    Image.new("RGB", (most, most)).save(wide, "AVIF", speed=10, quality=10)
    yield Case("avif of the most pixels", wide.getvalue())
    yield Case(
        "webp of 16,383 x 16,383",
        b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8L" + struct.pack("<I", 10) + b"\x2f" + b"\xff" * 9,
    )
    info = PngImagePlugin.PngInfo()
    info.add_text("x", "<script>alert(1)</script>")
    page = io.BytesIO()
    Image.open(io.BytesIO(small_png)).save(page, "PNG", pnginfo=info)
    yield Case("png with a script", page.getvalue())
    yield Case("jpeg and zip", jpeg + zipped())
    yield Case("zip and jpeg", zipped() + jpeg)
    yield Case("jpeg and html", jpeg + b"<html><script>alert(1)</script></html>")
    yield Case("gif and script", b"GIF89a/*" + made["gif"][8:] + b"*/=1;alert(1)")
    yield Case(
        "svg", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    )
    yield Case("svg of entities", b'<!DOCTYPE a [<!ENTITY b "' + b"c" * 1000 + b'">]><svg>' + b"&b;" * 1000 + b"</svg>")
    yield Case("postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n")
    yield Case("pdf", b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>")
    yield Case("pickle", b"\x80\x04cos\nsystem\n(S'false'\ntR.")
    yield Case("icon", b"\0\0\x01\0\x01\0\0\0\0\0\x01\0\x20\0" + struct.pack("<II", 2**31, 22))
    yield Case("photoshop", b"8BPS\0\x01" + bytes(6) + struct.pack(">HIIHH", 3, 30_000, 30_000, 8, 3) + bytes(100))
    yield Case("fits", b"SIMPLE  =                    T".ljust(2880))
    for name, data in made.items():
        yield Case(f"whole: {name}", data)


# --- running them


@dataclass(frozen=True)
class Outcome:
    """What became of a file: 200 or an UploadError's status; CPU seconds."""

    case: Case
    status: int
    seconds: float


def outcome(case: Case, limits: Limits = LIMITS) -> Outcome:
    """Decode a file. Raises AssertionError for an answer that must not be; nothing else may be raised."""
    started = time.process_time()
    try:
        image = decode_file(io.BytesIO(case.data), limits)
    except UploadError as error:
        if error.status not in STATUSES or not error.detail:
            raise AssertionError(f"{case.name}: {error.status} {error.detail!r}") from error
        return Outcome(case, error.status, time.process_time() - started)
    if image.mode != "RGB" or not 0 < max(image.size) <= KEPT_SIDE or image.getexif() or "icc_profile" in image.info:
        raise AssertionError(f"{case.name}: {image.mode} {image.size} {list(image.info)}")
    return Outcome(case, 200, time.process_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    statuses: Counter[int] = Counter()
    slowest: list[tuple[float, str]] = []
    largest: list[tuple[float, str]] = []
    before = resident_mb()
    reset_peak()
    rng = np.random.default_rng(arguments.seed)
    for case in itertools.chain(bombs(rng), mutated(arguments.cases, arguments.seed)):
        start = resident_mb()
        reset_peak()  # making a bomb takes memory as well
        found = outcome(case)
        statuses[found.status] += 1
        slowest = sorted([*slowest, (round(found.seconds, 2), case.name)], reverse=True)[:5]
        largest = sorted([*largest, (round(peak_mb() - start, 1), case.name)], reverse=True)[:5]
    after = resident_mb()
    from panfit.pedigree import pedigree

    content = {
        "cases": sum(statuses.values()),
        "seed": arguments.seed,
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "slowest_s": slowest,
        "largest_growth_mb": largest,
        "resident_before_mb": round(before, 1),
        "resident_after_mb": round(after, 1),
        **pedigree(),
    }
    print(json.dumps(content, indent=1))
    if slowest[0][0] > MAX_SECONDS or largest[0][0] > MAX_GROWTH_MB or after - before > MAX_GROWTH_MB:
        raise SystemExit("too slow, or too large")
    path = ROOT / "results" / "benchmarks" / "fuzz-uploads.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def resident_mb() -> float:
    """Of this process, now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def reset_peak() -> None:
    """Let the peak begin anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """The most since then."""
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    os.nice(5)
    main()
