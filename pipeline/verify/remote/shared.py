"""Mutable objects that both processes hold: a change on one side is sent with the next message.

A list that only the call itself refers to crosses as a copy. One that somebody else refers to, such as the argument
`xs` of `sort(xs)`, gets a label. From then on each message holds the new content of every labelled container that
changed, until one side no longer refers to it.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

from .mutable import Content, content_of, empty, encode_content, fill, is_same
from .values import SCALARS, decode_plain
from .wire import Decode, Encode, Wire

LOOK_AT = 16
"""Containers from which on it is looked for those that nothing refers to any more."""


class SharedContainers:
    """The labelled containers of one side.

    Args:
        first_label: 0 or 1; the two sides count by two from different numbers.
    """

    def __init__(self, first_label: int) -> None:
        self._next = first_label
        self._containers: dict[int, Any] = {}
        self._labels: dict[int, int] = {}
        self._contents: dict[int, Content] = {}
        """Label -> the items when the other side last knew them."""
        self._used: set[int] = set()
        """Labels that messages named since the last look at what is unreferenced: the next call may name them again."""
        self._look_at = LOOK_AT

    def encode(self, value: Any, encode: Encode, *, shared: bool) -> Wire:
        """A container: a reference to its label, its content with a new label, or only its content.

        Args:
            encode: encodes an item; items of a labelled container get labels too.
            shared: whether the container gets a label in any case.
        """
        label = self._labels.get(id(value))
        if label is not None:
            self._used.add(label)
            return ["known", label]
        if not shared:
            return encode_content(value, encode)
        label, self._next = self._next, self._next + 2
        self._add(label, value)
        return ["shared", label, encode_content(value, encode)]

    def decode(self, wire: list[Any], decode: Decode) -> Any:
        """The container of an encoded reference or of a new label."""
        if wire[0] == "known":
            self._used.add(wire[1])
            return self._containers[wire[1]]
        label, inner = wire[1], wire[2]
        if label in self._containers or type(label) is not int:
            raise ValueError("a label is used twice")
        value = empty(inner)
        if value is None:
            value = decode_plain(inner, decode)
            self._add(label, value)
        else:
            self._add(label, value)
            fill(value, decode_plain(inner, decode))
            self._contents[label] = content_of(value)
        return value

    def changes(self, encode: Encode) -> list[Wire]:
        """Labels and new contents of what changed since the last message."""
        found: list[Wire] = []
        for label, value in list(self._containers.items()):
            if not is_same(self._contents[label], content_of(value)):
                self._contents[label] = content_of(value)
                found += [label, encode_content(value, encode)]
        return found

    def apply(self, changes: list[Any], decode: Decode) -> None:
        """Takes over changes of the other side."""
        for label, inner in zip(changes[::2], changes[1::2], strict=True):
            value = self._containers[label]
            fill(value, decode_plain(inner, decode))
            self._contents[label] = content_of(value)

    def unreferenced(self) -> list[Wire]:
        """Labels of the containers that nothing on this side can reach any more; they are forgotten.

        It costs as much as there are containers, so it looks only when they have become twice as many.
        """
        if len(self._containers) < self._look_at:
            return []
        counts: Counter[int] = Counter()
        inner: dict[int, list[int]] = {}
        for label, value in self._containers.items():
            counts.update(self._labels_in(self._contents[label]))
            inner[label] = self._labels_in(content_of(value))
            counts.update(inner[label])
        del value
        # Each container has one reference from the table, and one from the argument of getrefcount.
        reachable = [
            x for x in self._containers if x in self._used or sys.getrefcount(self._containers[x]) - 2 > counts[x]
        ]
        self._used.clear()
        kept = set(reachable)
        while reachable:
            new = [x for x in inner[reachable.pop()] if x not in kept]
            reachable += new
            kept.update(new)
        gone: list[Wire] = [x for x in self._containers if x not in kept]
        self.forget(gone)
        self._look_at = max(LOOK_AT, 2 * len(self._containers))
        return gone

    def _labels_in(self, items: Content) -> list[int]:
        """Labels of the containers among the items, also inside tuples."""
        if SCALARS.issuperset(map(type, items)):
            return []
        found: list[int] = []
        for item in items:
            if isinstance(item, tuple):
                found += self._labels_in(list(tuple.__iter__(item)))
            elif id(item) in self._labels:
                found.append(self._labels[id(item)])
        return found

    def forget(self, labels: list[Any]) -> None:
        """Forgets containers that the other side no longer refers to."""
        for label in labels:
            value = self._containers.pop(label, None)
            if value is not None:
                self._labels.pop(id(value), None)
                self._contents.pop(label, None)

    def _add(self, label: int, value: Any) -> None:
        self._used.add(label)
        self._containers[label] = value
        self._labels[id(value)] = label
        self._contents[label] = content_of(value)
