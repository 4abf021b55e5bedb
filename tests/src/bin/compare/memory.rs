//! How much memory each plugin of the chain has.

use cnikit_tests::{Call, Implementation, Memory, Node, memory};
use serde_json::Value;

use crate::chain::plugins_of_the_chain;
use crate::config::alone;

/// Prints the most memory that an ADD and a DEL of each plugin have had, and what of it is theirs alone.
pub(crate) fn measure(implementations: &[Implementation; 2]) -> String {
    let [theirs, ours] = implementations.each_ref().map(of_the_chain);
    let mut page = String::from(
        "\n### Memory\n\nThe most that a call has had (`VmHWM`), and in brackets what was its own at its end (`RssAnon`): the rest \
         are pages of\nthe executable, which all processes that run it share, and of which the kernel maps sixteen at a time.\n\n\
         | MiB | reference | cnikit |\n| --- | --- | --- |\n",
    );
    for ((name, theirs), (_, ours)) in theirs.iter().zip(&ours) {
        let cell = |memory: &Memory| format!("{:.2} ({:.2})", memory.peak, memory.own);
        page.push_str(&format!("| {name} | {} | {} |\n", cell(theirs), cell(ours)));
    }
    print!("{page}");
    page
}

fn of_the_chain(plugins: &Implementation) -> Vec<(String, Memory)> {
    let node = Node::new(plugins);
    let pod = node.pod("pod");
    let chain = plugins_of_the_chain();
    let kind = |plugin: &Value| plugin["type"].as_str().expect("a type").to_owned();
    let call = |command, plugin: &Value, previous| -> Call<'_> {
        node.call(plugins, command, &kind(plugin), &alone(plugin, previous)).on(&pod)
    };
    let attach = |plugins: &[Value]| {
        plugins.iter().fold(None, |previous, plugin| Some(call("ADD", plugin, previous).run().result()))
    };
    // A first call makes what is made once.
    let first = attach(&chain);
    chain.iter().rev().for_each(|plugin| drop(call("DEL", plugin, first.clone()).run()));
    let mut measured = Vec::new();
    for (number, plugin) in chain.iter().enumerate() {
        let previous = attach(&chain[..number]);
        measured.push((format!("`{}`, ADD", kind(plugin)), memory(&call("ADD", plugin, previous.clone()))));
        // What is left of a plugin's goes with the cable: the first one's DEL is the last.
        chain[..=number].iter().rev().for_each(|plugin| drop(call("DEL", plugin, previous.clone()).run()));
    }
    let result = attach(&chain);
    for plugin in chain.iter().rev() {
        measured.push((format!("`{}`, DEL", kind(plugin)), memory(&call("DEL", plugin, result.clone()))));
    }
    measured
}
