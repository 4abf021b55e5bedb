//! Other programs' rules: `nft` deletes a rule by the number that it lists it with.

use super::Step;
use crate::error::{Errno, Error, Operation};
use crate::foreign::{ForeignRules, WhichRules};
use crate::place::Place;

impl Step<'_> {
    pub(super) fn refuse_foreign(&self, rules: &ForeignRules) -> Error {
        Error::Refused {
            operation: Operation::Create,
            object: rules.to_string(),
            place: if self.namespace.is_some() { Place::Container } else { Place::Host },
            errno: Errno::EOPNOTSUPP,
            detail: Some("rules of other programs are not made, only removed".to_owned()),
        }
    }

    pub(super) fn remove_foreign(&mut self, rules: &ForeignRules) {
        let pattern = match &rules.which {
            WhichRules::Chain { .. } => format!("jump {} ", rules.chain.name),
            WhichRules::Comment(comment) => format!("comment \"{comment}\""),
            WhichRules::CommentPrefix(prefix) => format!("comment \"{prefix}"),
            WhichRules::Address(address) => format!("addr {address} "),
        };
        for site in rules.sites() {
            // -F: what is looked for is text, not a pattern.
            let script = "nft -a list chain \"$1\" \"$2\" \"$3\" | grep -F -e \"$4\" | sed 's/.*# handle //' | \
                          while read -r rule; do nft delete rule \"$1\" \"$2\" \"$3\" handle \"$rule\"; done";
            let family = site.family.to_string();
            self.run("sh", ["-c", script, "sh", &family, &site.table, &site.name, &pattern]);
        }
        if matches!(rules.which, WhichRules::Chain { .. }) {
            self.run("nft", [format!("delete chain {}", rules.chain)]);
        }
    }
}
