//! The configuration of `overlay`: little, for the node's agent knows the rest.

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::node_file::DIRECTORY;

/// What a configuration asks for, checked. Where its leases are says [`data_dir`](crate::data_dir).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Config {
    /// Where the agent says what it knows (`agentDirectory`, by default [`DIRECTORY`]).
    pub agent_directory: PathBuf,
    /// The bridge is the pod's default route (`isDefaultGateway`, the default), or else its way to the network's own
    /// ranges only, beside other networks.
    pub default_route: bool,
    /// MTU in bytes of the pod's interface, if it is not to be the node's (`mtu`).
    pub mtu: Option<u32>,
    /// Pods reach themselves through the bridge (`hairpinMode`, true by default: a pod may be behind the service that it
    /// asks).
    pub hairpin: bool,
    /// Frames from any other MAC address than the pod's are dropped (`macspoofchk`).
    pub check_spoofing: bool,
    /// The pod reaches the gateway, but no other isolated port (`portIsolation`).
    pub isolated: bool,
}

/// As written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    agent_directory: PathBuf,
    is_default_gateway: bool,
    mtu: i64,
    hairpin_mode: bool,
    macspoofchk: bool,
    port_isolation: bool,

    // The bridge's keys that make no sense here.
    bridge: Option<IgnoredAny>,
    disable_container_interface: Option<IgnoredAny>,
    enabledad: Option<IgnoredAny>,
    force_address: Option<IgnoredAny>,
    ip_masq: Option<IgnoredAny>,
    ip_masq_backend: Option<IgnoredAny>,
    ipam: Option<IgnoredAny>,
    is_gateway: Option<IgnoredAny>,
    preserve_default_vlan: Option<IgnoredAny>,
    promisc_mode: Option<IgnoredAny>,
    vlan: Option<IgnoredAny>,
    vlan_trunk: Option<IgnoredAny>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            agent_directory: DIRECTORY.into(),
            is_default_gateway: true,
            mtu: 0,
            hairpin_mode: true,
            macspoofchk: false,
            port_isolation: false,
            bridge: None,
            disable_container_interface: None,
            enabledad: None,
            force_address: None,
            ip_masq: None,
            ip_masq_backend: None,
            ipam: None,
            is_gateway: None,
            preserve_default_vlan: None,
            promisc_mode: None,
            vlan: None,
            vlan_trunk: None,
        }
    }
}

impl TryFrom<Raw> for Config {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        if let Some((key, why)) = raw.refused() {
            return Err(format!("{key} is no key of overlay: {why}; remove it"));
        }
        let agent_directory = match raw.agent_directory.as_os_str().is_empty() {
            true => DIRECTORY.into(),
            false => raw.agent_directory,
        };
        Ok(Self {
            agent_directory,
            default_route: raw.is_default_gateway,
            mtu: plugin_kit::mtu(raw.mtu)?,
            hairpin: raw.hairpin_mode,
            check_spoofing: raw.macspoofchk,
            isolated: raw.port_isolation,
        })
    }
}

impl Raw {
    /// The first key that would be believed to do something, and why it does not.
    fn refused(&self) -> Option<(&'static str, &'static str)> {
        const AGENTS: &str = "the agent says what this node's is";
        const NO_VLANS: &str = "the network is one segment on each node";
        let keys = [
            ("bridge", &self.bridge, AGENTS),
            ("ipam", &self.ipam, "addresses are of the node's subnet, and leased by overlay itself"),
            ("ipMasq", &self.ip_masq, "the agent masquerades for the node"),
            ("ipMasqBackend", &self.ip_masq_backend, "the agent masquerades for the node"),
            ("isGateway", &self.is_gateway, "the bridge is always the gateway"),
            ("forceAddress", &self.force_address, "the bridge may have several addresses"),
            ("promiscMode", &self.promisc_mode, "hairpinMode does what it is for"),
            ("vlan", &self.vlan, NO_VLANS),
            ("vlanTrunk", &self.vlan_trunk, NO_VLANS),
            ("preserveDefaultVlan", &self.preserve_default_vlan, NO_VLANS),
            ("enabledad", &self.enabledad, "each address is handed out once, and the agents find duplicates"),
            ("disableContainerInterface", &self.disable_container_interface, "a pod has an address"),
        ];
        keys.into_iter().find(|(_, value, _)| value.is_some()).map(|(key, _, why)| (key, why))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: serde_json::Value) -> Result<Config, String> {
        serde_json::from_value(value).map_err(|e| e.to_string())
    }

    #[test]
    fn a_name_is_configuration_enough() {
        let config = parse(json!({"cniVersion": "1.1.0", "name": "pods", "type": "overlay"})).unwrap();
        assert_eq!(config.agent_directory.to_str(), Some("/run/cnikit"));
        assert!(config.default_route && config.hairpin && !config.check_spoofing && !config.isolated);
        assert_eq!(config.mtu, None);
    }

    #[test]
    fn what_a_bridge_has_and_overlay_has_not_is_refused_with_a_reason() {
        for key in [
            "bridge",
            "ipam",
            "ipMasq",
            "ipMasqBackend",
            "isGateway",
            "forceAddress",
            "promiscMode",
            "vlan",
            "vlanTrunk",
            "preserveDefaultVlan",
            "enabledad",
            "disableContainerInterface",
        ] {
            let error = parse(json!({key: 1})).unwrap_err();
            assert!(error.starts_with(&format!("{key} is no key of overlay: ")), "{error}");
        }
        assert!(parse(json!({"mtu": 20})).unwrap_err().contains("mtu"));
    }
}
