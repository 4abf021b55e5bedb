//! From a call to the plugin's method and back.

use std::{
    any::Any,
    ffi::OsStr,
    fmt,
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind},
    str::FromStr,
};

use serde::Deserialize;

use super::{DelRequest, GcRequest, Outcome, Plugin, Request, StatusRequest, Stdio, netns};
use crate::{
    CniArgs, Command, Env, Error, ErrorCode, Invocation, NameError, NetworkConfig, SpecVersion,
    VersionResult,
    config::{list, version_text},
    json::{self, Object},
};

/// The most that is read from stdin, in bytes.
///
/// A `GC` names every attachment of a node twice in about 250 bytes, so this is enough for fifteen thousand of them.
pub const STDIN_LIMIT: usize = 4 << 20;

/// Serves one call: checks it, calls the plugin, prints the answer.
///
/// Reads nothing but `env` and `stdio`, and the identity of the network namespaces named there, so it works in tests
/// and for plugins that are part of a larger program. Nothing is global; calls may run on several threads.
///
/// ```
/// # use cni_spec::{AddResult, Error, SpecVersion, plugin::{DelRequest, Plugin, Request}};
/// # struct Nothing;
/// # impl Plugin for Nothing {
/// #     fn about(&self) -> &str { "nothing" }
/// #     fn versions(&self) -> &[SpecVersion] { SpecVersion::ALL }
/// #     fn add(&self, _: &Request) -> Result<AddResult, Error> { Ok(AddResult::default()) }
/// #     fn del(&self, _: &DelRequest) -> Result<(), Error> { Ok(()) }
/// #     fn check(&self, _: &Request) -> Result<(), Error> { Ok(()) }
/// # }
/// use cni_spec::{Env, plugin::{Outcome, Stdio, dispatch}};
///
/// let env = Env::from_iter([("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "a"), ("CNI_IFNAME", "eth0"), ("CNI_PATH", "/")]);
/// let mut stdin = br#"{"cniVersion": "1.0.0", "name": "bad name"}"#.as_slice();
/// let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
/// let stdio = Stdio { stdin: &mut stdin, stdout: &mut stdout, stderr: &mut stderr };
///
/// let Outcome::Failed(error) = dispatch(&Nothing, env, stdio) else { unreachable!() };
/// assert_eq!(error.code().get(), 7);
/// assert_eq!(error.version(), Some(SpecVersion::V1_0_0));
/// assert_eq!(stdout, error.to_json().into_bytes());
/// ```
pub fn dispatch(plugin: &dyn Plugin, env: Env, stdio: Stdio<'_>) -> Outcome {
    let Stdio { stdin, stdout, stderr } = stdio;
    if variable(&env, "CNI_COMMAND").is_none() {
        // A broken stderr is no reason to fail: there is nobody to tell.
        let _ = write!(
            stderr,
            "{}\nCNI protocol versions supported: {}\n",
            plugin.about(),
            list(plugin.versions())
        );
        return Outcome::About;
    }
    // The version of the answer, as soon as it is known: errors carry it too.
    let mut version = None;
    let answer = catch_unwind(AssertUnwindSafe(|| answer(plugin, env, stdin, &mut version)));
    let answer = answer.unwrap_or_else(|panic| Err(panicked(&*panic)));
    let (text, added, outcome) = match answer {
        Ok(Answer { text, added }) => (text, added, Outcome::Done),
        Err(error) => {
            let error = version.iter().fold(error, |error, version| error.with_version(version));
            (error.to_json(), None, Outcome::Failed(error))
        }
    };
    match (stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()), outcome) {
        (Err(error), Outcome::Done) => {
            // Nobody will know what was made. What cannot be taken back either is the runtime's DEL's.
            if let Some(request) = added {
                let _ = catch_unwind(AssertUnwindSafe(|| plugin.del(&del_request(request)?)));
            }
            Outcome::Failed(Error::io(format!("write the answer to stdout: {error}")))
        }
        (_, outcome) => outcome,
    }
}

/// What a success has to say.
#[derive(Default)]
struct Answer {
    /// Empty for commands that need no words.
    text: String,
    /// The ADD that it is the answer to.
    added: Option<Request>,
}

fn answer(
    plugin: &dyn Plugin,
    env: Env,
    stdin: &mut dyn Read,
    version: &mut Option<String>,
) -> Result<Answer, Error> {
    let command = command(&env);
    if command == Ok(Command::Version) {
        return Ok(Answer { text: versions(plugin, stdin), added: None });
    }
    // stdin is read before anything else is complained about, since only it knows the version to complain in.
    let input = read(stdin);
    *version = input.as_ref().ok().map(|(_, document)| version_asked(document));
    let command = command?;
    require(&env, command)?;
    let (stdin, document) = input?;
    let config = config(document, command, plugin.versions())?;
    call(plugin, command, Invocation::new(env, stdin, config.cni_version()), config)
}

fn call(
    plugin: &dyn Plugin,
    command: Command,
    invocation: Invocation,
    config: NetworkConfig,
) -> Result<Answer, Error> {
    match command {
        Command::Add => {
            let version = config.cni_version();
            let request = request(config, invocation)?;
            if !may_use_own_netns(request.invocation.env()) {
                netns::refuse_own(&request.netns)?;
            }
            let text = plugin.add(&request)?.to_json(version);
            return Ok(Answer { text, added: Some(request) });
        }
        Command::Check => plugin.check(&request(config, invocation)?)?,
        Command::Del => plugin.del(&del_request(request(config, invocation)?)?)?,
        Command::Gc => {
            let valid_attachments = config.valid_attachments()?;
            plugin.gc(&GcRequest { valid_attachments, config, invocation })?;
        }
        Command::Status => plugin.status(&StatusRequest { config, invocation })?,
        Command::Version => {}
    }
    Ok(Answer::default())
}

fn request(config: NetworkConfig, invocation: Invocation) -> Result<Request, Error> {
    let env = invocation.env();
    Ok(Request {
        container_id: name(env, "CNI_CONTAINERID")?,
        netns: variable(env, "CNI_NETNS").unwrap_or_default().into(),
        if_name: name(env, "CNI_IFNAME")?,
        // What is not UTF-8 is in no key that a plugin knows, and makes the value of any key malformed.
        args: CniArgs::parse(&variable(env, "CNI_ARGS").unwrap_or_default().to_string_lossy()),
        config,
        invocation,
    })
}

fn del_request(request: Request) -> Result<DelRequest, Error> {
    let netns = match request.netns {
        none if none.as_os_str().is_empty() => None,
        some if may_use_own_netns(request.invocation.env()) => Some(some),
        some => netns::if_it_exists(some)?,
    };
    let Request { container_id, netns: _, if_name, args, config, invocation } = request;
    Ok(DelRequest { container_id, netns, if_name, args, config, invocation })
}

/// The answer to `VERSION`, in the version that was asked for if the plugin speaks it.
///
/// Whatever else is on stdin is not looked at: runtimes ask before they have anything valid to say. Reading stops with
/// the document, so that nobody must close the pipe.
fn versions(plugin: &dyn Plugin, stdin: &mut dyn Read) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Question {
        cni_version: String,
    }
    let bounded = stdin.take(STDIN_LIMIT as u64);
    let question = serde_json::Deserializer::from_reader(bounded).into_iter::<Question>().next();
    let asked = question.and_then(Result::ok).and_then(|question| question.cni_version.parse().ok());
    let spoken = asked.filter(|version| plugin.versions().contains(version));
    let newest = || plugin.versions().iter().max().copied().unwrap_or(SpecVersion::LATEST);
    let answer = VersionResult::new(spoken.unwrap_or_else(newest), plugin.versions());
    let mut text = serde_json::to_string(&answer).unwrap_or_default();
    text.push('\n');
    text
}

fn command(env: &Env) -> Result<Command, Error> {
    let text = variable(env, "CNI_COMMAND").unwrap_or_default().to_string_lossy();
    text.parse()
        .map_err(|_| Error::environment("CNI_COMMAND is unknown").with_details(excerpt(OsStr::new(&*text))))
}

/// All of stdin, and the document in it.
fn read(stdin: &mut dyn Read) -> Result<(Vec<u8>, Object), Error> {
    let mut bytes = Vec::new();
    stdin
        .take(STDIN_LIMIT as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io(format!("read the network configuration from stdin: {error}")))?;
    if bytes.len() > STDIN_LIMIT {
        return Err(Error::decoding(format!(
            "the network configuration on stdin is larger than {STDIN_LIMIT} bytes"
        )));
    }
    let document = json::parse_object(&bytes).map_err(|reason| {
        Error::decoding(format!("the network configuration on stdin cannot be read: {reason}"))
    })?;
    Ok((bytes, document))
}

/// The version to answer in, whether it is a version or not, within reason.
fn version_asked(document: &Object) -> String {
    let asked = version_text(document).ok().flatten().unwrap_or(SpecVersion::V0_1_0.as_str());
    asked.chars().take(32).collect()
}

fn require(env: &Env, command: Command) -> Result<(), Error> {
    let required: &[&str] = match command {
        Command::Add | Command::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
        Command::Del => &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
        Command::Gc | Command::Status => &["CNI_PATH"],
        Command::Version => &[],
    };
    let missing: Vec<&str> = required.iter().copied().filter(|name| variable(env, name).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::environment(format!("environment variables are missing or empty: {}", missing.join(", "))))
}

fn config(document: Object, command: Command, spoken: &[SpecVersion]) -> Result<NetworkConfig, Error> {
    let asked = version_asked(&document);
    let incompatible = || {
        Error::new(ErrorCode::INCOMPATIBLE_VERSION, "incompatible CNI versions")
            .with_details(format!("the configuration asks for {asked:?}, the plugin speaks {}", list(spoken)))
    };
    let config = NetworkConfig::from_document(document).map_err(|error| match error.code() {
        ErrorCode::INCOMPATIBLE_VERSION => incompatible(),
        _ => error,
    })?;
    let version = config.cni_version();
    if !spoken.contains(&version) {
        return Err(incompatible());
    }
    if !version.knows(command) {
        let msg = format!("CNI {version} has no {command}");
        return Err(Error::new(ErrorCode::INCOMPATIBLE_VERSION, msg)
            .with_details(format!("the command exists since CNI {}", command.since())));
    }
    Ok(config)
}

/// A variable that is set and not empty: runtimes set variables that have no meaning for a command to "".
fn variable<'a>(env: &'a Env, name: &str) -> Option<&'a OsStr> {
    env.get(name).filter(|value| !value.is_empty())
}

fn name<T: FromStr<Err = NameError>>(env: &Env, variable_name: &str) -> Result<T, Error> {
    let value = variable(env, variable_name).unwrap_or_default();
    let wrong = |why: &dyn fmt::Display| {
        Error::environment(format!("{variable_name}: {why}")).with_details(excerpt(value))
    };
    let text = value.to_str().ok_or_else(|| wrong(&"it is not UTF-8"))?;
    text.parse().map_err(|error| wrong(&error))
}

/// A value for people to see, when it may be a megabyte of anything.
fn excerpt(value: &OsStr) -> String {
    let text = value.to_string_lossy();
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(300).collect();
    format!("the value is {start:?}{}", if chars.next().is_some() { "…" } else { "" })
}

/// The switch of the reference for plugins that are meant to work on the host.
fn may_use_own_netns(env: &Env) -> bool {
    let value = env.get("CNI_NETNS_OVERRIDE").unwrap_or_default();
    value == "1" || value.eq_ignore_ascii_case("true")
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::internal(format!("the plugin panicked: {}", text.unwrap_or("without a text")))
        .with_details("this is a bug in the plugin; stderr says where")
}
