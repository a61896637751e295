"""Only the owner changes what all threads of a process share, but for processes that have nobody to share it with."""

import ast
import re
from pathlib import Path

import tensorflow as tf

from tests.helpers.refusals import PACKAGE

OWNER = "process_state.py"

CHANGES = re.compile(
    r"os\.environ\.(setdefault|update|pop|clear)|os\.(putenv|unsetenv|dup2|umask|chdir|register_at_fork)|signal\.signal"
    r"|(contextlib\.)?redirect_std(out|err)|warnings\.(catch_warnings|simplefilter|filterwarnings|resetwarnings)"
    r"|logging\.(basicConfig|disable|captureWarnings|setLoggerClass)|.*\.(setLevel|addHandler|addFilter)"
    r"|gc\.(enable|disable|freeze)|threading\.R?Lock|.*\.(seterr|seed|set_seed|set_random_seed|clear_session)"
    r"|tf\.config\..*set_.*|tf\.config\.run_functions_eagerly|keras\.config\.(set|enable|disable)_.*"
    r"|matplotlib\.(use|style\.(use|context)|rc|rc_context)|plt\.(?!close).*|setattr|delattr"
)
"""Calls that change it, or may do so."""

EXCUSED = {
    "__init__.py: os.environ.setdefault": "TensorFlow reads its log level once, when it is imported",
    "cli.py": "the command line has a process of its own",
    "__main__.py": "the command line has a process of its own",
    "terminal.py": "the command line has a process of its own",
    "runtime/attended.py": "the command line has a process of its own",
    "runtime/trial_worker.py: os.dup2": "a worker has a process of its own",
    "runtime/worker.py: os.dup2": "a worker has a process of its own",
    "runtime/worker.py: signal.signal": "a worker has a process of its own",
    "runtime/worker.py: os.register_at_fork": "a forked process leaves workers to the one that started them",
    "runtime/runner.py: os.register_at_fork": "a lock of one runner",
    "runtime/runner.py: threading.RLock": "a lock of one runner",
    "runtime/isolated.py: os.register_at_fork": "a forked process leaves workers to the one that started them",
    "sweeping/worker.py: sys.modules.backend.clear_session": "not in a process that has models of its own",
    "stock/worker.py: os.environ": "a worker has a process of its own",
    "stock/worker.py: gc.freeze": "a worker has a process of its own",
    "sources/first_load.py: keras_files.import_keras.backend.clear_session": "in the worker",
    "stock/converter.py: keras.config": "Keras has this setting for each thread",
    "display/picture.py: matplotlib.style.context": "under `alone`",
    "gate_pictures/figure.py: matplotlib.rc_context": "under `alone`",
    "sources/keras_calls.py: setattr": "of a layer that is made there",
    "sources/lingvo_modules.py: setattr": "of the module itself",
    "passes/": "parts of a file",
    "tflite/": "parts of a file",
}
"""How places begin that may do so, and why."""


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Subscript):
        return dotted(node.value)
    if isinstance(node, ast.Call):
        return dotted(node.func)
    return (
        f"{dotted(node.value)}.{node.attr}".lstrip(".") if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    )


def changes_of(tree: ast.Module):
    """Names of what a module calls that changes shared state, and of attributes of other modules that it sets."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    modules = {alias.asname or alias.name.partition(".")[0] for node in imports for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and CHANGES.fullmatch(dotted(node)):
            yield dotted(node)
        targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Delete)):
            yield from (
                dotted(each)
                for target in targets
                for each in (target.elts if isinstance(target, ast.Tuple) else [target])
                if not isinstance(each, ast.Name) and dotted(each).partition(".")[0] in modules
            )


def all_changes() -> list[str]:
    paths = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
    return [f"{name}: {change}" for name, path in paths.items() for change in changes_of(ast.parse(path.read_text()))]


def test_only_the_owner_changes_what_threads_share():
    changes = [each for each in all_changes() if not each.startswith(OWNER)]
    assert [each for each in changes if not each.startswith(tuple(EXCUSED))] == []
    assert [place for place in EXCUSED if not any(each.startswith(place) for each in changes)] == []


def test_each_kind_is_found():
    source = """
import os, sys, warnings, keras
os.environ["A"] = "1"
del os.environ["A"]
sys.stdout, x = 1, 2
keras.layers.LSTM.call = None
with contextlib.redirect_stdout(x), warnings.catch_warnings():
    tf.get_logger().setLevel(3)
    setattr(keras, "a", 1)
x.os = {}
"""
    assert sorted(changes_of(ast.parse(source))) == sorted(
        ["os.environ"] * 2
        + ["sys.stdout", "keras.layers.LSTM.call", "contextlib.redirect_stdout", "warnings.catch_warnings"]
        + ["tf.get_logger.setLevel", "setattr"]
    )


def test_the_owner_imports_neither_tensorflow_nor_keras():
    tree = ast.parse((PACKAGE / OWNER).read_text())
    names = [
        getattr(node, "module", None) or node.names[0].name
        for node in ast.walk(tree)
        if "Import" in type(node).__name__
    ]
    assert not [name for name in names if re.match("tensorflow|keras|tf_keras", name)]
    assert "process_state.py" in (Path(PACKAGE).parent / "CONTRIBUTING.md").read_text()


def test_what_it_takes_for_granted_of_tensorflow():
    """Whether TensorFlow is in use is seen from its context."""
    from lstm_toolkit import process_state

    tf.ones(())
    assert process_state._tensorflow_runs()
    assert process_state._has_native_threads()
