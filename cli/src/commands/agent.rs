//! `cnikit agent`

use std::path::{Path, PathBuf};

use agent::{Error, Flags, InForce, Options, OptionsError, ServiceManager, Settings};

use crate::exit::Exit;
use crate::failure::{Failure, exit_of_io};
use crate::output::{Output, note};
use crate::places::variable;

const EXAMPLES: &str = "\
Each option is also a variable, and a key of the file: --gossip-seeds is CNIKIT_GOSSIP_SEEDS, and \
{\"gossip\": {\"seeds\": [...]}}. Flags come before variables, and those before the file.

Examples:
  cnikit agent --gossip-seeds 192.168.1.11,192.168.1.12
  cnikit agent --store static --static-file /etc/cnikit/nodes.json --mode route
  cnikit agent --config /etc/cnikit/agent.json --print-config";

/// Run the agent that joins this node to the others
///
/// It learns which other nodes there are, gets a subnet for this one, keeps the kernel's routes and tunnels to the pods of
/// all others, and tells the CNI plugin `overlay` what to give pods. What it has made in the kernel goes on working when
/// it ends: it may be stopped, started and replaced while pods run. It runs until SIGTERM or SIGINT; SIGHUP has it read its
/// key and the list of nodes again. It says on stderr what changes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Read options from a JSON file [env: CNIKIT_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print what may be in that file, as a JSON Schema
    #[arg(long)]
    schema: bool,

    /// Print the options that would be in force, as such a file; on stderr, where those are from that are no defaults
    #[arg(long)]
    print_config: bool,

    /// Take the network off this node, and end: the runtime's configuration, so that no more pods are attached, and what the
    /// agent has made in the kernel, but for the bridge that pods are plugged into. The agent must not be running
    #[arg(long)]
    uninstall: bool,

    /// Then go on running until SIGTERM or SIGINT, and let no agent start meanwhile: what a DaemonSet has on each node must not
    /// end
    #[arg(long, requires = "uninstall")]
    stay: bool,

    #[command(flatten)]
    flags: Flags,
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    if args.schema {
        output.json(&Options::schema())?;
        return Ok(Exit::Done);
    }
    let file = args.config.clone().or_else(|| Some(variable("CNIKIT_CONFIG")?.into()));
    let in_force = InForce::of(&args.flags.0, file.as_deref(), &defaults());
    let InForce { options, sources } = in_force.map_err(of_options)?;
    let settings = Settings::new(&options)
        .map_err(|error| Failure::new(Exit::Configuration, format!("the agent's configuration: {error}")))?;
    if args.print_config {
        output.json(&options.to_json())?;
        sources.iter().for_each(|(key, source)| note(format_args!("{key}: {source}")));
        return Ok(Exit::Done);
    }
    if args.uninstall {
        return uninstall(&settings, options.cni.conf_dir.as_deref(), args.stay);
    }
    agent::run(settings, manager()?).map_err(of_agent)?;
    Ok(Exit::Done)
}

fn uninstall(settings: &Settings, conf_dir: Option<&Path>, stay: bool) -> Result<Exit, Failure> {
    let done = agent::uninstall(settings, conf_dir).map_err(of_agent)?;
    let network = &settings.network;
    match &done.conf_list {
        Some(path) => note(format_args!("{} is removed", path.display())),
        None => note(format_args!("the runtime had no configuration of {network}")),
    }
    note(format_args!("{} things of {network} are removed from the kernel", done.things));
    if stay {
        note("no agent starts until this ends");
        done.stay().map_err(of_agent)?;
    }
    Ok(Exit::Done)
}

/// What is so where nobody said anything.
fn defaults() -> Options {
    let mut defaults = Options::defaults();
    // The name that Kubernetes has for the node, as a DaemonSet hands it down.
    defaults.node_name = text("NODE_NAME");
    // systemd.exec(5): stderr is the journal's.
    if variable("JOURNAL_STREAM").is_some() {
        defaults.log.format = Some(agent::log::Format::Journal);
    }
    defaults
}

fn manager() -> Result<Option<ServiceManager>, Failure> {
    let Some(socket) = variable("NOTIFY_SOCKET") else { return Ok(None) };
    let watchdog = text("WATCHDOG_USEC");
    ServiceManager::new(&socket, watchdog.as_deref()).map(Some).map_err(|error| {
        Failure::new(Exit::Configuration, format!("NOTIFY_SOCKET={}: {error}", socket.display()))
    })
}

fn text(name: &str) -> Option<String> {
    variable(name)?.into_string().ok()
}

fn of_options(error: OptionsError) -> Failure {
    let exit = match &error {
        OptionsError::Unreadable { source, .. } => match exit_of_io(source) {
            Exit::Privilege => Exit::Privilege,
            _ => Exit::Configuration,
        },
        _ => Exit::Configuration,
    };
    Failure::new(exit, error.to_string())
        .advise("`cnikit agent --schema` prints what may be in the file, `--print-config` what is in force")
}

fn of_agent(error: Error) -> Failure {
    let exit = match error {
        Error::Running { .. } => Exit::Refused,
        _ => error.io_error().map_or(Exit::Failed, exit_of_io),
    };
    let failure = Failure::new(exit, error.to_string());
    match exit {
        Exit::Privilege => failure.advise("run it as root: it changes the node's interfaces and routes"),
        Exit::Refused => failure.advise(
            "end it first, or it makes everything again: `systemctl disable --now cnikit-agent`, or \
             `kubectl --namespace kube-system delete daemonset cnikit`",
        ),
        _ => failure,
    }
}
