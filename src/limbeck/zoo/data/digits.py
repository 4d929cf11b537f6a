"""The handwritten digits that ship inside scikit-learn."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from limbeck.zoo.data.names import DIGITS
from limbeck.zoo.data.rows import Source, rows_of


def read_digits() -> Source:
    """Return the 1,797 images of 8x8 pixels, their values 0 to 16 spread over 0 to 255."""
    images, labels = load_digits(return_X_y=True)
    scaled = (images.astype(np.uint16).reshape(-1, 8, 8) * 255 + 8) // 16
    return Source(rows_of(scaled.astype(np.uint8), np.asarray(labels), "digits"), None, DIGITS)
