import re
from pathlib import Path

import msgspec
import pytest
from PIL import Image

import tiny
from vqgan.data import FolderConfig, IdxConfig, image_files
from vqgan.data.transforms import TransformConfig
from vqgan.errors import ConfigError
from vqgan.training.run import DataConfig, open_sources
from vqgan.training.task import BETTER, LoopConfig
from vqgan.training.tokenizer_task import PerceptualConfig


@pytest.mark.parametrize(
    "name",
    ["steps", "batch_size", "accumulate", "log_every", "evaluate_every", "evaluate_images", "save_every"],
)
def test_counts_below_one_are_refused(name):
    with pytest.raises(ConfigError, match=f"`{name}` is 0, expected at least 1"):
        tiny.loop(**{name: 0})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pictures": -1}, "`pictures` is -1, expected at least 0"),
        ({"ema_decay": 1.0}, "`ema_decay` is 1.0, expected a number between 0 and 1, or none"),
        ({"ema_decay": 0.0}, "`ema_decay` is 0.0"),
        (
            {"batch_size": 6, "accumulate": 4},
            "`batch_size` 6 cannot be divided into 4 equal micro-batches (`accumulate` = 4, processes: 1)\n"
            "hint: make it a multiple of 4",
        ),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        tiny.loop(**changes)


@pytest.mark.parametrize("run", [tiny.tokenizer_run, tiny.classifier_run, tiny.denoiser_run])
def test_only_a_prior_is_sharded(run):
    kind = run().__struct_config__.tag
    message = f"`training.shard` is true, expected false: a {kind} fits one card, only priors are sharded"
    with pytest.raises(ConfigError, match=message):
        run(shard=True)
    assert tiny.prior_run(shard=True).training.shard


@pytest.mark.parametrize(
    ("run", "measured"),
    [
        (tiny.tokenizer_run, ["psnr", "usage", "perplexity"]),
        (tiny.prior_run, ["loss"]),
        (tiny.classifier_run, ["loss", "accuracy"]),
        (tiny.denoiser_run, ["psnr"]),
    ],
)
def test_the_best_model_is_found_by_a_number_that_the_run_measures(run, measured):
    for name in BETTER:
        if name in measured:
            assert run(keep_best=name).training.keep_best == name
        else:
            message = (
                f"`training.keep_best` is `{name}`, expected true, false, or a number that this run measures"
            )
            with pytest.raises(ConfigError, match=message):
                run(keep_best=name)
    with pytest.raises(ConfigError, match=f"did you mean `{measured[0]}`"):
        run(keep_best=measured[0][:-1])


def test_what_depends_on_other_settings_may_be_named_with_them():
    tokenizer, prior = tiny.tokenizer_run(), tiny.prior_run()
    data = msgspec.structs.replace(tokenizer.data, image_size=(16, 12))
    perceptual = msgspec.structs.replace(tokenizer.task, perceptual=PerceptualConfig())
    dropout = msgspec.structs.replace(prior.task, condition_dropout=0.1)
    for run, changes, name in (
        (tokenizer, {"data": data}, "ssim"),
        (tokenizer, {"task": perceptual}, "perceptual"),
        (prior, {"task": dropout}, "unconditional_loss"),
    ):
        msgspec.structs.replace(run, **changes, training=tiny.loop(keep_best=name))


def test_a_batch_is_shared_by_processes_and_micro_batches():
    config = LoopConfig(steps=1, batch_size=12, accumulate=2)
    assert (config.share(1), config.share(3)) == (6, 2)
    with pytest.raises(
        ConfigError,
        match=r"`batch_size` 12 cannot be divided into 8 equal micro-batches \(`accumulate` = 2, processes: 4\)",
    ):
        config.share(4)


def test_held_out_images_are_never_augmented():
    config = DataConfig(image_size=(8, 6), crop="random", flip=True)
    assert config.transform(3) == TransformConfig(
        image_size=(8, 6), image_channels=3, crop="random", flip=True
    )
    assert config.transform(3).without_chance() == TransformConfig(
        image_size=(8, 6), image_channels=3, crop="center", flip=False
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": (0, 8)}, r"`image_size` is \(0, 8\)"),
        ({"workers": -1}, "`workers` is -1"),
        ({"cached_codes": -1}, "`cached_codes` is -1"),
        (
            {"cached_codes": 2},
            "`data.resize` is cover, expected null: .*\nhint: set `data.resize=null`, or `data.cached_",
        ),
        ({"cached_codes": 2, "resize": None, "crop": "center"}, "`data.crop` is center, expected random: "),
        (
            {"cached_codes": 2, "resize": None, "context": 8},
            "`data.context` is 8, expected 0: with `data.cached_codes`, ",
        ),
    ],
)
def test_impossible_data_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        DataConfig(**{"image_size": (8, 8), **changes})


def test_a_part_of_the_images_is_held_out_unless_others_are_given(tmp_path):
    source, other = tiny.data(tmp_path / "a", count=7), tiny.data(tmp_path / "b", count=5)
    train, held_out = open_sources(DataConfig(image_size=(8, 8), source=source))
    assert (len(train), len(held_out)) == (7, 4)
    train, held_out = open_sources(DataConfig(image_size=(8, 8), source=source, eval_source=other))
    assert (len(train), len(held_out)) == (7, 4)


def test_a_named_training_file_is_not_joined_by_the_held_out_file_beside_it(tmp_path):
    tiny.data(tmp_path, count=7)
    train, held_out = (
        IdxConfig(path=str(tmp_path / f"{name}-images-idx3-ubyte")) for name in ("train", "t10k")
    )
    sources = open_sources(DataConfig(image_size=(8, 8), source=train, eval_source=held_out))
    assert [len(source) for source in sources] == [7, 4]
    pixels = [{source.read(i).pixels.tobytes() for i in range(len(source))} for source in sources]
    assert not pixels[0] & pixels[1]


def test_a_run_without_images_says_so():
    with pytest.raises(ConfigError, match='no images were given\nhint: give `data="FOLDER"`'):
        open_sources(DataConfig(image_size=(8, 8)))


def test_files_that_arrive_while_a_run_begins_are_in_neither_part(tmp_path, monkeypatch):
    """A folder is listed once for both parts: listed twice, one part knew files that the other did not."""
    for number in range(40):
        Image.new("L", (4, 4), number).save(tmp_path / f"{number}.gif")
    folders, headers = [], []
    list_images, check_image = image_files.list_images, image_files.check_image

    def listed(folder):
        paths = list_images(folder)
        folders.append(folder)
        for number in range(200):  # of these, some fall into each part
            (tmp_path / f"new {number} {len(folders)}.gif").write_bytes((tmp_path / "0.gif").read_bytes())
        return paths

    def checked(path, channels):
        headers.append(path.name)
        return check_image(path, channels)

    monkeypatch.setattr(image_files, "list_images", listed)
    monkeypatch.setattr(image_files, "check_image", checked)
    config = DataConfig(image_size=(4, 4), source=FolderConfig(path=str(tmp_path)), frames="all")
    train, held_out = open_sources(config)
    assert folders == [tmp_path]
    assert sorted(headers) == sorted(f"{number}.gif" for number in range(40))
    stat, sizes = Path.stat, []
    monkeypatch.setattr(Path, "stat", lambda path, **options: sizes.append(path) or stat(path, **options))
    assert train.fingerprint != held_out.fingerprint
    assert len(sizes) == 40  # of the whole, once
    labels = [source.label(index) for source in (train, held_out) for index in range(len(source))]
    assert sorted(labels) == sorted(str(tmp_path / f"{number}.gif") for number in range(40))
