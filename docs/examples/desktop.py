#!/usr/bin/python3
"""A desktop tool at its smallest: lists domains, watches them, starts one and shuts it down.

It knows only org.libvirt.*, so that it runs against libvirt-dbus as well. On Debian it needs python3-gi.

    desktop.py           lists the domains
    desktop.py --watch   lists them, and tells what happens to them
    desktop.py NAME      lists them, starts one, and shuts it down when it runs
"""

import sys
import time

from gi.repository import Gio, GLib

BUS = "org.freedesktop.DBus"
BUS_NAME = "org.libvirt"
HOST = "/org/libvirt/LXC"
CONNECT = "org.libvirt.Connect"
DOMAIN = "org.libvirt.Domain"

# virDomainState
STATES = ["no state", "running", "blocked", "paused", "in shutdown", "shut off", "crashed", "suspended"]

# virDomainEventType
EVENTS = ["defined", "undefined", "started", "suspended", "resumed", "stopped", "shutdown", "pmsuspended", "crashed"]
STARTED, STOPPED = 2, 5

# How long a domain may take to start or to stop, in seconds.
PATIENCE = 30


def message(error):
    """GDBus puts the name of the error before the message: "GDBus.Error:org.libvirt.Error: Domain not found"."""
    return error.message.removeprefix("GDBus.Error:")


class Ended(Exception):
    """There is no bus any more, and the next one is another."""


class Desktop:
    def __init__(self):
        self.bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
        # GDBus would end this process with a signal, and nobody would know why.
        self.bus.set_exit_on_close(False)
        self.bus.connect("closed", self.closed)
        self.loop = GLib.MainLoop()
        self.wanted = None
        self.names = {}
        self.bus.signal_subscribe(
            BUS_NAME, CONNECT, "DomainEvent", HOST, None, Gio.DBusSignalFlags.NONE, self.happened
        )

        # Properties are read anew from whoever answers for the name now.
        self.bus.signal_subscribe(
            BUS,
            BUS,
            "NameOwnerChanged",
            "/org/freedesktop/DBus",
            BUS_NAME,
            Gio.DBusSignalFlags.NONE,
            self.owner_changed,
        )

    def call(self, path, interface, method, parameters=None):
        """The answer of a method. A person may be asked for a password."""
        flags = Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION
        reply = self.bus.call_sync(BUS_NAME, path, interface, method, parameters, None, flags, -1)
        return reply.unpack()

    def name(self, path):
        get = GLib.Variant("(ss)", (DOMAIN, "Name"))
        self.names[path] = self.call(path, "org.freedesktop.DBus.Properties", "Get", get)[0]
        return self.names[path]

    def show(self):
        (paths,) = self.call(HOST, CONNECT, "ListDomains", GLib.Variant("(u)", (0,)))
        for path in paths:
            ((state, _),) = self.call(path, DOMAIN, "GetState", GLib.Variant("(u)", (0,)))
            print(f"{self.name(path)}: {STATES[state]}", flush=True)

    def happened(self, _bus, _sender, _path, _interface, _signal, parameters):
        path, event, _detail = parameters.unpack()
        try:
            name = self.name(path)
        except GLib.Error:
            # It is no more, and only who has asked before knows its name.
            name = self.names.pop(path, path)
        print(f"{name}: {EVENTS[event] if event < len(EVENTS) else event}", flush=True)
        if (path, event) == self.wanted:
            self.loop.quit()

    def closed(self, _bus, _by_peer, _error):
        self.loop.quit()

    def wait(self):
        """Until something quits the loop."""
        self.loop.run()
        if self.bus.is_closed():
            raise Ended

    def owner_changed(self, _bus, _sender, _path, _interface, _signal, parameters):
        _name, _old, new = parameters.unpack()
        if not new:
            print(f"{BUS_NAME}: away", flush=True)
            return
        print(f"{BUS_NAME}: here", flush=True)
        try:
            self.show()
        except GLib.Error as error:
            print(message(error), file=sys.stderr, flush=True)

    def do(self, path, method, event):
        """Calls a method of a domain, and waits for the event that must follow; whether it came."""
        self.wanted = (path, event)
        self.call(path, DOMAIN, method, GLib.Variant("(u)", (0,)))
        came = [True]

        def too_late():
            came[0] = False
            self.loop.quit()
            return GLib.SOURCE_CONTINUE

        timer = GLib.timeout_add_seconds(PATIENCE, too_late)
        try:
            self.wait()
        finally:
            GLib.source_remove(timer)
        return came[0]

    def shut_down(self, path):
        for _ in range(PATIENCE):
            try:
                return self.do(path, "Shutdown", STOPPED)
            except GLib.Error as error:
                if self.bus.is_closed():
                    raise Ended from error
                # An init that has only begun may not listen yet.
                time.sleep(1)
        return False

    def use(self, name):
        (path,) = self.call(HOST, CONNECT, "DomainLookupByName", GLib.Variant("(s)", (name,)))
        if not self.do(path, "Create", STARTED):
            return f"{name} does not start"
        # What does not shut down by itself is ended.
        if not self.shut_down(path) and not self.do(path, "Destroy", STOPPED):
            return f"{name} does not stop"
        return None


def main(words):
    try:
        desktop = Desktop()
        desktop.show()
        if words == ["--watch"]:
            desktop.wait()
        elif words:
            return desktop.use(words[0])
    except GLib.Error as error:
        return message(error)
    except Ended:
        return "the bus has ended"
    except KeyboardInterrupt:
        pass
    return None


sys.exit(main(sys.argv[1:]))
