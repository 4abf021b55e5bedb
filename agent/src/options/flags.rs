//! The command line's half of the options. Each flag's name, and its variable's, follow from the key's path.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::Options;

/// The options as clap's arguments: `gossip.seeds` is `--gossip-seeds` and `CNIKIT_GOSSIP_SEEDS`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flags(pub Options);

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        let options = Options::augment_args(Command::new("options"));
        command.args(options.get_arguments().cloned().map(name))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Options::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

fn name(arg: Arg) -> Arg {
    let path = arg.get_id().as_str().replace('.', "_");
    let arg = arg.long(path.replace('_', "-")).env(format!("CNIKIT_{}", path.to_uppercase()));
    let arg = arg.hide_env_values(true);
    if matches!(arg.get_action(), ArgAction::Append) {
        return arg.value_delimiter(',');
    }
    if is_bool(&arg) {
        return arg.action(ArgAction::Set).num_args(0..=1).require_equals(true).default_missing_value("true");
    }
    arg
}

fn is_bool(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == clap::builder::ValueParser::bool().type_id()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn parse(words: &[&str]) -> Options {
        Line::try_parse_from(["agent"].iter().chain(words)).unwrap().flags.0
    }

    /// The leaves of the schema, as paths.
    fn keys(schema: &serde_json::Value, of: &serde_json::Value, path: &str, found: &mut BTreeSet<String>) {
        for (name, value) in of["properties"].as_object().unwrap() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let section = value["$ref"]
                .as_str()
                .map(|reference| &schema["$defs"][reference.rsplit('/').next().unwrap()]);
            match section {
                Some(section) if section["type"] == "object" => keys(schema, section, &path, found),
                _ => {
                    found.insert(path);
                }
            }
        }
    }

    #[test]
    fn every_key_of_the_file_is_a_flag_and_a_variable() {
        let schema = Options::schema();
        let mut in_file = BTreeSet::new();
        keys(&schema, &schema, "", &mut in_file);
        let command = Flags::augment_args(Command::new("agent"));
        let snake = |key: &str| {
            key.chars().fold(String::new(), |mut text, char| {
                if char.is_ascii_uppercase() {
                    text.push('_');
                }
                text.push(char.to_ascii_lowercase());
                text
            })
        };
        let in_file: BTreeSet<String> = in_file.iter().map(|key| snake(key)).collect();
        let flags: BTreeSet<String> = command.get_arguments().map(|arg| arg.get_id().to_string()).collect();
        assert_eq!(flags, in_file);
        for arg in command.get_arguments() {
            assert!(
                arg.get_env().is_some() && arg.get_long().is_some() && arg.get_help().is_some(),
                "{arg:?}"
            );
        }
    }

    #[test]
    fn lists_are_separated_by_commas_and_flags_may_be_bare() {
        let options = parse(&[
            "--gossip-seeds",
            "a,b:1",
            "--gossip-insecure",
            "--masquerade=false",
            "--node-ip=10.0.0.1",
        ]);
        assert_eq!(options.gossip.seeds, Some(vec!["a".to_owned(), "b:1".to_owned()]));
        assert_eq!(options.gossip.insecure, Some(true));
        assert_eq!(options.masquerade.enabled, Some(false));
        assert_eq!(options.underlay.addresses, Some(vec!["10.0.0.1".parse().unwrap()]));
        assert_eq!(parse(&[]), Options::default());
    }
}
