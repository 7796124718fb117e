"""Drawing with matplotlib, without a display: colors and font sizes of all pictures.

All text from users passes through `literal` of `text.py`, and `render.py` renders all figures.
"""

from __future__ import annotations

from cvpipe.pictures.drawing.fonts import use_more_fonts

# Colors that people with any kind of color vision can tell apart (Okabe and Ito 2008).
RIGHT, WRONG, MISSED, TRUTH = "#0072b2", "#d55e00", "#cc79a7", "#8c959f"
# Font sizes in points, and the smallest width of a photo in a grid, in inches.
TITLE, LABEL, PANEL = 9, 8, 1.8
# With more classes than this, an axis shows no names.
NAMED_CLASSES = 50


use_more_fonts()
