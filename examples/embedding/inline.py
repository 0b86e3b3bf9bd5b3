"""Put the SVG pictures that a page refers to into the page.

    python inline.py PAGE.html WHOLE.html

The whole page needs no other file of its own, its pictures take the colours of the page, and their
text can be searched and read aloud.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def inline(page: str, folder: Path) -> str:
    """The page with each <img src="FILE.svg"> replaced by what is in the file."""

    def picture(image: re.Match[str]) -> str:
        svg = (folder / image[1]).read_text(encoding="utf-8")
        return svg[svg.index("<svg") :].rstrip()  # an XML declaration has no place within a page

    return re.sub(r'<img\s[^>]*?src="([^":]+\.svg)"[^>]*>', picture, page)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(inline(source.read_text(encoding="utf-8"), source.parent), encoding="utf-8")
