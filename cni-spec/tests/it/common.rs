//! A call of a plugin, as a value that tests can bend.

use std::io::{self, Read};

use cni_spec::{
    Env,
    plugin::{Outcome, Plugin, Stdio, dispatch},
};

/// What came back.
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Serves a call and captures what the plugin prints.
pub(crate) fn serve(plugin: &dyn Plugin, env: Env, stdin: &[u8]) -> Answer {
    serve_from(plugin, env, &mut &*stdin)
}

pub(crate) fn serve_from(plugin: &dyn Plugin, env: Env, stdin: &mut dyn Read) -> Answer {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let stdio = Stdio { stdin, stdout: &mut stdout, stderr: &mut stderr };
    let outcome = dispatch(plugin, env, stdio);
    Answer { outcome, stdout: String::from_utf8(stdout).unwrap(), stderr: String::from_utf8(stderr).unwrap() }
}

/// A correct environment for a command.
pub(crate) fn env(command: &str) -> Env {
    Env::from_iter([
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "pod-1"),
        ("CNI_NETNS", "/run/netns/nonexistent"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin:/usr/lib/cni"),
        ("CNI_ARGS", ""),
    ])
}

/// A stdin that fails.
pub(crate) struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the cable is cut"))
    }
}
