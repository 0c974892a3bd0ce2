import pytest

from vqgan.checkpoints.finding import find_checkpoint, find_config
from vqgan.errors import CheckpointError

MODEL = "model: {target: taming.models.vqgan.VQModel, params: {}}\n"


@pytest.fixture
def published(tmp_path):
    """A checkpoint in the published layout; a function that writes configurations beside it."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint.touch()

    def write(*names, text=MODEL):
        for name in names:
            path = tmp_path / "run" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return tmp_path / "run", checkpoint, write


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["configs/model.yaml"], "configs/model.yaml"),
        (["configs/a.yaml"], "configs/a.yaml"),
        (["configs/a.yaml", "configs/model.yaml"], "configs/model.yaml"),
        (["configs/2020-11-09-project.yaml", "configs/model.yaml"], "configs/2020-11-09-project.yaml"),
        (["configs/2020-a-project.yaml", "configs/2021-b-project.yaml"], "configs/2021-b-project.yaml"),
        (["checkpoints/x.yaml", "configs/model.yaml"], "checkpoints/x.yaml"),
        (["checkpoints/last.yaml", "checkpoints/model.yaml"], "checkpoints/last.yaml"),
    ],
)
def test_the_configuration_is_found_in_this_order(published, names, found):
    root, checkpoint, write = published
    write(*names)
    write("configs/2022-lightning.yaml", "configs/broken.yaml", text="lightning: {trainer: {}}")
    assert find_config(checkpoint) == root / found


def test_several_that_may_be_meant_are_named(published):
    _, checkpoint, write = published
    write("configs/a.yaml", "configs/b.yaml")
    with pytest.raises(CheckpointError, match=r"several configurations could belong .*`a\.yaml`, `b\.yaml`"):
        find_config(checkpoint)


def test_there_may_be_none(published):
    _, checkpoint, _ = published
    assert find_config(checkpoint) is None


def test_those_that_are_none_are_named_with_their_reasons(published):
    root, checkpoint, write = published
    write("checkpoints/model.yaml", text="<!doctype html>")
    write("configs/a.yaml", text="- 1")
    write("configs/b.yml", text="lightning: {}")
    with pytest.raises(CheckpointError) as caught:
        find_config(checkpoint)
    configs = root / "configs"
    assert caught.value.message.endswith(
        f"what was found cannot be used: `{root / 'checkpoints' / 'model.yaml'}` looks like a web page, not YAML; "
        f"`{configs / 'a.yaml'}` holds a list, expected a mapping of keys to values; "
        f"`{configs / 'b.yml'}` has no `model` with a `target`"
    )


def test_the_checkpoint_of_a_folder(published, tmp_path):
    root, checkpoint, _ = published
    assert find_checkpoint(root) == find_checkpoint(root / "checkpoints") == checkpoint
    other = tmp_path / "other"
    other.mkdir()
    assert find_checkpoint(other) is None
    (other / "epoch=000012.ckpt").touch()
    assert find_checkpoint(other) == other / "epoch=000012.ckpt"
    (other / "epoch=000013.ckpt").touch()
    assert find_checkpoint(other) is None
