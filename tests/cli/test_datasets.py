"""Published data sets from the command line: trained on by name, with the conditions that they bring."""

import json

import pytest
import yaml

import miniatures
from vqgan import load
from vqgan.conditioning import SceneLayout
from vqgan.data import open_source, parse_source
from vqgan.data.conditions import Layouts, with_conditions
from vqgan.data.layouts import LayoutFile


def base(trained, data, out, *flags):
    words = ["train", "prior", trained.prior_file, "--data", data, "--tokenizer", trained.tokenizer]
    return [*words, *flags, "--device", "cpu", "--out", out]


def test_coco_trains_a_tokenizer_of_its_labels_and_a_prior_that_they_steer(trained, tmp_path, run):
    root = miniatures.coco(tmp_path / "coco")
    labels = yaml.safe_load(trained.tokenizer_file.read_text(encoding="utf-8"))
    labels["tokenizer"]["autoencoder"]["image_channels"] = 183
    labels["task"]["pixels"] = "cross_entropy"
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump(labels), encoding="utf-8")
    words = ["train", "tokenizer", tmp_path / "labels.yaml", "--data", f"coco.segmentation:{root}"]
    result = run(*words, "--device", "cpu", "--out", tmp_path / "labels")
    assert result.code == 0, result.err
    assert "3 images, 1 held out" in result.err
    own = ["--condition", "segmentation", "--condition-tokenizer", f"segmentation={tmp_path / 'labels'}"]
    own += ["--set", "task.condition_dropout=0.2"]
    result = run(*base(trained, f"coco:{root}", tmp_path / "run", *own, "--condition", "layout"))
    assert result.code == 0, result.err
    segmentation, layout = load(tmp_path / "run", device="cpu").config.conditioner.conditioners
    assert segmentation.tokenizer.image_channels == 183
    assert (layout.num_classes, layout.max_objects, layout.use_group) == (5, 30, True)
    assert tokens_of_the_data_set(root, layout) == tokens_of_a_file(tmp_path / "boxes.json", layout)
    sample = ["sample", tmp_path / "run", "--count", 1, "--condition", f"layout={tmp_path / 'layout.json'}"]
    (tmp_path / "layout.json").write_text('{"objects": [{"class_number": 2, "box": [0, 0, 1, 1]}]}', "utf-8")
    result = run(*sample, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    # A run goes on wherever the data set has moved to.
    (tmp_path / "coco").rename(tmp_path / "moved")
    words = [
        "train",
        "prior",
        "--resume",
        tmp_path / "run",
        "--data",
        f"coco:{tmp_path / 'moved'}",
        "--steps",
        4,
    ]
    result = run(*words, "--device", "cpu")
    assert result.code == 0, result.err


def tokens_of_the_data_set(root, config):
    """Of the first image of the miniature, as a training reads it."""
    kinds = {"layout": Layouts(config.num_classes, config.max_objects, config.class_ids)}
    dataset = parse_source(f"coco:{root}")
    source = with_conditions(open_source(dataset), {"layout": ""}, kinds, dataset)
    labels = [source.label(number) for number in range(len(source))]
    item = source.read(next(i for i, label in enumerate(labels) if "000000000009" in label))
    return SceneLayout(config).to_tokens(item.condition["layout"])


def tokens_of_a_file(path, config):
    """Of the same boxes in a file, as sampling reads it."""
    ((name, rows),) = miniatures.COCO_BOXES.items()
    boxes = [
        {"image_id": 1, "category_id": category, "bbox": box, "iscrowd": crowd}
        for category, box, crowd in rows
    ]
    whole = {
        "images": [
            {"id": 1, "file_name": f"{name}.jpg", "width": miniatures.SIDE, "height": miniatures.SIDE}
        ],
        "annotations": boxes,
        "categories": [{"id": each} for each in (1, 2, 10, 92, 100)],
    }
    path.write_text(json.dumps(whole), encoding="utf-8")
    file = LayoutFile(str(path), max_objects=config.max_objects, class_ids=config.class_ids)
    return SceneLayout(config).to_tokens(file.read(name))


def test_open_images_train_a_prior_of_layouts(trained, tmp_path, run):
    root = miniatures.openimages(tmp_path / "images")
    result = run(*base(trained, f"openimages:{root}", tmp_path / "run", "--condition", "layout"))
    assert result.code == 0, result.err
    config = load(tmp_path / "run", device="cpu").config.conditioner
    assert (config.num_classes, config.use_group, config.use_additional) == (3, True, True)
    assert config.class_ids == ("/m/011k07", "/m/012074", "/m/02jfl0")


def test_imagenet_gives_the_depth_that_a_run_asks_for_without_being_told_where_it_is(trained, tmp_path, run):
    root = miniatures.imagenet(tmp_path / "imagenet")
    grey = ["--set", "tokenizer.autoencoder.image_channels=1", "--set", "data.stretch=true"]
    words = ["train", "tokenizer", trained.tokenizer_file, "--data", f"imagenet.depth:{root}", *grey]
    result = run(*words, "--device", "cpu", "--out", tmp_path / "depth")
    assert result.code == 0, result.err
    kind = ["conditioner.kind=tokenized_image", "conditioner.image=depth", "conditioner.codebook_size=16"]
    flags = [word for each in kind for word in ("--set", each)]
    flags += ["--condition-tokenizer", f"depth={tmp_path / 'depth'}", "--condition", "class"]
    result = run(*base(trained, f"imagenet:{root}", tmp_path / "run", *flags))
    assert result.code == 0, result.err
    depth, classes = load(tmp_path / "run", device="cpu").config.conditioner.conditioners
    assert depth.tokenizer.image_channels == 1
    assert classes.class_names == ("n01440764 tench", "n01443537 goldfish")


@pytest.mark.parametrize("name", ["ade20k", "faceshq"])
def test_classes_come_with_the_images(trained, tmp_path, run, name):
    root = getattr(miniatures, name)(tmp_path / "images")
    words = ["train", "prior", trained.classes_file, "--data", f"{name}:{root}", "--device", "cpu"]
    result = run(*words, "--tokenizer", trained.tokenizer, "--out", tmp_path / "run")
    assert result.code == 0, result.err
    assert load(tmp_path / "run", device="cpu").config.conditioner.num_classes == 2


@pytest.mark.parametrize(
    ("data", "flags", "code", "message", "hint"),
    [
        ("coco:EMPTY", (), 3, "`coco` lacks its images, expected `", "unpack the archives of the data set"),
        (
            "coco:ROOT",
            ("layout",),
            3,
            "annotations/stuff_val2017.json'",
            "unpack the annotations of the data",
        ),
        (
            "coco:ROOT",
            ("class",),
            3,
            "the images come without a `class`",
            "say where it is: `--condition class=PATH`",
        ),
        ("ROOT/train2017", ("layout",), 3, "the images come without a `layout`", "say where it is"),
        ("coco.depth:ROOT", (), 2, "the data set `coco` has no maps `depth`", "known: `segmentation`"),
        ("cocoo:ROOT", (), 2, "unknown data source `cocoo:", "did you mean `coco`?"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_written(
    trained, tmp_path, run, data, flags, code, message, hint
):
    root = miniatures.coco(tmp_path / "coco")
    (root / "annotations" / "stuff_val2017.json").unlink()
    (tmp_path / "empty").mkdir()
    data = data.replace("ROOT", str(root)).replace("EMPTY", str(tmp_path / "empty"))
    flags = [word for each in flags for word in ("--condition", each)]
    result = run(*base(trained, data, tmp_path / "run", *flags))
    assert (result.code, message in result.err, f"hint: {hint}" in result.err) == (code, True, True), (
        result.err
    )
    assert not (tmp_path / "run").exists()
