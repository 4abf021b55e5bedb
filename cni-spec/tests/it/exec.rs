//! Plugins as processes: whatever they do, the caller gets an answer and all of their output.

use std::{
    fs::{self, OpenOptions},
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use cni_spec::{Env, Exec, ExecError, Exit, Output, PluginType, ProcessExec, find_in_path};
use tempfile::TempDir;

/// A directory with one plugin, a shell script.
struct Script {
    dir: TempDir,
}

impl Script {
    fn new(body: &str) -> Self {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("plugin"), format!("#!/bin/sh\n{body}\n")).unwrap();
        let script = Self { dir };
        script.set_mode(0o755);
        script
    }

    fn set_mode(&self, mode: u32) {
        fs::set_permissions(self.file(), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("plugin")
    }

    fn run(&self, exec: &ProcessExec, stdin: &[u8]) -> Result<Output, ExecError> {
        exec.exec(&self.file(), &Env::from_iter([("PATH", "/usr/bin:/bin")]), stdin)
    }
}

fn run(body: &str, stdin: &[u8]) -> Output {
    Script::new(body).run(&ProcessExec::new(), stdin).unwrap()
}

fn run_for(millis: u64, body: &str) -> Result<Output, ExecError> {
    Script::new(body).run(&ProcessExec::new().with_timeout(Duration::from_millis(millis)), b"{}")
}

/// Fails if something takes so long that it must have waited for a sleeper.
fn promptly<T>(what: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = what();
    assert!(began.elapsed() < Duration::from_secs(20), "took {:?}", began.elapsed());
    result
}

#[test]
fn both_streams_and_the_status_come_back() {
    let output = run("cat; echo log >&2; exit 3", b"input");
    assert_eq!(output, Output { exit: Exit::Code(3), stdout: b"input".to_vec(), stderr: b"log\n".to_vec() });
}

#[test]
fn the_environment_is_exactly_what_was_given() {
    let script = Script::new("exec /usr/bin/env");
    let env = Env::from_iter([("CNI_COMMAND", "ADD"), ("CNI_ARGS", "")]);
    let output = ProcessExec::new().exec(&script.file(), &env, b"").unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<_> =
        text.lines().filter(|line| !line.starts_with("PWD=") && !line.starts_with("_=")).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["CNI_ARGS=", "CNI_COMMAND=ADD"]);
}

#[test]
fn large_input_and_output_do_not_wait_for_each_other() {
    let input: Vec<u8> = (0..3_000_000_u32).map(|i| i as u8).collect();
    let output = promptly(|| run("head -c 100000 /dev/zero >&2; cat", &input));
    assert!(output.stdout == input);
    assert_eq!(output.stderr.len(), 64 << 10, "of the log, the beginning is kept");
}

#[test]
fn a_plugin_need_not_read_its_input() {
    for size in [2, 4096, 1 << 20] {
        assert_eq!(run("exit 0", &vec![b' '; size]).exit, Exit::Code(0), "{size}");
    }
}

#[test]
fn a_plugin_that_hangs_is_killed_and_what_it_said_is_kept() {
    let error = promptly(|| run_for(300, "echo '{half'; echo log >&2; exec sleep 60")).unwrap_err();
    let ExecError::TimedOut { stdout, stderr, .. } = &error else { panic!("{error}") };
    assert_eq!((stdout.as_slice(), stderr.as_slice()), (b"{half\n".as_slice(), b"log\n".as_slice()));
    let error = cni_spec::Error::from(error);
    assert!(error.msg().ends_with("no answer after 300ms; killed"), "{error}");
    assert_eq!(error.details(), "stdout: {half\nstderr: log");
}

#[test]
fn closing_the_streams_is_not_the_end() {
    let error = promptly(|| run_for(300, "exec >&- 2>&-; exec sleep 60")).unwrap_err();
    assert!(matches!(error, ExecError::TimedOut { .. }), "{error}");
    assert_eq!(run("exec >&- 2>&-; sleep 0.1; exit 7", b"").exit, Exit::Code(7));
}

#[test]
fn a_child_that_keeps_the_streams_open_is_not_waited_for() {
    let began = Instant::now();
    let output = promptly(|| run("sleep 60 & echo done", b"{}"));
    assert_eq!((output.exit, output.stdout.as_slice()), (Exit::Code(0), b"done\n".as_slice()));
    assert!(began.elapsed() < Duration::from_secs(10));
    // Nor one that never stops talking. It ends by SIGPIPE as soon as nobody listens.
    let output = promptly(|| run("(while :; do echo noise >&2; done) & echo done", b"{}"));
    assert_eq!((output.exit, output.stdout.as_slice()), (Exit::Code(0), b"done\n".as_slice()));
}

#[test]
fn endless_output_is_cut_off() {
    let error = promptly(|| run_for(15_000, "exec cat /dev/zero")).unwrap_err();
    assert!(matches!(error, ExecError::TooMuchOutput { limit: 4_194_304, .. }), "{error}");
}

#[test]
fn a_plugin_that_dies_is_reported_with_its_signal_and_output() {
    let output = run("echo garbage; echo why >&2; kill -9 $$", b"{}");
    assert_eq!(output.exit, Exit::Signal(9));
    let error = output.check(Path::new("/x/bridge")).unwrap_err();
    assert_eq!(error.msg(), "plugin /x/bridge: killed by signal 9, without an error object");
    assert_eq!(error.details(), "stdout: garbage\nstderr: why");
}

#[test]
fn an_error_object_is_passed_on_as_it_is() {
    let output = run(r#"echo '{"code": 11, "msg": "later", "details": "d"}'; echo log >&2; exit 1"#, b"{}");
    let error = output.check(Path::new("p")).unwrap_err();
    assert_eq!((error.code().get(), error.msg(), error.details()), (11, "later", "d"));
}

#[test]
fn a_file_that_is_being_written_is_waited_for() {
    let script = Script::new("echo done");
    let writer = OpenOptions::new().append(true).open(script.file()).unwrap();
    thread::scope(|scope| {
        let output = scope.spawn(|| script.run(&ProcessExec::new(), b""));
        thread::sleep(Duration::from_millis(100));
        assert!(!output.is_finished(), "a file that is open for writing was executed");
        drop(writer);
        assert_eq!(output.join().unwrap().unwrap().stdout, b"done\n");
    });
}

#[test]
fn a_file_that_is_being_written_is_not_waited_for_beyond_the_timeout() {
    let script = Script::new("echo done");
    let _writer = OpenOptions::new().append(true).open(script.file()).unwrap();
    let began = Instant::now();
    let error = script.run(&ProcessExec::new().with_timeout(Duration::from_millis(50)), b"").unwrap_err();
    assert!(
        matches!(&error, ExecError::Start { source, .. } if source.kind() == ErrorKind::ExecutableFileBusy),
        "{error}"
    );
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[test]
fn what_cannot_be_started_says_why() {
    let script = Script::new("");
    fs::write(script.file(), "\x7fELF").unwrap();
    let error = script.run(&ProcessExec::new(), b"").unwrap_err();
    assert!(matches!(&error, ExecError::Start { .. }), "{error}");
    assert!(
        error.to_string().starts_with(&format!("execute plugin {}: ", script.file().display())),
        "{error}"
    );
}

#[test]
fn the_first_executable_file_of_the_path_is_found() {
    let [empty, plain, good, later] = [(); 4].map(|()| Script::new("true"));
    fs::remove_file(empty.file()).unwrap();
    plain.set_mode(0o644);
    let plugin: PluginType = "plugin".parse().unwrap();
    let path = |scripts: &[&Script]| -> Vec<PathBuf> {
        let missing = [PathBuf::new(), "/nonexistent".into()];
        missing.into_iter().chain(scripts.iter().map(|script| script.dir.path().to_owned())).collect()
    };
    assert_eq!(find_in_path(&plugin, &path(&[&empty, &plain, &good, &later])).unwrap(), good.file());
    let error = find_in_path(&plugin, &path(&[&empty, &plain])).unwrap_err();
    assert!(matches!(&error, ExecError::NotExecutable { file } if *file == plain.file()), "{error}");
    let error = find_in_path(&plugin, &path(&[&empty])).unwrap_err();
    assert!(error.to_string().starts_with("find plugin \"plugin\" in [\"\", \"/nonexistent\", "), "{error}");
    // A directory of that name is no plugin.
    fs::create_dir(empty.file()).unwrap();
    assert!(matches!(find_in_path(&plugin, &path(&[&empty])), Err(ExecError::NotFound { .. })));
}
