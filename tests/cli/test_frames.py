"""`--frames`: pictures of a growing image, joined into an animation and a page."""

import base64
import dataclasses
import html.parser
import io
import json
import re
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from vqgan.cli.outputs import check_frames
from vqgan.errors import ConfigError, OutputError
from vqgan.evaluation import growth_page
from vqgan.evaluation.growth import GREYS, Frames, cover, fill_undrawn
from vqgan.evaluation.growth_page import MAX_FRAMES, Frame, GrowthPage, page_side
from vqgan.images import save_png, to_uint8
from vqgan.images.ours import PAGE_MARK
from vqgan.sampling import window_start
from vqgan.tokenizer import decode_within
from vqgan.tokenizer.memory import RESERVE, decoding
from vqgan.types import DrawnTokens, Progress

FACTOR, MEMORY = 4, 2**30
WITHOUT_END = {"area", "base", "br", "hr", "img", "input", "link", "meta", "path"}


class Page(html.parser.HTMLParser):
    """Reads a page; every element must be closed where it should be."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.open, self.texts = [], [], {}
        text = path.read_text(encoding="utf-8")
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in WITHOUT_END:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag == "path"
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        key = dict(self.elements[-1][1]).get("id") if self.elements else None
        self.texts[key] = self.texts.get(key, "") + data

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def pictures(self):
        return [
            base64.b64decode(each["src"].removeprefix("data:image/png;base64,")) for each in self.of("img")
        ]

    @property
    def data(self):
        return json.loads(self.texts["frames"])


def draw(report, final, *, window=None, known=None, count=1):
    """What sampling reports while it fills grids (b h w) in raster order, in place; the first with nothing drawn."""
    rows, columns = final.shape[1:]
    height, width = window or (rows, columns)
    known = torch.zeros_like(final, dtype=torch.bool) if known is None else known
    indices, total = torch.where(known, final, -1), rows * columns
    whole = ((0, 0, height, width),)
    report(DrawnTokens("sample", 0, total, indices=indices, windows=whole, images=range(len(final))))
    for cell in range(total):
        row, column = divmod(cell, columns)
        indices[:, row, column] = final[:, row, column]
        seen = (window_start(row, rows, height), window_start(column, columns, width), height, width)
        report(
            DrawnTokens("sample", cell + 1, total, indices=indices, windows=(seen,), images=range(len(final)))
        )


def grids(count, rows, columns, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(tiny.CODES, (count, rows, columns), generator=generator)


def grow(folder, *, count=5, grid=(4, 6), channels=3, window=None, known=None, info=None):
    """Draws one image with frames: the tokenizer, its grid, the finished image and the paths of the frames."""
    tokenizer = tiny.tokenizer(channels=channels).eval()
    final = grids(1, *grid)
    frames = Frames(tokenizer, folder, memory=MEMORY, count=count, info=info)
    draw(frames, final, window=window, known=known)
    with torch.no_grad():
        image = tokenizer.decode(final)[0]
    assert frames.finish(image) == [folder / "growth.png", folder / "growth.html"]
    return tokenizer, final, image, sorted(folder.glob("frame-*.png"))


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def text(path):
    with Image.open(path) as image:
        return image.text


def steps(paths):
    return [int(text(path)["step"]) for path in paths]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(2, [0, 24]), (3, [0, 12, 24]), (5, [0, 6, 12, 18, 24]), (25, list(range(25))), (200, list(range(25)))],
)
def test_frames_are_evenly_spaced_from_the_first_report_to_the_finished_image(count, expected, tmp_path):
    *_, paths = grow(tmp_path, count=count)
    assert steps(paths) == expected
    assert [path.name for path in paths] == [f"frame-{number:04d}.png" for number in range(len(expected))]


def test_reports_that_jump_give_one_frame_each_at_most(tmp_path):
    tokenizer, final = tiny.tokenizer().eval(), grids(1, 4, 6)
    frames = Frames(tokenizer, tmp_path, memory=MEMORY, count=5)
    for drawn in (3, 4, 20, 24):
        indices = torch.where(torch.arange(24).view(1, 4, 6) < drawn, final, -1)
        frames(DrawnTokens("sample", drawn, 24, indices=indices, windows=(), images=range(1)))
    frames.finish(torch.zeros(1, 16, 24))
    assert steps(sorted(tmp_path.glob("frame-*.png"))) == [3, 20, 24]


def test_steps_that_count_the_tokens_of_all_images_make_no_difference(tmp_path):
    tokenizer, final = tiny.tokenizer().eval(), grids(5, 2, 4)

    def second_part(progress):
        step = 2 * progress.total + 3 * progress.step
        frames(dataclasses.replace(progress, step=step, total=5 * progress.total, images=range(3)))

    frames = Frames(tokenizer, tmp_path, memory=MEMORY, count=5)
    draw(second_part, final[2:])
    frames.finish(tokenizer.decode(final)[2])
    assert steps(sorted(tmp_path.glob("frame-*.png"))) == [0, 2, 4, 6, 8]


def test_what_is_not_drawn_is_grey_and_what_is_drawn_is_the_decoded_image(tmp_path):
    tokenizer, final, _, paths = grow(tmp_path, count=5)
    greys = {int(value) for value in to_uint8(torch.tensor(GREYS).view(1, 1, 2)).flatten()}
    for path, drawn in zip(paths, (0, 6, 12, 18, 24), strict=True):
        is_drawn = (torch.arange(24) < drawn).view(4, 6)
        with torch.no_grad():
            decoded = tokenizer.decode(fill_undrawn(torch.where(is_drawn, final[0], -1))[None])[0]
        mask = is_drawn.repeat_interleave(FACTOR, 0).repeat_interleave(FACTOR, 1).numpy()
        assert np.array_equal(pixels(path)[mask], to_uint8(decoded).numpy()[mask])
        assert set(pixels(path)[~mask].flatten().tolist()) == (greys if drawn < 24 else set())


@torch.no_grad()
def test_with_little_memory_frames_pass_in_bands_as_the_image_does(tmp_path, monkeypatch):
    tokenizer, final = tiny.tokenizer().eval(), grids(1, 48, 32)
    passage = decoding(tokenizer, (48, 32), count=1)
    memory = passage.image_bytes + RESERVE + passage.activation_memory - 1
    monkeypatch.setattr(type(tokenizer), "decode", lambda *_: pytest.fail("decoded whole"))
    frames = Frames(tokenizer, tmp_path, memory=memory, count=2, info={"seed": "1"})
    indices = torch.where(torch.arange(1536).view(1, 48, 32) < 1000, final, -1)
    frames(DrawnTokens("sample", 1000, 1536, indices=indices, windows=(), images=range(1)))
    expected = to_uint8(decode_within(tokenizer, fill_undrawn(indices[0])[None], memory)[0])
    written = tmp_path / "frame-0000.png"
    assert np.array_equal(pixels(written)[:120], expected[:120, :, 0])
    assert text(written) == {"seed": "1", "step": "1000", "total": "1536"}


def test_the_last_frame_is_the_finished_image(tmp_path):
    *_, image, paths = grow(tmp_path / "frames")
    written = save_png(image, tmp_path / "image.png")
    assert np.array_equal(pixels(paths[-1]), pixels(written))


def test_given_tokens_are_seen_from_the_first_frame(tmp_path):
    known = torch.zeros(1, 4, 6, dtype=torch.bool)
    known[:, :, :2] = True
    *_, paths = grow(tmp_path, known=known)
    first = pixels(paths[0])
    assert (text(paths[0])["step"], text(paths[0])["total"]) == ("8", "24")
    assert len(np.unique(first[:, 2 * FACTOR :])) == 2
    assert len(np.unique(first[:, : 2 * FACTOR])) > 2


def test_every_frame_says_what_made_it_and_how_far_it_is(tmp_path):
    *_, paths = grow(tmp_path, info={"seed": "7", "class": "Füchse"})
    assert text(paths[1]) == {
        "seed": "7",
        "class": "Füchse",
        "step": "6",
        "total": "24",
    }


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("grid", [(1, 2), (1, 9), (9, 1), (2, 7), (40, 3)])
def test_every_shape_of_grid_grows(grid, channels, tmp_path):
    *_, paths = grow(tmp_path, count=4, grid=grid, channels=channels)
    assert {pixels(path).shape for path in paths} == {
        (grid[0] * FACTOR, grid[1] * FACTOR, 3)[: 2 if channels == 1 else 3]
    }
    page = Page(tmp_path / "growth.html")
    assert len(page.pictures) == len(paths) == min(4, grid[0] * grid[1] + 1)
    height, width = pixels(tmp_path / "growth.png").shape[:2]
    assert width * grid[0] == height * grid[1]
    assert max(height, width) > growth_page.SMALL_SIDE / 2


def test_the_animation_has_all_frames_and_rests_on_the_last(tmp_path):
    *_, paths = grow(tmp_path, count=7, window=(2, 3))
    with Image.open(tmp_path / "growth.png") as animation:
        assert animation.n_frames == len(paths) == 7
        durations = []
        for number in range(7):
            animation.seek(number)
            durations.append(animation.info["duration"])
            assert animation.convert("RGB").size == (24 * 10, 16 * 10)
    assert durations[:-1] == [250] * 6
    assert durations[-1] == 250 + 1500


def test_the_animation_outlines_the_window_and_the_newest_token(tmp_path):
    grow(tmp_path, count=25, window=(2, 3), channels=1)
    with Image.open(tmp_path / "growth.png") as animation:
        animation.seek(15)  # the token of row 2, column 2: the window begins at row 1, column 1
        shown = np.asarray(animation.convert("RGB"))
        animation.seek(24)
        finished = np.asarray(animation.convert("RGB"))
    amber, white = (255, 176, 0), (255, 255, 255)
    found = np.argwhere((shown == amber).all(axis=2))
    assert found.min(axis=0).tolist() == [40 + 1, 40 + 1]
    assert found.max(axis=0).tolist() == [120 - 2, 160 - 2]
    assert (shown[82, 82:118] == white).all()
    assert not (finished == amber).all(axis=2).any()


@pytest.mark.parametrize("side", range(1, 9))
def test_an_outline_stays_within_tokens_of_few_pixels(side, tmp_path, monkeypatch):
    monkeypatch.setattr(growth_page, "SMALL_SIDE", 0)
    path = save_png(torch.full((3, 4 * side, 4 * side), 0.5), tmp_path / "frame.png")
    outlined = growth_page._outlined(Frame(path, "", [(1, 2, 1, 1)], ()), (4, 4))
    changed = (outlined != pixels(path)).any(axis=2)
    assert changed[side, 2 * side]
    changed[side : 2 * side, 2 * side : 3 * side] = False
    assert not changed.any()


def test_plain_frames_have_no_outline(tmp_path):
    *_, paths = grow(tmp_path, count=5, window=(2, 3))
    assert not any((pixels(path) == (255, 176, 0)).all(axis=2).any() for path in paths)


def test_the_page_holds_every_frame_once_and_asks_for_nothing(tmp_path):
    *_, paths = grow(tmp_path)
    page = Page(tmp_path / "growth.html")
    assert page.pictures == [path.read_bytes() for path in paths]
    source = (tmp_path / "growth.html").read_text(encoding="utf-8")
    assert not re.search(
        r"https?:|//\w|url\(|@import|<link|\bfetch\b|XMLHttpRequest|import\(",
        re.sub(r'"data:[^"]+"', "", source),
    )
    asked = [
        each
        for _, attributes in page.elements
        for each in ("src", "href", "action", "srcset")
        if each in attributes
    ]
    assert asked == ["src"] * len(paths)
    (policy,) = [each["content"] for each in page.of("meta") if each.get("http-equiv")]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "hidden = false; show(last);" in source  # it opens on the finished image, with and without scripts


def test_the_page_knows_where_the_window_was(tmp_path):
    grow(tmp_path, count=25, window=(2, 3))
    page = Page(tmp_path / "growth.html")
    assert page.of("svg")[0]["viewbox"] == "0 0 6 4"
    assert page.data["frames"][15] == {
        "caption": "15 of 24 tokens drawn",
        "windows": [[1, 1, 2, 3]],
        "newest": [[2, 2, 1, 1]],
    }
    assert page.data["frames"][0]["newest"] == page.data["frames"][24]["windows"] == []


def test_several_places_can_grow_at_once(tmp_path):
    tokenizer, final = tiny.tokenizer().eval(), grids(1, 2, 3)
    frames = Frames(tokenizer, tmp_path, memory=MEMORY, count=4)
    indices = torch.full_like(final, -1)
    for step, cells in enumerate([[], [(0, 2), (1, 0)], [(0, 0), (0, 1), (1, 1), (1, 2)]]):
        for row, column in cells:
            indices[:, row, column] = final[:, row, column]
        windows = tuple((0, column, 2, 1) for _, column in cells)
        frames(DrawnTokens("sample", step, 2, indices=indices, windows=windows, images=range(1)))
    frames.finish(tokenizer.decode(final)[0])
    middle = Page(tmp_path / "growth.html").data["frames"][1]
    assert middle["windows"] == [[0, 2, 2, 1], [0, 0, 2, 1]]
    assert middle["newest"] == [[0, 2, 1, 1], [1, 0, 1, 1]]


def test_the_page_can_be_used_without_seeing_it_and_without_script(tmp_path):
    grow(tmp_path, info={"seed": "3"})
    page = Page(tmp_path / "growth.html")
    labels = {each.get("for") for each in page.of("label")}
    slider, box = page.of("input")
    assert slider["id"] in labels
    assert (slider["min"], slider["max"]) == ("0", "4")
    assert box["type"] == "checkbox"
    assert page.of("html")[0]["lang"] == "en"
    captions = [each["caption"] for each in page.data["frames"]]
    assert captions[1] == "6 of 24 tokens drawn, seed 3"
    assert [each["alt"] for each in page.of("img")] == captions
    assert [each.get("class") for each in page.of("img")] == [None] * 4 + ["shown"]
    assert page.texts["caption"].strip() == captions[-1]
    (controls,) = [each for each in page.of("div") if each["id"] == "controls"]
    assert "hidden" in controls


def test_texts_are_escaped(tmp_path):
    evil = "</script><script>alert(1)</script>\"'&"
    grow(tmp_path, info={"seed": evil, "class": evil})
    page = Page(tmp_path / "growth.html")
    assert len(page.of("script")) == 2
    assert evil in page.data["frames"][0]["caption"]
    assert evil in page.of("img")[0]["alt"]
    assert "alert(1)</script>" not in (tmp_path / "growth.html").read_text(encoding="utf-8")


def test_large_frames_are_smaller_in_the_page_and_the_animation_only(tmp_path, monkeypatch):
    for name, side in (("MAX_PAGE_SIDE", 12), ("MAX_ANIMATION_SIDE", 8), ("SMALL_SIDE", 0)):
        monkeypatch.setattr(growth_page, name, side)
    *_, paths = grow(tmp_path, channels=1)
    assert {pixels(path).shape for path in paths} == {(16, 24)}
    shown = [Image.open(io.BytesIO(each)) for each in Page(tmp_path / "growth.html").pictures]
    assert {(each.size, each.mode) for each in shown} == {((12, 8), "L")}
    assert pixels(tmp_path / "growth.png").shape[:2] == (5, 8)


@pytest.mark.parametrize(
    ("shape", "count"), [((3, 1024, 1024), 200), ((1, 600, 90), 150), ((3, 64, 8000), 9)]
)
def test_a_page_of_many_frames_stays_below_its_limit(shape, count):
    channels, height, width = shape
    side = page_side(shape, count)
    scale = min(1, side / max(height, width))
    assert side <= 1024
    assert count * channels * height * width * scale**2 * 4 / 3 <= growth_page.MAX_PAGE_BYTES


def test_many_frames_are_smaller_in_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(growth_page, "MAX_PAGE_BYTES", 5 * 3 * 12 * 8 * 4 // 3)
    grow(tmp_path)
    shown = [Image.open(io.BytesIO(each)).size for each in Page(tmp_path / "growth.html").pictures]
    assert shown == [(12, 8)] * 5


def test_the_page_is_written_piece_by_piece(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    page = GrowthPage(tmp_path)
    page._frames = [Frame(tmp_path / "noise.png", "noise", (), ())] * 100
    tracemalloc.start()
    page._write_page(tmp_path / "page.html", (3, 128, 128), (2, 2), 40)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = (tmp_path / "page.html").stat().st_size
    assert size > 100 * noise.size
    assert peak < size / 5


def test_only_the_first_image_is_followed_and_its_grid_stays_as_it_is(tmp_path):
    tokenizer, indices = tiny.tokenizer().eval(), grids(3, 2, 2)
    indices[:, 1] = -1
    frames = Frames(tokenizer, tmp_path / "one", memory=MEMORY, count=3)
    frames(Progress("load", 1, 2))
    frames(DrawnTokens("sample", 1, 4, indices=indices, windows=(), images=range(3, 6)))
    assert not (tmp_path / "one").exists()
    copy = indices.clone()
    frames(DrawnTokens("sample", 1, 4, indices=indices, windows=(), images=range(3)))
    assert torch.equal(indices, copy)
    alone = Frames(tokenizer, tmp_path / "two", memory=MEMORY, count=3)
    alone(DrawnTokens("sample", 1, 4, indices=indices[:1], windows=(), images=range(1)))
    first, second = (pixels(tmp_path / name / "frame-0000.png") for name in ("one", "two"))
    assert np.array_equal(first, second)


def test_without_reports_the_finished_image_is_the_only_frame(tmp_path):
    Frames(tiny.tokenizer(), tmp_path, memory=MEMORY, count=9).finish(torch.zeros(1, 8, 12))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frame-0000.png", "growth.html", "growth.png"]
    assert Page(tmp_path / "growth.html").data["frames"][0]["caption"] == "6 of 6 tokens drawn"


def test_frames_of_an_earlier_drawing_are_removed_and_nothing_else(tmp_path):
    grow(tmp_path, count=9)
    (tmp_path / "mine.png").write_bytes(b"mine")
    *_, paths = grow(tmp_path, count=3)
    others = ["growth.html", "growth.png", "mine.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(path.name for path in paths), *others]
    assert len(paths) == 3


@pytest.mark.parametrize("name", ["frame-0001.png", "frame-0900.png", "growth.png", "growth.html"])
def test_a_file_of_the_name_that_is_none_of_ours_stays(name, tmp_path):
    grow(tmp_path, count=3)
    ours = {path.name for path in tmp_path.iterdir()}
    Image.new("RGB", (8, 8)).save(tmp_path / name, "PNG")
    with pytest.raises(ConfigError, match=f"`.*{name}` would replace a file that vqgan did not write") as e:
        check_frames(tmp_path, 9)
    assert e.value.hint == "give another folder with `--out`, or add `--overwrite`"
    assert {path.name for path in tmp_path.iterdir()} == ours | {name}
    assert pixels(tmp_path / name).shape == (8, 8, 3)


def test_the_animation_says_what_made_it(tmp_path):
    grow(tmp_path, count=3, info={"seed": "7"})
    assert text(tmp_path / "growth.png") == {"frames": "3", "seed": "7"}
    assert PAGE_MARK in (tmp_path / "growth.html").read_text(encoding="utf-8")[:1024]


def test_an_interrupted_drawing_leaves_whole_frames_and_no_page(tmp_path):
    grow(tmp_path, count=9)

    class Interrupting(Frames):
        def __call__(self, progress):
            super().__call__(progress)
            if progress.step == 13:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(Interrupting(tiny.tokenizer(channels=3), tmp_path, memory=MEMORY, count=5), grids(1, 4, 6))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"frame-000{number}.png" for number in range(3)
    ]
    assert all(pixels(path).shape == (16, 24, 3) for path in tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "frames").write_text("a file")
    with pytest.raises(OutputError, match="cannot write"):
        draw(Frames(tiny.tokenizer(), tmp_path / "frames", memory=MEMORY, count=5), grids(1, 4, 6))


@pytest.mark.parametrize("count", [-1, 0, 1, MAX_FRAMES + 1])
def test_a_count_out_of_range_is_refused(count, tmp_path):
    with pytest.raises(ConfigError, match=f"`--frames` is {count}, expected 2 to 200") as refused:
        check_frames(tmp_path, count)
    assert refused.value.hint
    check_frames(tmp_path, 2)
    check_frames(tmp_path, None)


@pytest.mark.parametrize(
    ("grid", "filled"),
    [
        ([[-1, -1], [-1, -1]], [[0, 0], [0, 0]]),
        ([[-1, -1, -1], [-1, 4, -1], [-1, -1, -1]], [[4, 4, 4]] * 3),
        ([[1, 2], [3, -1], [-1, -1]], [[1, 2], [3, 2], [3, 2]]),
        ([[5, -1, 7]], [[5, 5, 7]]),
        ([[-1, -1, 7]], [[7, 7, 7]]),
    ],
)
def test_undrawn_tokens_take_a_code_nearby(grid, filled):
    assert fill_undrawn(torch.tensor(grid)).tolist() == filled


def test_the_grey_is_chequered_by_token():
    covered = cover(torch.zeros(1, 4, 4), torch.tensor([[True, True], [False, True]]))
    dark, light = GREYS
    rows = [[dark, dark, light, light]] * 2 + [[0, 0, dark, dark]] * 2
    torch.testing.assert_close(covered[0], torch.tensor(rows))


@pytest.mark.parametrize("size", ["16x16", "24x20"])
def test_sample_writes_frames_of_its_first_image(size, trained, tmp_path, run):
    words = ["--count", 3, "--batch-size", 2, "--seed", 5, "--size", size]
    assert run("sample", trained.prior, "--out", tmp_path / "plain", *words).code == 0
    result = run("sample", trained.prior, "--out", tmp_path / "new", *words, "--frames", 4)
    assert result.code == 0, result.err
    folder = tmp_path / "new" / "frames"
    assert {folder / "growth.png", folder / "growth.html"} <= set(result.paths)
    paths = sorted(folder.glob("frame-*.png"))
    assert len(paths) == 4
    assert {text(path)["seed"] for path in paths} == {"5"}
    assert np.array_equal(pixels(paths[-1]), pixels(tmp_path / "new" / "000000.png"))
    for name in ("000000.png", "000002.png", "grid.png"):
        assert np.array_equal(pixels(tmp_path / "new" / name), pixels(tmp_path / "plain" / name))
    refused = run("sample", trained.prior, "--out", tmp_path / "none", "--frames", 1)
    assert refused.code == 2
    assert "`--frames` is 1" in refused.err


def test_complete_writes_frames_that_begin_with_what_is_kept(trained, tmp_path, run):
    words = ["--out", tmp_path, "--frames", 5, "--keep", "top=0.5"]
    result = run("complete", trained.prior, trained.images / "dark", *words)
    assert result.code == 0, result.err
    paths = sorted((tmp_path / "frames").glob("frame-*.png"))
    assert len(paths) == 5
    assert text(paths[0])["step"] in ("8", "9")
    assert text(paths[0])["keep"] == "top=0.5"
    assert np.array_equal(pixels(paths[-1]), pixels(result.paths[0]))


@pytest.mark.parametrize("is_link", [False, True])
def test_frames_never_replace_what_is_read(is_link, trained, tmp_path, run, write_images):
    write_images(tmp_path / "frames", count=1)
    image = (tmp_path / "frames" / "0.png").rename(tmp_path / "frames" / "frame-0003.png")
    before, given = image.read_bytes(), image
    if is_link:
        given = tmp_path / "in" / "photo.png"
        given.parent.mkdir()
        given.symlink_to(image)
    refused = run("complete", trained.prior, given, "--out", tmp_path / "frames" / "..", "--frames", 5)
    assert refused.code == 2
    assert "would replace the input" in refused.err
    assert image.read_bytes() == before


def test_an_earlier_frame_can_be_read_by_another_drawing_only(trained, tmp_path, run):
    words = ["--frames", 3, "--out"]
    assert run("sample", trained.prior, "--count", 1, *words, tmp_path).code == 0
    frame = tmp_path / "frames" / "frame-0002.png"
    assert run("complete", trained.prior, frame, *words, tmp_path / "other").code == 0
    refused = run("complete", trained.prior, frame, *words, tmp_path)
    assert "would replace the input" in refused.err
    assert frame.exists()


def test_other_files_beside_the_frames_can_be_read(trained, tmp_path, run, write_images):
    write_images(tmp_path / "frames", count=1)
    image = (tmp_path / "frames" / "0.png").rename(tmp_path / "frames" / "cat.png")
    before = image.read_bytes()
    result = run("complete", trained.prior, image, "--out", tmp_path, "--frames", 3)
    assert result.code == 0, result.err
    assert image.read_bytes() == before


def test_frames_of_others_are_seen_before_anything_is_drawn(trained, tmp_path, run, write_images):
    write_images(tmp_path / "frames", count=1)
    (tmp_path / "frames" / "0.png").rename(tmp_path / "frames" / "frame-0001.png")
    refused = run("sample", trained.prior, "--count", 1, "--out", tmp_path, "--frames", 3)
    assert refused.code == 2
    assert "frame-0001.png` would replace a file that vqgan did not write\nhint: " in refused.err
    assert "loaded" not in refused.err
    mine = (
        (tmp_path / "frames" / "frame-0001.png").rename(tmp_path / "frames" / "frame-0900.png").read_bytes()
    )
    words = ["sample", trained.prior, "--count", 1, "--out", tmp_path, "--frames", 3, "--overwrite"]
    assert run(*words).code == 0
    assert (tmp_path / "frames" / "frame-0900.png").read_bytes() == mine  # nothing takes its place
    assert run("sample", trained.prior, "--count", 1, "--out", tmp_path).code == 0
