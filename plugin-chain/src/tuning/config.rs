//! What is asked for: in the configuration, in `args.cni`, in `runtimeConfig`, and in `CNI_ARGS`.

use std::collections::BTreeMap;
use std::fmt;

use cni_spec::{Error, plugin};
use netops::{LinkName, LinkSettings, MacAddr, Sysctl, SysctlKey};
use plugin_kit::Request;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

/// The configuration of [`super::Tuning`], as written. Settings of the kernel, whose order counts, are read apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TuningConfig {
    /// Where it is remembered what interfaces were like before; by default `/run/cni/tuning`.
    pub data_dir: String,
    /// MAC address.
    pub mac: String,
    /// Promiscuous mode is switched on.
    pub promisc: bool,
    /// MTU in bytes; 0 leaves it.
    pub mtu: i64,
    /// Every multicast frame is taken, or is not.
    pub allmulti: Option<bool>,
    /// The transmit queue's length in packets.
    #[serde(rename = "txQLen")]
    pub transmit_queue: Option<i64>,
}

/// Settings of the kernel: as they are called, which is what an allow-list is about, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) sysctl: Sysctl,
}

/// The settings of the kernel that are asked for, in their order.
pub(super) fn sysctls(request: &Request<'_, TuningConfig>) -> Result<Vec<Setting>, Error> {
    let mut asked = configured(request.call)?;
    let args: Option<BTreeMap<String, String>> = request.call.config.cni_args()?.get("sysctl")?;
    for (name, value) in args.into_iter().flatten() {
        match asked.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => asked.push((name, value)),
        }
    }
    let setting = |(name, value): (String, String)| {
        let path = name.replace('.', "/").replacen("IFNAME", request.names.interface.as_str(), 1);
        let key = SysctlKey::new(&path).map_err(|e| Error::config(format!("sysctl: {name}: {e}")))?;
        // The kernel shows the numbers of a list with one blank between them, however they were written.
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Setting { name, sysctl: Sysctl::new(key, value) })
    };
    asked.into_iter().map(setting).collect()
}

/// The settings of the interface that are asked for.
pub(super) fn link_settings(request: &Request<'_, TuningConfig>) -> Result<LinkSettings, Error> {
    let (config, args) = (&request.config, request.call.config.cni_args()?);
    let promisc = args.get("promisc")?.unwrap_or(config.promisc);
    let queue = args.get("txQLen")?.or(config.transmit_queue);
    let transmit_queue = queue.map(|length: i64| {
        u32::try_from(length).map_err(|_| Error::config(format!("txQLen: {length} is no length of a queue")))
    });
    Ok(LinkSettings {
        mac: mac(request)?,
        mtu: plugin_kit::mtu(args.get("mtu")?.unwrap_or(config.mtu)).map_err(Error::config)?,
        promiscuous: promisc.then_some(true),
        all_multicast: args.get("allmulti")?.or(config.allmulti),
        transmit_queue: transmit_queue.transpose()?,
        ..LinkSettings::none(LinkName::clone(&request.names.interface))
    })
}

/// `args.cni.mac` before `runtimeConfig.mac` before `MAC` in `CNI_ARGS` before `mac`: the reference's order, which is
/// another than `bridge`'s.
fn mac(request: &Request<'_, TuningConfig>) -> Result<Option<MacAddr>, Error> {
    let config = &request.call.config;
    let asked = [
        config.cni_args()?.get("mac")?,
        config.runtime_config().mac()?,
        request.call.args.get("MAC").map(str::to_owned),
        Some(request.config.mac.clone()),
    ];
    let Some(text) = asked.into_iter().flatten().find(|mac: &String| !mac.is_empty()) else {
        return Ok(None);
    };
    match text.parse::<MacAddr>() {
        Ok(mac) if mac.is_unicast() => Ok(Some(mac)),
        Ok(mac) => Err(Error::config(format!("mac: {mac} is no interface's address"))),
        Err(error) => Err(Error::config(format!("mac: {error}"))),
    }
}

/// `sysctl` of the configuration, in its order, which a document that was read does not have any more; a setting that
/// is there twice is refused.
fn configured(call: &plugin::Request) -> Result<Vec<(String, String)>, Error> {
    let Some(in_any_order) = call.config.get::<BTreeMap<String, String>>("sysctl")? else {
        return Ok(Vec::new());
    };
    // A call in process may come with a document that was never text.
    match serde_json::from_slice(call.invocation.stdin()) {
        Ok(Document { sysctl }) if sysctl.len() == in_any_order.len() => Ok(sysctl),
        Ok(Document { sysctl }) => {
            let twice = sysctl
                .iter()
                .enumerate()
                .find(|(n, (name, _))| sysctl.iter().take(*n).any(|(earlier, _)| earlier == name));
            match twice {
                Some((_, (name, _))) => Err(Error::config(format!("sysctl: {name:?} is there twice"))),
                None => Ok(in_any_order.into_iter().collect()),
            }
        }
        Err(_) => Ok(in_any_order.into_iter().collect()),
    }
}

/// A configuration, as far as it matters.
#[derive(Default)]
struct Document {
    sysctl: Vec<(String, String)>,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
                let mut document = Document::default();
                while let Some(key) = map.next_key::<String>()? {
                    if key.eq_ignore_ascii_case("sysctl") {
                        document.sysctl = map.next_value::<InOrder>()?.0;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(document)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// The members of an object in their order, each as often as it is there.
struct InOrder(Vec<(String, String)>);

impl<'de> Deserialize<'de> for InOrder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = InOrder;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InOrder, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(InOrder(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}
