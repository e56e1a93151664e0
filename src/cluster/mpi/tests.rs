//! Runs transfers with functions in place of an MPI library, each in a process of its own.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use super::*;

/// Environment variable that makes a test do the work of its child process.
const CHILD: &str = "POLYVIEW_TEST_MPI_CHILD";
/// Exit status of a child process whose transfer returned.
const RETURNED: i32 = 7;
/// SIGABRT.
const ABORTED: i32 = 6;

unsafe extern "C" fn init(
    _: *mut c_int,
    _: *mut *mut *mut c_char,
    _: c_int,
    _: *mut c_int,
) -> c_int {
    0
}

unsafe extern "C" fn number(_: c_int, _: *mut c_int) -> c_int {
    0
}

unsafe extern "C" fn started(
    _: *mut c_void,
    _: c_int,
    _: c_int,
    _: c_int,
    _: c_int,
    _: c_int,
    _: *mut c_int,
) -> c_int {
    0
}

unsafe extern "C" fn fails(_: *mut c_int, _: *mut c_int, _: *mut Status) -> c_int {
    5
}

unsafe extern "C" fn done(_: *mut c_int, done: *mut c_int, _: *mut Status) -> c_int {
    // SAFETY: the caller passes a valid pointer.
    unsafe { *done = 1 };
    0
}

unsafe extern "C" fn abort(_: c_int, _: c_int) -> c_int {
    0
}

unsafe extern "C" fn finalize() -> c_int {
    0
}

/// Returns an MPI without other processes whose MPI_Test is `test`.
fn fake(test: unsafe extern "C" fn(*mut c_int, *mut c_int, *mut Status) -> c_int) -> Mpi {
    let (send, receive) = (started, started);
    let calls = Calls::Numbers(Functions {
        world: 0,
        byte: 0,
        init,
        rank: number,
        size: number,
        send,
        receive,
        test,
        abort,
        finalize,
    });
    let library: Library = libloading::os::unix::Library::this().into();
    let library = Box::leak(Box::new(library));
    Mpi { calls, _library: library, _here: std::marker::PhantomData }
}

/// Calls `work` in a child process, by running only the test named `test` there.
fn in_child(test: &str, work: impl FnOnce()) -> ExitStatus {
    if std::env::var_os(CHILD).is_some() {
        work();
        std::process::exit(RETURNED);
    }
    let name = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", &name, "--nocapture"]).env(CHILD, "1").output().unwrap().status
}

/// Receives two bytes with an MPI whose test is `test`, in a child process.
fn received(
    name: &str,
    test: unsafe extern "C" fn(*mut c_int, *mut c_int, *mut Status) -> c_int,
    failed: &dyn Fn(&ClusterError),
) -> ExitStatus {
    in_child(name, || {
        let mut bytes = [0; 2];
        let transfer = std::panic::AssertUnwindSafe(|| {
            fake(test).transfer(&[], vec![(1, &mut bytes[..])], &mut |_, _| {}, failed);
        });
        drop(std::panic::catch_unwind(transfer));
    })
}

#[test]
fn a_transfer_returns_once_all_operations_are_done() {
    let name = "a_transfer_returns_once_all_operations_are_done";
    let status = received(name, done, &|error| panic!("{error}"));
    assert_eq!(status.code(), Some(RETURNED));
}

#[test]
fn a_failed_transfer_does_not_return() {
    let status = received("a_failed_transfer_does_not_return", fails, &|_| {});
    assert_eq!(status.signal(), Some(ABORTED));
}

#[test]
fn a_failed_transfer_does_not_unwind() {
    let name = "a_failed_transfer_does_not_unwind";
    let status = received(name, fails, &|error| panic!("{error}"));
    assert_eq!(status.signal(), Some(ABORTED));
}
