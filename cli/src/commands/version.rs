//! `cnikit version`

use cni_spec::SpecVersion;
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Print the versions of cnikit and CNI, and the built-in plugins
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    cnikit: &'static str,
    cni_versions: Vec<&'static str>,
    plugins: Vec<&'static str>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, output: &mut Output) -> Result<Exit, Failure> {
    let versions = Versions {
        cnikit: env!("CARGO_PKG_VERSION"),
        cni_versions: SpecVersion::ALL.iter().map(|version| version.as_str()).collect(),
        plugins: plugins::ALL.iter().map(|(name, _)| *name).collect(),
    };
    if args.json {
        output.json(&versions)?;
        return Ok(Exit::Done);
    }
    output.line(format_args!("cnikit {}", versions.cnikit))?;
    output.line(format_args!("CNI {}", versions.cni_versions.join(", ")))?;
    output.line(format_args!("plugins built in: {}", versions.plugins.join(", ")))?;
    Ok(Exit::Done)
}
