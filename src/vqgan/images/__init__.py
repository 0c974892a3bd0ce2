"""Pictures in and out: the only place that knows the pixel range and how picture files are read.

Files and data sources hold uint8 pixels (H, W, c); models hold floats (c, H, W) in [-1, 1].
"""

from vqgan.errors import printable
from vqgan.images.edges import canny
from vqgan.images.film import check_film, save_film
from vqgan.images.labels import (
    MAX_LABELS,
    in_colours,
    label_colours,
    map_pixels,
    one_hot,
    save_labels,
    shift_hint,
)
from vqgan.images.maps import Map, map_tensor, read_map
from vqgan.images.paths import list_images
from vqgan.images.pixels import (
    Pixels,
    check_size,
    fit,
    fit_map,
    from_array,
    smaller,
    to_float,
    to_uint8,
    with_channels,
)
from vqgan.images.png_rows import PngRows
from vqgan.images.poses import KEY_POINTS, Pose, draw_people
from vqgan.images.reading import check_image, picture_size, pixels_of, read_images, read_pixels
from vqgan.images.tile_pyramid import TilePyramid
from vqgan.images.writing import grid, save_apng, save_png, to_pictures, to_sheet, write_images
