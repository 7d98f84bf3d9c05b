"""Who may call: API keys of which only the hashes are stored, their roles, and their limits."""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import os
import secrets
import stat
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AwareDatetime, Field, ValidationError

from fusechat.pipeline.config import Section
from fusechat.pipeline.errors import InputError, UserError

Role = Literal["sample", "score", "admin"]
Right = Literal["sample", "score", "models", "admin"]
RIGHTS: dict[Role, tuple[Right, ...]] = {
    "sample": ("sample", "models"),
    "score": ("score", "models"),
    "admin": ("sample", "score", "models", "admin"),
}
LOOK_S = 1.0
"""Seconds for which the key file is taken to be unchanged."""

log = logging.getLogger("ray.serve.fusechat")


class Key(Section):
    """One caller's key, as the file has it."""

    name: str = Field(pattern=r"^[A-Za-z0-9._@-]{1,64}$")
    role: Role
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of a key with 256 random bits: too many to be guessed, so that a slow hash would protect nothing more."""
    expires: AwareDatetime | None = None
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
    """Read and generated together."""
    max_in_flight: Annotated[int, Field(ge=1)] | None = None


class KeyFile(Section):
    """The file: YAML with a list of keys."""

    keys: tuple[Key, ...] = ()


class AuthError(Exception):
    """A request without a valid key; `reason` is missing, unknown or expired."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class LimitError(Exception):
    """A key has used what it may; `reason` is requests, tokens or in_flight."""

    def __init__(self, reason: str, retry_after_s: float) -> None:
        super().__init__(f"the key's limit is reached: {reason.replace('_', ' ')}")
        self.reason, self.retry_after_s = reason, retry_after_s


def may(role: Role, right: Right) -> bool:
    """Whether a role has a right."""
    return right in RIGHTS[role]


def hashed(key: str) -> str:
    """What is stored of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def read(path: Path) -> KeyFile:
    """The key file.

    Raises:
        InputError: it can't be read or used, or others than its owner may write it.
    """
    try:
        if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise InputError(str(path), 0, "others may write the key file; chmod go-w")
        tree = yaml.safe_load(path.read_text("utf-8"))
        found = KeyFile.model_validate({} if tree is None else tree)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(str(path), 0, f"the key file can't be read: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        raise InputError(str(path), 0, f"{where}: {first['msg']}") from error
    names = [key.name for key in found.keys]
    if twice := {n for n in names if names.count(n) > 1}:
        raise InputError(str(path), 0, f"keys: the name {min(twice)} stands there twice")
    return found


def write(path: Path, keys: KeyFile) -> None:
    """Puts the file in the place of the old one; it is whole at any moment."""
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
    text = yaml.safe_dump({"keys": [k.model_dump(mode="json", exclude_none=True) for k in keys.keys]}, sort_keys=False)
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except OSError as error:
        raise InputError(str(path), 0, f"can't be written: {error.strerror}") from error


def add(path: Path, name: str, role: Role, **limits: Any) -> str:
    """Makes a key and stores its hash; returns the key, which is nowhere else.

    Raises:
        UserError: the name is there already, or no name.
    """
    there = read(path) if path.exists() else KeyFile()
    if any(key.name == name for key in there.keys):
        raise UserError(f"{path}: there is a key named {name} already; remove it first, or give another name")
    secret = f"fc-{secrets.token_urlsafe(32)}"
    try:
        made = Key(name=name, role=role, sha256=hashed(secret), **limits)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}") from error
    write(path, KeyFile(keys=(*there.keys, made)))
    return secret


def remove(path: Path, name: str) -> None:
    """Takes a key out of the file.

    Raises:
        UserError: there is none of that name.
    """
    there = read(path)
    kept = tuple(key for key in there.keys if key.name != name)
    if len(kept) == len(there.keys):
        raise UserError(f"{path}: there is no key named {name}")
    write(path, KeyFile(keys=kept))


class KeyRing:
    """The keys of a file; a file that changes is read again, one that can't be used leaves the keys as they were.

    Args:
        clock: monotonic seconds.

    Raises:
        InputError: the file can't be used at the start.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = Path(path), clock
        self._stamp = self._look()
        self._keys = read(self._path).keys
        self._looked = clock()

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()  # of what a link leads to: Kubernetes swaps the link
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys as of the last second."""
        if self._clock() - self._looked >= LOOK_S:
            self._looked = self._clock()
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._keys = read(self._path).keys
                except InputError as error:
                    log.error("the keys stay as they were: %s", error)
        return self._keys

    def find(self, presented: str) -> Key:
        """The key that was presented.

        Raises:
            AuthError: there is none.
        """
        if not presented:
            raise AuthError("missing", "an API key is needed: Authorization: Bearer KEY")
        mine, found = hashed(presented), None
        for key in self.keys:  # all of them, whichever fits: the time tells nothing
            if hmac.compare_digest(key.sha256, mine):
                found = key
        if found is None:
            raise AuthError("unknown", "the API key is not valid")
        if found.expires is not None and found.expires <= datetime.now(UTC):
            raise AuthError("expired", "the API key has expired")
        return found


@dataclass(slots=True)
class Bucket:
    """A token bucket that holds a minute's worth; it may owe what was used beyond the estimate."""

    per_minute: int
    level: float
    at: float

    def wait(self, amount: float, now: float) -> float:
        """Seconds until the amount is there; 0 where it is."""
        self.level = min(self.per_minute, self.level + (now - self.at) * self.per_minute / 60)
        self.at = now
        missing = min(amount, self.per_minute) - self.level
        return max(0.0, missing * 60 / self.per_minute)


@dataclass(slots=True)
class Usage:
    """What a key uses."""

    in_flight: int = 0
    buckets: dict[str, Bucket] = field(default_factory=dict)


class Ticket:
    """A request that was let in."""

    def __init__(self, limits: Limits, name: str, tokens: int) -> None:
        self._limits, self._name, self._tokens = limits, name, tokens
        self._open = True

    def settle(self, tokens: int) -> None:
        """Puts what was used in the place of the estimate."""
        self._limits.correct(self._name, tokens - self._tokens)
        self._tokens = tokens

    def close(self) -> None:
        """Gives its place back, once."""
        if self._open:
            self._open = False
            self._limits.leave(self._name)


class Limits:
    """Requests and tokens a minute and requests in flight, for each key.

    Args:
        share: gateway replicas over which the limits are divided, since each counts for itself.
        clock: monotonic seconds.
    """

    def __init__(self, share: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._share, self._clock = share, clock
        self._usage: dict[str, Usage] = {}
        self._lock = threading.Lock()

    def admit(self, key: Key, tokens: int) -> Ticket:
        """Lets a request in that will use about so many tokens.

        Raises:
            LimitError: it may not come in; nothing was taken.
        """
        now = self._clock()
        wanted = {"requests": (key.requests_per_minute, 1.0), "tokens": (key.tokens_per_minute, float(max(tokens, 1)))}
        with self._lock:
            usage = self._usage.setdefault(key.name, Usage())
            if key.max_in_flight is not None and usage.in_flight >= self._mine(key.max_in_flight):
                raise LimitError("in_flight", 1.0)
            taken = []
            for kind, (limit, amount) in wanted.items():
                if limit is None:
                    usage.buckets.pop(kind, None)
                    continue
                mine = self._mine(limit)
                bucket = usage.buckets.get(kind)
                if bucket is None or bucket.per_minute != mine:
                    bucket = usage.buckets[kind] = Bucket(mine, mine, now)
                if wait := bucket.wait(amount, now):
                    raise LimitError(kind, wait)
                taken.append((bucket, min(amount, mine)))
            for bucket, amount in taken:
                bucket.level -= amount
            usage.in_flight += 1
        return Ticket(self, key.name, max(tokens, 1))

    def correct(self, name: str, tokens: int) -> None:
        """Takes so many tokens more, or gives them back."""
        with self._lock:
            bucket = self._usage[name].buckets.get("tokens") if name in self._usage else None
            if bucket is not None:
                bucket.level = min(bucket.per_minute, bucket.level - tokens)

    def leave(self, name: str) -> None:
        """Gives a place in flight back."""
        with self._lock:
            self._usage[name].in_flight -= 1

    def _mine(self, limit: int) -> int:
        return max(1, math.floor(limit / self._share))
