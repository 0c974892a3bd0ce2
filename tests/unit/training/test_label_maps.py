"""Tokenizers of label maps and of depth: from files to numbers, pictures and the model's file."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torch.testing import assert_close

import tiny
from vqgan.conditioning import TokenizedImageConfig
from vqgan.data.image_files import FileSource
from vqgan.data.loader import evaluation_batches
from vqgan.errors import ConfigError, DataError
from vqgan.evaluation.labels import LabelAgreement
from vqgan.images import label_colours, one_hot, read_pixels, to_uint8
from vqgan.prior import PriorConfig
from vqgan.runs import train
from vqgan.synthesizer import Synthesizer, SynthesizerConfig
from vqgan.tokenizer import AutoencoderConfig, TokenizerConfig, VectorQuantizerConfig
from vqgan.training.build import load_tokenizer
from vqgan.training.engine import Engine
from vqgan.training.optimizers import OptimizerConfig
from vqgan.training.run import DataConfig, TokenizerRun
from vqgan.training.tokenizer_task import TokenizerTask, TokenizerTaskConfig
from vqgan.types import Batch

LABELS, SIDE, STEPS = 4, 16, 60


def scene(seed, side=SIDE):
    """A ground of label 0 or 1, with a rectangle of label 2 and a disc of label 3."""
    random = np.random.default_rng(seed)
    labels = np.full((side, side), seed % 2)
    top, left, rows, columns = random.integers((0, 0, 4, 4), (side // 2, side // 2, 9, 9))
    labels[top : top + rows, left : left + columns] = 2
    y, x, radius = random.integers((4, 4, 3), (side - 4, side - 4, 6))
    row, column = np.ogrid[:side, :side]
    labels[(row - y) ** 2 + (column - x) ** 2 < radius**2] = 3
    return labels.astype(np.uint8)


def save_map(path, labels):
    """In grey, or with a palette if the name says so."""
    picture = Image.fromarray(labels)
    if "palette" in path.name:
        picture.putpalette([255 - value for value in range(256) for _ in range(3)])
    path.parent.mkdir(exist_ok=True)
    picture.save(path)


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    for part, count in (("train", 48), ("val", 16)):
        for number in range(count):
            name = f"{number}.png" if number % 2 else f"palette-{number}.png"
            save_map(folder / part / name, scene(number + 100 * (part == "val")))
    return folder


def run_of(pixels="cross_entropy", *, channels=LABELS, steps=STEPS, data=None, **task):
    return TokenizerRun(
        tokenizer=TokenizerConfig(
            autoencoder=AutoencoderConfig(
                image_channels=channels,
                base_channels=32,
                channel_multipliers=(1,),
                num_residual_blocks=1,
                latent_channels=16,
                resolution=SIDE,
                attention_resolutions=(),
                patch_size=4,
                middle_attention=False,
            ),
            quantizer=VectorQuantizerConfig(codebook_size=64, codebook_dim=8, normalize=True),
        ),
        task=TokenizerTaskConfig(
            optimizer=OptimizerConfig(learning_rate=3e-3, betas=(0.5, 0.9)),
            pixels=pixels,
            reseed_after=20,
            **task,
        ),
        data=DataConfig(image_size=(SIDE, SIDE), flip=True, **(data or {})),
        training=tiny.loop(steps=steps, batch_size=8, ema_decay=None, evaluate_images=16, pictures=4),
    )


@pytest.fixture(scope="module")
def trained(maps, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    names = folder / "names.csv"
    names.write_text("number,name\n0,ground\n1,water\n3,disc\n", encoding="utf-8")
    return train(run_of(label_names=str(names)), data=maps, out=folder / "labels")


def last_row(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return rows[-1]


def test_it_learns_label_maps_far_beyond_the_commonest_label(trained, maps):
    held_out = np.stack([np.asarray(Image.open(path)) for path in (maps / "val").iterdir()])
    chance = LabelAgreement(LABELS)
    truth = torch.from_numpy(held_out).long()
    chance.add(truth, torch.full_like(truth, int(truth.flatten().bincount().argmax())))
    row = last_row(trained)
    assert chance.numbers()["miou"] < 0.2
    assert row["heldout_miou"] > 0.4
    assert row["heldout_accuracy"] > 0.7
    assert "heldout_psnr" not in row


def test_the_file_knows_the_labels_by_name_and_numbers_stand_for_the_others(trained):
    model = load_tokenizer(trained)
    assert model.config.label_names == ("ground", "water", "2", "disc")
    maps = torch.from_numpy(scene(7).astype(np.float32))[None, None] / 127.5 - 1
    images = one_hot(maps, LABELS)
    with torch.no_grad():
        found = model.eval()(images).images.argmax(dim=1)
    assert (found == images.argmax(dim=1)).float().mean() > 0.6


def test_pictures_of_the_training_are_in_the_colours_of_labels(trained):
    (path,) = (trained / "images").glob(f"reconstructions-*{STEPS}.png")
    colours = {tuple(colour) for colour in read_pixels(path, 3).reshape(-1, 3).tolist()}
    known = {tuple(colour) for colour in label_colours()[:LABELS].tolist()}
    assert known <= colours <= known | {(255, 255, 255)}  # white between the pictures


def test_the_trained_tokenizer_serves_a_condition_of_a_prior(trained):
    labels = load_tokenizer(trained)
    condition = TokenizedImageConfig(
        codebook_size=labels.codebook_size, image="segmentation", tokenizer=labels.config
    )
    model = Synthesizer(
        SynthesizerConfig(
            tokenizer=tiny.tokenizer_config(),
            conditioner=condition,
            prior=PriorConfig(
                codebook_size=tiny.CODES,
                condition_size=labels.codebook_size,
                context_length=32,
                depth=1,
                width=16,
                num_heads=2,
            ),
            window=(4, 4),
        )
    ).eval()
    model.conditioner.tokenizer.load_state_dict(labels.state_dict())
    given = torch.from_numpy(scene(3)).long()[None]
    tokens = model.conditioner.tokens({"segmentation": given}, 1, (4, 4))
    assert torch.equal(
        tokens, labels.eval().encode(F.one_hot(given, LABELS).movedim(-1, 1).float()).flatten(1)
    )
    assert model.sample(2, condition={"segmentation": given}).shape == (2, 1, SIDE, SIDE)


def test_resumed_runs_keep_the_names_without_their_file(maps, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc\nd\n", encoding="utf-8")
    out = train(run_of(label_names=str(names), steps=1), data=maps, out=tmp_path / "run")
    names.unlink()
    train(None, resume=out, overrides=["training.steps=2"])
    assert load_tokenizer(out).config.label_names == ("a", "b", "c", "d")


def test_an_array_of_label_maps_trains_too(tmp_path):
    arrays = np.stack([scene(number) for number in range(12)])[..., None]
    out = train(run_of("binary", steps=2), data=arrays, out=tmp_path / "array")
    assert 0 <= last_row(out)["heldout_miou"] <= 1
    assert load_tokenizer(out).config.label_names == ("0", "1", "2", "3")
    pictures = [Image.fromarray(scene(number)) for number in range(12)]
    for picture in pictures:
        picture.putpalette([9, 9, 9] * 256)
    items = train(run_of("binary", steps=2), data=pictures, out=tmp_path / "items")
    assert last_row(items) == last_row(out) | {
        name: value for name, value in last_row(items).items() if name.endswith(("second", "wait"))
    }


@pytest.mark.parametrize("pixels", ["cross_entropy", "binary"])
def test_the_loss_of_label_maps_is_as_it_is_written(pixels):
    torch.manual_seed(0)
    run = run_of(pixels)
    tokenizer = tiny.tokenizer(channels=3).double()
    task = TokenizerTask(tokenizer, run.task, loop=run.training, engine=Engine("cpu"), seed=0)
    labels = torch.randint(3, (2, 8, 8))
    with torch.no_grad():
        logits = tokenizer(F.one_hot(labels, 3).movedim(-1, 1).double()).images
    grey = labels[:, None].double() / 127.5 - 1
    measured = task.train_step([Batch(grey, {}, torch.arange(2))], 0)
    chosen = logits.gather(1, labels[:, None])[:, 0]
    if pixels == "cross_entropy":
        expected = (logits.logsumexp(dim=1) - chosen).mean()
    else:
        expected = (F.softplus(logits).sum(dim=1) - chosen).mean() / 3
    assert_close(measured["reconstruction_loss"], expected)


def test_maps_are_resized_to_the_nearest_label_and_mirrored(tmp_path):
    save_map(tmp_path / "palette.png", np.kron([[0, 3], [2, 1]], np.ones((8, 8))).astype(np.uint8))
    source = FileSource(name="maps", root=tmp_path, paths=["palette.png"])
    run = run_of(data={"resize": 64, "crop": "center"})
    transform = run.data.transform(1, labels=LABELS)
    (batch,) = evaluation_batches(source, transform, 1)
    found = to_uint8(batch.images)[0, :, :, 0]
    assert found.tolist() == np.kron([[0, 3], [2, 1]], np.ones((8, 8))).tolist()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((20, 20), 4, np.uint8), "bad.png`: it has the label 4, expected 0 to 3"),
        (np.zeros((20, 20, 3), np.uint8), "bad.png`: it is a picture in RGB, expected labels: one number"),
    ],
)
def test_maps_that_are_none_are_refused_by_name_before_anything_is_written(tmp_path, array, message):
    for number in range(8):
        save_map(tmp_path / "maps" / f"{number}.png", scene(number))
    Image.fromarray(array).save(tmp_path / "maps" / "bad.png")
    with pytest.raises(DataError, match=r"1 of . label maps cannot be used") as caught:
        train(run_of(), data=tmp_path / "maps", eval_data=tmp_path / "maps", out=tmp_path / "run")
    assert message in caught.value.message
    assert "there are 4 labels" in caught.value.hint
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hard_share": 0.1}, "a loss of label maps, but there is a `hard_share`, which compares pictures"),
        ({"perceptual": {}}, "there is a `perceptual`"),
        ({"discriminator": {}}, "there is a `discriminator`"),
    ],
)
def test_what_compares_pictures_is_refused_with_label_maps(changes, message):
    from vqgan.config import from_mapping, to_mapping

    mapping = to_mapping(run_of().task) | changes
    with pytest.raises(ConfigError, match=message):
        from_mapping(mapping, TokenizerTaskConfig)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: run_of(channels=1), "1 channels, expected one for each of 2 to 256 labels"),
        (lambda: run_of(channels=300), "300 channels, expected"),
        (lambda: run_of("l1", label_names="names.txt"), "`pixels` is `l1`, which is no loss of label maps"),
        (lambda: run_of(data={"stretch": True}).data.transform(1, labels=4), "the images are label maps"),
        (lambda: run_of(data={"stretch": True}).data.transform(3), "pictures of 3 channels, expected 1"),
    ],
)
def test_settings_that_do_not_fit_label_maps_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_tokenizer_of_label_maps_trains_on_and_serves_only_such(trained, maps, tmp_path):
    with pytest.raises(ConfigError, match=r"one of 4 labels, but `task.pixels` is `l1`"):
        train(run_of("l1"), data=maps, start_from=trained, out=tmp_path / "a")
    with pytest.raises(ConfigError, match="is one of label maps, and a prior draws pictures"):
        train(tiny.prior_run(tiny.data(tmp_path)), tokenizer=trained, out=tmp_path / "b")


def test_depth_of_any_range_is_stretched_to_its_own(tmp_path):
    metres = np.linspace(2.0, 6.0, 400, dtype=np.float32).reshape(20, 20)
    np.save(tmp_path / "metres.npy", metres)
    Image.fromarray((metres * 1000).astype(np.uint16)).save(tmp_path / "millimetres.png")
    np.save(tmp_path / "flat.npy", np.full((20, 20), 7.0))
    source = FileSource(name="depth", root=tmp_path, paths=["metres.npy", "millimetres.png", "flat.npy"])
    transform = run_of("l1", channels=1, data={"stretch": True}).data.transform(1)
    (batch,) = evaluation_batches(source, transform, 3)
    assert_close(batch.images[0], batch.images[1], atol=0.01, rtol=0)
    middle = (metres[2:18, 2:18] - 2) / 2 - 1  # the crop of what was stretched as a whole
    wanted = torch.from_numpy((metres - 2) / 2 - 1)
    assert_close(float(batch.images[0].mean()), float(wanted.mean()), atol=0.02, rtol=0)
    assert middle.shape == (16, 16)
    assert bool((batch.images[2] == -1).all())
    run = run_of("l1", channels=1, steps=2, data={"stretch": True})
    out = train(run, data=[tmp_path / "metres.npy", tmp_path / "millimetres.png"], out=tmp_path / "run")
    assert last_row(out)["heldout_psnr"] > 0


def test_depth_that_is_not_finite_is_refused_by_name(tmp_path):
    np.save(tmp_path / "a.npy", np.full((20, 20), np.nan))
    np.save(tmp_path / "b.npy", np.ones((20, 20)))
    with pytest.raises(DataError, match=r"a.npy`: it holds values that are not finite"):
        train(run_of("l1", channels=1, data={"stretch": True}), data=tmp_path, out=tmp_path / "run")
