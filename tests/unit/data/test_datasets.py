"""Published data sets by name: what is read from the folders that their archives unpack to."""

import numpy as np
import pytest
from PIL import Image

import miniatures
from vqgan.data import DatasetConfig, open_source, parse_source
from vqgan.data.conditions import Classes, Layouts, Maps, open_layouts, with_conditions
from vqgan.errors import ConfigError, DataError
from vqgan.layout import SceneObject

STUFF, SCENES, DEPTH = Maps.of("segmentation", 183), Maps.of("segmentation", 151), Maps.of("depth", 1)


def opened(text, **kinds):
    """The source, with these conditions."""
    config = parse_source(text)
    return with_conditions(open_source(config), dict.fromkeys(kinds, ""), kinds, config)


def by_label(source, split="all"):
    part = source.part(split)
    return {part.label(number).rpartition("/")[2]: part.read(number) for number in range(len(part))}


def stored(path):
    return np.asarray(Image.open(path)).astype(int)


@pytest.mark.parametrize(
    ("name", "train", "held_out"),
    [("coco", 3, 1), ("ade20k", 4, 2), ("imagenet", 4, 2), ("faceshq", 4, 2), ("openimages", 2, 1)],
)
def test_each_holds_out_what_its_authors_do(tmp_path, name, train, held_out):
    source = open_source(parse_source(f"{name}:{getattr(miniatures, name)(tmp_path)}"))
    assert (len(source.part("train")), len(source.part("heldout"))) == (train, held_out)
    assert not set(by_label(source, "train")) & set(by_label(source, "heldout"))


def test_the_labels_of_coco_are_shifted_so_that_unlabelled_is_zero(tmp_path):
    source = opened(f"coco:{miniatures.coco(tmp_path)}", segmentation=STUFF)
    for part, names in miniatures.COCO.items():
        for name in names:
            labels = by_label(source)[f"{name}.jpg"].condition["segmentation"]
            assert labels[0, :3].tolist() == [0, 1, 182]
            assert np.array_equal(labels, (stored(tmp_path / f"stuffthingmaps/{part}/{name}.png") + 1) % 256)


@pytest.mark.parametrize("place", ["annotations", "../cocostuffthings", "cocostuffthings"])
def test_the_label_maps_of_coco_may_lie_where_others_unpack_them(tmp_path, place):
    root = miniatures.coco(tmp_path / "coco")
    target = root / place
    target.mkdir(exist_ok=True)
    for part in ("train2017", "val2017"):
        (root / "stuffthingmaps" / part).rename(target / part)
        if place == "annotations":
            (root / "images").mkdir(exist_ok=True)
            (root / part).rename(root / "images" / part)
    source = opened(f"coco:{root}", segmentation=STUFF)
    assert by_label(source, "heldout")["000000000139.jpg"].condition["segmentation"][0, 0] == 0


def test_the_labels_of_ade20k_and_sflckr_stay_what_they_are(tmp_path):
    source = opened(f"ade20k:{miniatures.ade20k(tmp_path)}", segmentation=SCENES)
    labels = by_label(source, "heldout")["ADE_val_00000002.jpg"].condition["segmentation"]
    assert np.array_equal(labels, stored(tmp_path / "annotations/validation/ADE_val_00000002.png"))
    assert labels[0, :2].tolist() == [0, 150]
    own = opened(f"sflckr:{miniatures.sflckr(tmp_path)}", segmentation=Maps.of("segmentation", 182))
    labels = by_label(own)["3_b.jpg"].condition["segmentation"]
    assert np.array_equal(labels, stored(tmp_path / "sflckr_segmentations/black_forest/3_b.png"))
    assert labels[0, 1] == 181
    assert own.class_names == ()
    assert own.part("heldout").label(0)


def test_the_classes_of_ade20k_are_its_scenes(tmp_path):
    source = opened(f"ade20k:{miniatures.ade20k(tmp_path)}", **{"class": Classes()})
    assert source.class_names == ("airport_terminal", "bedroom")
    assert by_label(source)["ADE_val_00000002.jpg"].class_index == 0
    assert by_label(source)["ADE_train_00000003.jpg"].class_index == 1
    (tmp_path / "sceneCategories.txt").unlink()
    assert open_source(parse_source(f"ade20k:{tmp_path}")).class_names == ()
    with pytest.raises(DataError, match=r"without a `class`: there is no `sceneCategories.txt`"):
        opened(f"ade20k:{tmp_path}", **{"class": Classes()})


def test_the_classes_of_imagenet_are_its_synsets_in_their_order_with_a_word(tmp_path):
    root = miniatures.imagenet(tmp_path)
    source = open_source(parse_source(f"imagenet:{root}"))
    assert source.class_names == ("n01440764 tench", "n01443537 goldfish")
    items = by_label(source)
    assert items["ILSVRC2012_val_00000001.JPEG"].class_index == 1
    assert items["ILSVRC2012_val_00000002.JPEG"].class_index == 0
    assert items["n01443537_7.JPEG"].class_index == 1
    (root / "LOC_synset_mapping.txt").unlink()
    (root / "LOC_val_solution.csv").unlink()
    rows = "ILSVRC2012_val_00000001.JPEG n01443537\nILSVRC2012_val_00000002.JPEG n01440764\n"
    (root / "validation_synset.txt").write_text(rows, encoding="utf-8")
    assert open_source(parse_source(f"imagenet:{root}")).class_names == ("n01440764", "n01443537")
    (root / "validation_synset.txt").unlink()
    assert open_source(parse_source(f"imagenet:{root}")).class_names == ()
    for number, synset in ((1, "n01443537"), (2, "n01440764")):
        name = f"ILSVRC2012_val_0000000{number}.JPEG"
        (root / "val" / synset).mkdir()
        (root / "val" / name).rename(root / "val" / synset / name)
    assert by_label(open_source(parse_source(f"imagenet:{root}")))[name].class_index == 0


def test_the_depth_of_imagenet_is_unpacked_and_stretched(tmp_path):
    root = miniatures.imagenet(tmp_path)
    source = opened(f"imagenet:{root}", depth=DEPTH)
    found = by_label(source, "heldout")["ILSVRC2012_val_00000001.JPEG"].condition["depth"]
    depth = np.random.default_rng(4).uniform(6, 5000, found.shape[:2]).astype(np.float32).astype(float)
    expected = 2 * (depth - depth.min()) / (depth.max() - depth.min()) - 1
    assert np.allclose(found[:, :, 0], expected, atol=1e-6)
    np.save(root / "depth/val/ILSVRC2012_val_00000001.npy", depth)
    (root / "depth/val/ILSVRC2012_val_00000001.png").unlink()
    again = by_label(opened(f"imagenet:{root}", depth=DEPTH))["ILSVRC2012_val_00000001.JPEG"]
    assert np.allclose(again.condition["depth"], found, atol=1e-6)


def test_faces_are_of_two_classes_and_arrays_are_read_as_they_were_published(tmp_path):
    source = open_source(parse_source(f"faceshq:{miniatures.faceshq(tmp_path)}"))
    assert source.class_names == ("celebahq", "ffhq")
    items = by_label(source)
    assert np.array_equal(
        items["imgHQ00001.npy"].pixels, np.load(tmp_path / "celebahq/imgHQ00001.npy")[0].transpose(1, 2, 0)
    )
    assert items["imgHQ00001.npy"].class_index == 0
    assert items["00001.png"].class_index == 1
    assert set(by_label(source, "heldout")) == {"imgHQ00002.npy", "00000.png"}
    assert source.size(0) == (miniatures.SIDE, miniatures.SIDE)
    assert source.check(0, 3) == 1


def test_without_its_lists_a_share_of_the_faces_is_held_out(tmp_path):
    source = open_source(parse_source(f"faceshq:{miniatures.faceshq(tmp_path, with_lists=False)}"))
    assert source.held_out is None
    (tmp_path / "ffhqvalidation.txt").write_text("00000.png", encoding="utf-8")
    with pytest.raises(DataError, match=r"cannot read list `.*celebahqvalidation.txt`: no such file"):
        open_source(parse_source(f"faceshq:{tmp_path}"))


def test_the_boxes_of_coco_are_things_and_stuff_numbered_as_the_original_numbers_them(tmp_path):
    # 1, 10, 100, 2, 92: sorted as words, without `other`.
    source = opened(f"coco:{miniatures.coco(tmp_path)}", layout=Layouts(5, 30))
    items = by_label(source)
    assert items["000000000009.jpg"].condition["layout"].objects == (
        SceneObject(class_number=0, box=(0.0, 0.0, 0.5, 0.5)),
        SceneObject(class_number=1, box=(0.5, 0.25, 0.5, 0.75), is_group=True),
        SceneObject(class_number=2, box=(0.0, 0.5, 1.0, 0.5)),
    )
    # A box without area and one of `other` are left out; an image without boxes has an empty layout.
    assert [each.class_number for each in items["000000000025.jpg"].condition["layout"].objects] == [3]
    assert items["000000000030.jpg"].condition["layout"].objects == ()
    few = opened(f"coco:{tmp_path}", layout=Layouts(5, 2))
    objects = by_label(few)["000000000009.jpg"].condition["layout"].objects
    assert [each.class_number for each in objects] == [1, 2]
    assert few.fingerprint != source.fingerprint


def test_the_boxes_of_open_images_have_flags_and_the_classes_that_are_described(tmp_path):
    source = opened(f"openimages:{miniatures.openimages(tmp_path)}", layout=Layouts(3, 30))
    items = by_label(source)
    assert items["000002b66c9c498e.jpg"].condition["layout"].objects == (
        SceneObject(class_number=2, box=(0.25, 0.5, 0.5, 0.5), is_occluded=True, is_inside=True),
        SceneObject(class_number=0, box=(0.0, 0.0, 0.5, 0.25)),
    )
    assert items["000002b97e5471a0.jpg"].condition["layout"].objects == ()
    assert by_label(source, "heldout")["0001eeaf4aed83f9.jpg"].condition["layout"].objects == (
        SceneObject(class_number=1, box=(0.0, 0.0, 1.0, 1.0), is_group=True, is_depiction=True),
    )


def test_the_suitcase_of_open_images_is_the_last_class(tmp_path):
    root = miniatures.openimages(tmp_path)
    text = (root / "class-descriptions-boxable.csv").read_text(encoding="utf-8")
    text = f"/m/01s55n,Suitcase\n{text}"
    (root / "class-descriptions-boxable.csv").write_text(text, encoding="utf-8")
    layouts = open_layouts("", parse_source(f"openimages:{root}"), Layouts(4, 30))
    assert layouts.class_ids == ("/m/011k07", "/m/012074", "/m/02jfl0", "/m/01s55n")
    assert [each.class_number for each in layouts.read("train/000002b66c9c498e").objects] == [2, 0]


def test_maps_are_read_in_place_of_the_images_with_their_shift(tmp_path):
    root = miniatures.coco(tmp_path)
    source = open_source(parse_source(f"coco.segmentation:{root}"))
    assert source.read_map(0, 183).pixels[0, :3, 0].tolist() == [0, 1, 182]
    assert (len(source.part("train")), len(source.part("heldout"))) == (3, 1)
    assert source.part("train").read_map(0, 183).pixels[0, 2, 0] == 182
    with pytest.raises(DataError, match="it has the label 182, expected 0 to 181"):
        source.read_map(0, 182)


def test_a_source_is_named_by_the_data_set():
    assert parse_source("coco:data") == DatasetConfig(name="coco", path="data")
    assert parse_source("imagenet.depth:data") == DatasetConfig(name="imagenet", path="data", maps="depth")
    for text, message in (
        (
            "imagenet.segmentation:data",
            "the data set `imagenet` has no maps `segmentation`\nhint: known: `depth`",
        ),
        ("ade20:data", "unknown data source `ade20:data`\nhint: did you mean `ade20k`?"),
    ):
        with pytest.raises(ConfigError) as error:
            parse_source(text)
        assert str(error.value).startswith(message)
    with pytest.raises(ConfigError, match="unknown data set `cocoa`\nhint: did you mean `coco`"):
        DatasetConfig(name="cocoa", path="data")


@pytest.mark.parametrize("name", ["ade20k", "coco", "faceshq", "imagenet", "openimages", "sflckr"])
def test_a_folder_that_holds_something_else_is_refused(tmp_path, name):
    with pytest.raises(DataError) as error:
        open_source(parse_source(f"{name}:{tmp_path}"))
    assert f"`{name}` lacks its images, expected `{tmp_path}/" in error.value.message
    assert error.value.hint == "unpack the archives of the data set there, or link its folders"


def test_missing_parts_are_named(tmp_path):
    root = miniatures.coco(tmp_path)
    (root / "stuffthingmaps" / "val2017").rename(root / "elsewhere")
    with pytest.raises(DataError) as error:
        opened(f"coco:{root}", segmentation=STUFF)
    assert error.value.message.startswith("`coco` lacks its segmentation")
    assert (
        f"expected `{root}/stuffthingmaps/train2017` and `{root}/stuffthingmaps/val2017` or"
        in error.value.message
    )
    (root / "annotations" / "stuff_val2017.json").unlink()
    with pytest.raises(DataError, match=r"cannot be used: there is no '.*stuff_val2017.json'") as error:
        opened(f"coco:{root}", layout=Layouts(5, 30))
    assert error.value.hint == "unpack the annotations of the data set there"
    with pytest.raises(
        DataError, match=r"the images come without a `depth`\nhint: .*`--condition depth=PATH`"
    ):
        opened(f"coco:{root}", depth=DEPTH)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"categories": 3}', "cannot be used"),
        ('{"categories": [], "images": [], "annotations": [{"image_id": 1}]}', "there is no "),
        ("nonsense", "cannot be used: Expecting value"),
    ],
)
def test_damaged_boxes_of_coco_are_refused(tmp_path, text, message):
    root = miniatures.coco(tmp_path)
    (root / "annotations" / "stuff_train2017.json").write_text(text, encoding="utf-8")
    (root / "annotations" / "stuff_val2017.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        opened(f"coco:{root}", layout=Layouts(5, 30))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be used"),
        ("ImageID,LabelName\n", "'XMin' is not in"),
        (
            "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
            "a,b,/m/011k07,1,left,1,0,1,0,0,0,0,0\n",
            "could not convert string to float: 'left'",
        ),
    ],
)
def test_damaged_boxes_of_open_images_are_refused(tmp_path, text, message):
    root = miniatures.openimages(tmp_path)
    (root / "oidv6-train-annotations-bbox.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message) as error:
        opened(f"openimages:{root}", layout=Layouts(3, 30))
    assert "annotations" in error.value.hint
    (root / "oidv6-train-annotations-bbox.csv").unlink()
    with pytest.raises(DataError, match=r"there is no '.*/train-annotations-bbox.csv'"):
        opened(f"openimages:{root}", layout=Layouts(3, 30))


def test_layouts_of_other_classes_are_refused(tmp_path):
    with pytest.raises(DataError, match="`layout` has 5 categories, the condition 4 classes"):
        opened(f"coco:{miniatures.coco(tmp_path)}", layout=Layouts(4, 30))


def test_the_published_maps_of_coco_in_a_folder_are_refused_with_the_reason(tmp_path):
    root = miniatures.coco(tmp_path)
    source = open_source(parse_source(str(root / "train2017")))
    paths = {"segmentation": str(root / "stuffthingmaps" / "train2017")}
    with pytest.raises(
        DataError, match=r"the label 255, expected 0 to 182 \(COCO-Stuff's own maps count from 0"
    ):
        with_conditions(source, paths, {"segmentation": STUFF})


def test_a_map_that_is_missing_is_named_before_a_training(tmp_path):
    root = miniatures.coco(tmp_path)
    (root / "stuffthingmaps" / "train2017" / "000000000025.png").unlink()
    with pytest.raises(
        DataError, match=r"1 of 4 images do not fit.*\n.*000000000025.jpg` has no `segmentation`"
    ):
        opened(f"coco:{root}", segmentation=STUFF)
