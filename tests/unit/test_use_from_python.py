"""Python as people write it, in a process without the type checks of the tests, which would speak first."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SETUP = """
import json, sys, warnings
import numpy as np, torch, vqgan
from PIL import Image
sys.path.insert(0, TESTS)
import tiny
tokenizer = tiny.tokenizer().eval()
images = torch.rand(2, tokenizer.image_channels, 8, 8) * 2 - 1
codes = tokenizer.encode(images)
"""

WRONG = {
    "tokenizer.encode(images.numpy())": "the images are a ndarray, expected a tensor|`vqgan.read_images`",
    "tokenizer.encode((images * 100).to(torch.uint8))": "the images hold torch.uint8, expected floating-point",
    "tokenizer.encode(images * 0 + float('nan'))": "hold values that are not finite",
    "tokenizer.encode((images + 1) * 127.5)": "expected [-1, 1]|`images / 127.5 - 1`",
    "tokenizer.decode(codes.flatten())": "expected grids (b h w)|`indices.reshape(-1, h, w)`",
    "tokenizer.decode(codes.flatten(1))": "expected grids (b h w)|`indices.reshape(-1, h, w)`",
    "tokenizer.decode(codes[0])": "expected grids (b h w)|`indices[None]`",
    "tokenizer.decode(codes.numpy())": "the indices are a ndarray, expected a tensor|`torch.from_numpy(",
    "tokenizer.decode(codes.float())": "the indices are a tensor of torch.float32",
    "synthesizer.sample('4')": "`count` is '4', expected a whole number",
    "synthesizer.sample(2.0)": "`count` is 2.0, expected a whole number",
    "synthesizer.sample(1, condition='round')": "`condition` is 'round', expected a mapping by name|condition={",
    "synthesizer.sample(0)": "`count` is 0, expected a whole number",
    "synthesizer.sample(1, size='256')": "`size` is '256', expected whole numbers|`size=256`",
    "synthesizer.sample(1, size=2.5)": "`size` is 2.5, expected whole numbers",
    "synthesizer.sample(1, size=(8, 8, 8))": "`size` is (8, 8, 8), expected whole numbers",
    "synthesizer.sample(1, size=(8.0, 8))": "`size` is (8.0, 8), expected whole numbers",
    "synthesizer.sample(1, temperature='1')": "`temperature` is '1', expected 0 or a number",
    "synthesizer.sample(1, top_p='1')": "`top_p` is '1', expected 0 < top_p <= 1",
    "synthesizer.sample(1, memory='4')": "`memory` is '4', expected a number of bytes",
    "synthesizer.sample(1, condition=condition, jacobi='2')": "`jacobi` is '2', expected at least 2 tokens",
    "synthesizer.sample(1, window_stride=2.0)": "`window_stride` is 2.0, expected at least 1 token",
    "synthesizer.complete(images[:0], codes[:0] == 0)": "have the shape (0, 1, 8, 8), expected at least one",
    "vqgan.inpaint(synthesizer, images, codes == 0)": "`kept` holds torch.bool of the shape (2, 2, 2), expected torch.bool (2, 8, 8)|on pixels",
    "vqgan.inpaint(synthesizer, images, images[:, 0] > 0, condition, margin=0.5)": "`margin` is 0.5, expected a whole number",
    "synthesizer.complete(images, codes == 0, condition, refine=2.0)": "`refine` is 2.0, expected a whole number",
    "synthesizer.reconstruct(images[:0])": "have the shape (0, 1, 8, 8), expected at least one",
    "tokenizer(images[:0])": "have the shape (0, 1, 8, 8), expected at least one",
    "tokenizer.encode(images[:0])": "have the shape (0, 1, 8, 8), expected at least one|`vqgan.read_images`",
    "tokenizer.decode(codes[:0])": "there are no indices: their shape is (0, 2, 2)|`encode` gives",
    "tokenizer.decode(codes.flatten()[0])": "expected grids (b h w)",
    "tokenizer.grid_size('8')": "`size` is '8', expected whole numbers",
    "vqgan.write_images([], 'out')": "the images are a list, expected a tensor|`vqgan.read_images`",
    "vqgan.write_images(images[:0], 'out')": "have the shape (0, 1, 8, 8), expected at least one",
    "vqgan.write_images(images.numpy(), 'out')": "the images are a ndarray, expected a tensor",
    "vqgan.write_images(images.to(torch.uint8), 'out')": "the images hold torch.uint8, expected floating-point",
    "vqgan.write_images(images[0], 'one.jpg')": "`one.jpg` is not a PNG file|`NAME.png` or a folder",
    "vqgan.write_images(images, 'two.JPEG')": "`two.JPEG` is not a PNG file",
    "vqgan.to_pictures(images.expand(2, 2, 8, 8))": "images of 2 channels cannot be shown",
    "vqgan.to_pictures(torch.zeros(1, 5, 8, 8))": "images of 5 channels cannot be shown|`images[:, :3]`",
    "vqgan.to_pictures(images.numpy())": "the images are a ndarray, expected a tensor",
    "vqgan.to_sheet(images[:0])": "have the shape (0, 1, 8, 8), expected at least one",
    "vqgan.to_sheet(images, 2.5)": "a grid of 2.5 columns",
    "vqgan.read_images(images)": "image 0 is a tensor of torch.float32, expected a path",
    "vqgan.read_images(None)": "image 0 is a NoneType, expected a path",
    "vqgan.read_images('one.png', size='4')": "`size` is '4', expected whole numbers",
    "vqgan.read_images('one.png', size=(4,))": "`size` is (4,), expected whole numbers",
    "vqgan.write_images(images, 'two.png')": "`two.png` is one file for 2 images",
    "vqgan.train(run, out='run', data=5)": "the data is a int, expected the name of a source, a list of paths, an array",
    "vqgan.train(run, out='run', data={'a.png': 1})": "the data is a dict, expected",
    "vqgan.train(run, out='run', data=np.zeros((4, 4, 3), np.uint8))": "the data is a ndarray(4, 4, 3), expected",
    "vqgan.train(run, out='run', data=iter([]))": "the data is a list_iterator, expected",
    "vqgan.train(run, out='run', data=[])": "the list holds no images",
    "vqgan.train(run, out='run', data=[{'image': 1}] * 9)": "8  the image is a dict, expected a PIL picture, an array or a tensor",
    "vqgan.train(run, out='run', data=images)": "the image holds values from -",
    "vqgan.read_images('empty')": "`empty` holds no images",
    "vqgan.read_images([3])": "image 0 is a int, expected a path, a PIL picture or an array",
    "vqgan.read_images(np.zeros((4, 4, 2), np.uint8))": "image 0 has 2 channels, expected 3",
    "vqgan.read_images(np.full((4, 4), 3.0))": "image 0 holds values from 3 to 3",
}

RIGHT = """
from pathlib import Path
Image.fromarray(np.full((6, 4), 255, np.uint8)).save("one.png")
Path("many").mkdir()
for name in "ab":
    Image.fromarray(np.zeros((6, 4, 3), np.uint8)).save(f"many/{name}.png")
for name in ("a/x10.png", "a/x9.png", "b.png"):
    Path("deep/.hidden").mkdir(parents=True, exist_ok=True)
    Path("deep/a").mkdir(exist_ok=True)
    Image.new("L", (4, 4), 10 * len(name)).save(Path("deep") / name)
Path("deep/notes.pdf").touch()
Image.new("L", (4, 4)).save("deep/.hidden/c.png")
deep = vqgan.read_images("deep")
assert torch.equal(deep, vqgan.read_images(["deep/a/x9.png", "deep/a/x10.png", "deep/b.png"]))
red = Image.new("RGB", (4, 4), (255, 0, 0))
for mode in ("HSV", "RGBX", "YCbCr", "CMYK", "RGBA"):
    found = vqgan.to_pictures(vqgan.read_images(red.convert(mode)))[0].getpixel((0, 0))
    assert all(abs(a - b) < 3 for a, b in zip(found, (255, 0, 0))), (mode, found)
for grey in (Image.new("LA", (4, 4), (128, 255)).convert("La"), Image.new("PA", (4, 4)), Image.new("I", (4, 4)),
             Image.new("RGBa", (4, 4)), Image.new("I;16L", (4, 4)), Image.new("LAB", (4, 4))):
    assert vqgan.read_images(grey).shape == (1, 3, 4, 4), grey.mode
white = vqgan.read_images("one.png")
assert white.shape == (1, 3, 6, 4) and white.min() == 1
assert vqgan.read_images("many").shape == (2, 3, 6, 4)
for same in (
    Image.open("one.png"), np.full((6, 4), 255, np.uint8), np.full((6, 4, 1), 65535, np.uint16),
    [np.ones((6, 4, 3))], [Image.open("one.png").convert("F")], ["one.png"],
):
    assert torch.equal(vqgan.read_images(same), white), same
assert vqgan.read_images(["one.png", np.zeros((9, 9), np.uint8)], size=4).shape == (2, 3, 4, 4)
assert [str(path) for path in vqgan.write_images(white[0], "back.png")] == ["back.png"]
assert torch.equal(vqgan.read_images("back.png"), white)
assert [path.name for path in vqgan.write_images(white[0], "folder")] == ["000000.png"]
assert [each.size for each in vqgan.to_pictures(vqgan.read_images("many"))] == [(4, 6)] * 2
assert vqgan.to_sheet(vqgan.read_images("many")).size == (14, 10)
assert repr(tokenizer).startswith("Tokenizer(VectorQuantizer, ") and "\\n" not in repr(tokenizer)
assert repr(tokenizer) in repr(synthesizer) and "\\n" not in repr(synthesizer)
assert "(encoder): Encoder(" in tokenizer.tree() and "(prior): Prior(" in synthesizer.tree()
two, one = np.int64(2), np.int32(1)
assert vqgan.read_images("one.png", size=two).shape == (1, 3, 2, 2)
drawn = synthesizer.sample(two, (np.int64(8), 8), condition, seed=one, top_k=two, jacobi=two, memory=np.int64(2**32))
assert torch.equal(drawn, synthesizer.sample(2, 8, condition, seed=1, top_k=2))
side = synthesizer.config.window[0] * tokenizer.downsample_factor
assert synthesizer.sample(1, size=2 * side, condition=condition).shape[2:] == (2 * side, 2 * side)
"""

TRACED = """
class Decode(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.tokenizer = tokenizer
    def forward(self, codes):
        return self.tokenizer.decode(codes)
class Encode(Decode):
    def forward(self, images):
        return self.tokenizer.encode(images)
with torch.no_grad():
    expected = tokenizer.decode(codes)
    assert torch.equal(torch.export.export(Encode(), (images,)).module()(images), codes)
    torch.testing.assert_close(torch.export.export(Decode(), (codes,)).module()(codes), expected)
    compiled = {name: torch.compile(getattr(tokenizer, name), fullgraph=True, backend="eager") for name in ("encode", "decode")}
    assert torch.equal(compiled["encode"](images), codes)
    torch.testing.assert_close(compiled["decode"](codes), expected)
    warnings.filterwarnings("error", "Converting a tensor to a Python (float|integer)")
    assert torch.equal(torch.jit.trace(Encode(), images, check_trace=False)(images), codes)
    torch.testing.assert_close(torch.jit.trace(Decode(), codes, check_trace=False)(codes), expected)
"""


def run(script: str, folder: Path) -> str:
    (folder / "empty").mkdir()
    tests = repr(str(Path(__file__).parents[1]))
    script = SETUP.replace("TESTS", tests) + SYNTHESIZER + script
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=folder, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


SYNTHESIZER = """
synthesizer = tiny.synthesizer().eval()
condition = {"class": 0}
run = tiny.tokenizer_run()
"""


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    script = f"""
found = {{}}
for line in {list(WRONG)!r}:
    try:
        eval(line)
    except vqgan.VqganError as error:
        found[line] = str(error)
print(json.dumps(found))
"""
    return json.loads(run(script, tmp_path_factory.mktemp("wrong")))


@pytest.mark.parametrize("line", WRONG)
def test_what_people_write_by_mistake_is_explained(messages, line):
    assert line in messages, "no error of ours"
    for part in WRONG[line].split("|"):
        assert part in messages[line]


def test_both_directions_are_traced_whole(tmp_path):
    run(TRACED, tmp_path)


def test_what_people_write_works_and_imports_no_compiler(tmp_path):
    run(
        RIGHT
        + """
model = tiny.synthesizer()
vqgan.save_model(model, "model.safetensors")
vqgan.save_model(tiny.tokenizer(normalize=True), "normal.safetensors")
model = vqgan.load("model.safetensors", device="cpu")
vqgan.load("normal.safetensors", device="cpu").encode(images)
model.sample(1, condition={"class": 0})
model.reconstruct(images)
from vqgan.cli.main import main
assert main(["info", "model.safetensors"]) == 0
slow = {"sympy", "torch._dynamo", "torch.fx.experimental.symbolic_shapes"} & set(sys.modules)
assert not slow, slow
""",
        tmp_path,
    )


def test_codes_without_their_description_are_explained(tmp_path):
    import numpy as np

    from vqgan.checkpoints.codes import load_codes
    from vqgan.errors import DataError

    np.save(tmp_path / "codes.npy", np.zeros((1, 2, 2), np.uint16))
    with pytest.raises(DataError, match=r"has `codes\.npy` but no"):
        load_codes(tmp_path, digest="")
