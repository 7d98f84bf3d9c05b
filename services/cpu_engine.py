"""vLLM's engine on CPUs, in one process, which a replica forks where one thread computes: it imports nothing again.

Written for ray 2.60 and vLLM 0.29, of which it uses what is private: ray.serve.llm's engine class, and the function by
which vLLM chooses how its engine's process is started.
"""

from __future__ import annotations

import ctypes
import os
import signal
import stat
from multiprocessing import parent_process
from multiprocessing.context import ForkContext, ForkProcess
from pathlib import Path
from typing import Any

from ray._raylet import setproctitle  # type: ignore[attr-defined]  # compiled
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine

PR_SET_PDEATHSIG = 1


class EngineProcess(ForkProcess):
    """The engine's process, forked from a replica. A fresh one takes 10 s of a core to import vLLM again."""

    def run(self) -> None:
        """What vLLM has it do, away from the replica's connections."""
        end_with_parent()
        setproctitle("VLLM::EngineCore")  # by Ray's own way: it has moved what vLLM's would write to
        leave_sockets()
        super().run()


class EngineContext(ForkContext):
    """How vLLM starts the process of its engine."""

    Process = EngineProcess


def end_with_parent() -> None:
    """Has the system kill this process once its parent is gone, however that ended: nobody else would."""
    parent = parent_process()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent.pid:  # it was gone before
        os._exit(1)


def leave_sockets() -> None:
    """Closes this process's copies of sockets: while one is open, whoever is connected to a parent that died waits.

    /dev/null takes their places, so that objects of the parent that go away later close nothing that is opened since.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for file in [int(link.name) for link in Path("/proc/self/fd").iterdir()]:
        try:
            is_socket = stat.S_ISSOCK(os.fstat(file).st_mode)
        except OSError:  # the listing's own, closed since
            continue
        if is_socket:
            os.dup2(nothing, file, inheritable=False)
    os.close(nothing)


def forks() -> bool:
    """Whether an engine may be forked: where it computes with one thread. OpenMP's others don't survive a fork."""
    return os.environ.get("OMP_NUM_THREADS") == "1"


class CpuEngine(VLLMEngine):  # type: ignore[misc]
    """vLLM's engine with its one worker inside the engine core's process.

    ray.serve.llm sets the multi-process executor for CPUs, which costs a further vLLM import and process; vLLM takes
    it to bind threads to cores, which is of no use where several engines share two. vLLM has a process of its own start
    anew inside a Ray actor and on CPUs, on account of CUDA and of Ray's connections: the one is not there, the others
    are left to the actor.
    """

    def _start_async_llm_engine(self, vllm_engine_args: Any, vllm_engine_config: Any, placement_group: Any) -> Any:
        from vllm.v1.engine import utils

        vllm_engine_config.parallel_config.distributed_executor_backend = "uni"
        if forks():
            utils.get_mp_context = EngineContext
        return super()._start_async_llm_engine(vllm_engine_args, vllm_engine_config, placement_group)
