"""Write the generated parts of README, docs/ and data/README.md: `python docs/generate`.

The pictures of the augmentation gallery and of docs/canon.md are written only with `--pictures`.
"""

from __future__ import annotations

import sys

from blocks import PAGES, ROOT, filled
from canon import canon
from configuration import configuration
from depth import draw_degradation, draw_starts
from gallery import draw_gallery

if __name__ == "__main__":
    for page in PAGES:
        path = ROOT / page
        text = path.read_text(encoding="utf-8")
        if filled(text) != text:
            path.write_text(filled(text), encoding="utf-8")
            print(f"wrote {page}")
    reference = ROOT / "docs/configuration.md"
    if reference.read_text(encoding="utf-8") != configuration():
        reference.write_text(configuration(), encoding="utf-8")
        print("wrote docs/configuration.md")
    sizes = ROOT / "docs/canon.md"
    found = canon()
    if not sizes.exists() or sizes.read_text(encoding="utf-8") != found:
        sizes.write_text(found, encoding="utf-8")
        print("wrote docs/canon.md")
    if "--pictures" in sys.argv:
        draw_gallery()
        draw_degradation()
        draw_starts()
