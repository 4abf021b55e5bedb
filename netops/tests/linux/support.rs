//! Namespaces for a test of its own, and other programs' view of them.
//!
//! Tests need the right to make network namespaces. As an ordinary user each test is repeated inside a user namespace
//! (`unshare(1)`). Where that is refused too it fails, unless `NETOPS_SKIP_KERNEL_TESTS` is set.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Command, Output};
use std::thread;

use netops::{Created, Error, Kernel, LinkName, LinuxKernel, Namespace, Place, Removed, Resource};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::Value;

/// Two namespaces: the "host" is the calling thread's own, the container is another.
pub(crate) struct Lab {
    pub(crate) kernel: LinuxKernel,
    pub(crate) container: Namespace,
}

/// Runs a test in a fresh pair of network namespaces, and in a mount namespace, on a thread of its own.
#[macro_export]
macro_rules! in_lab {
    ($test:expr) => {{
        fn here() {}
        $crate::support::run(std::any::type_name_of_val(&here), $test)
    }};
}

/// Repeats a test with random cases: as many as usual, and always the same ones, so that a difference from the kernel that
/// nobody has met yet does not hold up a change that has nothing to do with it. Who searches for such differences says
/// how many (`CNIKIT_CASES`) and which others (`CNIKIT_SEED`, a number). Of a case that fails the smallest is shown.
pub(crate) fn with_random<S: Strategy>(usual: u32, cases: &S, test: impl Fn(S::Value)) {
    let number = |variable| {
        let text = std::env::var(variable).ok();
        text.map(|text| text.parse::<u32>().unwrap_or_else(|_| panic!("{variable}: not a number: {text}")))
    };
    let mut runner = TestRunner::new(Config {
        cases: number("CNIKIT_CASES").unwrap_or(usual),
        rng_seed: RngSeed::Fixed(number("CNIKIT_SEED").unwrap_or(1).into()),
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(cases, |case| {
        test(case);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

pub(crate) fn run(name: &str, test: impl FnOnce(Lab) + Send) {
    if std::env::var_os("NETOPS_SKIP_KERNEL_TESTS").is_some() {
        eprintln!("SKIPPED: NETOPS_SKIP_KERNEL_TESTS is set");
        return;
    }
    let outcome = thread::scope(|scope| {
        let thread = scope.spawn(|| match unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS) {
            Ok(()) => {
                mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
                    .unwrap();
                begin_without_forwarding();
                Some(catch_unwind(AssertUnwindSafe(|| test(Lab::new()))))
            }
            Err(nix::errno::Errno::EPERM) => None,
            Err(errno) => panic!("cannot make namespaces: {errno}"),
        });
        thread.join()
    });
    match outcome {
        Ok(Some(Ok(()))) => {}
        Ok(Some(Err(panic))) | Err(panic) => resume_unwind(panic),
        Ok(None) => repeat_in_user_namespace(name),
    }
}

fn repeat_in_user_namespace(name: &str) {
    assert!(
        std::env::var_os("NETOPS_IN_USER_NAMESPACE").is_none(),
        "no network namespaces in a user namespace"
    );
    // linux::links::some_test::here
    let test = name.split("::").skip(1).collect::<Vec<_>>().join("::");
    let test = test.trim_end_matches("::here").trim_end_matches("::{{closure}}");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("NETOPS_IN_USER_NAMESPACE", "1")
        .output()
        .expect("not root, and no unshare(1): set NETOPS_SKIP_KERNEL_TESTS to do without these tests");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "in a user namespace ({}):\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A new namespace has it from the machine (`net.core.devconf_inherit_init_net`).
fn begin_without_forwarding() {
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
}

impl Lab {
    fn new() -> Self {
        let container = Namespace::create().unwrap();
        container.enter(begin_without_forwarding).unwrap();
        let kernel = LinuxKernel::new(Some(container.try_clone().unwrap()));
        Self { kernel, container }
    }

    /// Another kernel value for the same two namespaces, which remembers nothing.
    pub(crate) fn fresh_kernel(&self) -> LinuxKernel {
        LinuxKernel::new(Some(self.container.try_clone().unwrap()))
    }

    /// Creates one resource.
    pub(crate) fn create(&mut self, place: Place, resource: &Resource) -> Result<Created, Error> {
        let mut results = self.kernel.create(place, &[resource]);
        assert_eq!(results.len(), 1);
        results.remove(0)
    }

    /// Creates resources on the host.
    pub(crate) fn create_all(&mut self, resources: &[Resource]) -> Vec<Result<Created, Error>> {
        self.kernel.create(Place::Host, &resources.iter().collect::<Vec<_>>())
    }

    /// Removes one resource.
    pub(crate) fn remove(&mut self, place: Place, resource: &Resource) -> Result<Removed, Error> {
        let mut results = self.kernel.remove(place, &[resource]);
        assert_eq!(results.len(), 1);
        results.remove(0)
    }

    /// What `ip -d -j …` says in a place.
    pub(crate) fn ip(&self, place: Place, arguments: &str) -> Value {
        let said = self.run(place, &format!("ip -d -j {arguments}"));
        if said.is_empty() { Value::Array(Vec::new()) } else { serde_json::from_str(&said).unwrap() }
    }

    /// What a command says in a place; it must succeed.
    pub(crate) fn run(&self, place: Place, command: &str) -> String {
        let output = self.output(place, command);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asserts that the host's ruleset is a text, as `nft` prints it, and the same to the last instruction as what `nft` makes
    /// of that text.
    pub(crate) fn assert_ruleset(&self, text: &str) {
        assert_eq!(self.run(Place::Host, "nft list ruleset"), text);
        let ours = self.byte_code();
        assert!(!ours.is_empty());
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ruleset.nft");
        std::fs::write(&file, text).unwrap();
        self.run(Place::Host, "nft flush ruleset");
        self.run(Place::Host, &format!("nft -f {}", file.display()));
        assert_eq!(ours, self.byte_code(), "what nft makes of the same text");
    }

    /// Byte code as `nft` shows it, without rule handles.
    fn byte_code(&self) -> Vec<String> {
        let listing = self.run(Place::Host, "nft --debug=netlink list ruleset");
        let is_code = |line: &&str| line.trim_start().starts_with("[ ");
        listing.lines().filter(is_code).map(str::to_owned).collect()
    }

    /// Runs a command in a place.
    pub(crate) fn output(&self, place: Place, command: &str) -> Output {
        let mut words = command.split_whitespace();
        let mut program = Command::new(words.next().unwrap());
        program.args(words);
        match place {
            Place::Host => program.output().unwrap(),
            Place::Container => self.container.enter(|| program.output().unwrap()).unwrap(),
        }
    }
}

pub(crate) fn name(text: &str) -> LinkName {
    LinkName::new(text).unwrap()
}
