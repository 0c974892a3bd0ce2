import json

import numpy as np
import pytest

import tiny
from vqgan.checkpoints import codes
from vqgan.checkpoints.codes import load_codes, save_codes, tokenizer_digest
from vqgan.errors import ConfigError, DataError, OutputError

NAMES = ["a.png", "more/b.png"]


@pytest.fixture
def tokenizer():
    return tiny.tokenizer()


def save(folder, array, names, tokenizer):
    return save_codes(folder, array, names, tokenizer, digest=tokenizer_digest(tokenizer))


def load(folder, tokenizer):
    return load_codes(folder, digest=tokenizer_digest(tokenizer))


@pytest.fixture
def folder(tmp_path, tokenizer):
    save(tmp_path / "codes", tokenizer.encode(tiny.images(2)).numpy(), NAMES, tokenizer)
    return tmp_path / "codes"


def refused(folder, tokenizer):
    with pytest.raises(DataError) as caught:
        load(folder, tokenizer)
    return str(caught.value)


def describe(folder, **changes):
    path = folder / "codes.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_codes_and_names_come_back(folder, tokenizer):
    array, names, sizes = load(folder, tokenizer)
    assert sizes == []
    assert names == NAMES
    assert np.array_equal(array, tokenizer.encode(tiny.images(2)).numpy())
    assert array.dtype == np.uint16
    array += 1  # an array of its own, not the file


def test_large_codebooks_need_32_bits(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(type(tokenizer), "codebook_size", 1 << 17)
    array = np.full((1, 2, 2), 100_000)
    path = save(tmp_path, array, ["x"], tokenizer)
    assert np.load(path).dtype == np.uint32
    assert np.array_equal(load(tmp_path, tokenizer)[0], array)


def test_every_image_needs_a_name(tmp_path, tokenizer):
    with pytest.raises(ConfigError, match="2 images have 1 names, expected one for each"):
        save(tmp_path, np.zeros((2, 2, 2), np.int64), ["a"], tokenizer)


def test_another_tokenizers_codes_are_refused(folder):
    message = refused(folder, tiny.tokenizer(seed=1))
    assert "were made by another tokenizer (" in message
    assert "hint: decode with the tokenizer that encoded them" in message


def test_the_same_weights_are_the_same_tokenizer_wherever_they_are(folder, tokenizer):
    copy = tiny.tokenizer(seed=5)
    copy.load_state_dict(tokenizer.state_dict())
    assert load(folder, copy)[1] == NAMES


def test_codes_can_be_saved_by_a_tokenizer_in_another_precision(tmp_path, tokenizer):
    digest = tokenizer_digest(tokenizer)
    half = tokenizer.bfloat16()
    save_codes(tmp_path, half.encode(tiny.images(2)).numpy(), NAMES, half, digest=digest)
    assert load(tmp_path, tiny.tokenizer())[1] == NAMES


@pytest.mark.parametrize(
    "sizes", [[[1, 2]], [[1, 2, 3]] * 2, [[0, 1]] * 2, [[1 << 40, 1]] * 2, "ab", [1e999] * 2, 7]
)
def test_sizes_that_are_none_are_refused(folder, tokenizer, sizes):
    describe(folder, sizes=sizes)
    assert "codes" in refused(folder, tokenizer)
    describe(folder, sizes=[[3, 4], [1, 2]])
    assert load(folder, tokenizer)[2] == [(3, 4), (1, 2)]


@pytest.mark.parametrize("shape", [(0, 4, 4), (2, 0, 4), (2, 4, 0)])
def test_an_array_without_codes_is_refused(folder, tokenizer, shape):
    np.save(folder / "codes.npy", np.zeros(shape, np.uint16))
    message = refused(folder, tokenizer)
    assert f"codes.npy` holds no codes: its shape is {shape}" in message
    assert "hint: give a folder that `vqgan encode` wrote" in message


def test_the_array_in_place_of_its_folder_is_named(folder, tokenizer):
    message = refused(folder / "codes.npy", tokenizer)
    assert f"`{folder / 'codes.npy'}` is a file, expected the folder" in message
    assert message.endswith(f"hint: give its folder, `{folder}`")


@pytest.mark.parametrize(
    "name", ["../x.png", "/etc/x", "a/../../x", "", "C:\\x", "\\\\host\\x", "..\\x", "C:x", "a\0b"]
)
def test_names_that_lead_out_of_a_folder_are_refused(folder, tokenizer, name):
    describe(folder, names=["a.png", name])
    assert "leads out of the folder" in refused(folder, tokenizer)


def test_an_array_that_was_interrupted_is_never_taken_for_complete(folder, tokenizer, monkeypatch):
    def failing(*arguments):
        raise OutputError("the disk is full")

    monkeypatch.setattr(codes, "write_json", failing)
    with pytest.raises(OutputError):
        save(folder, np.zeros((2, 2, 2), np.int64), NAMES, tokenizer)
    assert "but no `codes.json`" in refused(folder, tokenizer)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2)),
        np.zeros((2, 2, 2), np.float32),
        np.zeros((2, 2), np.uint16),
        np.zeros((2, 2, 2), bool),
    ],
)
def test_arrays_of_another_kind_are_refused(folder, tokenizer, array):
    np.save(folder / "codes.npy", array)
    assert "is not an array (images, rows, columns) of integers" in refused(folder, tokenizer)


def test_an_archive_or_objects_in_place_of_the_array_are_refused(folder, tokenizer):
    np.savez(folder / "x.npz", np.zeros((2, 2, 2), np.uint16))
    (folder / "x.npz").rename(folder / "codes.npy")
    assert "are damaged: ValueError" in refused(folder, tokenizer)
    np.save(folder / "codes.npy", np.array([{}, {}]), allow_pickle=True)
    assert "are damaged: ValueError" in refused(folder, tokenizer)


def test_another_number_of_names_is_refused(folder, tokenizer):
    describe(folder, names=["a.png"])
    assert "holds codes of 2 images and 1 names" in refused(folder, tokenizer)


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"names": 3, "tokenizer": ""}'])
def test_a_damaged_description_is_refused(folder, tokenizer, text):
    (folder / "codes.json").write_text(text)
    assert "are damaged" in refused(folder, tokenizer)


def test_a_header_that_announces_more_than_the_file_holds_costs_no_memory(folder, tokenizer):
    with (folder / "codes.npy").open("wb") as file:
        header = {"descr": "<u2", "fortran_order": False, "shape": (2, 1 << 20, 1 << 20)}
        np.lib.format.write_array_header_1_0(file, header)
    assert "are damaged" in refused(folder, tokenizer)
    (folder / "codes.npy").write_bytes(b"\x93NUMPY\x01")
    assert "are damaged" in refused(folder, tokenizer)
    (folder / "codes.npy").unlink()
    assert "cannot read codes from" in refused(folder, tokenizer)
