//! `firewall`: a pod's packets pass, whatever the host's own packet filter forbids; and its bridge is kept from others.
//!
//! An address costs one element of a set. The way through the host's chain `FORWARD` is set up by the first of all
//! attachments, and found there by the others.

mod dbus;
mod firewalld;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use cni_spec::plugin::DelRequest;
use cni_spec::{AddResult, Error, ErrorCode, Interface, IpConfig, SpecVersion};
use netops::{
    ChainName, EntryKey, EntryKind, ForeignRules, ForwardJump, Forwarded, IpVersion, Isolation, Kernel,
    LinkName, Neighbours, Place, Plan, Query, Resource,
};
use plugin_kit::{Addressing, Attach, Attachment, Owner, Remains, Request, Traces, kernel_error, reference};
use serde::Deserialize;

#[cfg(feature = "fuzzing")]
pub use dbus::read_as_bus;

/// The chain in which the administrator has the first word, where the configuration names no other.
const ADMIN_CHAIN: &str = "CNI-ADMIN";

/// The zone of firewalld that pods are sources of, where the configuration names no other.
const ZONE: &str = "trusted";

/// The plugin `firewall`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firewall {
    firewalld: Firewalld,
}

/// Whether firewalld is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Firewalld {
    Asked,
    Ignored,
}

impl Firewall {
    /// The plugin on this machine, with its firewalld, if there is one.
    pub const fn new() -> Self {
        Self { firewalld: Firewalld::Asked }
    }

    /// The plugin on a machine without firewalld: for kernels of one's own.
    pub const fn without_firewalld() -> Self {
        Self { firewalld: Firewalld::Ignored }
    }
}

impl Default for Firewall {
    fn default() -> Self {
        Self::new()
    }
}

/// The configuration of [`Firewall`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct FirewallConfig {
    /// The chain of `iptables` in which the administrator has the first word (`iptablesAdminChainName`).
    pub admin_chain: ChainName,
    /// Who may reach the pods of a bridge (`ingressPolicy`).
    pub ingress: IngressPolicy,
    /// Whose rules are looked after (`backend`).
    pub backend: Backend,
    /// The zone of firewalld that pods are sources of (`firewalldZone`).
    pub zone: String,
}

/// Whose rules have to let the pods' packets pass. A way through `iptables` is made in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Backend {
    /// firewalld's, if it runs (anything else, as with the reference).
    #[default]
    Unsaid,
    /// Not firewalld's (`iptables`).
    Iptables,
    /// firewalld's, which must run (`firewalld`).
    Firewalld,
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
    firewalld_zone: String,
    iptables_admin_chain_name: String,
    ingress_policy: IngressPolicy,
}

impl TryFrom<Raw> for FirewallConfig {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let admin_chain = match raw.iptables_admin_chain_name.as_str() {
            "" => ADMIN_CHAIN,
            name => name,
        };
        let admin_chain = ChainName::new(admin_chain).map_err(|e| format!("iptablesAdminChainName: {e}"))?;
        let backend = Backend::from(raw.backend.as_str());
        Ok(Self { admin_chain, ingress: raw.ingress_policy, backend, zone: zone(&raw.firewalld_zone) })
    }
}

impl From<&str> for Backend {
    fn from(text: &str) -> Self {
        match text {
            "iptables" => Self::Iptables,
            "firewalld" => Self::Firewalld,
            _ => Self::Unsaid,
        }
    }
}

fn zone(text: &str) -> String {
    if text.is_empty() { ZONE } else { text }.to_owned()
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
        let addresses = inherited(request);
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

    /// firewalld is no kernel: what is asked of it comes last, so that there is nothing to undo.
    fn complete(
        &self,
        request: &Request<'_, FirewallConfig>,
        _: &mut dyn Kernel,
        _: &mut AddResult,
    ) -> Result<(), Error> {
        let FirewallConfig { backend, zone, .. } = &request.config;
        match self.firewalld {
            Firewalld::Asked => firewalld::add(*backend, zone, &inherited(request)),
            Firewalld::Ignored => Ok(()),
        }
    }

    fn verify(&self, request: &Request<'_, FirewallConfig>) -> Result<(), Error> {
        let FirewallConfig { backend, zone, .. } = &request.config;
        match self.firewalld {
            Firewalld::Asked => firewalld::check(*backend, zone, &inherited(request)),
            Firewalld::Ignored => Ok(()),
        }
    }

    fn restore(&self, call: &DelRequest, _: &Owner, _: &mut dyn Kernel) -> Result<(), Error> {
        let text = |key| call.config.get::<String>(key).ok().flatten().unwrap_or_default();
        let previous = call.config.prev_result().ok().flatten();
        if let (Firewalld::Asked, Some(previous)) = (self.firewalld, previous) {
            let backend = Backend::from(text("backend").as_str());
            firewalld::remove(backend, &zone(&text("firewalldZone")), &addresses(&previous));
        }
        Ok(())
    }

    fn traces(&self, call: &DelRequest, _: &Owner) -> Traces {
        let previous = call.config.prev_result().ok().flatten();
        let keys = previous
            .map(|previous| addresses(&previous).into_iter().map(EntryKey::Forwarded).collect::<Vec<_>>());
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

/// The addresses that the plugins before have given the container.
fn inherited(request: &Request<'_, FirewallConfig>) -> Vec<IpAddr> {
    request.previous.as_ref().map(addresses).unwrap_or_default()
}

/// The container's addresses in a result, each once: of all its interfaces, for packets are let pass by their addresses alone.
/// What the node's own interfaces have many attachments may say.
fn addresses(result: &AddResult) -> Vec<IpAddr> {
    let is_on_the_node = |ip: &&IpConfig| result.interface_of(ip).is_some_and(|i| i.sandbox.is_none());
    let ips = result.ips.iter().filter(|ip| !is_on_the_node(ip));
    let addresses: BTreeSet<_> = ips.map(|ip| ip.address.addr()).collect();
    addresses.into_iter().collect()
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
