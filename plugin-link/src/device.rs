//! Which of the node's interfaces is meant, and what `/sys` says of devices.

use std::fs;
use std::path::{Path, PathBuf};

use cni_spec::Error;
use netops::{Kernel, LinkName, LinkState, MacAddr, Place};
use plugin_kit::kernel_error;
use serde::Deserialize;

/// The drivers that leave a network card to a program in user space.
const USER_SPACE_DRIVERS: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

/// The configuration of [`HostDevice`](crate::HostDevice): what says first which interface is meant, in this order. One
/// of them, or the runtime's `deviceID`, must be there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct HostDeviceConfig {
    /// Its name (`device`).
    pub device: Option<LinkName>,
    /// Its MAC address (`hwaddr`).
    pub mac: Option<MacAddr>,
    /// Its device's directory below `/sys/devices` (`kernelpath`).
    pub kernel_path: Option<PathBuf>,
    /// Its device's address on the PCI bus (`pciBusID`).
    pub pci: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Raw {
    device: String,
    hwaddr: String,
    kernelpath: String,
    #[serde(rename = "pciBusID")]
    pci_bus_id: String,
}

impl TryFrom<Raw> for HostDeviceConfig {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let device = given(raw.device).map(|name| LinkName::new(&name)).transpose();
        let mac = given(raw.hwaddr).map(|mac| mac.parse::<MacAddr>()).transpose();
        Ok(Self {
            device: device.map_err(|e| format!("device: {e}"))?,
            mac: mac.map_err(|e| format!("hwaddr: {e}"))?,
            kernel_path: given(raw.kernelpath).map(kernel_path).transpose()?,
            pci: given(raw.pci_bus_id).map(|id| bus_id("pciBusID", id)).transpose()?,
        })
    }
}

fn kernel_path(text: String) -> Result<PathBuf, String> {
    let path = PathBuf::from(&text);
    if !text.starts_with("/sys/devices/") || text.split('/').any(|part| part == "..") {
        return Err(format!("kernelpath is {text:?}: it must be a path below /sys/devices/"));
    }
    Ok(path)
}

/// The name of a device on a bus, which is a directory's.
fn bus_id(key: &str, id: String) -> Result<String, String> {
    if id.contains(['/', '\0']) || id == "." || id == ".." {
        return Err(format!("{key} is {id:?}: it must be a device's address"));
    }
    Ok(id)
}

/// What says which interface is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Device {
    Name(LinkName),
    Mac(MacAddr),
    /// That of which the kernel has an entry in one of these directories; the first that there is.
    In(Vec<PathBuf>),
}

impl Device {
    /// The interface's name, if that is what is known.
    pub(crate) fn name(&self) -> Result<LinkName, Error> {
        match self {
            Self::Name(name) => Ok(name.clone()),
            Self::Mac(mac) => Err(Error::config(format!("hwaddr: the host has no interface with {mac}"))),
            Self::In(directories) => {
                let places: Vec<_> = directories.iter().map(|path| path.display().to_string()).collect();
                Err(Error::config(format!("the host has no interface in {}", places.join(" or "))))
            }
        }
    }
}

/// Where the kernel says what devices there are (`sysfs(5)`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sysfs {
    root: &'static str,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self::new("/sys")
    }
}

impl Sysfs {
    pub(crate) const fn new(root: &'static str) -> Self {
        Self { root }
    }

    /// Which interface is meant; `asked` is the runtime's `deviceID`, on the PCI bus or the auxiliary bus.
    pub(crate) fn device(self, config: &HostDeviceConfig, asked: Option<&str>) -> Result<Device, Error> {
        let asked = self.asked(asked)?;
        if let Some(name) = &config.device {
            return Ok(Device::Name(name.clone()));
        }
        if let Some(mac) = config.mac {
            return Ok(Device::Mac(mac));
        }
        if let Some(path) = &config.kernel_path {
            let below = path.strip_prefix("/sys").unwrap_or(path);
            return Ok(Device::In(vec![Path::new(self.root).join(below).join("net")]));
        }
        let device = asked.or_else(|| config.pci.as_ref().map(|id| self.on_bus("pci", id)));
        let device = device.ok_or_else(|| {
            Error::config(
                "specify one of device, hwaddr, kernelpath and pciBusID: the interface that is meant",
            )
        })?;
        Ok(Device::In(net_directories(&device)))
    }

    /// The directory of the device that a runtime asks for.
    fn asked(self, id: Option<&str>) -> Result<Option<PathBuf>, Error> {
        let Some(id) = id.filter(|id| !id.is_empty()) else { return Ok(None) };
        let id = bus_id("runtimeConfig.deviceID", id.to_owned()).map_err(Error::config)?;
        let found =
            ["pci", "auxiliary"].map(|bus| self.on_bus(bus, &id)).into_iter().find(|path| path.exists());
        let missing = || {
            let text =
                format!("runtimeConfig.deviceID: there is no {id} on the PCI bus or the auxiliary bus");
            Error::config(text)
        };
        found.ok_or_else(missing).map(Some)
    }

    fn on_bus(self, bus: &str, id: &str) -> PathBuf {
        Path::new(self.root).join("bus").join(bus).join("devices").join(id)
    }

    /// The PCI address of a device that a program in user space drives.
    pub(crate) fn in_user_space(self, config: &HostDeviceConfig, asked: Option<&str>) -> Option<String> {
        let id = asked.filter(|id| !id.is_empty()).or(config.pci.as_deref())?;
        let driver = fs::canonicalize(self.on_bus("pci", id).join("driver")).ok()?;
        USER_SPACE_DRIVERS.contains(&driver.file_name()?.to_str()?).then(|| id.to_owned())
    }

    /// Finds the interface among the host's; `None` if it is not there.
    pub(crate) fn find(self, device: &Device, kernel: &mut dyn Kernel) -> Result<Option<LinkState>, Error> {
        let named = |kernel: &mut dyn Kernel, name: &LinkName| {
            netops::read_link(kernel, Place::Host, name).map_err(|e| kernel_error(&e))
        };
        match device {
            Device::Name(name) => named(kernel, name),
            Device::Mac(mac) => {
                let links = netops::read_links(kernel, Place::Host).map_err(|e| kernel_error(&e))?;
                Ok(links.into_iter().find(|link| link.mac == Some(*mac)))
            }
            Device::In(directories) => match directories.iter().find_map(|path| first_name(path)) {
                Some(name) => named(kernel, &name),
                None => Ok(None),
            },
        }
    }
}

/// Where a device's interfaces are listed: in its directory, or, if it is a virtio device on another bus, below that.
fn net_directories(device: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(device).into_iter().flatten().filter_map(Result::ok);
    let virtio = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("virtio"));
    let mut below: Vec<_> = virtio.map(|entry| entry.path().join("net")).collect();
    below.sort();
    [device.join("net")].into_iter().chain(below).collect()
}

fn first_name(directory: &Path) -> Option<LinkName> {
    let entries =
        fs::read_dir(directory).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<_> = entries.filter_map(|name| LinkName::new(&name).ok()).collect();
    names.sort();
    names.into_iter().next()
}
