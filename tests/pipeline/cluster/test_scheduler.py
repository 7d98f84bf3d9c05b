"""Turns: every job runs, never more than fit, and one that fails harms no other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.pipeline.cluster.scheduler import DeploymentTask, run_tasks
from fusechat.pipeline.errors import CapacityError, StageError


@dataclass(frozen=True)
class Named:
    name: str
    size: int = 1


@dataclass
class Room:
    """A fleet with room for `size`; counts what is up and being used, and refuses as the real one does."""

    size: int
    broken: frozenset[str] = frozenset()
    up: dict[str, Named] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    waited: list[str] = field(default_factory=list)
    stopped: list[tuple[str, str]] = field(default_factory=list)

    def fits(self, service: Named, keep: Sequence[str]) -> bool:
        beside = sum(self.up[k].size for k in keep if k != service.name)
        return beside + service.size <= self.size

    def start(self, service: Named, keep: Sequence[str] = ()) -> None:
        if not self.fits(service, keep):
            raise CapacityError(service.name, str(service.size), str(self.size), "size")
        self.up = {n: s for n, s in self.up.items() if n in keep} | {service.name: service}
        self.started.append(service.name)
        assert sum(s.size for s in self.up.values()) <= self.size

    def wait(self, name: str) -> None:
        self.waited.append(name)
        if name in self.broken:
            raise StageError("serve", name, "could not be started")

    def stop(self, names: Sequence[str], why: str) -> None:
        for name in names:
            del self.up[name]
            self.stopped.append((name, why))


class Crowd:
    """Counts how many jobs are in their work at the same time."""

    def __init__(self) -> None:
        self.lock, self.now, self.most, self.ran = threading.Lock(), 0, 0, list[str]()

    def job(self, service: Named, inside: Callable[[], object] = lambda: None) -> DeploymentTask:
        def work() -> None:
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
            try:
                inside()
            finally:
                with self.lock:
                    self.now -= 1
                    self.ran.append(service.name)

        return DeploymentTask(service.name, service, work)


@given(st.lists(st.integers(1, 3), max_size=7), st.integers(3, 5))
def test_every_job_runs_once_and_what_is_up_always_fits(sizes: list[int], room: int) -> None:
    fleet, crowd = Room(room), Crowd()
    services = [Named(f"s{i}", size) for i, size in enumerate(sizes)]
    assert run_tasks([crowd.job(s) for s in services], fleet) == {}
    assert sorted(crowd.ran) == sorted(fleet.started) == sorted(fleet.waited) == [s.name for s in services]
    assert crowd.most <= room


@pytest.mark.parametrize("room", [1, 2, 4])
def test_as_many_work_at_the_same_time_as_fit(room: int) -> None:
    together, crowd = threading.Barrier(room, timeout=300), Crowd()
    jobs = [crowd.job(Named(f"s{i}"), together.wait) for i in range(4)]
    assert run_tasks(jobs, Room(room)) == {}  # a broken barrier would be raised
    assert crowd.most == room


def test_services_start_in_the_order_given_and_the_next_follows_whoever_ends() -> None:
    crowd, fleet, third = Crowd(), Room(2), threading.Event()
    jobs = [
        crowd.job(Named("slow"), lambda: third.wait(300)),
        crowd.job(Named("quick")),
        crowd.job(Named("third"), third.set),
    ]
    assert run_tasks(jobs, fleet) == {}
    assert fleet.started == ["slow", "quick", "third"]
    assert crowd.ran[0] == "quick"


def test_a_service_is_up_before_its_work_begins() -> None:
    fleet, seen = Room(1), list[list[str]]()
    run_tasks([DeploymentTask("a", Named("a"), lambda: seen.append(list(fleet.waited)))], fleet)
    assert seen == [["a"]]


@pytest.mark.parametrize("room", [1, 3])
def test_a_job_that_fails_harms_no_other_and_is_returned(room: int) -> None:
    crowd, error = Crowd(), StageError("sample", "b", "given up after 3 tries")

    def fail() -> None:
        raise error

    jobs = [crowd.job(Named("a")), crowd.job(Named("b"), fail), crowd.job(Named("c"))]
    assert run_tasks(jobs, Room(room)) == {"b": error}
    assert sorted(crowd.ran) == ["a", "b", "c"]


def test_a_service_that_does_not_come_up_is_returned_and_its_work_never_begins() -> None:
    crowd = Crowd()
    failed = run_tasks([crowd.job(Named("a")), crowd.job(Named("b"))], Room(1, broken=frozenset("a")))
    assert failed.keys() == {"a"}
    assert str(failed["a"]) == "stage serve, a: could not be started"
    assert crowd.ran == ["b"]


def test_a_service_that_fits_nowhere_is_returned_and_not_waited_for() -> None:
    crowd = Crowd()
    failed = run_tasks([crowd.job(Named("large", 9)), crowd.job(Named("small"))], Room(2))
    assert isinstance(failed["large"], CapacityError)
    assert crowd.ran == ["small"]


@pytest.mark.parametrize("room", [1, 2])
def test_a_bug_is_raised_once_what_runs_beside_it_has_ended(room: int) -> None:
    crowd = Crowd()

    def bug() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_tasks([crowd.job(Named("a"), bug), crowd.job(Named("b"))], Room(room))
    assert crowd.now == 0
    assert crowd.ran == ["a"] if room == 1 else sorted(crowd.ran) == ["a", "b"]


def test_no_job_is_no_work() -> None:
    assert run_tasks([], Room(1)) == {}


def test_work_that_needs_no_service_runs_beside_whatever_runs() -> None:
    crowd, room = Crowd(), Room(size=1)
    both = threading.Barrier(2, timeout=300)
    outside = DeploymentTask("endpoint", None, lambda: (both.wait(), None)[1])
    assert run_tasks([crowd.job(Named("a"), both.wait), outside], room) == {}
    assert room.started == ["a"]


def test_a_service_that_is_asked_no_more_gives_its_place_back_and_others_stay() -> None:
    room = Room(2)
    jobs = [DeploymentTask("a", Named("a"), lambda: None, last=True), DeploymentTask("b", Named("b"), lambda: None)]
    assert run_tasks(jobs, room) == {}
    assert room.stopped == [("a", "done")]
    assert list(room.up) == ["b"]


def test_a_failed_service_is_left_to_whoever_needs_its_place() -> None:
    room = Room(2, broken=frozenset({"a"}))
    assert list(run_tasks([DeploymentTask("a", Named("a"), lambda: None, last=True)], room)) == ["a"]
    assert room.stopped == []
