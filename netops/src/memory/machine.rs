//! The machine: its namespaces, and which rule answers which request.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Errno;
use crate::foreign::ForeignRules;
use crate::kernel::{Answer, Created, Edit, Query, Removed};
use crate::name::SysctlKey;
use crate::place::Place;
use crate::resource::Resource;

use super::namespace::Namespace;
use super::overlay::{self, InPlace};
use super::rules::{self, LOCAL_TABLE};
use super::{addresses, routes, settings, shaping, sysctls, uppers, ways};
use super::{links, masters};

/// A machine with its network namespaces.
#[derive(Default)]
pub(super) struct Machine {
    pub(super) namespaces: BTreeMap<NamespaceId, Namespace>,
    born: i32,
    macs: u32,
    lacking: BTreeSet<Feature>,
    /// Processes that rely on shared resources.
    pub(super) sharers: usize,
    /// One process has shared resources to itself.
    pub(super) exclusive: bool,
    /// Namespaces in which one process looks for what is free.
    pub(super) claimed: BTreeSet<NamespaceId>,
}

/// A namespace's number; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NamespaceId(i32);

/// The namespaces that a process means by its places.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) host: NamespaceId,
    pub(super) container: Option<NamespaceId>,
}

/// Something that a kernel may have been built without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// `CONFIG_BRIDGE`.
    Bridge,
    /// `CONFIG_BRIDGE_VLAN_FILTERING`.
    VlanFiltering,
    /// `CONFIG_VETH`.
    Veth,
    /// `CONFIG_DUMMY`.
    Dummy,
    /// `CONFIG_IFB`.
    Ifb,
    /// `CONFIG_NET_SCH_TBF`.
    TokenBucket,
    /// `CONFIG_NET_SCH_INGRESS`.
    Ingress,
    /// `CONFIG_NET_CLS_U32` and `CONFIG_NET_ACT_MIRRED`.
    Redirect,
    /// `CONFIG_MACVLAN`.
    Macvlan,
    /// `CONFIG_IPVLAN`.
    Ipvlan,
    /// `CONFIG_VLAN_8021Q`.
    Vlan,
    /// `CONFIG_TUN`.
    Tun,
    /// `CONFIG_NF_TABLES`.
    NfTables,
    /// `CONFIG_IPV6`.
    Ipv6,
    /// `CONFIG_NET_VRF`.
    Vrf,
    /// `CONFIG_VXLAN`.
    Vxlan,
    /// `CONFIG_IP_MULTIPLE_TABLES` and `CONFIG_IPV6_MULTIPLE_TABLES`.
    PolicyRouting,
}

/// Why a request is not met.
#[derive(Debug)]
pub(super) enum Problem {
    /// The kernel refuses, with its own explanation where it has one.
    Refused(Errno, Option<&'static str>),
    /// There is no container.
    NoContainer,
    /// What was waited for did not come.
    TimedOut,
}

impl NamespaceId {
    pub(super) fn number(self) -> i32 {
        self.0
    }
}

impl View {
    /// The namespace that a place is.
    pub(super) fn of(self, place: Place) -> Result<NamespaceId, Problem> {
        match place {
            Place::Host => Ok(self.host),
            Place::Container => self.container.ok_or(Problem::NoContainer),
        }
    }
}

impl Machine {
    pub(super) fn add_namespace(&mut self) -> NamespaceId {
        let id = NamespaceId(self.born);
        self.born += 1;
        let mut namespace = Namespace::new(self.has(Feature::Ipv6));
        if !self.has(Feature::PolicyRouting) {
            namespace.rules.clear();
        }
        self.namespaces.insert(id, namespace);
        id
    }

    pub(super) fn delete_namespace(&mut self, id: NamespaceId) {
        let links: Vec<_> = self
            .namespaces
            .get(&id)
            .into_iter()
            .flat_map(|namespace| namespace.links.keys().copied())
            .collect();
        for index in links {
            links::delete(self, id, index);
        }
        self.namespaces.remove(&id);
    }

    pub(super) fn has(&self, feature: Feature) -> bool {
        !self.lacking.contains(&feature)
    }

    pub(super) fn take_away(&mut self, feature: Feature) {
        self.lacking.insert(feature);
        for namespace in self.namespaces.values_mut() {
            match feature {
                Feature::Ipv6 => {
                    namespace.sysctls.retain(|key, _| !key.starts_with("net/ipv6/"));
                    rules::clear(&mut namespace.rules, routes::Family::V6);
                }
                Feature::PolicyRouting => namespace.rules.clear(),
                _ => {}
            }
        }
    }

    pub(super) fn define_sysctl(&mut self, view: View, place: Place, key: &SysctlKey, value: &str) {
        if let Ok(namespace) = self.namespace(view, place) {
            namespace.sysctls.insert(key.as_str().to_owned(), value.to_owned());
        }
    }

    /// The next MAC address of the kernel's own choice: locally administered, and the same in every run.
    pub(super) fn next_mac(&mut self) -> crate::name::MacAddr {
        self.macs += 1;
        let [a, b, c, d] = self.macs.to_be_bytes();
        crate::name::MacAddr::new([0x0e, 0xce, a, b, c, d])
    }

    pub(super) fn put_foreign(&mut self, view: View, place: Place, rules: ForeignRules, comment: &str) {
        if let Ok(namespace) = self.namespace(view, place) {
            namespace.foreign.insert(rules, comment.to_owned());
        }
    }

    fn namespace(&mut self, view: View, place: Place) -> Result<&mut Namespace, Problem> {
        let id = view.of(place)?;
        // A namespace lives as long as a process that has it in sight, unless another has deleted it.
        self.namespaces.get_mut(&id).ok_or(Problem::NoContainer)
    }

    /// As [`crate::Kernel::create`], for one resource.
    pub(super) fn create(
        &mut self,
        view: View,
        place: Place,
        resource: &Resource,
    ) -> Result<Created, Problem> {
        let needs_tables =
            matches!(resource, Resource::Entry(_) | Resource::Isolation(_) | Resource::ForwardJump(_))
                || matches!(resource, Resource::OverlayRules(_));
        if needs_tables && !self.has(Feature::NfTables) {
            return Err(Problem::Refused(Errno::EOPNOTSUPP, None));
        }
        let has_vlans = self.has(Feature::VlanFiltering);
        let namespace = self.namespace(view, place)?;
        let created = match resource {
            Resource::Link(link) => links::create(self, view, place, link),
            Resource::LinkUp(link) => {
                uppers::can_be_up(self, view.of(place)?, link)?;
                links::raise(self.namespace(view, place)?, link)
            }
            Resource::Master(master) => masters::set_master(self, view.of(place)?, master),
            Resource::LinkDown(link) => Ok(match links::lower(namespace, link) {
                true => Created::Changed(Resource::LinkUp(link.clone())),
                false => Created::Kept,
            }),
            Resource::MovedLink(moved) => links::bring(self, view, place, moved),
            Resource::Promiscuous(link) => {
                let link = namespace.link_mut(link)?;
                let before = std::mem::replace(&mut link.promiscuous, true);
                Ok(if before { Created::Kept } else { Created::New })
            }
            Resource::Settings(settings) => settings::set(self, view.of(place)?, settings),
            Resource::FixedMac(link) => {
                let link = namespace.link_mut(link)?;
                let before = std::mem::replace(&mut link.mac_given, true);
                Ok(if before { Created::Kept } else { Created::New })
            }
            Resource::Port(port) => masters::set_port(namespace, port, has_vlans),
            Resource::Address(address) => addresses::add(namespace, address),
            Resource::Settled(link) => {
                let index = namespace.index(link)?;
                let id = view.of(place)?;
                if addresses::are_settled(self, id, index) {
                    Ok(Created::Kept)
                } else {
                    Err(Problem::TimedOut)
                }
            }
            Resource::Route(route) => routes::add(namespace, route),
            Resource::NoRoute(route) if routes::remove(namespace, route) => {
                Ok(Created::Changed(Resource::Route(route.clone())))
            }
            Resource::NoRoute(route) => {
                let index = route.link().map(|link| namespace.index(link)).transpose();
                index.map(|_| Created::Kept)
            }
            Resource::NextHop(hop) => overlay::put_hop(namespace, hop, InPlace::Refuse),
            Resource::Neighbour(neighbour) => overlay::put_neighbour(namespace, neighbour, InPlace::Refuse),
            Resource::Proxy(proxy) => overlay::put_proxy(namespace, proxy),
            Resource::Fdb(entry) => overlay::put_fdb(namespace, entry, InPlace::Refuse),
            Resource::Rule(rule) => rules::add(&mut namespace.rules, rule),
            Resource::Sysctl(sysctl) => sysctls::set(namespace, sysctl),
            Resource::Qdisc(qdisc) => shaping::add_qdisc(self, view.of(place)?, qdisc),
            Resource::Redirect(redirect) => shaping::add_redirect(self, view.of(place)?, redirect),
            Resource::Entry(wanted) if wanted.contradiction().is_some() => {
                Err(Problem::Refused(Errno::EINVAL, wanted.contradiction()))
            }
            Resource::Entry(wanted) => insert_new(&mut namespace.entries, wanted.key(), wanted.kept()),
            Resource::Foreign(_) => Err(Problem::Refused(Errno::EOPNOTSUPP, None)),
            Resource::Isolation(wanted) => Ok(set(&mut namespace.isolations, wanted)),
            Resource::ForwardJump(wanted) => Ok(set(&mut namespace.jumps, wanted)),
            Resource::OverlayRules(wanted) => Ok(match namespace.overlay_rules.replace(wanted.kept()) {
                None => Created::New,
                Some(before) if before == wanted.kept() => Created::Kept,
                Some(before) => Created::Changed(before.into()),
            }),
        }?;
        links::settle(self);
        Ok(created)
    }

    /// As [`crate::Kernel::remove`], for one resource.
    pub(super) fn remove(
        &mut self,
        view: View,
        place: Place,
        resource: &Resource,
    ) -> Result<Removed, Problem> {
        let namespace = self.namespace(view, place)?;
        let was_there = match resource {
            Resource::Link(link) => {
                let index = namespace.link(&link.name).map(|link| (link.index, link.kind.is_loopback()));
                match index {
                    Some((_, true)) => return Err(Problem::Refused(Errno::EOPNOTSUPP, None)),
                    Some((index, false)) => {
                        let id = view.of(place)?;
                        links::delete(self, id, index);
                        true
                    }
                    None => false,
                }
            }
            Resource::LinkUp(link) => links::lower(namespace, link),
            Resource::Master(master) => masters::release(namespace, &master.link),
            Resource::MovedLink(moved) => links::take_back(self, view, place, moved)?,
            Resource::Promiscuous(link) => {
                namespace.link_mut(link).is_ok_and(|link| std::mem::replace(&mut link.promiscuous, false))
            }
            Resource::Address(address) => addresses::remove(namespace, address),
            Resource::Route(route) => routes::remove(namespace, route),
            Resource::Qdisc(qdisc) => shaping::remove_qdisc(namespace, qdisc),
            Resource::Redirect(redirect) => shaping::remove_redirects(namespace, &redirect.from),
            Resource::Rule(rule) => rules::remove(&mut namespace.rules, rule),
            Resource::Entry(entry) => {
                let found = namespace.entries.get(&entry.key());
                let own = found.is_some_and(|found| found.mark() == entry.mark());
                own && namespace.entries.remove(&entry.key()).is_some()
            }
            Resource::Foreign(rules) => namespace.foreign.remove(rules).is_some(),
            Resource::Isolation(isolation) => namespace.isolations.remove(isolation),
            Resource::NextHop(hop) => overlay::remove_hop(namespace, hop.id),
            Resource::Neighbour(neighbour) => overlay::remove_neighbour(namespace, neighbour),
            Resource::Proxy(proxy) => overlay::remove_proxy(namespace, proxy),
            Resource::Fdb(entry) => overlay::remove_fdb(namespace, entry),
            Resource::OverlayRules(_) => namespace.overlay_rules.take().is_some(),
            Resource::Settings(_)
            | Resource::LinkDown(_)
            | Resource::FixedMac(_)
            | Resource::NoRoute(_)
            | Resource::Port(_)
            | Resource::Settled(_)
            | Resource::Sysctl(_)
            | Resource::ForwardJump(_) => false,
        };
        links::settle(self);
        Ok(if was_there { Removed::Now } else { Removed::Before })
    }

    /// As [`crate::Kernel::edit`], for one edit.
    pub(super) fn edit(&mut self, view: View, place: Place, edit: Edit<'_>) -> Result<(), Problem> {
        overlay::edit(self.namespace(view, place)?, edit)
    }

    /// As [`crate::Kernel::read`], for one question.
    pub(super) fn read(&self, view: View, place: Place, query: &Query) -> Result<Answer, Problem> {
        let id = view.of(place)?;
        let namespace = self.namespaces.get(&id).ok_or(Problem::NoContainer)?;
        let state = |link: &super::namespace::Interface| link.state(id, links::carrier(self, id, link.index));
        Ok(match query {
            Query::Link(name) => Answer::Links(namespace.link(name).map(state).into_iter().collect()),
            Query::Links => Answer::Links(namespace.links.values().map(state).collect()),
            Query::Carrier(name) => {
                Answer::Present(namespace.link(name).map(state).is_some_and(|link| link.up && link.carrier))
            }
            Query::Port(name) => {
                let membership = namespace.link(name).and_then(|link| link.membership.as_ref());
                Answer::Port(membership.map(|membership| membership.port.clone()))
            }
            Query::Addresses(name) => {
                Answer::Addresses(namespace.link(name).map_or_else(Vec::new, addresses::list))
            }
            Query::Peer(name) => {
                let state = |(there, peer): (_, &super::namespace::Interface)| {
                    peer.state(there, links::carrier(self, there, peer.index))
                };
                Answer::Links(links::peer(self, id, name).map(state).into_iter().collect())
            }
            Query::PeerAddresses(name) => {
                let addresses = |(_, peer)| addresses::list(peer);
                Answer::Addresses(links::peer(self, id, name).map_or_else(Vec::new, addresses))
            }
            Query::Routes(name) => Answer::Routes(ways::list(namespace, name)),
            Query::LinkTo(address) => {
                let link = ways::link_to(namespace, *address).and_then(|index| namespace.links.get(&index));
                Answer::Links(link.map(state).into_iter().collect())
            }
            Query::Rules => Answer::Rules(namespace.rules.clone()),
            Query::Tables => Answer::Tables(tables(namespace)),
            Query::DefaultRoutes => Answer::Routes(ways::defaults(namespace)),
            Query::RoutesOf { protocol, table } => {
                Answer::Routes(ways::list_of(namespace, *protocol, *table))
            }
            Query::RouteTo(lookup) => Answer::Way(overlay::way(namespace, lookup)),
            Query::NextHop(id) => Answer::NextHops(overlay::hops(namespace, |hop| hop.id == *id)),
            Query::NextHops(protocol) => {
                Answer::NextHops(overlay::hops(namespace, |hop| hop.protocol == *protocol))
            }
            Query::NeighbourOf(name, address) => {
                Answer::Neighbours(overlay::neighbours(namespace, name, |at| at == *address))
            }
            Query::NeighboursOn(name) => Answer::Neighbours(overlay::neighbours(namespace, name, |_| true)),
            Query::Proxies => Answer::Proxies(overlay::proxies(namespace)),
            Query::FdbOf(name, mac) => Answer::Fdb(overlay::fdb(namespace, name, |of| of == *mac)),
            Query::FdbOn(name) => Answer::Fdb(overlay::fdb(namespace, name, |_| true)),
            Query::OverlayRules => Answer::OverlayRules(namespace.overlay_rules.clone()),
            Query::Sysctl(key) => Answer::Sysctl(namespace.sysctls.get(key.as_str()).cloned()),
            Query::Qdiscs(name) => Answer::Qdiscs(shaping::qdiscs(namespace, name)),
            Query::Redirects(name) => Answer::Redirects(shaping::redirects(namespace, name)),
            Query::Entry(key) => Answer::Entries(namespace.entries.get(key).cloned().into_iter().collect()),
            Query::Entries(kind) => {
                let entries = namespace.entries.iter().filter(|(key, _)| key.kind() == *kind);
                Answer::Entries(entries.map(|(_, entry)| entry.clone()).collect())
            }
            Query::Foreign(rules) => Answer::Foreign(namespace.foreign.contains_key(rules)),
            Query::Comments(chain) => {
                let there = namespace.foreign.iter().filter(|(rules, _)| rules.sites().contains(chain));
                Answer::Comments(there.map(|(_, comment)| comment.clone()).collect())
            }
            // Nobody else's packet filter is in memory.
            Query::Droppers => Answer::Chains(Vec::new()),
            Query::Isolation(isolation) => Answer::Present(namespace.isolations.contains(isolation)),
            Query::ForwardJump(jump) => Answer::Present(namespace.jumps.contains(jump)),
        })
    }
}

/// Makes sure that a set has something.
fn set<T: Ord + Clone>(set: &mut BTreeSet<T>, value: &T) -> Created {
    if set.insert(value.clone()) { Created::New } else { Created::Kept }
}

/// The routing tables that anybody uses.
fn tables(namespace: &Namespace) -> Vec<u32> {
    let of_routes = namespace.routes.iter().map(|entry| entry.route.table());
    // Every address has a route there.
    let local = namespace.links.values().any(|link| !link.addresses.is_empty()).then_some(LOCAL_TABLE);
    let of_rules = namespace.rules.iter().map(|rule| rule.table);
    let tables: BTreeSet<_> = of_routes.chain(local).chain(of_rules).collect();
    tables.into_iter().collect()
}

/// The kernel's no, with its own explanation.
pub(super) fn refused(errno: Errno, detail: &'static str) -> Problem {
    Problem::Refused(errno, Some(detail))
}

/// Adds an element to a map of cnikit's.
fn insert_new<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V) -> Result<Created, Problem> {
    if map.contains_key(&key) {
        return Err(Problem::Refused(Errno::EEXIST, None));
    }
    map.insert(key, value);
    Ok(Created::New)
}
