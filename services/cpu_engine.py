"""vLLM's engine on CPUs, in one process. A single-threaded engine is forked from its replica, so it imports nothing.

Written for ray 2.60 and vLLM 0.29. It uses private parts of both: ray.serve.llm's engine class, and the function by
which vLLM chooses how the engine's process is started.
"""

from __future__ import annotations

import ctypes
import os
import signal
import stat
from multiprocessing import parent_process
from multiprocessing.context import ForkContext, ForkProcess
from pathlib import Path
from typing import TYPE_CHECKING

from fusechat.pipeline.cluster.ray_internals import VLLMEngine, setproctitle

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup
    from vllm import AsyncEngineArgs
    from vllm.config import VllmConfig
    from vllm.engine.protocol import EngineClient

PR_SET_PDEATHSIG = 1


class EngineProcess(ForkProcess):
    """The engine's process, forked from a replica. A fresh process would spend 10 s of a core on importing vLLM."""

    def run(self) -> None:
        """Runs vLLM's engine core without the replica's connections."""
        exit_with_parent()
        setproctitle("VLLM::EngineCore")
        close_inherited_sockets()
        super().run()


class EngineContext(ForkContext):
    """The multiprocessing context in which vLLM starts its engine's process."""

    Process = EngineProcess


def exit_with_parent() -> None:
    """Makes the kernel kill this process when its parent ends, however it ends. Nothing else would."""
    parent = parent_process()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent.pid:  # the parent ended before this call
        os._exit(1)


def close_inherited_sockets() -> None:
    """Closes this process's copies of its parent's sockets.

    While a copy is open, the peers of a parent that died don't notice. /dev/null takes the place of each socket, so
    that inherited objects that are destroyed later don't close a file that was opened since.
    """
    devnull = os.open(os.devnull, os.O_RDWR)
    for file in [int(link.name) for link in Path("/proc/self/fd").iterdir()]:
        try:
            is_socket = stat.S_ISSOCK(os.fstat(file).st_mode)
        except OSError:  # the directory listing's own descriptor, closed by now
            continue
        if is_socket:
            os.dup2(devnull, file, inheritable=False)
    os.close(devnull)


def can_fork() -> bool:
    """Whether an engine may be forked: only with a single thread, because OpenMP's threads don't survive a fork."""
    return os.environ.get("OMP_NUM_THREADS") == "1"


class CpuEngine(VLLMEngine):  # type: ignore[misc]
    """vLLM's engine with its only worker inside the engine core's process.

    On CPUs, ray.serve.llm selects the multi-process executor, which costs one more process and vLLM import. vLLM needs
    it to bind threads to cores, which is useless where several engines share two cores. Inside a Ray actor and on CPUs,
    vLLM spawns its engine's process instead of forking it, because of CUDA and of Ray's connections. Here there is no
    CUDA, and `close_inherited_sockets` leaves the connections to the actor.
    """

    def _start_async_llm_engine(
        self, vllm_engine_args: AsyncEngineArgs, vllm_engine_config: VllmConfig, placement_group: PlacementGroup
    ) -> EngineClient:
        from vllm.v1.engine import utils

        vllm_engine_config.parallel_config.distributed_executor_backend = "uni"
        if can_fork():
            utils.get_mp_context = EngineContext
        return super()._start_async_llm_engine(vllm_engine_args, vllm_engine_config, placement_group)
