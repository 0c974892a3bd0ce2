"""Pictures in and out: the only place that knows the pixel range and how image files are decoded.

Files and data sources hold uint8 pixels (H, W, c); models hold floats (c, H, W) in [-1, 1].
"""

from vqgan.images.decoding import check_image, decode_image, from_picture, printable
from vqgan.images.files import grid, read_images, save_apng, save_png, to_pictures, to_sheet, write_images
from vqgan.images.pixels import Pixels, fit, from_array, to_float, to_uint8, with_channels

__all__ = [
    "Pixels",
    "check_image",
    "decode_image",
    "fit",
    "from_array",
    "from_picture",
    "grid",
    "printable",
    "read_images",
    "save_apng",
    "save_png",
    "to_float",
    "to_pictures",
    "to_sheet",
    "to_uint8",
    "with_channels",
    "write_images",
]
