"""The shape of the program: imports point left, `--help` stays light, everything a user can type is explained."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer.main

from dpf.cli.app import app

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "dpf"
FILES = sorted(PACKAGE.rglob("*.py"))
README = REPOSITORY / "README.md"
COMMANDS_PAGE = REPOSITORY / "docs" / "reference" / "commands.md"
ARCHITECTURE_PAGE = REPOSITORY / "docs" / "develop" / "architecture.md"

#: Folder by folder, from left to right: a file or folder imports only from those to its left. Those that stand in one
#: line, apart by commas, do not know of each other. Folders without a line hold files only, and no circle of imports.
ORDERS = {
    "dpf": "errors < files < config < project < tables < splits < regression < model < training, analysis, figures"
    " < simulate < workflows < cli, api < __main__",
    "dpf/tables": "options, schemas < storage, screen < matrix < text < genes, formats < roles < joining"
    " < importing, preparing",
    "dpf/training": "parallel, schedule < compute < data < divergence, inference, pretraining < initial_regression"
    " < member < tuning, probe, resume",
    "dpf/analysis": "latent < ranking < design, evaluation, signatures < layout, attribution",
    "dpf/analysis/design": "item, wells < plates, target_redundancy, variance_explained, position < position_prediction"
    " < depth_prediction < context, controls < items < check",
    "dpf/model": "dropout, initial_regression < encoder < induced, native < network < losses, compiled < checkpoint",
    "dpf/figures": "drawing < ranking, volcano, latent_map, plates, genes, heatmap, reliability, scoreboard, loss_curve"
    " < dose",
    "dpf/workflows": "options, progress < project < predict, check, train < explain, rank, evaluate < info, export",
    "dpf/workflows/rank": "choices, rows, verdicts < wells, classes < evidence, dose, figures,"
    " signatures < table < rank",
    "dpf/workflows/train": "history, targets, tensorboard, time_left < run, log < members < tuning < interrupted"
    " < assemble < train",
    "dpf/cli": "memory, streams < display < session < options < commands < app",
}
LEFT_TO_RIGHT = {
    folder: {name.strip(): rank for rank, names in enumerate(text.split("<")) for name in names.split(",")}
    for folder, text in ORDERS.items()
}
MODULES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES
}
MOST_ENTRIES = 12

#: What each layer may import of what is installed; what is missing here has the standard library only.
THIRD_PARTY = {
    "tables": {"polars", "pyarrow", "numpy", "scipy", "anndata", "pydeseq2", "h5py", "pandas", "fastexcel"},
    "config": set(),
    "project": {"safetensors", "filelock"},
    "splits": {"numpy"},
    "simulate": {"numpy", "polars"},
    "regression": {"numpy", "scipy", "sklearn", "threadpoolctl"},
    "model": {"torch", "safetensors", "numpy"},
    "training": {"torch", "safetensors", "numpy"},
    "analysis": {"numpy", "scipy", "sklearn"},
    "figures": {"matplotlib", "mpl_toolkits", "numpy", "scipy"},
    "workflows": {"numpy", "polars", "torch", "safetensors", "anndata", "umap", "threadpoolctl"},
    "cli": {"typer", "rich"},
}
#: Attribution differentiates the network: the one file of analysis that needs torch.
ALSO = {"analysis/attribution.py": {"torch"}}
#: Packages that only some users have: inside the function that needs them, so that the rest works without.
OPTIONAL = {"anndata", "h5py", "pydeseq2", "umap", "fastexcel", "pandas"}

HEAVY = ("torch", "numpy", "polars", "pyarrow", "scipy", "sklearn", "matplotlib")


class Import(NamedTuple):
    """One imported module, where it stands, whether only a type checker runs it, and whether it waits in a function."""

    module: str
    line: int
    for_types: bool
    in_function: bool


def imports(tree: ast.AST, for_types: bool = False, in_function: bool = False) -> Iterator[Import]:
    """Every import below a node, those inside functions and `if TYPE_CHECKING` included."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(name.name, node.lineno, for_types, in_function) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            module = node.module or ""
            # `from dpf.cli.commands import train` names a module; `from dpf.errors import DataError` does not.
            names = [f"{module}.{name.name}" for name in node.names]
            names = sorted({name if name in MODULES else module for name in names})
            yield from (Import(name, node.lineno, for_types, in_function) for name in names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imports(ast.Module(node.body, []), True, in_function)
            yield from imports(ast.Module(node.orelse, []), for_types, in_function)
        else:
            inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(node, for_types, inside)


def layer_of(path: Path) -> str:
    """The layer of a file: its folder, or its own name on the top level."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def parsed(path: Path) -> list[Import]:
    return list(imports(ast.parse(path.read_text(encoding="utf-8"))))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(path: Path) -> Iterator[tuple[str, int]]:
    """The modules of dpf that a file imports, and in which line.

    Imports for type checkers count as well: what a file's signatures name, its reader has to know.
    """
    for found in parsed(path):
        if found.module.split(".")[0] == "dpf":
            assert found.module in MODULES, f"{name_of(path)}:{found.line} imports {found.module}, which is not there"
            yield found.module, found.line


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_left(path):
    own = module_of(path).split(".")
    for module, line in imported_modules(path):
        other = module.split(".")
        depth = next((i for i, (a, b) in enumerate(zip(own, other, strict=False)) if a != b), min(len(own), len(other)))
        folder = "/".join(own[:depth])
        if folder not in LEFT_TO_RIGHT or depth >= min(len(own), len(other)):
            continue
        order, here, there = LEFT_TO_RIGHT[folder], own[depth], other[depth]
        assert here in order, f"{folder}/{here} has no place in ORDERS"
        assert there in order, f"{folder}/{there} has no place in ORDERS"
        assert order[there] < order[here], f"{name_of(path)}:{line}: {here} imports {module}, which is not to its left"


def test_every_folder_with_folders_has_an_order_of_imports():
    folders = {path.parent.parent.relative_to(REPOSITORY).as_posix() for path in PACKAGE.rglob("__init__.py")} - {"."}
    assert folders <= set(ORDERS), folders - set(ORDERS)
    for folder, order in LEFT_TO_RIGHT.items():
        there = {path.stem for path in (REPOSITORY / folder).iterdir() if not path.name.startswith("__init__")}
        there -= {"py", "__pycache__"}
        assert set(order) <= there, f"{folder}: {set(order) - there} of ORDERS is not there"


def test_no_circle_of_imports():
    # `dpf` itself, which has the version, names its public face for type checkers and loads it when it is used.
    files = [path for path in FILES if path != PACKAGE / "__init__.py"]
    edges = {module_of(path): {module for module, _ in imported_modules(path)} - {"dpf"} for path in files}
    while ends := {module for module, others in edges.items() if not others & set(edges)}:
        edges = {module: others for module, others in edges.items() if module not in ends}
    assert not edges, f"these import each other in a circle, or what is in one: {sorted(edges)}"


def test_a_folder_is_a_room():
    """A newcomer reads a folder at a glance, and a file's name does not say its folder's again."""
    for folder in {path.parent for path in FILES}:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith("__") and entry.name != "py.typed"]
        most = MOST_ENTRIES + 3 * (folder == PACKAGE)  # the layers themselves, and what lies under and over all of them
        assert len(entries) <= most, f"{folder.relative_to(REPOSITORY)} has {len(entries)} entries"
    for path in FILES:
        assert not path.stem.startswith(f"{path.parent.name}_"), name_of(path)


def test_the_architecture_page_names_every_room():
    """The first two levels of folders, and the order of the layers."""
    text = ARCHITECTURE_PAGE.read_text(encoding="utf-8")
    folders = {path.parent.relative_to(REPOSITORY).as_posix() for path in PACKAGE.rglob("__init__.py")} - {"dpf"}
    rooms = {f"{folder}/" for folder in folders if folder.count("/") <= 2}
    assert set(re.findall(r"`(dpf/[\w/]*/)`", text)) == rooms
    assert f"\n{ORDERS['dpf']}\n" in text


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_layer_imports_its_own_packages_only(path):
    layer = layer_of(path)
    allowed = THIRD_PARTY.get(layer, set()) | ALSO.get(name_of(path), set())
    for found in parsed(path):
        root = found.module.split(".")[0]
        if found.for_types or root == "dpf" or root in sys.stdlib_module_names:
            continue
        assert root in allowed, f"{name_of(path)}:{found.line}: {layer} imports {root}"
        lazy = found.in_function or root not in OPTIONAL
        assert lazy, f"{name_of(path)}:{found.line}: {root} is optional and must be imported where it is used"


def test_what_is_imported_is_declared():
    """A package that only comes along with another one can go away with it."""
    content = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    project, tested = content["project"], content["dependency-groups"]["tested"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[<>=~! ]", text)[0].lower() for text in requirements}

    extras = set().union(*map(names, project["optional-dependencies"].values()))
    declared = names(project["dependencies"])
    distribution = {"sklearn": "scikit-learn", "umap": "umap-learn", "mpl_toolkits": "matplotlib"}
    for path in FILES:
        for found in parsed(path):
            root = found.module.split(".")[0]
            if root != "dpf" and root not in sys.stdlib_module_names:
                known = declared | extras if root in OPTIONAL else declared
                assert distribution.get(root, root) in known, f"{name_of(path)}:{found.line}: {root}"
    # UMAP brings a compiler; its figure is tested by hand. TensorBoard is in the group `develop`.
    assert names(tested) >= declared | extras - {"umap-learn", "fastexcel", "tensorboard"}


def test_the_oldest_versions_asked_for_are_those_of_the_session_that_tests_them():
    content = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    project = content["project"]
    asked = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    pinned = dict(text.split("==") for text in content["dependency-groups"]["lowest"] if isinstance(text, str))
    for name, oldest in (text.split(">=") for text in asked):
        if name not in ("umap-learn", "fastexcel"):  # tried by hand
            assert f"{pinned[name]}.".startswith(f"{oldest}."), name


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_hold_no_pickle_and_nothing_left_open(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\bTODO\b|\bFIXME\b", text)
    tree = ast.parse(text)
    forbidden = {"pickle", "cloudpickle", "dill", "joblib", "shelve"}
    assert not {found.module.split(".")[0] for found in imports(tree)} & forbidden
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not calls & {"torch.load", "torch.save", "np.save", "eval", "exec"}
    if layer_of(path) != "cli":
        assert not calls & {"print", "exit", "sys.exit", "input"}
    handlers = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    assert all(handler.type is not None for handler in handlers)


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after running some code."""
    program = f"import sys\n{code}\nprint('\\n'.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    return set(ran.stdout.split())


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["train", "--help"], ["rank", "--no-such-option"]])
def test_help_imports_nothing_scientific(words):
    code = (
        "import contextlib, io\nfrom dpf.__main__ import main\n"
        f"sys.argv = ['dpf', *{words}]\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):\n"
        "    with contextlib.suppress(SystemExit):\n        main()"
    )
    loaded = loaded_by(code)
    assert "dpf" in loaded
    assert not loaded.intersection(HEAVY)


COMMANDS = typer.main.get_command(app).commands


def options(command) -> list:
    return [parameter for parameter in command.params if parameter.param_type_name == "option"]


def long_options(command) -> list[str]:
    """`--name`s of a command, without the negatives of switches, which are said with them."""
    return [name for option in options(command) for name in option.opts if name.startswith("--")]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name):
    command = COMMANDS[name]
    assert (command.help or "").strip().endswith(".")
    for parameter in command.params:
        assert (parameter.help or "").strip(), f"dpf {name}: {parameter.name} has no help"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stands_in_the_readme_and_every_option_in_the_reference(name):
    assert f"dpf {name}" in README.read_text(encoding="utf-8")
    _, _, text = COMMANDS_PAGE.read_text(encoding="utf-8").partition(f"## dpf {name}\n")
    own = text.partition("\n## ")[0]
    absent = [option for option in long_options(COMMANDS[name]) if not re.search(rf"`{option}`", own)]
    assert not absent, f"{COMMANDS_PAGE.name} does not list of dpf {name}: {', '.join(absent)}"


def test_shared_options_say_the_same_everywhere():
    """One option, one declaration: a flag that two commands have means one thing, but for a few that are named here."""
    meanings: dict[str, set[str]] = {}
    for name, command in COMMANDS.items():
        for option in options(command):
            for flag in option.opts:
                meanings.setdefault(flag, set()).add(f"{name}: {option.help}")
    by_help = {flag: {text.split(": ", 1)[1] for text in texts} for flag, texts in meanings.items()}
    different = {flag for flag, texts in by_help.items() if len(texts) > 1}
    # --model is also a file where a model is only read; --format and --output are of what the command writes;
    # --genes and --seed of the simulation are not those of a figure and of a training; --member is trained or drawn;
    # --overwrite is of a model or of files.
    assert different <= {"--model", "--format", "--output", "--genes", "--seed", "--member", "--overwrite"}
