"""
Records what Pillow decodes JPEG pictures to: fixtures/jpeg-cases.json.gz.

    python test/verify/inputs/jpeg_cases.py

Needs Pillow, numpy, and libjpeg-turbo's cjpeg for what Pillow does not write. Pixels are recorded by their SHA-256; null is a picture
that Pillow refuses.
"""

import base64
import gzip
import hashlib
import io
import json
import pathlib
import subprocess

import numpy as np
from PIL import Image

FIXTURE = pathlib.Path(__file__).parents[3] / "fixtures" / "jpeg-cases.json.gz"
SIZES = ((1, 1), (2, 3), (7, 5), (8, 8), (16, 16), (17, 17), (33, 31), (40, 18), (3, 50), (50, 3))
random = np.random.default_rng(16)


def scene(height, width):
    """Smooth colours, noise, and edges between saturated colours, where interpolated chroma shows."""
    cells = (random.random((max(2, height // 9), max(2, width // 9), 3)) * 255).astype("uint8")
    smooth = np.asarray(Image.fromarray(cells).resize((width, height), Image.BICUBIC)).astype(int)
    smooth += random.integers(-20, 20, smooth.shape)
    smooth[height // 3 : height // 2, width // 4 : width // 2] = [255, 0, 0]
    smooth[height // 2 :, : width // 5] = [0, 0, 255]
    return Image.fromarray(np.clip(smooth, 0, 255).astype("uint8"))


def written(picture, **options):
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def cjpeg(picture, *options):
    buffer = io.BytesIO()
    picture.save(buffer, "PPM")
    return subprocess.run(["cjpeg", *options], input=buffer.getvalue(), stdout=subprocess.PIPE, check=True).stdout


def pictures():
    for height, width in SIZES:
        for sampling in ("4:4:4", "4:2:2", "4:2:0"):
            for progressive in (False, True):
                options = {"quality": 85, "subsampling": sampling, "progressive": progressive}
                kind = "progressive" if progressive else "baseline"
                yield f"{kind} {sampling} {height}x{width}", written(scene(height, width), **options)
        yield f"grey {height}x{width}", written(scene(height, width).convert("L"), quality=80)
        for factors in ("1x2", "4x1", "1x4"):
            for options in ([], ["-progressive"]):
                name = f"{' '.join(options)} sampling {factors} {height}x{width}".strip()
                yield name, cjpeg(scene(height, width), "-quality", "85", "-sample", factors, *options)
    picture = scene(40, 24)
    yield "restarts", written(picture, quality=70, restart_marker_blocks=1)
    yield "few levels", written(picture, quality=2)
    yield "all levels", written(picture, quality=100, subsampling="4:4:4")
    yield "optimized", written(picture, quality=70, optimize=True)
    yield "rgb", written(picture, keep_rgb=True)
    yield "rgb without JFIF", cjpeg(picture, "-rgb")
    yield "grey of factors 2x2", cjpeg(picture, "-grayscale", "-sample", "2x2")
    orientation = Image.Exif()
    orientation[0x0112] = 6
    yield "orientation", written(picture, exif=orientation)
    plain = written(picture, quality=80)
    progressive = written(picture, quality=80, progressive=True)
    yield "bytes before the end", plain[:-2] + b"\x01\x02\x03" + plain[-2:]
    yield "bytes behind the end", plain + b"\xff\xd9more"
    yield "an early end", plain[:-200] + b"\xff\xd9" + plain[-198:]
    yield "a cut scan, ended", plain[:-200] + b"\xff\xd9"
    yield "damaged data", plain[:-120] + bytes(byte ^ 0x5A for byte in plain[-120:-110]) + plain[-110:]
    yield "damaged progressive data", progressive[:-150] + bytes(8) + progressive[-142:]
    yield "half", plain[: len(plain) * 3 // 4]
    yield "half of progressive", progressive[: len(progressive) * 3 // 4]
    yield "no end", plain[:-2]
    yield "another frame within the data", plain[:-100] + b"\xff\xc0" + plain[-98:]


def rgb(content):
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return picture.convert("RGB")
    except OSError:
        return None


def case(name, content):
    picture = rgb(content)
    pixels = picture and {
        "width": picture.width,
        "height": picture.height,
        "sha256": hashlib.sha256(picture.tobytes()).hexdigest(),
    }
    return {"name": name, "file": base64.b64encode(content).decode(), "pixels": pixels}


cases = [case(name, content) for name, content in pictures()]
FIXTURE.write_bytes(gzip.compress(json.dumps(cases, separators=(",", ":")).encode(), mtime=0))
print(len(cases), "pictures,", FIXTURE.stat().st_size, "bytes")
