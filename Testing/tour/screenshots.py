"""Makes the pictures of README and tutorial out of the tour's: as wide as a page, 256 colors, small files.

python Testing/tour/screenshots.py build/test-slicer Resources/Screenshots
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

WIDTH = 1200
NAMES = ("segment", "refine", "train")


def main() -> None:
    """Write what there is."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        path = source / f"screenshot-{name}.png"
        if path.exists():
            picture = Image.open(path).convert("RGB")
            size = (WIDTH, round(picture.height * WIDTH / picture.width))
            small = picture.resize(size, Image.Resampling.LANCZOS)
            # An octree keeps the colors of small swatches, which the median cut gives up for shades of gray.
            small = small.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
            small.save(target / f"{name}.png", optimize=True)
            print(f"{target / name}.png: {(target / f'{name}.png').stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
