"""Who may import whom: the contracts of import-linter, and no cycles anywhere."""

import graphlib
from pathlib import Path

import grimp
import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("vqgan", exclude_type_checking_imports=True, cache_dir=None)


def test_the_contracts_of_the_layers_hold(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    # It would silence all loggers there are.
    monkeypatch.setattr("logging.config.dictConfig", lambda config: None)
    broken = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True, no_logo=True)
    assert broken == 0, capsys.readouterr().out


def test_no_module_imports_itself_through_others(graph):
    # The root's lazy exports run inside a function, long after all modules are imported.
    modules = graph.modules - {"vqgan"}
    imports = {name: graph.find_modules_directly_imported_by(name) & modules for name in modules}
    graphlib.TopologicalSorter(imports).prepare()


def test_nothing_imports_the_root_or_the_command_line(graph):
    assert graph.find_modules_that_directly_import("vqgan") == set()
    outside = {name for name in graph.modules if not name.startswith("vqgan.cli")}
    importers = {name for name in outside if graph.find_modules_directly_imported_by(name) & _cli(graph)}
    assert importers == {"vqgan.__main__"}


def _cli(graph: grimp.ImportGraph) -> set[str]:
    return {name for name in graph.modules if name.startswith("vqgan.cli")}


def test_no_module_is_a_drawer_for_everything(graph):
    names = {name.rpartition(".")[2] for name in graph.modules}
    assert not names & {"utils", "util", "helpers", "common", "misc"}
