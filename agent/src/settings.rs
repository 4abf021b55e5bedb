//! What is in force: options, parsed. What is in here makes sense.

use std::error;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use cni_spec::NetworkName;
use ipnet::IpNet;
use netops::LinkName;
use overlay::report::Ports;
use overlay::{Mode, NodeName, Pool, Range, Role, Tunnel, path};

use crate::log;
use crate::options::{EtcdOptions, Options, StoreKind};

/// What is in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The network's name, as in the CNI configuration.
    pub network: NetworkName,
    /// What this node is called.
    pub name: NodeName,
    /// The ranges of all nodes' pods.
    pub pool: Pool,
    /// Where the topology comes from.
    pub store: StoreSettings,
    /// How pods of other nodes are reached.
    pub mode: Mode,
    /// What this node does in the network.
    pub role: Role,
    /// The interface that leads to other nodes, if it was told.
    pub underlay: Option<LinkName>,
    /// Where other nodes reach this one, if it was told.
    pub addresses: Vec<IpAddr>,
    /// The node's end of tunnels.
    pub tunnel: Tunnel,
    /// The tunnels' interface.
    pub tunnel_device: LinkName,
    /// The interface that pods are plugged into.
    pub bridge: LinkName,
    /// The largest packet to and from pods, in bytes, if it was told.
    pub mtu: Option<u32>,
    /// What pods reach with addresses of their own besides the cluster's ranges; `None`: everything.
    pub masquerade_except: Option<Vec<IpNet>>,
    /// What outlives a reboot.
    pub state_dir: PathBuf,
    /// What does not.
    pub run_dir: PathBuf,
    /// Where the network's configuration is written for the runtime, if it is.
    pub conf_dir: Option<PathBuf>,
    /// Where runtimes look for plugins.
    pub bin_dir: PathBuf,
    /// Where the plugin keeps leases.
    pub data_dir: PathBuf,
    /// Where the runtime remembers what it has attached.
    pub cache_dir: PathBuf,
    /// Where `/healthz`, `/readyz` and `/metrics` are answered, if they are.
    pub health: Option<SocketAddr>,
    /// What a line of the log looks like.
    pub log_format: log::Format,
    /// How much is logged.
    pub log_level: log::Level,
}

/// Where the topology comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum StoreSettings {
    /// A file lists the nodes and their subnets.
    Static {
        /// Which.
        file: PathBuf,
    },
    /// Subnets follow from addresses.
    Derived {
        /// All nodes'.
        nodes: Vec<IpAddr>,
    },
    /// Agents tell one another.
    Gossip(GossipSettings),
    /// etcd.
    Etcd(EtcdOptions),
    /// The Kubernetes API.
    Kubernetes {
        /// How to reach it; `None`: as in a pod.
        kubeconfig: Option<PathBuf>,
    },
}

/// What agents need to find and to trust one another.
#[derive(Debug, Clone, PartialEq)]
pub struct GossipSettings {
    /// Agents that know others: host and port.
    pub seeds: Vec<Seed>,
    /// The addresses to listen at; none: all.
    pub listen: Vec<IpAddr>,
    /// The port, UDP and TCP.
    pub port: u16,
    /// The cluster's key; `None`: whoever comes is believed.
    pub key_file: Option<PathBuf>,
    /// It may be the first node although it has other seeds, and none of them answers.
    pub bootstrap: bool,
}

/// Where an agent is that knows others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// An address, or a name to resolve.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Settings {
    /// Where the agent will listen.
    pub fn ports(&self) -> Ports {
        let gossip = match &self.store {
            StoreSettings::Gossip(gossip) => Some(gossip.port),
            _ => None,
        };
        Ports {
            gossip,
            tunnel: self.tunnel.port,
            probes: path::DEFAULT_PORT,
            health: self.health.map(|address| address.port()),
        }
    }

    /// Of options, defaults included.
    ///
    /// # Errors
    /// Which option makes no sense, and why.
    pub fn new(options: &Options) -> Result<Self, SettingsError> {
        Ok(Self {
            network: parse("network", options.network.as_deref(), |text| {
                text.parse::<NetworkName>().map_err(|error| error.to_string())
            })?,
            name: node_name(options.node_name.as_deref())?,
            pool: pool(options)?,
            store: store(options)?,
            mode: given("mode", options.mode)?.into(),
            role: given("role", options.role)?.into(),
            underlay: options
                .underlay
                .interface
                .as_deref()
                .map(|name| link("underlay.interface", name))
                .transpose()?,
            addresses: options.underlay.addresses.clone().unwrap_or_default(),
            tunnel: tunnel(options)?,
            tunnel_device: link("tunnel.device", given("tunnel.device", options.tunnel.device.as_deref())?)?,
            bridge: link("bridge", given("bridge", options.bridge.as_deref())?)?,
            mtu: options.mtu.map(mtu).transpose()?,
            masquerade_except: options
                .masquerade
                .enabled
                .unwrap_or(true)
                .then(|| options.masquerade.except.clone().unwrap_or_default()),
            state_dir: absolute("stateDir", options.state_dir.as_ref())?,
            run_dir: absolute("runDir", options.run_dir.as_ref())?,
            conf_dir: conf_dir(options)?,
            bin_dir: absolute("cni.binDir", options.cni.bin_dir.as_ref())?,
            data_dir: absolute("cni.dataDir", options.cni.data_dir.as_ref())?,
            cache_dir: absolute("cni.cacheDir", options.cni.cache_dir.as_ref())?,
            health: options.health.listen.filter(|_| options.health.enabled.unwrap_or(true)),
            log_format: options.log.format.unwrap_or_default(),
            log_level: options.log.level.unwrap_or_default(),
        })
    }
}

/// An option that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// Which: `tunnel.vni`.
    pub key: &'static str,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.what)
    }
}

impl error::Error for SettingsError {}

fn wrong(key: &'static str, what: impl Into<String>) -> SettingsError {
    SettingsError { key, what: what.into() }
}

fn given<T>(key: &'static str, value: Option<T>) -> Result<T, SettingsError> {
    value.ok_or_else(|| wrong(key, "it must be given"))
}

fn parse<T>(
    key: &'static str,
    text: Option<&str>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, SettingsError> {
    parse(given(key, text)?).map_err(|what| wrong(key, what))
}

fn link(key: &'static str, name: &str) -> Result<LinkName, SettingsError> {
    LinkName::new(name).map_err(|error| wrong(key, error.to_string()))
}

fn absolute(key: &'static str, path: Option<&PathBuf>) -> Result<PathBuf, SettingsError> {
    match given(key, path)? {
        path if path.is_absolute() => Ok(path.clone()),
        path => Err(wrong(key, format!("{} is not an absolute path", path.display()))),
    }
}

fn node_name(name: Option<&str>) -> Result<NodeName, SettingsError> {
    let of_host = || nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    let name = match name {
        Some(name) => name.to_owned(),
        None => of_host().map_err(|errno| wrong("nodeName", format!("the host's name: {errno}")))?,
    };
    NodeName::new(&name).map_err(|what| wrong("nodeName", what))
}

fn pool(options: &Options) -> Result<Pool, SettingsError> {
    let range = |cluster: &IpNet| {
        let length = match cluster {
            IpNet::V4(_) => given("subnetLengthV4", options.subnet_length_v4),
            IpNet::V6(_) => given("subnetLengthV6", options.subnet_length_v6),
        };
        length.map(|subnet_length| Range { cluster: *cluster, subnet_length })
    };
    let ranges = given("cluster", options.cluster.as_ref())?.iter().map(range).collect::<Result<_, _>>()?;
    Pool::new(ranges).map_err(|what| wrong("cluster", what))
}

fn store(options: &Options) -> Result<StoreSettings, SettingsError> {
    Ok(match given("store", options.store)? {
        StoreKind::Static => {
            StoreSettings::Static { file: absolute("static.file", options.r#static.file.as_ref())? }
        }
        StoreKind::Derived => {
            let nodes = given("derived.nodes", options.derived.nodes.clone())?;
            StoreSettings::Derived { nodes }
        }
        StoreKind::Gossip => StoreSettings::Gossip(gossip(options)?),
        StoreKind::Etcd => StoreSettings::Etcd(options.etcd.clone()),
        StoreKind::Kubernetes => {
            StoreSettings::Kubernetes { kubeconfig: options.kubernetes.kubeconfig.clone() }
        }
    })
}

fn gossip(options: &Options) -> Result<GossipSettings, SettingsError> {
    let gossip = &options.gossip;
    let port = given("gossip.port", gossip.port).and_then(|port| non_zero("gossip.port", port))?;
    let seeds = gossip.seeds.as_deref().unwrap_or_default();
    let seeds = seeds.iter().map(|text| Seed::parse(text, port).map_err(|what| wrong("gossip.seeds", what)));
    let insecure = gossip.insecure.unwrap_or(false);
    Ok(GossipSettings {
        seeds: seeds.collect::<Result<_, _>>()?,
        listen: gossip.listen.clone().unwrap_or_default(),
        port,
        key_file: match insecure {
            true => None,
            false => Some(absolute("gossip.keyFile", gossip.key_file.as_ref())?),
        },
        bootstrap: gossip.bootstrap.unwrap_or(false),
    })
}

impl Seed {
    /// `192.168.1.11`, `node-1.example`, either with `:4793`; `fd00::1`, `[fd00::1]:4793`.
    fn parse(text: &str, usual: u16) -> Result<Self, String> {
        let wrong =
            || format!("\"{}\" is neither an address nor a name, with :PORT or without", text.escape_debug());
        let seed = |host: &str, port: u16| Self { host: host.to_owned(), port };
        if text.parse::<IpAddr>().is_ok() {
            return Ok(seed(text, usual));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(seed(&address.ip().to_string(), address.port()));
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
            None => (text, usual),
        };
        // Names of hosts are as those of nodes are.
        NodeName::new(host).map_err(|_| wrong()).map(|name| seed(name.as_str(), port))
    }
}

fn tunnel(options: &Options) -> Result<Tunnel, SettingsError> {
    let vni = given("tunnel.vni", options.tunnel.vni)?;
    if !(1..1 << 24).contains(&vni) {
        return Err(wrong("tunnel.vni", format!("{vni} is not between 1 and 16777215")));
    }
    let port = given("tunnel.port", options.tunnel.port).and_then(|port| non_zero("tunnel.port", port))?;
    Ok(Tunnel { vni, port })
}

fn non_zero(key: &'static str, port: u16) -> Result<u16, SettingsError> {
    if port == 0 { Err(wrong(key, "0 is no port that others could send to")) } else { Ok(port) }
}

fn mtu(mtu: u32) -> Result<u32, SettingsError> {
    // RFC 8200, section 5, and what the kernel can give an interface.
    match mtu {
        1280..=65_535 => Ok(mtu),
        _ => Err(wrong("mtu", format!("{mtu} is not between 1280 and 65535"))),
    }
}

fn conf_dir(options: &Options) -> Result<Option<PathBuf>, SettingsError> {
    let by_default = options.store == Some(StoreKind::Kubernetes);
    let write = options.cni.write.unwrap_or(by_default);
    write.then(|| absolute("cni.confDir", options.cni.conf_dir.as_ref())).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{InForce, ModeKind};

    fn settings(change: impl FnOnce(&mut Options)) -> Result<Settings, SettingsError> {
        let mut given = Options { node_name: Some("n1".to_owned()), ..Options::default() };
        change(&mut given);
        Settings::new(&InForce::of(&given, None, &Options::defaults()).unwrap().options)
    }

    #[test]
    fn defaults_make_sense() {
        let settings = settings(|_| {}).unwrap();
        assert_eq!(settings.name.as_str(), "n1");
        assert_eq!(settings.conf_dir, None);
        assert_eq!(settings.masquerade_except, Some(vec![]));
        let StoreSettings::Gossip(gossip) = settings.store else { panic!("{:?}", settings.store) };
        assert_eq!(gossip.key_file, Some(PathBuf::from("/etc/cnikit/key")));
    }

    #[test]
    fn the_example_makes_sense() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/agent.json");
        let given = Options { node_name: Some("n1".to_owned()), ..Options::default() };
        let options = InForce::of(&given, Some(&path), &Options::defaults()).unwrap().options;
        assert_eq!(Settings::new(&options).unwrap().pool.ranges().len(), 2);
    }

    #[test]
    fn the_host_has_a_name() {
        assert!(settings(|options| options.node_name = None).is_ok());
    }

    #[test]
    fn under_kubernetes_the_runtime_is_told() {
        let settings = settings(|options| options.store = Some(StoreKind::Kubernetes)).unwrap();
        assert_eq!(settings.conf_dir, Some(PathBuf::from("/etc/cni/net.d")));
    }

    #[test]
    fn seeds_are_addresses_or_names() {
        let seed = |text| Seed::parse(text, 7).map(|seed| (seed.host, seed.port));
        let is = |host: &str, port| Ok((host.to_owned(), port));
        assert_eq!(seed("10.0.0.1"), is("10.0.0.1", 7));
        assert_eq!(seed("10.0.0.1:8"), is("10.0.0.1", 8));
        assert_eq!(seed("fd00::1"), is("fd00::1", 7));
        assert_eq!(seed("[fd00::1]:8"), is("fd00::1", 8));
        assert_eq!(seed("Seed.example"), is("seed.example", 7));
        assert_eq!(seed("seed:8"), is("seed", 8));
        for wrong in ["", ":8", "a b", "a:b", "a:99999", "http://a", "[::1]"] {
            assert!(seed(wrong).unwrap_err().contains("neither"), "{wrong}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let refused = |change: fn(&mut Options)| settings(change).unwrap_err().key;
        assert_eq!(refused(|o| o.network = Some("a/b".to_owned())), "network");
        assert_eq!(refused(|o| o.node_name = Some("a_b".to_owned())), "nodeName");
        assert_eq!(refused(|o| o.cluster = Some(vec![])), "cluster");
        assert_eq!(refused(|o| o.subnet_length_v4 = Some(8)), "cluster");
        assert_eq!(refused(|o| o.tunnel.vni = Some(0)), "tunnel.vni");
        assert_eq!(refused(|o| o.tunnel.port = Some(0)), "tunnel.port");
        assert_eq!(refused(|o| o.gossip.port = Some(0)), "gossip.port");
        assert_eq!(refused(|o| o.gossip.seeds = Some(vec!["a b".to_owned()])), "gossip.seeds");
        assert_eq!(refused(|o| o.bridge = Some("a/b".to_owned())), "bridge");
        assert_eq!(refused(|o| o.mtu = Some(576)), "mtu");
        assert_eq!(refused(|o| o.state_dir = Some("x".into())), "stateDir");
        assert_eq!(refused(|o| o.store = Some(StoreKind::Derived)), "derived.nodes");
        assert!(settings(|o| o.mode = Some(ModeKind::Router)).is_ok());
    }
}
