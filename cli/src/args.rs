//! What can be asked for.

use clap::{Parser, Subcommand};

use crate::commands::{
    add, agent, check, completions, conf, del, demo, dhcp, doctor, explain, gc, install, ipam, list, man,
    node, peers, repair, status, topology, trace, version,
};
use crate::exit::Exit;

const LONG_ABOUT: &str = "\
Container networks for people: try, see, explain and check them.

Networks are CNI configurations, by default those in /etc/cni/net.d. Without any, the network `default` is there: a \
bridge `cnikit0` with 10.203.0.0/16 and fd63:6e69:6b69::/64, masqueraded. cnikit's own plugins run inside of cnikit; \
nothing has to be installed.";

const EXAMPLES: &str = "\
Examples:
  ip netns add blue             make a namespace to play with
  cnikit add default blue       give it an interface and addresses
  cnikit list                   see every attachment on this node
  cnikit explain default        see the commands that make the same by hand
  cnikit del default blue       take it all away again";

/// Container networks for people: try, see, explain and check them
#[derive(Debug, Parser)]
#[command(
    name = "cnikit",
    version,
    long_about = LONG_ABOUT,
    after_help = format!("{EXAMPLES}\n\n{}", Exit::table()),
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(demo::Args),
    Add(add::Args),
    Del(del::Args),
    Check(check::Args),
    Gc(gc::Args),
    Repair(repair::Args),
    Status(status::Args),
    Doctor(doctor::Args),
    List(list::Args),
    Ipam(ipam::Args),
    Peers(peers::Args),
    Topology(topology::Args),
    Trace(trace::Args),
    Node(node::Args),
    Explain(explain::Args),
    Conf(conf::Args),
    Install(install::Args),
    Agent(Box<agent::Args>),
    Dhcp(dhcp::Args),
    Completions(completions::Args),
    Man(man::Args),
    Version(version::Args),
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Help is a product: a change of it is seen in review.
    #[test]
    fn help_is_as_it_was_reviewed() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help.txt");
        let mut text = String::new();
        let mut command = Cli::command();
        // Gives subcommands their full names.
        command.build();
        print_help(&mut command, "", &mut text);
        if std::env::var_os("CNIKIT_BLESS").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let reviewed = std::fs::read_to_string(&file).unwrap_or_default();
        let differs = text.lines().zip(reviewed.lines()).find(|(now, then)| now != then);
        assert!(
            text == reviewed,
            "tests/help.txt is another help, first at {differs:?}. If that is meant: \
             CNIKIT_BLESS=1 cargo test -p cnikit help, and look at the difference"
        );
    }

    fn print_help(command: &mut clap::Command, above: &str, text: &mut String) {
        let name = format!("{above}{}", command.get_name());
        writeln!(text, "===== {name} --help\n{}\n", command.render_long_help().to_string().trim_end())
            .unwrap();
        for sub in command.get_subcommands_mut() {
            print_help(&mut sub.clone().term_width(100), &format!("{name} "), text);
        }
    }
}
