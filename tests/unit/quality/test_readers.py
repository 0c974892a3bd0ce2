"""What is read in pictures, against other ways to it; and what cannot be read is said or refused."""

import importlib.util

import numpy as np
import pytest
import torch

import networks
import tiny
import vqgan
from vqgan import save_model
from vqgan.conditioning import (
    ClassLabelConfig,
    EdgesConfig,
    LowResolutionConfig,
    PaletteConfig,
    SceneLayoutConfig,
    SeveralConfig,
    TextConfig,
    TokenizedImageConfig,
)
from vqgan.errors import CheckpointError, ConfigError
from vqgan.evaluation.features import FeatureNetwork
from vqgan.images import canny, to_float
from vqgan.imagine import open_judge
from vqgan.prior import PriorConfig
from vqgan.quality.readers import open_readers
from vqgan.synthesizer import Synthesizer, SynthesizerConfig

WINDOW = (8, 8)
NOTHING = FeatureNetwork("latents", lambda images: images.flatten(1), torch.device("cpu"))
needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None,
    reason="transformers is not installed: pip install vqgan[extract]",
)


def model(*conditioners, channels=3):
    """32x32 pixels, 4 for each side of a token."""
    torch.manual_seed(0)
    conditioner = SeveralConfig(conditioners=conditioners) if len(conditioners) > 1 else conditioners[0]
    config = SynthesizerConfig(
        tokenizer=tiny.tokenizer_config(channels=channels),
        conditioner=conditioner,
        prior=PriorConfig(
            codebook_size=tiny.CODES,
            condition_size=conditioner.vocabulary_size,
            context_length=conditioner.num_tokens(WINDOW) + 63,
            depth=1,
            width=16,
            num_heads=2,
        ),
        window=WINDOW,
    )
    return Synthesizer(config).eval()


def readers(*conditioners, network=NOTHING, judges=None, channels=3):
    found, notes = open_readers(model(*conditioners, channels=channels), network, judges or {}, (32, 32))
    return found, notes


def pictures(count=4, channels=3):
    """Coarse colours, enlarged."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, 4, 4, channels), np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def test_what_pictures_give_themselves_is_read_as_a_prior_is_told_it():
    colours = PaletteConfig(colours=((0, 0, 0), (255, 255, 255), (255, 0, 0)))
    copies = LowResolutionConfig(codebook_size=tiny.CODES, factor=8)
    found, notes = readers(EdgesConfig(high=0.8), colours, copies)
    assert notes == []
    shown, images = pictures(40), to_float(pictures(40))
    edges, small = found["edges"].read(shown), found["low_resolution"].read(shown)
    assert torch.equal(edges, canny(images, high=0.8))
    assert torch.equal(edges, found["edges"].ask(edges))  # a map is what is asked for
    torch.testing.assert_close(small, images[:, :, ::8, ::8])
    cells = images[:, :, ::4, ::4].movedim(1, 3).reshape(40, 64, 1, 3)
    palette = torch.tensor(colours.colours) / 127.5 - 1
    nearest = (cells - palette).square().sum(dim=3).argmin(dim=2)
    assert torch.equal(found["palette"].read(shown), nearest)
    for reader in found.values():
        own = reader.read(shown)
        assert reader.agree(own, own).tolist() == [100 if reader.measure == "psnr" else 1] * 40
        assert reader.agree(own, own.roll(1, dims=0)).max() < 100


def brightness(names):
    """Says of dark images the first class, of bright ones the last."""
    return FeatureNetwork(
        "brightness",
        lambda images: images.mean(dim=(1, 2, 3))[:, None],
        torch.device("cpu"),
        lambda means: torch.eye(3)[((means[:, 0] + 1) * 1.49).long()],
        class_names=names,
    )


@pytest.mark.parametrize(
    ("known", "own", "expected"),
    [
        (("night", "dusk", "day"), {"class_names": ("day", "night")}, [1, 0, 1]),
        (("night", "dusk", "day"), {"num_classes": 3}, [0, 1, 0]),
        (("0", "1", "2"), {"class_names": ("a", "b", "c")}, [0, 1, 0]),
    ],
)
def test_classes_are_read_by_their_names_else_by_their_numbers(known, own, expected):
    """Asked are the classes 1, 1, 0 of a dark, a middling and a bright image."""
    found, notes = readers(ClassLabelConfig(**own), network=brightness(known))
    assert notes == []
    images = np.stack([np.full((32, 32, 3), value, np.uint8) for value in (10, 128, 250)])
    reader = found["class"]
    asked = reader.ask(torch.tensor([1, 1, 0]))
    assert reader.agree(asked, reader.read(images)).tolist() == expected


@pytest.mark.parametrize(
    ("network", "own"),
    [
        (NOTHING, {"num_classes": 3}),
        (brightness(("night", "dusk", "day")), {"class_names": ("day", "noon")}),
        (brightness(("night", "dusk", "day")), {"num_classes": 2}),
    ],
)
def test_where_nothing_knows_the_classes_a_judge_is_asked_for(network, own):
    found, notes = readers(ClassLabelConfig(**own), network=network)
    assert found == {}
    assert "`--judge class=MODEL`" in notes[0]


def test_an_action_is_no_class_and_a_layout_has_no_reader():
    layout = SceneLayoutConfig(
        num_classes=3,
        max_objects=2,
        vocabulary_size=16,
        encode_crop=False,
        use_group=False,
        use_additional=False,
    )
    action = ClassLabelConfig(num_classes=3, label="action")
    found, notes = readers(layout, action, network=brightness(("a", "b", "c")))
    assert found == {}
    assert "nothing reads it" in notes[0]
    assert "`--judge action=MODEL`" in notes[1]


def test_a_judge_of_classes_is_opened_by_its_name(tmp_path):
    path = tmp_path / "judge.safetensors"
    judge = tiny.classifier(image_size=(32, 32), encoder=tiny.tokenizer_config(channels=3).autoencoder)
    save_model(judge.eval(), path)
    found, _ = readers(ClassLabelConfig(class_names=("2", "1")), judges={"class": str(path)})
    with torch.no_grad():
        expected = judge(to_float(pictures())).argmax(dim=1)
    assert torch.equal(found["class"].read(pictures()), expected)
    assert found["class"].ask(torch.tensor([0, 1])).tolist() == [2, 1]


@needs_transformers
def test_depth_and_labels_are_read_as_they_are_extracted(tmp_path):
    depth, labels = (networks.save(name, tmp_path / name) for name in ("dpt", "segformer"))
    parts = (
        TokenizedImageConfig(codebook_size=tiny.CODES, image="depth", tokenizer=tiny.tokenizer_config()),
        TokenizedImageConfig(
            codebook_size=tiny.CODES, image="segmentation", tokenizer=tiny.tokenizer_config(channels=4)
        ),
    )
    judges = {"depth": str(depth), "segmentation": str(labels)}
    found, _ = readers(*parts, judges=judges)
    images, shown = to_float(pictures()), pictures()
    near = vqgan.extract("depth", images, model=depth, device="cpu")
    seen = vqgan.extract("segmentation", images, model=labels, labels="own", device="cpu")
    torch.testing.assert_close(found["depth"].read(shown), near)
    assert torch.equal(found["segmentation"].read(shown), seen)
    assert found["depth"].agree(found["depth"].ask(near.expand(-1, 3, -1, -1)), near).max() < 1e-6
    hot = torch.nn.functional.one_hot(seen, 4).movedim(3, 1)
    assert torch.equal(found["segmentation"].ask(hot), seen)
    assert found["segmentation"].agree(seen, (seen + 1) % 4).tolist() == [0] * 4
    _, notes = readers(*parts)
    assert [name in note for name, note in zip(judges, notes, strict=True)] == [True, True]
    few = TokenizedImageConfig(
        codebook_size=tiny.CODES, image="segmentation", tokenizer=tiny.tokenizer_config(channels=2)
    )
    with pytest.raises(ConfigError, match="the tokenizer of `segmentation` has 2"):
        readers(few, judges={"segmentation": str(labels)})[0]["segmentation"].read(pictures(200))


@needs_transformers
def test_people_are_read_as_they_are_extracted(tmp_path):
    points, finder = (networks.save(name, tmp_path / name) for name in ("vitpose", "rt_detr"))
    part = TokenizedImageConfig(
        codebook_size=tiny.CODES, image="pose", tokenizer=tiny.tokenizer_config(channels=3)
    )
    found, _ = readers(part, judges={"pose": f"{points},{finder}"})
    drawn = vqgan.extract("pose", to_float(pictures()), model=points, detector=finder, device="cpu")
    limbs = found["pose"].read(pictures())
    assert limbs.any()
    assert torch.equal(limbs, (drawn > -0.9).any(dim=1))
    assert torch.equal(limbs, found["pose"].ask(drawn))


@needs_transformers
def test_a_text_is_right_where_it_is_the_most_similar_one(tmp_path):
    folder = networks.save_judge("CLIPModel", tmp_path / "clip")
    found, _ = readers(TextConfig(max_tokens=8), judges={"text": str(folder)}, channels=1)
    reader, texts = found["text"], ["red", "a", "red", "be"]
    shown = pictures(channels=1)
    similarity = open_judge(folder, device="cpu").similarity(to_float(shown.repeat(3, axis=3)), texts)
    best = [texts[number] for number in similarity.argmax(dim=1)]
    expected = [text == each for text, each in zip(texts, best, strict=True)]
    assert reader.agree(reader.ask(texts), reader.read(shown)).tolist() == expected
    assert len({*expected}) == 2


@pytest.mark.parametrize(
    ("parts", "judges", "message"),
    [
        ([EdgesConfig()], {"class": "x"}, "there is a judge of `class`"),
        ([EdgesConfig()], {"edges": "x"}, "no judge reads the condition `edges`"),
        ([ClassLabelConfig(num_classes=3)], {"class": ""}, "has no name"),
        ([ClassLabelConfig(num_classes=4)], {"class": "FILE"}, "does not know the classes"),
        ([ClassLabelConfig(num_classes=3)], {"class": "FILE"}, "channels"),
    ],
)
def test_a_judge_that_does_not_fit_is_refused(tmp_path, parts, judges, message):
    save_model(tiny.classifier().eval(), tmp_path / "judge.safetensors")
    named = {
        name: str(tmp_path / "judge.safetensors") if each == "FILE" else each for name, each in judges.items()
    }
    with pytest.raises(ConfigError, match=message):
        readers(*parts, judges=named)


def test_a_judge_of_a_tokenizer_and_one_that_is_no_classifier_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no condition of this model"):
        open_readers(tiny.tokenizer(), NOTHING, {"class": "x"}, (32, 32))
    save_model(tiny.tokenizer().eval(), tmp_path / "it.safetensors")
    with pytest.raises(CheckpointError, match="expected a classifier"):
        readers(ClassLabelConfig(num_classes=3), judges={"class": str(tmp_path / "it.safetensors")})
