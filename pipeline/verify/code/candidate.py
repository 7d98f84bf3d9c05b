"""The candidate process: holds only the model-written code, and answers requests until it is killed."""

from __future__ import annotations

import base64
import copy
import functools
import gc
import importlib
import io
import marshal
import os
import sys
import types
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn, cast

from .. import sandbox
from ..frames import FrameReader, receive, send
from ..remote.coroutines import run_coroutine
from ..remote.mirrors import SPECIAL
from ..remote.peer import Peer
from ..remote.values import base_value, has_base
from .programs import PROGRAM_NAME, run_program

if TYPE_CHECKING:
    from ..messages import Program
    from ..remote.wire import Wire

COLLECT_AFTER = 100_000
"""New objects until the garbage collector runs."""
MODULE = "solution"
_SHOW_CLASS = frozenset({"type", "repr", "str", "__class__", "name", "value"})
_SPECIAL = frozenset({"__missing__", "__getattr__", *(f"__{name}__" for name in SPECIAL)})
REHEARSAL = """
def f(x, *rest):
    if not x:
        raise ValueError("no items")
    return {"a": [v + 1 for v in x], "b": (1.5, "c", {2}), "c": sorted(x), "d": None}
"""
REHEARSAL_ARGUMENTS = (
    '["tuple",["list",3,1,2]]',
    '["tuple",["list"]]',
    '["tuple",["tuple",1,2],"x",2.5,["dict","k",["list",1]],["set",1]]',
    '["tuple",["shared",0,["list",3,1,2]]]',
)


class Candidate:
    """The process of one response. It does with the candidate's objects whatever is asked.

    It is made before the fork, so that a fork writes to few pages of memory.

    Args:
        ask: descriptor for requests.
        reply: descriptor for answers.
    """

    def __init__(self, ask: int, reply: int) -> None:
        self._fds = ask, reply
        self._code: types.CodeType
        self._named: frozenset[str] = frozenset()
        self._out = io.StringIO()
        self._shown = 0
        self._events: list[list[str | int]] = []
        """What was logged and warned of since the last message."""
        self._originals: dict[tuple[str, str, str], Any] = {}
        self._peer = Peer(FrameReader(ask), reply, self, first_label=1, caught=BaseException)

    def serve(self, program: Program, limits: sandbox.ResourceLimits, address_space: int) -> NoReturn:
        """Sandboxes the process, and answers requests until it is killed."""
        try:
            sandbox.keep_only(*self._fds)
            gc.set_threshold(COLLECT_AFTER)  # at once, it would write to many pages
            gc.enable()
            sandbox.confine_process(limits, address_space)
            self._code = marshal.loads(base64.b64decode(program["code"]))
            self._peer.serve()
        finally:
            os._exit(1)

    def get(self, value: Any, name: str) -> Any:
        return getattr(value, name)

    def set(self, value: Any, name: str, new: Any) -> None:
        setattr(value, name, new)

    def delete(self, value: Any, name: str) -> None:
        delattr(value, name)

    def call(self, value: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        return value(*args, **kwargs)

    def special(self, value: Any, name: str, operands: Sequence[Any]) -> Any:
        return getattr(type(value), f"__{name}__")(value, *operands)

    def extra(self, op: str, operands: Sequence[Any]) -> Any:
        return getattr(self, f"_{op}")(*operands)

    def importable(self, value: Any) -> None:
        """The judge imports nothing that the candidate names."""

    def import_(self, module: str, name: str) -> Any:
        found: Any = importlib.import_module(module)
        return functools.reduce(getattr, name.split(".") if name else [], found)

    def raised(self, error: BaseException) -> None:
        """The judge learns of it."""

    def sends_base(self, value: Any) -> bool:
        """An instance of the candidate's own class is sent as its content unless the tests could see its class.

        They can if they name it, ask for types or texts, use an attribute that it adds, or if it has operators.
        """
        kind = type(value)
        if kind.__name__ in self._named or not self._named.isdisjoint(_SHOW_CLASS):
            return False
        added = {n for c in kind.__mro__ if c.__module__ not in ("builtins", "enum") for n in vars(c)}
        return self._named.isdisjoint(added) and added.isdisjoint(_SPECIAL)

    def take_events(self) -> list[Wire]:
        text = self._out.getvalue()[self._shown :]
        self._shown += len(text)
        found = [["print", text], *self._events] if text else list(self._events)
        self._events.clear()
        return cast("list[Wire]", found)

    def show_events(self, events: list[Any]) -> None:
        """The tests print nothing here."""

    # --- requests

    def _load(self, named: list[str], entry_point: str) -> list[Any]:
        """Runs the code; returns the names that it defines, the modules among them, and the entry point, if it is one.

        Args:
            named: the names in the tests.
        """
        self._named = self._peer.codec.named = frozenset(named)
        module = sys.modules[MODULE] = types.ModuleType(MODULE)  # where dataclasses look it up
        names = vars(module)
        sys.stdout = self._out
        sys.argv = [PROGRAM_NAME]
        names["input"] = self._input
        self._record_logs(every="assertLogs" in self._named or "caplog" in self._named)
        exec(self._code, names)  # noqa: S102 - confined
        defined = [name for name in names if not name.startswith("__")]
        modules = {n: v.__name__ for n, v in names.items() if type(v) is types.ModuleType}
        return [defined, modules, *([names[entry_point]] if self._is_global(names, entry_point) else [])]

    def _is_global(self, names: dict[str, Any], entry_point: str) -> bool:
        """Whether the entry point is a global name, and not a method that only shares it with an imported function.

        What LeetCode imports has names such as `add` and `gcd`.
        """
        if entry_point not in names:
            return False
        is_imported = getattr(names[entry_point], "__module__", MODULE) != MODULE
        return not (is_imported and entry_point in vars(names.get("Solution", object)))

    def _record_logs(self, *, every: bool) -> None:
        """Notes what is logged and warned of, for the tests.

        Args:
            every: also what is below the level of warnings.
        """
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, category, *_: self._events.append(
            ["warning", next(c.__name__ for c in category.__mro__ if c.__module__ == "builtins"), str(message)]
        )
        logging: Any = sys.modules.get("logging")
        if logging is None:
            return
        if every:
            logging.getLogger().setLevel(1)
        handle = logging.Logger.handle

        def handle_and_note(logger: Any, record: Any) -> None:
            self._events.append(["log", record.name, record.levelno, record.getMessage()])
            handle(logger, record)

        logging.Logger.handle = handle_and_note

    def _imported(self, module: str, name: str) -> Any:
        return self.import_(module, name)

    def _derive(self, name: str, bases: tuple[type, ...], names: Sequence[str], members: Sequence[Any]) -> type:
        """A class of the tests that is derived from one of the candidate's."""
        decorators: dict[str, Any] = {kind.__name__: kind for kind in (staticmethod, classmethod, property)}
        pairs = zip(names, members, strict=True)
        body = {n: decorators[kind](value) if kind else value for n, (kind, value) in pairs}
        return types.new_class(name, bases, {}, lambda namespace: namespace.update(body))

    def _documentation(self) -> list[str]:
        """The documentation of what the code defines that has examples."""
        found = [getattr(value, "__doc__", None) for value in vars(sys.modules[MODULE]).values()]
        return [text for text in found if isinstance(text, str) and ">>>" in text]

    def _copy(self, value: Any, deep: bool) -> Any:
        return copy.deepcopy(value) if deep else copy.copy(value)

    def _environ(self, names: dict[str, str]) -> None:
        os.environ.clear()
        os.environ.update(names)

    def _input(self, prompt: object = "") -> str:
        return str(self._peer.request("input", str(prompt)))

    def _find(self, name: str) -> Any:
        return vars(sys.modules[MODULE])[name]

    def _replace(self, name: str, value: Any) -> None:
        vars(sys.modules[MODULE])[name] = value

    def _names(self, value: Any) -> list[str]:
        return dir(value)

    def _method(self, value: Any, name: str, *operands: Any) -> Any:
        return getattr(value, name)(*operands)

    def _subscript(self, value: Any, key: Any) -> Any:
        return value[key]

    def _run(self, coroutine: Any) -> Any:
        return run_coroutine(coroutine)

    def _base(self, value: Any) -> list[Any]:
        return [base_value(value)] if has_base(value) else []

    def _state(self, value: Any) -> list[Any]:
        """All that makes up an object: its base value, and names and values of its attributes."""
        names = list(getattr(value, "__dict__", {}))
        for kind in type(value).__mro__:
            slots = vars(kind).get("__slots__", ())
            names += [slots] if isinstance(slots, str) else list(slots)
        names = [n for n in names if n not in ("__dict__", "__weakref__") and hasattr(value, n)]
        return [base_value(value) if has_base(value) else None, names, [getattr(value, n) for n in names]]

    def _seed(self, module: str, args: tuple[Any, ...]) -> None:
        """Seeds the candidate's generator of random numbers as the tests seeded theirs."""
        __import__(module)
        sys.modules[module].seed(*args)

    def _patch(self, module: str, owner: str, name: str, value: list[Any]) -> None:
        """Sets an attribute of a module or class as the tests did; without a value, as it was."""
        found = self.import_(module, owner)
        key = (module, owner, name)
        if value:
            self._originals.setdefault(key, getattr(found, name, None))
            setattr(found, name, value[0])
        elif key in self._originals:
            setattr(found, name, self._originals.pop(key))

    def _program(self, stdin: str) -> str:
        return run_program(self._code, stdin)


def rehearse(times: int = 30) -> None:
    """Serves a small program in this process, so that the interpreter has prepared what each candidate runs.

    It writes to the code and the types that it runs for the first few times. A forked process copies each page of
    memory that it writes to, which is most of its cost.
    """
    ask_read, ask_write = os.pipe()
    reply_read, reply_write = os.pipe()
    stdout, code = sys.stdout, marshal.dumps(compile(REHEARSAL, "<rehearsal>", "exec"))
    for _ in range(times):
        candidate = Candidate(ask_read, reply_write)
        candidate._code = marshal.loads(code)
        for message in (
            '["?","load",["list",["list"],"f"],[],[],[]]',
            *(f'["?","call",["list",["yours",1],{args},["tuple"],["tuple"]],[],[],[]]' for args in REHEARSAL_ARGUMENTS),
        ):
            send(ask_write, message.encode())
            candidate._peer.serve_one()
            receive(reply_read)
    sys.stdout = stdout
    sys.modules.pop(MODULE)
    for fd in (ask_read, ask_write, reply_read, reply_write):
        os.close(fd)
