//! Death.

use cnikit_tests::isolated;
use serde_json::{Value, json};

use crate::scene::{Ward, step};

fn full() -> Value {
    json!({"isGateway": true, "ipMasq": true, "macspoofchk": true, "hairpinMode": true})
}

/// Kills an ADD at each of its system calls, and cleans up as a runtime does that knows only the names.
fn killed_add(ward: &Ward, offset: usize, namespace_is_gone: bool) {
    let pod = ward.node.pod("counted");
    let census = ward.census(&ward.call("ADD", &pod));
    ward.call("DEL", &pod).run().done();
    ward.node.end(&pod);
    for point in (census.start + offset..=census.calls + 2).step_by(step()) {
        let pod = ward.node.pod(&format!("victim-{point}"));
        ward.injected(&ward.call("ADD", &pod), &format!("all:signal=KILL:when={point}"));
        let del = if namespace_is_gone {
            ward.node.end(&pod);
            ward.call("DEL", &pod).env("CNI_NETNS", "")
        } else {
            ward.call("DEL", &pod)
        };
        del.run().done();
        if !namespace_is_gone {
            ward.node.end(&pod);
        }
        ward.is_healthy(&format!("ADD killed at call {point} of {}", census.calls));
    }
}

#[test]
fn an_add_that_dies_anywhere_is_cleaned_up_by_a_del() {
    isolated(|| killed_add(&Ward::warm("bridge", full()), 0, false));
}

#[test]
fn an_add_that_dies_anywhere_is_cleaned_up_by_a_del_when_the_namespace_is_gone() {
    isolated(|| killed_add(&Ward::warm("bridge", full()), 1, true));
}

#[test]
fn an_add_of_ptp_that_dies_anywhere_is_cleaned_up_by_a_del_when_the_namespace_is_gone() {
    isolated(|| killed_add(&Ward::warm("ptp", json!({"ipMasq": true})), 2, true));
}

#[test]
fn a_del_that_dies_anywhere_is_completed_by_the_next() {
    isolated(|| {
        let ward = Ward::warm("bridge", full());
        let pod = ward.node.pod("counted");
        let said = ward.call("ADD", &pod).run().result();
        let census = ward.census(&ward.call_with("DEL", &pod, &said));
        ward.node.end(&pod);
        for point in (census.start..=census.calls + 2).step_by(step()) {
            let pod = ward.node.pod(&format!("victim-{point}"));
            let said = ward.call("ADD", &pod).run().result();
            ward.injected(&ward.call_with("DEL", &pod, &said), &format!("all:signal=KILL:when={point}"));
            ward.call_with("DEL", &pod, &said).run().done();
            ward.node.end(&pod);
            ward.is_healthy(&format!("DEL killed at call {point} of {}", census.calls));
        }
    });
}

#[test]
fn the_first_add_of_a_node_that_dies_anywhere_does_not_hinder_the_next() {
    isolated(|| {
        let census = {
            let ward = Ward::cold("bridge", full());
            ward.census(&ward.call("ADD", &ward.node.pod("counted")))
        };
        for point in (census.start..=census.calls + 2).step_by(2 * step()) {
            let ward = Ward::cold("bridge", full());
            let pod = ward.node.pod("victim");
            ward.injected(&ward.call("ADD", &pod), &format!("all:signal=KILL:when={point}"));
            ward.call("DEL", &pod).run().done();
            let said = ward.call("ADD", &pod).run().result();
            ward.call_with("CHECK", &pod, &said).run().done();
        }
    });
}
