//! Broken files, and what is said about each. «…» marks the place that must be pointed at.

mod files;
mod oracle;

use std::fs;

use tempfile::TempDir;

use super::finding::{Finding, Severity};
use super::programs::Programs;
use super::source::Sources;
use crate::places::BuiltIn;

use Severity::{Error, Hint, Warning};

/// The findings in a directory of files, when plugins are looked for nowhere.
fn lint_dir(files: &[(&str, &str)]) -> Vec<Finding> {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, files);
    lint(&dir, &Programs::new(Vec::new(), BuiltIn::Used))
}

fn write(dir: &TempDir, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn lint(dir: &TempDir, programs: &Programs) -> Vec<Finding> {
    let sources = Sources::read(&[dir.path().to_owned()]).unwrap();
    super::check(&sources, programs)
}

/// Strips the marks off a text; returns the line, column and width that they stand for.
fn unmark(marked: &str) -> (String, Option<(usize, usize, usize)>) {
    let Some((before, rest)) = marked.split_once('«') else { return (marked.to_owned(), None) };
    let (inside, after) = rest.split_once('»').unwrap();
    let line = before.matches('\n').count() + 1;
    let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1) + 1;
    (format!("{before}{inside}{after}"), Some((line, column, inside.len())))
}

/// A list of one plugin.
fn list(plugin: &str) -> String {
    format!("{{\n\"cniVersion\": \"1.1.0\", \"name\": \"net\",\n\"plugins\": [\n{plugin}\n]}}")
}

/// A list of a bridge with an `ipam` section.
fn with_ipam(ipam: &str) -> String {
    list(&format!("{{\"type\": \"bridge\",\n\"ipam\": {ipam}}}"))
}

/// Checks that exactly one thing is found in a `*.conflist`, and what.
#[track_caller]
fn finds(marked: &str, severity: Severity, place: &str, message: &str, suggestion: &str) {
    finds_in("10-net.conflist", marked, severity, place, message, suggestion);
}

#[track_caller]
fn finds_in(name: &str, marked: &str, severity: Severity, place: &str, message: &str, suggestion: &str) {
    let (text, position) = unmark(marked);
    let found = lint_dir(&[(name, &text)]);
    let [finding] = found.as_slice() else { panic!("not one finding: {found:#?}\n{text}") };
    let at = finding.position.map(|p| (p.line, p.column, finding.width));
    assert_eq!((finding.severity, finding.place.as_str(), at), (severity, place, position), "{finding:#?}");
    assert!(finding.message.contains(message), "{finding:#?}");
    let suggested = finding.suggestion.as_deref().unwrap_or_default();
    assert!(suggested.contains(suggestion) && suggested.is_empty() == suggestion.is_empty(), "{finding:#?}");
}

#[test]
fn what_is_right_is_left_in_peace() {
    let built_in = crate::network::BUILT_IN;
    let other = list(
        r#"{"type": "bridge", "bridge": "br1", "isGateway": true, "ipMasq": true, "mtu": 1400, "vlan": 7,
            "vlanTrunk": [{"id": 5}, {"minID": 10, "maxID": 20}], "_comment": "for the lab", "dns": {"nameservers": ["10.1.0.1"]},
            "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0", "gw": "10.9.0.1"}], "dataDir": "/run/leases",
                     "ranges": [[{"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.10", "rangeEnd": "10.9.0.20", "gateway": ""},
                                 {"subnet": "10.10.0.0/24"}], [{"subnet": "fd00::/64"}]]}},
           {"type": "portmap", "capabilities": {"portMappings": true}}, {"type": "my-own", "whatever": {"isGatway": 1}}"#,
    );
    let quiet = lint_dir(&[("10-a.conflist", built_in), ("20-b.conflist", &other)]);
    assert_eq!(quiet, [], "{quiet:#?}");
}

#[test]
fn texts_that_are_no_json() {
    finds("{\n\"name\": \"a\",«}»", Error, "", "not JSON: trailing comma", "no comma after the last");
    finds("{\n\"name\": \"a\"\n«\"»plugins\": []}", Error, "", "expected `,`", "comma is missing");
    finds("{\n«/»/ the pods' network\n\"name\": \"a\"}", Error, "", "not JSON", "no comments");
    finds("«[»]", Error, "", "a list where an object belongs", "");
    for (text, message, suggestion) in
        [("\u{feff}{}", "not JSON", "byte order mark"), (" \n", "it is empty", "")]
    {
        let found = lint_dir(&[("a.conflist", text)]);
        let [finding] = found.as_slice() else { panic!("{found:#?}") };
        assert!(finding.severity == Error && finding.message.contains(message), "{finding:#?}");
        assert!(finding.suggestion.as_deref().unwrap_or_default().contains(suggestion), "{finding:#?}");
    }
}

#[test]
fn names_and_versions() {
    let list = |head: &str| format!("{{{head} \"plugins\": [{{\"type\": \"bridge\"}}]}}");
    finds(&list(r#""cniVersion": "1.1.0", "name": «"a b"»,"#), Error, "name", "", "");
    let version = |text: &str| list(&format!(r#""cniVersion": {text}, "name": "a","#));
    finds(
        &version(r#"«"1.0.1"»"#),
        Error,
        "cniVersion",
        "no version of the specification",
        "did you mean \"1.0.0\"?",
    );
    finds(&version(r#"«"2"»"#), Error, "cniVersion", "0.1.0, 0.2.0", "");
    finds(&version("«1»"), Error, "cniVersion", "a number where a text belongs", "");
    finds(
        &version(r#""1.0.0", "cniVersions": ["1.1.0", «"9.9.0"»]"#),
        Hint,
        "cniVersions[1]",
        "no version of the specification",
        "",
    );
    finds(&version(r#""0.3.1", «"disableCheck"»: true"#), Hint, "disableCheck", "has no CHECK", "");
    finds(
        &version(r#""1.1.0", "disableGC": «"true"»"#),
        Hint,
        "disableGC",
        "a text where",
        "write true, without quotes",
    );
    finds(
        &version(r#""1.1.0", "disableGC": «"yes"»"#),
        Error,
        "disableGC",
        "a text where true or false belongs",
        "",
    );
}

#[test]
fn what_is_missing_is_said_at_the_opening_brace() {
    let found = |marked: &str, message: &str, suggestion: &str, severity| {
        finds(marked, severity, "", message, suggestion);
    };
    found(
        r#"«{»"cniVersion": "1.1.0", "plugins": [{"type": "bridge"}]}"#,
        "no \"name\"",
        "give the network a name",
        Error,
    );
    found(
        r#"«{»"name": "a", "plugins": [{"type": "bridge"}]}"#,
        "means 0.1.0",
        "\"cniVersion\": \"1.1.0\"",
        Warning,
    );
    finds(r#"{"cniVersion": "1.1.0", "name": "a", "plugins": «[]»}"#, Error, "plugins", "no plugins", "");
    finds(&list("«{»\"mtu\": 1}"), Error, "plugins[0]", "no \"type\"", "bridge");
    finds(&list("«7»"), Error, "plugins[0]", "a number where an object belongs", "");
    let found = lint_dir(&[("a.conflist", r#"{"cniVersion": "1.0.0", "name": "a", "type": "bridge"}"#)]);
    assert!(found.iter().any(|f| f.message.contains("single plugin's configuration")), "{found:#?}");
}

#[test]
fn keys_that_nobody_reads() {
    let plugin = |keys: &str| list(&format!(r#"{{"type": "bridge", {keys}}}"#));
    finds(
        &plugin(r#"«"isGatway"»: true"#),
        Warning,
        "plugins[0].isGatway",
        "unknown key",
        "did you mean \"isGateway\"?",
    );
    finds(&plugin(r#"«"colour"»: "red""#), Warning, "plugins[0].colour", "nobody reads it", "");
    finds(&plugin(r#"«"MTU"»: 1400"#), Hint, "plugins[0].MTU", "another spelling", "write \"mtu\"");
    finds(
        &plugin(r#""mtu": 1500, «"mtu"»: 1400"#),
        Error,
        "plugins[0].mtu",
        "the last one counts",
        "remove one",
    );
    finds(
        &plugin(r#"«"runtimeConfig"»: {}"#),
        Warning,
        "plugins[0].runtimeConfig",
        "the runtime fills in",
        "remove",
    );
    finds(
        &plugin(r#"«"cniVersion"»: "1.0.0""#),
        Hint,
        "plugins[0].cniVersion",
        "the list's cniVersion counts",
        "remove",
    );
    finds(
        &plugin(r#"«"cni.dev/valid-attachments"»: []"#),
        Error,
        "plugins[0].cni.dev/valid-attachments",
        "the specification's",
        "remove",
    );
    finds(
        &plugin(r#""capabilities": {«"portMapping"»: true}"#),
        Warning,
        "plugins[0].capabilities.portMapping",
        "no runtime offers",
        "did you mean \"portMappings\"?",
    );
    finds(
        &list(r#"{"type": "my-own", "a": 1, «"A"»: 2}"#),
        Error,
        "plugins[0].A",
        "spelled differently",
        "remove one",
    );
}

#[test]
fn keys_in_the_wrong_place() {
    finds(
        &list(
            r#"{"type": "bridge", «"subnet"»: "10.1.0.0/16", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/16"}]]}}"#,
        ),
        Warning,
        "plugins[0].subnet",
        "unknown key",
        "into \"ipam\"",
    );
    finds(
        &with_ipam(r#"{"type": "host-local", «"ipMasq"»: true, "ranges": [[{"subnet": "10.1.0.0/16"}]]}"#),
        Warning,
        "plugins[0].ipam.ipMasq",
        "unknown key",
        "one level higher",
    );
    finds(
        r#"{"cniVersion": "1.1.0", "name": "a", «"capabilities"»: {}, "plugins": [{"type": "bridge"}]}"#,
        Warning,
        "capabilities",
        "unknown key",
        "into one of the \"plugins\"",
    );
}

#[test]
fn values_of_the_wrong_kind() {
    let plugin = |keys: &str| list(&format!(r#"{{"type": "bridge", {keys}}}"#));
    for (marked, place, message, suggestion) in [
        (r#""mtu": «"1400"»"#, "mtu", "a text where a whole number belongs", "write 1400, without quotes"),
        (r#""mtu": «1400.5»"#, "mtu", "no whole number", ""),
        (r#""mtu": «-1»"#, "mtu", "out of range: from 0 to 65535", ""),
        (r#""mtu": «67»"#, "mtu", "68 is the least", "0 leaves it to the kernel"),
        (r#""mtu": «99999999999999999999»"#, "mtu", "no whole number", ""),
        (r#""vlan": «4095»"#, "vlan", "from 0 to 4094", ""),
        (r#""hairpinMode": «"true"»"#, "hairpinMode", "true or false", "write true, without quotes"),
        (r#""hairpinMode": «1»"#, "hairpinMode", "a number where true or false belongs", ""),
        (r#""bridge": «"a-very-long-bridge-name"»"#, "bridge", "15 bytes", ""),
        (r#""bridge": «"br/0"»"#, "bridge", "'/'", ""),
        (
            r#""ipMasqBackend": «"nftable"»"#,
            "ipMasqBackend",
            "none of iptables, nftables",
            "did you mean \"nftables\"?",
        ),
        (r#""vlanTrunk": «{}»"#, "vlanTrunk", "an object where a list belongs", ""),
        (r#""vlanTrunk": [{"id": «0»}]"#, "vlanTrunk[0].id", "from 1 to 4094", ""),
        (r#""capabilities": «[]»"#, "capabilities", "a list where an object belongs", ""),
        (r#""capabilities": {"mac": «"yes"»}"#, "capabilities.mac", "true or false", ""),
        (r#""dns": {"nameservers": «"10.0.0.1"»}"#, "dns.nameservers", "a text where a list belongs", ""),
        (r#""ipam": «"host-local"»"#, "ipam", "a text where an object belongs", ""),
    ] {
        finds(&plugin(marked), Error, &format!("plugins[0].{place}"), message, suggestion);
    }
}

#[test]
fn what_does_not_go_together_in_a_bridge() {
    let plugin = |keys: &str| list(&format!(r#"{{"type": "bridge", {keys}}}"#));
    for (marked, severity, place, message) in [
        (r#""hairpinMode": true, «"promiscMode"»: true"#, Error, "promiscMode", "exclude one another"),
        (r#""vlanTrunk": [«{»"minID": 9, "maxID": 5}]"#, Error, "vlanTrunk[0]", "above"),
        (r#""vlanTrunk": [«{»"minID": 9}]"#, Error, "vlanTrunk[0]", "go together"),
        (r#""vlanTrunk": [«{}»]"#, Error, "vlanTrunk[0]", "needs an id"),
        (r#"«"forceAddress"»: true"#, Warning, "forceAddress", "no effect"),
        (r#"«"ipMasq"»: true"#, Warning, "ipMasq", "no effect"),
        (r#"«"isGateway"»: true"#, Warning, "isGateway", "no effect"),
        (r#"«"preserveDefaultVlan"»: true"#, Warning, "preserveDefaultVlan", "no effect"),
    ] {
        let (text, position) = unmark(&plugin(marked));
        let found = lint_dir(&[("a.conflist", &text)]);
        let [finding] = found.as_slice() else { panic!("{found:#?}") };
        let at = finding.position.map(|p| (p.line, p.column, finding.width));
        assert_eq!((finding.severity, at), (severity, position), "{finding:#?}");
        assert_eq!(finding.place, format!("plugins[0].{place}"));
        assert!(finding.message.contains(message), "{finding:#?}");
    }
}

#[test]
fn an_overlay_needs_a_name_only_and_refuses_what_its_agent_knows_better() {
    let right = list(
        r#"{"type": "overlay", "isDefaultGateway": false, "hairpinMode": true},
        {"type": "portmap", "capabilities": {"portMappings": true}}"#,
    );
    assert_eq!(lint_dir(&[("10-a.conflist", &right)]), []);
    finds(
        &list(r#"{"type": "overlay", "ipMasq": «true»}"#),
        Error,
        "plugins[0].ipMasq",
        "masquerades",
        "remove it",
    );
    finds(&list(r#"{"type": "overlay", «"ipam"»: {}}"#), Error, "plugins[0].ipam", "own subnet", "remove it");
}

#[test]
fn addresses_that_make_no_sense() {
    let host_local = |keys: &str| with_ipam(&format!(r#"{{"type": "host-local", {keys}}}"#));
    let range = |keys: &str| host_local(&format!(r#""ranges": [[{keys}]]"#));
    for (marked, place, message, suggestion) in [
        (r#"{"subnet": «"10.1.2.3/16"»}"#, "[0][0].subnet", "not the subnet", "write \"10.1.0.0/16\""),
        (
            r#"{"subnet": «"10.1.0.0"»}"#,
            "[0][0].subnet",
            "no address with a prefix length",
            "\"10.1.0.0/24\"",
        ),
        (r#"{"subnet": «"pods"»}"#, "[0][0].subnet", "no address with a prefix length", "as in"),
        (
            r#"{"subnet": "10.1.0.0/16", "gateway": «"10.2.0.1"»}"#,
            "[0][0].gateway",
            "10.2.0.1",
            "10.1.0.0 to 10.1.255.255",
        ),
        (
            r#"{"subnet": "10.1.0.0/16", "rangeStart": «"10.0.0.9"»}"#,
            "[0][0].rangeStart",
            "10.0.0.9",
            "an address of",
        ),
        (
            r#"{"subnet": "10.1.0.0/16", "rangeEnd": «"fd00::1"»}"#,
            "[0][0].rangeEnd",
            "fd00::1",
            "an address of",
        ),
        (
            r#"{"subnet": "10.1.0.0/16", "rangeStart": "10.1.0.9", "rangeEnd": «"10.1.0.5"»}"#,
            "[0][0].rangeEnd",
            "10.1.0.5",
            "swap",
        ),
        (
            r#"{"subnet": "10.1.0.0/16", "gateway": «"10.1.0.1/16"»}"#,
            "[0][0].gateway",
            "no IP address",
            "\"10.1.0.1\"",
        ),
        (
            r#"{"subnet": «"10.1.0.0/16"», "rangeStart": "10.1.0.1", "rangeEnd": "10.1.0.1"}"#,
            "[0][0].subnet",
            "no address",
            "",
        ),
        (r#"«{»"gateway": "10.1.0.1"}"#, "[0][0]", "needs a subnet", "subnet"),
        (r#"{"subnet": «"::ffff:0.0.0.0/120"»}"#, "[0][0].subnet", "", ""),
        (
            r#"«{»"subnet": "10.1.0.0/16"}, {"subnet": "fd00::/64"}"#,
            "[0][0]",
            "IPv4 or IPv6",
            "a set for each",
        ),
        (r#"«{»"subnet": "10.1.0.0/16"}, {"subnet": "10.1.7.0/24"}"#, "[0][0]", "overlap", ""),
        (r#"{"subnet": "10.1.0.0/16"}], [«{»"subnet": "10.1.7.0/24"}"#, "[1][0]", "overlap", "rangeStart"),
        (r#"{"subnet": "10.1.0.0/16"}], «[]», [{"subnet": "fd00::/64"}"#, "[1]", "no ranges", ""),
    ] {
        finds(&range(marked), Error, &format!("plugins[0].ipam.ranges{place}"), message, suggestion);
    }
    finds(&with_ipam(r#"«{»"type": "host-local"}"#), Error, "plugins[0].ipam", "no ranges", "subnet");
    let both = host_local(r#"«"subnet"»: "10.1.0.0/24", "ranges": [[{"subnet": "10.2.0.0/24"}]]"#);
    finds(&both, Hint, "plugins[0].ipam.subnet", "one more address", "keep one");
    let outside = host_local(r#"«"gateway"»: "10.2.0.1", "ranges": [[{"subnet": "10.2.0.0/24"}]]"#);
    finds(&outside, Warning, "plugins[0].ipam.gateway", "nobody reads it", "into a range");
    let route = host_local(r#""subnet": "10.1.0.0/24", "routes": [{"dst": "::/0", "gw": «"10.1.0.1"»}]"#);
    finds(&route, Error, "plugins[0].ipam.routes[0].gw", "not of the family", "");
    let no_destination = host_local(r#""subnet": "10.1.0.0/24", "routes": [«{»"gw": "10.1.0.1"}]"#);
    finds(&no_destination, Error, "plugins[0].ipam.routes[0]", "needs a destination", "dst");
    let small = list(
        r#"{"type": "bridge", "mtu": «1000», "ipam": {"type": "host-local", "ranges": [[{"subnet": "fd00::/64"}]]}}"#,
    );
    finds(&small, Error, "plugins[0].mtu", "too small for IPv6", "1280");
    let fixed = with_ipam(
        r#"{"type": "static", "addresses": [{"address": "10.1.0.5/24", "gateway": «"10.2.0.1"»}]}"#,
    );
    finds(&fixed, Warning, "plugins[0].ipam.addresses[0].gateway", "not in the subnet", "");
    finds(&with_ipam(r#"«{»"type": "static"}"#), Warning, "plugins[0].ipam", "no addresses", "address");
}

#[test]
fn plugins_that_cannot_work() {
    finds(&list("«{»\"type\": \"ptp\"}"), Error, "plugins[0]", "ptp needs \"ipam\"", "host-local");
    finds(
        &list(r#"{"type": "bridge", «"ipam"»: {"subnet": "10.1.0.0/16"}}"#),
        Error,
        "plugins[0].ipam",
        "no \"type\" in \"ipam\"",
        "host-local",
    );
    finds(
        &with_ipam(r#"{"type": «"portmap"»}"#),
        Error,
        "plugins[0].ipam.type",
        "gives no addresses",
        "host-local",
    );
    finds(&list(r#"{"type": «"host-local"»}"#), Error, "plugins[0].type", "attaches nothing", "ipam");
    finds(&list(r#"{"type": «"../bin/sh"»}"#), Error, "plugins[0].type", "", "without a path");
    finds(
        &list(r#"{"type": «"portmap"», "capabilities": {"portMappings": true}}"#),
        Error,
        "plugins[0].type",
        "it is the first",
        "behind",
    );
    let after_a_bridge = |plugin: &str| list(&format!("{{\"type\": \"bridge\"}},\n{plugin}"));
    finds(
        &after_a_bridge(r#"{"type": «"portmap"»}"#),
        Warning,
        "plugins[1].type",
        "does not declare the capability",
        "\"capabilities\": {\"portMappings\": true}",
    );
    for (keys, severity, key, word, advice) in [
        (
            r#""markMasqBit": 7, «"externalSetMarkChain"»: "X""#,
            Error,
            "externalSetMarkChain",
            "exclude one another",
            "keep markMasqBit",
        ),
        (r#"«"markMasqBit"»: 12"#, Error, "markMasqBit", "firewall", "13"),
        (r#""snat": false, «"masqAll"»: true"#, Warning, "masqAll", "nothing is masqueraded", "snat"),
    ] {
        let portmap = format!(r#"{{"type": "portmap", "capabilities": {{"portMappings": true}}, {keys}}}"#);
        finds(&after_a_bridge(&portmap), severity, &format!("plugins[1].{key}"), word, advice);
    }
    finds(
        &after_a_bridge(r#"{"type": "bandwidth", «"ingressRate"»: 1000}"#),
        Error,
        "plugins[1].ingressRate",
        "needs ingressBurst",
        "",
    );
    for (egress, severity, word) in [
        (r#""egressRate": 1000, «"egressBurst"»: 1000"#, Warning, "no packet of 1500 bytes gets through"),
        (r#"«"egressRate"»: 7, "egressBurst": 80000"#, Error, "less than a byte"),
        (r#""egressRate": 1000, «"egressBurst"»: 34359738360"#, Error, "less than 4 GiB"),
    ] {
        let key = if egress.starts_with('«') { "plugins[1].egressRate" } else { "plugins[1].egressBurst" };
        finds(&after_a_bridge(&format!(r#"{{"type": "bandwidth", {egress}}}"#)), severity, key, word, "");
    }
    finds(
        &after_a_bridge(r#"{"type": "tuning", "sysctl": {«"kernel.msgmax"»: "1"}}"#),
        Error,
        "plugins[1].sysctl.kernel.msgmax",
        "begin with net.",
        "",
    );
    finds(&after_a_bridge(r#"«{»"type": "vrf"}"#), Error, "plugins[1]", "no \"vrfname\"", "");
    finds(
        r#"{"cniVersion": "0.2.0", "name": "a", "plugins": [{"type": "bridge", "ipam": {"type": "host-local",
           "ranges": [[{"subnet": "10.1.0.0/24"}], [«{»"subnet": "10.2.0.0/24"}]]}}]}"#,
        Error,
        "plugins[0].ipam.ranges[1][0]",
        "room for one address",
        "0.3.0",
    );
}

#[test]
fn files_of_one_plugin_are_checked_too() {
    let single = r#"«{»"cniVersion": "1.0.0", "name": "a", "type": "bridge"}"#;
    finds_in("10-a.conf", single, Hint, "", "gone from the specification", "*.conflist");
    let list = r#"«{»"cniVersion": "1.0.0", "name": "a", "plugins": [{"type": "bridge"}]}"#;
    finds_in("10-a.json", list, Error, "", "a list of plugins in a file", "rename it");
}

#[test]
fn parts_of_a_list_in_its_folder_are_checked_too() {
    let list = r#"{"cniVersion": "1.1.0", "name": "blue", "plugins": [{"type": "bridge"}]}"#;
    let found =
        lint_dir(&[("10-a.conflist", list), ("blue/10-more.conf", r#"{"type": "tuning", "mtu": "1"}"#)]);
    let [finding] = found.as_slice() else { panic!("{found:#?}") };
    assert!(finding.file.ends_with("blue/10-more.conf") && finding.place == "mtu", "{finding:#?}");
}
