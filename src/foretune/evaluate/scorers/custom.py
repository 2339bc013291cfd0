"""The user's own scorer: a Python function (prediction, target) -> float, named as module:function."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

from foretune.errors import ScoreError
from foretune.evaluate.scorers.spec import SampleScorer, ScorerSpec

__all__ = ["check_arguments", "load_scorer"]


def load_scorer(name: str) -> ScorerSpec:
    """The function named `package.module:function`, as a graded scorer where higher is better.

    The module is a file of the current folder (`metrics:helpful` is `helpful` in metrics.py), or else an installed
    one. Raises ScoreError where the module, or a function of two arguments in it, is not there.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise ScoreError(f"{name!r} names no scorer, expected module:function", fix='scorers = ["metrics:helpful"]')
    function = getattr(_load_module(module_name, name), function_name, None)
    if not callable(function):
        raise ScoreError(
            f"{name}: {module_name} has no function {function_name}",
            fix=f"def {function_name}(prediction: str, target: str) -> float: ...",
        )
    check_arguments(function, name)
    summary = (inspect.getdoc(function) or "your own scorer").splitlines()[0]
    return ScorerSpec(name, function, "graded", summary, score_range=None, is_foreign=True)


def _load_module(module_name: str, name: str) -> ModuleType:
    path = Path(*module_name.split(".")).with_suffix(".py")
    fix = f"run foretune in the folder that holds {path}, or install the package that {module_name} is in"
    try:
        if not path.is_file():
            return importlib.import_module(module_name)
        own_name = f"foretune_own_scorers.{module_name}"  # so that it hides no module of the same name
        spec = importlib.util.spec_from_file_location(own_name, path)
        if spec is None or spec.loader is None:
            raise ScoreError(f"{name}: {path} cannot be loaded", fix=fix)
        module = sys.modules[own_name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as error:
        raise ScoreError(f"{name}: {error}", fix=fix) from error
    except SyntaxError as error:
        raise ScoreError(f"{name}: {error.filename}:{error.lineno}: {error.msg}", fix="mend that line") from error
    return module


def check_arguments(function: SampleScorer, name: str) -> None:
    """Raise ScoreError where the function does not take (prediction, target)."""
    try:
        inspect.signature(function).bind("prediction", "target")
    except TypeError as error:
        raise ScoreError(
            f"{name} cannot be called with (prediction, target): {error}",
            fix=f"def {name.rpartition(':')[2]}(prediction: str, target: str) -> float: ...",
        ) from error
