"""Captions beside images, in every form: found by path, checked, one drawn for each sample."""

import json

import numpy as np
import pytest
from PIL import Image

import tiny
from vqgan.data import FolderConfig, open_source, source_of
from vqgan.data.captions import Captions
from vqgan.data.conditions import Texts, with_conditions
from vqgan.data.loader import evaluation_batches, training_batches
from vqgan.data.transforms import TransformConfig
from vqgan.errors import DataError
from vqgan.training.cached_codes import CachedCodes
from vqgan.training.run import DataConfig, open_sources

COUNT = 8
CAPTIONS = {
    f"a/{number}": (f"number {number}", f"{number}, again")[: 1 + (number != 3)] for number in range(COUNT)
}
PAIRS = [(key, text) for key, texts in CAPTIONS.items() for text in texts]
TRANSFORM = TransformConfig(image_channels=3, image_size=(4, 4), flip=True)


def table(path, head="file,text\n"):
    path.write_text(head + "".join(f'{key}.png,"{text}"\n' for key, text in PAIRS), encoding="utf-8")


def lines(path):
    rows = [
        {"file_name": f"{key}.jpg", "text": texts if len(texts) > 1 else texts[0]}
        for key, texts in CAPTIONS.items()
    ]
    path.write_text("\n".join([*map(json.dumps, rows), ""]), encoding="utf-8-sig")


def coco(path):
    images = [{"id": 10 + number, "file_name": f"{key}.png"} for number, key in enumerate(CAPTIONS)]
    numbers = {key: 10 + number for number, key in enumerate(CAPTIONS)}
    said = [{"image_id": numbers[key], "caption": text} for key, text in PAIRS]
    path.write_text(json.dumps({"images": images, "annotations": said}), encoding="utf-8")


def beside(path):
    for key, texts in CAPTIONS.items():
        (path / key).parent.mkdir(parents=True, exist_ok=True)
        (path / f"{key}.txt").write_text("\n\n".join(texts), encoding="utf-8")


FORMS = {
    "captions.csv": table,
    "plain.csv": lambda path: table(path, ""),
    "captions.jsonl": lines,
    "captions.json": coco,
    "photos": beside,
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Images whose brightness is 20 times their number."""
    root = tmp_path_factory.mktemp("captioned")
    (root / "photos" / "a").mkdir(parents=True)
    for number in range(COUNT):
        Image.new("RGB", (6, 5), (20 * number,) * 3).save(root / "photos" / "a" / f"{number}.png")
    for name, write in FORMS.items():
        write(root / name)
    return root


def opened(photos, name="captions.csv"):
    source = open_source(FolderConfig(path=str(photos / "photos")))
    return with_conditions(source, {"text": str(photos / name)}, {"text": Texts()})


def first(batches):
    batch = next(batches)
    batches.close()
    return batch


@pytest.mark.parametrize("name", FORMS)
def test_every_form_tells_the_same(photos, name):
    source = opened(photos, name)
    assert source.captions == [*CAPTIONS.values()]
    assert Captions(str(photos / name)).fingerprint == Captions(str(photos / "captions.csv")).fingerprint
    kept = source.part("train")
    numbers = [kept.read(index).pixels[0, 0, 0] // 20 for index in range(len(kept))]
    assert kept.captions == [CAPTIONS[f"a/{number}"] for number in numbers]


def test_each_sample_has_a_caption_of_its_image_drawn_anew_in_each_epoch(photos):
    source, drawn = opened(photos), {}
    many = first(training_batches(source, TRANSFORM, batch_size=COUNT * 8, seed=3))
    for image, text in zip(many.images, many.condition["text"], strict=True):
        number = round((float(image[0, 0, 0]) + 1) * 127.5 / 20)
        assert text in CAPTIONS[f"a/{number}"]
        drawn.setdefault(number, set()).add(text)
    assert sum(map(len, drawn.values())) == len(PAIRS)
    later = first(training_batches(source, TRANSFORM, batch_size=COUNT, seed=3, start=COUNT * 5, workers=1))
    assert later.condition["text"] == many.condition["text"][COUNT * 5 : COUNT * 6]
    other = first(training_batches(source, TRANSFORM, batch_size=COUNT * 8, seed=4))
    assert other.condition["text"] != many.condition["text"]


def test_evaluation_takes_the_first_caption(photos):
    (batch,) = evaluation_batches(opened(photos), TRANSFORM, COUNT)
    assert batch.condition["text"] == [texts[0] for texts in CAPTIONS.values()]


def test_cached_codes_come_with_captions_too(photos):
    data = DataConfig(image_size=(4, 4), resize=None, cached_codes=2, conditions={"text": "captions.csv"})
    codes = CachedCodes(opened(photos), tiny.tokenizer(channels=3, patch_size=2).eval(), data=data, seed=0)
    codes.encode()
    batch, again = (first(codes.batches(batch_size=40)) for _ in range(2))
    assert batch.condition["text"] == again.condition["text"]
    assert {*batch.condition["text"]} == {text for _, text in PAIRS}


def test_images_in_python_bring_their_captions():
    pictures = [np.full((5, 6, 3), 20 * number, np.uint8) for number in range(COUNT)]
    one = source_of([(each, f"number {number}") for number, each in enumerate(pictures)])
    assert one.captions[7] == ("number 7",)
    assert one.class_names == ()
    several = source_of([(each, ["a", "b"]) for each in pictures])
    assert several.captions == [("a", "b")] * COUNT
    assert several.fingerprint != one.fingerprint
    assert with_conditions(several, {"text": ""}, {"text": Texts()}) is several
    assert set(first(training_batches(several, TRANSFORM, batch_size=20, seed=0)).condition["text"]) == {
        "a",
        "b",
    }
    with pytest.raises(DataError, match=r"cannot read `the list\[0\]`: ValueError: a caption is empty"):
        source_of([(each, " ") for each in pictures])
    mixed = source_of([(each, "said" if number else 3) for number, each in enumerate(reversed(pictures))])
    with pytest.raises(DataError, match=r"its class is \('said',\), expected 0 to 3"):
        mixed.read(1)
    mixed = source_of([(pictures[0], "said"), pictures[1]])
    with pytest.raises(DataError, match="it has no caption, and the first image has one"):
        mixed.read(1)


def test_images_without_captions_are_refused_before_training():
    data, kinds = DataConfig(image_size=(4, 4)), {"text": Texts()}
    plain, said = (
        source_of([each] * COUNT) for each in (np.zeros((5, 6), np.uint8), (np.zeros((5, 6)), "black"))
    )
    open_sources(data, (said, said), kinds=kinds)
    for given in ((plain, said), (said, plain)):
        with pytest.raises(
            DataError, match=r"the condition is a `text`, but .*\nhint: give `--condition text=PATH`"
        ):
            open_sources(data, given, kinds=kinds)


def test_missing_captions_are_counted_and_five_named(photos, tmp_path):
    (tmp_path / "one.csv").write_text("file,caption\na/0.png,a cat\na/1.png, \na/0.png,", encoding="utf-8")
    assert {**Captions(str(tmp_path / "one.csv"))._found} == {"a/0": ("a cat",)}
    with pytest.raises(DataError) as caught:
        opened(photos, tmp_path / "one.csv")
    said = str(caught.value).splitlines()
    assert said[0] == "7 of 8 images do not fit their conditions:"
    assert said[1].endswith("a/1.png` has no `text`".replace("/", said[1][said[1].index("1.png") - 1]))
    assert said[6] == "  and 2 more"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "0.png,one, two", "line 1 has 3 values; one with a comma needs quotes"),
        ("x.csv", b"0.png,caf\xe9", "cannot read the captions `.*x.csv`: it is not a text file in UTF-8"),
        ("x.jsonl", "[1]", "what should be an object with a file and a text is something else"),
        ("x.jsonl", '{"file": "0.png", "text": 5}', "with a file and a text is something else"),
        ("x.jsonl", '{"file": "0.png"}', "cannot read the captions `.*x.jsonl`: there is no 'text'"),
        ("x.jsonl", "3", "cannot read the captions `.*x.jsonl`: "),
        ("x.jsonl", "{", "cannot read the captions `.*x.jsonl`: "),
        ("x.json", '{"images": [], "annotations": [{"image_id": 1, "caption": "a"}]}', "there is no 1"),
        ("x/0.txt", b"caf\xe9", "cannot read the captions `.*0.txt`: it is not a text file in UTF-8"),
        ("y/0.md", "a cat", "no such file"),
        ("~no one/x.csv", "", "cannot read the captions `~no one"),
    ],
)  # fmt: skip
def test_what_is_no_caption_is_named(tmp_path, name, text, message):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=f"(?s){message}"):
        Captions(name if "~" in name else str(tmp_path / name.partition("/")[0].replace("y", "missing")))
