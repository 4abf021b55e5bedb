//! Names and other short texts.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use cni_spec::{CniArgs, Command, ContainerId, IfName, NetworkName, PluginType, SpecVersion};
use netops::{LinkName, MacAddr, Mark, SysctlKey};
use plugin_kit::MarkedOwner;

use super::text;

/// `CNI_ARGS`.
pub(crate) fn cni_args(data: &[u8]) {
    let args = CniArgs::parse(&text(data));
    let written = args.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(";");
    if args.deny_unknown(&[]).is_ok() {
        assert!(CniArgs::parse(&written).iter().eq(args.iter()), "{written:?}");
    }
    let _ = (args.parsed::<std::net::IpAddr>("IP"), args.get("GATEWAY"), args.deny_unknown(&["IP", "MAC"]));
}

/// Names of every kind.
pub(crate) fn names(data: &[u8]) {
    let text = text(data);
    read_again::<ContainerId>(&text);
    read_again::<NetworkName>(&text);
    read_again::<IfName>(&text);
    read_again::<PluginType>(&text);
    read_again::<SpecVersion>(&text);
    read_again::<Command>(&text);
    read_again::<MacAddr>(&text);
    if let Ok(name) = LinkName::new(&text) {
        assert!((1..=LinkName::MAX).contains(&name.as_str().len()));
    }
    if let Ok(key) = SysctlKey::new(&text) {
        assert!(key.as_str().starts_with("net/") && !key.as_str().split('/').any(|part| part == ".."));
        let _ = key.link();
    }
    if let Ok(mark) = Mark::new(&text) {
        assert_eq!(mark.as_str(), text);
        if let Some(MarkedOwner { network, container, interface }) = MarkedOwner::parse(&text) {
            assert_eq!(format!("cnikit {network} {container} {interface}"), text);
        }
    }
}

/// What is read is written so that it is read again.
fn read_again<T: FromStr<Err: Display> + Display + PartialEq + Debug>(text: &str) {
    match text.parse::<T>() {
        Ok(value) => assert_eq!(value.to_string().parse::<T>().ok(), Some(value)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
