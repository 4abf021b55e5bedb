//! `portmap`: ports of the node lead into a container.
//!
//! ```text
//!   elsewhere ──▶ node 192.0.2.1:8080 ──▶ pod 10.22.0.5:80
//! ```
//!
//! Each published port is one mapping for each version of IP that the pod has an address of. Configuration: [`Config`].

mod conditions;
mod config;

pub use config::{Config, Masquerading};

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use cni_spec::plugin::DelRequest;
use cni_spec::{Error, ErrorCode, NetworkConfig, Protocol};
use ipnet::IpNet;
use netops::{
    Answer, Entry, EntryKey, EntryKind, ForeignRules, HostPort, Kernel, Place, Plan, PortMapping,
    PortMasquerade, Query, Resource, Sysctl, SysctlKey, Transport,
};
use plugin_kit::{
    Addressing, Attach, Attachment, MarkedOwner, Owner, Remains, Request, Traces, kernel_error, reference,
};

/// The plugin `portmap`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Portmap;

impl Attach for Portmap {
    type Config = Config;

    const TYPE: &'static str = "portmap";
    const ABOUT: &'static str =
        concat!("cnikit portmap ", env!("CARGO_PKG_VERSION"), ": ports of the node lead into containers");
    const ADDRESSING: Addressing = Addressing::Inherited;
    const REMAINS: Remains = Remains::Outside;

    fn plan(&self, request: &Request<'_, Config>, kernel: &mut dyn Kernel) -> Result<Attachment, Error> {
        let result = request.previous.clone().unwrap_or_default();
        let mut plan = Plan::new();
        let published = published(&request.call.config)?;
        if published.is_empty() {
            return Ok(Attachment { plan, result });
        }
        let addresses = || request.addresses.ips.iter().map(|ip| ip.address);
        let pods = [IpAddr::is_ipv4, IpAddr::is_ipv6].map(|of| addresses().find(|net| of(&net.addr())));
        let (mut mappings, mut ports) = (Vec::new(), BTreeSet::new());
        for (pod, published) in pods.iter().flatten().flat_map(|pod| published.iter().map(move |p| (*pod, p)))
        {
            let Some(port) = published.on_the_way_to(pod.addr()) else { continue };
            // Of two that a runtime gives for one port, the first counts.
            if ports.insert(port) {
                mappings.push(mapping(request, pod, port, published.container_port));
            }
        }
        if let (Some(pod), Masquerading::Hairpin | Masquerading::All) = (pods[0], request.config.masquerading)
            && !mappings.is_empty()
        {
            plan_loopback(&mut plan, pod.addr(), kernel)?;
        }
        for mapping in beside_other_networks(mappings, &request.owner, kernel)? {
            plan.own(Place::Host, Resource::from(mapping));
        }
        Ok(Attachment { plan, result })
    }

    fn traces(&self, call: &DelRequest, _: &Owner) -> Traces {
        const KINDS: &[EntryKind] = &[EntryKind::PortMapping];
        match published(&call.config) {
            Ok(published) if published.is_empty() && matches!(call.config.prev_result(), Ok(Some(_))) => {
                Traces::none()
            }
            Ok(published) if !published.is_empty() => {
                let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
                let ports =
                    published.iter().flat_map(|p| any.into_iter().filter_map(|ip| p.on_the_way_to(ip)));
                let both = ports.flat_map(|port| [false, true].map(|spare| HostPort { spare, ..port }));
                let keys = both.map(EntryKey::PortMapping).collect();
                Traces { kinds: KINDS, keys: Some(keys), at_least: 1 }
            }
            // What was published is not known.
            _ => Traces { kinds: KINDS, keys: None, at_least: 0 },
        }
    }

    fn references_rules(&self, call: &DelRequest, owner: &Owner) -> Vec<ForeignRules> {
        match self.traces(call, owner).kinds {
            [] => Vec::new(),
            _ => reference::port_mappings(owner),
        }
    }

    fn status(&self, _: &Config, kernel: &mut dyn Kernel) -> Result<(), Error> {
        let port = HostPort {
            transport: Transport::Tcp,
            address: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 1),
            spare: false,
        };
        match kernel.read(Place::Host, &[Query::Entry(EntryKey::PortMapping(port))]) {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::new(
                ErrorCode::PLUGIN_NOT_AVAILABLE,
                format!("nf_tables cannot be reached: {error}"),
            )),
        }
    }
}

/// A port that the runtime wants published.
struct Published {
    transport: Transport,
    host_ip: Option<IpAddr>,
    host_port: u16,
    container_port: u16,
}

/// What the runtime wants published.
fn published(config: &NetworkConfig) -> Result<Vec<Published>, Error> {
    let mappings = config.runtime_config().port_mappings()?;
    let port = |number: usize, key: &str, port: u16| match port {
        0 => Err(Error::config(format!("runtimeConfig.portMappings[{number}].{key}: 0 is no port"))),
        port => Ok(port),
    };
    let published = |(number, mapping): (usize, cni_spec::PortMapping)| {
        Ok(Published {
            transport: match mapping.protocol {
                Protocol::Udp => Transport::Udp,
                Protocol::Sctp => Transport::Sctp,
                _ => Transport::Tcp,
            },
            // `::ffff:192.0.2.1` is an IPv4 address.
            host_ip: mapping.host_ip.map(|ip| ip.to_canonical()),
            host_port: port(number, "hostPort", mapping.host_port)?,
            container_port: port(number, "containerPort", mapping.container_port)?,
        })
    };
    mappings.into_iter().enumerate().map(published).collect()
}

impl Published {
    /// The node's port through which an address is reached; none if it is of another version of IP than the node's
    /// address.
    fn on_the_way_to(&self, pod: IpAddr) -> Option<HostPort> {
        let any = if pod.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let host = self.host_ip.unwrap_or(any);
        let address = SocketAddr::new(host, self.host_port);
        (host.is_ipv4() == pod.is_ipv4()).then_some(HostPort {
            transport: self.transport,
            address,
            spare: false,
        })
    }
}

fn mapping(request: &Request<'_, Config>, pod: IpNet, port: HostPort, container_port: u16) -> PortMapping {
    let Config { masquerading, mark_bit: bit, conditions_v4, conditions_v6 } = &request.config;
    let from = match masquerading {
        Masquerading::None => None,
        Masquerading::Hairpin => Some(pod.trunc()),
        Masquerading::All => Some(plugin_kit::default_route(pod.addr())),
    };
    PortMapping {
        port,
        to: SocketAddr::new(pod.addr(), container_port),
        masquerade: from.map(|from| PortMasquerade { from, bit: *bit }),
        conditions: if pod.addr().is_ipv4() { conditions_v4 } else { conditions_v6 }.clone(),
        mark: request.owner.mark(),
    }
}

/// What the node sends from a loopback address, as to `127.0.0.1:8080`, may leave through the interface that leads to the
/// pod.
fn plan_loopback(plan: &mut Plan, pod: IpAddr, kernel: &mut dyn Kernel) -> Result<(), Error> {
    let answers = kernel.read(Place::Host, &[Query::LinkTo(pod)]).map_err(|e| kernel_error(&e))?;
    for answer in answers {
        if let Answer::Links(links) = answer
            && let Some(link) = links.first()
        {
            let key = SysctlKey::ipv4(&link.name, "route_localnet");
            plan.share(Place::Host, Resource::Sysctl(Sysctl::new(key, 1)));
        }
    }
    Ok(())
}

/// The mappings as they are made beside those of the same container in other networks. A runtime gives the same ports in
/// each of them: then they are held a second time, as spares, by the second; a third network has no use for them.
fn beside_other_networks(
    mappings: Vec<PortMapping>,
    owner: &Owner,
    kernel: &mut dyn Kernel,
) -> Result<Vec<PortMapping>, Error> {
    let keys = |port: HostPort| {
        [false, true].map(|spare| Query::Entry(EntryKey::PortMapping(HostPort { spare, ..port })))
    };
    let queries: Vec<_> = mappings.iter().flat_map(|mapping| keys(mapping.port)).collect();
    let answers = kernel.read(Place::Host, &queries).map_err(|e| kernel_error(&e))?;
    let mut holders = answers.iter().map(|answer| match answer {
        Answer::Entries(entries) => entries.first().map_or(Holder::Nobody, |entry| Holder::of(entry, owner)),
        _ => Holder::Nobody,
    });
    let mut kept = Vec::with_capacity(mappings.len());
    for mut mapping in mappings {
        let (first, spare) = (holders.next(), holders.next());
        mapping.port.spare = match (first.unwrap_or(Holder::Nobody), spare.unwrap_or(Holder::Nobody)) {
            (_, Holder::Attachment) => true,
            (Holder::Container, Holder::Nobody) => true,
            (Holder::Container, _) => continue,
            // Whoever holds but the spare is in the way all the same.
            (Holder::Nobody, Holder::Other) => true,
            (Holder::Nobody | Holder::Attachment | Holder::Other, _) => false,
        };
        kept.push(mapping);
    }
    Ok(kept)
}

/// Who holds a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Nobody,
    /// This attachment.
    Attachment,
    /// The same container, in another network.
    Container,
    /// Another container.
    Other,
}

impl Holder {
    fn of(entry: &Entry, owner: &Owner) -> Self {
        let mark = owner.mark();
        let container = |mark| MarkedOwner::parse(mark).map(|marked| marked.container.to_owned());
        if *entry.mark() == mark {
            Self::Attachment
        } else if container(entry.mark().as_str()) == container(mark.as_str()) {
            Self::Container
        } else {
            Self::Other
        }
    }
}
