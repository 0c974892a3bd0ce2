"""``vqgan dream``: frames from frames and actions."""

import numpy as np
import pytest
from PIL import Image

import miniatures
import tiny
import vqgan
from vqgan.data import AtariConfig, open_source
from vqgan.data.source import ArraySource, Steps
from vqgan.images import read_images, to_uint8

NAMES = ("NOOP", "FIRE", "UP")


@pytest.fixture(scope="module")
def game(trained, tmp_path_factory):
    root = tmp_path_factory.mktemp("game")
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)
    source = ArraySource(
        name="game", images=images, steps=Steps(np.arange(40) // 5, np.arange(40) % 3, NAMES)
    )
    kinds = "[{kind: tokenized_image, image: previous_1}, {kind: tokenized_image, image: previous_2}, {kind: class_label, label: action}]"
    vqgan.train(
        trained.prior_file,
        data=source,
        out=root / "run",
        tokenizer=trained.tokenizer,
        overrides=["conditioner.kind=several", f"conditioner.conditioners={kinds}"],
        device="cpu",
    )
    (root / "frames").mkdir()
    for number in range(5):
        Image.fromarray(images[number]).save(root / f"frames/{number}.png")
    Image.new("RGB", (8, 16)).save(root / "small.png")
    return root


def dream(game, out, *more, start="frames", model="run"):
    return ["dream", game / model, "--start", game / start, "--out", out, "--device", "cpu", *more]


def test_frames_and_a_page_beside_the_true_game(game, tmp_path, run):
    result = run(*dream(game, tmp_path / "out", "--actions", "UP,0,1,2", "--seed", "3"))
    assert result.code == 0, result.err
    assert [path.name for path in result.paths] == [
        *(f"00000{number}.png" for number in range(4)),
        *("growth.png", "growth.html"),
    ]
    starts = [read_images(game / f"frames/{number}.png") for number in range(2)]
    frames = vqgan.dream(vqgan.load(game / "run", device="cpu"), starts, ["UP", 0, 1, 2], seed=3)
    for path, frame in zip(result.paths, frames, strict=False):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), to_uint8(frame[0]).numpy())
    pairs = [np.asarray(Image.open(tmp_path / f"out/frames/frame-000{number}.png")) for number in range(4)]
    assert {pair.shape for pair in pairs} == {(16, 32, 3)}
    np.testing.assert_array_equal(pairs[2][:, 16:], np.asarray(Image.open(game / "frames/4.png")))
    assert (pairs[3][:, 16:] == 255).all()  # the game is known for three steps
    page = (tmp_path / "out/frames/growth.html").read_text(encoding="utf-8")
    assert "<title>A dreamed game</title>" in page
    assert "1 of 4 frames, after UP; left the dream, right the game" in page
    # No result replaces what it starts from.
    result = run(
        *dream(game, tmp_path / "out", "--actions", "1", "--overwrite", start=tmp_path / "out/000000.png")
    )
    assert result.code == 2
    assert "would replace the input" in result.err
    # The same command again replaces its own results.
    assert run(*dream(game, tmp_path / "out", "--actions", "1")).code == 0


def test_one_frame_is_a_start(game, tmp_path, run):
    result = run(*dream(game, tmp_path / "out", "--actions", "1", "--temperature", "0", start="frames/0.png"))
    assert result.code == 0, result.err
    assert np.asarray(Image.open(tmp_path / "out/frames/frame-0000.png")).shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("words", "how", "message"),
    [
        (["--actions", "JUMP"], {}, "unknown action `JUMP`"),
        (["--actions", "7"], {}, "action 7 does not exist\nhint: give a number from 0 to 2"),
        (["--actions", "1,,2"], {}, "`--actions` is `1,,2`, expected numbers or names"),
        (["--actions", "1"], {"start": "small.png"}, "too small for a prior"),
        (["--actions", "1"], {"start": "nothing"}, "does not exist"),
    ],
)
def test_what_does_not_fit_has_a_message(words, how, message, game, tmp_path, run):
    result = run(*dream(game, tmp_path / "out", *words, **how))
    assert result.code != 0
    assert "Traceback" not in result.err
    assert message in result.err
    assert not (tmp_path / "out").exists()


def test_a_prior_without_previous_frames_and_frames_of_two_sizes_are_refused(game, trained, tmp_path, run):
    result = run(
        "dream", trained.prior, "--start", game / "frames", "--actions", "1", "--out", tmp_path / "out"
    )
    assert result.code == 2
    assert "expected previous frames and an action\nhint: train one" in result.err
    vqgan.save_model(tiny.synthesizer(), tmp_path / "classes.safetensors")  # one that would ask for its class
    result = run(
        "dream", tmp_path / "classes.safetensors", "--start", game / "frames", "--actions", "1", "--out", "o"
    )
    assert result.code == 2
    assert "expected previous frames and an action" in result.err
    (tmp_path / "mixed").mkdir()
    for number, side in enumerate((16, 20)):
        Image.new("RGB", (side, side)).save(tmp_path / f"mixed/{number}.png")
    result = run(*dream(game, tmp_path / "out", "--actions", "1", start=tmp_path / "mixed"))
    assert "have the sizes 16x16, 20x20, expected one" in result.err


def test_a_prior_of_recorded_games_plays_on_from_an_episode(trained, tmp_path, run):
    root = miniatures.grand_challenge(tmp_path / "agc", games={"pinball": [41, 41], "qbert": [41]})
    kinds = "[{kind: tokenized_image, image: previous_1}, {kind: class_label, label: action}]"
    words = ["train", "prior", trained.prior_file, "--data", f"agc:{root}", "--tokenizer", trained.tokenizer]
    words += ["--set", "conditioner.kind=several", "--set", f"conditioner.conditioners={kinds}"]
    result = run(*words, "--device", "cpu", "--out", tmp_path / "run")
    assert result.code == 0, result.err
    assert vqgan.load(tmp_path / "run", device="cpu").conditioner.parts[1].config.class_names[1] == "FIRE"
    words = ["--actions", "FIRE,2", "--out", tmp_path / "out", "--device", "cpu"]
    result = run("dream", tmp_path / "run", "--start", root / "screens/qbert/0", *words)
    assert result.code == 0, result.err
    # Every fourth screen is a frame, as in training: of screen t all pixels are t.
    shown = [
        np.asarray(Image.open(tmp_path / f"out/frames/frame-000{step}.png"))[:, 16:] for step in range(2)
    ]
    assert [np.unique(each).tolist() for each in shown] == [[4], [8]]
    result = run("dream", tmp_path / "run", "--start", root / "screens/qbert/0", "--every", 2, *words)
    assert (np.asarray(Image.open(tmp_path / "out/frames/frame-0001.png"))[:, 16:] == 4).all()
    (root / "trajectories/qbert/0.txt").unlink()
    result = run(
        "train", "tokenizer", trained.tokenizer_file, "--data", f"agc:{root}", "--out", tmp_path / "bad"
    )
    assert result.code == 3
    assert "Traceback" not in result.err
    assert "0.txt` is missing" in result.err


def test_a_game_of_the_emulator_is_the_truth(trained, tmp_path, run):
    pytest.importorskip("ale_py")
    known = open_source(AtariConfig(games=("Pong",), actions=(0, 1, 2, 3), max_frames=40)).images
    kinds = "[{kind: tokenized_image, image: previous_1}, {kind: class_label, label: action}]"
    words = ["train", "prior", trained.prior_file, "--data", "atari:Pong@NOOP,FIRE,UP,UP,3", "--tokenizer"]
    words += [
        trained.tokenizer,
        "--set",
        "conditioner.kind=several",
        "--device",
        "cpu",
        "--out",
        tmp_path / "run",
    ]
    words += ["--set", f"conditioner.conditioners={kinds}", "--set", "data.source.max_frames=80"]
    result = run(*words)
    assert result.code == 0, result.err
    words = [
        "--start",
        "atari:Pong@NOOP,FIRE",
        "--actions",
        "UP,3",
        "--out",
        tmp_path / "out",
        "--device",
        "cpu",
    ]
    result = run("dream", tmp_path / "run", *words)
    assert result.code == 0, result.err
    for step in range(2):
        shown = np.asarray(Image.open(tmp_path / f"out/frames/frame-000{step}.png"))
        np.testing.assert_array_equal(shown[:, 80:], known[2 + step])
    for start, message in (
        ("atari:Pong,Qbert", "expected one game"),
        ("atari:Pong@JUMP", "unknown action `JUMP`"),
    ):
        result = run("dream", tmp_path / "run", "--start", start, "--actions", "UP", "--out", tmp_path / "no")
        assert (result.code, message in result.err) == (2, True), result.err
