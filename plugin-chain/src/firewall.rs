//! `firewall`: a pod's packets pass, whatever the host's own packet filter forbids; and its bridge is kept from others.
//!
//! An address costs one element of a set. The way through the host's chain `FORWARD` is set up by the first of all
//! attachments, and found there by the others.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use cni_spec::plugin::DelRequest;
use cni_spec::{Error, ErrorCode, Interface, SpecVersion};
use netops::{
    ChainName, EntryKey, EntryKind, ForeignRules, ForwardJump, Forwarded, IpVersion, Isolation, Kernel,
    LinkName, Neighbours, Place, Plan, Query, Resource,
};
use plugin_kit::{Addressing, Attach, Attachment, Owner, Remains, Request, Traces, kernel_error, reference};
use serde::Deserialize;

/// The chain in which the administrator has the first word, where the configuration names no other.
const ADMIN_CHAIN: &str = "CNI-ADMIN";

/// The plugin `firewall`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Firewall;

/// The configuration of [`Firewall`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct FirewallConfig {
    /// The chain of `iptables` in which the administrator has the first word (`iptablesAdminChainName`).
    pub admin_chain: ChainName,
    /// Who may reach the pods of a bridge (`ingressPolicy`).
    pub ingress: IngressPolicy,
}

/// Who may reach the pods of a bridge, apart from the world beyond the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IngressPolicy {
    /// Everybody (`open`).
    #[default]
    #[serde(alias = "")]
    Open,
    /// Pods of the same bridge, and those of bridges without such a policy (`same-bridge`).
    SameBridge,
    /// Not even what is forwarded from the same bridge (`isolated`).
    Isolated,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    backend: String,
    iptables_admin_chain_name: String,
    ingress_policy: IngressPolicy,
}

impl TryFrom<Raw> for FirewallConfig {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        if raw.backend == "firewalld" {
            return Err(
                "backend is firewalld: cnikit does not speak to firewalld. Without this key, pods pass \
                        iptables' FORWARD; for firewalld put the pods' subnet into a zone: \
                        firewall-cmd --permanent --zone=trusted --add-source=SUBNET"
                    .to_owned(),
            );
        }
        let admin_chain = match raw.iptables_admin_chain_name.as_str() {
            "" => ADMIN_CHAIN,
            name => name,
        };
        let admin_chain = ChainName::new(admin_chain).map_err(|e| format!("iptablesAdminChainName: {e}"))?;
        Ok(Self { admin_chain, ingress: raw.ingress_policy })
    }
}

impl Attach for Firewall {
    type Config = FirewallConfig;

    const TYPE: &'static str = "firewall";
    const ABOUT: &'static str =
        concat!("cnikit firewall ", env!("CARGO_PKG_VERSION"), ": pods pass the host's packet filter");
    const VERSIONS: &'static [SpecVersion] = &[SpecVersion::V0_4_0, SpecVersion::V1_0_0, SpecVersion::V1_1_0];
    const ADDRESSING: Addressing = Addressing::Inherited;
    const REMAINS: Remains = Remains::Outside;

    fn plan(&self, request: &Request<'_, FirewallConfig>, _: &mut dyn Kernel) -> Result<Attachment, Error> {
        let config = &request.config;
        let addresses: BTreeSet<IpAddr> = request.addresses.ips.iter().map(|ip| ip.address.addr()).collect();
        let mut plan = Plan::new();
        let versions: BTreeSet<_> = addresses.iter().copied().map(IpVersion::of).collect();
        for version in versions {
            let admin_chain = config.admin_chain.clone();
            plan.share(Place::Host, Resource::ForwardJump(ForwardJump { version, admin_chain }));
        }
        if let Some(neighbours) = config.ingress.neighbours() {
            let bridge = bridge(request)?;
            plan.share(Place::Host, Resource::Isolation(Isolation { bridge, neighbours }));
        }
        for address in addresses {
            plan.own(Place::Host, Resource::from(Forwarded { address, mark: request.owner.mark() }));
        }
        Ok(Attachment { plan, result: request.previous.clone().unwrap_or_default() })
    }

    fn traces(&self, call: &DelRequest, _: &Owner) -> Traces {
        let previous = call.config.prev_result().ok().flatten();
        let keys: Option<Vec<_>> = previous
            .map(|result| result.ips.iter().map(|ip| EntryKey::Forwarded(ip.address.addr())).collect());
        let at_least = keys.as_ref().map_or(0, Vec::len);
        Traces { kinds: &[EntryKind::Forwarded], keys, at_least }
    }

    fn references_rules(&self, call: &DelRequest, _: &Owner) -> Vec<ForeignRules> {
        let previous = call.config.prev_result().ok().flatten();
        reference::firewall(previous.iter().flat_map(|result| &result.ips).map(|ip| ip.address.addr()))
    }

    fn status(&self, _: &FirewallConfig, kernel: &mut dyn Kernel) -> Result<(), Error> {
        // Any question will do.
        let anything = Query::Entry(EntryKey::Forwarded(Ipv4Addr::UNSPECIFIED.into()));
        match kernel.read(Place::Host, &[anything]) {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::new(ErrorCode::PLUGIN_NOT_AVAILABLE, "nf_tables cannot be used")
                .with_details(kernel_error(&error).to_string())),
        }
    }
}

impl IngressPolicy {
    fn neighbours(self) -> Option<Neighbours> {
        match self {
            Self::Open => None,
            Self::SameBridge => Some(Neighbours::Reachable),
            Self::Isolated => Some(Neighbours::Unreachable),
        }
    }
}

/// The bridge that the pod is plugged into: the first interface of a result of `bridge`.
fn bridge(request: &Request<'_, FirewallConfig>) -> Result<LinkName, Error> {
    let first = request.previous.iter().flat_map(|result| &result.interfaces).next();
    let bridge = first.filter(|interface: &&Interface| interface.sandbox.is_none()).ok_or_else(|| {
        Error::config(
            "ingressPolicy: prevResult does not begin with a bridge: firewall must come after bridge",
        )
    })?;
    LinkName::new(&bridge.name).map_err(|e| Error::config(format!("prevResult.interfaces[0].name: {e}")))
}
