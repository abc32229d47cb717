//! What an interface of the host was before it was lent, and how it becomes that again: root inside may have done
//! anything to it.
//!
//! It is taken back by way of a network namespace in which nobody is: there no name is another's, nobody changes anything
//! any more, and the host sees it only when it is what it was. What cannot be made so is said, and is never a reason to
//! leave it inside. Does not know why it is taken back, nor what is inside.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_sys::process::{namespace, setns, unshare};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use netlink::{Link, NUMBERS, Netlink, SETTABLE, UP};

pub mod addressing;
pub mod netlink;

/// Kinds whose "interface below" is the other end of a pair.
const PAIRS: [&[u8]; 3] = [b"veth", b"netkit", b"vxcan"];
/// How many interfaces on top of one are removed, at most: each takes the kernel some milliseconds.
const MOST_ABOVE: usize = 64;
/// How many names are tried on the host.
const NAMES: u32 = 100;
/// Longest name of an interface.
const LONGEST_NAME: usize = 15;

/// The network namespace that the calling thread is in.
pub fn own_namespace() -> Result<OwnedFd, Errno> {
    open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Does something in another network namespace. Only the calling thread goes there: whoever has others had better give it
/// one that ends afterwards.
pub fn within<T>(there: BorrowedFd<'_>, work: impl FnOnce(&OwnedFd) -> T) -> Result<T, Errno> {
    let home = enter(there)?;
    let done = work(&home);
    // It was ours a moment ago, and it is open.
    setns(home.as_fd(), namespace::NET)?;
    Ok(done)
}

/// Goes to another network namespace; answers the one that the thread was in. Apart from [`within`], of which there are many.
#[inline(never)]
fn enter(there: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let home = own_namespace()?;
    setns(there, namespace::NET)?;
    Ok(home)
}

/// An interface of the host that was lent, as it was on the host.
#[derive(Debug, PartialEq, Eq)]
pub struct Lent(Link);

/// What became of one that was to be the host's again.
#[derive(Debug)]
pub struct Returned {
    /// Its name on the host; none if it is gone.
    pub name: Option<String>,
    /// What is not as it was, one line each.
    pub said: Vec<String>,
}

impl Lent {
    /// One of the network namespace that the caller is in.
    pub fn remember(netlink: &Netlink, index: u32) -> Result<Self, Errno> {
        netlink.link(index).map(Self)
    }

    /// The same of what [`Netlink::told_of`] said before.
    pub fn read(told: &[u8]) -> Option<Self> {
        Link::read(told).filter(|link| !link.name.is_empty() && link.name.len() <= LONGEST_NAME).map(Self)
    }

    /// Whether it was up.
    pub fn was_up(&self) -> bool {
        self.0.flags & UP != 0
    }

    /// Whether it belongs to a device: the kernel removes none of these.
    pub fn is_real(&self) -> bool {
        !self.0.parent.is_empty()
    }

    /// Whether the one with that number is what it was, but for its link state.
    pub fn is_as_it_was(&self, netlink: &Netlink, index: u32) -> Result<bool, Errno> {
        let what =
            |link: &Link| Link { index: 0, flags: link.flags & SETTABLE, master: None, ..link.clone() };
        netlink.link(index).map(|now| what(&now) == what(&self.0))
    }

    /// Its number and name in the network namespace that the caller is in, if it is there again. A real one may have any
    /// name, if the kernel gave it back.
    pub fn find_home(&self, netlink: &Netlink) -> Result<Option<(u32, String)>, Errno> {
        let links = netlink.links()?;
        let is_it = |now: &Link| {
            let before = &self.0;
            let same =
                (&before.kind, &before.parent, &before.permanent) == (&now.kind, &now.parent, &now.permanent);
            let pair = PAIRS.contains(&&*now.kind);
            same && (!pair || (before.below, before.namespace) == (now.below, now.namespace))
        };
        let named = |number| candidate(self.name(), number);
        let mut all: Vec<&Link> = links.iter().filter(|link| is_it(link)).collect();
        if self.0.parent.is_empty() {
            all.retain(|link| (0..NAMES).any(|number| link.name == named(number)));
        }
        let own = all.iter().find(|link| link.name == self.name());
        Ok(own.or_else(|| all.first()).map(|link| (link.index, link.name.clone())))
    }

    /// Makes one that the kernel gave back what it was; answers its name, and what is not as it was.
    pub fn mend(&self, netlink: &Netlink, index: u32) -> (String, Vec<String>) {
        let mut said = Vec::new();
        let now = netlink.link(index).map(|now| now.name).unwrap_or_default();
        self.restore(netlink, index, &mut said);
        let named = (0..NAMES).map(|number| candidate(self.name(), number));
        let mut named = named.take_while(|name| *name != now);
        let name = named.find(|name| netlink.rename(index, name).is_ok()).unwrap_or(now);
        self.give_names(&name, &mut said);
        (name, said)
    }

    /// Its name on the host.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether an interface of another network namespace is this one; nothing where that cannot be told. A number may be
    /// that of another interface by now, which root inside has made.
    fn is(&self, now: &Link, home: &Netlink, there: BorrowedFd<'_>) -> Option<bool> {
        let before = &self.0;
        if (&before.kind, &before.parent, &before.permanent) != (&now.kind, &now.parent, &now.permanent) {
            return Some(false);
        }
        if !before.parent.is_empty() {
            // Nobody makes an interface that belongs to a device.
            return Some(true);
        }
        let below = before.below.filter(|_| PAIRS.contains(&&*now.kind))?;
        // The other end, if it is where it was, knows where this one is. To ask it gives namespaces their numbers here.
        let peer = home.link_in(before.namespace, below).ok().filter(|peer| peer.kind == before.kind);
        let number = home.number_of(there).ok()??;
        if let Some(namespace) = before.namespace.filter(|namespace| *namespace != number)
            && let Ok(place) = home.number_in(namespace, number)
        {
            if place.is_some() && (now.below, now.namespace) == (Some(below), place) {
                return Some(true);
            }
            if now.namespace.is_none() {
                // Both ends are the container's own.
                return Some(false);
            }
        }
        let peer = peer?;
        let place = peer.namespace?;
        if peer.below == Some(now.index) && place == number {
            return Some(true);
        }
        // Where the other end was, another pair's may be by now, whose own other end is here.
        let own = own_namespace().and_then(|own| home.number_of(own.as_fd()));
        (own != Ok(Some(place))).then_some(false)
    }

    /// Whether it is the one with that number in a network namespace; nothing where that cannot be told.
    pub fn is_at(&self, there: BorrowedFd<'_>, index: u32) -> Option<bool> {
        let link = within(there, |_| Netlink::open()?.link(index)).and_then(|link| link);
        match (link, Netlink::open()) {
            (Ok(link), Ok(home)) => self.is(&link, &home, there),
            _ => Some(false),
        }
    }

    /// Its number in a network namespace, if it is there for certain.
    pub fn find(&self, there: BorrowedFd<'_>) -> Option<u32> {
        let home = Netlink::open().ok()?;
        let links = within(there, |_| Netlink::open()?.links()).and_then(|links| links).ok()?;
        links.iter().find(|link| self.is(link, &home, there) == Some(true)).map(|link| link.index)
    }

    /// Its number in a network namespace by way of which interfaces are taken back: nobody makes any in there.
    pub fn find_between(&self, there: BorrowedFd<'_>) -> Option<u32> {
        let home = Netlink::open().ok()?;
        let links = within(there, |_| Netlink::open()?.links()).and_then(|links| links).ok()?;
        links.iter().find(|link| self.is(link, &home, there) != Some(false)).map(|link| link.index)
    }

    /// Makes it the host's again, from the network namespace in which it has that number, by way of another one in which
    /// nobody is.
    pub fn take_back(
        &self,
        there: BorrowedFd<'_>,
        index: u32,
        between: Option<BorrowedFd<'_>>,
    ) -> Result<Returned, Errno> {
        let mut said = Vec::new();
        let taken = self.take_out(there, index, between, &mut said)?;
        let (place, index) = match (taken, between) {
            (Some(index), Some(between)) => (between, index),
            _ => (there, index),
        };
        let name = within(place, |home| {
            let netlink = Netlink::open()?;
            self.restore(&netlink, index, &mut said);
            self.send_home(&netlink, index, home.as_fd())
        })??;
        self.give_names(&name, &mut said);
        Ok(Returned { name: Some(name), said })
    }

    /// Takes it off what root inside has made of it, and moves it to the network namespace between; answers its number there,
    /// nothing if that cannot be had.
    fn take_out(
        &self,
        there: BorrowedFd<'_>,
        index: u32,
        between: Option<BorrowedFd<'_>>,
        said: &mut Vec<String>,
    ) -> Result<Option<u32>, Errno> {
        within(there, |_| {
            let netlink = Netlink::open()?;
            let link = netlink.link(index)?;
            if link.master.is_some()
                && let Err(e) = netlink.leave_master(index)
            {
                self.complain("bridge inside", e, said);
            }
            self.clear_above(&netlink, index, said);
            let Some(between) = between else { return Ok(None) };
            let indexes = || {
                let links = within(between, |_| Netlink::open()?.links()).and_then(|links| links);
                links.unwrap_or_default().into_iter().map(|link| link.index)
            };
            // Some kernels put tunnels into each network namespace.
            let before: Vec<u32> = indexes().collect();
            match netlink.move_as_it_is(index, between) {
                Ok(()) => {}
                // It is called as one of those are.
                Err(Errno::EXIST) => return Ok(None),
                Err(e) => return Err(e),
            }
            let arrived = indexes().find(|index| !before.contains(index)).unwrap_or(index);
            Ok(Some(arrived))
        })?
    }

    /// Removes what is on top of it: that would stay there, and go on to see what passes.
    fn clear_above(&self, netlink: &Netlink, index: u32, said: &mut Vec<String>) {
        let above = |link: &Link| {
            link.below == Some(index) && link.namespace.is_none() && !PAIRS.contains(&&*link.kind)
        };
        let cleared = netlink.links().and_then(|links| {
            let above: Vec<u32> = links.iter().filter(|link| above(link)).map(|link| link.index).collect();
            above.iter().take(MOST_ABOVE).try_for_each(|one| netlink.remove(*one))?;
            if above.len() > MOST_ABOVE { Err(Errno::TOOBIG) } else { Ok(()) }
        });
        if let Err(e) = cleared {
            let name = self.name();
            said.push(format!("interfaces on top of '{name}' are still in the container: {e}"));
        }
    }

    /// Makes it what it was, with no name but its own.
    fn restore(&self, netlink: &Netlink, index: u32, said: &mut Vec<String>) {
        let before = &self.0;
        let mut check = |what: &str, done: Result<(), Errno>| {
            if let Err(e) = done {
                self.complain(what, e, said);
            }
        };
        check("link state", netlink.set_up(index, false));
        let now = match netlink.link(index) {
            Ok(now) => now,
            Err(e) => return check("settings", Err(e)),
        };
        check("list of alternative names", netlink.remove_names(index, &now.other_names));
        if now.address != before.address {
            check("hardware address", netlink.set_hardware_address(index, &before.address));
        }
        for (((which, what), before), now) in NUMBERS.iter().zip(before.numbers).zip(now.numbers) {
            if let Some(value) = before.filter(|_| before != now) {
                check(what, netlink.set_number(index, *which, value));
            }
        }
        if now.alias != before.alias {
            check("alias", netlink.set_alias(index, &before.alias));
        }
        if (now.flags ^ before.flags) & SETTABLE != 0 {
            check("set of flags", netlink.set_flags(index, before.flags));
        }
        if now.has_program && !before.has_program {
            netlink.remove_program(index);
            let is_left = netlink.link(index).is_ok_and(|now| now.has_program);
            check("XDP program", if is_left { Err(Errno::BUSY) } else { Ok(()) });
        }
    }

    /// Moves it to the host under its name, or under another one rather than not at all.
    fn send_home(&self, netlink: &Netlink, index: u32, home: BorrowedFd<'_>) -> Result<String, Errno> {
        for number in 0..NAMES {
            let name = candidate(self.name(), number);
            let moved = netlink.rename(index, &name).and_then(|()| netlink.move_as_it_is(index, home));
            match moved {
                Ok(()) => return Ok(name),
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e),
            }
        }
        Err(Errno::EXIST)
    }

    /// Gives one that is back the alternative names that it has not got, because whoever brought it was ended before. What
    /// does not succeed has been said.
    pub fn complete_names(&self, netlink: &Netlink, index: u32) {
        let now = netlink.link(index).map(|now| now.other_names).unwrap_or_default();
        for other in self.0.other_names.iter().filter(|other| !now.contains(other)) {
            let _ = netlink.add_name(index, other);
        }
    }

    /// Gives it its alternative names on the host again, where it is called `name`.
    fn give_names(&self, name: &str, said: &mut Vec<String>) {
        let own = self.name();
        if name != own {
            said.push(format!(
                "the interface '{own}' is the host's again as '{name}': its name is that of another there"
            ));
        }
        if self.0.other_names.is_empty() {
            return;
        }
        let found = Netlink::open().and_then(|netlink| netlink.index(name).map(|index| (netlink, index)));
        let (netlink, index) = match found {
            Ok(found) => found,
            Err(e) => return self.complain("list of alternative names", e, said),
        };
        for other in &self.0.other_names {
            if let Err(e) = netlink.add_name(index, other) {
                let other = String::from_utf8_lossy(other);
                said.push(format!("the interface '{name}' has not got its name '{other}' again: {e}"));
            }
        }
    }

    fn complain(&self, what: &str, e: Errno, said: &mut Vec<String>) {
        let name = self.name();
        said.push(format!("the {what} of the interface '{name}' is not what it was on the host: {e}"));
    }
}

/// The name itself, and others that look like it.
fn candidate(name: &str, number: u32) -> String {
    if number == 0 {
        return name.to_owned();
    }
    let ending = format!("-{number}");
    let mut length = name.len().min(LONGEST_NAME - ending.len());
    while !name.is_char_boundary(length) {
        length -= 1;
    }
    format!("{}{ending}", &name[..length])
}

/// A network namespace in which nobody is.
pub fn new_namespace() -> Result<OwnedFd, Errno> {
    let here = own_namespace()?;
    unshare(namespace::NET)?;
    let made = own_namespace();
    setns(here.as_fd(), namespace::NET)?;
    made
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn other_names_fit_and_differ() {
        assert_eq!(candidate("eth0", 0), "eth0");
        assert_eq!(candidate("eth0", 7), "eth0-7");
        assert_eq!(candidate("fifteen-letters", 0), "fifteen-letters");
        assert_eq!(candidate("fifteen-letters", 42), "fifteen-lett-42");
        assert_eq!(candidate("drei\u{df}ig\u{e4}\u{e4}\u{e4}\u{e4}", 1), "drei\u{df}ig\u{e4}\u{e4}-1");
    }
}
