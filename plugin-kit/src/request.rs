//! What a plugin is asked for, as it needs it: typed, named, and with addresses.

use std::net::IpAddr;

use cni_spec::{AddResult, Error, Interface, plugin};
use netops::{Link, LinkKind, LinkName, MacAddr, Ownership, Place, Plan, Resource, Step, VethPeer};

use crate::owner::{self, Owner};

/// The MTU of a veth pair that is not given one (`ETH_DATA_LEN`).
const VETH_MTU: u32 = 1500;

/// One attachment to be made or compared.
#[derive(Debug)]
#[non_exhaustive]
pub struct Request<'a, C> {
    /// The call that this is about: environment, raw configuration, arguments.
    pub call: &'a plugin::Request,
    /// Whose attachment it is.
    pub owner: Owner,
    /// The plugin's configuration.
    pub config: C,
    /// Addresses, routes and DNS settings: the IPAM plugin's for `ADD`, the previous result's for `CHECK`. Without
    /// interfaces.
    pub addresses: AddResult,
    /// What the attachment's interfaces are called.
    pub names: Names,
    /// The result of the plugins before this one (`ADD`), or of the whole chain (`CHECK`).
    pub previous: Option<AddResult>,
}

/// What an attachment's interfaces are called: derived from its owner for `ADD`; for `CHECK` as the previous result
/// has them, for it may have been another implementation's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The container's interface.
    pub interface: LinkName,
    /// The container's MAC address.
    pub container_mac: MacAddr,
    /// The host's end of its cable.
    pub host_interface: LinkName,
    /// The MAC address of the host's end.
    pub host_mac: MacAddr,
}

impl Names {
    /// The names of an attachment that is to be made. A MAC address that was asked for is used.
    pub(crate) fn derived(owner: &Owner, interface: LinkName, mac: Option<MacAddr>) -> Self {
        Self {
            interface,
            container_mac: mac.unwrap_or_else(|| owner.container_mac(None)),
            host_interface: owner.host_interface(),
            host_mac: owner.host_mac(),
        }
    }

    /// The same for an attachment with addresses: its MAC address follows from the chief of them, unless one was asked for.
    pub(crate) fn addressed(mut self, owner: &Owner, addresses: &AddResult) -> Self {
        if self.container_mac == owner.container_mac(None) {
            self.container_mac = owner.container_mac(chief_address(addresses));
        }
        self
    }

    /// The names of an attachment that was made, where its result says them.
    pub(crate) fn recorded(mut self, result: &AddResult) -> Self {
        let mac = |interface: &Interface| interface.mac.as_deref().and_then(|mac| mac.parse().ok());
        if let Some(mac) = result.interfaces.iter().find(|i| self.is_inside(i)).and_then(mac) {
            self.container_mac = mac;
        }
        let host = || result.interfaces.iter().filter(|i| i.sandbox.is_none());
        let ours = host().find(|i| i.name == self.host_interface.as_str());
        // The reference's are called veth and eight hexadecimal digits, at random.
        if let Some(interface) = ours.or_else(|| host().find(|i| i.name.starts_with("veth")))
            && let Ok(name) = LinkName::new(&interface.name)
        {
            self.host_interface = name;
            self.host_mac = mac(interface).unwrap_or(self.host_mac);
        }
        self
    }

    /// Whether an interface of a result is the container's.
    fn is_inside(&self, interface: &Interface) -> bool {
        interface.sandbox.is_some() && interface.name == self.interface.as_str()
    }
}

/// The address that the interface's MAC address follows from: that is of use where neighbours are not told of a change, and
/// they are not of IPv6 addresses, but nearly everything has an IPv4 address.
fn chief_address(addresses: &AddResult) -> Option<IpAddr> {
    let all = || addresses.ips.iter().map(|ip| ip.address.addr());
    all().find(IpAddr::is_ipv4).or_else(|| all().next())
}

impl<C> Request<'_, C> {
    /// The same request to a plugin that this one builds on.
    pub fn with_config<D>(&self, config: D) -> Request<'_, D> {
        Request {
            call: self.call,
            owner: self.owner.clone(),
            config,
            addresses: self.addresses.clone(),
            names: self.names.clone(),
            previous: self.previous.clone(),
        }
    }

    /// The cable between host and container: a veth pair, the host's end up, everything marked and named. Complete
    /// it with the bridge it is plugged into.
    pub fn cable(&self, mtu: Option<u32>) -> Link {
        let peer = VethPeer {
            place: Place::Container,
            name: self.names.interface.clone(),
            mtu,
            mac: Some(self.names.container_mac),
        };
        Link {
            mtu,
            mac: Some(self.names.host_mac),
            up: true,
            mark: Some(self.owner.mark()),
            ignore_router_advertisements: true,
            ..Link::new(self.names.host_interface.clone(), LinkKind::Veth { peer })
        }
    }

    /// The host's end of the cable, for the result.
    pub fn host_interface(&self) -> Interface {
        let mut interface = Interface::on_host(self.names.host_interface.to_string());
        interface.mac = Some(self.names.host_mac.to_string());
        interface
    }

    /// The container's interface, for the result; `mtu` as it was configured.
    pub fn container_interface(&self, mtu: Option<u32>) -> Interface {
        let mut interface = Interface::in_sandbox(self.names.interface.to_string(), self.sandbox());
        interface.mac = Some(self.names.container_mac.to_string());
        interface.mtu = Some(mtu.unwrap_or(VETH_MTU));
        interface
    }

    /// The path of the container's namespace, as results have it.
    pub fn sandbox(&self) -> String {
        self.call.netns.display().to_string()
    }

    /// The MAC address of an interface that attachments share: as the previous result has it, else a new one, which is
    /// used only if the interface has yet to be made.
    pub fn shared_mac(&self, link: &LinkName) -> MacAddr {
        self.recorded_mac(link).unwrap_or_else(owner::random_mac)
    }

    /// The MAC address of an interface of the host, as the previous result has it.
    pub fn recorded_mac(&self, link: &LinkName) -> Option<MacAddr> {
        let interfaces = self.previous.iter().flat_map(|result| &result.interfaces);
        let mut recorded = interfaces.filter(|i| i.sandbox.is_none() && i.name == link.as_str());
        recorded.next().and_then(|interface| interface.mac.as_deref()?.parse().ok())
    }

    /// A plan of an attachment that was made, as it should be now: a plugin behind this one in the list may have given the container's
    /// interface another MTU, which the result has, or, before 1.1.0, need not have.
    pub(crate) fn as_recorded(&self, plan: &Plan) -> Plan {
        let interfaces = self.previous.iter().flat_map(|result| &result.interfaces);
        let mut inside = interfaces.filter(|interface| self.names.is_inside(interface));
        let recorded = inside.find_map(|interface| interface.mtu);
        let mut now = Plan::new();
        for Step { place, ownership, resource } in plan.steps() {
            let resource = match resource {
                Resource::Link(link) if *place == Place::Container && link.name == self.names.interface => {
                    Resource::Link(Link { mtu: link.mtu.and(recorded), ..link.clone() })
                }
                resource => resource.clone(),
            };
            match ownership {
                Ownership::Own => now.own(*place, resource),
                Ownership::Shared => now.share(*place, resource),
            };
        }
        now
    }

    /// Says of every address in the result that it is on the container's interface.
    pub fn assign_addresses(&self, result: &mut AddResult) {
        let index = result.interfaces.iter().position(|interface| self.names.is_inside(interface));
        for ip in &mut result.ips {
            ip.interface = index;
        }
    }
}

/// An `mtu` as configurations have it: 0 leaves it to the kernel.
///
/// # Errors
/// A text that names the key, for what is no MTU.
pub fn mtu(value: i64) -> Result<Option<u32>, String> {
    match u32::try_from(value) {
        Ok(0) => Ok(None),
        Ok(mtu @ 68..=65535) => Ok(Some(mtu)),
        _ => Err(format!("mtu is {value}: it must be 68 to 65535, or 0 to leave it to the kernel")),
    }
}

/// A `mac` as configurations have it: an empty text asks for none.
///
/// # Errors
/// A text that names the key, for what is no interface's address.
pub fn mac(text: &str) -> Result<Option<MacAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let mac: MacAddr = text.parse().map_err(|e| format!("mac: {e}"))?;
    if mac.is_unicast() { Ok(Some(mac)) } else { Err(format!("mac: {mac} is no interface's address")) }
}

/// The MAC address that a call asks for: `runtimeConfig.mac` before `args.cni.mac` before `MAC` in `CNI_ARGS`.
pub(crate) fn requested_mac(call: &plugin::Request) -> Result<Option<MacAddr>, Error> {
    let text = match call.config.runtime_config().mac()? {
        Some(mac) => Some(mac),
        None => call.config.cni_args()?.get::<String>("mac")?,
    };
    let text = text.as_deref().filter(|mac| !mac.is_empty()).or_else(|| call.args.get("MAC"));
    mac(text.unwrap_or_default()).map_err(Error::config)
}
