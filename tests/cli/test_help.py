"""Help and version: quick, without PyTorch, on stdout."""

import dataclasses
import shutil
import subprocess
import sys
import typing

import pytest

from vqgan.cli.flags import explanations
from vqgan.cli.main import COMMANDS, flags_of, function_of, main
from vqgan.version import __version__

WITHOUT_TORCH = """
import sys
from vqgan.cli.main import COMMANDS, main

for words in (["--help"], ["--version"], ["train", "--help"], *([*name.split(), "--help"] for name in COMMANDS)):
    assert main(words) == 0, words
    heavy = {"torch", "numpy", "PIL", "yaml", "tqdm", "typeguard", "asyncio"} & set(sys.modules)
    assert not heavy, f"vqgan {' '.join(words)} imports {heavy}"
"""


def test_no_help_imports_torch_or_anything_else_that_is_slow():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: vqgan") == len(COMMANDS) + 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, run):
    result = run(*name.split(), "--help")
    assert result.code == 0
    assert result.err == ""
    assert result.out.startswith(f"usage: vqgan {name} ")
    summary = (flags_of(name).__doc__ or "").splitlines()[0]
    assert summary in " ".join(result.out.split())


def test_every_flag_is_described_and_every_description_has_a_flag():
    checked = 0
    for flags in map(flags_of, COMMANDS):
        names = {each.name for each in dataclasses.fields(flags)}
        assert explanations(flags)[1].keys() == names
        checked += len(names)
    assert checked > 40


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_function_that_takes_its_flags(name):
    assert issubclass(flags_of(name), typing.get_type_hints(function_of(name))["flags"])


def test_the_overview_lists_every_command(run):
    result = run("--help")
    assert result.code == 0
    assert all(f"  {name} " in result.out for name in COMMANDS)


def test_the_version_is_that_of_the_package(run):
    assert run("--version").out == f"vqgan {__version__}\n"


def test_the_package_can_be_run_as_a_module():
    words = [sys.executable, "-m", "vqgan", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"vqgan {__version__}\n", "")


@pytest.mark.parametrize(("words", "usage"), [([], "vqgan COMMAND"), (["train"], "vqgan train STAGE")])
def test_without_a_command_the_overview_goes_to_stderr(words, usage, run):
    result = run(*words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"usage: {usage}")


@pytest.mark.skipif(shutil.which("bash") is None, reason="completes in bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["co"], {"compare", "complete", "convert"}),
        (["train", ""], {"tokenizer", "prior", "classifier", "denoiser", "--help"}),
        (["sample", "runs/a", "--top"], {"--top-k", "--top-p"}),
        (["train", "prior", "--tok"], {"--tokenizer"}),
        (["train", "tokenizer", "--tok"], set()),
        (["sample", "runs"], set()),  # then bash completes files
    ],
)
def test_bash_completes_commands_and_flags(words, expected, run):
    line = " ".join(f"'{word}'" for word in ["vqgan", *words])
    script = (
        f"COMP_WORDS=({line}) COMP_CWORD={len(words)}; _vqgan vqgan '{words[-1]}'; echo ${{COMPREPLY[@]}}"
    )
    completed = ["bash", "-c", run("--completion").out + script]
    done = subprocess.run(completed, capture_output=True, text=True, timeout=60)
    assert (set(done.stdout.split()), done.stderr) == (expected, "")


@pytest.mark.parametrize("no_color", [False, True])
def test_colours_are_for_terminals_and_can_be_turned_off(no_color, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    else:
        monkeypatch.delenv("NO_COLOR", raising=False)
    main(["sample", "--help"])
    assert ("\x1b[" in capsys.readouterr().out) != no_color


def test_an_error_has_no_colours_even_on_a_terminal(monkeypatch, run):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b" not in run("sample").err
