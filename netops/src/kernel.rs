//! The one trait through which everything here asks for something: reading, creating, removing.
//!
//! Few methods, each for many things at once, so that a backend can put them into as few system calls as the kernel
//! allows. Three backends stand behind it: [`crate::LinuxKernel`], the in-memory `MemoryKernel`
//! (feature `testing`), and [`crate::Script`], which prints the commands that a person would type.

use std::fmt;
use std::net::IpAddr;

use crate::entry::{Entry, EntryKey, EntryKind};
use crate::error::Error;
use crate::foreign::{ForeignChain, ForeignRules};
use crate::lookup::{FoundRoute, NeighbourState, RouteLookup};
use crate::name::{LinkName, MacAddr, SysctlKey};
use crate::place::Place;
use crate::resource::{
    Address, FdbEntry, ForwardJump, Isolation, NeighbourProxy, NextHop, OverlayRules, Port, Qdisc, Redirect,
    Resource, Route, Rule, property,
};

/// Something that holds network state. Object-safe; a plugin sees only this.
pub trait Kernel {
    /// Looks things up. One answer per question, in order; that something is absent is an answer, not an error.
    ///
    /// # Errors
    /// The first failure.
    fn read(&mut self, place: Place, queries: &[Query]) -> Result<Vec<Answer>, Error>;

    /// Makes resources exist, in order. Results come in the order of `resources`, one for each that was tried: a
    /// failure ends the batch at the latest where the next one would begin, so the list may be shorter than
    /// `resources`, and what follows a failure in it may have succeeded (the kernel goes on with the messages of a
    /// datagram after one of them failed).
    ///
    /// That a [`Resource::Link`], [`Resource::Address`], [`Resource::Route`], [`Resource::Qdisc`] or [`Resource::Entry`]
    /// exists already is `EEXIST`; a second [`Resource::Redirect`] stands behind the first; settings (the others) are
    /// just set.
    fn create(&mut self, place: Place, resources: &[&Resource]) -> Vec<Result<Created, Error>>;

    /// Removes resources, in the order given, going on after failures: one result each. What is gone already is fine.
    /// Returns as soon as nobody can see them any more, which may be before the kernel has finished.
    ///
    /// [`Resource::LinkUp`] and [`Resource::Promiscuous`] are switched off, [`Resource::Master`]'s link is set free, a
    /// [`Resource::MovedLink`] that is still known by its alias goes back; [`Resource::LinkDown`], [`Resource::Settings`],
    /// [`Resource::FixedMac`], [`Resource::Port`], [`Resource::Settled`], [`Resource::NoRoute`], [`Resource::Sysctl`] and
    /// [`Resource::ForwardJump`] have no opposite and are left. A [`Resource::Entry`] is removed only if its mark is the
    /// same: an address may have found a new owner since ([`Removed::Before`]). With one [`Resource::Redirect`] of an
    /// interface go all of them. Where no container's namespace was given, all that was in it is gone.
    fn remove(&mut self, place: Place, resources: &[&Resource]) -> Vec<Result<Removed, Error>>;

    /// Changes many things that are independent of one another: next hops, neighbours, FDB entries and routes, in as few
    /// system calls as they fit into. One result each, in order, whatever becomes of the others; of anything else it is
    /// `EOPNOTSUPP`. By default they are made and removed one by one.
    fn edit(&mut self, place: Place, edits: &[Edit<'_>]) -> Vec<Result<(), Error>> {
        let mut one = |edit: &Edit<'_>| {
            let resource = edit.resource();
            if !matches!(edit, Edit::Make(_)) {
                self.remove(place, &[resource]).into_iter().try_for_each(|result| result.map(drop))?;
            }
            match edit {
                Edit::Remove(_) => Ok(()),
                _ => self.create(place, &[resource]).into_iter().try_for_each(|result| result.map(drop)),
            }
        };
        edits.iter().map(&mut one).collect()
    }

    /// Lets an interface that is up tell its neighbours its addresses, as far as it is set to (`arp_notify`, `ndisc_notify`):
    /// those that remember an earlier owner of one send to the new one at once.
    ///
    /// The kernel does so when an interface comes up; behind a bridge nobody hears that, whose port is enabled later.
    ///
    /// # Errors
    /// What the kernel says.
    fn announce(&mut self, _place: Place, _link: &LinkState) -> Result<(), Error> {
        Ok(())
    }

    /// Announces that shared resources are about to be looked up and relied upon, until this value is dropped: as
    /// many as wish may do so at once.
    ///
    /// # Errors
    /// When that cannot be announced.
    fn share(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Announces that what nobody has taken in a place (a routing table, say) is about to be looked for and taken, until
    /// this value is dropped: whoever else announces that waits so long.
    ///
    /// # Errors
    /// When that cannot be announced.
    fn claim(&mut self, place: Place) -> Result<(), Error> {
        let _ = place;
        Ok(())
    }

    /// Whether nobody else relies on shared resources right now, nor can begin to until this value is dropped: only
    /// then may one that was just made be unmade.
    fn exclude(&mut self) -> bool {
        true
    }
}

/// One change of many that are made at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit<'a> {
    /// Makes it; that there is something in its place already is `EEXIST`.
    Make(&'a Resource),
    /// Makes it, or what is in its place like it (`NLM_F_REPLACE`): the next hop of the number, the neighbour of the
    /// address, the FDB entry of the MAC address, the route of the destination, metric and table.
    Replace(&'a Resource),
    /// Removes it; that it is gone is fine. With a next hop go the routes that take it.
    Remove(&'a Resource),
}

impl<'a> Edit<'a> {
    /// What is changed.
    pub fn resource(self) -> &'a Resource {
        match self {
            Self::Make(resource) | Self::Replace(resource) | Self::Remove(resource) => resource,
        }
    }
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Query {
    /// One interface. Answer: [`Answer::Links`] of none or one.
    Link(LinkName),
    /// Every interface.
    Links,
    /// Whether an interface is up and has a carrier. Who asks has the kernel put it into service, or out of it, at once, if that is
    /// due (`linkwatch_sync_dev()`). Answer: [`Answer::Present`].
    Carrier(LinkName),
    /// How a bridge treats one of its ports. Answer: [`Answer::Port`].
    Port(LinkName),
    /// The addresses of one interface; none if it does not exist.
    Addresses(LinkName),
    /// An interface's other end, wherever that is: the container's, from the host. Answer: [`Answer::Links`] of none or
    /// one, as the namespace sees it that it is in.
    Peer(LinkName),
    /// The addresses of an interface's other end, wherever that is: the container's, from the host. Answer:
    /// [`Answer::Addresses`], with names left as the kernel has them there.
    PeerAddresses(LinkName),
    /// The routes of the `main` table and any others, out of one interface.
    Routes(LinkName),
    /// The interface that packets to an address leave by, if the address is on its link, with no router between. Answer:
    /// [`Answer::Links`] of none or one.
    LinkTo(IpAddr),
    /// The rules that look at nothing but where a packet comes from, in their order. Answer: [`Answer::Rules`].
    Rules,
    /// The routing tables that anybody uses: there are routes in them, or any rule leads there. Answer:
    /// [`Answer::Tables`].
    Tables,
    /// The default routes of the `main` table: IPv4's before IPv6's, and of each those with the lowest metric first.
    /// Answer: [`Answer::Routes`].
    DefaultRoutes,
    /// Routes out of whatever interface, each as it was made: by a next hop, to nowhere. Answer: [`Answer::Routes`].
    RoutesOf {
        /// Only those that carry this protocol's number.
        protocol: Option<u8>,
        /// Only those of this table.
        table: Option<u32>,
    },
    /// The way that a packet would go. Answer: [`Answer::Way`].
    RouteTo(RouteLookup),
    /// The next hop of a number. Answer: [`Answer::NextHops`] of none or one.
    NextHop(u32),
    /// The next hops that carry a protocol's number; groups are none.
    NextHops(u8),
    /// The neighbour of an address on an interface. Answer: [`Answer::Neighbours`] of none or one.
    NeighbourOf(LinkName, IpAddr),
    /// The neighbours on an interface.
    NeighboursOn(LinkName),
    /// All neighbours for which this machine answers. Answer: [`Answer::Proxies`].
    Proxies,
    /// The FDB entry of a MAC address on a VXLAN interface. Answer: [`Answer::Fdb`] of none or one.
    FdbOf(LinkName, MacAddr),
    /// The FDB entries of a VXLAN interface.
    FdbOn(LinkName),
    /// What an overlay has the packet filter do. Answer: [`Answer::OverlayRules`].
    OverlayRules,
    /// A setting. Answer: [`Answer::Sysctl`].
    Sysctl(SysctlKey),
    /// The queueing disciplines of one interface, as far as they are of a [`Discipline`](crate::Discipline).
    Qdiscs(LinkName),
    /// Where packets go that come in by one interface, in order. Answer: [`Answer::Redirects`].
    Redirects(LinkName),
    /// The entry of a key in cnikit's tables. Answer: [`Answer::Entries`] of none or one.
    Entry(EntryKey),
    /// Every entry of a kind.
    Entries(EntryKind),
    /// Whether rules of another program's are in force. Answer: [`Answer::Foreign`].
    Foreign(ForeignRules),
    /// The comments of a chain's rules, whoever made it. Answer: [`Answer::Comments`].
    Comments(ForeignChain),
    /// The chains of nf_tables, also those that `iptables-nft` has made, through which all goes that is forwarded, and
    /// whose policy is to drop: what no rule there lets pass is lost. Answer: [`Answer::Chains`].
    Droppers,
    /// Whether a bridge is isolated. Answer: [`Answer::Present`].
    Isolation(Isolation),
    /// Whether there is a way through the host's own packet filter. Answer: [`Answer::Present`].
    ForwardJump(ForwardJump),
}

/// What is asked for, as errors name it: `interface "eth0"`, `addresses of "eth0"`.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(link) => write!(f, "interface \"{link}\""),
            Self::Links => f.write_str("interfaces"),
            Self::Carrier(link) => write!(f, "carrier of \"{link}\""),
            Self::Port(link) => write!(f, "bridge port \"{link}\""),
            Self::Addresses(link) => write!(f, "addresses of \"{link}\""),
            Self::Peer(link) => write!(f, "the other end of \"{link}\""),
            Self::PeerAddresses(link) => write!(f, "addresses of the other end of \"{link}\""),
            Self::Routes(link) => write!(f, "routes of \"{link}\""),
            Self::LinkTo(address) => write!(f, "interface that leads to {address}"),
            Self::Rules => f.write_str("routing rules"),
            Self::Tables => f.write_str("routing tables"),
            Self::DefaultRoutes => f.write_str("default routes"),
            Self::RoutesOf { protocol: Some(protocol), .. } => write!(f, "routes of protocol {protocol}"),
            Self::RoutesOf { table: Some(table), .. } => write!(f, "routes of table {table}"),
            Self::RoutesOf { .. } => f.write_str("routes"),
            Self::RouteTo(lookup) => write!(f, "way to {}", lookup.to),
            Self::NextHop(id) => write!(f, "next hop {id}"),
            Self::NextHops(protocol) => write!(f, "next hops of protocol {protocol}"),
            Self::NeighbourOf(link, address) => write!(f, "neighbour {address} on \"{link}\""),
            Self::NeighboursOn(link) => write!(f, "neighbours on \"{link}\""),
            Self::Proxies => f.write_str("proxies for neighbours"),
            Self::FdbOf(link, mac) => write!(f, "FDB entry {mac} of \"{link}\""),
            Self::FdbOn(link) => write!(f, "FDB of \"{link}\""),
            Self::OverlayRules => f.write_str("packet filter of the overlay"),
            Self::Sysctl(key) => write!(f, "sysctl {key}"),
            Self::Qdiscs(link) => write!(f, "queueing disciplines of \"{link}\""),
            Self::Redirects(link) => write!(f, "redirections of \"{link}\""),
            Self::Entry(key) => key.fmt(f),
            Self::Entries(kind) => kind.fmt(f),
            Self::Foreign(rules) => rules.fmt(f),
            Self::Comments(chain) => write!(f, "comments in chain {chain}"),
            Self::Droppers => f.write_str("chains that drop what is forwarded"),
            Self::Isolation(isolation) => isolation.fmt(f),
            Self::ForwardJump(jump) => jump.fmt(f),
        }
    }
}

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// Interfaces.
    Links(Vec<LinkState>),
    /// A bridge port's settings; `None` if it is no bridge's port.
    Port(Option<Port>),
    /// Addresses.
    Addresses(Vec<Address>),
    /// Routes.
    Routes(Vec<Route>),
    /// Rules of the routing policy.
    Rules(Vec<Rule>),
    /// Numbers of routing tables, each once, in ascending order.
    Tables(Vec<u32>),
    /// The way of a packet; `None` if there is none.
    Way(Option<FoundRoute>),
    /// Next hops.
    NextHops(Vec<NextHop>),
    /// Neighbours.
    Neighbours(Vec<NeighbourState>),
    /// Neighbours for which this machine answers.
    Proxies(Vec<NeighbourProxy>),
    /// FDB entries.
    Fdb(Vec<FdbEntry>),
    /// What an overlay has the packet filter do, in its shortest form; `None` if there is none, or not one that works.
    OverlayRules(Option<OverlayRules>),
    /// A setting's value; `None` if there is no such setting.
    Sysctl(Option<String>),
    /// Queueing disciplines.
    Qdiscs(Vec<Qdisc>),
    /// Redirections.
    Redirects(Vec<Redirect>),
    /// Entries of cnikit's tables.
    Entries(Vec<Entry>),
    /// Whether any of some rules are in force: a chain, that something jumps to it.
    Foreign(bool),
    /// Comments of rules; none if there is no such chain.
    Comments(Vec<String>),
    /// Chains.
    Chains(Vec<ForeignChain>),
    /// Whether it is there.
    Present(bool),
}

/// An interface as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkState {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name.
    pub name: LinkName,
    /// The kernel's word for what it is (`IFLA_INFO_KIND`); empty for hardware and loopback.
    pub kind: String,
    /// MAC address, if it has one of Ethernet's kind.
    pub mac: Option<MacAddr>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// It could carry packets (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// It does carry packets (`IFLA_OPERSTATE` is up, RFC 2863): a bridge, that one of its ports does. Known a moment after
    /// it is so.
    pub operational: bool,
    /// Promiscuous (`IFF_PROMISC`).
    pub promiscuous: bool,
    /// It takes every multicast frame (`IFF_ALLMULTI`).
    pub all_multicast: bool,
    /// The transmit queue's length in packets.
    pub transmit_queue: u32,
    /// The index of the bridge or VRF that it belongs to.
    pub master: Option<u32>,
    /// Its alias.
    pub alias: Option<String>,
    /// The index of the interface it is tied to: a veth's other end, a macvlan's master (`IFLA_LINK`).
    pub peer_index: Option<u32>,
    /// The id, in this namespace, of the namespace that [`peer_index`](Self::peer_index) belongs to; `None` if it is
    /// this one (`IFLA_LINK_NETNSID`).
    pub peer_namespace: Option<i32>,
    /// What only its kind has, by name: a macvlan's mode, a tap's owner. As far as a [`crate::LinkKind`] can ask for it.
    pub properties: Vec<(&'static str, String)>,
}

impl LinkState {
    /// A VRF's routing table.
    pub fn table(&self) -> Option<u32> {
        let (_, table) = self.properties.iter().find(|(what, _)| *what == property::TABLE)?;
        table.parse().ok()
    }

    /// An interface that is down and has nothing.
    pub fn new(index: u32, name: LinkName, kind: &str) -> Self {
        Self {
            index,
            name,
            kind: kind.to_owned(),
            mac: None,
            mtu: 1500,
            up: false,
            carrier: false,
            operational: false,
            promiscuous: false,
            all_multicast: false,
            transmit_queue: 1000,
            master: None,
            alias: None,
            peer_index: None,
            peer_namespace: None,
            properties: Vec::new(),
        }
    }
}

/// How a resource came to exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// It was made.
    New,
    /// It was there, just so.
    Kept,
    /// It was there with another value: creating this brings that back.
    Changed(Resource),
}

/// How a resource came to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It was removed.
    Now,
    /// It was not there.
    Before,
}

/// Reads one interface.
///
/// # Errors
/// As [`Kernel::read`].
pub fn read_link(kernel: &mut dyn Kernel, place: Place, name: &LinkName) -> Result<Option<LinkState>, Error> {
    let answers = kernel.read(place, &[Query::Link(name.clone())])?;
    Ok(match answers.into_iter().next() {
        Some(Answer::Links(links)) => links.into_iter().next(),
        _ => None,
    })
}

/// Reads every interface.
///
/// # Errors
/// As [`Kernel::read`].
pub fn read_links(kernel: &mut dyn Kernel, place: Place) -> Result<Vec<LinkState>, Error> {
    let answers = kernel.read(place, &[Query::Links])?;
    Ok(match answers.into_iter().next() {
        Some(Answer::Links(links)) => links,
        _ => Vec::new(),
    })
}

/// Reads the interface that packets leave by which nothing else is known of: the first default route's.
///
/// # Errors
/// As [`Kernel::read`].
pub fn read_default_link(kernel: &mut dyn Kernel, place: Place) -> Result<Option<LinkName>, Error> {
    let answers = kernel.read(place, &[Query::DefaultRoutes])?;
    Ok(match answers.into_iter().next() {
        Some(Answer::Routes(routes)) => routes.into_iter().next().and_then(|route| route.link().cloned()),
        _ => None,
    })
}

/// Reads every entry of some kinds.
///
/// # Errors
/// As [`Kernel::read`].
pub fn read_entries(kernel: &mut dyn Kernel, kinds: &[EntryKind]) -> Result<Vec<Entry>, Error> {
    let queries: Vec<_> = kinds.iter().copied().map(Query::Entries).collect();
    let entries = |answer| match answer {
        Answer::Entries(entries) => entries,
        _ => Vec::new(),
    };
    Ok(kernel.read(Place::Host, &queries)?.into_iter().flat_map(entries).collect())
}
