"""The connection to libvirt: found again whenever it is lost, used from threads only, its events brought to the loop.

libvirt's Python binding blocks and is safe to call from several threads, so each call runs in a small pool. Events come
from libvirt's own event loop in one more thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import libvirt

from ..model.errors import LibvirtUnavailable
from ..waiting import finish
from .errors import error_from, is_gone, unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRY = (0.2, 0.5, 1.0, 2.0, 5.0)
LIFECYCLE: dict[int, tuple[str, dict[int, str]]] = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: ("defined", {
        libvirt.VIR_DOMAIN_EVENT_DEFINED_ADDED: "added",
        libvirt.VIR_DOMAIN_EVENT_DEFINED_UPDATED: "updated",
        libvirt.VIR_DOMAIN_EVENT_DEFINED_RENAMED: "renamed",
        libvirt.VIR_DOMAIN_EVENT_DEFINED_FROM_SNAPSHOT: "from-snapshot",
    }),
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: ("undefined", {
        libvirt.VIR_DOMAIN_EVENT_UNDEFINED_REMOVED: "removed",
        libvirt.VIR_DOMAIN_EVENT_UNDEFINED_RENAMED: "renamed",
    }),
    libvirt.VIR_DOMAIN_EVENT_STARTED: ("started", {libvirt.VIR_DOMAIN_EVENT_STARTED_MIGRATED: "migrated"}),
    libvirt.VIR_DOMAIN_EVENT_STOPPED: ("stopped", {
        libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: "shutdown",
        libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: "destroyed",
        libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED: "migrated",
        libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED: "saved",
    }),
}  # fmt: skip
"""What libvirt calls a domain's life, in words: what happened, and how; nothing for what nobody here asks about."""
KEEPALIVE_SECONDS, KEEPALIVE_COUNT = 5, 6


class Connection:
    """on_lifecycle(domain uuid, what happened, how) for a domain that came, went, started or stopped, as in LIFECYCLE,
    and then, as for anything else that happened to one, on_event(uuid, at), at being when libvirt told of it, in
    seconds since 1970; on_agent(uuid) when a guest's agent has connected; on_network() when a network of libvirt's
    came, went, started or stopped; on_connect() and on_lost() as the connection comes and goes. All are called on the
    event loop."""

    def __init__(self, uri: str = "qemu:///system") -> None:
        self.uri = uri
        self.version = ""
        self.on_event: Callable[[str, float], None] = lambda uuid, at: None
        self.on_lifecycle: Callable[[str, str, str], None] = lambda uuid, what, how: None
        self.on_agent: Callable[[str], None] = lambda uuid: None
        self.on_network: Callable[[], None] = lambda: None
        self.on_connect: Callable[[], None] = lambda: None
        self.on_lost: Callable[[], None] = lambda: None
        self._conn: libvirt.virConnect | None = None
        self._why = "it has not been reached yet"
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="libvirt")
        self._lost = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def keep(self) -> None:
        """Connect, and connect again, until cancelled."""
        _start_event_thread()
        attempt = 0
        while True:
            self._lost.clear()
            try:
                self._conn = await finish(self._in_pool(self._open))
            except libvirt.libvirtError as fault:
                self._why = fault.get_error_message() or str(fault)
                if attempt == 0:
                    log.warning("libvirt cannot be reached at %s: %s", self.uri, self._why)
                await asyncio.sleep(RETRY[min(attempt, len(RETRY) - 1)])
                attempt += 1
                continue
            attempt = 0
            log.info("connected to libvirt %s at %s", self.version, self.uri)
            self.on_connect()
            await self._lost.wait()
            self._conn, self.version, self._why = None, "", "the connection was lost"
            log.warning("the connection to libvirt was lost")
            self.on_lost()

    @property
    def connected(self) -> bool:
        return self._conn is not None

    async def call(self, what: str, work: Callable[[libvirt.virConnect], T]) -> T:
        """Run `work` with the connection in a thread, to its end. what: not done, if it fails. Raises KvmError."""
        conn = self._conn
        if conn is None:
            raise self.unavailable(what)
        try:
            return await finish(self._in_pool(work, conn))
        except libvirt.libvirtError as fault:
            alive = _is_alive(conn)
            if is_gone(fault, alive):
                self._lost.set()
            raise error_from(what, fault, alive) from None

    def unavailable(self, what: str) -> LibvirtUnavailable:
        return unavailable(what, self._why)

    async def _in_pool(self, work: Callable[..., T], *args: Any) -> T:
        return await self._loop.run_in_executor(self._pool, work, *args)

    def _open(self) -> libvirt.virConnect:
        conn = libvirt.open(self.uri)
        with _where_supported():
            conn.setKeepAlive(KEEPALIVE_SECONDS, KEEPALIVE_COUNT)
            conn.registerCloseCallback(lambda *_: self._soon(self._lost.set), None)
        self.version = ".".join(map(str, version_of(conn)))
        for event in (
            libvirt.VIR_DOMAIN_EVENT_ID_REBOOT,
            libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON,
            libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
            libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
            libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
        ):
            conn.domainEventRegisterAny(None, event, self._domain_event, None)
        conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._lifecycle_event, None)
        conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, self._agent_event, None)
        with _where_supported():
            conn.networkEventRegisterAny(None, libvirt.VIR_NETWORK_EVENT_ID_LIFECYCLE, self._network_event, None)
        return conn

    def _domain_event(self, conn: Any, domain: libvirt.virDomain, *details: Any) -> None:
        self._soon(self.on_event, domain.UUIDString(), time.time())

    def _lifecycle_event(self, conn: Any, domain: libvirt.virDomain, event: int, detail: int, opaque: Any) -> None:
        what, how = LIFECYCLE.get(event, ("", {}))
        self._soon(self.on_lifecycle, domain.UUIDString(), what, how.get(detail, ""))
        self._soon(self.on_event, domain.UUIDString(), time.time())

    def _agent_event(self, conn: Any, domain: libvirt.virDomain, state: int, reason: int, opaque: Any) -> None:
        if state == libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED:
            self._soon(self.on_agent, domain.UUIDString())

    def _network_event(self, conn: Any, network: libvirt.virNetwork, *details: Any) -> None:
        self._soon(self.on_network)

    def _soon(self, function: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed: the service is ending
            self._loop.call_soon_threadsafe(function, *args)


def version_of(conn: libvirt.virConnect) -> tuple[int, int, int]:
    """libvirt's version, such as (11, 3, 0)."""
    number = conn.getLibVersion()
    return number // 1_000_000, number // 1000 % 1000, number % 1000


@contextlib.contextmanager
def _where_supported() -> Iterator[None]:
    """A driver that runs in our own process (test:///) has no connection that could be lost; and where libvirt has no
    driver of networks, nothing is told of them."""
    try:
        yield
    except libvirt.libvirtError as fault:
        if fault.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise


_event_thread: threading.Thread | None = None


def _start_event_thread() -> None:
    """libvirt's default event loop, once for the process; it must be registered before the first connection."""
    global _event_thread
    if _event_thread is not None:
        return
    libvirt.virEventRegisterDefaultImpl()
    libvirt.registerErrorHandler(lambda *_: None, None)  # errors reach us as exceptions; stderr stays clean

    def run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    _event_thread = threading.Thread(target=run, name="libvirt events", daemon=True)
    _event_thread.start()


def _is_alive(conn: libvirt.virConnect) -> bool:
    """As the connection itself knows; nobody is asked."""
    try:
        return bool(conn.isAlive())
    except libvirt.libvirtError:
        return False
