//! `tuning`: settings of the container's kernel and of its interface.

mod allowlist;
mod backup;
mod config;
mod pattern;

use std::path::{Path, PathBuf};

use cni_spec::plugin::{DelRequest, GcRequest};
use cni_spec::{Error, ErrorCode, NetworkConfig};
use netops::{Kernel, Place, Plan, Resource, read_link};
use plugin_kit::{Addressing, Attach, Attachment, Owner, Remains, Request, Withdraw, kernel_error};

use backup::{Backup, BackupFile};

pub use config::TuningConfig;

/// Where it is remembered what interfaces were like before.
const DATA_DIR: &str = "/run/cni/tuning";
/// What an administrator allows.
const ALLOWLIST: &str = "/etc/cni/tuning/allowlist.conf";

/// The plugin `tuning`.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    allowlist: &'static str,
}

impl Tuning {
    /// The plugin, with the administrator's list of what is allowed in `/etc/cni/tuning/allowlist.conf`.
    pub const fn new() -> Self {
        Self { allowlist: ALLOWLIST }
    }

    /// The plugin, with that list elsewhere.
    #[must_use]
    pub const fn with_allowlist(self, path: &'static str) -> Self {
        Self { allowlist: path }
    }
}

impl Default for Tuning {
    fn default() -> Self {
        Self::new()
    }
}

impl Attach for Tuning {
    type Config = TuningConfig;

    const TYPE: &'static str = "tuning";
    const ABOUT: &'static str =
        concat!("cnikit tuning ", env!("CARGO_PKG_VERSION"), ": settings of a container and its interface");
    const ADDRESSING: Addressing = Addressing::Inherited;
    const REMAINS: Remains = Remains::Inside;

    fn plan(&self, request: &Request<'_, TuningConfig>, _: &mut dyn Kernel) -> Result<Attachment, Error> {
        let mut plan = Plan::new();
        for setting in config::sysctls(request)? {
            plan.own(Place::Container, Resource::Sysctl(setting.sysctl));
        }
        let settings = config::link_settings(request)?;
        let mut result = request.previous.clone().unwrap_or_default();
        let link = request.names.interface.as_str();
        for interface in result.interfaces.iter_mut().filter(|interface| interface.name == link) {
            if let Some(mac) = settings.mac {
                interface.mac = Some(mac.to_string());
            }
            interface.mtu = settings.mtu.or(interface.mtu);
        }
        if !settings.is_none() {
            plan.own(Place::Container, Resource::Settings(settings));
        }
        Ok(Attachment { plan, result })
    }

    fn prepare(
        &self,
        request: &Request<'_, TuningConfig>,
        kernel: &mut dyn Kernel,
    ) -> Result<Option<Withdraw>, Error> {
        let sysctls = config::sysctls(request)?;
        let names = sysctls.iter().map(|setting| setting.name.as_str());
        allowlist::check(Path::new(self.allowlist), names)?;
        let settings = config::link_settings(request)?;
        if settings.is_none() {
            return Ok(None);
        }
        let link = read_link(kernel, Place::Container, &settings.link).map_err(|e| kernel_error(&e))?;
        // Without an interface the plan fails, and says so.
        let Some(link) = link else { return Ok(None) };
        let file = BackupFile::of(&request.owner, &directory(&request.call.config));
        let earlier = file.read()?;
        file.write(&Backup::new(&request.owner, &settings.as_of(&link), earlier.clone()))?;
        Ok(Some(Box::new(move || match earlier {
            Some(earlier) => file.write(&earlier),
            None => file.remove(),
        })))
    }

    /// Whatever becomes of the interface, nobody gives it anything back a second time.
    fn restore(&self, call: &DelRequest, owner: &Owner, kernel: &mut dyn Kernel) -> Result<(), Error> {
        let file = BackupFile::of(owner, &directory(&call.config));
        if let Some(backup) = file.read()? {
            let settings = Resource::Settings(backup.settings(owner.link()?));
            let given_back =
                kernel.create(Place::Container, &[&settings]).into_iter().filter_map(Result::err);
            for error in given_back.map(|error| kernel_error(&error)) {
                // What the kernel refuses it will refuse again, and the interface goes soon; another time it may have
                // memory.
                if error.code() == ErrorCode::TRY_AGAIN_LATER {
                    return Err(error);
                }
            }
        }
        file.remove()
    }

    fn collect(&self, call: &GcRequest) -> Result<(), Error> {
        backup::collect(call, &directory(&call.config))
    }
}

/// `dataDir` of a configuration; where that cannot be read, the usual one.
fn directory(config: &NetworkConfig) -> PathBuf {
    let configured = config.get::<String>("dataDir").ok().flatten().filter(|path| !path.is_empty());
    configured.map_or_else(|| DATA_DIR.into(), PathBuf::from)
}
