//! A container runtime without containers, like libcni's cnitool: attaches a network namespace to a network.
//!
//! ```sh
//! ip netns add blue
//! export NETCONFPATH=/etc/cni/net.d CNI_PATH=/opt/cni/bin CAP_ARGS='{"mac": "02:00:00:00:00:01"}' CNI_ARGS=IgnoreUnknown=1
//! cargo run -q -p cni-spec --example cnitool add podnet /run/netns/blue     # check, del, status, validate
//! cargo run -q -p cni-spec --example cnitool gc podnet                      # removes everything
//! ```

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

use cni_spec::runtime::{self, Attachment, Runtime};
use cni_spec::{CniArgs, Env};
use serde_json::{Map, Value};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let (command, network, netns) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [command, network] => (command, network, None),
        [command, network, netns] => (command, network, Some(netns)),
        _ => return Err("usage: cnitool add|check|del|gc|status|validate NETWORK [NETNS]".into()),
    };
    let found = runtime::load(paths("NETCONFPATH", runtime::DEFAULT_CONF_DIR), &network.parse()?)?;
    for warning in &found.warnings {
        eprintln!("warning: {warning}");
    }
    let runtime =
        Runtime::new(Env::from_process()).with_plugin_dirs(paths("CNI_PATH", runtime::DEFAULT_PLUGIN_DIR));

    match (command, netns) {
        ("add", Some(netns)) => {
            let result = runtime.add(&found.list, &attachment(netns)?)?;
            println!("{}", result.to_json(found.list.cni_version));
        }
        ("check", Some(netns)) => runtime.check(&found.list, &attachment(netns)?)?,
        ("del", Some(netns)) => runtime.del(&found.list, &attachment(netns)?)?,
        ("gc", None) => runtime.gc(&found.list, &[])?,
        ("status", None) => runtime.status(&found.list)?,
        ("validate", None) => println!("capabilities: {:?}", runtime.validate(&found.list)?),
        _ => return Err(format!("{command}: no such command, or it does not go with these arguments").into()),
    }
    Ok(())
}

fn attachment(netns: &str) -> Result<Attachment, Box<dyn Error>> {
    // A real runtime has IDs for its containers.
    let id = fs::canonicalize(netns).unwrap_or_else(|_| netns.into()).to_string_lossy().replace('/', "-");
    let if_name = env::var("CNI_IFNAME").unwrap_or_else(|_| "eth0".to_owned());
    let mut attachment = Attachment::new(format!("cnitool{id}").parse()?, if_name.parse()?).with_netns(netns);
    for (key, value) in CniArgs::parse(&env::var("CNI_ARGS").unwrap_or_default()).iter() {
        attachment = attachment.with_arg(key, value);
    }
    let capabilities: Map<String, Value> =
        serde_json::from_str(&env::var("CAP_ARGS").unwrap_or_else(|_| "{}".into()))?;
    for (name, value) in capabilities {
        attachment = attachment.with_capability(name, value);
    }
    Ok(attachment)
}

fn paths(variable: &str, default: &str) -> Vec<PathBuf> {
    env::split_paths(&env::var_os(variable).unwrap_or_else(|| default.into())).collect()
}
