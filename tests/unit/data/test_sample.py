import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from vqgan.data import SampleConfig, open_source, parse_source
from vqgan.data.sample import PICTURES
from vqgan.errors import ConfigError, DataError
from vqgan.images import read_pixels, save_png, to_float

NOISE = np.random.Generator(np.random.Philox(0)).integers(0, 256, (20, 25, 3), np.uint8)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both packages as folders with one picture each; whoever imports them fails."""
    for module, file in (("skimage", "data/grass.png"), ("sklearn", "datasets/images/flower.jpg")):
        monkeypatch.delitem(sys.modules, module, raising=False)
        save_png(to_float(NOISE), tmp_path / module / "picture.png")
        (tmp_path / module / file).parent.mkdir(parents=True)
        (tmp_path / module / "picture.png").rename(tmp_path / module / file)
        (tmp_path / module / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_left_of_each_picture_is_trained_on_and_its_right_held_out_in_squares(packages: Path) -> None:
    source = open_source(parse_source("sample:flower, grass"))
    assert source.class_names == ("flower", "grass")
    train, held_out = source.part("train"), source.part("heldout")
    assert [train.read(i).class_index for i in range(len(train))] == [0, 1]
    assert [held_out.read(i).class_index for i in range(len(held_out))] == [0] * 4 + [1] * 4
    right = np.concatenate([held_out.read(i).pixels for i in range(4)])
    assert held_out.read(0).pixels.shape == (5, 5, 3)
    assert np.array_equal(np.concatenate([train.read(0).pixels, right], axis=1), NOISE)


def test_other_pixels_are_another_fingerprint(packages: Path) -> None:
    before = open_source(SampleConfig(names=("grass",))).fingerprint
    changed = to_float(NOISE)
    changed[0, 0, 0] = -changed[0, 0, 0]
    (packages / "skimage" / "data" / "grass.png").unlink()
    save_png(changed, packages / "skimage" / "data" / "grass.png")
    assert open_source(SampleConfig(names=("grass",))).fingerprint != before


@pytest.mark.parametrize(("module", "name"), [("skimage", "grass"), ("sklearn", "flower")])
def test_a_missing_package_names_the_extra(module: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=f"`sample:{name}` needs scikit-") as caught:
        open_source(SampleConfig(names=(name,)))
    assert 'pip install "vqgan[demo]"' in caught.value.hint


def test_a_package_without_the_picture_says_which_file_is_missing(packages: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read `.*gravel\.png`: no such file"):
        open_source(SampleConfig(names=("gravel",)))


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("sample:hubbel", "unknown sample picture `hubbel`", "did you mean `hubble`?"),
        ("sample:grass,", "unknown sample picture ``", "known: `brick`, "),
        ("sample:grass,grass", "names a picture twice", ""),
        ("sample:", "unknown data source `sample:`", "did you mean `sample`?"),
        ("samples:grass", "unknown data source `samples:grass`", "did you mean `sample`?"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_one(text: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_source(text)
    assert hint in caught.value.hint


@pytest.mark.parametrize("name", PICTURES)
def test_the_installed_packages_hold_large_pictures(name: str) -> None:
    module, _, folder, file = PICTURES[name]
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        pytest.skip(f"{module} is not installed")
    source = open_source(SampleConfig(names=(name,)))
    train, held_out = source.part("train").read(0).pixels, source.part("heldout").read(0).pixels
    whole = read_pixels(Path(spec.origin).parent / folder / file, 3)
    assert min(whole.shape[:2]) >= 427
    assert np.array_equal(train, whole[:, : train.shape[1]])
    assert train.shape[1] == pytest.approx(0.8 * whole.shape[1], abs=1)
    assert whole.shape[1] == train.shape[1] + held_out.shape[1]
    assert torch.equal(to_float(held_out), to_float(whole[: held_out.shape[0], train.shape[1] :]))
