//! Sysctls.

use netops::*;
use nix::mount::{MsFlags, mount};

use crate::in_lab;
use crate::support::name;

fn key(path: &str) -> SysctlKey {
    SysctlKey::new(path).unwrap()
}

#[test]
fn settings_are_made_in_their_own_namespace() {
    in_lab!(|mut lab| {
        let wanted = Resource::Sysctl(Sysctl::new(SysctlKey::ipv4_forwarding(), 1));
        let before = Resource::Sysctl(Sysctl::new(SysctlKey::ipv4_forwarding(), 0));
        assert_eq!(lab.create(Place::Container, &before), Ok(Created::Kept));
        assert_eq!(lab.create(Place::Container, &wanted), Ok(Created::Changed(before)));
        assert_eq!(lab.create(Place::Container, &wanted), Ok(Created::Kept));
        let queries = [Query::Sysctl(SysctlKey::ipv4_forwarding())];
        let value = |value: &str| vec![Answer::Sysctl(Some(value.to_owned()))];
        assert_eq!(lab.kernel.read(Place::Container, &queries), Ok(value("1")));
        assert_eq!(lab.kernel.read(Place::Host, &queries), Ok(value("0")));
        assert_eq!(lab.run(Place::Container, "cat /proc/sys/net/ipv4/ip_forward"), "1\n");
    });
}

#[test]
fn lists_of_numbers_are_compared_as_such() {
    in_lab!(|mut lab| {
        let ports = |value: &str| Resource::Sysctl(Sysctl::new(key("net/ipv4/ip_local_port_range"), value));
        let before = lab.create(Place::Host, &ports("40000 50000")).unwrap();
        assert_eq!(before, Created::Changed(ports("32768 60999")));
        assert_eq!(lab.create(Place::Host, &ports("40000\t50000")), Ok(Created::Kept));
        let query = [Query::Sysctl(key("net/ipv4/ip_local_port_range"))];
        assert_eq!(
            lab.kernel.read(Place::Host, &query),
            Ok(vec![Answer::Sysctl(Some("40000 50000".to_owned()))])
        );
    });
}

#[test]
fn what_is_no_setting_is_missed_unless_it_is_optional() {
    in_lab!(|mut lab| {
        let missing = SysctlKey::ipv6(&name("eth9"), "accept_ra");
        assert_eq!(
            lab.kernel.read(Place::Host, &[Query::Sysctl(missing.clone())]),
            Ok(vec![Answer::Sysctl(None)])
        );
        let optional = Resource::Sysctl(Sysctl::optional(missing.clone(), 0));
        assert_eq!(lab.create(Place::Host, &optional), Ok(Created::Kept));
        let wanted = Resource::Sysctl(Sysctl::new(missing, 0));
        let error = lab.create(Place::Container, &wanted).unwrap_err();
        assert_eq!(
            error.to_string(),
            "create sysctl net/ipv6/conf/eth9/accept_ra = 0 in the container's namespace: \
             No such file or directory (ENOENT)"
        );
    });
}

#[test]
fn a_value_that_makes_no_sense_is_refused_and_ends_the_batch() {
    in_lab!(|mut lab| {
        let sysctl = |value: &str| Resource::Sysctl(Sysctl::new(SysctlKey::ipv4_forwarding(), value));
        let results = lab.kernel.create(Place::Host, &[&sysctl("1"), &sysctl("maybe"), &sysctl("0")]);
        assert_eq!(results.len(), 2);
        assert_eq!(results[1].as_ref().unwrap_err().errno(), Some(Errno::EINVAL));
        assert_eq!(lab.run(Place::Host, "cat /proc/sys/net/ipv4/ip_forward"), "1\n");
    });
}

#[test]
fn what_can_only_be_written_is_written() {
    in_lab!(|mut lab| {
        let flush = Resource::Sysctl(Sysctl::new(key("net/ipv4/route/flush"), 1));
        assert_eq!(lab.create(Place::Container, &flush), Ok(Created::New));
    });
}

/// In a container, where `/proc/sys` is read-only, the node's is beside it.
#[test]
fn where_they_are_read_only_those_of_the_node_are_written_to() {
    in_lab!(|mut lab| {
        let bind = |from: &str, to: &str, flags: MsFlags| {
            std::fs::create_dir_all(to).unwrap();
            mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | flags, None::<&str>).unwrap();
        };
        mount(Some("none"), "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        bind("/proc", "/tmp/proc", MsFlags::MS_REC);
        bind("/tmp/proc/sys", "/tmp/proc/sys", MsFlags::empty());
        bind("/tmp/proc/sys", "/tmp/proc/sys", MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
        bind("/proc/sys/net", "/tmp/later/proc/sys/net", MsFlags::empty());
        // This thread's root only: its mount namespace is its own.
        nix::unistd::chroot("/tmp").unwrap();
        let forwarding = Resource::Sysctl(Sysctl::new(SysctlKey::ipv4_forwarding(), 1));
        let before = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
        let refused = lab.create(Place::Host, &forwarding).unwrap_err().to_string();
        assert!(refused.contains("EROFS"), "{refused}");
        std::fs::rename("/later", "/host").unwrap();
        lab.create(Place::Host, &forwarding).unwrap();
        let after = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
        assert_eq!((before.trim(), after.trim()), ("0", "1"));
    });
}
