"""Pictures of a results folder as data URIs, scaled down, with their size."""

import base64
import io
import math
from pathlib import Path

PIXELS = 20_000_000
"""The largest picture that is decoded, 60 MB of memory; ours have at most 5 million pixels."""

TALLEST = 5
"""The greatest height of a picture on the page, relative to the greatest width."""


def picture(path: Path, quality: int, widest: int) -> tuple[str, int, int]:
    """(data URI, width, height) of a PNG, as WebP, scaled down to `widest` pixels where it is wider.

    Raises `OSError` or `ValueError` where the file is not a PNG picture, or too large.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as found:
            if math.prod(found.size) > PIXELS:  # from the file's header, before anything is decoded
                raise ValueError(f"{found.width} × {found.height} pixels are too many")
            image = found.convert("RGB")
    except (Image.DecompressionBombError, SyntaxError, EOFError) as error:
        raise ValueError(str(error)) from error
    scale = min(1, widest / image.width, TALLEST * widest / image.height)
    if scale < 1:
        smaller = [max(1, round(side * scale)) for side in image.size]
        image = image.resize((smaller[0], smaller[1]), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=5)
    uri = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return uri, image.width, image.height
