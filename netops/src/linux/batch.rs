//! What rtnetlink makes: as few datagrams as the order allows.

mod moved;

use std::os::fd::AsFd;

use super::create::write_sysctls;
use super::netlink::{Datagram, Refusal, Reply};
use super::rtnetlink::link::{Creation, Flag, ParentIndex};
use super::rtnetlink::{address, link, namespace, port, route, rule, tc};
use super::{Known, LinuxKernel, read, refused, remove, tap};
use crate::error::{Errno, Error, Operation};
use crate::kernel::Created;
use crate::name::{LinkName, SysctlKey};
use crate::place::Place;
use crate::resource::{Link, LinkKind, LinkSettings, Master, Port, Resource, Rule, Sysctl, Tap, VethPeer};

/// Consecutive resources that rtnetlink makes. Requests pile up in a datagram, which is sent when something needs the
/// answer, and at the end.
pub(super) struct Batch<'a> {
    kernel: &'a mut LinuxKernel,
    place: Place,
    resources: &'a [&'a Resource],
    outcomes: Vec<Result<Created, Error>>,
    datagram: Datagram,
    /// What each message of the datagram is for.
    purposes: Vec<Purpose>,
    /// Links that will be there once it is sent.
    unborn: Vec<LinkName>,
}

/// What a request is for; the number is the resource's.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    /// Makes it.
    Make(usize),
    /// Makes it, or part of it.
    Change(usize),
    /// Asks for the index of a link that was just made.
    Learn(usize),
    /// Makes a link that was made complete; without it, it must go again.
    Complete(usize),
    /// Removes it; if there is nothing to remove, nothing is done.
    Unmake(usize),
    /// Asks how a link's flag was before.
    Before(usize, Flag),
}

/// Why no more is tried.
enum Stop {
    /// Something that was tried before has failed; `outcomes` says what.
    Earlier,
    /// What was next cannot be tried.
    Here(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Here(error)
    }
}

impl<'a> Batch<'a> {
    pub(super) fn new(kernel: &'a mut LinuxKernel, place: Place, resources: &'a [&'a Resource]) -> Self {
        Self {
            kernel,
            place,
            resources,
            outcomes: Vec::with_capacity(resources.len()),
            datagram: Datagram::default(),
            purposes: Vec::new(),
            unborn: Vec::new(),
        }
    }

    /// Makes the resources, in order, up to the first failure or a little further.
    pub(super) fn run(mut self) -> Vec<Result<Created, Error>> {
        for resource in self.resources {
            match self.queue(resource) {
                Ok(()) => {}
                Err(Stop::Earlier) => return self.outcomes,
                Err(Stop::Here(error)) => {
                    if self.flush().is_ok() {
                        self.outcomes.push(Err(error));
                    }
                    return self.outcomes;
                }
            }
        }
        // What failed is in the outcomes.
        let _ = self.flush();
        self.outcomes
    }

    /// Writes the requests for the next resource.
    fn queue(&mut self, resource: &Resource) -> Result<(), Stop> {
        match resource {
            Resource::Link(link) => self.queue_link(link, resource),
            Resource::LinkUp(name) => self.queue_flag(name, Flag::Up),
            Resource::LinkDown(name) => self.queue_down(name),
            Resource::MovedLink(moved) => self.queue_moved(moved, resource),
            Resource::Promiscuous(name) => self.queue_flag(name, Flag::Promiscuous),
            Resource::Settings(settings) => self.queue_settings(settings, resource),
            Resource::FixedMac(name) => self.queue_fixed_mac(name, resource),
            Resource::Port(port) => self.queue_port(port, resource),
            Resource::Master(master) => self.queue_master(master, resource),
            Resource::Address(address) => {
                let index = self.index(&address.link, resource)?;
                address::create(&mut self.datagram, index, address);
                self.expect(Purpose::Make, Created::New);
                Ok(())
            }
            Resource::Route(route) => {
                let index = self.index(&route.link, resource)?;
                route::create(&mut self.datagram, index, route);
                self.expect(Purpose::Make, Created::New);
                Ok(())
            }
            Resource::Qdisc(qdisc) => {
                let index = self.index(&qdisc.link, resource)?;
                tc::create(&mut self.datagram, index, &qdisc.discipline);
                self.expect(Purpose::Make, Created::New);
                Ok(())
            }
            Resource::Redirect(redirect) => {
                let index = self.index(&redirect.from, resource)?;
                let target = self.index(&redirect.to, resource)?;
                tc::redirect(&mut self.datagram, index, target);
                self.expect(Purpose::Make, Created::New);
                Ok(())
            }
            Resource::NoRoute(route) => {
                let index = self.index(&route.link, resource)?;
                route::delete(&mut self.datagram, index, route);
                self.expect(Purpose::Unmake, Created::Changed(Resource::Route(route.clone())));
                Ok(())
            }
            Resource::Rule(rule) => self.queue_rule(rule),
            // Made by other means.
            Resource::Settled(_)
            | Resource::Sysctl(_)
            | Resource::Entry(_)
            | Resource::Foreign(_)
            | Resource::Isolation(_)
            | Resource::ForwardJump(_) => Ok(()),
        }
    }

    /// A link, its index, and then what the kernel does not take together with it. That goes into a second datagram:
    /// were the name another's, all that follows in the first would be done to that one.
    fn queue_link(&mut self, link: &Link, resource: &Resource) -> Result<(), Stop> {
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
            link::get(&mut self.datagram, &link.name);
            let peer = peer(link).filter(|peer| peer.place == self.place);
            self.unborn.extend([&link.name].into_iter().chain(peer.map(|peer| &peer.name)).cloned());
            self.purposes.push(Purpose::Make(number));
            self.expect(Purpose::Learn, Created::New);
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
            let refusal = explain(refusal, resource, None);
            let error = refused(Operation::Create, self.place, &resource.to_string(), refusal);
            return Err(Stop::Here(error));
        }
        link::get(&mut self.datagram, &link.name);
        self.expect(Purpose::Learn, Created::New);
        if link.mtu.is_some() || link.mac.is_some() || master.is_some() || link.up {
            self.flush()?;
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

    /// By name, which needs no index. A link that was just made is down and quiet; of another it is asked first.
    fn queue_flag(&mut self, name: &LinkName, flag: Flag) -> Result<(), Stop> {
        if self.unborn.contains(name) {
            self.flush()?;
        }
        if !self.is_fresh(name)? {
            link::get(&mut self.datagram, name);
            self.purposes.push(Purpose::Before(self.outcomes.len(), flag));
        }
        link::set_flag(&mut self.datagram, name, flag, true);
        self.expect(Purpose::Make, Created::New);
        Ok(())
    }

    /// An address that is set is a bridge's own from then on, also the one that it has (`br_set_mac_address()`).
    fn queue_fixed_mac(&mut self, name: &LinkName, resource: &Resource) -> Result<(), Stop> {
        if self.is_fresh(name)? {
            // It was made with one.
            self.outcomes.push(Ok(Created::Kept));
            return Ok(());
        }
        let index = self.index(name, resource)?;
        match read::link(self.kernel, self.place, name)?.and_then(|link| link.mac) {
            Some(mac) => {
                link::set_mac(&mut self.datagram, index, mac);
                self.expect(Purpose::Make, Created::New);
            }
            None => self.outcomes.push(Ok(Created::Kept)),
        }
        Ok(())
    }

    /// Only what is not so already: some drivers restart at every change.
    fn queue_settings(&mut self, wanted: &LinkSettings, resource: &Resource) -> Result<(), Stop> {
        let number = self.outcomes.len();
        // Learns whether the link is there.
        let index = self.index(&wanted.link, resource)?;
        // What is queued may change what is asked about.
        self.flush()?;
        let before = read::link(self.kernel, self.place, &wanted.link)?.map(|link| wanted.as_of(&link));
        let before = before.unwrap_or_else(|| LinkSettings::none(wanted.link.clone()));
        let change = wanted.unlike(&before);
        if change.is_none() {
            self.outcomes.push(Ok(Created::Kept));
            return Ok(());
        }
        // From here on the link is not as it was made.
        self.is_fresh(&wanted.link)?;
        link::set(&mut self.datagram, index, &change);
        self.purposes.push(Purpose::Change(number));
        self.outcomes.push(Ok(Created::Changed(Resource::Settings(before))));
        Ok(())
    }

    /// The kernel makes the changes of one message one by one, and those before the one that it refuses stay.
    fn change_back(&mut self, number: usize) {
        let before = match self.outcomes.get(number) {
            Some(Ok(Created::Changed(Resource::Settings(before)))) => before.clone(),
            _ => return,
        };
        let index = self.kernel.side(self.place).ok().and_then(|side| side.links.get(&before.link));
        if let Some(index) = index.map(|known| known.index) {
            let mut datagram = Datagram::default();
            link::set(&mut datagram, index, &before);
            // If it will not have that either, there is nothing better to do.
            let object = before.link.to_string();
            let _ = self.kernel.exchange(self.place, &mut datagram, Operation::Create, &object);
        }
    }

    fn queue_port(&mut self, port: &Port, resource: &Resource) -> Result<(), Stop> {
        let number = self.outcomes.len();
        let index = self.index(&port.link, resource)?;
        let new = self.is_fresh(&port.link)?;
        let before = if new { None } else { read::port(self.kernel, self.place, &port.link)? };
        let created = match before {
            Some(before) if port::has_all(&before, port) => Created::Kept,
            Some(before) => Created::Changed(Resource::Port(before)),
            None => Created::New,
        };
        if created != Created::Kept {
            let messages = port::set(&mut self.datagram, index, port, new);
            self.purposes.extend(std::iter::repeat_n(Purpose::Make(number), messages));
        }
        self.outcomes.push(Ok(created));
        Ok(())
    }

    fn queue_master(&mut self, wanted: &Master, resource: &Resource) -> Result<(), Stop> {
        let master = self.index(&wanted.master, resource)?;
        let index = self.index(&wanted.link, resource)?;
        // What it loses by that is safe only once all before that was done.
        self.flush()?;
        self.is_fresh(&wanted.link)?;
        let before = read::link(self.kernel, self.place, &wanted.link)?.and_then(|link| link.master);
        if before == Some(master) {
            self.outcomes.push(Ok(Created::Kept));
            return Ok(());
        }
        let before = match before {
            Some(before) => read::link_by_index(self.kernel, self.place, before)?,
            None => None,
        };
        let created = before.map_or(Created::New, |before| {
            Created::Changed(Resource::Master(Master { master: before.name, ..wanted.clone() }))
        });
        link::set_master(&mut self.datagram, index, master);
        self.expect(Purpose::Make, created);
        Ok(())
    }

    /// The kernel takes the same rule any number of times, and gives each another priority.
    fn queue_rule(&mut self, rule: &Rule) -> Result<(), Stop> {
        let is_it = |other: &Rule| {
            (other.from, other.table) == (rule.from, rule.table)
                && rule.priority.is_none_or(|priority| other.priority == Some(priority))
        };
        if read::rules(self.kernel, self.place)?.iter().any(is_it) {
            self.outcomes.push(Ok(Created::Kept));
        } else {
            rule::create(&mut self.datagram, rule);
            self.expect(Purpose::Make, Created::New);
        }
        Ok(())
    }

    /// Notes what the last request in the datagram is for, and what its resource comes to unless it is refused.
    fn expect(&mut self, purpose: impl FnOnce(usize) -> Purpose, created: Created) {
        self.purposes.push(purpose(self.outcomes.len()));
        self.outcomes.push(Ok(created));
    }

    /// The index of a link that a resource refers to.
    fn index(&mut self, name: &LinkName, resource: &Resource) -> Result<u32, Stop> {
        if self.unborn.contains(name) {
            self.flush()?;
        }
        if let Some(known) = self.kernel.side(self.place)?.links.get(name) {
            return Ok(known.index);
        }
        match read::link(self.kernel, self.place, name)? {
            Some(link) => Ok(link.index),
            None => Err(self.missing(format!("there is no interface \"{name}\""), resource)),
        }
    }

    /// The end of the batch, for a link that a resource refers to is not there.
    fn missing(&self, what: String, resource: &Resource) -> Stop {
        let refusal = Refusal { errno: Errno::ENODEV, detail: Some(what) };
        Stop::Here(refused(Operation::Create, self.place, &resource.to_string(), refusal))
    }

    /// Whether a link is as it was made a moment ago, which it is not any more after this.
    fn is_fresh(&mut self, name: &LinkName) -> Result<bool, Error> {
        let known = self.kernel.side(self.place)?.links.get_mut(name);
        Ok(known.is_some_and(|known| std::mem::take(&mut known.fresh)))
    }

    /// Sends what has piled up.
    fn flush(&mut self) -> Result<(), Stop> {
        let mut datagram = std::mem::take(&mut self.datagram);
        let purposes = std::mem::take(&mut self.purposes);
        self.unborn.clear();
        let Some(first) = purposes.first().map(Purpose::resource) else { return Ok(()) };
        let object = self.resources.get(first).map(ToString::to_string).unwrap_or_default();
        let replies = match self.kernel.exchange(self.place, &mut datagram, Operation::Create, &object) {
            Ok(replies) => replies,
            Err(error) => {
                for purpose in &purposes {
                    if let Purpose::Complete(link) = purpose {
                        self.abandon(*link, error.clone());
                    }
                }
                self.outcomes.truncate(first);
                self.outcomes.push(Err(error));
                return Err(Stop::Earlier);
            }
        };
        let mut replies = purposes.into_iter().zip(replies).peekable();
        while let Some((purpose, reply)) = replies.next() {
            let next = replies.peek().map(|(_, reply)| reply);
            self.conclude(purpose, reply, next);
        }
        if self.outcomes.iter().any(Result::is_err) { Err(Stop::Earlier) } else { Ok(()) }
    }

    fn conclude(&mut self, purpose: Purpose, reply: Reply, next: Option<&Reply>) {
        let number = purpose.resource();
        let (Some(resource), Some(outcome)) = (self.resources.get(number), self.outcomes.get_mut(number))
        else {
            return;
        };
        match (purpose, reply.accepted()) {
            (Purpose::Make(_), Err(refusal)) => {
                let refusal = explain(refusal, resource, next);
                if matches!(refusal.errno, Errno::ENODEV | Errno::EINVAL) {
                    // An index that is no interface's any more, or no bridge's, is not used twice.
                    self.kernel.forget_links();
                }
                let error = refused(Operation::Create, self.place, &resource.to_string(), refusal);
                if let Some(outcome) = self.outcomes.get_mut(number).filter(|outcome| outcome.is_ok()) {
                    *outcome = Err(error);
                }
            }
            (Purpose::Unmake(_), Err(refusal)) if remove::was_gone(resource, &refusal) => {
                *outcome = Ok(Created::Kept);
            }
            (Purpose::Unmake(_), Err(refusal)) => {
                *outcome = Err(refused(Operation::Create, self.place, &resource.to_string(), refusal));
            }
            (Purpose::Change(_), Err(refusal)) => {
                let error = refused(Operation::Create, self.place, &resource.to_string(), refusal);
                self.change_back(number);
                if let Some(outcome) = self.outcomes.get_mut(number) {
                    *outcome = Err(error);
                }
            }
            (Purpose::Complete(_), Err(refusal)) => {
                let error = refused(Operation::Create, self.place, &resource.to_string(), refusal);
                self.abandon(number, error);
            }
            (Purpose::Before(_, flag), Ok(answers)) => {
                let before = answers.first().and_then(|body| link::parse(body));
                if before.is_some_and(|link| flag.is_on(&link)) {
                    *outcome = Ok(Created::Kept);
                }
            }
            (Purpose::Learn(_), Ok(answers)) if outcome.is_ok() => {
                let made = answers.first().and_then(|body| link::parse(body));
                if let (Resource::Link(link), Some(made)) = (resource, made) {
                    self.kernel.remember(self.place, link, made.index, made.peer_index);
                }
            }
            // What was refused has its own message's refusal to show for it.
            _ => {}
        }
    }

    /// Unmakes a link that was made but not completed.
    fn abandon(&mut self, number: usize, error: Error) {
        if let Some(Resource::Link(link)) = self.resources.get(number) {
            let mut datagram = Datagram::default();
            link::delete(&mut datagram, &link.name);
            // It was made an instant ago; there is nothing better to do if it will not go.
            let _ = self.kernel.exchange(self.place, &mut datagram, Operation::Remove, link.name.as_str());
            self.kernel.forget_links();
        }
        if let Some(outcome) = self.outcomes.get_mut(number) {
            *outcome = Err(error);
        }
    }
}

impl Purpose {
    fn resource(&self) -> usize {
        match self {
            Self::Make(number)
            | Self::Change(number)
            | Self::Learn(number)
            | Self::Complete(number)
            | Self::Unmake(number)
            | Self::Before(number, _) => *number,
        }
    }
}

impl LinuxKernel {
    /// Remembers the indices of a link that was just made, both ends of it.
    fn remember(&mut self, place: Place, link: &Link, index: u32, peer_index: Option<u32>) {
        let mut insert = |place, name: &LinkName, index| {
            if let Ok(side) = self.side(place) {
                side.links.insert(name.clone(), Known { index, fresh: true });
            }
        };
        insert(place, &link.name, index);
        if let (Some(peer), Some(index)) = (peer(link), peer_index) {
            insert(peer.place, &peer.name, index);
        }
    }
}

fn peer(link: &Link) -> Option<&VethPeer> {
    match &link.kind {
        LinkKind::Veth { peer } => Some(peer),
        _ => None,
    }
}

/// Adds what the kernel does not say.
fn explain(refusal: Refusal, resource: &Resource, next: Option<&Reply>) -> Refusal {
    let peer = match resource {
        Resource::Link(link) => peer(link),
        _ => None,
    };
    match (peer, next) {
        // "File exists" about a veth does not say which of its two names is taken. The look for it that followed does:
        // if nothing has the first name, it is the second.
        (Some(peer), Some(look)) if refusal.errno == Errno::EEXIST && look.refusal.is_some() => Refusal {
            errno: refusal.errno,
            detail: Some(format!(
                "there is an interface \"{}\" in the {}'s namespace",
                peer.name, peer.place
            )),
        },
        _ => Refusal { errno: refusal.errno, detail: resource.explain(refusal.errno, refusal.detail) },
    }
}
