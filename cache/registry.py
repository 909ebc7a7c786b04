"""One lazy registry for everything that has a name: backbones, heads, dataset layouts.

A target is "module:attribute" and is imported when it is asked for, so that `mmdf --help` loads no torch.
"""

import ast
import difflib
import importlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

from mmdf.cache.errors import UsageError

T = TypeVar("T")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known name, or an empty one."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""


class Registry(Generic[T]):
    """Names to lazily imported objects of one kind.

    Parameters
    ----------
    kind
        What is registered, as it stands in error messages: "head", "dataset layout".
    targets
        Name to "package.module:attribute".
    """

    def __init__(self, kind: str, targets: dict[str, str]) -> None:
        self.kind = kind
        self._targets: dict[str, str | Callable] = dict(targets)

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def add(self, name: str, target: str | Callable) -> None:
        """Register one more, a "module:attribute" or the object itself; `UsageError` if the name has another target."""
        if self._targets.setdefault(name, target) != target:
            raise UsageError(f"There is a {self.kind} called '{name}' already. Choose another name.")

    def get(self, name: str) -> T:
        """The object called `name`; `UsageError` with the nearest name and the whole list if there is none."""
        self.check(name)
        target: Any = self._targets[name]
        if isinstance(target, str):
            module, attribute = target.split(":")
            target = getattr(importlib.import_module(module), attribute)
        return target

    def describe(self, name: str) -> str:
        """The first line of the docstring of the module where `name` lives, read without importing it."""
        self.check(name)
        target = self._targets[name]
        module = target.split(":")[0] if isinstance(target, str) else target.__module__
        spec = importlib.util.find_spec(module)
        source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
        return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]

    def check(self, name: str) -> None:
        """Raise `UsageError` unless `name` is registered. Imports nothing."""
        if name not in self._targets:
            hint = did_you_mean(name, self._targets)
            raise UsageError(f"Unknown {self.kind} '{name}'.{hint} Available: {', '.join(sorted(self._targets))}.")
