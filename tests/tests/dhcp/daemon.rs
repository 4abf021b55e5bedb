//! The daemon among clients that are slow, dead or hostile.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use cnikit_tests::lan::{Lan, RANGE, with_server};
use cnikit_tests::ours;
use nix::sys::signal::Signal;
use serde_json::json;

#[test]
fn a_client_that_says_nothing_or_nonsense_keeps_nobody_waiting() {
    with_server(|| {
        let mut lan = Lan::new(&ours!());
        lan.start_server(&[RANGE]);
        lan.start_daemon();
        let connect = || lan.node.inside(|| UnixStream::connect("/run/cni/dhcp.sock").unwrap());
        let silent: Vec<_> = (0..20).map(|_| connect()).collect();
        for nonsense in
            [&b"\n"[..], b"{}\n", b"[[[[\n", b"\xff\xfe\n", b"{\"command\":\"ADD\"}\n", b"GET / HTTP/1.0\n"]
        {
            let mut stream = connect();
            stream.write_all(nonsense).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        }
        // Two megabytes without a line's end.
        let mut endless = connect();
        while endless.write_all(&[b' '; 4096]).is_ok() {}
        // One that never reads its answer.
        let mut deaf = connect();
        deaf.write_all(b"{\"command\":\"STATUS\"}\n").unwrap();
        let began = Instant::now();
        lan.add(&lan.node.pod("c1"), &lan.config(&json!({})));
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        drop(silent);
    });
}

#[test]
fn a_plugin_that_dies_while_it_waits_takes_its_request_along() {
    with_server(|| {
        let mut lan = Lan::new(&ours!());
        lan.start_daemon();
        let pod = lan.node.pod("c1");
        let config = lan.config(&json!({}));
        let call = lan.call("ADD", &pod, &config);
        let mut child = call.start();
        call.feed(&mut child);
        lan.await_on("the request", |lan| lan.daemon_log().contains("asking for addresses"));
        // Meanwhile another one about the same is told so.
        let error = lan.call("ADD", &pod, &config).run().error();
        assert!(error["code"] == 11 || error["code"] == 101, "{error}");
        child.kill().unwrap();
        child.wait().unwrap();
        lan.await_on("the end", |lan| lan.daemon_log().contains("the plugin is gone"));
        lan.del(&pod, &config);
    });
}

#[test]
fn only_root_may_ask_and_only_one_daemon_answers() {
    with_server(|| {
        let mut lan = Lan::new(&ours!());
        lan.start_daemon();
        let mode =
            |path: &str| lan.node.inside(|| std::fs::metadata(path).unwrap().permissions().mode() & 0o777);
        assert_eq!(mode("/run/cni/dhcp.sock"), 0o600);
        assert_eq!(mode("/var/lib/cni/dhcp"), 0o700);
        assert_eq!(mode("/run/cni/dhcp.sock.ended"), 0o700);
        let second = lan.node.inside(|| {
            let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_dhcp-under-test"));
            program.stdin(Stdio::null()).output().unwrap()
        });
        assert!(!second.status.success());
        assert!(String::from_utf8_lossy(&second.stderr).contains("another daemon"), "{second:?}");
        lan.stop("daemon", Signal::SIGTERM);
        assert!(!lan.node.inside(|| std::path::Path::new("/run/cni/dhcp.sock").exists()));
    });
}
