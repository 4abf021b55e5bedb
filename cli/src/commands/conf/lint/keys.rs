//! The keys of configurations, and what may stand there: those of the specification, and of the plugins of this
//! project and of the reference. Of other plugins nothing is known, and nothing is said.

/// What may stand at a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Bool,
    /// A boolean that libcni also takes as a text.
    LooseBool,
    /// A whole number, from and to.
    Integer(i64, i64),
    /// 0, or what an interface's MTU may be.
    Mtu,
    Text,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// An object with these keys.
    Object(&'static [Key]),
    /// An object with any keys, whose values are alike.
    Map(&'static Self),
    List(&'static Self),
    /// An IP address, or nothing (`""`), which Go writes for one that is absent.
    Address,
    /// An IP address with a prefix length.
    Prefix,
    /// A prefix without host bits.
    Subnet,
    /// The name of an interface.
    Interface,
    /// A hardware address.
    Mac,
    /// Whatever it is.
    Any,
    /// Nothing: the plugin refuses the key, which others have, for this reason.
    Refused(&'static str),
}

/// A key, and what may stand there.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}

/// What is known of a type of plugin.
#[derive(Debug)]
pub(super) struct Plugin {
    pub(super) name: &'static str,
    pub(super) keys: &'static [Key],
    pub(super) role: Role,
}

/// A plugin's place in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It makes an interface.
    Interface { addresses: Addresses },
    /// It works on what others made before it.
    Chained,
    /// It is called by other plugins, for addresses.
    Ipam,
}

/// Whether a plugin asks for addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Addresses {
    Required,
    Optional,
    Never,
    /// It has addresses without asking.
    Own,
}

/// The plugin of a type; `None` if it is none that is known.
pub(super) fn plugin(name: &str) -> Option<&'static Plugin> {
    PLUGINS.iter().find(|plugin| plugin.name == name)
}

const BOOL: Kind = Kind::Bool;
const TEXT: Kind = Kind::Text;
const UNSIGNED: Kind = Kind::Integer(0, u32::MAX as i64);
/// 0 leaves it to the kernel; IPv4 needs 68 (RFC 791), and nothing carries more than 65535.
const MTU: Kind = Kind::Mtu;

/// The keys of a list (CNI specification 1.1.0, section 1).
pub(super) const LIST: &[Key] = &[
    key("cniVersion", TEXT),
    key("cniVersions", Kind::List(&TEXT)),
    key("name", TEXT),
    key("disableCheck", Kind::LooseBool),
    key("disableGC", Kind::LooseBool),
    key("loadOnlyInlinedPlugins", Kind::LooseBool),
    key("plugins", Kind::List(&Kind::Any)),
];

/// The keys that every plugin may have (specification, section 1; conventions).
pub(super) const COMMON: &[Key] = &[
    key("type", TEXT),
    key("capabilities", Kind::Map(&BOOL)),
    key("dns", Kind::Object(DNS)),
    key("args", Kind::Map(&Kind::Any)),
    // These are a single configuration's, or filled in by the runtime.
    key("cniVersion", TEXT),
    key("cniVersions", Kind::List(&TEXT)),
    key("name", TEXT),
    key("runtimeConfig", Kind::Map(&Kind::Any)),
    key("prevResult", Kind::Any),
];

/// The key that is checked by the type of IPAM plugin that stands in it.
pub(super) const IPAM: Key = key("ipam", Kind::Any);
/// Its one key that all have.
pub(super) const IPAM_TYPE: Key = key("type", TEXT);

const DNS: &[Key] = &[
    key("nameservers", Kind::List(&TEXT)),
    key("domain", TEXT),
    key("search", Kind::List(&TEXT)),
    key("options", Kind::List(&TEXT)),
];

const ROUTES: Kind = Kind::List(&Kind::Object(&[
    key("dst", Kind::Prefix),
    key("gw", Kind::Address),
    key("mtu", UNSIGNED),
    key("advmss", UNSIGNED),
    key("priority", UNSIGNED),
    key("table", UNSIGNED),
    key("scope", Kind::Integer(0, 255)),
]));

const RANGE: &[Key] = &[
    key("subnet", Kind::Subnet),
    key("rangeStart", Kind::Address),
    key("rangeEnd", Kind::Address),
    key("gateway", Kind::Address),
];

const MASQUERADE_BACKEND: Kind = Kind::Choice(&["iptables", "nftables"]);
const AGENT_MASQUERADES: Kind = Kind::Refused("the agent masquerades for the node");
const NO_VLANS: Kind = Kind::Refused("the network is one segment on each node");
const ANY_VLAN: Kind = Kind::Integer(1, 4094);

const fn interface(name: &'static str, addresses: Addresses, keys: &'static [Key]) -> Plugin {
    Plugin { name, keys, role: Role::Interface { addresses } }
}

const fn chained(name: &'static str, keys: &'static [Key]) -> Plugin {
    Plugin { name, keys, role: Role::Chained }
}

const fn ipam(name: &'static str, keys: &'static [Key]) -> Plugin {
    Plugin { name, keys, role: Role::Ipam }
}

static PLUGINS: &[Plugin] = &[
    interface(
        "bridge",
        Addresses::Optional,
        &[
            key("bridge", Kind::Interface),
            key("isGateway", BOOL),
            key("isDefaultGateway", BOOL),
            key("forceAddress", BOOL),
            key("ipMasq", BOOL),
            key("ipMasqBackend", MASQUERADE_BACKEND),
            key("mtu", MTU),
            key("hairpinMode", BOOL),
            key("promiscMode", BOOL),
            key("vlan", Kind::Integer(0, 4094)),
            key(
                "vlanTrunk",
                Kind::List(&Kind::Object(&[
                    key("id", ANY_VLAN),
                    key("minID", ANY_VLAN),
                    key("maxID", ANY_VLAN),
                ])),
            ),
            key("preserveDefaultVlan", BOOL),
            key("macspoofchk", BOOL),
            key("enabledad", BOOL),
            key("disableContainerInterface", BOOL),
            key("portIsolation", BOOL),
        ],
    ),
    interface(
        "ptp",
        Addresses::Required,
        &[key("ipMasq", BOOL), key("ipMasqBackend", MASQUERADE_BACKEND), key("mtu", MTU)],
    ),
    interface(
        "macvlan",
        Addresses::Optional,
        &[
            key("master", Kind::Interface),
            key("mode", Kind::Choice(&["bridge", "private", "vepa", "passthru"])),
            key("mtu", MTU),
            key("mac", Kind::Mac),
            key("linkInContainer", BOOL),
            key("bcqueuelen", UNSIGNED),
        ],
    ),
    interface(
        "ipvlan",
        Addresses::Optional,
        &[
            key("master", Kind::Interface),
            key("mode", Kind::Choice(&["l2", "l3", "l3s"])),
            key("mtu", MTU),
            key("linkInContainer", BOOL),
        ],
    ),
    interface(
        "vlan",
        Addresses::Required,
        &[
            key("master", Kind::Interface),
            key("vlanId", Kind::Integer(0, 4094)),
            key("mtu", MTU),
            key("linkInContainer", BOOL),
        ],
    ),
    interface(
        "host-device",
        Addresses::Optional,
        &[
            key("device", Kind::Interface),
            key("hwaddr", Kind::Mac),
            key("kernelpath", TEXT),
            key("pciBusID", TEXT),
        ],
    ),
    interface(
        "tap",
        Addresses::Optional,
        &[
            key("multiQueue", BOOL),
            key("mtu", MTU),
            key("mac", Kind::Mac),
            key("owner", UNSIGNED),
            key("group", UNSIGNED),
            key("selinuxContext", TEXT),
            key("bridge", Kind::Interface),
        ],
    ),
    interface(
        "overlay",
        Addresses::Own,
        &[
            key("agentDirectory", TEXT),
            key("dataDir", TEXT),
            key("isDefaultGateway", BOOL),
            key("mtu", MTU),
            key("hairpinMode", BOOL),
            key("macspoofchk", BOOL),
            key("portIsolation", BOOL),
            key("bridge", Kind::Refused("the agent says which bridge it is")),
            key("ipMasq", AGENT_MASQUERADES),
            key("ipMasqBackend", AGENT_MASQUERADES),
            key("isGateway", Kind::Refused("the bridge always is")),
            key("forceAddress", Kind::Refused("the bridge may have several addresses")),
            key("promiscMode", Kind::Refused("hairpinMode does what it is for")),
            key("vlan", NO_VLANS),
            key("vlanTrunk", NO_VLANS),
            key("preserveDefaultVlan", NO_VLANS),
            key("enabledad", Kind::Refused("each address is handed out once")),
            key("disableContainerInterface", Kind::Refused("a pod has an address")),
        ],
    ),
    interface("dummy", Addresses::Required, &[]),
    interface("loopback", Addresses::Never, &[]),
    chained(
        "portmap",
        &[
            key("backend", MASQUERADE_BACKEND),
            key("snat", BOOL),
            key("markMasqBit", Kind::Integer(0, 31)),
            key("externalSetMarkChain", TEXT),
            key("conditionsV4", Kind::List(&TEXT)),
            key("conditionsV6", Kind::List(&TEXT)),
            key("masqAll", BOOL),
        ],
    ),
    chained(
        "firewall",
        &[
            key("backend", Kind::Choice(&["iptables", "firewalld"])),
            key("iptablesAdminChainName", TEXT),
            key("firewalldZone", TEXT),
            key("ingressPolicy", Kind::Choice(&["open", "same-bridge", "isolated"])),
        ],
    ),
    chained(
        "bandwidth",
        &[
            key("ingressRate", Kind::Integer(0, i64::MAX)),
            key("ingressBurst", Kind::Integer(0, i64::MAX)),
            key("egressRate", Kind::Integer(0, i64::MAX)),
            key("egressBurst", Kind::Integer(0, i64::MAX)),
        ],
    ),
    chained(
        "tuning",
        &[
            key("sysctl", Kind::Map(&TEXT)),
            key("mac", Kind::Mac),
            key("promisc", BOOL),
            key("mtu", MTU),
            key("allmulti", BOOL),
            key("txQLen", UNSIGNED),
            key("dataDir", TEXT),
        ],
    ),
    chained(
        "sbr",
        &[
            key("table", Kind::Integer(1, u32::MAX as i64)),
            key("gateways", Kind::List(&Kind::Address)),
            key("addSourceHints", BOOL),
        ],
    ),
    chained("vrf", &[key("vrfname", Kind::Interface), key("table", UNSIGNED)]),
    ipam(
        "host-local",
        &[
            key("ranges", Kind::List(&Kind::List(&Kind::Object(RANGE)))),
            key("subnet", Kind::Subnet),
            key("rangeStart", Kind::Address),
            key("rangeEnd", Kind::Address),
            key("gateway", Kind::Address),
            key("routes", ROUTES),
            key("dataDir", TEXT),
            key("resolvConf", TEXT),
        ],
    ),
    ipam(
        "static",
        &[
            key(
                "addresses",
                Kind::List(&Kind::Object(&[key("address", Kind::Prefix), key("gateway", Kind::Address)])),
            ),
            key("routes", ROUTES),
            key("dns", Kind::Object(DNS)),
        ],
    ),
    ipam(
        "dhcp",
        &[
            key("daemonSocketPath", TEXT),
            key("provide", Kind::List(&Kind::Any)),
            key("request", Kind::List(&Kind::Any)),
            key("priority", UNSIGNED),
            key("ipVersions", Kind::List(&UNSIGNED)),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plugin_of_this_project_is_known() {
        for (name, _) in plugins::ALL {
            assert!(plugin(name).is_some(), "{name}");
        }
    }

    #[test]
    fn overlay_refuses_of_bridges_keys_what_is_said_here() {
        let overlay = plugin("overlay").unwrap();
        for bridges in plugin("bridge").unwrap().keys {
            let known = overlay.keys.iter().find(|key| key.name == bridges.name).map(|key| key.kind);
            let config = serde_json::json!({bridges.name: []});
            let error = serde_json::from_value::<plugin_overlay::Config>(config).unwrap_err().to_string();
            let refused = error.contains("no key of overlay");
            assert_eq!(matches!(known, Some(Kind::Refused(_))), refused, "{}: {error}", bridges.name);
            assert!(known.is_some(), "{}", bridges.name);
        }
    }
}
