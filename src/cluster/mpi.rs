//! The few MPI functions that polyview calls, from a library that is opened at run time, so that
//! one binary works with every MPI. All `unsafe` code of the cluster is here.
//!
//! Three ABIs are supported: Open MPI's, MPICH's (also used by Intel and Cray), and the standard ABI of
//! MPI 5. As far as used here, they only differ in the types of handles and the values of constants.

#![allow(unsafe_code, reason = "calls of a C library")]

use std::ffi::{CStr, c_char, c_int, c_void};

use libloading::Library;

use super::ClusterError;

/// MPI_THREAD_FUNNELED: only the thread that initialised MPI calls it. Same value in all ABIs.
const FUNNELED: c_int = 1;
/// Buffer that is larger than any ABI's MPI_Status.
type Status = [u64; 16];

/// ABI of an MPI library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abi {
    OpenMpi,
    Mpich,
    Standard,
}

/// Handle of an operation that has been started.
#[derive(Debug)]
struct Request(usize);

/// An initialised MPI. Not [`Send`]: MPI must be called by the thread that initialised it.
pub(super) struct Mpi {
    calls: Calls,
    /// Keeps the library open. It is never closed, as MPI's threads may outlive MPI_Finalize.
    _library: &'static Library,
    _here: std::marker::PhantomData<*const ()>,
}

/// The functions, for each type of handles.
enum Calls {
    Pointers(Functions<usize>),
    Numbers(Functions<c_int>),
}

/// Type of MPI_Isend and MPI_Irecv.
type Transfer<H> = unsafe extern "C" fn(*mut c_void, c_int, H, c_int, c_int, H, *mut H) -> c_int;

struct Functions<H> {
    world: H,
    byte: H,
    init: unsafe extern "C" fn(*mut c_int, *mut *mut *mut c_char, c_int, *mut c_int) -> c_int,
    rank: unsafe extern "C" fn(H, *mut c_int) -> c_int,
    size: unsafe extern "C" fn(H, *mut c_int) -> c_int,
    /// In C its first argument is a pointer to const, which makes no difference to the call.
    send: Transfer<H>,
    receive: Transfer<H>,
    test: unsafe extern "C" fn(*mut H, *mut c_int, *mut Status) -> c_int,
    abort: unsafe extern "C" fn(H, c_int) -> c_int,
    finalize: unsafe extern "C" fn() -> c_int,
}

/// A type of handles, which can be stored as `usize`.
trait Handle: Copy {
    fn to_usize(self) -> usize;
    fn from_usize(stored: usize) -> Self;
}

impl Handle for usize {
    fn to_usize(self) -> usize {
        self
    }

    fn from_usize(stored: usize) -> Self {
        stored
    }
}

impl Handle for c_int {
    fn to_usize(self) -> usize {
        self as u32 as usize
    }

    fn from_usize(stored: usize) -> Self {
        stored as u32 as Self
    }
}

/// Loads a function from `library`.
///
/// # Safety
/// `F` must be the type of the function.
unsafe fn function<F: Copy>(library: &'static Library, name: &CStr) -> Result<F, ClusterError> {
    // SAFETY: guaranteed by the caller.
    let symbol = unsafe { library.get::<F>(name.to_bytes_with_nul()) };
    let symbol = symbol.map_err(|error| ClusterError::Library { reason: error.to_string() })?;
    Ok(*symbol)
}

impl<H: Handle> Functions<H> {
    /// # Safety
    /// `H` must be the type of the library's handles, and `world` and `byte` its values of
    /// MPI_COMM_WORLD and MPI_BYTE.
    unsafe fn open(library: &'static Library, world: H, byte: H) -> Result<Self, ClusterError> {
        // SAFETY: these are the functions' types in the MPI standard, with the caller's handles.
        unsafe {
            Ok(Self {
                world,
                byte,
                init: function(library, c"MPI_Init_thread")?,
                rank: function(library, c"MPI_Comm_rank")?,
                size: function(library, c"MPI_Comm_size")?,
                send: function(library, c"MPI_Isend")?,
                receive: function(library, c"MPI_Irecv")?,
                test: function(library, c"MPI_Test")?,
                abort: function(library, c"MPI_Abort")?,
                finalize: function(library, c"MPI_Finalize")?,
            })
        }
    }

    fn init(&self) -> Result<(), ClusterError> {
        let mut provided = 0;
        // SAFETY: MPI allows null for both arguments.
        let status = unsafe {
            (self.init)(std::ptr::null_mut(), std::ptr::null_mut(), FUNNELED, &mut provided)
        };
        checked("MPI_Init_thread", status)
    }

    fn number(
        &self,
        name: &'static str,
        call: unsafe extern "C" fn(H, *mut c_int) -> c_int,
    ) -> Result<usize, ClusterError> {
        let mut number = 0;
        // SAFETY: MPI is initialised, and the pointer to write to is valid.
        checked(name, unsafe { call(self.world, &mut number) })?;
        Ok(number as usize)
    }

    /// # Safety
    /// `bytes` must stay valid and untouched until the request is done.
    unsafe fn start(&self, bytes: Bytes, peer: usize, tag: c_int) -> Result<Request, ClusterError> {
        let mut request = H::from_usize(0);
        let (name, call, at, length) = match bytes {
            Bytes::Out(at, length) => ("MPI_Isend", self.send, at.cast_mut(), length),
            Bytes::In(at, length) => ("MPI_Irecv", self.receive, at, length),
        };
        let (length, peer) = (length as c_int, peer as c_int);
        // SAFETY: guaranteed by the caller; the length fits, as pieces are at most `PIECE` long.
        let status =
            unsafe { call(at.cast(), length, self.byte, peer, tag, self.world, &mut request) };
        checked(name, status)?;
        Ok(Request(request.to_usize()))
    }

    fn test(&self, request: &mut Request) -> Result<bool, ClusterError> {
        let mut handle = H::from_usize(request.0);
        let (mut done, mut status): (c_int, Status) = (0, [0; 16]);
        // SAFETY: the request comes from MPI, and the pointers to write to are valid and large enough.
        checked("MPI_Test", unsafe { (self.test)(&mut handle, &mut done, &mut status) })?;
        request.0 = handle.to_usize();
        Ok(done != 0)
    }
}

fn checked(call: &'static str, status: c_int) -> Result<(), ClusterError> {
    if status == 0 { Ok(()) } else { Err(ClusterError::Call { call, status }) }
}

/// Bytes to be sent or buffer to receive into.
#[derive(Debug, Clone, Copy)]
enum Bytes {
    Out(*const u8, usize),
    In(*mut u8, usize),
}

/// Largest number of bytes in one MPI message.
const PIECE: usize = 16 << 20;
/// Tag of all messages, which arrive in the order in which they were sent.
const TAG: c_int = 7;

macro_rules! call {
    ($mpi:expr, $functions:ident => $call:expr) => {
        match &$mpi.calls {
            Calls::Pointers($functions) => $call,
            Calls::Numbers($functions) => $call,
        }
    };
}

impl Mpi {
    /// Opens a library with this ABI and initialises MPI.
    pub(super) fn open(name: &str, abi: Abi) -> Result<Self, ClusterError> {
        let fail = |error: libloading::Error| ClusterError::Library { reason: error.to_string() };
        // Open MPI's components look up the library's symbols in the global namespace.
        #[cfg(unix)]
        // SAFETY: loading a library runs its initialisers, which are MPI's.
        let library: Library = unsafe {
            use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
            Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL).map_err(fail)?.into()
        };
        #[cfg(not(unix))]
        // SAFETY: as above.
        let library = unsafe { Library::new(name).map_err(fail)? };
        let library: &'static Library = Box::leak(Box::new(library));
        // SAFETY: for Open MPI only the addresses of two objects are taken. The constants are those of
        // MPICH's mpi.h and of the MPI 5.0 standard, chapter 20; the handle types match each ABI.
        let calls = unsafe {
            match abi {
                Abi::OpenMpi => {
                    let object = |name: &CStr| {
                        let symbol = library.get::<*const c_void>(name.to_bytes_with_nul());
                        symbol.map(|symbol| symbol.try_as_raw_ptr().map_or(0, |at| at as usize))
                    };
                    let world = object(c"ompi_mpi_comm_world").map_err(fail)?;
                    let byte = object(c"ompi_mpi_byte").map_err(fail)?;
                    Calls::Pointers(Functions::open(library, world, byte)?)
                }
                Abi::Standard => Calls::Pointers(Functions::open(library, 0x101, 0x247)?),
                Abi::Mpich => Calls::Numbers(Functions::open(library, 0x4400_0000, 0x4c00_010d)?),
            }
        };
        let mpi = Self { calls, _library: library, _here: std::marker::PhantomData };
        call!(mpi, functions => functions.init())?;
        Ok(mpi)
    }

    /// Returns the rank of this process.
    pub(super) fn rank(&self) -> Result<usize, ClusterError> {
        call!(self, functions => functions.number("MPI_Comm_rank", functions.rank))
    }

    /// Returns the number of processes.
    pub(super) fn size(&self) -> Result<usize, ClusterError> {
        call!(self, functions => functions.number("MPI_Comm_size", functions.size))
    }

    /// Performs all of these sends and receives, each to or from a rank. Until all are done, `wait`
    /// is called repeatedly with the ranks that are still waited for and whether an operation has
    /// completed since the last call. After an error, `failed` is called to end the process: MPI may still
    /// use the bytes. For the same reason the process is aborted if that returns, or if either of them
    /// panics.
    pub(super) fn transfer(
        &self,
        sends: &[(usize, &[u8])],
        receives: Vec<(usize, &mut [u8])>,
        wait: &mut dyn FnMut(&[usize], bool),
        failed: &dyn Fn(&ClusterError),
    ) {
        /// Aborts the process unless it is forgotten.
        struct Pending;
        impl Drop for Pending {
            fn drop(&mut self) {
                std::process::abort();
            }
        }
        let pending = Pending;
        // SAFETY: the slices are borrowed until this function returns, which it only does after a success.
        match unsafe { self.perform(sends, receives, wait) } {
            Ok(()) => std::mem::forget(pending),
            Err(error) => failed(&error),
        }
    }

    /// Does the work of [`Mpi::transfer`].
    ///
    /// # Safety
    /// After an error or a panic the slices must stay valid and untouched until the process ends.
    unsafe fn perform(
        &self,
        sends: &[(usize, &[u8])],
        receives: Vec<(usize, &mut [u8])>,
        wait: &mut dyn FnMut(&[usize], bool),
    ) -> Result<(), ClusterError> {
        let mut open: Vec<(usize, Request)> = Vec::new();
        let mut start = |rank: usize, bytes: Bytes| {
            // SAFETY: all requests are done when this function succeeds; otherwise guaranteed by the caller.
            let request = call!(self, functions => unsafe { functions.start(bytes, rank, TAG) })?;
            open.push((rank, request));
            Ok(())
        };
        for (rank, bytes) in receives {
            for piece in bytes.chunks_mut(PIECE) {
                start(rank, Bytes::In(piece.as_mut_ptr(), piece.len()))?;
            }
        }
        for (rank, bytes) in sends {
            for piece in bytes.chunks(PIECE) {
                start(*rank, Bytes::Out(piece.as_ptr(), piece.len()))?;
            }
        }
        while !open.is_empty() {
            let before = open.len();
            self.drop_done(&mut open)?;
            let ranks: Vec<usize> = open.iter().map(|(rank, _)| *rank).collect();
            wait(&ranks, open.len() < before);
        }
        Ok(())
    }

    /// Removes the operations that are done, each given with its rank.
    fn drop_done(&self, open: &mut Vec<(usize, Request)>) -> Result<(), ClusterError> {
        let mut failure = None;
        open.retain_mut(|(_, request)| {
            call!(self, functions => functions.test(request)).map_or_else(
                |error| {
                    failure = Some(error);
                    true
                },
                |done| !done,
            )
        });
        failure.map_or(Ok(()), Err)
    }

    /// Aborts all processes.
    pub(super) fn abort(&self, status: u8) -> ! {
        // SAFETY: MPI is initialised.
        call!(self, functions => unsafe { (functions.abort)(functions.world, status.into()) });
        std::process::exit(status.into())
    }

    /// Finalises MPI; a collective call.
    pub(super) fn finalize(&self) {
        // SAFETY: MPI is initialised, and nothing is called after this.
        call!(self, functions => unsafe { (functions.finalize)() });
    }
}

#[cfg(all(test, unix))]
mod tests;
