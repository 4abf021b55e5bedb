//! Variables.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use cnikit_tests::{State, isolated};
use serde_json::json;

use crate::attack::{CONFIG, CONFLICT, ENVIRONMENT, KERNEL, NETNS, Victim};

fn not_utf8() -> OsString {
    OsString::from_vec(vec![b'a', 0xff, 0xfe])
}

#[test]
fn what_is_missing_or_no_name_is_refused() {
    isolated(|| {
        let victim = Victim::new();
        let call = || victim.call("ADD");
        for name in ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_PATH"] {
            victim.refuses(name, ENVIRONMENT, &call().without(name));
            victim.refuses(name, ENVIRONMENT, &call().env(name, ""));
        }
        for id in ["../../etc/passwd", "a/b", "a b", ".hidden", "-", "a\nb", "ä", "$(reboot)", "a;b"] {
            victim.refuses(id, ENVIRONMENT, &call().container(id));
        }
        for name in ["0123456789abcdef", "a/b", ".", "..", "a:b", "a b", "a\tb", "a\nb", "eth%d", "../../x"] {
            victim.refuses(name, ENVIRONMENT, &call().env("CNI_IFNAME", name));
        }
        for command in ["PWN", "add", "ADD ", "ADD\nDEL", "VERSIONS"] {
            victim.refuses(command, ENVIRONMENT, &call().env("CNI_COMMAND", command));
        }
        for name in ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_COMMAND"] {
            victim.refuses(name, ENVIRONMENT, &call().env(name, not_utf8()));
        }
    });
}

#[test]
fn names_that_the_kernel_has_or_reserves_are_refused() {
    isolated(|| {
        let victim = Victim::new();
        victim.refuses("lo", CONFLICT, &victim.call("ADD").env("CNI_IFNAME", "lo"));
        for name in ["all", "default"] {
            victim.refuses(name, KERNEL, &victim.call("ADD").env("CNI_IFNAME", name));
        }
        victim.node.pod_shell(&victim.pod, "ip link add taken type bridge");
        victim.refuses("taken", CONFLICT, &victim.call("ADD").env("CNI_IFNAME", "taken"));
    });
}

#[test]
fn names_too_long_for_files_are_refused_and_the_longest_are_served() {
    isolated(|| {
        let victim = Victim::new();
        for length in [256, 120_000] {
            for command in ["ADD", "DEL"] {
                victim.refuses("long", ENVIRONMENT, &victim.call(command).container(&"a".repeat(length)));
            }
        }
        let longest = "a".repeat(220);
        let call = |command| victim.with(command, json!({"name": "n".repeat(255)})).container(&longest);
        call("ADD").run().result();
        call("DEL").run().done();
        let gone = |state: &State| {
            !format!("{}{}", state.json()["files"], state.json()["nftables"]).contains("aaaa")
        };
        assert!(gone(&State::when(&victim.node, gone)));
    });
}

#[test]
fn what_is_no_network_namespace_is_refused() {
    isolated(|| {
        let victim = Victim::new();
        victim.node.shell(
            "mkdir /run/odd; cd /run/odd; touch file; mkdir dir; mkfifo fifo; ln -s loop loop; touch uts; mount --bind /proc/self/ns/uts uts
             touch own; mount --bind /proc/self/ns/net own",
        );
        let long = format!("/run/{}", "a/".repeat(2400));
        for path in [
            "/run/netns/file",
            "/run/netns/dir",
            "/run/netns/fifo",
            "/run/netns/loop",
            "/run/netns/uts",
            "/run/netns/own",
            "/run/netns/none",
            "/dev/zero",
            "/dev/null",
            "/dev/full",
            "/proc/self/ns/net",
            "/proc/self/ns/mnt",
            "/",
            ".",
            "relative",
            "/proc/1/ns/net/x",
            "/proc/self/fd/0",
            "/proc/999999999/ns/net",
            "\n",
            &long,
        ] {
            victim.refuses(path, NETNS, &victim.call("ADD").env("CNI_NETNS", path));
        }
        victim.refuses("not UTF-8", NETNS, &victim.call("ADD").env("CNI_NETNS", not_utf8()));
        // Where nobody could have been attached, there is nothing to detach.
        for path in ["/run/netns/file", "/run/netns/none", "/run/netns/uts", "/proc/1/ns/net/x"] {
            victim.call("DEL").env("CNI_NETNS", path).run().done();
        }
    });
}

#[test]
fn arguments_that_make_no_sense_are_refused_where_they_matter() {
    isolated(|| {
        let victim = Victim::new();
        for (args, code) in [
            ("IP=10.1.0.300", ENVIRONMENT),
            ("IP=;;;IP=x", ENVIRONMENT),
            ("IP=10.99.0.1", CONFIG),
            ("IP=10.1.0.1", CONFIG),
            ("MAC=zz", CONFIG),
            ("MAC=01:00:5e:00:00:01", CONFIG),
            ("MAC=00:00:00:00:00:00", CONFIG),
        ] {
            victim.refuses(args, code, &victim.call("ADD").args(args));
        }
    });
}

#[test]
fn a_path_of_plugins_that_leads_nowhere_is_refused() {
    isolated(|| {
        let victim = Victim::new();
        victim.node.shell(
            "mkdir -p /run/bin/directory /run/tools; cd /run/tools; echo '#!/bin/sh' > plain
             printf '#!/bin/sh\necho garbage\n' > garbage; printf '#!/bin/sh\nkill -9 $$\n' > killed
             printf '#!/bin/sh\nexit 3\n' > silent; printf '#!/bin/sh\necho {}\nexit 1\n' > empty
             printf '#!/bin/sh\nhead -c 200000000 /dev/zero\n' > flood; chmod +x garbage killed silent empty flood",
        );
        let call = |kind: &str, path: &str| {
            victim.with("ADD", json!({"ipam": {"type": kind}})).env("CNI_PATH", path)
        };
        let before = State::of(&victim.node);
        for (kind, path) in [
            ("nowhere", "/nonexistent:/run/bin::relative"),
            ("directory", "/run/bin"),
            ("plain", "/run/tools"),
            ("garbage", "/run/tools"),
            ("killed", "/run/tools"),
            ("silent", "/run/tools"),
            ("empty", "/run/tools"),
            ("flood", "/run/tools"),
            ("../tools/garbage", "/run/tools"),
            ("/run/tools/garbage", "/run/tools"),
        ] {
            crate::attack::at_once(kind, &call(kind, path)).error();
            victim.is_as(kind, &before);
        }
    });
}
