"""From a target to a program that can be run: import, call the factory, make sense of its result."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import graphlens
from graphlens.capture.lane import without_recorder
from graphlens.capture.program import Program, call_user, subject_program, tensors_program
from graphlens.errors import GraphlensError, TargetError
from graphlens.lessons import FACTORIES
from graphlens.subject import Subject
from graphlens.targets import Target

_LIBRARIES = (str(Path(torch.__file__).parent), str(Path(graphlens.__file__).parent), "<frozen ")


def resolve(target: Target, options: Mapping[str, object]) -> Program:
    """Build the target's program.

    Raises:
        TargetError: it cannot be imported or built, an option is unknown, or the factory's result
            is nothing that can be run. The user's own error is quoted with its file and line.
    """
    factory = FACTORIES[target.place] if target.kind == "lesson" else _find(target)
    _check_options(target, factory, options)

    def build() -> Any:
        with user_code(target, "the factory"):
            return call_user(factory, **options)

    random_state = torch.get_rng_state()
    made = build()
    program = _program(target, made, build, random_state)

    def forward() -> Any:
        with user_code(target, "the forward pass"):
            return program.forward()

    return replace(program, forward=forward, options={**_defaults(factory), **options})


def _program(target: Target, made: Any, build: Callable[[], Any], random_state: torch.Tensor) -> Program:
    if isinstance(made, Subject):
        return subject_program(replace(made, name=target.text))
    if isinstance(made, torch.Tensor):
        return _tensors(target, made, build, random_state)
    if isinstance(made, tuple) and made:
        if all(isinstance(item, torch.Tensor) for item in made):
            return _tensors(target, made, build, random_state)
        module, *rest = made
        if isinstance(module, type) and len(rest) in (1, 2):
            name = module.__name__
            raise TargetError(
                f"{target.text}: the factory returned the class {name}; return an object, ({name}(…), args)"
            )
        if callable(module) and len(rest) in (1, 2):
            args, kwargs = rest[0], rest[1] if len(rest) == 2 else {}
            args = (args,) if isinstance(args, torch.Tensor) else args
            if isinstance(args, (tuple, list)) and isinstance(kwargs, Mapping):
                return subject_program(Subject(module, tuple(args), dict(kwargs), name=target.text))
    raise TargetError(
        f"{target.text}: the factory returned {_described(made)}; it must return a tensor, a tuple of tensors, "
        "(module, args), (module, args, kwargs) or a graphlens.Subject"
    )


def _tensors(target: Target, first: Any, build: Callable[[], Any], random_state: torch.Tensor) -> Program:
    pending = [first]  # the first pass uses what was built already

    def make() -> tuple[torch.Tensor, ...]:
        made = pending.pop() if pending else build()
        return (made,) if isinstance(made, torch.Tensor) else made

    def anew() -> None:
        if pending:
            pending.clear()
            torch.set_rng_state(random_state)  # so that the same numbers are made again

    return replace(tensors_program(target.text, make), anew=anew)


def _described(value: object) -> str:
    if isinstance(value, (tuple, list)):
        inside = ", ".join(type(item).__name__ for item in value[:4])
        return f"a {type(value).__name__} of {len(value)} ({inside})"
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _check_options(target: Target, factory: Callable[..., Any], options: Mapping[str, object]) -> None:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return
    keywords = [p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    known = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in keywords]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        unknown = sorted(set(options) - {p.name for p in keywords})
        if unknown:
            have = f"its options are {', '.join(known)}" if known else "it takes no options"
            raise TargetError(f"{target.text} has no option {unknown[0]!r}; {have}")
    missing = [p.name for p in keywords if p.default is p.empty and p.name not in options]
    missing += [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY and p.default is p.empty]
    if missing:
        raise TargetError(f"{target.text} needs {missing[0]!r}; pass --set {missing[0]}=…")


def _defaults(factory: Callable[..., Any]) -> dict[str, object]:
    """The factory's options that were left alone, as far as they can be written down."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return {}
    plain = (str, int, float, bool, type(None))
    return {name: p.default for name, p in parameters.items() if isinstance(p.default, plain)}


_MOST_NAMES = 8


def _find(target: Target) -> Callable[..., Any]:
    with user_code(target, "the import"):
        module = _import_file(target) if target.kind == "file" else _import_module(target)
    found: Any = module
    for name in target.factory.split("."):
        if not hasattr(found, name):
            own = getattr(module, "__name__", None)
            functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
            here = sorted(key for key in functions if getattr(module, key).__module__ == own and key[0] != "_")
            more = f" and {len(here) - _MOST_NAMES:,} more" if len(here) > _MOST_NAMES else ""
            hint = f"; it has {', '.join(here[:_MOST_NAMES])}{more}" if here else "; it defines no public function"
            raise TargetError(f"{target.text}: {target.place} has no {target.factory!r}{hint}")
        found = getattr(found, name)
    if not callable(found):
        raise TargetError(f"{target.text}: {target.factory} is {_described(found)}, not a function to call")
    return found  # type: ignore[no-any-return]


def _import_module(target: Target) -> ModuleType:
    # As `python -m` does: modules in the current folder can be named.
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return importlib.import_module(target.place)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if target.place == missing or target.place.startswith(f"{missing}."):
            raise TargetError(f"{target.text}: there is no module {missing!r}; check its name") from error
        raise


_neighbours: set[str] = set()  # modules that the last file target imported from its own folder


def _lies_in(folder: Path, module: ModuleType) -> bool:
    place = getattr(module, "__file__", None)
    return place is not None and Path(place).is_relative_to(folder) and not _is_library(place)


def _import_file(target: Target) -> ModuleType:
    path = Path(target.place).resolve()
    name = f"graphlens_target_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"{target.text}: {target.place} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    # Its neighbours can be imported, as when the file is run by itself; those of a target before it
    # are forgotten, because old/model.py and new/model.py may each have a data.py.
    for neighbour in _neighbours:
        sys.modules.pop(neighbour, None)
    _neighbours.clear()
    sys.path.insert(0, str(path.parent))
    before = set(sys.modules)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        _neighbours.update(new for new in set(sys.modules) - before if _lies_in(path.parent, sys.modules[new]))
    return module


@contextlib.contextmanager
def user_code(target: Target, what: str) -> Iterator[None]:
    """Run the user's code: its prints go to stderr, and its errors become one line with its place."""
    try:
        # Standard output belongs to the report; with --json it must hold one document alone.
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except GraphlensError:
        raise
    except (Exception, SystemExit) as error:
        message = " ".join(str(error).split())[:400]
        if target.kind == "lesson" and isinstance(error, ValueError):
            raise TargetError(f"{target.text}: {message}") from error
        if _is_own_fault(error):
            raise
        place, kind = _place(error), type(error).__name__
        where = f" at {place}" if place else ""
        raise TargetError(f"{target.text}: {what} failed{where}: {kind}: {message}".rstrip(": ")) from error


def _is_own_fault(error: BaseException) -> bool:
    """Whether graphlens itself raised: a bug to be seen whole, not a user's mistake."""
    frames = traceback.extract_tb(error.__traceback__)
    frames = without_recorder(frames)
    package = str(Path(graphlens.__file__).parent)
    lessons = str(Path(package, "lessons"))
    innermost = frames[-1]
    if innermost.name == call_user.__name__:  # their function did not take what it was called with
        return False
    return innermost.filename.startswith(package) and not innermost.filename.startswith(lessons)


def _is_library(path: str) -> bool:
    return path.startswith(_LIBRARIES) or "site-packages" in Path(path).parts


def _place(error: BaseException) -> str:
    """file:line of the innermost frame that is the user's own; "" where the error has none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lessons = str(Path(graphlens.__file__).parent / "lessons")
    own = [frame for frame in frames if frame.filename.startswith(lessons) or not _is_library(frame.filename)]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
