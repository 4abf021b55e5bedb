//! What rtnetlink makes: as few datagrams as the order allows.

mod made;
mod moved;
mod settings;

pub(super) use settings::ip_setting;

use super::netlink::{Datagram, Refusal, Reply};
use super::rtnetlink::link::Flag;
use super::rtnetlink::{address, link, neighbour, next_hop, route, rule, tc};
use super::{LinuxKernel, read, refused, remove};
use crate::error::{Errno, Error, Operation};
use crate::kernel::Created;
use crate::name::LinkName;
use crate::place::Place;
use crate::resource::{Resource, Rule};

/// What is not there yet.
const NEW: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;

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
    /// Sets it; if it may be missing and the kernel will not, nothing is done.
    Set(usize),
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
                let index = self.index_of(route.link(), resource)?;
                route::create(&mut self.datagram, index, route);
                self.expect(Purpose::Make, Created::New);
                Ok(())
            }
            Resource::NextHop(hop) => {
                let index = self.index_of(hop.via.link(), resource)?;
                next_hop::put(&mut self.datagram, NEW, index, hop);
                self.expect(Purpose::Make, Created::New);
                Ok(())
            }
            Resource::Neighbour(neighbour) => {
                let index = self.index(&neighbour.link, resource)?;
                neighbour::put(&mut self.datagram, NEW, index, neighbour);
                self.expect(Purpose::Make, Created::New);
                Ok(())
            }
            Resource::Proxy(proxy) => {
                let index = self.index(&proxy.link, resource)?;
                neighbour::put_proxy(&mut self.datagram, NEW, index, proxy);
                self.expect(Purpose::Make, Created::New);
                Ok(())
            }
            Resource::Fdb(entry) => {
                let index = self.index(&entry.link, resource)?;
                neighbour::put_fdb(&mut self.datagram, NEW, index, entry);
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
                let index = self.index_of(route.link(), resource)?;
                route::delete(&mut self.datagram, index, route);
                self.expect(Purpose::Unmake, Created::Changed(Resource::Route(route.clone())));
                Ok(())
            }
            Resource::Rule(rule) => self.queue_rule(rule),
            Resource::Sysctl(sysctl) => match ip_setting(sysctl) {
                Some((link, setting)) => self.queue_ip_setting(&link, setting, resource),
                None => Ok(()),
            },
            // Made by other means.
            Resource::Settled(_)
            | Resource::Entry(_)
            | Resource::Foreign(_)
            | Resource::Isolation(_)
            | Resource::ForwardJump(_)
            | Resource::OverlayRules(_) => Ok(()),
        }
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

    /// The kernel takes the same rule any number of times, and gives each another priority.
    fn queue_rule(&mut self, rule: &Rule) -> Result<(), Stop> {
        let is_it = |other: &Rule| {
            (other.selector, other.table) == (rule.selector, rule.table)
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

    /// The index of the link that a resource refers to, if it refers to any.
    fn index_of(&mut self, name: Option<&LinkName>, resource: &Resource) -> Result<Option<u32>, Stop> {
        name.map(|name| self.index(name, resource)).transpose()
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
        for (purpose, reply) in purposes.into_iter().zip(replies) {
            self.conclude(purpose, reply);
        }
        if self.outcomes.iter().any(Result::is_err) { Err(Stop::Earlier) } else { Ok(()) }
    }

    fn conclude(&mut self, purpose: Purpose, reply: Reply) {
        let number = purpose.resource();
        let (Some(resource), Some(outcome)) = (self.resources.get(number), self.outcomes.get_mut(number))
        else {
            return;
        };
        match (purpose, reply.accepted()) {
            (Purpose::Make(_), Err(refusal)) => {
                let refusal = self.kernel.explain(self.place, refusal, resource);
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
            (Purpose::Set(_), Err(_)) if matches!(resource, Resource::Sysctl(sysctl) if sysctl.optional) => {
                *outcome = Ok(Created::Kept);
            }
            (Purpose::Set(_), Err(refusal)) => {
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
            (Purpose::Make(_), Ok(_)) => {
                if let Resource::Link(link) = resource {
                    self.kernel.remember(self.place, link);
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
            | Self::Set(number)
            | Self::Complete(number)
            | Self::Unmake(number)
            | Self::Before(number, _) => *number,
        }
    }
}
