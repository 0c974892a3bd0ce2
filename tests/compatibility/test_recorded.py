"""Files, run folders and requests that an earlier version wrote open today and give the same numbers."""

import json
import shutil
import tarfile

import numpy as np
import pytest

from compatibility import record
from vqgan.runs import resolve

NUMBERS = json.loads(record.NUMBERS.read_text(encoding="utf-8"))
REQUESTS = list(record.requests())


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    with tarfile.open(record.ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def compare(found, expected, where="numbers"):
    """Integers and words exactly, floats to 1e-5; both as they come out of a JSON file."""
    if isinstance(expected, dict):
        assert found.keys() >= expected.keys(), where
        for name, value in expected.items():
            compare(found[name], value, f"{where}.{name}")
    elif isinstance(expected, list) and expected and isinstance(expected[0], dict):
        assert len(found) == len(expected), where
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            compare(one, other, f"{where}[{index}]")
    elif np.asarray(expected).dtype.kind in "iU":
        assert found == expected, where
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=where)


@pytest.mark.parametrize("name", record.QUANTIZERS)
def test_a_tokenizer_of_each_quantizer_gives_the_recorded_codes_and_images(recorded, name):
    path = recorded / "models" / f"tokenizer-{name}.safetensors"
    compare(record.tokenizer_numbers(path), NUMBERS[f"tokenizer-{name}"])


@pytest.mark.parametrize("name", record.CONDITIONERS)
def test_a_synthesizer_of_each_condition_gives_the_recorded_scores_and_images(recorded, name):
    path = recorded / "models" / f"synthesizer-{name}.safetensors"
    compare(record.synthesizer_numbers(path, record.condition(name)), NUMBERS[f"synthesizer-{name}"])


def test_a_window_slides_over_a_large_image_as_recorded(recorded):
    path = recorded / "models" / "synthesizer-class_label.safetensors"
    compare(record.large_numbers(path), NUMBERS["large"])


def test_run_folders_open_as_the_models_that_they_trained(recorded):
    runs = recorded / "runs"
    compare(record.tokenizer_numbers(runs / "tokenizer"), NUMBERS["run-tokenizer"])
    compare(record.synthesizer_numbers(runs, {"class": ["7", 1]}), NUMBERS["run-prior"])


@pytest.mark.parametrize("stage", ["tokenizer", "prior"])
def test_a_resumed_run_goes_on_with_the_recorded_losses(recorded, tmp_path, stage):
    run = shutil.copytree(recorded / "runs" / stage, tmp_path / stage)
    compare(record.resumed_numbers(run), NUMBERS[f"resumed-{stage}"])


@pytest.mark.parametrize("stage", ["tokenizer", "prior"])
def test_a_run_that_begins_with_a_recorded_run_has_the_recorded_losses(recorded, tmp_path, stage):
    found = record.begun_numbers(stage, recorded / "runs" / stage, tmp_path / "run")
    compare(found, NUMBERS[f"begun-{stage}"])


def test_a_run_that_begins_with_a_recorded_file_goes_on_with_its_discriminator(recorded, tmp_path):
    start = recorded / "models" / "with-training.safetensors"
    compare(record.begun_numbers("tokenizer", start, tmp_path / "run"), NUMBERS["begun-from-file"])


def test_recorded_codes_are_decoded_to_the_recorded_pixels(recorded, tmp_path):
    found = record.decoded(recorded / "codes", recorded / "runs" / "tokenizer", tmp_path)
    assert found.keys() == NUMBERS["decoded"].keys()
    for name, pixels in NUMBERS["decoded"].items():
        assert np.abs(np.array(found[name]) - np.array(pixels)).max() <= 1  # a half may be rounded either way


def test_the_same_pictures_are_encoded_to_the_recorded_codes(recorded, tmp_path):
    record.encode(recorded / "runs" / "tokenizer", recorded / "pictures", tmp_path)
    assert np.array_equal(np.load(tmp_path / "codes.npy"), np.load(recorded / "codes" / "codes.npy"))
    found, expected = (
        json.loads((folder / "codes.json").read_text()) for folder in (tmp_path, recorded / "codes")
    )
    compare(found, expected)


@pytest.mark.parametrize(("name", "path", "overrides"), REQUESTS, ids=[name for name, _, _ in REQUESTS])
def test_a_request_and_the_configuration_that_it_became_are_the_same_run(tmp_path, name, path, overrides):
    written = tmp_path / "config.yaml"
    written.write_text(json.dumps(NUMBERS["resolved"][name]), encoding="utf-8")  # JSON is YAML
    assert resolve(written) == resolve(path, overrides)


@pytest.mark.parametrize("stage", ["tokenizer", "prior"])
def test_the_configuration_of_a_recorded_run_still_opens_and_says_the_same(recorded, stage):
    found, asked = (
        resolve(path) for path in (recorded / "runs" / stage / "config.yaml", record.RUNS / f"{stage}.yaml")
    )
    assert (found.data, found.training, found.task) == (asked.data, asked.training, asked.task)


def test_every_recorded_model_is_described(recorded):
    for path in (*sorted((recorded / "models").iterdir()), recorded / "runs" / "prior"):
        assert record.command("info", path)
