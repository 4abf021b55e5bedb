//! Links that are made.

use std::os::fd::AsFd;

use super::{Batch, Purpose, Stop};
use crate::error::{Errno, Operation};
use crate::kernel::Created;
use crate::linux::create::write_sysctls;
use crate::linux::netlink::{Datagram, Refusal};
use crate::linux::rtnetlink::link::{Creation, ParentIndex};
use crate::linux::rtnetlink::{link, namespace};
use crate::linux::{Known, LinuxKernel, read, refused, sys, tap};
use crate::name::SysctlKey;
use crate::place::Place;
use crate::resource::{Link, LinkKind, Resource, Sysctl, Tap, VethPeer};

impl Batch<'_> {
    /// A link, its index, and then what the kernel does not take together with it. That goes into a second datagram:
    /// were the name another's, all that follows in the first would be done to that one.
    pub(super) fn queue_link(&mut self, link: &Link, resource: &Resource) -> Result<(), Stop> {
        let number = self.outcomes.len();
        let master = match &link.master {
            Some(master) => Some(self.index(master, resource)?),
            None => None,
        };
        if let LinkKind::Tap(tap) = &link.kind {
            self.queue_tap(link, tap, master, resource)?;
        } else {
            let parent = self.parent(link, resource)?;
            let elsewhere = peer(link).map(|peer| peer.place).filter(|place| *place != self.place);
            let peer_namespace = match elsewhere {
                Some(place) => Some(self.kernel.side(place)?.namespace()?.as_fd()),
                None => None,
            };
            link::create(&mut self.datagram, &Creation { link, master, peer_namespace, parent });
            let peer = peer(link).filter(|peer| peer.place == self.place);
            self.unborn.extend([&link.name].into_iter().chain(peer.map(|peer| &peer.name)).cloned());
            self.expect(Purpose::Make, Created::New);
        }
        if link.mark.is_none() && !link.ignore_router_advertisements {
            return Ok(());
        }
        self.flush()?;
        if link.ignore_router_advertisements {
            let setting = Resource::Sysctl(Sysctl::optional(SysctlKey::ipv6(&link.name, "accept_ra"), 0));
            let written = write_sysctls(self.kernel, self.place, &[&setting]);
            if let Some(Err(error)) = written.into_iter().next() {
                self.abandon(number, error);
                return Err(Stop::Earlier);
            }
        }
        if let Some(mark) = &link.mark {
            let index = self.index(&link.name, resource)?;
            link::set_alias(&mut self.datagram, index, mark);
            self.purposes.push(Purpose::Complete(number));
        }
        Ok(())
    }

    /// A tap is made by other means, at once, and then given what it is to have.
    fn queue_tap(
        &mut self,
        link: &Link,
        tap: &Tap,
        master: Option<u32>,
        resource: &Resource,
    ) -> Result<(), Stop> {
        self.flush()?;
        let number = self.outcomes.len();
        let made = self.kernel.side(self.place)?.within(|| tap::create(&link.name, tap))?;
        if let Err(refusal) = made {
            let refusal = self.kernel.explain(self.place, refusal, resource);
            let error = refused(Operation::Create, self.place, &resource.to_string(), refusal);
            return Err(Stop::Here(error));
        }
        self.kernel.remember(self.place, link);
        self.outcomes.push(Ok(Created::New));
        if link.mtu.is_some() || link.mac.is_some() || master.is_some() || link.up {
            let index = self.index(&link.name, resource)?;
            link::configure(&mut self.datagram, index, link, master);
            self.purposes.push(Purpose::Complete(number));
        }
        Ok(())
    }

    /// What a link is on: its index, and the number that its namespace has here.
    fn parent(&mut self, link: &Link, resource: &Resource) -> Result<Option<ParentIndex>, Stop> {
        let Some(parent) = link.kind.parent() else { return Ok(None) };
        if parent.place == self.place {
            let index = self.index(&parent.name, resource)?;
            return Ok(Some(ParentIndex { index, namespace: None }));
        }
        let Some(found) = read::link(self.kernel, parent.place, &parent.name)? else {
            let text =
                format!("there is no interface \"{}\" in the {}'s namespace", parent.name, parent.place);
            return Err(self.missing(text, resource));
        };
        let mut request = Datagram::default();
        let there = self.kernel.side(parent.place)?.namespace()?.as_fd();
        namespace::give_number(&mut request, there);
        namespace::get_number(&mut request, there);
        let object = format!("number for the {}'s namespace", parent.place);
        let replies = self.kernel.exchange(self.place, &mut request, Operation::Read, &object)?;
        // Whether it has just got the number, or had one before, is all the same.
        let answer = replies.into_iter().nth(1).unwrap_or_default().accepted();
        let answer = answer.map_err(|refusal| refused(Operation::Read, self.place, &object, refusal))?;
        let namespace = answer.first().and_then(|body| namespace::parse_number(body));
        Ok(Some(ParentIndex { index: found.index, namespace }))
    }
}

impl LinuxKernel {
    /// Remembers the indices of a link that was just made, both ends of it.
    ///
    /// To ask rtnetlink for the link would bring the kernel up to date about it first (`linkwatch_sync_dev()`): it would take
    /// the queue from an end that is up and whose other end is not, and wait an RCU grace period for that.
    pub(super) fn remember(&mut self, place: Place, link: &Link) {
        let ends = [(place, &link.name)].into_iter().chain(peer(link).map(|peer| (peer.place, &peer.name)));
        for (place, name) in ends {
            let Ok(side) = self.side(place) else { continue };
            // Who needs one that could not be learned asks again.
            if let Some(Ok(index)) = side.route().ok().map(|socket| sys::index_of(socket, name.as_str())) {
                side.links.insert(name.clone(), Known { index, fresh: true });
            }
        }
    }

    /// Which of a veth's two names is taken, when one is: the kernel does not say.
    pub(super) fn explain(&mut self, place: Place, refusal: Refusal, resource: &Resource) -> Refusal {
        if let Resource::Link(link) = resource
            && let Some(peer) = peer(link)
            && refusal.errno == Errno::EEXIST
            && let Ok(None) = read::link(self, place, &link.name)
        {
            let detail = format!("there is an interface \"{}\" in the {}'s namespace", peer.name, peer.place);
            return Refusal { errno: refusal.errno, detail: Some(detail) };
        }
        Refusal { errno: refusal.errno, detail: resource.explain(refusal.errno, refusal.detail) }
    }
}

fn peer(link: &Link) -> Option<&VethPeer> {
    match &link.kind {
        LinkKind::Veth { peer } => Some(peer),
        _ => None,
    }
}
