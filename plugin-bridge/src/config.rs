//! The configuration of `bridge`: the reference's keys and defaults.

use netops::{LinkName, MacAddr, OtherAddresses, PortVlan};
use serde::Deserialize;

/// What a configuration asks for, checked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Config {
    /// The bridge's interface (`bridge`, by default `cni0`); made if it is not there.
    pub bridge: LinkName,
    /// What the node is to the pods.
    pub gateway: Gateway,
    /// The bridge's MAC address, should it have to be made; one at random if nobody cares. No key: for plugins that build
    /// on this one.
    pub bridge_mac: Option<MacAddr>,
    /// What the bridge's having other addresses than the gateway's means: they are refused, or make way
    /// (`forceAddress`). Plugins that build on this one may welcome them.
    pub other_addresses: OtherAddresses,
    /// What leaves the pods' subnet takes the node's address (`ipMasq`). The backend named by `ipMasqBackend` makes
    /// no difference: it is always nf_tables, in a table of our own.
    pub masquerade: bool,
    /// MTU in bytes of the cable, and of the bridge if it is made (`mtu`); the kernel's if absent.
    pub mtu: Option<u32>,
    /// How pods reach themselves through the bridge.
    pub reflection: Reflection,
    /// The pod's VLANs, if any (`vlan`, `vlanTrunk`, `preserveDefaultVlan`).
    pub vlans: Option<Vlans>,
    /// Frames from any other MAC address than the pod's are dropped (`macspoofchk`).
    pub check_spoofing: bool,
    /// IPv6 duplicate address detection in the pod (`enabledad`).
    pub detect_duplicates: bool,
    /// The pod's interface stays down (`disableContainerInterface`).
    pub interface_down: bool,
    /// The pod reaches the gateway, but no other isolated port (`portIsolation`).
    pub isolated: bool,
}

/// What the node is to the pods of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gateway {
    /// Nothing: the bridge has no address.
    None,
    /// The bridge holds the gateway's address (`isGateway`).
    Address,
    /// … and is the pods' default route (`isDefaultGateway`).
    DefaultRoute,
}

/// How a frame gets back out of the port by which it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reflection {
    /// It does not.
    None,
    /// The port allows it (`hairpinMode`).
    Hairpin,
    /// The bridge is promiscuous, so that its own stack takes it (`promiscMode`).
    Promiscuous,
}

/// The VLANs of a pod's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vlans {
    /// The VLAN of untagged frames (`vlan`).
    pub access: Option<u16>,
    /// As the port gets them: the access VLAN first, then the trunk's.
    pub port: Vec<PortVlan>,
    /// The bridge's default VLAN is kept on the port (`preserveDefaultVlan`).
    pub keep_default: bool,
}

/// As written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    bridge: String,
    is_gateway: bool,
    is_default_gateway: bool,
    force_address: bool,
    ip_masq: bool,
    ip_masq_backend: plugin_kit::MasqueradeBackend,
    mtu: i64,
    hairpin_mode: bool,
    promisc_mode: bool,
    vlan: i64,
    vlan_trunk: Vec<RawTrunk>,
    preserve_default_vlan: bool,
    macspoofchk: bool,
    enabledad: bool,
    disable_container_interface: bool,
    port_isolation: bool,
    ipam: serde_json::Map<String, serde_json::Value>,
}

/// One entry of `vlanTrunk`: an `id`, a range, or both.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct RawTrunk {
    id: Option<i64>,
    #[serde(rename = "minID")]
    min: Option<i64>,
    #[serde(rename = "maxID")]
    max: Option<i64>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            bridge: "cni0".to_owned(),
            is_gateway: false,
            is_default_gateway: false,
            force_address: false,
            ip_masq: false,
            ip_masq_backend: Default::default(),
            mtu: 0,
            hairpin_mode: false,
            promisc_mode: false,
            vlan: 0,
            vlan_trunk: Vec::new(),
            preserve_default_vlan: false,
            macspoofchk: false,
            enabledad: false,
            disable_container_interface: false,
            port_isolation: false,
            ipam: serde_json::Map::new(),
        }
    }
}

impl TryFrom<Raw> for Config {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let reflection = match (raw.hairpin_mode, raw.promisc_mode) {
            (true, true) => {
                return Err("hairpinMode and promiscMode exclude one another: choose one".to_owned());
            }
            (true, false) => Reflection::Hairpin,
            (false, true) => Reflection::Promiscuous,
            (false, false) => Reflection::None,
        };
        let _any = raw.ip_masq_backend;
        if raw.disable_container_interface && raw.ipam.get("type").is_some_and(|kind| kind != "") {
            return Err(
                "disableContainerInterface leaves the interface without addresses: remove ipam".to_owned()
            );
        }
        Ok(Self {
            bridge: LinkName::new(&raw.bridge).map_err(|e| format!("bridge: {e}"))?,
            gateway: match (raw.is_gateway, raw.is_default_gateway) {
                (_, true) => Gateway::DefaultRoute,
                (true, false) => Gateway::Address,
                (false, false) => Gateway::None,
            },
            bridge_mac: None,
            other_addresses: match raw.force_address {
                true => OtherAddresses::Replaced,
                false => OtherAddresses::Refused,
            },
            masquerade: raw.ip_masq,
            mtu: plugin_kit::mtu(raw.mtu)?,
            reflection,
            vlans: vlans(raw.vlan, &raw.vlan_trunk, raw.preserve_default_vlan)?,
            check_spoofing: raw.macspoofchk,
            detect_duplicates: raw.enabledad,
            interface_down: raw.disable_container_interface,
            isolated: raw.port_isolation,
        })
    }
}

/// The VLANs that are asked for; `None` for none.
fn vlans(access: i64, trunk: &[RawTrunk], keep_default: bool) -> Result<Option<Vlans>, String> {
    let access = match access {
        0 => None,
        id => Some(vlan_id("vlan", id)?),
    };
    let mut port: Vec<_> =
        access.map(|id| PortVlan { first: id, last: id, access: true }).into_iter().collect();
    for entry in trunk {
        match (entry.min, entry.max) {
            (Some(min), Some(max)) => {
                let (first, last) = (vlan_id("vlanTrunk minID", min)?, vlan_id("vlanTrunk maxID", max)?);
                if first > last {
                    return Err(format!("vlanTrunk: minID {first} is above maxID {last}"));
                }
                port.push(PortVlan { first, last, access: false });
            }
            (None, None) if entry.id.is_some() => {}
            (None, None) => return Err("vlanTrunk: an entry needs an id, or a minID and a maxID".to_owned()),
            _ => return Err("vlanTrunk: minID and maxID go together".to_owned()),
        }
        if let Some(id) = entry.id {
            let id = vlan_id("vlanTrunk id", id)?;
            port.push(PortVlan { first: id, last: id, access: false });
        }
    }
    Ok((!port.is_empty()).then_some(Vlans { access, port, keep_default }))
}

fn vlan_id(key: &str, id: i64) -> Result<u16, String> {
    u16::try_from(id)
        .ok()
        .filter(|id| (1..=4094).contains(id))
        .ok_or_else(|| format!("{key} is {id}: a VLAN ID is 1 to 4094"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: serde_json::Value) -> Result<Config, String> {
        serde_json::from_value(value).map_err(|e| e.to_string())
    }

    #[test]
    fn everything_has_the_references_default() {
        let config = parse(json!({})).unwrap();
        assert_eq!(config.bridge.as_str(), "cni0");
        assert_eq!((config.gateway, config.reflection), (Gateway::None, Reflection::None));
        assert_eq!((config.mtu, config.vlans.clone()), (None, None));
        assert!(!config.masquerade && !config.check_spoofing && !config.isolated && !config.interface_down);
    }

    #[test]
    fn a_default_gateway_is_a_gateway() {
        assert_eq!(parse(json!({"isDefaultGateway": true})).unwrap().gateway, Gateway::DefaultRoute);
    }

    #[test]
    fn vlans_become_port_entries_with_the_access_vlan_first() {
        let config =
            parse(json!({"vlan": 100, "vlanTrunk": [{"id": 7}, {"minID": 200, "maxID": 210}]})).unwrap();
        let vlans = config.vlans.unwrap();
        let entry = |first, last, access| PortVlan { first, last, access };
        assert_eq!(vlans.port, [entry(100, 100, true), entry(7, 7, false), entry(200, 210, false)]);
        assert_eq!(vlans.access, Some(100));
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_key() {
        for (config, word) in [
            (json!({"hairpinMode": true, "promiscMode": true}), "promiscMode"),
            (json!({"vlan": 4095}), "vlan"),
            (json!({"vlan": -1}), "vlan"),
            (json!({"vlanTrunk": [{}]}), "vlanTrunk"),
            (json!({"vlanTrunk": [{"minID": 5}]}), "vlanTrunk"),
            (json!({"vlanTrunk": [{"minID": 5, "maxID": 4}]}), "vlanTrunk"),
            (json!({"mtu": -1}), "mtu"),
            (json!({"bridge": "a/b"}), "bridge"),
            (json!({"ipMasqBackend": "pf"}), "nftables"),
            (json!({"disableContainerInterface": true, "ipam": {"type": "host-local"}}), "ipam"),
        ] {
            let error = parse(config.clone()).unwrap_err();
            assert!(error.contains(word), "{config}: {error}");
        }
    }
}
