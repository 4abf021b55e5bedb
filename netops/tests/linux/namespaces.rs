//! Network namespaces.

use std::fs;
use std::os::unix::fs::symlink;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::Command;

use netops::*;

use crate::in_lab;
use crate::support::name;

fn problem(path: impl AsRef<Path>) -> NamespaceProblem {
    match Namespace::open(path.as_ref()) {
        Err(Error::Namespace { path: named, problem }) => {
            assert_eq!(named, path.as_ref());
            problem
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_namespace_is_told_from_what_is_gone() {
    in_lab!(|_lab| {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("plain"), "").unwrap();
        assert!(Command::new("mkfifo").arg(path("fifo")).status().unwrap().success());
        symlink(path("loop"), path("loop")).unwrap();
        assert_eq!(problem(path("missing")), NamespaceProblem::Gone);
        assert_eq!(problem(path("plain/below")), NamespaceProblem::Gone);
        assert_eq!(problem("/proc/4194305/ns/net"), NamespaceProblem::Gone);
        assert_eq!(problem(path("plain")), NamespaceProblem::NotANamespace);
        assert_eq!(problem(path("fifo")), NamespaceProblem::NotANamespace);
        assert_eq!(problem(directory.path()), NamespaceProblem::NotANamespace);
        assert_eq!(problem("/dev/null"), NamespaceProblem::NotANamespace);
        assert_eq!(problem("/proc/self/ns/mnt"), NamespaceProblem::NotANamespace);
        assert_eq!(problem("/proc/self/stat"), NamespaceProblem::NotANamespace);
        assert!(matches!(problem(path("loop")), NamespaceProblem::Refused(_)));
        assert_eq!(
            Namespace::open(path("missing")).unwrap_err().to_string(),
            format!("open network namespace {}: it does not exist", path("missing").display())
        );
    });
}

#[test]
fn a_thread_is_inside_and_back_again() {
    in_lab!(|lab| {
        let home = Namespace::current().unwrap();
        let is_here = |namespace: &Namespace| Namespace::current().unwrap().same_as(namespace).unwrap();
        assert!(is_here(&home) && !is_here(&lab.container));
        let third = Namespace::create().unwrap();
        let answer = lab.container.enter(|| {
            assert!(is_here(&lab.container));
            third.enter(|| assert!(is_here(&third))).unwrap();
            assert!(is_here(&lab.container));
            42
        });
        assert_eq!(answer, Ok(42));
        assert!(is_here(&home));
    });
}

#[test]
fn a_panic_inside_brings_the_thread_back_too() {
    in_lab!(|lab| {
        let home = Namespace::current().unwrap();
        let container = lab.container;
        let panicked = catch_unwind(std::panic::AssertUnwindSafe(|| {
            container.enter(|| panic!("inside (this is part of the test)"))
        }));
        assert!(panicked.is_err());
        assert!(Namespace::current().unwrap().same_as(&home).unwrap());
    });
}

#[test]
fn a_kernel_works_on_the_container_from_outside() {
    in_lab!(|mut lab| {
        let up = Resource::LinkUp(LinkName::loopback());
        lab.create(Place::Container, &up).unwrap();
        let mut read = |place| read_link(&mut lab.kernel, place, &name("lo")).unwrap().unwrap().up;
        assert_eq!((read(Place::Host), read(Place::Container)), (false, true));
    });
}

#[test]
fn names_are_given_listed_and_taken_away() {
    in_lab!(|_lab| {
        let directory = tempfile::tempdir().unwrap();
        let netns = directory.path().join("netns");
        let blue = Namespace::create_named(&netns, "blue").unwrap();
        let green = Namespace::create_named(&netns, "green").unwrap();
        assert!(!blue.same_as(&green).unwrap());
        assert!(!blue.same_as(&Namespace::current().unwrap()).unwrap());
        assert!(Namespace::open(netns.join("blue")).unwrap().same_as(&blue).unwrap());
        fs::write(netns.join("junk"), "").unwrap();
        symlink(&netns, directory.path().join("link")).unwrap();

        let list = |directories: &[&Path]| {
            let listed = Namespace::list(directories);
            listed.iter().map(|ns| ns.path().file_name().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(list(&[&netns, &directory.path().join("link"), Path::new("/nowhere")]), ["blue", "green"]);

        let again = Namespace::create_named(&netns, "blue").unwrap_err();
        assert_eq!(again.errno(), Some(Errno::EEXIST), "{again}");
        assert!(Namespace::open(netns.join("blue")).is_ok(), "the first one is still there");

        Namespace::remove(netns.join("blue")).unwrap();
        assert_eq!(list(&[&netns]), ["green"]);
        assert!(!netns.join("blue").exists());
        Namespace::remove(netns.join("blue")).unwrap();
        // As an unmount by another hand leaves it.
        Namespace::remove(netns.join("junk")).unwrap();
        assert!(!netns.join("junk").exists());
        Namespace::remove(netns.join("green")).unwrap();
    });
}

#[test]
fn names_are_names() {
    in_lab!(|_lab| {
        let directory = tempfile::tempdir().unwrap();
        for bad in ["", ".", "..", "a/b", "/a"] {
            let error = Namespace::create_named(directory.path(), bad).unwrap_err();
            assert_eq!(error.errno(), Some(Errno::EINVAL), "{bad:?}");
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    });
}

#[test]
fn what_holds_something_is_not_removed() {
    in_lab!(|_lab| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("letter");
        fs::write(&path, "dear reader").unwrap();
        let error = Namespace::remove(&path).unwrap_err();
        assert!(matches!(error, Error::Namespace { problem: NamespaceProblem::NotANamespace, .. }));
        assert!(path.exists());
    });
}

#[test]
fn a_program_inside_sees_what_is_there_and_ends_with_the_thread_that_started_it() {
    in_lab!(|lab| {
        let mut lab = lab;
        let link = Resource::Link(Link::new(name("inside"), LinkKind::Bridge { vlan_filtering: false }));
        lab.kernel.create(Place::Container, &[&link]).pop().unwrap().unwrap();
        let mut look = Command::new("cat");
        look.arg("/proc/net/dev").stdout(std::process::Stdio::piped());
        let output = lab.container.spawn(&mut look).unwrap().unwrap().wait_with_output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("inside:"), "{output:?}");
        let start = || lab.container.spawn(Command::new("sleep").arg("1000")).unwrap().unwrap();
        let mut orphan = std::thread::scope(|scope| scope.spawn(start).join().unwrap());
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&orphan.wait().unwrap()),
            Some(libc::SIGKILL)
        );
        let missing = lab.container.spawn(&mut Command::new("/nonexistent/program")).unwrap();
        assert_eq!(missing.unwrap_err().kind(), std::io::ErrorKind::NotFound);
    });
}
