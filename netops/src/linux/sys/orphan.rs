//! Processes of their own, which nobody waits for: orphans, in sessions of their own, that hold no descriptors but some.
//!
//! Each is made by a process between, of which it is the child, so that it becomes init's when that ends, or whoever's takes in the
//! orphans here: a process that does so itself (PID 1, `PR_SET_CHILD_SUBREAPER`) is refused, for it would have to reap it.
//!
//! The process between borrows this one's memory while the thread that makes it waits (`vfork(2)`). The orphan that sends a datagram
//! borrows it for as long as it runs, beside this process, which costs half of what copying its page tables does (`fork(2)`), and no
//! copy of each page that is written to afterwards; so it must do nothing but make system calls, and not even by way of the C
//! library, which would write their error numbers into a variable of this process's thread.

use std::ffi::{c_int, c_long, c_uint, c_void};
use std::iter;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::prctl::get_child_subreaper;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::time::TimeSpec;
use nix::unistd::getpid;

use super::wait_for;

/// Bytes for the stack of one that makes a few system calls.
const SMALL: usize = 16 * 1024;
/// Of one that does other work.
const LARGE: usize = 256 * 1024;

/// What an orphan shares with the process that leaves it something to do, which is told when that is over. It has a copy where nobody
/// has written its system calls down, and of C libraries that make no process which tells (musl's `clone` refuses).
const SHARED: c_int = if cfg!(all(target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64"))) {
    libc::CLONE_VM | libc::CLONE_CHILD_CLEARTID
} else {
    0
};

/// Memory for a stack, of which nothing is touched beforehand. Where it is shared, all signals are blocked: no handler runs on it.
struct Stack(Vec<u8>);

impl Stack {
    fn of(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Where it begins: it grows downwards, from a multiple of 16.
    fn top(&self) -> *mut c_void {
        let end = self.0.as_ptr().cast_mut().wrapping_add(self.0.capacity());
        end.map_addr(|end| end & !15).cast()
    }
}

/// What an orphan has to do, and where it runs. It stays in its place for as long as that one does.
struct Errand {
    /// Not zero while somebody is out on it; the kernel makes it zero when that one has no use for this memory any more
    /// (`CLONE_CHILD_CLEARTID`).
    out: AtomicU32,
    /// In ascending order.
    keep: Vec<RawFd>,
    /// Whether all other descriptors have been closed by the process between.
    closed: AtomicBool,
    message: Option<(RawFd, Vec<u8>)>,
    late: Option<(RawFd, libc::timespec)>,
    stack: Stack,
}

/// Errands on which somebody is out, or was.
static ERRANDS: Mutex<Vec<Sent>> = Mutex::new(Vec::new());

struct Sent(NonNull<Errand>);

// SAFETY: it is looked at, and freed, by whoever holds the lock of `ERRANDS`.
unsafe impl Send for Sent {}

impl Sent {
    fn is_over(&self) -> bool {
        // SAFETY: it is freed only after this has said so, by who then forgets it.
        unsafe { self.0.as_ref() }.out.load(Ordering::Acquire) == 0
    }
}

/// Leaves some descriptors, and the sending of a datagram through one of them, to a process of its own, which nobody
/// waits for: an orphan in a session of its own, that holds no others, and closes them when the `send` has returned,
/// whatever came of it; one of them a while later, less than a second.
///
/// Whoever has the other end of a pipe among them sees when that is.
pub(in crate::linux) fn leave_to_an_orphan(
    keep: &[BorrowedFd<'_>],
    message: Option<(BorrowedFd<'_>, &[u8])>,
    late: Option<(BorrowedFd<'_>, Duration)>,
) -> Result<(), Errno> {
    if takes_in_orphans() {
        return Err(Errno::ECHILD);
    }
    let (sender, last) = (message.map(|(socket, _)| socket), late.map(|(last, _)| last));
    let time = |time| *TimeSpec::from_duration(time).as_ref();
    let errand = Box::new(Errand {
        out: AtomicU32::new(1),
        keep: ascending(keep.iter().chain(&sender).chain(&last)),
        closed: AtomicBool::new(false),
        message: message.map(|(socket, datagram)| (socket.as_raw_fd(), datagram.to_vec())),
        late: late.map(|(last, later)| (last.as_raw_fd(), time(later))),
        stack: Stack::of(SMALL),
    });
    let sent = Sent(NonNull::from(Box::leak(errand)));
    // SAFETY: nobody frees it before it is among the others below, and then not as long as somebody is out on it.
    let errand = unsafe { sent.0.as_ref() };
    let flags = SHARED | libc::SIGCHLD;
    let (orders, nothing) = (ptr::from_ref(errand).cast_mut().cast(), ptr::null_mut::<c_void>());
    // SAFETY: nothing else runs on the stack, for as long as the errand is not over; what does makes system calls and no more.
    let make = |closed| unsafe {
        errand.closed.store(closed, Ordering::Release);
        libc::clone(run, errand.stack.top(), flags, orders, nothing, nothing, errand.out.as_ptr())
    };
    // SAFETY: it is a system call.
    let outcome = unsafe { by_another(SMALL, &errand.keep, make) };
    if SHARED == 0 || matches!(outcome, Outcome::Failed(_)) {
        errand.out.store(0, Ordering::Release);
    }
    let mut errands = ERRANDS.lock().unwrap_or_else(PoisonError::into_inner);
    errands.push(sent);
    for over in errands.extract_if(.., |sent| sent.is_over()) {
        // SAFETY: it was a box, and the one who ran in it has ended.
        drop(unsafe { Box::from_raw(over.0.as_ptr()) });
    }
    outcome.into()
}

/// Whether the orphans of this process's children become its own.
fn takes_in_orphans() -> bool {
    getpid().as_raw() == 1 || get_child_subreaper().unwrap_or(false)
}

/// The orphan.
extern "C" fn run(orders: *mut c_void) -> c_int {
    // SAFETY: an errand, which nobody changes or frees before this process has ended; and these system calls write to no memory.
    unsafe {
        let errand = &*orders.cast::<Errand>();
        call(libc::SYS_setsid, [0; 6]);
        if !errand.closed.load(Ordering::Acquire) {
            close_all_but(&errand.keep);
        }
        if let Some((socket, datagram)) = &errand.message {
            let (datagram, length) = (datagram.as_ptr().expose_provenance(), datagram.len());
            call(libc::SYS_sendto, [*socket as usize, datagram, length, 0, 0, 0]);
        }
        if let Some((last, time)) = &errand.late {
            close_all_but(std::slice::from_ref(last));
            call(libc::SYS_nanosleep, [ptr::from_ref(time).expose_provenance(), 0, 0, 0, 0, 0]);
        }
        call(libc::SYS_exit_group, [0; 6]);
    }
    0
}

/// A system call, and what it returns: a negative error number if it failed.
///
/// # Safety
/// As the call's own.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: c_long, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let mut result = number as isize;
    // SAFETY: the caller's; `syscall` itself changes these registers only (the System V ABI's supplement for this processor, A.2).
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// A system call, and what it returns: a negative error number if it failed.
///
/// # Safety
/// As the call's own.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: c_long, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let mut result = a as isize;
    // SAFETY: the caller's; `svc` itself changes this register only (`syscall(2)`).
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    result
}

/// A system call, and what it returns: a negative error number if it failed. In an orphan of its own memory, the C library may
/// write where it likes.
///
/// # Safety
/// As the call's own.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn call(number: c_long, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    // SAFETY: the caller's.
    match unsafe { libc::syscall(number, a, b, c, d, e, f) } {
        -1 => -(Errno::last_raw() as isize),
        result => result as isize,
    }
}

/// Leaves some work to a process of its own, which nobody waits for, as [`leave_to_an_orphan`] does; it has a copy of this one's
/// memory. Only a process of one thread can: of others, what they were holding when the new process was made would never
/// be let go there. Any other has the work given back.
pub(in crate::linux) fn let_an_orphan<W: FnOnce()>(
    keep: &[BorrowedFd<'_>],
    work: W,
) -> Result<Result<(), Errno>, W> {
    if !is_only_thread() {
        return Err(work);
    }
    if takes_in_orphans() {
        return Ok(Err(Errno::ECHILD));
    }
    let keep = ascending(keep.iter());
    let mask = SigSet::thread_get_mask();
    // The process between must not drop it: what it holds is this one's, memory and descriptors.
    let mut work = Some(work);
    let make = |closed: bool| {
        // SAFETY: there is no other thread, and this one holds nothing that `work` could want: it was called from safe code.
        let orphan = unsafe { libc::fork() };
        if orphan == 0 {
            // SAFETY: this process uses no descriptor but those that it keeps, and ends in _exit(2), so that nothing is run twice.
            unsafe {
                libc::setsid();
                if !closed {
                    close_all_but(&keep);
                }
                let _ = mask.map(|mask| mask.thread_set_mask());
                // What would come after here is the first process's, not the orphan's.
                let _ = catch_unwind(AssertUnwindSafe(|| work.take().map(|work| work())));
                libc::_exit(0)
            }
        }
        orphan
    };
    // SAFETY: what is not a system call is done by a process of its own memory.
    Ok(unsafe { by_another(LARGE, &keep, make) }.into())
}

/// What came of making a process by another.
enum Outcome {
    Made,
    /// There is nobody.
    Failed(Errno),
    /// The one between was killed, before or after it had made it.
    Unknown,
}

impl From<Outcome> for Result<(), Errno> {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Made => Ok(()),
            Outcome::Failed(errno) => Err(errno),
            Outcome::Unknown => Err(Errno::EINTR),
        }
    }
}

/// Has a process made by another, which makes it and ends. That one has a stack of so many bytes, and the process that it makes, a
/// copy of it, unless it is given one of its own. Of all descriptors it closes those that are not to be kept, where the kernel does so
/// at once, and says whether it did: what others wait for to be closed is closed when this returns, also if the orphan has yet to begin.
///
/// # Safety
/// What makes it must make nothing but system calls, in any process that shares this one's memory.
unsafe fn by_another<F: FnMut(bool) -> libc::pid_t>(bytes: usize, keep: &[RawFd], make: F) -> Outcome {
    extern "C" fn run<F: FnMut(bool) -> libc::pid_t>(orders: *mut c_void) -> c_int {
        // SAFETY: it is what is handed over below, to nobody else.
        let (make, keep, outcome) = unsafe { &mut *orders.cast::<(F, &[RawFd], Outcome)>() };
        // SAFETY: it uses none, and has a table of its own of them.
        let closed = unsafe { close_quickly(keep) };
        *outcome = match Errno::result(make(closed)) {
            Ok(_) => Outcome::Made,
            Err(errno) => Outcome::Failed(errno),
        };
        0
    }

    let stack = Stack::of(bytes);
    let mut orders = (make, keep, Outcome::Unknown);
    // Its end is told to nobody else (no `SIGCHLD`): who waits for any child of theirs does not find it.
    let flags = libc::CLONE_VM | libc::CLONE_VFORK;
    // A signal's handler would run in either process, too, on these stacks and with this thread's variables.
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    // SAFETY: nothing else runs on the stack, and this thread not at all, before that process has ended.
    let child = unsafe { libc::clone(run::<F>, stack.top(), flags, (&raw mut orders).cast()) };
    let child = Errno::result(child);
    if let Ok(mask) = mask {
        let _ = mask.thread_set_mask();
    }
    match child {
        // Should somebody have reaped it for us, it has ended all the same.
        Ok(child) => drop(wait_for(child)),
        Err(errno) => return Outcome::Failed(errno),
    }
    orders.2
}

/// Whether the process has no other thread: then the kernel lets it leave them, which is nothing (`unshare(2)`), and it
/// refuses else. Where that is forbidden, nobody knows.
fn is_only_thread() -> bool {
    // SAFETY: only an integer is passed, and the call has no effect.
    unsafe { libc::unshare(libc::CLONE_THREAD) == 0 }
}

fn ascending<'a, 'b: 'a>(descriptors: impl Iterator<Item = &'a BorrowedFd<'b>>) -> Vec<RawFd> {
    let mut descriptors: Vec<_> = descriptors.map(AsRawFd::as_raw_fd).collect();
    descriptors.sort_unstable();
    descriptors.dedup();
    descriptors
}

/// Closes every descriptor but some, which are given in ascending order.
///
/// # Safety
/// The process must use none of those afterwards.
unsafe fn close_all_but(kept: &[RawFd]) {
    // SAFETY: the caller's.
    between(kept).for_each(|(first, last)| unsafe { close_range(first, last) });
}

/// The same, where the kernel does it at once: whether it does.
///
/// # Safety
/// The process must use none of those afterwards.
unsafe fn close_quickly(kept: &[RawFd]) -> bool {
    // SAFETY: the caller's.
    between(kept).all(|(first, last)| unsafe { close_range_at_once(first, last) })
}

/// The ranges of all descriptors but some, which are given in ascending order: first and last.
fn between(kept: &[RawFd]) -> impl Iterator<Item = (c_uint, c_uint)> {
    let kept = kept.iter().map(|kept| kept.cast_unsigned());
    let starts = iter::once(0).chain(kept.clone().map(|kept| kept + 1));
    let ends = kept.map(|kept| kept.checked_sub(1)).chain([Some(c_uint::MAX)]);
    starts.zip(ends).filter_map(|(first, last)| last.filter(|last| first <= *last).map(|last| (first, last)))
}

/// Whether the kernel does so (Linux 5.9).
///
/// # Safety
/// The process must use none of them afterwards.
unsafe fn close_range_at_once(first: c_uint, last: c_uint) -> bool {
    // SAFETY: the caller's; no memory refers to them.
    unsafe { call(libc::SYS_close_range, [first as usize, last as usize, 0, 0, 0, 0]) == 0 }
}

/// # Safety
/// The process must use none of them afterwards.
unsafe fn close_range(first: c_uint, last: c_uint) {
    // SAFETY: the caller's; no memory refers to them.
    unsafe {
        if !close_range_at_once(first, last) {
            // Before Linux 5.9. Descriptors are handed out from below.
            for descriptor in first..=last.min(OPEN_FILES) {
                call(libc::SYS_close, [descriptor as usize, 0, 0, 0, 0, 0]);
            }
        }
    }
}

/// As many as a process commonly may have open.
const OPEN_FILES: c_uint = 65_536;
