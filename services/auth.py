"""Who may call the REST service: API keys of which only the hashes are stored, and what their roles may do."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from fusechat.pipeline.errors import InputError, UserError
from fusechat.pipeline.recipe import Section
from fusechat.pipeline.recipe.load import read_yaml

Role = Literal["sample", "score", "admin"]
Permission = Literal["sample", "score", "models", "admin"]
ROLE_PERMISSIONS: dict[Role, tuple[Permission, ...]] = {
    "sample": ("sample", "models"),
    "score": ("score", "models"),
    "admin": ("sample", "score", "models", "admin"),
}
LOOK_S = 1.0
"""Seconds for which the key file is taken to be unchanged."""

log = logging.getLogger("ray.serve.fusechat")  # Serve writes what its loggers get to the replica's log file


def _moment(value: object) -> object:
    """Date and time with zone; a date alone is its first moment, in UTC."""
    try:
        if isinstance(value, str):
            value = date.fromisoformat(value) if len(value) <= len("2027-01-31") else datetime.fromisoformat(value)
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    except ValueError:
        value = None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("must be a date, or date and time with zone: 2027-01-31 or 2027-01-31T18:00:00+01:00")
    return value


Limit = Annotated[int, Field(ge=1, strict=True)]
Moment = Annotated[datetime, BeforeValidator(_moment)]


class Key(Section):
    """One caller's key, as the file has it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")
    role: Role
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of a key with 256 random bits: nobody guesses those, so that a slow hash would protect nothing more."""
    expires: Moment | None = None
    """The moment from which the key is refused."""
    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None
    """Read and generated together."""
    max_in_flight: Limit | None = None


class KeyFile(Section):
    """The file: YAML with a list of keys."""

    keys: tuple[Key, ...]

    @model_validator(mode="after")
    def _differ(self) -> Self:
        names = [key.name for key in self.keys]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the name {twice[0]} stands twice")
        if len({key.sha256 for key in self.keys}) < len(names):
            raise ValueError("two names have the same sha256")
        return self


class AuthError(Exception):
    """A request without a valid key. The message may go out: who holds an expired key had it, and may know."""

    def __init__(self, reason: Literal["missing", "unknown", "expired"], message: str) -> None:
        super().__init__(message)
        self.reason = reason


def is_allowed(role: Role, permission: Permission) -> bool:
    """Whether a role has a permission."""
    return permission in ROLE_PERMISSIONS[role]


# --- the file


def read(path: Path) -> KeyFile:
    """The key file. Others may read it, since it holds hashes alone, as mounted secrets are; none may write it.

    Raises:
        InputError: it can't be read or used, or others than its owner may write it.
    """
    _status(path)
    try:
        return KeyFile.model_validate(read_yaml(path, "a key file is a mapping with a list `keys`"))
    except ValidationError as error:
        raise InputError(str(path), 0, _first(error)) from None  # without what was given: it may be a secret


def add(path: Path, name: str, role: str, **settings: Any) -> str:
    """Makes a key, stores its hash and returns the key, which is nowhere else.

    Args:
        settings: the other fields of `Key`.

    Raises:
        UserError: the name is there already, or a setting is not allowed.
        InputError: the file can't be read or written.
    """
    secret = f"fc-{secrets.token_urlsafe(32)}"
    try:
        key = Key.model_validate({"name": name, "role": role, "sha256": _hash(secret), **settings})
    except ValidationError as error:
        raise UserError(_first(error)) from None
    with _alone(path) as file:
        there = read(file).keys if file.exists() else ()
        if any(other.name == name for other in there):
            raise UserError(f"{path}: there is a key named {name}; remove it first, or give another name")
        _write(file, (*there, key))
    return secret


def remove(path: Path, name: str) -> None:
    """Takes a key out of the file.

    Raises:
        UserError: there is none of that name.
        InputError: the file can't be read or written.
    """
    with _alone(path) as file:
        there = read(file).keys
        kept = tuple(key for key in there if key.name != name)
        if len(kept) == len(there):
            raise UserError(f"{path}: there is no key named {name!r}")
        _write(file, kept)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _status(path: Path) -> os.stat_result:
    """Of the file that links lead to: Kubernetes swaps a link in between."""
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(str(path), 0, f"can't be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(str(path), 0, "is not a file")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InputError(str(path), 0, "others than its owner may write it: chmod go-w")
    return status


def _first(error: ValidationError) -> str:
    """The first problem, by the key that it is about."""
    first = min(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    where, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = f"unknown key; allowed here: {', '.join((Key if len(first['loc']) > 1 else KeyFile).model_fields)}"
    return " ".join(f"{where or 'keys'}: {message}".split())


@contextmanager
def _alone(path: Path) -> Iterator[Path]:
    """The file that links lead to, while no other command changes a file of its folder."""
    try:
        file = path.resolve()
        folder = os.open(file.parent, os.O_RDONLY)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise InputError(str(path), 0, f"can't be written: {error}") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(folder)


def _write(file: Path, keys: tuple[Key, ...]) -> None:
    """Puts a file in the place of the old one, with its owner and mode; it is whole at any moment."""
    text = yaml.safe_dump({"keys": [k.model_dump(mode="json", exclude_none=True) for k in keys]}, sort_keys=False)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # 0600
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            if file.exists():
                old = file.stat()
                os.fchown(descriptor, old.st_uid, old.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
        os.replace(temporary, file)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise InputError(str(file), 0, f"can't be written: {error.strerror}") from error


# --- the service


class KeyRing:
    """The keys of a file that may change at any time; one that can't be used leaves the keys as they were.

    Args:
        clock: monotonic seconds.

    Raises:
        InputError: the file can't be used at the start.
    """

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = Path(path), clock
        self._looked, self._problem = clock(), ""
        self._stamp = self._look()
        self._keys = read(self._path).keys

    def find(self, presented: str, now: datetime | None = None) -> Key:
        """The key that was presented.

        Args:
            now: with a zone; the present moment by default.

        Raises:
            AuthError: there is none, or it has expired.
        """
        self._refresh()
        if not presented:
            raise AuthError("missing", "an API key is needed: Authorization: Bearer KEY")
        digest, found = _hash(presented), None
        for key in self._keys:  # all of them, whichever fits: the time tells nothing
            if hmac.compare_digest(key.sha256, digest):
                found = key
        if found is None:
            raise AuthError("unknown", "the API key is not valid")
        if found.expires is not None and found.expires <= (now or datetime.now(UTC)):
            raise AuthError("expired", "the API key has expired")
        return found

    def _look(self) -> tuple[int, ...]:
        status = _status(self._path)
        return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino

    def _refresh(self) -> None:
        """Reads the file again if it or its mode changed."""
        now = self._clock()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp  # before reading: what is written meanwhile is seen the next time
                self._keys = read(self._path).keys
            self._problem = ""
        except InputError as error:
            problem = " ".join(str(error).split())
            if problem != self._problem:
                log.error("%s; the keys stay as they were", problem)
            self._problem = problem
