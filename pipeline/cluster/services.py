"""What the pipeline asks of the deployments, and which ones it asks for.

`fusechat.services.deployments` implements this with Ray Serve; the pipeline itself imports no Serve code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..recipe import ScoredModel, Source
from .needs import engine_need, reward_need
from .placement import Need, Resources


class Deployable(Protocol):
    """A service that can be deployed."""

    @property
    def name(self) -> str:
        """Name of its application."""

    @property
    def need(self) -> Need:
        """What it takes from the cluster."""


@dataclass(frozen=True, slots=True)
class SourceService:
    """A source LLM, served for batch work."""

    source: Source
    model: Path | str
    """Folder of the weights."""
    chat_template: str | None
    """Jinja text that replaces the model's own template."""
    setting: str
    """Recipe key of the source, for placement errors."""
    concurrency: int
    """Samples that one replica has in flight."""

    @property
    def name(self) -> str:
        """Name of its application."""
        return self.source.name

    @property
    def need(self) -> Need:
        """What it takes from the cluster."""
        return engine_need(self.source.name, self.source.engine, self.source.placement, self.setting)


@dataclass(frozen=True, slots=True)
class RewardService:
    """A reward model, served for batch work."""

    reward: ScoredModel
    model: Path | None
    """Folder of the weights; None if it reads a source's probabilities."""
    setting: str
    """Recipe key of the reward model, for placement errors."""

    @property
    def name(self) -> str:
        """Name of its application."""
        return self.reward.name

    @property
    def need(self) -> Need:
        """What it takes from the cluster, beside the source that it asks."""
        return reward_need(self.reward, self.setting)


class TaskDeployments(Protocol):
    """The part of `Deployments` that tasks need."""

    def fits(self, service: Deployable, keep: Sequence[str]) -> bool:
        """Whether the service fits beside `keep`."""

    def start(self, service: Deployable, keep: Sequence[str] = ()) -> None:
        """Starts a service without waiting. Services that are not in `keep` may be stopped to make room.

        Raises:
            FusechatError: it does not fit, or it can't be built.
        """

    def wait(self, name: str) -> None:
        """Returns when the service answers."""

    def stop(self, names: Iterable[str], why: str) -> None:
        """Stops services and waits until their resources are free."""


class Deployments(TaskDeployments, Protocol):
    """The deployments of one cluster."""

    def start_s(self, name: str) -> float:
        """Seconds from a service's start until it answered."""

    def watched(self, name: str) -> AbstractContextManager[None]:
        """Reports each change in the service's number of replicas."""

    def make_room(self, need: Need) -> None:
        """Stops services until `need` fits."""

    def close(self) -> None:
        """Stops everything that was started."""


MakeDeployments = Callable[[Sequence[Resources], Sequence[Need], Callable[[str], None]], Deployments]
"""Takes the nodes, what must stay free, and where to report starts and stops."""
