"""A prior trained on codes from disk is, bit by bit, the one that encodes its samples itself."""

import itertools
import json
import os
import shutil
import sys

import msgspec
import numpy as np
import pytest
import torch

import tiny
from vqgan.checkpoints.format import save_model
from vqgan.conditioning import EdgesConfig
from vqgan.config import dump_yaml
from vqgan.data import CodesConfig, FolderConfig
from vqgan.data.codes import CodesSource
from vqgan.data.conditions import Texts
from vqgan.data.loader import evaluation_batches, training_batches
from vqgan.errors import ConfigError, DataError
from vqgan.images import save_png
from vqgan.runs import train
from vqgan.training.encoding import encode_samples
from vqgan.training.run import DataConfig, open_sources

STEPS, BATCH, COPIES, SEED = 6, 4, 2, 7
"""24 samples of ten images: two epochs and a little of the next."""


@pytest.fixture(scope="module", autouse=True)
def quiet():
    """Nobody cuts the power here, and nobody looks at curves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)
        yield


class Stopped(Exception):
    """What ends work in its midst."""


def after(count):
    """What stops work at this report."""
    reports = itertools.count(1)

    def report(progress):
        if next(reports) == count:
            raise Stopped

    return report


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tokenizer.safetensors"
    save_model(tiny.tokenizer(), path)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Ten images to train on and four held out; random crops, some mirrored."""
    source = tiny.data(tmp_path_factory.mktemp("images"))
    return tiny.prior_run(source, steps=STEPS, batch_size=BATCH, save_every=2, evaluate_every=5)


def encode(run, out, report=None, *, tokenizer=None, **changes):
    how = {"copies": COPIES, "seed": SEED, **changes}
    encode_samples(run, tokenizer or tiny.tokenizer().eval(), out, **how, on_progress=report)
    return out


@pytest.fixture(scope="module")
def codes(run, tmp_path_factory):
    return encode(run, tmp_path_factory.mktemp("encoded") / "codes")


def rows(folder, steps):
    """What was measured in the first steps, but for times."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    times = ("images_per_second", "data_wait")
    return [{k: v for k, v in row.items() if k not in times} for row in found if row["step"] <= steps]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def test_losses_are_those_of_encoding_on_the_fly_also_after_a_resume(run, codes, model, tmp_path):
    how = {"device": "cpu", "tokenizer": model, "seed": SEED}
    train(run, out=tmp_path / "fly", **how)
    how |= {"data": f"codes:{codes}", "overrides": ["training.pictures=1"], "on_progress": after(3)}
    with pytest.raises(Stopped):
        train(run, out=tmp_path / "disk", **how)
    train(None, resume=tmp_path / "disk", device="cpu")
    whole = COPIES * 10 // BATCH
    assert len(rows(tmp_path / "fly", whole)) == whole
    assert rows(tmp_path / "disk", whole) == rows(tmp_path / "fly", whole)
    assert "heldout_loss" in rows(tmp_path / "disk", whole)[-1]
    # The third epoch shows the copies of the first again.
    assert rows(tmp_path / "disk", STEPS)[-1] != rows(tmp_path / "fly", STEPS)[-1]
    assert (tmp_path / "disk" / "images" / f"completed-{STEPS:08}.png").exists()


def test_epochs_repeat_the_copies_in_new_orders_and_processes_read_their_own(codes):
    source = CodesSource(codes)
    stored = [row["codes"].tobytes() for path in sorted(codes.glob("train-*.npy")) for row in np.load(path)]
    assert len(stored) == 20
    batches = itertools.islice(source.training_batches(SEED, batch_size=10), 5)
    epochs = [[each.numpy().astype(np.uint16).tobytes() for each in batch.indices] for batch in batches]
    assert epochs[:2] == [stored[:10], stored[10:]]
    assert [sorted(each) for each in epochs] == [sorted(epochs[number % 2]) for number in range(5)]
    assert epochs[2] != epochs[0] != epochs[4] != epochs[2]
    (other,) = itertools.islice(source.training_batches(1, batch_size=10), 1)
    assert sorted(each.numpy().astype(np.uint16).tobytes() for each in other.indices) == sorted(epochs[0])
    whole = next(source.training_batches(SEED, batch_size=8, start=16))
    parts = [
        next(source.training_batches(SEED, batch_size=8, start=16, rank=rank, world=2)) for rank in (0, 1)
    ]
    assert [part.sample.tolist() for part in parts] == [[16, 17, 18, 19], [20, 21, 22, 23]]
    for get in (lambda batch: batch.indices, lambda batch: batch.condition["class"]):
        assert torch.equal(torch.cat([*map(get, parts)]), get(whole))


def test_an_interrupted_encoding_goes_on_where_it_was(run, codes, tmp_path):
    with pytest.raises(Stopped):
        encode(run, tmp_path, after(3))
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")}
    assert sorted(before) == ["train-00000.npy", "train-00001.npy"]
    with pytest.raises(DataError, match="or not all was written"):
        CodesSource(tmp_path)
    reports = []
    encode(run, tmp_path, reports.append)
    assert [each.step for each in reports] == [12, 16, 20, 4]
    assert contents(tmp_path) == contents(codes)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in before} == before


def test_damage_is_noticed_and_mended(run, codes, model, tmp_path):
    encode(run, tmp_path / "codes")
    path = tmp_path / "codes" / "train-00002.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(DataError, match=r"cannot read `.*train-00002.npy`: it is not as it was written"):
        train(run, data=CodesConfig(path=str(tmp_path / "codes")), out=tmp_path / "run", tokenizer=model)
    assert not (tmp_path / "run").exists()
    path.with_name("heldout-00000.npy").unlink()
    encode(run, tmp_path / "codes")
    assert contents(tmp_path / "codes") == contents(codes)
    (tmp_path / "codes" / "samples.json").write_text("{")
    with pytest.raises(DataError, match=r"`.*samples.json` is damaged"):
        CodesSource(tmp_path / "codes")


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": [["a"]]},
        {"labels": [[], []]},
        {"captions": [[["one"]], []]},
        {"captions": [[["one"]] * 10, []]},
        {"copies": 10**15},
        {"shard": 10**15},
        {"class_names": []},
        {"files": [{"/dev/zero": ""}, {}]},
        {"files": [{"../pipe": ""}, {}]},
    ],
)
def test_a_hostile_record_is_refused_at_once(codes, tmp_path, changes):
    shutil.copytree(codes, tmp_path / "codes")
    os.mkfifo(tmp_path / "pipe")
    index = tmp_path / "codes" / "samples.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), **changes}))
    with pytest.raises(DataError, match=r"as long as each other|or not all was written"):
        CodesSource(tmp_path / "codes")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"tokenizer": tiny.tokenizer(1).eval()}, "their `tokenizer` is "),
        ({"seed": 8}, "their `seed` is 7, now 8"),
        ({"copies": 3}, "their `copies` is 2, now 3"),
    ],
)
def test_other_samples_do_not_go_to_the_same_folder(run, codes, changes, error):
    before = contents(codes)
    with pytest.raises(ConfigError, match=f"holds other samples: {error}"):
        encode(run, codes, **changes)
    assert contents(codes) == before


def test_what_does_not_fit_the_codes_is_refused(run, codes, model, tmp_path):
    other = tmp_path / "other.safetensors"
    save_model(tiny.tokenizer(1), other)
    how = {"data": f"codes:{codes}", "out": tmp_path / "run", "device": "cpu", "tokenizer": model}
    (tmp_path / "labels.csv").write_text("0.png,cat")
    flip = "`data.flip` is False, but the codes in .* were made with True"
    edges = msgspec.structs.replace(run, conditioner=EdgesConfig())
    for settings, changes, error, message in (
        (run, {"tokenizer": other}, DataError, "were made by another tokenizer"),
        (run, {"overrides": ["data.flip=false"]}, ConfigError, flip),
        (edges, {}, ConfigError, "the condition `edges` does not come with codes"),
        (
            run,
            {"conditions": {"text": tmp_path / "labels.csv"}},
            ConfigError,
            "holds codes, but here pictures are needed",
        ),
        (tiny.tokenizer_run(), {"tokenizer": None}, ConfigError, "but a tokenizer learns from images"),
        (tiny.classifier_run(), {"tokenizer": None}, ConfigError, "but a classifier learns from images"),
        (run, {"data": f"codes:{tmp_path}"}, DataError, "cannot read codes from .*no such file"),
    ):
        with pytest.raises(error, match=message):
            train(settings, **{**how, **changes})
        assert not (tmp_path / "run").exists()


def test_captions_come_along_and_unreadable_images_are_left_out_as_on_the_fly(tmp_path, caplog):
    lines = ["file,caption"]
    for part, count in (("train", 7), ("val", 4)):
        for number, image in enumerate(tiny.images(count, side=11)):
            save_png(image, tmp_path / "images" / part / f"{number}.png")
            lines += [f"{part}/{number}.png,{part} {number} {text}" for text in ("one", "two")]
        (tmp_path / "images" / part / "2.png").write_bytes(b"torn")
    (tmp_path / "captions.csv").write_text("\n".join(lines))
    data = DataConfig(
        source=FolderConfig(path=str(tmp_path / "images")),
        image_size=(8, 8),
        context=4,
        conditions={"text": str(tmp_path / "captions.csv")},
    )
    run = tiny.prior_run(batch_size=3)
    run = msgspec.structs.replace(run, data=data)
    tokenizer = tiny.tokenizer().eval()
    folder = encode(run, tmp_path / "codes", tokenizer=tokenizer)
    assert any("skipped `" in line and "val/2.png`, which is held out" in line for line in caplog.messages)
    sources, transform = open_sources(data, kinds={"text": Texts()}), data.transform(1)
    coded = CodesSource(folder)
    pairs = (
        (
            itertools.islice(coded.training_batches(SEED, batch_size=3), 4),
            training_batches(sources[0], transform, batch_size=3, seed=SEED),
        ),
        (coded.part("heldout").evaluation_batches(2, 3), evaluation_batches(sources[1], transform, 2, 3)),
    )
    texts = []
    for ours, theirs in pairs:
        for batch, other in zip(ours, theirs, strict=False):
            assert len(batch.indices) == len(other.images)
            for grid, image, corner in zip(batch.indices, other.images, other.corner // 4, strict=True):
                y, x = corner.tolist()
                assert torch.equal(grid, tokenizer.encode(image[None])[0, y : y + 2, x : x + 2])
            assert batch.condition == {"text": other.condition.get("text", [])}
            assert batch.sample.tolist() == other.sample.tolist()
            texts += batch.condition["text"]
    assert {text.split()[-1] for text in texts} == {"one", "two"}
    assert not any(text.split()[1] == "2" for text in texts)
    assert [coded.label(number) for number in range(7)] == [sources[0].label(number) for number in range(7)]


def test_the_command_writes_what_a_run_reads(run, codes, model, tmp_path, capsys):
    from vqgan.cli.main import main

    (tmp_path / "prior.yaml").write_text(
        dump_yaml(msgspec.structs.replace(run, data=DataConfig(image_size=(9, 9))))
    )
    source, out = f"idx:{run.data.source.path}", tmp_path / "codes"
    words = [
        "encode",
        model,
        "--data",
        source,
        "--for",
        tmp_path / "prior.yaml",
        "--out",
        out,
        "--copies",
        COPIES,
    ]
    words += ["--seed", SEED, "--size", "8x8", "--set", "data.flip=true", "--device", "cpu"]
    assert main([*map(str, words)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert contents(out) == contents(codes)
    refused = {
        "give IMAGES, or `--data SOURCE --for PRESET`": words[:4],
        "`--precision` is bf16, but training encodes in fp32": [*words, "--precision", "bf16"],
        "images of 9x9 pixels do not fit": [each for each in words if each not in ("--size", "8x8")],
        "the condition `edges` takes no files": [*words, "--condition", "edges=edges/"],
    }
    for message, given in refused.items():
        assert main([*map(str, given), "--out", str(tmp_path / "new")]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "new").exists()
