//! What a list must be as a whole, and what goes together in a plugin's configuration.

use cni_spec::{Capability, Command, NetworkName, PluginType, SpecVersion};

use super::addresses;
use super::finding::{At, Findings};
use super::keys::{self, Addresses, COMMON, IPAM, IPAM_TYPE, Key, LIST, Role};
use super::shape::{check_keys_or_elsewhere, duplicates, shown, wrong_kind};
use super::spelling::closest;
use crate::commands::conf::document::{Data, Node};

/// Checks a `.conflist`; returns the version that a runtime would choose.
pub(super) fn check_list(findings: &mut Findings<'_>, root: &At<'_>) -> SpecVersion {
    check_keys_or_elsewhere(findings, root, &[LIST], |key| {
        let plugins = keys::COMMON.iter().chain([&IPAM]).any(|known| known.name == key);
        plugins.then(|| "it belongs into one of the \"plugins\"".to_owned())
    });
    let version = version(root.node);
    if !matches!(root.node.data, Data::Object(_)) {
        return version;
    }
    check_name(findings, root);
    check_version(findings, root);
    let Some(plugins) = root.field("plugins") else {
        if root.node.flag("loadOnlyInlinedPlugins") {
            findings.error(root, "no \"plugins\", and loadOnlyInlinedPlugins allows no others");
        } else if root.node.get("type").is_some() {
            findings.error(root, "no \"plugins\": this is a single plugin's configuration").suggest(
                "put the plugin's keys into a list: {\"cniVersion\": …, \"name\": …, \"plugins\": [{…}]}",
            );
        } else {
            findings.warning(
                root,
                "no \"plugins\": only those in files of the folder with the network's name are used",
            );
        }
        return version;
    };
    if let Data::List(items) = &plugins.node.data
        && items.is_empty()
    {
        findings.error(&plugins, "no plugins: nothing could be attached");
    }
    for (nth, plugin) in plugins.items().enumerate() {
        for ignored in ["name", "cniVersion"] {
            if let Some(key) = plugin.key(ignored) {
                findings
                    .hint(&key, format!("the list's {ignored} counts, not a plugin's"))
                    .suggest("remove it");
            }
        }
        check_plugin(findings, &plugin, if nth == 0 { Place::First } else { Place::Later }, version);
    }
    version
}

/// Checks a `.conf` or `.json`: one plugin. Returns the version that a runtime would choose.
pub(super) fn check_single(findings: &mut Findings<'_>, root: &At<'_>) -> SpecVersion {
    let version = version(root.node);
    if root.node.get("plugins").is_some() && root.node.get("type").is_none() {
        findings
            .error(root, "a list of plugins in a file that is read as a single plugin's configuration")
            .suggest("rename it to *.conflist");
        return version;
    }
    if matches!(root.node.data, Data::Object(_)) {
        findings
            .hint(root, "configurations of one plugin are gone from the specification since 1.0.0")
            .suggest("make it a list in a *.conflist: {\"cniVersion\": …, \"name\": …, \"plugins\": [{…}]}");
        check_name(findings, root);
        check_version(findings, root);
    }
    check_plugin(findings, root, Place::First, version);
    version
}

/// Checks a file of the folder beside a list: one plugin of its chain.
pub(super) fn check_part(findings: &mut Findings<'_>, root: &At<'_>, version: SpecVersion) -> SpecVersion {
    check_plugin(findings, root, Place::Later, version);
    version
}

/// Where in its chain a plugin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    First,
    Later,
}

fn check_name(findings: &mut Findings<'_>, root: &At<'_>) {
    match root.field("name") {
        None => {
            findings.error(root, "no \"name\"").suggest("give the network a name: \"name\": \"podnet\"");
        }
        Some(name) => {
            if let Some(Err(error)) = name.node.as_text().map(str::parse::<NetworkName>) {
                findings.error(&name, error.to_string());
            }
        }
    }
}

/// The version that a runtime would choose.
fn version(root: &Node) -> SpecVersion {
    let more = root.get("cniVersions").map(Node::items).unwrap_or_default();
    let texts = root.text("cniVersion").into_iter().chain(more.iter().filter_map(Node::as_text));
    texts.filter_map(|text| text.parse().ok()).max().unwrap_or(SpecVersion::V0_1_0)
}

fn check_version(findings: &mut Findings<'_>, root: &At<'_>) {
    let known = || SpecVersion::ALL.iter().map(|version| version.as_str());
    let written = root.field("cniVersion");
    let more = root.field("cniVersions").map(|list| list.items().collect()).unwrap_or_default();
    let all: Vec<At<'_>> = written.into_iter().chain::<Vec<_>>(more).collect();
    if all.is_empty() {
        findings
            .warning(
                root,
                "no \"cniVersion\": that means 0.1.0, without CHECK, GC and STATUS, and with old results",
            )
            .suggest(format!("\"cniVersion\": \"{}\"", SpecVersion::LATEST));
        return;
    }
    let (mut unknown, mut speaks) = (Vec::new(), false);
    for at in &all {
        match at.node.as_text().map(str::parse::<SpecVersion>) {
            Some(Ok(_)) => speaks = true,
            Some(Err(_)) => unknown.push(at),
            None => {}
        }
    }
    for at in unknown {
        let text = shown(at.node.as_text().unwrap_or_default());
        let message = format!(
            "\"{text}\" is no version of the specification: {}",
            known().collect::<Vec<_>>().join(", ")
        );
        // Of several, newer ones than we know are fine.
        let finding = if speaks { findings.hint(at, message) } else { findings.error(at, message) };
        if let Some(version) = closest(&text, known()) {
            finding.suggest(format!("did you mean \"{version}\"?"));
        }
    }
    let version = version(root.node);
    for (key, command) in [("disableCheck", Command::Check), ("disableGC", Command::Gc)] {
        if speaks
            && !version.knows(command)
            && let Some(at) = root.key(key)
        {
            findings.hint(&at, format!("CNI {version} has no {command} that could be disabled"));
        }
    }
}

fn check_plugin(findings: &mut Findings<'_>, at: &At<'_>, place: Place, version: SpecVersion) {
    if !matches!(at.node.data, Data::Object(_)) {
        return wrong_kind(findings, at, "an object");
    }
    let Some(kind) = at.field("type") else {
        findings.error(at, "no \"type\": which plugin is it?").suggest("\"type\": \"bridge\", for example");
        duplicates(findings, at);
        return;
    };
    let Some(name) = kind.node.as_text() else { return wrong_kind(findings, &kind, "a text") };
    if let Err(error) = name.parse::<PluginType>() {
        findings.error(&kind, error.to_string()).suggest("the name of an executable, without a path");
    }
    filled_in_by_the_runtime(findings, at);
    check_capabilities(findings, at);
    let Some(plugin) = keys::plugin(name) else {
        duplicates(findings, at);
        check_ipam(findings, at, version);
        return;
    };
    let ipam = at.node.get("ipam").and_then(|ipam| ipam.text("type")).and_then(keys::plugin);
    check_keys_or_elsewhere(findings, at, &[plugin.keys, COMMON, std::slice::from_ref(&IPAM)], |key| {
        let known = ipam.is_some_and(|ipam| ipam.keys.iter().any(|known| known.name == key));
        known.then(|| "it belongs into \"ipam\"".to_owned())
    });
    match plugin.role {
        Role::Interface { addresses } => check_addressing(findings, at, name, addresses),
        Role::Ipam => {
            findings
                .error(&kind, format!("{name} gives addresses to other plugins; it attaches nothing"))
                .suggest(format!(
                    "\"ipam\": {{\"type\": \"{name}\", …}} in the plugin that makes the interface"
                ));
        }
        Role::Chained if place == Place::First => {
            findings
                .error(&kind, format!("{name} works on what the plugins before it made, and it is the first"))
                .suggest("put it behind the plugin that makes the interface");
        }
        Role::Chained => {}
    }
    check_ipam(findings, at, version);
    match name {
        "bridge" => check_bridge(findings, at),
        "portmap" => check_portmap(findings, &kind, at),
        "bandwidth" => check_bandwidth(findings, &kind, at),
        "vlan" => needs(findings, at, &["master", "vlanId"]),
        "vrf" => needs(findings, at, &["vrfname"]),
        "host-device" => check_host_device(findings, at),
        "tuning" => check_tuning(findings, at),
        _ => {}
    }
}

fn filled_in_by_the_runtime(findings: &mut Findings<'_>, at: &At<'_>) {
    for name in ["runtimeConfig", "prevResult"] {
        if let Some(key) = at.key(name) {
            findings
                .warning(&key, format!("the runtime fills in {name}; what stands here is lost"))
                .suggest("remove it");
        }
    }
}

/// Names of capabilities that nobody offers.
fn check_capabilities(findings: &mut Findings<'_>, at: &At<'_>) {
    let Some(capabilities) = at.field("capabilities") else { return };
    for (name, key, _) in capabilities.entries() {
        let known = || Capability::ALL.iter().map(|capability| capability.as_str());
        if !known().any(|known| known == name)
            && let Some(meant) = closest(name, known())
        {
            findings
                .warning(&key, format!("no runtime offers the capability \"{}\"", shown(name)))
                .suggest(format!("did you mean \"{meant}\"?"));
        }
    }
}

fn wants(at: &At<'_>, capability: Capability) -> bool {
    at.node.get("capabilities").is_some_and(|capabilities| capabilities.flag(capability.as_str()))
}

fn asks_for(findings: &mut Findings<'_>, kind: &At<'_>, at: &At<'_>, capability: Capability) {
    if !wants(at, capability) {
        findings
            .warning(
                kind,
                format!("it does not declare the capability {capability}, so no runtime will tell it of any"),
            )
            .suggest(format!("add \"capabilities\": {{\"{capability}\": true}}"));
    }
}

fn needs(findings: &mut Findings<'_>, at: &At<'_>, required: &[&str]) {
    for name in required {
        if at.node.get(name).is_none() {
            findings.error(at, format!("no \"{name}\", which this plugin needs"));
        }
    }
}

/// Whether the section `ipam` says who gives addresses.
fn asks_for_addresses(at: &At<'_>) -> bool {
    at.node.get("ipam").and_then(|ipam| ipam.text("type")).is_some_and(|kind| !kind.is_empty())
}

fn check_addressing(findings: &mut Findings<'_>, at: &At<'_>, name: &str, addresses: Addresses) {
    match (addresses, asks_for_addresses(at)) {
        (Addresses::Required, false) => {
            let place = at.key("ipam").unwrap_or_else(|| at.clone());
            findings
                .error(&place, format!("{name} needs \"ipam\" with a \"type\": who gives it addresses?"))
                .suggest(
                    "\"ipam\": {\"type\": \"host-local\", \"ranges\": [[{\"subnet\": \"10.1.0.0/16\"}]]}",
                );
        }
        (Addresses::Never, true) => {
            if let Some(key) = at.key("ipam") {
                findings.hint(&key, format!("{name} takes no addresses")).suggest("remove it");
            }
        }
        (Addresses::Own, _) => {
            if let Some(key) = at.key("ipam") {
                findings
                    .error(
                        &key,
                        format!("{name} refuses \"ipam\": it leases addresses of the node's own subnet"),
                    )
                    .suggest("remove it");
            }
        }
        _ => {}
    }
}

fn check_ipam(findings: &mut Findings<'_>, at: &At<'_>, version: SpecVersion) {
    let Some(ipam) = at.field("ipam") else { return };
    if !matches!(ipam.node.data, Data::Object(_)) {
        return wrong_kind(findings, &ipam, "an object");
    }
    match ipam.node.text("type") {
        None | Some("") => {
            duplicates(findings, &ipam);
            if !ipam.node.entries().is_empty() {
                let key = at.key("ipam").unwrap_or(ipam);
                findings
                    .error(&key, "no \"type\" in \"ipam\": nobody gives addresses, and nobody reads the rest")
                    .suggest("\"type\": \"host-local\"");
            }
        }
        Some(name) => {
            let Some(plugin) = keys::plugin(name) else { return duplicates(findings, &ipam) };
            if plugin.role != Role::Ipam {
                if let Some(kind) = ipam.field("type") {
                    findings
                        .error(&kind, format!("{name} gives no addresses"))
                        .suggest("host-local, static and dhcp do");
                }
                return;
            }
            const TYPE: &[Key] = &[IPAM_TYPE];
            let outer = at.node.text("type").and_then(keys::plugin);
            check_keys_or_elsewhere(findings, &ipam, &[plugin.keys, TYPE], |key| {
                let known = outer?.keys.iter().chain(COMMON).any(|known| known.name == key);
                known.then(|| "it belongs one level higher, beside \"ipam\"".to_owned())
            });
            addresses::check(findings, at, &ipam, name, version);
        }
    }
}

fn check_portmap(findings: &mut Findings<'_>, kind: &At<'_>, at: &At<'_>) {
    asks_for(findings, kind, at, Capability::PortMappings);
    let bit = at.node.get("markMasqBit").and_then(Node::as_integer);
    if bit.is_some()
        && let Some(key) = at.key("externalSetMarkChain")
    {
        findings
            .error(&key, "markMasqBit and externalSetMarkChain exclude one another")
            .suggest("keep markMasqBit: no rule of nf_tables can jump to a chain of iptables");
    }
    if bit == Some(12)
        && let Some(key) = at.key("markMasqBit")
    {
        findings
            .error(&key, "bit 12 is the one by which cnikit's firewall knows what may pass")
            .suggest("another bit, or none: it is 13 then");
    }
    if at.node.flag("masqAll")
        && at.node.get("snat").is_some()
        && !at.node.flag("snat")
        && let Some(key) = at.key("masqAll")
    {
        findings.warning(&key, "without snat nothing is masqueraded").suggest("remove \"snat\"");
    }
}

fn check_bridge(findings: &mut Findings<'_>, at: &At<'_>) {
    let flag = |name| at.node.flag(name);
    let gateway = flag("isGateway") || flag("isDefaultGateway");
    let vlans = at.node.get("vlan").and_then(Node::as_integer).is_some_and(|vlan| vlan != 0)
        || at.node.get("vlanTrunk").is_some_and(|trunk| !trunk.items().is_empty());
    if flag("hairpinMode")
        && flag("promiscMode")
        && let Some(key) = at.key("promiscMode")
    {
        findings
            .error(&key, "hairpinMode and promiscMode exclude one another")
            .suggest("keep hairpinMode, which concerns one port only");
    }
    if flag("disableContainerInterface")
        && asks_for_addresses(at)
        && let Some(key) = at.key("disableContainerInterface")
    {
        findings.error(&key, "an interface that stays down can have no addresses").suggest("remove \"ipam\"");
    }
    for (name, has_sense, condition) in [
        ("forceAddress", gateway, "without isGateway the bridge has no address that could be forced"),
        (
            "ipMasq",
            gateway,
            "without isGateway the node does not forward for the pods, so there is nothing to masquerade",
        ),
        ("preserveDefaultVlan", vlans, "without vlan or vlanTrunk the default VLAN is there anyway"),
        ("enabledad", asks_for_addresses(at), "without addresses there are no duplicates to detect"),
        (
            "isGateway",
            asks_for_addresses(at),
            "without \"ipam\" there is no address that the gateway could have",
        ),
        (
            "isDefaultGateway",
            asks_for_addresses(at),
            "without \"ipam\" there is no address that the gateway could have",
        ),
    ] {
        if flag(name)
            && !has_sense
            && let Some(key) = at.key(name)
        {
            findings.warning(&key, format!("{name} has no effect: {condition}"));
        }
    }
    if flag("isDefaultGateway")
        && at.node.get("isGateway").is_some_and(|node| node.data == Data::Bool(false))
        && let Some(key) = at.key("isGateway")
    {
        findings.hint(&key, "isDefaultGateway makes the bridge a gateway all the same").suggest("remove it");
    }
    for entry in at.field("vlanTrunk").into_iter().flat_map(|trunk| trunk.items().collect::<Vec<_>>()) {
        let number = |name| entry.node.get(name).and_then(Node::as_integer);
        match (number("minID"), number("maxID")) {
            (None, None) if entry.node.get("id").is_none() => {
                findings.error(&entry, "an entry needs an id, or a minID and a maxID");
            }
            (Some(_), None) | (None, Some(_)) => {
                findings.error(&entry, "minID and maxID go together");
            }
            (Some(min), Some(max)) if min > max => {
                findings.error(&entry, format!("minID {min} is above maxID {max}")).suggest("swap them");
            }
            _ => {}
        }
    }
}

fn check_bandwidth(findings: &mut Findings<'_>, kind: &At<'_>, at: &At<'_>) {
    let number = |name: &str| at.node.get(name).and_then(Node::as_integer).unwrap_or(0);
    for (rate, burst) in [("ingressRate", "ingressBurst"), ("egressRate", "egressBurst")] {
        let (given, missing) = match (number(rate) > 0, number(burst) > 0) {
            (true, false) => (rate, burst),
            (false, true) => (burst, rate),
            (true, true) => {
                check_limit(findings, at, rate, burst);
                continue;
            }
            (false, false) => continue,
        };
        if let Some(key) = at.key(given) {
            findings.error(&key, format!("{given} needs {missing} beside it"));
        }
    }
    if number("ingressRate") == 0 && number("egressRate") == 0 {
        asks_for(findings, kind, at, Capability::Bandwidth);
    }
}

/// A frame of Ethernet's usual size (`ETH_FRAME_LEN`), in bits.
const FRAME: i64 = 1514 * 8;

/// Numbers that `bandwidth` refuses, or that leave nothing to a container.
fn check_limit(findings: &mut Findings<'_>, at: &At<'_>, rate: &str, burst: &str) {
    let number = |name: &str| at.node.get(name).and_then(Node::as_integer).unwrap_or(0);
    if let Some(key) = at.key(rate).filter(|_| number(rate) < 8) {
        findings.error(&key, format!("{rate} is in bits per second: this is less than a byte"));
    }
    let Some(key) = at.key(burst) else { return };
    if number(burst) / 8 >= i64::from(u32::MAX) {
        findings.error(&key, format!("{burst} must be less than 4 GiB, and is in bits"));
    } else if number(burst) < FRAME {
        let text =
            format!("{burst} is in bits: no packet of 1500 bytes gets through, for it takes {FRAME} of them");
        findings.warning(&key, text);
    }
}

fn check_host_device(findings: &mut Findings<'_>, at: &At<'_>) {
    let names = ["device", "hwaddr", "kernelpath", "pciBusID"];
    if !names.iter().any(|name| at.node.get(name).is_some()) && !wants(at, Capability::DeviceId) {
        findings.error(
            at,
            format!("which device? it needs one of {}, or the capability deviceID", names.join(", ")),
        );
    }
}

fn check_tuning(findings: &mut Findings<'_>, at: &At<'_>) {
    let Some(sysctls) = at.field("sysctl") else { return };
    for (name, key, _) in sysctls.entries() {
        if !name.starts_with("net.") && !name.starts_with("net/") {
            let name = shown(name);
            findings.error(
                &key,
                format!("\"{name}\" is no sysctl of a network namespace: those begin with net."),
            );
        }
    }
}
