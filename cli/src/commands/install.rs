//! `cnikit install`

use std::path::PathBuf;

use crate::exit::Exit;
use crate::failure::{Failure, exit_of_io};
use crate::install::{self, Action, EXECUTABLE, Error, Mode, Strangers};
use crate::output::Output;

const EXAMPLES: &str = "\
One executable is copied, and linked (hard links) under each plugin's name. It is safe while plugins are being \
executed: every name leads to a whole plugin at every instant, the old one or the new one. With --replace, a file of \
somebody else's is kept as NAME.before-cnikit; to go back, rename it to NAME.

Examples:
  cnikit install --bin-dir /opt/cni/bin --dry-run
  cnikit install --bin-dir /opt/cni/bin --replace
  cnikit install --bin-dir /opt/cni/bin --plugin bridge --plugin host-local";

/// Install cnikit's plugins for a runtime, on a node that may be at work
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The directory in which the runtime looks for plugins; made if it is not there
    #[arg(long, value_name = "DIR")]
    bin_dir: PathBuf,

    /// The executable to install [default: cnikit-plugins beside cnikit]
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// Install only this plugin; may be repeated
    #[arg(long = "plugin", value_name = "NAME", value_parser = plugin_names())]
    plugins: Vec<String>,

    /// Replace other implementations' plugins, and keep them under another name
    #[arg(long)]
    replace: bool,

    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    let from = match &args.from {
        Some(file) => file.clone(),
        None => beside_us()?,
    };
    let all = plugins::ALL.iter().map(|(name, _)| *name);
    let names: Vec<_> =
        all.filter(|name| args.plugins.is_empty() || args.plugins.iter().any(|only| only == name)).collect();
    let strangers = if args.replace { Strangers::Replace } else { Strangers::Refuse };
    let mode = if args.dry_run { Mode::Dry } else { Mode::Real };
    let steps = install::install(&from, &args.bin_dir, &names, strangers, mode)
        .map_err(|error| failure(error, args))?;
    if args.json {
        output.json(&steps)?;
        return Ok(Exit::Done);
    }
    for step in &steps {
        let path = args.bin_dir.join(&step.name);
        let path = path.display();
        match &step.action {
            Action::Installed => output.line(format_args!("installed  {path}"))?,
            Action::Updated => output.line(format_args!("updated    {path}"))?,
            Action::Unchanged => output.line(format_args!("unchanged  {path}"))?,
            Action::Replaced { kept } => {
                output.line(format_args!("replaced   {path}, kept as {kept}"))?;
            }
        }
    }
    if args.dry_run {
        output.line("nothing was done: --dry-run")?;
    }
    Ok(Exit::Done)
}

fn beside_us() -> Result<PathBuf, Failure> {
    let us = std::env::current_exe()
        .map_err(|error| Failure::new(Exit::Failed, format!("where is cnikit itself: {error}")))?;
    let file = us.with_file_name(EXECUTABLE);
    if file.is_file() {
        return Ok(file);
    }
    Err(Failure::new(Exit::Failed, format!("{} is not there", file.display()))
        .advise("`cargo build --release` makes it; --from FILE says where it is"))
}

fn failure(error: Error, args: &Args) -> Failure {
    match error {
        Error::NotPlugins(file) => {
            Failure::new(Exit::Usage, format!("{} is not {EXECUTABLE}", file.display()))
        }
        Error::Strangers(names) => {
            let dir = args.bin_dir.display();
            Failure::new(
                Exit::Refused,
                format!("{dir} has plugins that are not cnikit's: {}", names.join(", ")),
            )
            .advise("--replace replaces them and keeps them as NAME.before-cnikit")
            .advise("--plugin NAME installs only some")
        }
        Error::Io(operation, path, error) => {
            Failure::new(exit_of_io(&error), format!("{operation} {}: {error}", path.display()))
        }
    }
}

fn plugin_names() -> clap::builder::PossibleValuesParser {
    plugins::ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>().into()
}
