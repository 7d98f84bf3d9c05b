"""Which Python set-up takes, and its one line where none fits. The Pythons here are scripts that answer like one."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDS = "fusechat needs CPython 3.11, 3.12 or 3.13, 64-bit, with glibc 2.31 or newer; "


def facts(version: str, **changed: str) -> str:
    """What requirements/facts.py prints under a Python that fits but for what is changed."""
    known = {
        "kind": "CPython",
        "version": version,
        "bits": "64-bit",
        "lock": "gil",
        "libc": "glibc-2.36",
        "system": "linux",
        "machine": "x86_64",
        "venv": "venv",
        "where": "/usr",
    }
    return " ".join((known | changed).values())


class Machine:
    """A folder with a copy of what set-up reads, and a PATH that holds the Pythons that a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        shutil.copytree(ROOT / "requirements", folder / "requirements")
        shutil.copy(ROOT / "pyproject.toml", folder)
        for tool in ("bash", "cat", "cut", "dirname", "rm", "sha256sum", "sort"):
            found = shutil.which(tool)
            assert found is not None, f"set-up calls {tool}"
            (self.bin / tool).symlink_to(found)

    def program(self, name: str, text: str) -> Path:
        file = self.bin / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
        return file

    def python(self, name: str, answer: str) -> Path:
        """A Python that says of itself what it is told to, and leaves set-up with 9 when asked for an environment."""
        return self.program(name, f'case "$1" in */facts.py) echo "{answer}" ;; *) exit 9 ;; esac')

    def set_up(self, *python: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.bin / "bash"), "requirements/setup.sh", ".venv", *python]
        env = {"PATH": str(self.bin)}
        return subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, check=False)

    def chosen(self, *python: str) -> str:
        """The name of the Python that set-up makes the environment with."""
        done = self.set_up(*python)
        assert (done.returncode, done.stderr) == (9, "")
        return done.stdout.removeprefix(f"set-up: .venv with {self.bin}/").removesuffix("\n")

    def refused(self, *python: str) -> str:
        """What the one line says after what is needed."""
        done = self.set_up(*python)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(NEEDS) and done.stderr.count("\n") == 1
        return done.stderr.removeprefix(NEEDS).removesuffix("\n")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        ({"python3.13": "3.13", "python3.12": "3.12", "python3.11": "3.11", "python3": "3.13"}, "python3.11"),
        ({"python3.13": "3.13", "python3.12": "3.12", "python3": "3.13"}, "python3.12"),
        ({"python3.13": "3.13", "python3": "3.9"}, "python3.13"),
        ({"python3": "3.12"}, "python3"),
        ({"python3.14": "3.14", "python3": "3.11"}, "python3"),
    ],
)
def test_the_first_python_that_fits_is_taken(machine: Machine, there: dict[str, str], taken: str) -> None:
    for name, version in there.items():
        machine.python(name, facts(version))
    assert machine.chosen() == taken


def test_a_python_that_does_not_fit_is_passed_by(machine: Machine) -> None:
    machine.python("python3.11", facts("3.11", venv="no-venv"))
    machine.python("python3.12", facts("3.12", lock="free-threaded"))
    machine.python("python3.13", facts("3.13", machine="aarch64"))
    assert machine.chosen() == "python3.13"


def test_a_name_behind_which_no_python_is_is_passed_by(machine: Machine) -> None:
    machine.program("python3.11", "echo 'python3.11: command not found' >&2; exit 127")  # as version managers have them
    machine.python("python3.12", facts("3.12"))
    assert machine.chosen() == "python3.12"


def test_the_python_that_is_said_is_taken(machine: Machine) -> None:
    machine.python("python3.11", facts("3.11"))
    machine.python("mine", facts("3.13"))
    assert machine.chosen("mine") == "mine"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (facts("3.10"), "Python 3.10; install one, e.g. with uv: uv python install 3.11"),
        (facts("3.14"), "Python 3.14; install one, e.g. with uv: uv python install 3.11"),
        (facts("3.1"), "Python 3.1; install one, e.g. with uv: uv python install 3.11"),
        (facts("3.11", kind="PyPy"), "PyPy 3.11; install one, e.g. with uv: uv python install 3.11"),
        (facts("3.11", bits="32-bit"), "a 32-bit Python 3.11; install one, e.g. with uv: uv python install 3.11"),
        (
            facts("3.13", lock="free-threaded"),
            "a free-threaded Python 3.13; install one, e.g. with uv: uv python install 3.11",
        ),
        (facts("3.12", libc="no-glibc"), "a Python without glibc (musl?), without wheels of vLLM"),
        (facts("3.12", libc="glibc-2.28"), "a Python on glibc-2.28"),
        (facts("3.12", libc="glibc-2.4"), "a Python on glibc-2.4"),
        (facts("3.12", machine="riscv64"), "a Python for riscv64, without wheels of vLLM"),
        (facts("3.12", system="darwin", machine="arm64", libc="no-glibc"), "a Python for darwin"),
        (facts("3.12", venv="no-venv"), "Python 3.12 without venv; install its modules venv and ensurepip"),
    ],
)
def test_a_python_that_does_not_fit_is_refused_in_one_line(machine: Machine, answer: str, said: str) -> None:
    machine.python("mine", answer)
    assert machine.refused("mine") == f"mine is {said}"


@pytest.mark.parametrize("libc", ["glibc-2.31", "glibc-2.100", "glibc-3.0"])
def test_a_newer_glibc_fits(machine: Machine, libc: str) -> None:
    machine.python("mine", facts("3.12", libc=libc))
    assert machine.chosen("mine") == "mine"


def test_what_is_no_python_is_refused_in_one_line(machine: Machine) -> None:
    machine.program("mine", "exit 1")
    assert machine.refused("mine").startswith("mine is no Python that runs")
    assert machine.refused("not-there").startswith("not-there is no Python that runs")


def test_without_any_python_one_line_says_so(machine: Machine) -> None:
    assert machine.refused() == "python3 is not there; install one, e.g. with uv: uv python install 3.11"


def test_of_several_the_line_names_the_one_that_nearly_fits(machine: Machine) -> None:
    machine.python("python3", facts("3.9"))
    assert machine.refused().startswith("python3 is Python 3.9; ")
    machine.python("python3.12", facts("3.12", venv="no-venv"))
    assert machine.refused().startswith("python3.12 is Python 3.12 without venv; ")


def test_where_apt_has_one_the_line_says_which(machine: Machine) -> None:
    machine.program("apt-get", "exit 1")
    machine.program("apt-cache", 'case "$3" in *3.12-venv*) echo "python3.12-venv - for environments" ;; esac')
    machine.python("python3", facts("3.10"))
    assert machine.refused() == "python3 is Python 3.10; install one: apt-get install python3.12-venv"
    machine.python("python3.11", facts("3.11", venv="no-venv"))
    assert machine.refused() == "python3.11 is Python 3.11 without venv; install python3.11-venv"


@pytest.mark.parametrize(("installer", "package"), [("dnf", "python3.12"), ("zypper", "python311")])
def test_where_there_is_another_installer_the_line_names_its_package(
    machine: Machine, installer: str, package: str
) -> None:
    machine.program(installer, "exit 1")
    assert machine.refused().endswith(f"; install one: {installer} install {package}")


class TestWhatStands:
    """An environment that was made from the same files is kept."""

    @pytest.fixture
    def stands(self, machine: Machine) -> Machine:
        """A machine on which set-up has made an environment with python3.12; all that it called did nothing."""
        for version in ("3.12", "3.13"):
            text = f"""
case "$1" in
*/facts.py) echo "{facts(version)}" ;;
-m) mkdir -p .venv/bin .venv/lib; cp "$0" .venv/bin/python; cp "$(dirname "$0")/nothing" .venv/bin/pip
    cp .venv/bin/pip .venv/bin/uv ;;
esac"""
            machine.program(f"python{version}", text)
        machine.program("nothing", "exit 0")
        for tool in ("cp", "mkdir", "uname"):
            found = shutil.which(tool)
            assert found is not None
            (machine.bin / tool).symlink_to(found)
        assert self.made(machine) == "python3.12"
        return machine

    def made(self, machine: Machine, *python: str) -> str:
        """The Python that the environment was made anew with, or nothing."""
        done = machine.set_up(*python)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.removesuffix("\n").rpartition("/")[2]

    def test_it_is_kept(self, stands: Machine) -> None:
        assert self.made(stands) == ""
        assert self.made(stands, "python3.12") == ""

    def test_another_python_that_fits_better_does_not_replace_it(self, stands: Machine) -> None:
        stands.python("python3.11", facts("3.11"))
        assert self.made(stands) == ""

    def test_it_is_made_anew_with_the_python_that_is_said(self, stands: Machine) -> None:
        assert self.made(stands, "python3.13") == "python3.13"
        assert self.made(stands) == ""

    @pytest.mark.parametrize("name", ["cpu.lock", "torch.lock", "torch.txt", "setup.sh", "../pyproject.toml"])
    def test_it_is_made_anew_when_what_it_is_made_from_changes(self, stands: Machine, name: str) -> None:
        with (stands.folder / "requirements" / name).open("a") as file:
            file.write("# changed\n")
        assert self.made(stands) == "python3.12"

    def test_it_is_made_anew_when_its_python_is_gone(self, stands: Machine) -> None:
        (stands.folder / ".venv/bin/python").unlink()
        assert self.made(stands) == "python3.12"

    def test_it_is_made_anew_when_it_was_not_finished(self, stands: Machine) -> None:
        stands.program("nothing", "exit 1")
        assert stands.set_up("python3.13").returncode == 1
        stands.program("nothing", "exit 0")
        assert self.made(stands) == "python3.12"

    def test_a_python_that_does_not_fit_leaves_it(self, stands: Machine) -> None:
        stands.python("old", facts("3.10"))
        assert stands.refused("old").startswith("old is Python 3.10")
        assert self.made(stands) == ""
