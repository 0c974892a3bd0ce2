"""A picture as tiles at all levels, and its page."""

import html.parser
import itertools
import json
import tracemalloc
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vqgan.cli.outputs import check_targets
from vqgan.errors import ConfigError, OutputError
from vqgan.images import tile_pyramid
from vqgan.images.ours import is_ours
from vqgan.images.tile_pyramid import TILE, TilePyramid, halved


def picture(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)


def write(path, pixels, cuts=(), info=None):
    with TilePyramid.open(path, pixels.shape[:2], pixels.shape[2], info) as pyramid:
        for band in np.split(pixels, cuts):
            pyramid.write(band)


def level(folder, size=TILE):
    """A level put together from its tiles."""
    tiles = {tuple(map(int, path.stem.split("_"))): path for path in folder.iterdir()}
    columns, rows = (max(place[axis] for place in tiles) + 1 for axis in (0, 1))
    assert set(tiles) == {(column, row) for column in range(columns) for row in range(rows)}
    lines = []
    for row in range(rows):
        parts = []
        for column in range(columns):
            with Image.open(tiles[column, row]) as image:
                pixels = np.asarray(image).reshape(image.height, image.width, -1)
            assert column == columns - 1 or pixels.shape[1] == size
            assert row == rows - 1 or pixels.shape[0] == size
            parts.append(pixels)
        lines.append(np.concatenate(parts, axis=1))
    return np.concatenate(lines)


def levels(folder, size=TILE):
    return [level(folder / str(number), size) for number in range(len([*folder.iterdir()]))]


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("height", "width", "channels"), [(600, 777, 3), (1, 1, 3), (257, 1, 1), (512, 256, 4), (2, 1025, 3)]
)
def test_the_finest_level_is_the_picture_and_each_other_one_the_mean_of_2x2(
    height, width, channels, tmp_path
):
    pixels = picture(height, width, channels)
    write(tmp_path / "a.dzi", pixels, [height // 3, height // 2])
    found = levels(tmp_path / "a_files")
    assert len(found) - 1 == np.ceil(np.log2(max(height, width)))
    assert np.array_equal(found[-1], pixels)
    assert found[0].shape == (1, 1, channels)
    for number, (coarse, fine) in enumerate(itertools.pairwise(found)):
        times = 2 ** (len(found) - 1 - number)
        assert coarse.shape == (-(-height // times), -(-width // times), channels)
        for row, column in {(0, 0), (len(coarse) - 1, coarse.shape[1] - 1), (len(coarse) // 2, 0)}:
            square = fine[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert coarse[row, column].tolist() == np.rint(square.mean(axis=(0, 1))).tolist()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(height=st.integers(1, 40), width=st.integers(1, 40), cuts=st.lists(st.integers(0, 40), max_size=6))
def test_the_files_do_not_depend_on_the_bands(height, width, cuts, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(tile_pyramid, "TILE", 8)
    pixels, folder = picture(height, width, seed=height), tmp_path_factory.mktemp("pyramids")
    write(folder / "one" / "a.dzi", pixels)
    write(folder / "two" / "a.dzi", pixels, sorted(min(cut, height) for cut in cuts))
    write(folder / "rows" / "a.dzi", pixels, range(1, height))
    assert files(folder / "one") == files(folder / "two") == files(folder / "rows")
    assert np.array_equal(levels(folder / "one" / "a_files", 8)[-1], pixels)


def test_halving_does_not_make_pictures_brighter():
    pixels = picture(512, 512)
    small = halved(halved(halved(pixels)))
    assert abs(small.mean() - pixels.mean()) < 0.05
    assert halved(np.full((3, 5, 1), 255, np.uint8)).tolist() == [[[255]] * 3] * 2


def test_the_description_is_that_of_the_format(tmp_path):
    write(tmp_path / "a.dzi", picture(3, 5))
    image = ElementTree.parse(tmp_path / "a.dzi").getroot()
    name = "{http://schemas.microsoft.com/deepzoom/2008}"
    assert image.tag == f"{name}Image"
    assert image.attrib == {"Format": "png", "Overlap": "0", "TileSize": "256"}
    assert [(each.tag, each.attrib) for each in image] == [(f"{name}Size", {"Width": "5", "Height": "3"})]


class Page(html.parser.HTMLParser):
    """What a page names, and what its scripts hold."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.texts = [], {}
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        key = dict(self.elements[-1][1]).get("id", self.elements[-1][0]) if self.elements else ""
        self.texts[key] = self.texts.get(key, "") + data


def test_the_page_shows_any_name_and_text_and_asks_for_nothing_but_its_tiles(tmp_path):
    name, text = "a </script>#%27 ü&".replace("/", "-"), "</script><b>1 & 2"
    write(tmp_path / f"{name}.dzi", picture(300, 40), info={"seed": "3", "prompt": text})
    page = Page(tmp_path / f"{name}.html")
    tiles = json.loads(page.texts["tiles"])
    assert tiles == {**tiles, "width": 40, "height": 300, "tile": 256, "last": 9}
    assert tiles["folder"] == "a%20%3C-script%3E%23%2527%20%C3%BC%26_files"
    source = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
    assert source.count("</script>") == 2
    assert "{{" not in source
    assert "<dt>seed</dt><dd>3</dd>\n<dt>prompt</dt><dd>&lt;/script&gt;&lt;b&gt;1 &amp; 2</dd>" in source
    assert page.texts["title"].strip() == f"{name}, 40 × 300 pixels"
    (policy,) = [each["content"] for _, each in page.elements if "http-equiv" in each]
    assert policy.startswith("default-src 'none'; img-src 'self' file:;")
    assert not [each for _, each in page.elements if {"src", "href"} & set(each)]
    assert "http" not in source.replace("http-equiv", "")


def test_a_later_pyramid_replaces_an_earlier_one_whole(tmp_path):
    assert check_targets(tmp_path, TilePyramid.names("a")) is None
    write(tmp_path / "a.dzi", picture(900, 700))
    assert all(is_ours(tmp_path / name) for name in TilePyramid.names("a"))
    check_targets(tmp_path, TilePyramid.names("a"))
    write(tmp_path / "a", picture(20, 30))
    assert len(levels(tmp_path / "a_files")) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(TilePyramid.names("a"))


def test_a_folder_of_others_is_never_replaced(tmp_path):
    (tmp_path / "a_files" / "0").mkdir(parents=True)
    Image.new("L", (1, 1)).save(tmp_path / "a_files" / "0" / "0_0.png")
    with pytest.raises(ConfigError, match="would replace a file that vqgan did not write"):
        check_targets(tmp_path, TilePyramid.names("a"))
    before = files(tmp_path)
    with pytest.raises(OutputError, match="a_files` exists, and vqgan did not write it"):
        write(tmp_path / "a.dzi", picture(3, 3))
    assert files(tmp_path) == before


class StopError(BaseException):
    """Like an interruption: no Exception."""


def test_after_an_error_everything_is_as_it_was(tmp_path):
    write(tmp_path / "a.dzi", picture(300, 300))
    before = files(tmp_path)
    with pytest.raises(StopError), TilePyramid.open(tmp_path / "a.dzi", (600, 300), 3) as pyramid:  # noqa: PT012
        pyramid.write(picture(500, 300))
        raise StopError
    missing = pytest.raises(ConfigError, match="its last 100 rows are missing")
    with missing, TilePyramid.open(tmp_path / "a.dzi", (600, 300), 3) as pyramid:
        pyramid.write(picture(500, 300))
    with pytest.raises(ConfigError, match="2 channels"), TilePyramid.open(tmp_path / "b.dzi", (6, 3), 2):
        pass
    assert files(tmp_path) == before


def test_a_failing_disk_is_told_with_the_tile(tmp_path, monkeypatch):
    def fail(path, data):
        raise OSError(28, "")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OutputError, match=r"0_0\.png`: no space left on device"):
        write(tmp_path / "a.dzi", picture(500, 300))
    assert not any(tmp_path.iterdir())


def test_the_memory_does_not_grow_with_the_height(tmp_path, monkeypatch):
    monkeypatch.setattr(tile_pyramid, "TILE", 32)
    band = picture(16, 512)

    def peak(name, count):
        tracemalloc.start()
        with TilePyramid.open(tmp_path / name, (16 * count, 512), 3) as pyramid:
            for _ in range(count):
                pyramid.write(band)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak("a", 1)
    few, many = peak("b", 4), peak("c", 36)
    assert many < few + 50_000  # 32 more bands hold 800 kilobytes
