//! `ADD`, `CHECK`, `DEL`: who is called when, with what, and what the cache holds meanwhile.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use std::{fs, thread};

use cni_spec::runtime::{Progress, RuntimeError};
use cni_spec::{ErrorCode, Exit, Output};
use serde_json::{Value, json};

use crate::support::{World, blue, fails, list, success, web, works};

#[test]
fn add_runs_the_chain_in_order_and_hands_each_result_on() {
    let world = World::new();
    let result = world.runtime().add(&blue(), &web()).unwrap();
    let names: Vec<_> = result.interfaces.iter().map(|interface| interface.name.as_str()).collect();
    assert_eq!(names, ["bridge", "portmap", "tuning"]);

    let calls = world.plugins.take_calls();
    assert_eq!(
        calls.iter().map(|call| call.name()).collect::<Vec<_>>(),
        ["ADD bridge", "ADD portmap", "ADD tuning"]
    );
    assert_eq!(calls[0].stdin.get("prevResult"), None);
    assert_eq!(calls[1].stdin["prevResult"]["interfaces"], json!([{"name": "bridge"}]));
    assert_eq!(calls[2].stdin["prevResult"]["interfaces"], json!([{"name": "bridge"}, {"name": "portmap"}]));
}

#[test]
fn a_plugin_gets_name_version_and_the_capabilities_it_asks_for() {
    let world = World::new();
    let web = web()
        .with_capability("mac", json!("02:00:00:00:00:01"))
        .with_capability("ips", json!(["10.1.0.9"]))
        .with_capability("portMappings", json!([{"HostPort": 80}]));
    world.runtime().add(&blue(), &web).unwrap();
    let calls = world.plugins.take_calls();
    assert_eq!(
        calls[0].stdin,
        json!({
            "cniVersion": "1.1.0", "name": "blue", "type": "bridge", "ipam": {"type": "host-local"},
            "capabilities": {"mac": true, "ips": false}, "runtimeConfig": {"mac": "02:00:00:00:00:01"}
        })
    );
    assert_eq!(calls[1].stdin["runtimeConfig"], json!({"portMappings": [{"HostPort": 80}]}));
    assert_eq!(calls[2].stdin.get("runtimeConfig"), None);
}

#[test]
fn every_variable_of_the_protocol_is_set_and_the_rest_is_passed_on() {
    let world = World::new();
    let runtime = world.runtime();
    runtime.add(&blue(), &web().with_arg("IgnoreUnknown", "1").with_arg("K8S_POD_NAME", "web")).unwrap();
    let env = &world.plugins.take_calls()[0].env;
    let expected = [
        ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=web"),
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "web-1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", "/run/netns/web-1"),
        ("CNI_PATH", "/opt/cni/bin:/usr/lib/cni"),
        ("PATH", "/usr/bin"),
    ];
    assert_eq!(env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), expected);

    runtime.del(&blue(), &web().with_netns("")).unwrap();
    let env = &world.plugins.take_calls()[0].env;
    assert_eq!((env["CNI_NETNS"].as_str(), env["CNI_ARGS"].as_str()), ("", ""));
}

#[test]
fn the_newest_version_that_both_sides_know_is_spoken() {
    let world = World::new();
    let list = list(json!({
        "cniVersion": "0.4.0", "cniVersions": ["0.3.1", "1.0.0", "2.0.0"], "name": "blue", "plugins": [{"type": "a"}]
    }));
    world.runtime().add(&list, &web()).unwrap();
    assert_eq!(world.plugins.take_calls()[0].stdin["cniVersion"], "1.0.0");
}

#[test]
fn the_cache_knows_before_the_first_plugin_runs_and_after_every_one() {
    let world = World::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (file, log) = (world.results().join("blue-web-1-eth0"), seen.clone());
    world.plugins.set_script(move |call| {
        let cached: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let made = cached["result"]["interfaces"].as_array().map_or(0, Vec::len);
        log.lock().unwrap().push((cached["partial"] == true, made));
        works(call)
    });
    world.runtime().add(&blue(), &web()).unwrap();
    assert_eq!(*seen.lock().unwrap(), [(true, 0), (true, 1), (true, 2)]);
    let cached = world.cache_file("blue-web-1-eth0");
    assert_eq!((cached.get("partial"), cached["result"]["interfaces"].as_array().unwrap().len()), (None, 3));
}

#[test]
fn a_failed_add_is_undone_in_reverse_with_the_result_up_to_there() {
    let world = World::new();
    world.fail(&["ADD portmap"]);
    let error = world.runtime().add(&blue(), &web()).unwrap_err();
    assert!(matches!(&error, RuntimeError::Add { undo, .. } if undo.is_empty()), "{error:?}");
    assert_eq!(error.plugin_error().unwrap().code(), ErrorCode::new(100));
    assert_eq!(
        error.to_string(),
        "ADD by plugin \"portmap\": ADD portmap refused (code 100); everything was undone"
    );
    let calls = world.plugins.take_calls();
    let names: Vec<_> = calls.iter().map(|call| call.name()).collect();
    // tuning never started.
    assert_eq!(names, ["ADD bridge", "ADD portmap", "DEL portmap", "DEL bridge"]);
    for del in &calls[2..] {
        assert_eq!(del.stdin["prevResult"]["interfaces"], json!([{"name": "bridge"}]));
    }
    assert!(world.cached().is_empty());
}

#[test]
fn an_undo_that_fails_reports_both_and_can_be_finished_by_del() {
    let world = World::new();
    world.fail(&["ADD tuning", "DEL portmap"]);
    let error = world.runtime().add(&blue(), &web()).unwrap_err();
    let RuntimeError::Add { cause, undo } = &error else { panic!("{error:?}") };
    assert!(cause.to_string().contains("ADD tuning refused") && undo.len() == 1);
    assert!(undo[0].to_string().contains("DEL portmap refused"));
    assert_eq!(world.plugins.take_names()[3..], ["DEL tuning", "DEL portmap", "DEL bridge"]);
    assert_eq!(world.runtime().attachments().unwrap().attachments[0].progress, Progress::Partial);

    world.fail(&[]);
    world.runtime().del(&blue(), &web()).unwrap();
    let prev = world.plugins.take_calls()[0].stdin["prevResult"]["interfaces"].clone();
    assert_eq!(prev, json!([{"name": "bridge"}, {"name": "portmap"}]));
    assert!(world.cached().is_empty());
}

#[test]
fn nothing_is_started_if_a_plugin_of_the_chain_is_not_installed() {
    let world = World::new();
    world.plugins.uninstall("portmap");
    world.plugins.uninstall("tuning");
    let error = world.runtime().add(&blue(), &web()).unwrap_err();
    assert!(matches!(&error, RuntimeError::Several(missing) if missing.len() == 2), "{error}");
    assert!(world.plugins.take_calls().is_empty() && world.cached().is_empty());
}

#[test]
fn a_result_that_is_none_fails_the_add_with_what_was_printed() {
    let world = World::new();
    world.plugins.set_script(|call| match call.name().as_str() {
        "ADD portmap" => {
            Output { exit: Exit::Code(0), stdout: b"Segmentation".into(), stderr: b"why".into() }
        }
        _ => works(call),
    });
    let error = world.runtime().add(&blue(), &web()).unwrap_err();
    let details = error.plugin_error().unwrap().details();
    assert!(details.contains("Segmentation") && details.contains("why"), "{error}");
    assert_eq!(world.plugins.take_names()[2..], ["DEL portmap", "DEL bridge"]);
}

#[test]
fn a_result_in_another_version_is_converted_for_the_next_plugin() {
    let world = World::new();
    world.plugins.set_script(|call| match call.name().as_str() {
        "ADD bridge" => success(&json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.5/16"}})),
        _ => works(call),
    });
    world.runtime().add(&blue(), &web()).unwrap();
    let prev = &world.plugins.take_calls()[1].stdin["prevResult"];
    assert_eq!((&prev["cniVersion"], &prev["ips"]), (&json!("1.1.0"), &json!([{"address": "10.1.0.5/16"}])));
}

#[test]
fn a_second_add_is_refused_and_harms_nothing() {
    let world = World::new();
    let runtime = world.runtime();
    runtime.add(&blue(), &web()).unwrap();
    world.plugins.take_calls();
    let error = runtime.add(&blue(), &web()).unwrap_err();
    assert!(matches!(error, RuntimeError::AlreadyAttached(_)), "{error}");
    assert!(world.plugins.take_calls().is_empty());
    runtime.check(&blue(), &web()).unwrap();
}

#[test]
fn del_runs_in_reverse_with_the_cached_result_and_forgets() {
    let world = World::new();
    let runtime = world.runtime();
    let result = runtime.add(&blue(), &web()).unwrap();
    world.plugins.take_calls();
    runtime.del(&blue(), &web()).unwrap();
    let calls = world.plugins.take_calls();
    assert_eq!(
        calls.iter().map(|call| call.name()).collect::<Vec<_>>(),
        ["DEL tuning", "DEL portmap", "DEL bridge"]
    );
    for call in &calls {
        assert_eq!(call.stdin["prevResult"], result.to_value(blue().cni_version));
    }
    assert!(world.cached().is_empty());

    runtime.del(&blue(), &web()).unwrap();
    assert!(world.plugins.take_calls().iter().all(|call| call.stdin.get("prevResult").is_none()));
}

#[test]
fn a_del_that_fails_stops_no_other_and_keeps_the_cache() {
    let world = World::new();
    let runtime = world.runtime();
    runtime.add(&blue(), &web()).unwrap();
    world.plugins.take_calls();
    world.fail(&["DEL tuning", "DEL portmap"]);
    let error = runtime.del(&blue(), &web()).unwrap_err();
    let RuntimeError::Several(failures) = &error else { panic!("{error:?}") };
    assert_eq!(failures.len(), 2);
    assert_eq!(world.plugins.take_names(), ["DEL tuning", "DEL portmap", "DEL bridge"]);

    world.fail(&[]);
    runtime.del(&blue(), &web()).unwrap();
    assert!(world.plugins.take_calls().iter().all(|call| call.stdin.get("prevResult").is_some()));
    assert!(world.cached().is_empty());
}

#[test]
fn del_of_a_plugin_that_was_uninstalled_still_deletes_the_rest() {
    let world = World::new();
    let runtime = world.runtime();
    runtime.add(&blue(), &web()).unwrap();
    world.plugins.take_calls();
    world.plugins.uninstall("portmap");
    assert!(runtime.del(&blue(), &web()).unwrap_err().to_string().contains("portmap"));
    assert_eq!(world.plugins.take_names(), ["DEL tuning", "DEL bridge"]);
}

#[test]
fn plugins_before_0_4_0_get_no_result_at_del_and_their_cache_goes_too() {
    let world = World::new();
    let old = list(json!({"cniVersion": "0.3.1", "name": "lo", "plugins": [{"type": "loopback"}]}));
    let runtime = world.runtime();
    runtime.add(&old, &web()).unwrap();
    runtime.del(&old, &web()).unwrap();
    assert_eq!(world.plugins.take_calls()[1].stdin.get("prevResult"), None);
    assert!(world.cached().is_empty());
}

#[test]
fn check_asks_every_plugin_with_the_final_result() {
    let world = World::new();
    let runtime = world.runtime();
    let result = runtime.add(&blue(), &web()).unwrap();
    world.plugins.take_calls();
    runtime.check(&blue(), &web()).unwrap();
    let calls = world.plugins.take_calls();
    assert_eq!(
        calls.iter().map(|call| call.name()).collect::<Vec<_>>(),
        ["CHECK bridge", "CHECK portmap", "CHECK tuning"]
    );
    assert!(calls.iter().all(|call| call.stdin["prevResult"] == result.to_value(blue().cni_version)));

    world.fail(&["CHECK portmap"]);
    assert!(runtime.check(&blue(), &web()).unwrap_err().to_string().contains("CHECK portmap refused"));
    assert_eq!(world.plugins.take_names(), ["CHECK bridge", "CHECK portmap"]);
}

#[test]
fn check_respects_the_version_the_flag_and_the_cache() {
    let world = World::new();
    let runtime = world.runtime();
    assert!(matches!(runtime.check(&blue(), &web()), Err(RuntimeError::NotAttached(_))));
    let mut disabled = blue();
    disabled.disable_check = true;
    runtime.check(&disabled, &web()).unwrap();
    let old = list(json!({"cniVersion": "0.3.1", "name": "blue", "plugins": [{"type": "bridge"}]}));
    let error = runtime.check(&old, &web()).unwrap_err();
    assert_eq!(error.to_string(), "CHECK is unknown to CNI 0.3.1, which the configuration asks for");
    assert!(world.plugins.take_calls().is_empty());
}

#[test]
fn a_chain_stops_starting_plugins_when_its_time_is_up_and_has_more_for_the_undo() {
    let world = World::new();
    world.plugins.set_script(|call| {
        if call.name() == "ADD bridge" {
            thread::sleep(Duration::from_millis(1100));
        }
        works(call)
    });
    let error = world.runtime().with_chain_timeout(Duration::from_secs(1)).add(&blue(), &web()).unwrap_err();
    let RuntimeError::Add { cause, undo } = &error else { panic!("{error:?}") };
    assert!(matches!(**cause, RuntimeError::NoTimeLeft { .. }) && undo.is_empty(), "{error}");
    assert_eq!(world.plugins.take_names(), ["ADD bridge", "DEL portmap", "DEL bridge"]);
    assert!(world.cached().is_empty());
}

#[test]
fn del_waits_for_an_add_of_the_same_attachment_but_not_of_another() {
    let world = World::new();
    let (entered, in_add) = mpsc::channel();
    let (go_on, gate) = mpsc::channel::<()>();
    let fast = crate::support::Fake::new(works);
    world.plugins.set_script(move |call| {
        if call.name() == "ADD bridge" {
            entered.send(()).unwrap();
            // Not for ever: a test that fails while this waits must end.
            let _ = gate.recv_timeout(Duration::from_secs(20));
        }
        works(call)
    });
    let slow = world.runtime();
    let other = || world.runtime().with_exec(Box::new(fast.clone()));
    thread::scope(|scope| {
        let add = scope.spawn(|| slow.add(&blue(), &web()).map(drop));
        in_add.recv().unwrap();

        let impatient = other().with_chain_timeout(Duration::from_millis(30));
        let busy = impatient.del(&blue(), &web()).unwrap_err();
        assert!(busy.is_temporary(), "{busy}");
        assert!(impatient.add(&blue(), &web()).unwrap_err().is_temporary());
        assert!(impatient.gc(&blue(), &[]).unwrap_err().is_temporary());
        assert!(fast.take_calls().is_empty());

        let db = cni_spec::runtime::Attachment::new("db".parse().unwrap(), "eth0".parse().unwrap());
        other().add(&blue(), &db).unwrap();
        fast.take_calls();

        let del = scope.spawn(|| other().del(&blue(), &web()));
        go_on.send(()).unwrap();
        add.join().unwrap().unwrap();
        del.join().unwrap().unwrap();
    });
    assert_eq!(world.cached(), ["blue-db-eth0"]);
    // The DEL came second: it had the whole result.
    assert!(
        fast.take_calls()
            .iter()
            .all(|del| del.stdin["prevResult"]["interfaces"].as_array().unwrap().len() == 3)
    );
}

#[test]
fn many_adds_of_one_attachment_at_once_attach_it_once() {
    let world = World::new();
    let runtime = world.runtime();
    let outcomes: Vec<_> = thread::scope(|scope| {
        let adds: Vec<_> = (0..8).map(|_| scope.spawn(|| runtime.add(&blue(), &web()))).collect();
        adds.into_iter().map(|add| add.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let refused =
        |outcome: &&Result<_, RuntimeError>| matches!(outcome, Err(RuntimeError::AlreadyAttached(_)));
    assert_eq!(outcomes.iter().filter(refused).count(), 7);
    assert_eq!(world.plugins.take_names(), ["ADD bridge", "ADD portmap", "ADD tuning"]);
}

#[test]
fn status_asks_in_order_and_returns_the_first_refusal() {
    let world = World::new();
    let runtime = world.runtime();
    runtime.status(&blue()).unwrap();
    let calls = world.plugins.take_calls();
    assert_eq!(calls.len(), 3);
    assert!(
        ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"]
            .iter()
            .all(|name| calls[0].env[*name].is_empty())
    );
    world.plugins.set_script(|call| if call.plugin == "portmap" { fails(50, "no nft") } else { works(call) });
    let error = runtime.status(&blue()).unwrap_err();
    assert_eq!(error.plugin_error().unwrap().code(), ErrorCode::PLUGIN_NOT_AVAILABLE);
    assert_eq!(world.plugins.take_names(), ["STATUS bridge", "STATUS portmap"]);

    let old = list(json!({"cniVersion": "1.0.0", "name": "blue", "plugins": [{"type": "portmap"}]}));
    runtime.status(&old).unwrap();
    assert!(world.plugins.take_calls().is_empty());
}

#[test]
fn validate_probes_every_plugin_once_and_returns_the_capabilities() {
    let world = World::new();
    let runtime = world.runtime();
    let capabilities = runtime.validate(&blue()).unwrap();
    assert_eq!(capabilities.iter().map(String::as_str).collect::<Vec<_>>(), ["mac", "portMappings"]);
    let calls = world.plugins.take_calls();
    assert_eq!(calls.len(), 3);
    assert_eq!(calls[0].env["CNI_NETNS"], "dummy");

    world.plugins.set_script(|call| match call.plugin.as_str() {
        "portmap" => success(&json!({"cniVersion": "0.4.0", "supportedVersions": ["0.3.1", "0.4.0"]})),
        "tuning" => fails(4, "unknown CNI_COMMAND: VERSION"),
        _ => works(call),
    });
    let error = runtime.validate(&blue()).unwrap_err().to_string();
    assert_eq!(
        error,
        "2 failures: plugin \"portmap\" does not speak CNI 1.1.0, only 0.3.1, 0.4.0; \
         plugin \"tuning\" does not speak CNI 1.1.0, only 0.1.0"
    );
}

#[test]
fn an_unusable_cache_prevents_add_but_not_del() {
    let world = World::new();
    fs::write(world.results(), "in the way").unwrap();
    let runtime = world.runtime();
    assert!(matches!(runtime.add(&blue(), &web()), Err(RuntimeError::Cache(_))));
    assert!(world.plugins.take_calls().is_empty());
    assert!(runtime.del(&blue(), &web()).is_err());
    assert_eq!(world.plugins.take_names(), ["DEL tuning", "DEL portmap", "DEL bridge"]);
}
