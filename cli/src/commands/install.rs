//! `cnikit install`

use std::path::{Path, PathBuf};

use crate::exit::Exit;
use crate::failure::{Failure, exit_of_io};
use crate::install::{self, Action, EXECUTABLE, Error, Mode, Step, Strangers};
use crate::output::Output;

const EXAMPLES: &str = "\
One executable is copied, and linked (hard links) under each plugin's name. It is safe while plugins are being \
executed: every name leads to a whole plugin at every instant, the old one or the new one. With --replace, a file of \
somebody else's is kept as NAME.before-cnikit; --restore renames it back.

Pods may be running meanwhile: those that the reference's plugins attached are detached, checked and collected by \
cnikit's, with all rules that the reference made for them. `cnikit list` shows them.

Examples:
  cnikit install --bin-dir /opt/cni/bin --dry-run
  cnikit install --bin-dir /opt/cni/bin --replace
  cnikit install --bin-dir /opt/cni/bin --restore
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

    /// Give back the names of plugins to what --replace kept of other implementations
    #[arg(long, conflicts_with_all = ["replace", "from"])]
    restore: bool,

    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    let all = plugins::ALL.iter().map(|(name, _)| *name);
    let names: Vec<_> =
        all.filter(|name| args.plugins.is_empty() || args.plugins.iter().any(|only| only == name)).collect();
    let mode = if args.dry_run { Mode::Dry } else { Mode::Real };
    let steps = if args.restore {
        install::restore(&args.bin_dir, &names, mode)
    } else {
        let from = match &args.from {
            Some(file) => file.clone(),
            None => beside_us()?,
        };
        let strangers = if args.replace { Strangers::Replace } else { Strangers::Refuse };
        install::install(&from, &args.bin_dir, &names, strangers, mode)
    };
    let steps = steps.map_err(|error| failure(error, args))?;
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
            Action::Restored { from } => output.line(format_args!("restored   {path}, which was {from}"))?,
            Action::Kept => output.line(format_args!("kept       {path}, which nobody had before"))?,
        }
    }
    tell_consequences(&steps, args, output)?;
    if args.dry_run {
        output.line("nothing was done: --dry-run")?;
    }
    Ok(Exit::Done)
}

/// What is different from now on.
fn tell_consequences(steps: &[Step], args: &Args, output: &mut Output) -> Result<(), Failure> {
    let dir = args.bin_dir.display();
    if steps.iter().any(|step| matches!(step.action, Action::Replaced { .. })) {
        let others = others(&args.bin_dir);
        if !others.is_empty() {
            output.line(format_args!("not cnikit's, and left as they are: {}", others.join(", ")))?;
        }
        output.line("Pods that are attached stay so: their next DEL, CHECK or GC is cnikit's, which knows what was made.")?;
        output.line(format_args!("Back again: cnikit install --bin-dir {dir} --restore"))?;
    }
    if steps.iter().any(|step| matches!(step.action, Action::Restored { .. })) {
        output.line(
            "Pods that cnikit attached stay so. The reference's DEL takes their interfaces and addresses, and knows \
             nothing of their entries in nf_tables: `cnikit repair` removes those, now and then or at the end.",
        )?;
    }
    Ok(())
}

/// Plugins in a directory that cnikit has none of.
fn others(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let name = |entry: std::fs::DirEntry| entry.file_name().into_string().ok();
    // What has a dot in its name is a backup, or no plugin.
    let is_other = |name: &String| !name.contains('.') && name != EXECUTABLE && plugins::find(name).is_none();
    let mut names: Vec<_> = entries.filter_map(name).filter(is_other).collect();
    names.sort();
    names
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
