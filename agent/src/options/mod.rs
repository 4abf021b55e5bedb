//! What a person wrote: in a file, in the environment, on the command line.
//!
//! The three are one list, the fields of [`Options`]. A field `gossip.seeds` is the key `"gossip": {"seeds": …}` of the
//! file, the flag `--gossip-seeds` and the variable `CNIKIT_GOSSIP_SEEDS`; its doc comment is what `--help` and the schema
//! say about it. Flags come before variables, those before the file, and that before [`defaults`](Options::defaults).

mod flags;
mod layers;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use overlay::{Mode, Role};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::log;
pub use flags::Flags;
pub use layers::{InForce, OptionsError};

/// What a person wrote. All of it may be left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, Args)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Options {
    /// The network's name, as in the CNI configuration [default: cnikit]
    #[arg(value_name = "NAME")]
    pub network: Option<String>,

    /// What this node is called [default: NODE_NAME, or the host's name]
    #[arg(value_name = "NAME")]
    pub node_name: Option<String>,

    /// The ranges of all nodes' pods, at most one of each family [default: 10.244.0.0/16]
    #[arg(value_name = "PREFIX,…")]
    #[schemars(with = "Option<Vec<String>>")]
    pub cluster: Option<Vec<IpNet>>,

    /// The prefix length of a node's IPv4 subnet [default: 24]
    #[arg(value_name = "BITS")]
    pub subnet_length_v4: Option<u8>,

    /// The prefix length of a node's IPv6 subnet [default: 64]
    #[arg(value_name = "BITS")]
    pub subnet_length_v6: Option<u8>,

    /// Where the node learns of others, and which subnet is its own [default: gossip]
    #[arg(value_name = "STORE")]
    pub store: Option<StoreKind>,

    /// The store `static`
    #[command(flatten, next_help_heading = "Store static")]
    pub r#static: StaticOptions,

    /// The store `derived`
    #[command(flatten, next_help_heading = "Store derived")]
    pub derived: DerivedOptions,

    /// The store `gossip`
    #[command(flatten, next_help_heading = "Store gossip")]
    pub gossip: GossipOptions,

    /// The store `etcd`
    #[command(flatten, next_help_heading = "Store etcd")]
    pub etcd: EtcdOptions,

    /// The store `kubernetes`
    #[command(flatten, next_help_heading = "Store kubernetes")]
    pub kubernetes: KubernetesOptions,

    /// How pods of other nodes are reached [default: auto]
    #[arg(value_name = "MODE")]
    pub mode: Option<ModeKind>,

    /// What this node does in the network [default: worker]
    #[arg(value_name = "ROLE")]
    pub role: Option<RoleKind>,

    /// What connects nodes
    #[command(flatten, next_help_heading = "Underlay")]
    pub underlay: UnderlayOptions,

    /// The node's end of tunnels
    #[command(flatten, next_help_heading = "Tunnels")]
    pub tunnel: TunnelOptions,

    /// The interface that pods are plugged into; it is made if it is not there [default: cnikit-pods]
    #[arg(value_name = "INTERFACE")]
    pub bridge: Option<String>,

    /// The largest packet to and from pods, in bytes [default: as large as the way to every peer allows]
    #[arg(value_name = "BYTES")]
    pub mtu: Option<u32>,

    /// Whether pods take the node's address where nobody knows theirs
    #[command(flatten, next_help_heading = "Masquerade")]
    pub masquerade: MasqueradeOptions,

    /// Where the node's id, and the subnets that it has, outlive a reboot [default: /var/lib/cnikit]
    #[arg(value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Where the plugin looks for what the agent tells it, and where the agent answers (agent.sock) [default: /run/cnikit]
    #[arg(value_name = "DIR")]
    pub run_dir: Option<PathBuf>,

    /// What the agent does for the node's runtime
    #[command(flatten, next_help_heading = "CNI")]
    pub cni: CniOptions,

    /// Who may ask over TCP how the agent is
    #[command(flatten, next_help_heading = "Health")]
    pub health: HealthOptions,

    /// What the agent says on stderr
    #[command(flatten, next_help_heading = "Log")]
    pub log: LogOptions,
}

/// Where the topology comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum StoreKind {
    /// A file lists the nodes and their subnets.
    Static,
    /// A node's subnet follows from its address; a list has the addresses of all nodes.
    Derived,
    /// Agents find one another from seed addresses, and agree on subnets among themselves.
    Gossip,
    /// Nodes and subnets are in etcd.
    Etcd,
    /// Nodes and subnets are those of the Kubernetes API.
    Kubernetes,
}

/// The store `static`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, Args)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StaticOptions {
    /// The file that lists the nodes [default: /etc/cnikit/nodes.json]
    #[arg(id = "static.file", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// The store `derived`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, Args)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DerivedOptions {
    /// The addresses of all nodes; this one's may be among them
    #[arg(id = "derived.nodes", value_name = "ADDRESS,…")]
    pub nodes: Option<Vec<IpAddr>>,
}

/// The store `gossip`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, Args)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GossipOptions {
    /// Where agents are that know others, as addresses or names, with a port or without; this node may be
    /// among them
    #[arg(id = "gossip.seeds", value_name = "HOST[:PORT],…")]
    pub seeds: Option<Vec<String>>,

    /// The addresses to listen at [default: all of the node's]
    #[arg(id = "gossip.listen", value_name = "ADDRESS,…")]
    pub listen: Option<Vec<IpAddr>>,

    /// The UDP and TCP port [default: 4793]
    #[arg(id = "gossip.port", value_name = "PORT")]
    pub port: Option<u16>,

    /// The file with the cluster's key, and during a rotation with the former one in a second line; readable
    /// by its owner only [default: /etc/cnikit/key]
    #[arg(id = "gossip.key_file", value_name = "FILE")]
    pub key_file: Option<PathBuf>,

    /// Do without a key; whoever reaches the port can then redirect every pod's traffic
    #[arg(id = "gossip.insecure", value_name = "BOOL")]
    pub insecure: Option<bool>,

    /// This may be a cluster's first node: take a subnet although no seed answers. Where there are no other
    /// seeds that goes without saying
    #[arg(id = "gossip.bootstrap", value_name = "BOOL")]
    pub bootstrap: Option<bool>,
}

/// The store `etcd`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, Args)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EtcdOptions {
    /// Its servers [default: http://127.0.0.1:2379]
    #[arg(id = "etcd.endpoints", value_name = "URL,…")]
    pub endpoints: Option<Vec<String>>,

    /// What the keys of all networks begin with; the network's name follows [default: /cnikit/]
    #[arg(id = "etcd.prefix", value_name = "KEY")]
    pub prefix: Option<String>,

    /// Where its servers have their JSON gateway: with etcd 3.3 /v3beta [default: /v3]
    #[arg(id = "etcd.gateway", value_name = "PATH")]
    pub gateway: Option<String>,

    /// The certificates that its servers' are signed with, PEM
    #[arg(id = "etcd.ca_file", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// This node's certificate, PEM
    #[arg(id = "etcd.cert_file", value_name = "FILE")]
    pub cert_file: Option<PathBuf>,

    /// The key to this node's certificate, PEM
    #[arg(id = "etcd.key_file", value_name = "FILE")]
    pub key_file: Option<PathBuf>,

    /// The name in its servers' certificates, if it is not that in the URLs
    #[arg(id = "etcd.server_name", value_name = "NAME")]
    pub server_name: Option<String>,

    /// The user
    #[arg(id = "etcd.user", value_name = "NAME")]
    pub user: Option<String>,

    /// The file with the user's password
    #[arg(id = "etcd.password_file", value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// The store `kubernetes`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, Args)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KubernetesOptions {
    /// How to reach the API [default: as in a pod]
    #[arg(id = "kubernetes.kubeconfig", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// What connects nodes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, Args)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UnderlayOptions {
    /// The interface that leads to other nodes [default: that of the default route]
    #[arg(id = "underlay.interface", value_name = "INTERFACE")]
    pub interface: Option<String>,

    /// Where other nodes reach this one, best first [default: the addresses of that interface]
    #[arg(id = "underlay.addresses", visible_alias = "node-ip", value_name = "ADDRESS,…")]
    pub addresses: Option<Vec<IpAddr>>,
}

/// The node's end of tunnels.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, Args)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TunnelOptions {
    /// The VXLAN network identifier: all nodes' must be the same [default: 4096]
    #[arg(id = "tunnel.vni", value_name = "NUMBER")]
    pub vni: Option<u32>,

    /// The UDP port of tunnels [default: 4789]
    #[arg(id = "tunnel.port", value_name = "PORT")]
    pub port: Option<u16>,

    /// The tunnels' interface [default: cnikit-vxlan]
    #[arg(id = "tunnel.device", value_name = "INTERFACE")]
    pub device: Option<String>,
}

/// Whether pods take the node's address where nobody knows theirs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, Args)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MasqueradeOptions {
    /// Whether pods take the node's address to reach what is outside of the cluster's ranges [default: true]
    #[arg(id = "masquerade.enabled", visible_alias = "masquerade", value_name = "BOOL")]
    pub enabled: Option<bool>,

    /// Prefixes outside of the cluster's ranges that pods reach with addresses of their own
    #[arg(id = "masquerade.except", value_name = "PREFIX,…")]
    #[schemars(with = "Option<Vec<String>>")]
    pub except: Option<Vec<IpNet>>,
}

/// What the agent does for the node's runtime.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, Args)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CniOptions {
    /// Write the network's configuration (10-NETWORK.conflist) for the runtime, once the node is ready
    /// [default: with the store kubernetes]
    #[arg(id = "cni.write", value_name = "BOOL")]
    pub write: Option<bool>,

    /// Where runtimes read networks' configurations [default: /etc/cni/net.d]
    #[arg(id = "cni.conf_dir", value_name = "DIR")]
    pub conf_dir: Option<PathBuf>,

    /// Where runtimes look for plugins: a configuration is written only if those it names are there
    /// [default: /opt/cni/bin]
    #[arg(id = "cni.bin_dir", value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,

    /// Where the plugin keeps leases (its dataDir): a pod's addresses are those that it has a lease of
    /// [default: /var/lib/cni/networks]
    #[arg(id = "cni.data_dir", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Where the runtime remembers what it has attached, in results/: what Kubernetes calls a pod stands there
    /// [default: /var/lib/cni]
    #[arg(id = "cni.cache_dir", value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
}

/// Who asks how the agent is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, Args)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HealthOptions {
    /// Where /healthz, /readyz and /metrics are answered over TCP [default: 127.0.0.1:4794]
    #[arg(id = "health.listen", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

    /// Whether they are [default: true]
    #[arg(id = "health.enabled", value_name = "BOOL")]
    pub enabled: Option<bool>,
}

/// What the agent says on stderr.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema, Args)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LogOptions {
    /// What a line of the log looks like [default: journal under systemd, else text]
    #[arg(id = "log.format", value_name = "FORMAT")]
    pub format: Option<log::Format>,

    /// How much is logged [default: info]
    #[arg(id = "log.level", value_name = "LEVEL")]
    pub level: Option<log::Level>,
}

impl Options {
    /// What is so where a person wrote nothing.
    pub fn defaults() -> Self {
        Self {
            network: Some("cnikit".to_owned()),
            cluster: Some(vec![IpNet::new_assert(IpAddr::from([10, 244, 0, 0]), 16)]),
            subnet_length_v4: Some(24),
            subnet_length_v6: Some(64),
            store: Some(StoreKind::Gossip),
            r#static: StaticOptions { file: Some("/etc/cnikit/nodes.json".into()) },
            gossip: GossipOptions {
                // Free in IANA's register, next to VXLAN's 4789. (7946, memberlist's, is taken where Docker has a swarm.)
                port: Some(4793),
                key_file: Some("/etc/cnikit/key".into()),
                insecure: Some(false),
                bootstrap: Some(false),
                ..GossipOptions::default()
            },
            etcd: EtcdOptions {
                endpoints: Some(vec!["http://127.0.0.1:2379".to_owned()]),
                prefix: Some("/cnikit/".to_owned()),
                gateway: Some("/v3".to_owned()),
                ..EtcdOptions::default()
            },
            mode: Some(ModeKind::Auto),
            role: Some(RoleKind::Worker),
            tunnel: TunnelOptions {
                vni: Some(4096),
                port: Some(4789),
                device: Some("cnikit-vxlan".to_owned()),
            },
            bridge: Some("cnikit-pods".to_owned()),
            masquerade: MasqueradeOptions { enabled: Some(true), ..MasqueradeOptions::default() },
            state_dir: Some("/var/lib/cnikit".into()),
            run_dir: Some(plugin_overlay::DIRECTORY.into()),
            cni: CniOptions {
                conf_dir: Some("/etc/cni/net.d".into()),
                bin_dir: Some("/opt/cni/bin".into()),
                data_dir: Some(ipam::DirStore::DEFAULT_DATA_DIR.into()),
                cache_dir: Some(cni_spec::runtime::DEFAULT_CACHE_DIR.into()),
                ..CniOptions::default()
            },
            health: HealthOptions {
                listen: Some(SocketAddr::from(([127, 0, 0, 1], 4794))),
                enabled: Some(true),
            },
            log: LogOptions { format: Some(log::Format::Text), level: Some(log::Level::Info) },
            ..Self::default()
        }
    }
}

/// A [`Mode`], as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum ModeKind {
    /// A plain route where the peer is on the same segment and probes come back; else a tunnel.
    Auto,
    /// A tunnel: VXLAN, unicast.
    Vxlan,
    /// A plain route, with the peer's own address as next hop.
    Route,
    /// All by the node whose role is router.
    Router,
}

impl From<ModeKind> for Mode {
    fn from(kind: ModeKind) -> Self {
        match kind {
            ModeKind::Auto => Self::Auto,
            ModeKind::Vxlan => Self::Vxlan,
            ModeKind::Route => Self::Route,
            ModeKind::Router => Self::Router,
        }
    }
}

/// A [`Role`], as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum RoleKind {
    /// The node has pods.
    Worker,
    /// It has none, and passes on what workers in mode router send to one another.
    Router,
}

impl From<RoleKind> for Role {
    fn from(kind: RoleKind) -> Self {
        match kind {
            RoleKind::Worker => Self::Worker,
            RoleKind::Router => Self::Router,
        }
    }
}
