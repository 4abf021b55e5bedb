//! `bandwidth`: what a container may send and receive in a second.
//!
//! ```text
//!            ┌──────── token bucket (ingress) ◀── host
//! container ═╪═ cable
//!            └─ ingress ─▶ redirect ─▶ ifb ─ token bucket (egress) ─▶ on its way into the host
//! ```

use std::time::Duration;

use cni_spec::plugin::DelRequest;
use cni_spec::{AddResult, Bandwidth as Limits, Error, Interface, SpecVersion};
use netops::{
    Answer, Discipline, Kernel, Link, LinkKind, LinkName, LinkState, Place, Plan, Qdisc, Query, Redirect,
    Resource, TokenBucket, read_link,
};
use plugin_kit::{
    Addressing, Attach, Attachment, MarkedOwner, Owner, Remains, Request, kernel_error, reference,
};
use serde::Deserialize;

/// The longest that a byte waits for its turn, as in the reference. A packet that would wait longer is dropped.
const LATENCY: Duration = Duration::from_millis(25);

/// The plugin `bandwidth`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bandwidth;

/// The configuration of [`Bandwidth`]: bits and bits per second. Any of the four keys, and `runtimeConfig` is not looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BandwidthConfig {
    /// Bits per second into the container.
    pub ingress_rate: Option<u64>,
    /// Bits into the container at once.
    pub ingress_burst: Option<u64>,
    /// Bits per second out of the container.
    pub egress_rate: Option<u64>,
    /// Bits out of the container at once.
    pub egress_burst: Option<u64>,
}

impl BandwidthConfig {
    fn limits(&self) -> Option<Limits> {
        let Self { ingress_rate, ingress_burst, egress_rate, egress_burst } = *self;
        let given = ingress_rate.or(ingress_burst).or(egress_rate).or(egress_burst);
        given.map(|_| Limits {
            ingress_rate: ingress_rate.unwrap_or(0),
            ingress_burst: ingress_burst.unwrap_or(0),
            egress_rate: egress_rate.unwrap_or(0),
            egress_burst: egress_burst.unwrap_or(0),
        })
    }
}

impl Attach for Bandwidth {
    type Config = BandwidthConfig;

    const TYPE: &'static str = "bandwidth";
    const ABOUT: &'static str =
        concat!("cnikit bandwidth ", env!("CARGO_PKG_VERSION"), ": limits for a container's traffic");
    const VERSIONS: &'static [SpecVersion] = &[
        SpecVersion::V0_3_0,
        SpecVersion::V0_3_1,
        SpecVersion::V0_4_0,
        SpecVersion::V1_0_0,
        SpecVersion::V1_1_0,
    ];
    const ADDRESSING: Addressing = Addressing::Inherited;
    const REMAINS: Remains = Remains::Outside;

    fn plan(
        &self,
        request: &Request<'_, BandwidthConfig>,
        kernel: &mut dyn Kernel,
    ) -> Result<Attachment, Error> {
        let mut result = request.previous.clone().unwrap_or_default();
        let limits = match request.config.limits() {
            Some(limits) => limits,
            None => request.call.config.runtime_config().bandwidth()?.unwrap_or_default(),
        };
        let ingress = token_bucket("ingress", limits.ingress_rate, limits.ingress_burst)?;
        let egress = token_bucket("egress", limits.egress_rate, limits.egress_burst)?;
        let mut plan = Plan::new();
        if ingress.is_none() && egress.is_none() {
            return Ok(Attachment { plan, result });
        }
        let host = HostEnd::find(request, &result, kernel)?;
        if let Some(bucket) = ingress {
            plan.own(Place::Host, qdisc(&host.name, Discipline::TokenBucket(bucket)));
        }
        if let Some(bucket) = egress {
            result.interfaces.push(plan_egress(&mut plan, request, &host, bucket));
        }
        Ok(Attachment { plan, result })
    }

    /// The queueing disciplines go with the cable.
    fn remnants(&self, _: &DelRequest, owner: &Owner, kernel: &mut dyn Kernel) -> Result<Plan, Error> {
        let mut plan = Plan::new();
        let name = reference::waiting_room(owner);
        let found = read_link(kernel, Place::Host, &name).map_err(|e| kernel_error(&e))?;
        // The reference's has no alias.
        let may_go = |link: LinkState| match link.alias.as_deref() {
            Some(alias) if MarkedOwner::parse(alias).is_some() => alias == owner.mark().as_str(),
            _ => link.kind == LinkKind::Ifb.name(),
        };
        if found.is_some_and(may_go) {
            plan.own(Place::Host, Resource::Link(Link::new(name, LinkKind::Ifb)));
        }
        Ok(plan)
    }
}

/// The bucket of one direction; `None` if it is not limited.
fn token_bucket(direction: &str, rate: u64, burst: u64) -> Result<Option<TokenBucket>, Error> {
    let wrong = |what: String| Err(Error::config(format!("{direction}{what}")));
    match (rate, burst, u32::try_from(burst / 8)) {
        (0, 0, _) => Ok(None),
        (_, 0, _) => wrong(format!("Rate is {rate}: {direction}Burst must be set beside it")),
        (0, _, _) => wrong(format!("Burst is {burst}: {direction}Rate must be set beside it")),
        (1..8, _, _) => wrong(format!("Rate is {rate}: it is in bits per second, and less than a byte")),
        (_, _, Ok(0)) => wrong(format!("Burst is {burst}: it is in bits, and less than a byte")),
        (_, _, Err(_) | Ok(u32::MAX)) => wrong(format!("Burst is {burst}: it must be less than 4 GiB")),
        (_, _, Ok(bytes)) => Ok(Some(TokenBucket::with_latency(rate / 8, bytes, LATENCY))),
    }
}

/// Plans that what the container sends waits for its turn in an interface of its own, for which a cable has no queue on
/// this side; returns that interface, for the result.
fn plan_egress(
    plan: &mut Plan,
    request: &Request<'_, BandwidthConfig>,
    host: &HostEnd,
    bucket: TokenBucket,
) -> Interface {
    let ifb = reference::waiting_room(&request.owner);
    let mac = request.shared_mac(&ifb);
    let mut own = |resource| _ = plan.own(Place::Host, resource);
    own(Resource::Link(Link {
        mtu: host.mtu,
        mac: Some(mac),
        up: true,
        mark: Some(request.owner.mark()),
        ..Link::new(ifb.clone(), LinkKind::Ifb)
    }));
    own(qdisc(&ifb, Discipline::TokenBucket(bucket)));
    own(qdisc(&host.name, Discipline::Ingress));
    own(Resource::Redirect(Redirect { from: host.name.clone(), to: ifb.clone() }));
    let mut interface = Interface::on_host(ifb.to_string());
    interface.mac = Some(mac.to_string());
    interface
}

fn qdisc(link: &LinkName, discipline: Discipline) -> Resource {
    Resource::Qdisc(Qdisc { link: link.clone(), discipline })
}

/// The host's end of the container's cable.
struct HostEnd {
    name: LinkName,
    mtu: Option<u32>,
}

impl HostEnd {
    /// Looks for it among the host's interfaces of a result: it is the one that the container's is tied to. Where there
    /// is nothing yet of either, as before an `ADD` that is explained, it is the one that is called as a host's end is.
    fn find(
        request: &Request<'_, BandwidthConfig>,
        result: &AddResult,
        kernel: &mut dyn Kernel,
    ) -> Result<Self, Error> {
        let name = &request.names.interface;
        let inside = read_link(kernel, Place::Container, name).map_err(|e| kernel_error(&e))?;
        let outside = read_all(kernel, result.interfaces.iter().filter(|i| i.sandbox.is_none()))?;
        let Some(inside) = inside else {
            if outside.is_empty() {
                let own = |i: &&Interface| i.sandbox.is_some() && i.name == name.as_str();
                let mtu = result.interfaces.iter().find(own).and_then(|interface| interface.mtu);
                return Ok(Self { name: request.names.host_interface.clone(), mtu });
            }
            return Err(Error::config(format!("there is no interface \"{name}\" in the container to limit")));
        };
        let is_end = |link: &&LinkState| {
            link.kind == "veth"
                && Some(link.index) == inside.peer_index
                && link.peer_index == Some(inside.index)
        };
        match outside.iter().find(is_end) {
            Some(link) => Ok(Self { name: link.name.clone(), mtu: Some(link.mtu) }),
            None => Err(Error::config(format!(
                "prevResult.interfaces: none is the host's end of \"{name}\": only a cable (veth) can be limited"
            ))),
        }
    }
}

/// Those of a result's interfaces that are there.
fn read_all<'a>(
    kernel: &mut dyn Kernel,
    interfaces: impl Iterator<Item = &'a Interface>,
) -> Result<Vec<LinkState>, Error> {
    let names = interfaces.filter_map(|interface| LinkName::new(&interface.name).ok());
    let queries: Vec<_> = names.map(Query::Link).collect();
    let answers = kernel.read(Place::Host, &queries).map_err(|e| kernel_error(&e))?;
    let links = |answer| match answer {
        Answer::Links(links) => links,
        _ => Vec::new(),
    };
    Ok(answers.into_iter().flat_map(links).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_is_called_as_the_references() {
        let owner = Owner {
            network: "net".parse().unwrap(),
            container: "c1".parse().unwrap(),
            interface: "eth0".parse().unwrap(),
        };
        // As `bandwidth` 1.1.1 calls it.
        assert_eq!(reference::waiting_room(&owner).as_str(), "bwp623e1c388032");
    }

    #[test]
    fn a_rate_and_its_burst_go_together() {
        let refusal = |rate, burst| token_bucket("egress", rate, burst).unwrap_err().to_string();
        assert!(refusal(1000, 0).contains("egressBurst must be set"), "{}", refusal(1000, 0));
        assert!(refusal(0, 1000).contains("egressRate must be set"));
        assert!(refusal(7, 8).contains("egressRate is 7"));
        assert!(refusal(8, 7).contains("egressBurst is 7"));
        assert!(refusal(8, u64::from(u32::MAX) * 8).contains("4 GiB"));
        assert!(refusal(8, u64::MAX).contains("4 GiB"));
        assert_eq!(token_bucket("egress", 0, 0).unwrap(), None);
    }

    #[test]
    fn limits_are_the_references_numbers() {
        let bucket = |rate, burst| token_bucket("egress", rate, burst).unwrap().unwrap();
        assert_eq!(bucket(10_000_000, 80_000), TokenBucket { rate: 1_250_000, burst: 10_000, limit: 41_250 });
        assert_eq!(
            bucket(40_000_000_000, 80_000_000),
            TokenBucket { rate: 5_000_000_000, burst: 10_000_000, limit: 135_000_000 }
        );
        // What containerd asks for where a pod's annotations give a rate only.
        assert_eq!(bucket(1_000_000, u64::from(u32::MAX)).burst, 536_870_911);
        assert_eq!(bucket(u64::MAX, 8), TokenBucket { rate: u64::MAX / 8, burst: 1, limit: u32::MAX });
    }
}
