//! Whether the container runtime finds its network.

use crate::commands::doctor::facts::{Chain, Configuration, Facts};
use crate::commands::doctor::finding::Findings;

pub(super) fn check(facts: &Facts) -> Findings {
    let mut findings = Findings::of("runtime");
    check_endpoint(&mut findings, facts);
    check_configuration(&mut findings, facts);
    findings
}

fn check_endpoint(findings: &mut Findings, facts: &Facts) {
    let runtime = &facts.runtime;
    if runtime.cri_is_disabled {
        findings.error(
            "containerd's configuration switches off its interface for kubelets (disabled_plugins)",
            "take \"cri\" out of disabled_plugins in /etc/containerd/config.toml, and restart containerd",
        );
    }
    match (runtime.endpoints.first(), runtime.sockets.as_slice()) {
        (Some(endpoint), _) if endpoint.is_there => {
            findings.ok(format!("the runtime is at {}, as {} says", endpoint.socket, endpoint.source));
        }
        (Some(endpoint), _) => findings.error(
            format!("no runtime listens at {}, where {} says it is", endpoint.socket, endpoint.source),
            "start it, or correct the path",
        ),
        (None, []) => findings.info("no container runtime was found"),
        (None, [socket]) => findings.ok(format!("the runtime is at {socket}")),
        (None, several) => findings.warning(
            format!(
                "there are several runtimes ({}), and nothing says which is the kubelet's",
                several.join(", ")
            ),
            "containerRuntimeEndpoint in the kubelet's configuration, or kubeadm's criSocket",
        ),
    }
}

fn check_configuration(findings: &mut Findings, facts: &Facts) {
    let directory = facts.runtime.conf_dir.display();
    for configuration in &facts.runtime.configurations {
        if let Err(problem) = &configuration.content {
            findings.warning(
                format!("a network's configuration cannot be used: {problem}"),
                "`cnikit conf lint` says what is wrong with it; remove the file if nobody needs it",
            );
        }
    }
    let mut usable = facts.runtime.configurations.iter().filter_map(usable);
    let Some((first, chain)) = usable.next() else {
        return findings.warning(
            format!(
                "there is no network's configuration in {directory}: the node is not ready, and pods wait"
            ),
            "`cnikit agent --cni-write` writes one; or put one of your own there",
        );
    };
    findings.ok(format!("pods get network {}, by {}", chain.network, first.path.display()));
    for (other, chain) in usable {
        findings.info(format!(
            "{} (network {}) comes after it: no pod gets it by itself",
            other.path.display(),
            chain.network
        ));
    }
    check_plugins(findings, facts, chain);
}

fn usable(configuration: &Configuration) -> Option<(&Configuration, &Chain)> {
    Some((configuration, configuration.content.as_ref().ok()?))
}

fn check_plugins(findings: &mut Findings, facts: &Facts, chain: &Chain) {
    let dirs: Vec<_> = facts
        .runtime
        .plugin_dirs
        .iter()
        .map(|(dir, source)| format!("{} ({source})", dir.display()))
        .collect();
    let missing: Vec<_> =
        chain.plugins.iter().filter(|(_, found)| found.is_none()).map(|(name, _)| name.as_str()).collect();
    match missing.as_slice() {
        [] => findings.ok(format!("its plugins are in {}", dirs.join(", "))),
        missing => {
            let directory = facts
                .runtime
                .plugin_dirs
                .first()
                .map_or_else(String::new, |(dir, _)| dir.display().to_string());
            let ours = missing.iter().all(|name| plugins::find(name).is_some());
            let advice = match ours {
                true => format!("cnikit install --bin-dir {directory}"),
                false => format!("install them into {directory}"),
            };
            findings.error(
                format!(
                    "network {} needs {}, not found in {}",
                    chain.network,
                    missing.join(", "),
                    dirs.join(", ")
                ),
                advice,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::healthy::{complains, spoilt};
    use super::*;
    use crate::commands::doctor::facts::Runtime;
    use crate::commands::doctor::finding::Severity::{Error, Info, Warning};

    fn runtime(spoil: impl FnOnce(&mut Runtime)) -> impl FnOnce(&mut Facts) {
        move |facts| spoil(&mut facts.runtime)
    }

    #[track_caller]
    fn is_fine(spoil: impl FnOnce(&mut Runtime)) {
        let found = spoilt(check, runtime(spoil));
        assert!(found.iter().all(|finding| finding.severity >= Info), "{found:#?}");
    }

    #[test]
    fn a_runtime_listens_where_it_is_said_to() {
        complains(
            check,
            runtime(|runtime| runtime.endpoints[0].is_there = false),
            Error,
            "kubeadm-flags.env",
        );
        is_fine(|runtime| runtime.endpoints.clear());
        is_fine(|runtime| {
            runtime.endpoints.clear();
            runtime.sockets.clear();
        });
        let several = |runtime: &mut Runtime| {
            runtime.endpoints.clear();
            runtime.sockets.push("/run/crio/crio.sock".to_owned());
        };
        complains(check, runtime(several), Warning, "/run/crio/crio.sock");
    }

    #[test]
    fn containerd_speaks_to_kubelets() {
        complains(check, runtime(|runtime| runtime.cri_is_disabled = true), Error, "disabled_plugins");
    }

    #[test]
    fn there_is_a_network_and_the_first_counts() {
        complains(
            check,
            runtime(|runtime| runtime.configurations.clear()),
            Warning,
            "no network's configuration",
        );
        let broken = || Configuration {
            path: "/etc/cni/net.d/00.conf".into(),
            content: Err("00.conf: no name".to_owned()),
        };
        complains(
            check,
            runtime(|runtime| runtime.configurations.insert(0, broken())),
            Warning,
            "00.conf: no name",
        );
        let found = spoilt(
            check,
            runtime(|runtime| {
                let second = runtime.configurations[0].clone();
                runtime
                    .configurations
                    .push(Configuration { path: "/etc/cni/net.d/20.conflist".into(), ..second });
            }),
        );
        assert!(found.iter().any(|finding| finding.severity == Info && finding.what.contains("20.conflist")));
        assert!(found.iter().any(|finding| finding.what.contains("10-pods.conflist")));
    }

    #[test]
    fn its_plugins_are_there() {
        let lacks = |name: &'static str| {
            runtime(move |runtime: &mut Runtime| {
                let Ok(chain) = &mut runtime.configurations[0].content else { return };
                chain.plugins.push((name.to_owned(), None));
            })
        };
        complains(check, lacks("portmap"), Error, "needs portmap");
        let advice = |name| {
            let found = spoilt(check, lacks(name));
            found.into_iter().find_map(|finding| finding.advice).unwrap()
        };
        assert_eq!(advice("portmap"), "cnikit install --bin-dir /opt/cni/bin");
        assert!(advice("calico").contains("install them"));
    }
}
