//! What the plugin's STATUS says, as the agent is.

use cnikit_tests::isolated;
use cnikit_tests::lab::Machine;
use serde_json::json;

use crate::common::{assert_everybody_talks, lab, usual};

/// Waits for a STATUS: 0 is that all is well. Returns what it says.
fn wait_status(machine: &Machine, wanted: u64) -> String {
    let code = |machine: &Machine| machine.status().map_or(0, |error| error["code"].as_u64().unwrap());
    machine.wait_long(&format!("STATUS {wanted}"), |machine| code(machine) == wanted);
    machine.status().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn status_is_50_until_there_is_a_subnet_and_51_while_the_node_is_cut_off() {
    isolated(|| {
        let lab = lab();
        let mut machines = lab.machines(2, &usual());
        machines[0].config()["gossip"]["bootstrap"] = json!(true);
        // Nobody has ever run here.
        let said = machines[1].status().unwrap();
        assert_eq!(said["code"], 50, "{said}");
        assert!(said["msg"].as_str().unwrap().contains("waiting for this node's agent"), "{said}");
        assert_eq!(machines[1].try_add("early")["code"], 11);

        // It runs, and has nobody to agree with.
        machines[1].start();
        machines[1]
            .wait("it says why it has none", |machine| machine.log().contains("no pod can be attached yet"));
        let said = machines[1].status().unwrap();
        assert_eq!(said["code"], 50, "{said}");
        assert!(said.to_string().contains("10.244.0.0/16"), "{said}");
        assert_eq!(machines[1].try_add("still-early")["code"], 11);

        machines[0].start();
        for machine in &machines {
            wait_status(machine, 0);
        }
        let (_first, one) = machines[0].pod("one");
        let (_second, two) = machines[1].pod("two");
        machines[0].wait_peers(1);
        machines[1].wait_peers(1);

        lab.cut(&machines[0], &machines[1]);
        lab.cut(&machines[1], &machines[0]);
        for machine in &machines {
            let said = wait_status(machine, 51);
            assert!(said.contains("other nodes are out of reach: no other node answers"), "{said}");
            assert!(machine.log().contains("cut off: "), "{}", machine.log());
            // Its own pods are none the worse for it.
            assert_eq!(machine.ask("/v1/status").unwrap()["ready"], true);
        }
        let (_third, three) = machines[1].pod("three");
        assert_everybody_talks(&machines[1..], &[three]);
        // Nor does the plugin forget it when the agent ends.
        machines[1].kill();
        wait_status(&machines[1], 51);
        machines[1].start();

        lab.heal();
        for machine in &machines {
            wait_status(machine, 0);
        }
        assert_everybody_talks(&machines, &[one, two]);
    });
}
