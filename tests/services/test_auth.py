"""The key file, which never admits anyone by mistake, and the key ring that follows it while the service runs."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from clocks import ManualClock

from fusechat.pipeline.errors import InputError, UserError
from fusechat.services import auth
from fusechat.services.auth import AuthError, KeyRing

SECRET = "fc-one"
NOW = datetime(2027, 1, 30, tzinfo=UTC)


def entry(name: str = "ci", secret: str = SECRET, **settings: Any) -> dict[str, Any]:
    return {"name": name, "role": "sample", "sha256": hashlib.sha256(secret.encode()).hexdigest(), **settings}


def write(path: Path, *entries: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump({"keys": list(entries)}))
    path.chmod(0o644)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "keys.yaml", entry())


def refused(ring: KeyRing, secret: str, now: datetime | None = None) -> str:
    with pytest.raises(AuthError) as caught:
        ring.find(secret, now)
    return caught.value.reason


# --- the file


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([entry(colour="red")], "keys.0.colour: unknown key; allowed here: name, role, sha256, expires, requests_per"),
        ([entry(), entry("b", "two", role="root")], "keys.1.role: Input should be 'sample', 'score' or 'admin'"),
        ([entry("a b")], "keys.0.name: String should match pattern"),
        ([entry("a\nb")], "keys.0.name: String should match pattern"),
        ([entry(requests_per_minute=0)], "keys.0.requests_per_minute: Input should be greater than or equal to 1"),
        ([entry(tokens_per_minute=1.5)], "keys.0.tokens_per_minute: Input should be a valid integer"),
        ([entry(max_in_flight=True)], "keys.0.max_in_flight: Input should be a valid integer"),
        ([entry(expires="2027-01-31T12:00:00")], "keys.0.expires: must be a date, or date and time with zone"),
        ([entry(expires=1893456000)], "keys.0.expires: must be a date, or date and time with zone"),
        ([entry(expires="soon")], "keys.0.expires: must be a date, or date and time with zone"),
        ([entry(), entry(secret="two")], "keys: the name ci is used twice"),
        ([entry(), entry("other")], "keys: two names have the same sha256"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_key(tmp_path: Path, entries: list[dict[str, Any]], says: str) -> None:
    file = write(tmp_path / "keys.yaml", *entries)
    with pytest.raises(InputError) as caught:
        auth.read(file)
    assert str(caught.value).startswith(f"{file}: {says}")
    assert "\n" not in str(caught.value)


def test_a_key_pasted_in_the_place_of_its_hash_is_not_repeated(tmp_path: Path) -> None:
    file = write(tmp_path / "keys.yaml", {**entry(), "sha256": "fc-pasted"})
    with pytest.raises(InputError, match=r"keys\.0\.sha256: ") as caught:
        auth.read(file)
    assert "fc-pasted" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "kyes: []", "keys:", "keys: 3", "keys: [", "keys: [{name: 2027-13-45}]", "\0"]
)
def test_a_file_that_is_no_key_file_is_refused(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(InputError, match=r"keys\.yaml"):
        KeyRing(file)


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_may_write_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(InputError, match=r"is writable by others than its owner: chmod go-w"):
        KeyRing(file)


def test_what_is_missing_or_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)  # would wait for a writer
    with pytest.raises(InputError, match="is not a file"):
        KeyRing(tmp_path / "pipe")
    with pytest.raises(InputError, match="can't be read: No such file"):
        KeyRing(tmp_path / "absent.yaml")


# --- finding


def test_the_key_is_found_and_others_are_not(file: Path) -> None:
    ring = KeyRing(file)
    assert ring.find(SECRET).name == "ci"
    assert refused(ring, "") == "missing"
    for wrong in ("fc-two", SECRET + " ", SECRET.upper(), entry()["sha256"], "\ud800", "é\0"):
        assert refused(ring, wrong) == "unknown"


def test_every_entry_is_compared_whichever_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a", "b", "c", "d"]
    ring = KeyRing(write(tmp_path / "keys.yaml", *(entry(n, n) for n in names)))
    compared: list[str] = []
    real = hmac.compare_digest

    def counting(left: str, right: str) -> bool:
        compared.append(left)
        return real(left, right)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    for presented in [*names, "none of them"]:
        compared.clear()
        if presented in names:
            assert ring.find(presented).name == presented
        else:
            assert refused(ring, presented) == "unknown"
        assert compared == [entry(n, n)["sha256"] for n in names]


@pytest.mark.parametrize(
    ("expires", "valid", "over"),
    [
        ("2027-01-31", "2027-01-30T23:59:59+00:00", "2027-01-31T00:00:00+00:00"),
        ("2027-01-31T18:00:00+01:00", "2027-01-31T16:59:59+00:00", "2027-01-31T17:00:00+00:00"),
        ("2027-01-31T18:00:00Z", "2027-01-31T18:59:59+01:00", "2027-01-31T19:00:00+01:00"),
    ],
)
@pytest.mark.parametrize("quote", ["", "'"])
def test_a_key_expires(file: Path, expires: str, valid: str, over: str, quote: str) -> None:
    file.write_text(f"keys: [{{name: a, role: sample, sha256: {entry()['sha256']}, expires: {quote}{expires}{quote}}}]")
    ring = KeyRing(file)
    assert ring.find(SECRET, datetime.fromisoformat(valid)).name == "a"
    assert refused(ring, SECRET, datetime.fromisoformat(over)) == "expired"


def test_expiry_goes_by_the_clock_of_the_machine(tmp_path: Path) -> None:
    file = write(
        tmp_path / "keys.yaml",
        entry("old", "old", expires="2020-01-01"),
        entry("new", expires="9999-12-31T23:59:59-12:00"),
    )
    ring = KeyRing(file)
    assert ring.find(SECRET).name == "new"
    assert refused(ring, "old") == "expired"


@pytest.mark.parametrize(
    ("role", "rights"),
    [("sample", "sample models"), ("score", "score models"), ("admin", "sample score models admin")],
)
def test_a_role_may_do_its_own_and_admin_all(role: auth.Role, rights: str) -> None:
    every: tuple[auth.Permission, ...] = ("sample", "score", "models", "admin")
    assert [r for r in every if auth.is_allowed(role, r)] == rights.split()


# --- rotation


def test_a_changed_file_is_read_within_a_second(file: Path, clock: ManualClock) -> None:
    ring = KeyRing(file, clock)
    write(file, entry("next", "two!"))
    clock.now += 0.9
    assert ring.find(SECRET).name == "ci"
    clock.now += 0.1
    assert ring.find("two!").name == "next"
    assert refused(ring, SECRET) == "unknown"


def test_an_unchanged_file_is_not_read_again_even_a_broken_one(
    file: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = KeyRing(file, clock)
    file.write_text("keys: [")
    clock.now += 1
    assert ring.find(SECRET).name == "ci"
    monkeypatch.setattr(auth, "read", lambda path: pytest.fail("was read again"))
    clock.now += 60
    assert ring.find(SECRET).name == "ci"


def test_a_secret_that_kubernetes_swaps_is_followed(tmp_path: Path, clock: ManualClock) -> None:
    mount = tmp_path / "mount"
    for name, one in (("..v1", entry()), ("..v2", entry(secret="fc-two"))):  # same size
        (mount / name).mkdir(parents=True)
        write(mount / name / "keys.yaml", one)
        os.utime(mount / name / "keys.yaml", (0, 0))
    (mount / "..data").symlink_to("..v1")
    (mount / "keys.yaml").symlink_to("..data/keys.yaml")
    ring = KeyRing(mount / "keys.yaml", clock)
    assert ring.find(SECRET).name == "ci"
    (mount / "..data_tmp").symlink_to("..v2")
    os.replace(mount / "..data_tmp", mount / "..data")
    clock.now += 1
    assert ring.find("fc-two").name == "ci"
    assert refused(ring, SECRET) == "unknown"


@pytest.mark.parametrize("how", ["broken", "empty", "hostile", "gone", "a folder", "writable"])
def test_a_file_that_can_not_be_used_keeps_the_old_keys_and_is_said_once(
    file: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    ring = KeyRing(file, clock)
    if how == "writable":
        write(file, entry("intruder", "fc-intruder"))
        file.chmod(0o666)
    elif how in ("gone", "a folder"):
        file.unlink()
        if how == "a folder":
            file.mkdir()
    else:
        file.write_text({"broken": "keys: [", "empty": "", "hostile": "keys: &k [*k]\n? [a]\n: 1"}[how])
    with caplog.at_level(logging.ERROR, "ray.serve.fusechat"):
        for _ in range(3):
            clock.now += 1
            assert ring.find(SECRET).name == "ci"
            assert refused(ring, "fc-intruder") == "unknown"
    [record] = caplog.records
    assert record.name == "ray.serve.fusechat"
    assert record.getMessage().startswith(f"{file}")
    assert record.getMessage().endswith("; the keys stay as they were")
    assert "\n" not in record.getMessage()


def test_a_mended_file_is_read_and_a_second_break_is_said_again(
    file: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    ring = KeyRing(file, clock)
    for round_ in range(2):
        file.write_text("keys: [")
        clock.now += 1
        assert ring.find(SECRET if round_ == 0 else "fc-two").name == "ci"
        write(file, entry(secret="fc-two"))
        clock.now += 1
        assert ring.find("fc-two").name == "ci"
    assert len(caplog.records) == 2


def test_a_mode_that_is_mended_is_enough(file: Path, clock: ManualClock) -> None:
    ring = KeyRing(file, clock)
    write(file, entry(secret="fc-two")).chmod(0o666)
    clock.now += 1
    assert refused(ring, "fc-two") == "unknown"
    file.chmod(0o644)  # changes neither its time nor its size
    clock.now += 1
    assert ring.find("fc-two").name == "ci"


# --- making keys


def test_a_new_key_is_found_and_only_its_hash_is_stored(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    secret = auth.add(file, "ci", "score", expires="2027-01-31", max_in_flight=2)
    assert secret not in file.read_text()
    key = KeyRing(file).find(secret, NOW)
    assert (key.name, key.role, key.max_in_flight) == ("ci", "score", 2)
    assert key.expires == datetime(2027, 1, 31, tzinfo=UTC)
    assert file.stat().st_mode & 0o777 == 0o600
    assert auth.add(file, "other", "score") != secret


def test_changes_keep_mode_and_link_and_leave_nothing_else(tmp_path: Path, file: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    file.chmod(0o640)
    auth.add(link, "two", "admin")
    auth.remove(link, "ci")
    assert link.is_symlink()
    assert [key.name for key in auth.read(file).keys] == ["two"]
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in tmp_path.iterdir()) == ["keys.yaml", "link.yaml"]


def test_changes_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    file, names = tmp_path / "keys.yaml", {f"k{i}" for i in range(16)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: auth.add(file, name, "sample"), names))
    assert {key.name for key in auth.read(file).keys} == names


def test_a_refused_change_changes_nothing(tmp_path: Path, file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(UserError, match="there is a key named ci"):
        auth.add(file, "ci", "sample")
    with pytest.raises(UserError, match=r"^role: Input should be 'sample', 'score' or 'admin'$"):
        auth.add(file, "two", "root")
    with pytest.raises(UserError, match="there is no key named 'two'"):
        auth.remove(file, "two")
    with pytest.raises(InputError, match="can't be written: "):
        auth.add(tmp_path / "absent" / "keys.yaml", "two", "sample")
    assert file.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["keys.yaml"]
