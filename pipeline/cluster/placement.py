"""Which deployments fit on the cluster's nodes at the same time (first fit), and in which groups they run otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import CapacityError

Resources = Mapping[str, float]
SLACK = 1e-6


@dataclass(frozen=True, slots=True)
class Need:
    """The resources that one deployment needs."""

    name: str
    bundles: tuple[Resources, ...]
    """One per worker and replica. A bundle must fit on one node."""
    setting: str
    """The recipe key to change if the deployment can't be placed."""

    @property
    def total(self) -> str:
        """All bundles, as text."""
        each = describe(self.bundles[0])
        return each if len(self.bundles) == 1 else f"{len(self.bundles)} x ({each})"


def describe(resources: Resources) -> str:
    """Resources as text, with memory in GiB."""
    words = []
    for name, amount in sorted(resources.items()):
        if amount <= 0:
            continue
        words.append(f"{amount / 2**30:.1f} GiB memory" if name == "memory" else f"{amount:g} {name}")
    return ", ".join(words) or "nothing"


def place(needs: Sequence[Need], nodes: Sequence[Resources]) -> bool:
    """Whether all needs fit at once. Places the largest bundles first, each on the first node with room for it."""
    free = [dict(n) for n in nodes]
    bundles = sorted(
        (b for need in needs for b in need.bundles),
        key=lambda b: (b.get("GPU", 0), b.get("CPU", 0), b.get("memory", 0)),
        reverse=True,
    )
    for bundle in bundles:
        node = next((n for n in free if all(n.get(k, 0) + SLACK >= v for k, v in bundle.items())), None)
        if node is None:
            return False
        for kind, amount in bundle.items():
            node[kind] = node.get(kind, 0) - amount
    return True


def check(needs: Sequence[Need], nodes: Sequence[Resources], reserved: Sequence[Need] = ()) -> None:
    """Checks that each need fits on its own, beside what is reserved.

    Raises:
        CapacityError: names the deployment, what it needs, what the cluster has, and the setting to change.
    """
    for need in needs:
        if not place([need, *reserved], nodes):
            beside = f" beside {', '.join(r.name for r in reserved)} ({describe_all(reserved)})" if reserved else ""
            raise CapacityError(need.name, need.total + beside, describe_nodes(nodes), need.setting)


def turns(needs: Sequence[Need], nodes: Sequence[Resources], reserved: Sequence[Need] = ()) -> list[list[Need]]:
    """Groups of needs that fit at once, in the given order. Every need must fit alone (`check`)."""
    groups: list[list[Need]] = []
    for need in needs:
        for group in groups:
            if place([*group, need, *reserved], nodes):
                group.append(need)
                break
        else:
            groups.append([need])
    return groups


def describe_nodes(nodes: Sequence[Resources]) -> str:
    """The cluster's resources as text."""
    if not nodes:
        return "no node"
    each = [describe({k: v for k, v in n.items() if k in ("CPU", "GPU", "memory")}) for n in nodes]
    return each[0] if len(each) == 1 else f"{len(each)} nodes: " + "; ".join(each)


def describe_all(needs: Sequence[Need]) -> str:
    """The sum of several needs as text."""
    total: dict[str, float] = {}
    for need in needs:
        for bundle in need.bundles:
            for kind, amount in bundle.items():
                total[kind] = total.get(kind, 0) + amount
    return describe(total)
