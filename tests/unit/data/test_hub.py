"""Data sets of Hugging Face on disk: which columns and splits are used, and what is said when there are none."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import miniatures
from vqgan.config import from_mapping
from vqgan.data import HubConfig, open_source, parse_source
from vqgan.data.loader import evaluation_batches
from vqgan.data.transforms import TransformConfig
from vqgan.errors import ConfigError, DataError

SMALL = TransformConfig(image_size=(6, 7), image_channels=3, crop="center", flip=False)
IMAGES = miniatures.noise(0, 5, 6, 7, 3)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return miniatures.hub(
        tmp_path_factory.mktemp("hub") / "saved", {"train": IMAGES, "validation": IMAGES[:2]}
    )


def table(folder: Path, **columns: list) -> HubConfig:
    """A data set of one split."""
    datasets = pytest.importorskip("datasets")
    kinds = {name: datasets.Image() for name in columns if name.startswith("image")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = datasets.Dataset.from_dict(columns)
        for name, kind in kinds.items():
            made = made.cast_column(name, kind)
        made.save_to_disk(str(folder))
    return HubConfig(path=str(folder))


def test_splits_classes_and_captions_are_those_of_the_data_set(saved: Path) -> None:
    source = open_source(parse_source(f"hf:{saved}"))
    train, held_out = source.part("train"), source.part("heldout")
    assert (len(train), len(held_out)) == (5, 2)
    assert source.class_names == ("ant", "cat", "dog")
    assert [held_out.read(index).class_index for index in (0, 1)] == [2, 1]
    assert [*held_out.captions] == [("validation 0",), ("validation 1",)]
    assert all(np.array_equal(train.read(index).pixels, IMAGES[index]) for index in range(5))
    one = open_source(HubConfig(path=str(saved), split="validation"))
    assert (len(one), one.held_out) == (2, None)
    assert one.fingerprint != source.fingerprint


def test_columns_can_be_named_and_rows_that_lack_something_are_skipped_by_name(tmp_path: Path) -> None:
    png = miniatures.encoded(IMAGES[0])
    (tmp_path / "1.png").write_bytes(png)
    files = [
        {"bytes": png, "path": None},
        {"bytes": None, "path": str(tmp_path / "1.png")},
        None,
        {"bytes": b"no image", "path": "x.png"},
        {"bytes": png, "path": None},
        {"bytes": png, "path": None},
    ]
    kinds, said = ["b", "a", "a", "a", "", "b"], [["one", "two"], [" x "], ["x"], ["x"], ["x"], []]
    config = table(tmp_path / "table", image_a=files, image_b=files, kind=kinds, said=said)
    with pytest.raises(ConfigError, match="has 2 columns of images, and none is called `image`"):
        open_source(config)
    named = {"image": "image_b", "classes": "kind", "captions": "said"}
    source = open_source(from_mapping({"path": config.path, **named}, HubConfig))
    assert source.class_names == ("a", "b")
    (batch,) = evaluation_batches(source, SMALL, 6)
    assert batch.sample.tolist() == [0, 1]
    assert batch.condition["text"] == ["one", "x"]
    assert batch.condition["class"].tolist() == [1, 0]
    assert dict(batch.skipped) == {
        f"{source.name}[2]": "the file is empty",
        f"{source.name}[3]": batch.skipped[1][1],
        f"{source.name}[4]": "it has no class",
        f"{source.name}[5]": "it has no caption",
    }
    assert "not an image in a known format" in batch.skipped[1][1]
    with pytest.raises(ConfigError, match="there is no column `kinds`") as caught:
        open_source(from_mapping({"path": config.path, **named, "classes": "kinds"}, HubConfig))
    assert "did you mean `kind`" in caught.value.hint


def test_a_folder_of_parquet_files_is_read_and_code_beside_it_is_not_run(tmp_path: Path, monkeypatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "parquet").mkdir()
    table(tmp_path / "table", image=[{"bytes": miniatures.encoded(each), "path": None} for each in IMAGES])
    made = datasets.load_from_disk(str(tmp_path / "table"))
    made.to_parquet(str(tmp_path / "parquet" / "train.parquet"))
    source = open_source(HubConfig(path=str(tmp_path / "parquet")))
    assert np.array_equal(source.read(4).pixels, IMAGES[4])
    (tmp_path / "parquet" / "parquet.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(DataError, match="cannot open `hf:"):
        open_source(HubConfig(path=str(tmp_path / "parquet")))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("what", ["split", "folder", "package"])
def test_what_cannot_be_opened_says_why(what: str, saved: Path, tmp_path: Path, monkeypatch) -> None:
    if what == "split":
        with pytest.raises(ConfigError, match="has no split `val`"):
            open_source(HubConfig(path=str(saved), split="val"))
    elif what == "folder":
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match=r"cannot open `hf:.*empty`") as caught:
            open_source(HubConfig(path=str(tmp_path / "empty")))
        assert "save_to_disk" in caught.value.hint
    else:
        monkeypatch.setitem(sys.modules, "datasets", None)
        with pytest.raises(ConfigError, match="`hf:a/b` needs datasets, which is not installed") as caught:
            open_source(parse_source("hf:a/b"))
        assert 'pip install "vqgan[data]"' in caught.value.hint
