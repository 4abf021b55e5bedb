//! What is so on this node: everything that rules are about, and nothing that they say. `None`, wherever it stands, is what
//! could not be looked at.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use overlay::report::{Map, Ports, Status};
use plugin_overlay::NodeFile;

/// What is so on this node.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) identity: Identity,
    pub(super) network: Option<Network>,
    pub(super) sockets: Option<Vec<Socket>>,
    pub(super) settings: Settings,
    pub(super) kernel: Kernel,
    pub(super) runtime: Runtime,
    pub(super) agent: Agent,
    /// Whom this node must reach, tried out.
    pub(super) reached: Vec<Reached>,
    /// The ranges of all nodes' pods, as somebody said.
    pub(super) cluster: Vec<IpNet>,
}

/// Who this node is.
#[derive(Debug, Clone, Default)]
pub(super) struct Identity {
    pub(super) host_name: Option<String>,
    /// `/etc/machine-id`.
    pub(super) machine_id: Option<String>,
    /// The machine's own number, from its firmware. Only root may read it.
    pub(super) product_uuid: Option<String>,
}

/// Interfaces and routes.
#[derive(Debug, Clone, Default)]
pub(super) struct Network {
    pub(super) links: Vec<Link>,
    /// Those of the `main` table.
    pub(super) routes: Vec<Route>,
}

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) name: String,
    /// The kernel's word for it; empty for hardware and loopback.
    pub(super) kind: String,
    pub(super) mac: Option<String>,
    pub(super) mtu: u32,
    pub(super) up: bool,
    pub(super) carrier: bool,
    /// Without those that every interface has.
    pub(super) addresses: Vec<IpNet>,
    /// It is a port of something else.
    pub(super) is_port: bool,
    /// It bears the mark of a pod's attachment.
    pub(super) is_pods: bool,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) destination: IpNet,
    pub(super) gateway: Option<IpAddr>,
    pub(super) link: String,
    /// Who made it (`rtm_protocol`).
    pub(super) protocol: Option<u8>,
}

/// A socket that somebody listens at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) transport: Transport,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) holder: Holder,
}

/// How it is spoken at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

/// Who listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holder {
    /// A process, by its number and name (`/proc/PID/comm`: 15 characters).
    Process(u32, String),
    /// The kernel itself: a tunnel's end.
    Kernel,
    /// Somebody whose files this user may not see, or who is in another place.
    Unseen,
}

/// Settings of the kernel, and of what is beside it.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    pub(super) forward_ipv4: Option<bool>,
    pub(super) forward_ipv6: Option<bool>,
    /// `net.bridge.bridge-nf-call-iptables`; there is none if the module is not loaded.
    pub(super) bridge_netfilter: Option<bool>,
    /// Reverse path filter by interface, `all` included.
    pub(super) rp_filter: Vec<(String, u8)>,
    pub(super) conntrack: Option<Conntrack>,
    /// What pages are swapped out to.
    pub(super) swaps: Vec<String>,
    /// Ports that the kernel gives to who asks for none, first and last.
    pub(super) local_ports: Option<(u16, u16)>,
    /// Ports that it does not give: ranges, first and last.
    pub(super) reserved_ports: Vec<(u16, u16)>,
    /// Control groups are of version 2.
    pub(super) unified_cgroups: Option<bool>,
}

/// How full the table of connections is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Conntrack {
    pub(super) count: u64,
    pub(super) max: u64,
}

/// What the kernel can do.
#[derive(Debug, Clone, Default)]
pub(super) struct Kernel {
    pub(super) release: Option<String>,
    pub(super) features: Vec<(Feature, Tried)>,
}

/// Something of the kernel's that is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feature {
    Bridge,
    Veth,
    Vxlan,
    NextHops,
    NfTables,
    Macvlan,
}

impl Feature {
    pub(super) const ALL: [Self; 6] =
        [Self::Bridge, Self::Veth, Self::NfTables, Self::NextHops, Self::Vxlan, Self::Macvlan];

    /// The kernel's module, if it is one.
    pub(super) fn module(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Veth => "veth",
            Self::Vxlan => "vxlan",
            Self::NextHops => "",
            Self::NfTables => "nf_tables",
            Self::Macvlan => "macvlan",
        }
    }
}

/// What came of trying a feature out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tried {
    /// It works.
    Works,
    /// The kernel refused, and why.
    Refused(String),
    /// It could not be tried; its module is loaded or could be.
    Likely,
    /// It could not be tried, and nothing tells of it.
    Unknown,
}

/// The container runtime, and its plugins.
#[derive(Debug, Clone, Default)]
pub(super) struct Runtime {
    /// What says which runtime it is, in the order in which the kubelet listens.
    pub(super) endpoints: Vec<Endpoint>,
    /// The sockets of runtimes that are there.
    pub(super) sockets: Vec<String>,
    /// The kubelet refuses to run with swap (`failSwapOn`); `None` if it has no configuration here.
    pub(super) fail_swap_on: Option<bool>,
    /// containerd's configuration switches its kubelet interface off.
    pub(super) cri_is_disabled: bool,
    /// Where plugins are looked for, and who says so.
    pub(super) plugin_dirs: Vec<(PathBuf, String)>,
    /// Where networks' configurations are looked for.
    pub(super) conf_dir: PathBuf,
    /// The configurations there, in a runtime's order.
    pub(super) configurations: Vec<Configuration>,
}

/// Something that says where the runtime is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The socket's path.
    pub(super) socket: String,
    /// Who says so.
    pub(super) source: String,
    pub(super) is_there: bool,
}

/// A network's configuration.
#[derive(Debug, Clone)]
pub(super) struct Configuration {
    pub(super) path: PathBuf,
    /// The network and its plugins; or what is wrong with the file.
    pub(super) content: Result<Chain, String>,
}

/// A network and its plugins.
#[derive(Debug, Clone, Default)]
pub(super) struct Chain {
    pub(super) network: String,
    /// By name, those that give addresses included, and where each was found.
    pub(super) plugins: Vec<(String, Option<PathBuf>)>,
}

/// The agent, as far as it is there.
#[derive(Debug, Clone, Default)]
pub(super) struct Agent {
    /// What it says of itself, or why it does not; `None` if none is there.
    pub(super) status: Option<Result<Status, String>>,
    /// What it knows of all nodes.
    pub(super) map: Option<Map>,
    /// What it has told the plugin, by network.
    pub(super) files: Vec<(String, Result<NodeFile, String>)>,
    /// Where it listens, or would: as it says itself, or its configuration, or else the defaults.
    pub(super) ports: Option<Ports>,
}

/// A connection that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) whom: Whom,
    /// Address or name, and port.
    pub(super) at: String,
    /// Why there was none.
    pub(super) refused: Option<Refused>,
}

/// Who listens there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whom {
    /// The API server, as the kubelet is told.
    ApiServer,
    /// The agent of another node.
    Peer(String),
}

/// Why there was no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// Somebody answered that nobody listens.
    Nobody,
    /// Nothing came back.
    Silence,
    /// The kernel, or who resolves names, says this.
    Error(String),
}
