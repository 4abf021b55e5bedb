//! firewalld, which rejects what it forwards for nobody in a zone that may: it has tables of its own, in which an accept
//! elsewhere counts for nothing. So the pods' addresses become sources of a zone, as with the reference.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cni_spec::Error;
use netops::IpVersion;
use plugin_kit::error;

use super::Backend;
use super::dbus::{self, Answer, Call};

/// Where it is configured, if it is installed: a node without it is not asked for it.
const INSTALLED: [&str; 2] = ["/etc/firewalld", "/usr/lib/firewalld"];
/// Where the system's bus is, unless `DBUS_SYSTEM_BUS_ADDRESS` says otherwise.
const BUS: &str = "/run/dbus/system_bus_socket";

/// Makes addresses sources of a zone: all of them or, if that fails, none.
pub(super) fn add(backend: Backend, zone: &str, addresses: &[IpAddr]) -> Result<(), Error> {
    let Some(answers) = ask(backend, "addSource", zone, addresses)? else { return Ok(()) };
    let failed = answers.into_iter().find_map(|answer| match answer {
        Answer::Failed { name, text } if !is_there_already(&text) => Some((name, text)),
        _ => None,
    });
    let Some((name, text)) = failed else { return Ok(()) };
    if !is_nobody(&name) {
        remove(backend, zone, addresses);
    }
    refused(backend, zone, &name, &text)
}

/// That addresses are sources of a zone, where there is a firewalld.
pub(super) fn check(backend: Backend, zone: &str, addresses: &[IpAddr]) -> Result<(), Error> {
    let Some(answers) = ask(backend, "querySource", zone, addresses)? else { return Ok(()) };
    for (address, answer) in addresses.iter().zip(answers) {
        match answer {
            Answer::Done(Some(0)) => {
                let text = format!("{address} is no source of firewalld's zone {zone}");
                return Err(Error::new(error::DIFFERS, text));
            }
            Answer::Done(_) => {}
            Answer::Failed { name, text } => refused(backend, zone, &name, &text)?,
        }
    }
    Ok(())
}

/// Ends their being sources of it, as far as they are. Whoever is not there has none.
pub(super) fn remove(backend: Backend, zone: &str, addresses: &[IpAddr]) {
    if may_run(backend) {
        // What cannot be undone here is undone when firewalld is loaded again.
        let _ = call("removeSource", zone, addresses);
    }
}

fn may_run(backend: Backend) -> bool {
    match backend {
        Backend::Unsaid => INSTALLED.iter().any(|directory| Path::new(directory).exists()),
        Backend::Iptables => false,
        Backend::Firewalld => true,
    }
}

/// An answer for each address; `None` where no firewalld runs, and none has to.
fn ask(
    backend: Backend,
    member: &str,
    zone: &str,
    addresses: &[IpAddr],
) -> Result<Option<Vec<Answer>>, Error> {
    if !may_run(backend) {
        return Ok(None);
    }
    match call(member, zone, addresses) {
        Ok(answers) => Ok(Some(answers)),
        Err(error) if backend == Backend::Firewalld => Err(absent(&error.to_string())),
        Err(_) => Ok(None),
    }
}

/// What a failure means: nothing, if nobody is there who would have to be.
fn refused(backend: Backend, zone: &str, name: &str, text: &str) -> Result<(), Error> {
    match is_nobody(name) {
        true if backend != Backend::Firewalld => Ok(()),
        true => Err(absent(text)),
        false => Err(Error::config(format!("firewalldZone: {zone}: firewalld says: {text}"))),
    }
}

fn call(member: &str, zone: &str, addresses: &[IpAddr]) -> std::io::Result<Vec<Answer>> {
    let source = |address: &IpAddr| match IpVersion::of(*address) {
        IpVersion::V4 => format!("{address}/32"),
        IpVersion::V6 => format!("{address}/128"),
    };
    let sources: Vec<_> = addresses.iter().map(source).collect();
    let arguments: Vec<_> = sources.iter().map(|source| [zone, source.as_str()]).collect();
    let call = |arguments| Call {
        destination: "org.fedoraproject.FirewallD1",
        path: "/org/fedoraproject/FirewallD1",
        interface: "org.fedoraproject.FirewallD1.zone",
        member,
        arguments,
    };
    dbus::call(&bus(), &arguments.iter().map(|arguments| call(arguments)).collect::<Vec<_>>())
}

fn bus() -> PathBuf {
    let address = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_default();
    let path = address.strip_prefix("unix:path=").and_then(|path| path.split([',', ';']).next());
    path.unwrap_or(BUS).into()
}

/// Whether an error means that nobody has firewalld's name on the bus.
fn is_nobody(name: &str) -> bool {
    name.ends_with(".ServiceUnknown") || name.ends_with(".NameHasNoOwner")
}

fn is_there_already(text: &str) -> bool {
    text.contains("ZONE_ALREADY_SET") || text.contains("ALREADY_ENABLED")
}

fn absent(why: &str) -> Error {
    let text = "backend: firewalld does not answer: start it, or leave the key out";
    Error::config(text).with_details(why.to_owned())
}
