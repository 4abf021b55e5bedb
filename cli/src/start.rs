//! What comes before [`run`](super::run). A Rust program's own start also finds out where its stack ends, in `/proc/self/maps`, and
//! sets handlers that tell of its overflow: a dozen system calls, and a twentieth of the time of a plugin that is executed
//! several times for each pod. Nothing here recurses without a bound.

use std::ffi::c_int;
use std::fs::File;
use std::io::{stderr, stdin, stdout};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
use std::process::ExitCode;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_timerslack;
use nix::sys::signal::{SigSet, Signal};

/// Where the C library begins. It tells the standard library of arguments and environment itself.
#[expect(unsafe_code, reason = "the name is the C library's, and nothing else here has it")]
#[unsafe(no_mangle)]
extern "C" fn main() -> c_int {
    open_standard_streams();
    // Who does not listen to the answer is an error that a plugin can do something about, not its end.
    let _ = SigSet::from(Signal::SIGPIPE).thread_block();
    // What a plugin waits for takes microseconds: the kernel must not add fifty to each look.
    let _ = set_timerslack(1);
    c_int::from(super::run() != ExitCode::SUCCESS)
}

/// What is opened next must not be taken for one of them, if a runtime has left it closed.
fn open_standard_streams() {
    let (stdin, stdout, stderr) = (stdin(), stdout(), stderr());
    let streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let mut streams = streams.map(|stream| PollFd::new(stream, PollFlags::empty()));
    let _ = poll(&mut streams, PollTimeout::ZERO);
    let is_closed =
        |stream: &PollFd<'_>| stream.revents().is_some_and(|events| events.contains(PollFlags::POLLNVAL));
    if streams.iter().any(is_closed) {
        while let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
            if null.as_raw_fd() > 2 {
                break;
            }
            let _ = null.into_raw_fd();
        }
    }
}
