//! Random configurations: whatever a network is like, the two implementations do the same.

mod chain;
mod interface;
mod ipam;
mod network;
mod packets;

use cnikit_tests::runner;
use proptest::option::of;
use proptest::prelude::Strategy;
use proptest::sample::select;
use proptest::test_runner::TestCaseError;
use serde_json::{Map, Value};

use crate::pair::{Case, same};

/// A key with one of some values, or without.
fn key(name: &'static str, values: Vec<Value>) -> impl Strategy<Value = Option<(&'static str, Value)>> {
    of(select(values).prop_map(move |value| (name, value)))
}

fn object(entries: impl IntoIterator<Item = Option<(&'static str, Value)>>) -> Map<String, Value> {
    entries.into_iter().flatten().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn all_same(usual: u32, cases: &impl Strategy<Value = Case>) {
    each(usual, cases, same);
}

/// Tries some random values, and panics over the smallest that was found wrong.
fn each<S: Strategy>(usual: u32, values: &S, is_right: impl Fn(&S::Value) -> Result<(), String>) {
    let outcome = runner(usual).run(values, |value| is_right(&value).map_err(TestCaseError::fail));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
