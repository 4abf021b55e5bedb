//! In what two scenes differ.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::scene::Scene;

/// Each place in which two scenes differ: `PATH: THEIRS, OURS`.
pub fn differences(theirs: &Scene, ours: &Scene) -> Vec<String> {
    let mut found = Vec::new();
    compare("", &theirs.0, &ours.0, &mut found);
    found
}

fn compare(path: &str, theirs: &Value, ours: &Value, found: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                let of =
                    |object: &serde_json::Map<String, Value>| object.get(key).cloned().unwrap_or_default();
                compare(&format!("{path}/{key}"), &of(a), &of(b), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (number, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}/{number}"), a, b, found);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            found.extend(a.iter().filter(|x| !b.contains(x)).map(|x| format!("{path}: only theirs: {x}")));
            found.extend(b.iter().filter(|x| !a.contains(x)).map(|x| format!("{path}: only ours: {x}")));
        }
        (a, b) if a == b => {}
        (a, b) => found.push(format!("{path}: theirs {a}, ours {b}")),
    }
}
