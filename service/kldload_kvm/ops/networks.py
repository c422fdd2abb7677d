"""Which network a new card is on: as asked for, or as configured, if it is there."""

from __future__ import annotations

from ..engine.plan import Step
from ..model.errors import InvalidArgument, NotFound
from ..model.names import shown
from ..steps.domains import StartNetwork
from .request import View

Network = tuple[str, str]
"""("bridge" or "network", its name)."""


def choose(view: View, wanted: str, what: str) -> Network | None:
    """The network of a new card; None for none. wanted: as in the configuration, or empty for that. what: was not done.

    Raises InvalidArgument or NotFound.
    """
    wanted = wanted or view.config.network
    if wanted == "none":
        return None
    if wanted == "auto":
        if view.config.bridge in view.facts.bridges:
            return "bridge", view.config.bridge
        wanted = "network=default"
    kind, _, name = wanted.partition("=")
    if kind == "bridge":
        if name not in view.facts.bridges:
            have = ", ".join(sorted(view.facts.bridges)) or "none"
            raise NotFound(what, f"this host has no bridge {shown(name)}", f"its bridges: {have}")
    elif kind == "network":
        if name not in view.facts.networks:
            have = ", ".join(sorted(view.facts.networks)) or "none"
            raise NotFound(what, f"libvirt has no network {shown(name)}", f"its networks: {have}; or --network none")
    else:
        raise InvalidArgument(what, f"{shown(wanted)} is no network", "write bridge=NAME, network=NAME or none")
    return kind, name


def started(view: View, network: Network | None) -> tuple[Step, ...]:
    """The step that starts a libvirt network that is down."""
    if network and network[0] == "network" and view.facts.networks.get(network[1]) is False:
        return (StartNetwork(network[1]),)
    return ()
