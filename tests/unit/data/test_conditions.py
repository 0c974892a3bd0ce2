"""Conditions that lie beside the images: found by path, checked before a training, cut out with each sample."""

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from vqgan.data import FolderConfig, open_source
from vqgan.data.conditions import Classes, Conditioned, Layouts, Maps, with_conditions
from vqgan.data.layouts import LayoutFile
from vqgan.data.loader import evaluation_batches, training_batches
from vqgan.data.transforms import TransformConfig, cut_layout, cut_map, draw_cut
from vqgan.errors import ConfigError, DataError
from vqgan.layout import Layout, SceneObject, mirrored

COUNT, HEIGHT, WIDTH = 6, 12, 16
KINDS = {"segmentation": Maps(5, 5), "depth": Maps(1), "class": Classes(), "layout": Layouts(2, 3)}


@pytest.fixture
def folder(tmp_path):
    """Images whose red channel is 40 times the label of each pixel, with all conditions beside them."""
    draw = np.random.default_rng(0)
    annotations = []
    for name in ("images/a", "maps/a", "depths/a"):
        (tmp_path / name).mkdir(parents=True)
    for number in range(COUNT):
        labels = draw.integers(0, 5, (HEIGHT, WIDTH), np.uint8)
        pixels = np.stack([labels * 40] * 3, axis=2)
        Image.fromarray(pixels).save(tmp_path / "images" / "a" / f"{number}.png")
        Image.fromarray(labels).save(tmp_path / "maps" / "a" / f"{number}.png")
        np.save(tmp_path / "depths" / "a" / f"{number}.npy", labels / 4)
        annotations += [
            {"image_id": number, "category_id": 7 if box[0] else 3, "bbox": box}
            for box in ([0, 0, 4, 6], [8, 6, 8, 6])[: number % 3]
        ]
    rows = [f"a/{number}.png,{'cat' if number % 2 else 'ant'}" for number in range(COUNT)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,class", *rows]), encoding="utf-8")
    images = [
        {"id": number, "file_name": f"a/{number}.jpg", "height": HEIGHT, "width": WIDTH}
        for number in range(COUNT)
    ]
    whole = {"images": images, "annotations": annotations, "categories": [{"id": 7}, {"id": 3}]}
    (tmp_path / "boxes.json").write_text(json.dumps(whole), encoding="utf-8")
    return tmp_path


def paths(folder, *names):
    files = {"segmentation": "maps", "depth": "depths", "class": "labels.csv", "layout": "boxes.json"}
    return {name: str(folder / files[name]) for name in names or files}


def opened(folder, *names):
    source = open_source(FolderConfig(path=str(folder / "images")))
    return with_conditions(source, paths(folder, *names), KINDS)


def test_values_are_found_by_the_path_of_the_image(folder):
    source = opened(folder)
    item = source.read(3)
    assert source.class_names == ("ant", "cat")
    assert item.class_index == 1
    assert np.array_equal(item.condition["segmentation"] * 40, item.pixels[:, :, 0])
    assert np.allclose(item.condition["depth"][:, :, 0], item.condition["segmentation"] / 2 - 1)
    assert source.read(4).condition["layout"] == Layout(
        objects=(SceneObject(class_number=0, box=(0.0, 0.0, 0.25, 0.5)),)
    )
    assert source.read(5).condition["layout"].objects[1].class_number == 1


def test_without_conditions_the_source_stays_what_it_is(folder):
    source = open_source(FolderConfig(path=str(folder / "images")))
    assert with_conditions(source, {}, KINDS) is source


@pytest.mark.parametrize("context", [0, 4])
def test_maps_are_cut_scaled_and_mirrored_with_their_images(folder, context):
    transform = TransformConfig(image_channels=3, image_size=(4, 8), flip=True, resize=None, context=context)
    batches = training_batches(opened(folder), transform, batch_size=24, seed=3)
    batch = next(batches)
    batches.close()
    images = batch.images
    if batch.corner is not None:
        images = torch.stack(
            [
                each[:, y : y + 4, x : x + 8]
                for each, (y, x) in zip(images, batch.corner.tolist(), strict=True)
            ]
        )
    expected = ((images[:, 0] + 1) * 127.5 / 40).round().long()
    assert torch.equal(batch.condition["segmentation"], expected)
    torch.testing.assert_close(batch.condition["depth"][:, 0], expected / 2 - 1)
    assert batch.condition["class"].shape == (24,)
    assert {each.is_flipped for each in batch.condition["layout"]} == {True, False}


def test_images_that_are_maps_keep_their_numbers_beside_a_condition(folder):
    """Pictures of 16 bits and arrays are no grey images of 8."""
    depths = open_source(FolderConfig(path=str(folder / "depths")))
    item = with_conditions(depths, paths(folder, "class"), KINDS).read_map(3)
    np.testing.assert_array_equal(item.pixels, depths.read_map(3).pixels)
    assert item.class_index == 1


def test_enlarged_maps_keep_their_labels(folder):
    transform = TransformConfig(image_channels=3, image_size=(30, 40), resize="cover")
    (batch,) = evaluation_batches(opened(folder), transform, COUNT)
    assert batch.condition["segmentation"].shape == (COUNT, 30, 40)
    assert batch.condition["depth"].shape == (COUNT, 1, 30, 40)
    close = (batch.images[:, 0] + 1) * 127.5 / 40 - batch.condition["segmentation"]
    assert (close.abs() < 0.5).float().mean() > 0.5
    assert batch.condition["segmentation"].dtype == torch.int64


def test_a_map_and_a_layout_that_are_mirrored_twice_are_themselves(folder):
    item = opened(folder).read(5)
    config = TransformConfig(image_channels=3, image_size=(HEIGHT, WIDTH), resize=None, flip=True)
    draws = (draw_cut((HEIGHT, WIDTH), config, np.random.default_rng(seed)) for seed in range(20))
    mirror = next(cut for cut in draws if cut.flip)
    once = cut_map(item.condition["segmentation"], config, mirror).numpy()
    twice = cut_map(once, config, mirror).numpy()
    assert not np.array_equal(once, item.condition["segmentation"])
    assert np.array_equal(twice, item.condition["segmentation"])
    for each in item.condition["layout"].objects:
        assert mirrored(each.box) != each.box
        assert mirrored(mirrored(each.box)) == each.box


def test_the_crop_of_a_layout_is_the_part_that_the_sample_shows():
    layout = Layout(objects=(SceneObject(class_number=0, box=(0.5, 0.0, 0.5, 1.0)),))
    config = TransformConfig(image_channels=3, image_size=(4, 4), resize=None, flip=True)
    for seed in range(8):
        cut = draw_cut((8, 16), config, np.random.default_rng(seed))
        found = cut_layout(layout, config, cut, None)
        values = np.arange(128).reshape(8, 16)
        part = cut_map(values, config, cut).numpy()
        first = part[0, -1 if cut.flip else 0]
        assert found.crop == (first % 16 / 16, first // 16 / 8, 0.25, 0.5)
        assert found.is_flipped == cut.flip


def test_training_shuffles_objects_and_evaluation_keeps_their_order(folder):
    transform = TransformConfig(image_channels=3, image_size=(HEIGHT, WIDTH), resize=None)
    batches = training_batches(opened(folder, "layout"), transform, batch_size=60, seed=0)
    layouts = next(batches).condition["layout"]
    batches.close()
    orders = {tuple(each.class_number for each in layout.objects) for layout in layouts}
    assert {(0, 1), (1, 0)} <= orders
    (batch,) = evaluation_batches(opened(folder, "layout"), transform, COUNT)
    orders = {tuple(each.class_number for each in layout.objects) for layout in batch.condition["layout"]}
    assert orders == {(), (0,), (0, 1)}


def test_of_many_boxes_the_largest_are_taken(folder):
    kinds = {"layout": Layouts(2, 1)}
    source = open_source(FolderConfig(path=str(folder / "images")))
    item = with_conditions(source, paths(folder, "layout"), kinds).read(5)
    assert [each.class_number for each in item.condition["layout"].objects] == [1]


def boxes_of(folder, ids, class_ids=()):
    """The classes of one image that has a box of each of these categories."""
    whole = {
        "images": [{"id": 1, "file_name": "1.jpg", "height": 8, "width": 8}],
        "categories": [{"id": each} for each in ids],
        "annotations": [{"image_id": 1, "category_id": each, "bbox": [0, 0, 4, 4]} for each in ids],
    }
    (folder / "one.json").write_text(json.dumps(whole), encoding="utf-8")
    layouts = LayoutFile(str(folder / "one.json"), class_ids=class_ids)
    return [each.class_number for each in layouts.read("1").objects], layouts.num_classes


def test_categories_are_classes_in_the_order_of_their_ids_or_of_the_given_ones(tmp_path):
    assert boxes_of(tmp_path, [10, 9, 1]) == ([2, 1, 0], 3)
    assert boxes_of(tmp_path, ["/m/01s55n", "/m/09", "/m/01"]) == ([2, 1, 0], 3)  # Open Images' suitcase
    assert boxes_of(tmp_path, [10, 9, 7], class_ids=["1", "10", "7", "8"]) == ([1, 2], 4)
    with pytest.raises(DataError, match="its categories are no classes of the prior: 2, 3"):
        boxes_of(tmp_path, [2, 3], class_ids=["1"])


def test_all_that_does_not_fit_is_counted_and_the_first_five_are_named(folder):
    Image.new("L", (3, 3)).save(folder / "maps" / "a" / "0.png")
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "maps" / "a" / "1.png")
    Image.new("L", (WIDTH, HEIGHT), 9).save(folder / "maps" / "a" / "2.png")
    (folder / "maps" / "a" / "3.png").unlink()
    (folder / "depths" / "a" / "4.npy").unlink()
    (folder / "maps" / "a" / "5.png").write_bytes(b"no picture")
    with pytest.raises(DataError) as caught:
        opened(folder)
    lines = str(caught.value).splitlines()
    image, maps = folder / "images" / "a", folder / "maps" / "a"
    assert lines == [
        "6 of 6 images do not fit their conditions:",
        f"  `{image / '0.png'}` does not fit its `segmentation`: it has 3x3 pixels, the image 12x16",
        f"  `{image / '1.png'}` does not fit its `segmentation`: cannot read `{maps / '1.png'}`: it is a picture in RGB, "
        "expected labels: one number for each pixel",
        f"  `{image / '2.png'}` does not fit its `segmentation`: cannot read `{maps / '2.png'}`: it has the label 9, "
        "expected 0 to 4",
        f"  `{image / '3.png'}` has no `segmentation`",
        f"  `{image / '4.png'}` has no `depth`",
        "  and 1 more",
        "hint: a condition has the path of its image, with any ending, and its height and width",
    ]


def change(folder, **changes):
    whole = json.loads((folder / "boxes.json").read_text(encoding="utf-8"))
    for name, value in changes.items():
        if value is None:
            del whole[name]
        else:
            whole[name] = value
    (folder / "boxes.json").write_text(json.dumps(whole), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": None}, "the layouts `.*boxes.json` cannot be used: there is no 'annotations'"),
        ({"annotations": [{"image_id": 0, "category_id": 3}]}, "there is no 'bbox'"),
        (
            {"annotations": [{"image_id": 0, "category_id": 4, "bbox": [0, 0, 1, 1]}]},
            "`category_id` 4, which does not exist",
        ),
        (
            {"annotations": [{"image_id": 9, "category_id": 3, "bbox": [0, 0, 1, 1]}]},
            "`image_id` 9, which does not exist",
        ),
        ({"categories": [{"id": 3}]}, "`category_id` 7, which does not exist"),
        ({"categories": [{"id": 3}, {"id": 7}, {"id": 8}]}, "has 3 categories, the condition 2 classes"),
        (
            {"images": [{"id": i, "file_name": f"a/{i}.png", "height": 9, "width": 9} for i in range(COUNT)]},
            "it is for 9x9 pixels, the image has 12x16",
        ),
    ],
)
def test_layouts_that_do_not_fit_are_refused(folder, changes, message):
    change(folder, **changes)
    with pytest.raises(DataError, match=message):
        opened(folder, "layout")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a/0.png", "line 1 of `.*labels.csv` has 1 values, expected a file and a class"),
        ("a/0.png,cat\na/0.jpg,dog", "line 2 of `.*labels.csv` gives `a/0.jpg` a second class"),
        ("a/0.png,cat", "5 of 6 images do not fit their conditions:\n.*1.png` has no `class`"),
        ("file,class\n\n", "`.*labels.csv` has no classes\nhint: write "),
        ("class,file\ncat,a/0.png\ncat,a/1.png", "a second class\nhint: .* the file stands first"),
    ],
)
def test_tables_that_do_not_fit_are_refused(folder, text, message):
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        opened(folder, "class")


def test_a_header_in_other_words_is_no_class(folder):
    text = (folder / "labels.csv").read_text(encoding="utf-8").removeprefix("file,class\n")
    (folder / "labels.csv").write_text(f"path,label\n{text}", encoding="utf-8")
    assert opened(folder, "class").class_names == ("ant", "cat")


def test_a_json_file_without_an_object_and_a_file_in_place_of_maps_are_refused(folder):
    source = open_source(FolderConfig(path=str(folder / "images")))
    (folder / "boxes.json").write_text("[1]", encoding="utf-8")
    for name, file, message in (
        ("layout", "boxes.json", r"cannot read the file `.*boxes.json`: it holds no object, `{...}`"),
        (
            "segmentation",
            "labels.csv",
            r"`.*labels.csv` is a file, expected a folder with a map for each image",
        ),
    ):
        with pytest.raises(DataError, match=message):
            with_conditions(source, {name: str(folder / file)}, KINDS)


@pytest.mark.parametrize("name", ["segmentation", "class", "layout"])
def test_files_that_do_not_exist_are_named(folder, name):
    source = open_source(FolderConfig(path=str(folder / "images")))
    with pytest.raises(DataError, match="missing"):
        with_conditions(source, {name: str(folder / "missing")}, KINDS)


def test_a_condition_that_takes_no_files_is_refused(folder):
    source = open_source(FolderConfig(path=str(folder / "images")))
    with pytest.raises(
        ConfigError, match="the condition `edges` takes no files\nhint: conditions that do: `depth`"
    ):
        with_conditions(source, {"edges": str(folder)}, {"depth": Maps(1)})


def test_other_values_are_other_data(folder):
    before = opened(folder).fingerprint
    assert opened(folder).fingerprint == before
    assert opened(folder, "class", "layout").fingerprint != before
    change(folder, annotations=[])
    assert opened(folder).fingerprint != before


def test_a_part_and_a_copy_in_another_process_keep_the_conditions(folder):
    source = pickle.loads(pickle.dumps(opened(folder)))
    assert isinstance(source, Conditioned)
    part = source.part("train")
    assert part.class_names == ("ant", "cat")
    assert set(part.read(0).condition) == {"segmentation", "depth", "layout"}


@pytest.mark.parametrize(
    ("name", "channels", "named", "labels"),
    [
        ("segmentation", 3, 0, 3),
        ("depth", 1, 0, 0),
        ("parts", 5, 0, 5),
        ("image", 3, 0, 0),
        ("parts", 4, 4, 4),
    ],
)
def test_what_is_a_map_of_labels_follows_from_name_and_tokenizer(name, channels, named, labels):
    found = Maps.of(name, channels, [str(number) for number in range(named)])
    assert found == Maps(channels, labels, stretch=name == "depth")
