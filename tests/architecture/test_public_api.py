"""The one public namespace: what it lists is what it gives, and it is quick."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vqgan


def test_the_public_names_are_sorted_and_distinct():
    assert vqgan.__all__ == sorted(set(vqgan.__all__))
    assert dir(vqgan) == vqgan.__all__


@pytest.mark.parametrize("name", vqgan.__all__)
def test_every_public_name_can_be_used(name):
    assert getattr(vqgan, name) is not None


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(vqgan.__file__).read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname or alias.name for node in guarded.body for alias in node.names}  # type: ignore[attr-defined]
    assert sorted(seen) == vqgan.__all__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="`Tokeniser`"):
        vqgan.Tokeniser  # noqa: B018


def test_importing_the_package_imports_no_other():
    script = """
import sys
before = set(sys.modules)
import vqgan
new = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
assert new == {"vqgan"}, new
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
