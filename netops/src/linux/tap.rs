//! Taps: made through `/dev/net/tun` (`linux/if_tun.h`), which shows the namespace of the thread that opens it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use super::netlink::Refusal;
use super::{namespace, sys};
use crate::error::Errno;
use crate::name::LinkName;
use crate::resource::Tap;

const DEVICE: &str = "/dev/net/tun";
/// There only where SELinux is on: its file system is mounted.
const SELINUX: &str = "/sys/fs/selinux/enforce";

/// Makes a tap in the calling thread's namespace.
pub(super) fn create(name: &LinkName, tap: &Tap) -> Result<(), Refusal> {
    let device =
        OpenOptions::new().read(true).write(true).open(DEVICE).map_err(|error| match namespace::errno_of(
            &error,
        ) {
            // No such file, or one without a driver: in the words that rtnetlink has for it.
            Errno::ENOENT | Errno::ENODEV | Errno::ENXIO => {
                Refusal { errno: Errno::EOPNOTSUPP, detail: Some("Unknown device type".to_owned()) }
            }
            errno => Refusal { errno, detail: Some(DEVICE.to_owned()) },
        })?;
    // Without headers before each frame, as ip(8) makes them; who opens it may choose otherwise.
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
    if tap.multi_queue {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    let wanted = sys::NewTap { name: name.as_str(), flags, owner: tap.owner, group: tap.group };
    match tap.selinux_context.as_deref().filter(|_| Path::new(SELINUX).exists()) {
        None => sys::make_tap(&device, &wanted).map_err(Refusal::from),
        Some(context) => sys::make_tap_as(&device, &wanted, c"/proc/self/attr/current", context)
            .map_err(|errno| Refusal { errno: errno.into(), detail: Some(format!("as {context}")) }),
    }
}

/// Opens the program's end of a tap in the calling thread's namespace: what is written is a frame that the interface
/// receives, and what it sends can be read.
///
/// # Errors
/// As `/dev/net/tun`'s: `EPERM` for whom it is not, `EINVAL` if there is something else of that name, or one of several
/// queues. If there is none, one is made that goes when the file is closed.
pub fn open_tap(name: &LinkName) -> io::Result<File> {
    let device = OpenOptions::new().read(true).write(true).open(DEVICE)?;
    sys::attach_tap(&device, name.as_str(), libc::IFF_TAP | libc::IFF_NO_PI)?;
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a namespace of its own.
    fn alone<R: Send>(test: impl FnOnce() -> R + Send) -> Option<R> {
        std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                let namespace = super::super::Namespace::create();
                let Ok(namespace) = namespace else {
                    eprintln!("SKIPPED: no network namespace can be made here");
                    return None;
                };
                namespace.enter(test).ok()
            });
            made.join().unwrap()
        })
    }

    #[test]
    fn a_context_is_taken_by_a_process_of_its_own_and_an_impossible_one_is_refused() {
        let made = |attribute: &std::ffi::CStr| {
            let device = File::options().read(true).write(true).open(DEVICE).unwrap();
            let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
            let wanted = sys::NewTap { name: "tap0", flags, owner: None, group: None };
            sys::make_tap_as(&device, &wanted, attribute, "system_u:system_r:nobody_t:s0")
        };
        let exists = || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap().contains("tap0");
        alone(|| {
            assert!(made(c"/nowhere").is_err());
            assert!(!exists());
            assert_eq!(made(c"/dev/null"), Ok(()));
            assert!(exists());
        });
    }
}
