"""CIE Lab colours of sRGB pixels: lightness L in [0, 100], a (green to red), b (blue to yellow).

Equal distances look about equally different; 2.3 is just noticeable. White point D65.

Standards: IEC 61966-2-1 (sRGB), CIE 15 (Lab).
"""

import numpy as np
from numpy.typing import NDArray

# Linear sRGB to XYZ, divided by the white point.
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
     [0.0193339, 0.1191920, 0.9503041]]
) / np.array([[0.95047], [1.0], [1.08883]])  # fmt: skip
_LINEAR_BELOW = (6 / 29) ** 3
_VALUES = np.arange(256) / 255
_LINEAR = np.where(_VALUES <= 0.04045, _VALUES / 12.92, ((_VALUES + 0.055) / 1.055) ** 2.4)


def to_lab(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 sRGB (..., 3) to Lab, float32 (..., 3)."""
    xyz = _LINEAR[pixels] @ _TO_XYZ.T
    root = np.where(xyz > _LINEAR_BELOW, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)
