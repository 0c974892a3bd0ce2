"""Miniatures of published data sets, in the folders and under the names that their archives unpack to."""

import csv
import io
import json
import tarfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIDE = 16


def noise(seed: int, *shape: int, high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, shape, np.uint8)


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path, format="PNG" if path.suffix == ".png" else "JPEG")


def images(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        save(folder / name, noise(number, SIDE, SIDE, 3))


def encoded(values: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind)
    return buffer.getvalue()


def shard(path: Path, samples: Mapping[str, Mapping[str, bytes]]) -> Path:
    """A tar file of samples: key to ending to contents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, files in samples.items():
            for ending, data in files.items():
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


def hub(folder: Path, splits: Mapping[str, np.ndarray]) -> Path:
    """A data set of Hugging Face on disk: images, three classes in an order of their own, captions."""
    datasets = pytest.importorskip("datasets")
    kinds = {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=["dog", "cat", "ant"]),
        "text": datasets.Value("string"),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dill cannot name a class of pyarrow's
        parts = {
            name: datasets.Dataset.from_dict(
                {
                    "image": [{"bytes": encoded(each), "path": None} for each in images],
                    "label": [number % 3 for number in range(len(images))],
                    "text": [f"{name} {number}" for number in range(len(images))],
                },
                datasets.Features(kinds),
            )
            for name, images in splits.items()
        }
        datasets.DatasetDict(parts).save_to_disk(str(folder))
    return folder


COCO = {"train2017": ["000000000009", "000000000025", "000000000030"], "val2017": ["000000000139"]}
COCO_BOXES = {
    "train2017/000000000009": [(1, (0, 0, 8, 8), 0), (10, (8, 4, 8, 12), 1), (100, (0, 8, 16, 8), 0)]
}
"""Category, left, top, width, height in pixels, and whether it is a crowd."""


def coco(root: Path) -> Path:
    """Three images, and one held out; things 1, 2, 10, stuff 92, 100 and 183, which is `other`."""
    numbers = {f"{part}/{name}": int(name) for part, names in COCO.items() for name in names}
    for key, number in numbers.items():
        save(root / f"{key}.jpg", noise(number, SIDE, SIDE, 3))
        labels = noise(number, SIDE, SIDE, high=182)
        labels[0, :3] = (255, 0, 181)
        save(root / "stuffthingmaps" / f"{key}.png", labels)
    boxes = {
        **COCO_BOXES,
        "train2017/000000000025": [(2, (1, 1, 2, 2), 0), (183, (0, 0, 16, 16), 0), (2, (4, 4, 0, 5), 0)],
    }
    for part in COCO:
        for kind, categories in (("instances", (1, 2, 10)), ("stuff", (92, 100, 183))):
            rows = [(numbers[key], *row) for key, own in boxes.items() if key.startswith(part) for row in own]
            whole = {
                "images": [
                    {"id": number, "file_name": f"{key.partition('/')[2]}.jpg", "width": SIDE, "height": SIDE}
                    for key, number in numbers.items()
                    if key.startswith(part)
                ],
                "annotations": [
                    {"image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd}
                    for image, category, box, crowd in rows
                    if category in categories
                ],
                "categories": [
                    {"id": each, "name": "other" if each == 183 else f"c{each}"} for each in categories
                ],
            }
            path = root / "annotations" / f"{kind}_{part}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(whole), encoding="utf-8")
    return root


def ade20k(root: Path) -> Path:
    """Four images and two held out, of two scenes."""
    lines = []
    for part, short, count in (("training", "train", 4), ("validation", "val", 2)):
        for number in range(1, count + 1):
            name = f"ADE_{short}_{number:08}"
            save(root / "images" / part / f"{name}.jpg", noise(number, SIDE, SIDE, 3))
            labels = noise(number, SIDE, SIDE, high=151)
            labels[0, :2] = (0, 150)
            save(root / "annotations" / part / f"{name}.png", labels)
            lines.append(f"{name} {('airport_terminal', 'bedroom')[number % 2]}")
    (root / "sceneCategories.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
    return root


def imagenet(root: Path) -> Path:
    """Two classes with two images each; the held-out ones lie in one folder, a table has their classes."""
    names = [f"train/{synset}/{synset}_{n}.JPEG" for synset in ("n01443537", "n01440764") for n in (7, 26)]
    names += [f"val/ILSVRC2012_val_0000000{n}.JPEG" for n in (1, 2)]
    images(root, names)
    for number, name in enumerate(names):
        depth = np.random.default_rng(number).uniform(6, 5000, (SIDE, SIDE)).astype("<f4")
        save((root / "depth" / name).with_suffix(".png"), depth.view(np.uint8).reshape(SIDE, SIDE, 4))
    table = "ImageId,PredictionString\nILSVRC2012_val_00000001,n01443537 85 1 499 272 \nILSVRC2012_val_00000002,n01440764 1 2 3 4 \n"
    (root / "LOC_val_solution.csv").write_text(table, encoding="utf-8")
    words = "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\nn02012849 crane\n"
    (root / "LOC_synset_mapping.txt").write_text(words, encoding="utf-8")
    return root


def faceshq(root: Path, *, with_lists: bool = True) -> Path:
    """Three faces of each; CelebA-HQ's are arrays (1 3 H W)."""
    for number in range(3):
        save(root / "celebahq" / f"imgHQ0000{number}.npy", noise(number, 1, 3, SIDE, SIDE))
        save(root / "ffhq" / "00000" / f"0000{number}.png", noise(10 + number, SIDE, SIDE, 3))
    if with_lists:
        for name, held_out in (("celebahq", "imgHQ00002.npy"), ("ffhq", "00000.png")):
            (root / f"{name}validation.txt").write_text(f"{held_out}\n", encoding="utf-8")
    return root


def sflckr(root: Path) -> Path:
    """Images of two tags, with the labels of a network."""
    for number in range(8):
        name = f"{('canada', 'black_forest')[number % 2]}/{number}_b"
        save(root / "sflckr_images" / f"{name}.jpg", noise(number, SIDE, SIDE, 3))
        labels = noise(number, SIDE, SIDE, high=182)
        labels[0, :2] = (0, 181)
        save(root / "sflckr_segmentations" / f"{name}.png", labels)
    return root


_COLUMNS = "ImageID Source LabelName Confidence XMin XMax YMin YMax IsOccluded IsTruncated IsGroupOf IsDepiction IsInside"
OPEN_IMAGES_ROWS = [
    "000002b66c9c498e xclick /m/02jfl0 1 0.25 0.75 0.5 1 1 1 0 0 1",
    "000002b66c9c498e activemil /m/011k07 1 0 0.5 0 0.25 -1 -1 -1 -1 -1",
    "000002b66c9c498e xclick /m/04yx4 1 0 1 0 1 0 0 1 0 0",  # not among the described classes
    "000002b66c9c498e xclick /m/011k07 1 0.5 0.505 0.5 0.505 0 0 1 0 0",  # too small
]


def openimages(root: Path) -> Path:
    """Two images, one without boxes, and one held out."""
    images(
        root, ["train/000002b66c9c498e.jpg", "train/000002b97e5471a0.jpg", "validation/0001eeaf4aed83f9.jpg"]
    )
    held_out = ["0001eeaf4aed83f9 xclick /m/012074 1 0 1 0 1 0 0 1 1 0"]
    for name, rows in (("oidv6-train", OPEN_IMAGES_ROWS), ("validation", held_out)):
        with (root / f"{name}-annotations-bbox.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(row.split() for row in (_COLUMNS, *rows))
    text = "/m/012074,Magpie\n/m/011k07,Tortoise\n/m/02jfl0,Sombrero\n"
    (root / "class-descriptions-boxable.csv").write_text(text, encoding="utf-8")
    return root


def grand_challenge(root: Path, *, games: dict[str, list[int]], start: int = 0) -> Path:
    """Episodes of so many rows; the action in row ``t`` is ``t % 3 + episode % 16``, screen ``t`` is all of the grey ``t``."""
    for game, lengths in games.items():
        for episode, rows in enumerate(lengths):
            for number in range(rows):
                name = f"screens/{game}/{episode}/{start + number}.png"
                save(root / name, np.full((SIDE, SIDE, 3), number, np.uint8))
            lines = ["db version 2, atari 1", "frame,reward,score,terminal, action"]
            lines += [f"{t}, 0, 0, {int(t == rows - 1)}, {t % 3 + episode % 16}" for t in range(rows)]
            file = root / f"trajectories/{game}/{episode}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root
