"""What one process lets the other do with its objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from .wire import Wire


class Access(Protocol):
    """What one side lets the other do with its objects."""

    def get(self, value: Any, name: str) -> Any:
        """The attribute of an object."""

    def set(self, value: Any, name: str, new: Any) -> None:
        """Sets the attribute of an object."""

    def delete(self, value: Any, name: str) -> None:
        """Deletes the attribute of an object."""

    def call(self, value: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Calls an object."""

    def special(self, value: Any, name: str, operands: Sequence[Any]) -> Any:
        """Calls a special method, such as `__len__`."""

    def extra(self, op: str, operands: Sequence[Any]) -> Any:
        """Any other request."""

    def raised(self, error: BaseException) -> None:
        """Notes what a request of the other side raised on this side."""

    def take_events(self) -> list[Wire]:
        """What was printed, logged and warned of since the last message: `["print", text]`, `["log", logger, level,
        text]`, `["warning", category, text]`."""

    def show_events(self, events: list[Any]) -> None:
        """Takes what the other side printed, logged and warned of."""

    def importable(self, value: Any) -> tuple[str, str] | None:
        """Module and name of a function, class or module that the other side can import; None to send a handle."""

    def import_(self, module: str, name: str) -> Any:
        """What the other side sent as module and name."""

    def sends_base(self, value: Any) -> bool:
        """Whether an instance of a subclass of a built-in type is sent as its base value."""
