"""Promises about the source that a reader can rely on: small files, no prints, nothing that runs foreign code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "vqgan"
FILES = sorted(SOURCE.rglob("*.py"))
TREES = {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[str, Function]]:
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield f"{name}:{node.lineno} {node.name}", node


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def keywords(call: ast.Call) -> dict[str | None, str]:
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}


def test_no_file_is_longer_than_400_lines():
    lengths = {path.relative_to(SOURCE): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not {name: length for name, length in lengths.items() if length > 400}


def test_no_function_is_longer_than_60_lines():
    lengths = {where: (node.end_lineno or 0) - node.lineno + 1 for where, node in functions()}
    assert not {where: length for where, length in lengths.items() if length > 60}


def test_constructors_take_a_config_or_at_most_six_parameters_by_name():
    bad = []
    for where, node in functions():
        positional = [each.arg for each in node.args.posonlyargs + node.args.args][1:]
        named = [each.arg for each in node.args.kwonlyargs]
        plain = node.name == "__init__" and "config" not in positional + named
        if plain and (len(positional) > 2 or len(positional) + len(named) > 6):
            bad.append((where, positional, named))
    assert not bad


def test_every_function_is_annotated():
    bad = []
    for where, node in functions():
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        missing = [
            each.arg for each in arguments if each.annotation is None and each.arg not in ("self", "cls")
        ]
        if missing or node.returns is None:
            bad.append((where, missing))
    assert not bad


def test_only_the_command_line_prints():
    printing = {
        name
        for name, tree in TREES.items()
        for call in calls(tree)
        if isinstance(call.func, ast.Name) and call.func.id == "print"
    }
    assert printing
    assert all(name.startswith("cli/") for name in printing)


FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "importlib.import_module",
    "import_module",
    "os.system",
    "os.popen",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "yaml.unsafe_load",
    "yaml.full_load",
    "yaml.load_all",
}

FORBIDDEN_KEYWORDS = {
    ("weights_only", "False"),
    ("allow_pickle", "True"),
    ("shell", "True"),
    ("trust_remote_code", "True"),
}


def dangerous(tree: ast.AST) -> list[str]:
    """Calls that can run code which stands in a file, and loads that hide what does not fit."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    safe_loaders = {each.name for each in classes if [*map(ast.unparse, each.bases)] == ["yaml.SafeLoader"]}
    found = []
    for call in calls(tree):
        name, given = ast.unparse(call.func), keywords(call)
        if name in FORBIDDEN_CALLS or FORBIDDEN_KEYWORDS & set(given.items()):
            found.append(ast.unparse(call))
        if name == "torch.load" and given.get("weights_only") != "True":
            found.append(ast.unparse(call))
        if name == "yaml.load" and given.get("Loader") not in safe_loaders:
            found.append(ast.unparse(call))
        if name.endswith("load_state_dict") and given.get("strict") != "True":
            found.append(ast.unparse(call))
    # Names taken out of these modules would slip through the checks above.
    aliases = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    closed = ("pickle", "yaml", "importlib", "subprocess")
    return found + [ast.unparse(node) for node in aliases if node.module in closed]


LAZY = {"__init__.py": ("_MODULES", "_MODULES[name]"), "cli/main.py": ("COMMANDS", "COMMANDS[name][0]")}
"""The two tables of modules that are imported when they are needed, and the only way to import from them."""


@pytest.mark.parametrize("name", TREES)
def test_nothing_runs_code_from_files_or_hides_what_does_not_fit(name):
    allowed = [f"importlib.import_module({LAZY[name][1]})"] if name in LAZY else []
    assert dangerous(TREES[name]) == allowed


@pytest.mark.parametrize("name", LAZY)
def test_what_is_imported_later_is_named_in_a_table_of_constants(name):
    table = LAZY[name][0]
    (value,) = (
        node.value
        for node in TREES[name].body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == table
    )
    assert isinstance(value, ast.Dict)
    for entry in value.values:
        words = [node for node in ast.walk(entry) if isinstance(node, ast.Constant)]
        module = words[0].value.removeprefix("vqgan.").replace(".", "/")
        assert {f"{module}.py", f"{module}/__init__.py"} & TREES.keys(), ast.unparse(entry)
        assert all(isinstance(each, ast.Constant) for each in getattr(entry, "elts", [entry]))
    changed = [node for node in ast.walk(TREES[name]) if isinstance(node, ast.Name) and node.id == table]
    assert [type(node.ctx) for node in changed].count(ast.Store) == 1


@pytest.mark.parametrize(
    "code",
    [
        "pickle.load(file)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
        "importlib.import_module(name)",
        "from importlib import import_module",
        "yaml.load(text, Loader=yaml.Loader)",
        "class Loader(yaml.Loader): ...\nyaml.load(text, Loader=Loader)",
        "subprocess.run(text, shell=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "model.load_state_dict(state)",
        "model.load_state_dict(state, strict=False)",
    ],
)
def test_the_check_finds_each_danger(code):
    assert dangerous(ast.parse(code)) != []


def test_names_of_the_original_appear_only_where_its_files_are_read():
    names = (
        r"\b(n_embed|embed_dim|z_channels|z_q|ch_mult|quant_conv|post_quant_conv|lossconfig|legacy|VQModel"
        r"|first_stage|cond_stage|cond_stage_model|Net2NetTransformer|n_layer|n_head|n_embd|block_size|pkeep|permuter)\b"
    )
    found = {}
    for path in FILES:
        relative = path.relative_to(SOURCE).as_posix()
        if not relative.startswith("checkpoints/") and relative != "presets/original.py":
            found[relative] = re.findall(names, path.read_text(encoding="utf-8"))
    assert not {name: words for name, words in found.items() if words}
