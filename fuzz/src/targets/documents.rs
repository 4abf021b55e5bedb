//! JSON documents: what runtimes write and plugins print.

use cni_spec::{
    AddResult, Capability, Error, IpRange, NetworkConfig, NetworkList, PluginConfig, Route, SpecVersion,
    VersionResult,
};
use plugin_kit::Attach;
use plugin_kit::ipam::HostLocal;
use serde_json::Value;

/// A plugin's configuration, and everything that a plugin may ask it.
pub(crate) fn network_config(data: &[u8]) {
    let Ok(config) = NetworkConfig::from_json(data) else { return };
    assert_eq!(NetworkConfig::from_json(config.to_json().as_bytes()).as_ref(), Ok(&config));

    let _ = (config.plugin_type(), config.ipam_type(), config.dns(), config.valid_attachments());
    if let Ok(args) = config.cni_args() {
        let _ = (args.get::<Vec<String>>("ips"), args.get::<String>("mac"));
    }
    let runtime = config.runtime_config();
    let _ = (runtime.port_mappings(), runtime.ip_ranges(), runtime.bandwidth(), runtime.dns());
    let _ = (runtime.ips(), runtime.mac(), runtime.aliases(), runtime.pod_annotations());
    let _ = (runtime.infiniband_guid(), runtime.device_id(), runtime.cgroup_path());
    for capability in Capability::ALL {
        let _ = runtime.get::<Value>(capability.as_str());
    }
    if let Ok(Some(result)) = config.prev_result() {
        converts(&result);
    }

    typed::<plugin_bridge::Bridge>(&config);
    typed::<plugin_link::Ptp>(&config);
    typed::<plugin_link::Dummy>(&config);
    typed::<plugin_link::Loopback>(&config);
    typed::<plugin_link::Macvlan>(&config);
    typed::<plugin_link::Ipvlan>(&config);
    typed::<plugin_link::Vlan>(&config);
    typed::<plugin_link::Tap>(&config);
    typed::<plugin_link::HostDevice>(&config);
    let _ = (HostLocal::pool(&config), HostLocal::data_dir(&config));
    let ipam = config.section("ipam");
    let _ = (ipam.get::<Vec<Route>>("routes"), ipam.get::<Vec<Vec<IpRange>>>("ranges"));
}

fn typed<P: Attach>(config: &NetworkConfig) {
    if let Err(error) = config.parse::<P::Config>() {
        assert!(!error.msg().is_empty());
    }
}

/// A list of plugins, a single plugin as a list of one, and one plugin's part of a list.
pub(crate) fn network_list(data: &[u8]) {
    for list in [NetworkList::from_json(data), NetworkList::from_single_json(data)].into_iter().flatten() {
        let written = Value::Object(list.document.clone()).to_string();
        match NetworkList::from_json(written.as_bytes()) {
            Ok(again) => assert_eq!((again.name, again.plugins), (list.name, list.plugins)),
            Err(error) => unreachable!("a list was read, but not what it was read into: {error}"),
        }
    }
    if let Ok(plugin) = PluginConfig::from_json(data) {
        let _ = plugin.wants("portMappings");
    }
}

/// A result, of any version, to every version.
pub(crate) fn add_result(data: &[u8]) {
    for fallback in [SpecVersion::V0_2_0, SpecVersion::V0_4_0, SpecVersion::V1_1_0] {
        if let Ok(result) = AddResult::from_json(data, fallback) {
            converts(&result);
        }
    }
}

/// Every version can be written and read; in the newest nothing is lost, and in an old one nothing more at the
/// second time.
fn converts(result: &AddResult) {
    for version in SpecVersion::ALL.iter().copied() {
        let written = result.to_json(version);
        let Ok(read) = AddResult::from_json(written.as_bytes(), SpecVersion::LATEST) else {
            unreachable!("a result in {version} cannot be read: {written}");
        };
        if version >= SpecVersion::V1_0_0 {
            assert_eq!(&read, result, "{version}");
        }
        assert_eq!(read.to_json(version), written);
        for ip in &read.ips {
            let _ = read.interface_of(ip);
        }
    }
}

/// What else a plugin may print: an error, or the versions that it speaks.
pub(crate) fn answer(data: &[u8]) {
    if let Some(error) = Error::from_json(data) {
        assert_eq!(Error::from_json(error.to_json().as_bytes()), Some(error));
    }
    if let Ok(versions) = serde_json::from_slice::<VersionResult>(data) {
        let _ = SpecVersion::ALL.iter().all(|version| versions.supports(*version));
    }
}
