//! `admission-policy.yaml` is what the API knows, and about those whom `cnikit.yaml` makes. What its expressions come to is not
//! evaluated here.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicySpec,
};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};

use crate::{object, object_of, objects};

const POLICY: &str = "admission-policy.yaml";

fn policy() -> (Option<String>, ValidatingAdmissionPolicySpec) {
    let whole: ValidatingAdmissionPolicy = object_of(POLICY, "ValidatingAdmissionPolicy");
    (whole.metadata.name, whole.spec.unwrap())
}

#[test]
fn the_policy_is_bound_for_all_nodes_and_refuses_what_it_cannot_decide() {
    assert_eq!(objects(POLICY).len(), 2);
    let (name, policy) = policy();
    let binding: ValidatingAdmissionPolicyBinding = object_of(POLICY, "ValidatingAdmissionPolicyBinding");
    let bound = binding.spec;
    assert_eq!(Some(bound.policy_name), name);
    assert_eq!(bound.validation_actions, ["Deny"]);
    assert_eq!((bound.match_resources, bound.param_ref), (None, None));
    assert_eq!(policy.failure_policy.as_deref(), Some("Fail"));
    let matched = policy.match_constraints.unwrap();
    assert_eq!(
        (matched.namespace_selector, matched.object_selector, matched.exclude_resource_rules),
        (None, None, None)
    );
    let rules = matched.resource_rules.unwrap();
    let [rule] = rules.as_slice() else { panic!("{rules:?}") };
    let all = [&rule.api_groups, &rule.api_versions, &rule.resources, &rule.operations];
    assert_eq!(all.map(|words| words.as_ref().unwrap().join(" ")), ["", "v1", "nodes", "UPDATE"]);
    assert_eq!((&rule.resource_names, &rule.scope), (&None, &None));
}

/// The account is the one that the role is given to, and of all that the role lets it do to anything only a patch is a change.
#[test]
fn the_policy_is_about_the_agents_account_and_about_all_that_it_may_change() {
    let account = object::<ServiceAccount>("ServiceAccount").metadata;
    let (namespace, name) = (account.namespace.unwrap(), account.name.unwrap());
    let subjects = object::<ClusterRoleBinding>("ClusterRoleBinding").subjects.unwrap();
    let [subject] = subjects.as_slice() else { panic!("{subjects:?}") };
    assert_eq!((subject.namespace.as_ref(), &subject.name), (Some(&namespace), &name));
    let conditions = policy().1.match_conditions.unwrap();
    let [condition] = conditions.as_slice() else { panic!("{conditions:?}") };
    let user = format!("system:serviceaccount:{namespace}:{name}");
    assert_eq!(condition.expression, format!("request.userInfo.username == '{user}'"));

    let role = object::<ClusterRole>("ClusterRole").rules.unwrap();
    let changes = role.iter().flat_map(|rule| {
        let changes = rule.verbs.iter().filter(|verb| !matches!(&***verb, "get" | "list" | "watch"));
        changes.map(|verb| (verb.as_str(), rule.resources.as_ref().unwrap().join(" ")))
    });
    assert_eq!(changes.collect::<Vec<_>>(), [("patch", "nodes".to_owned())]);
}

/// A name that is used and not there would be an error, and that refuses what agents have to do.
#[test]
fn every_rule_says_what_it_is_for_and_uses_variables_that_there_are() {
    let (_, policy) = policy();
    let variables: Vec<_> = policy.variables.unwrap().into_iter().map(|variable| variable.name).collect();
    let rules = policy.validations.unwrap();
    for rule in &rules {
        assert!(rule.message.as_ref().is_some_and(|message| message.starts_with("an agent ")), "{rule:?}");
        for used in rule.expression.split("variables.").skip(1) {
            let end = used.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(used.len());
            assert!(variables.iter().any(|name| *name == used[..end]), "{}", rule.expression);
        }
    }
    // Everything else of a Node that somebody decides is compared with what it was.
    let all: String = rules.into_iter().map(|rule| rule.expression).collect();
    for part in ["spec", "metadata.labels", "metadata.ownerReferences", "metadata.finalizers"] {
        assert!(all.contains(&format!("object.{part} == oldObject.{part}")), "{part}");
    }
    assert!(all.contains("key == 'cnikit.io/node'"), "{all}");
}
