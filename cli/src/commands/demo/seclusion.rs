//! Leaving the host: from then on nothing that this process does can be seen outside of it.

use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;

/// What it took to leave the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Rights {
    /// The process may make namespaces: it is root's, as a rule.
    Root,
    /// It made a user namespace, in which it is root, first.
    UserNamespace,
}

/// A process that has left the host: it is in a network namespace and a mount namespace of its own.
#[derive(Debug)]
pub(super) struct Seclusion {
    pub(super) rights: Rights,
    /// A directory in memory that no other process sees.
    pub(super) dir: PathBuf,
}

/// Leaves the host. There is no way back, and nothing to clean up: all that is made from here on ends with the
/// process, however that ends.
///
/// The process must have one thread (`unshare(2)`).
pub(super) fn seclude() -> Result<Seclusion, Failure> {
    let networks_and_mounts = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    let rights = match unshare(networks_and_mounts) {
        Ok(()) => Rights::Root,
        Err(Errno::EPERM) => {
            let (user, group) = (geteuid(), getegid());
            unshare(CloneFlags::CLONE_NEWUSER | networks_and_mounts).map_err(forbidden)?;
            // Who may not change groups may map one (user_namespaces(7), since Linux 3.19).
            for (file, text) in [
                ("setgroups", "deny".to_owned()),
                ("uid_map", format!("0 {user} 1")),
                ("gid_map", format!("0 {group} 1")),
            ] {
                write_own(file, &text)?;
            }
            Rights::UserNamespace
        }
        Err(errno) => return Err(forbidden(errno)),
    };
    Ok(Seclusion { rights, dir: private_directory()? })
}

fn write_own(file: &str, text: &str) -> Result<(), Failure> {
    let path = Path::new("/proc/self").join(file);
    fs::write(&path, text).map_err(|error| match error.raw_os_error() {
        // AppArmor takes the rights away after the namespace is made.
        Some(errno) => forbidden(Errno::from_raw(errno)),
        None => Failure::new(Exit::Failed, format!("write {}: {error}", path.display())),
    })
}

/// Mounts an empty file system in memory over the directory for temporary files, for this process alone.
fn private_directory() -> Result<PathBuf, Failure> {
    let failed = |what: &str, errno: Errno| {
        Failure::new(Exit::Failed, format!("{what}: {}", errno.desc()))
            .advise("TMPDIR can name another directory for temporary files")
    };
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    // In a chroot `/` need not be a mount point. A user namespace's mounts go nowhere else anyway.
    match mount(None::<&str>, "/", None::<&str>, private, None::<&str>) {
        Ok(()) | Err(Errno::EINVAL) => {}
        Err(errno) => return Err(failed("make mounts private", errno)),
    }
    let dir = std::env::temp_dir();
    mount(Some("cnikit"), &dir, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=0700"))
        .map_err(|errno| failed(&format!("mount a file system in memory at {}", dir.display()), errno))?;
    Ok(dir)
}

/// The kernel, or who configured it, does not let this user make namespaces: say what to do about it.
fn forbidden(errno: Errno) -> Failure {
    let mut failure = Failure::new(Exit::Privilege, format!("make network namespaces: {}", errno.desc()));
    if !geteuid().is_root() {
        failure = failure.advise("run it as root: sudo cnikit demo");
    }
    advice(errno, |setting| fs::read_to_string(Path::new("/proc/sys").join(setting)).ok())
        .into_iter()
        .fold(failure, Failure::advise)
}

/// The settings, if any, by which user namespaces are forbidden on this machine.
fn advice(errno: Errno, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let is = |setting: &str, value: &str| read(setting).is_some_and(|text| text.trim() == value);
    let mut advice = Vec::new();
    if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        advice.push(
            "or let ordinary users do it: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
                .to_owned(),
        );
    }
    if is("kernel/unprivileged_userns_clone", "0") {
        advice.push(
            "or let ordinary users do it: sudo sysctl -w kernel.unprivileged_userns_clone=1".to_owned(),
        );
    }
    for kind in ["user", "net", "mnt"] {
        if is(&format!("user/max_{kind}_namespaces"), "0") {
            advice.push(format!("or allow some: sudo sysctl -w user.max_{kind}_namespaces=1024"));
        }
    }
    if advice.is_empty() {
        advice.push(match errno {
            Errno::ENOSPC | Errno::EUSERS => {
                "there are too many namespaces already: user.max_user_namespaces is the limit".to_owned()
            }
            _ => "inside of a container, start that with --privileged, or with a seccomp profile that allows unshare"
                .to_owned(),
        });
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_is_told_which_setting_refuses() {
        let told = |settings: &[(&str, &str)], errno| {
            advice(errno, |name| {
                settings.iter().find(|(setting, _)| *setting == name).map(|(_, value)| format!("{value}\n"))
            })
            .join("\n")
        };
        let ubuntu = told(&[("kernel/apparmor_restrict_unprivileged_userns", "1")], Errno::EPERM);
        assert!(ubuntu.contains("sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"), "{ubuntu}");
        let debian = told(&[("kernel/unprivileged_userns_clone", "0")], Errno::EPERM);
        assert!(debian.contains("sysctl -w kernel.unprivileged_userns_clone=1"), "{debian}");
        let rhel = told(&[("user/max_user_namespaces", "0")], Errno::ENOSPC);
        assert!(rhel.contains("user.max_user_namespaces=1024"), "{rhel}");
        let container = told(&[("user/max_user_namespaces", "96365")], Errno::EPERM);
        assert!(container.contains("seccomp"), "{container}");
    }
}
