//! Which store, and which node this is with it.

use std::net::IpAddr;
use std::sync::Arc;

use gossip::seal::Keyring;
use overlay::NodeId;
use tokio::sync::watch;

use crate::counters::Traffic;
use crate::error::Error;
use crate::identity;
use crate::keys;
#[cfg(feature = "etcd")]
use crate::options::EtcdOptions;
use crate::settings::{Settings, StoreSettings};
#[cfg(any(feature = "etcd", feature = "kubernetes"))]
use crate::store;
use crate::store::{Gossip, Listed, Store};

#[cfg(not(all(feature = "etcd", feature = "kubernetes")))]
const NOT_BUILT: &str = "this program was built without it";

/// A store, and which node this is with it.
pub(crate) struct Chosen {
    pub(crate) store: Box<dyn Store>,
    pub(crate) id: NodeId,
    /// What this node's agent is known by to others.
    pub(crate) keys: watch::Sender<Arc<Keyring>>,
}

impl Chosen {
    pub(crate) fn new(
        settings: &Settings,
        addresses: &[IpAddr],
        reload: watch::Receiver<()>,
        traffic: &Arc<Traffic>,
    ) -> Result<Self, Error> {
        let of = |kind| move |why| Error::Store { kind, why };
        let keys = watch::Sender::new(Arc::new(Keyring::insecure().for_cluster(settings.network.as_str())));
        let listed = |kind, listed: Result<Listed, String>| {
            let listed = listed.map_err(of(kind))?;
            let id = listed.own_id(&settings.name, addresses).map_err(of(kind))?;
            Ok::<(Box<dyn Store>, NodeId), Error>((Box::new(listed), id))
        };
        let on_disk = || identity::load_or_make(&settings.state_dir).map_err(Error::Identity);
        let (store, id): (Box<dyn Store>, NodeId) = match &settings.store {
            StoreSettings::Static { file } => {
                listed("static", Listed::from_file(file.clone(), settings.pool.clone(), reload))?
            }
            StoreSettings::Derived { nodes } => listed("derived", Listed::derived(nodes, &settings.pool))?,
            StoreSettings::Gossip(gossip) => {
                if let Some(path) = &gossip.key_file {
                    let keyring = keys::read(path, &settings.network).map_err(of("gossip"))?;
                    keys.send_replace(Arc::new(keyring));
                }
                let id = on_disk()?;
                let gossip = Gossip::new(
                    gossip.clone(),
                    settings.pool.clone(),
                    id,
                    &settings.network,
                    settings.state_dir.clone(),
                    keys.subscribe(),
                    Arc::clone(traffic),
                );
                (Box::new(gossip), id)
            }
            #[cfg(feature = "etcd")]
            StoreSettings::Etcd(options) => {
                let (network, pool) = (settings.network.as_str(), settings.pool.clone());
                let etcd = store::etcd::Etcd::new(etcd_config(options), network, pool, &settings.state_dir);
                (Box::new(etcd.map_err(of("etcd"))?), on_disk()?)
            }
            #[cfg(feature = "kubernetes")]
            StoreSettings::Kubernetes { kubeconfig } => {
                let config = store::kubernetes::Config { kubeconfig: kubeconfig.clone() };
                let (network, pool) = (settings.network.as_str(), settings.pool.clone());
                let api = store::kubernetes::Kubernetes::new(config, network, pool, &settings.state_dir);
                (Box::new(api.map_err(of("kubernetes"))?), on_disk()?)
            }
            #[cfg(not(feature = "etcd"))]
            StoreSettings::Etcd(_) => return Err(of("etcd")(NOT_BUILT.to_owned())),
            #[cfg(not(feature = "kubernetes"))]
            StoreSettings::Kubernetes { .. } => return Err(of("kubernetes")(NOT_BUILT.to_owned())),
        };
        Ok(Self { store, id, keys })
    }
}

#[cfg(feature = "etcd")]
fn etcd_config(options: &EtcdOptions) -> store::etcd::Config {
    let mut config = store::etcd::Config {
        endpoints: options.endpoints.clone().unwrap_or_default(),
        prefix: options.prefix.clone().unwrap_or_default(),
        gateway: options.gateway.clone().unwrap_or_default(),
        tls: None,
        login: None,
    };
    config.tls = options.ca_file.clone().map(|ca_file| store::etcd::Tls {
        ca_file,
        certificate_file: options.cert_file.clone(),
        key_file: options.key_file.clone(),
        server_name: options.server_name.clone(),
    });
    if let (Some(user), Some(password_file)) = (options.user.clone(), options.password_file.clone()) {
        config.login = Some(store::etcd::Login { user, password_file });
    }
    config
}
