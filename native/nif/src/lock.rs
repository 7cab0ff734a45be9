//! An advisory lock on a file, held as long as its resource lives.
//!
//! The kernel drops it when the VM ends, however it ends, so a killed host never leaves a stale lock behind.

use rustler::{Atom, Binary, Encoder, Env, Resource, ResourceArc, Term};
use std::fs::{File, OpenOptions, TryLockError};
use std::sync::Mutex;

mod atoms {
    rustler::atoms! { ok, error, locked, not_utf8, io }
}

pub struct Lock(Mutex<Option<File>>);

#[rustler::resource_impl]
impl Resource for Lock {}

/// Takes the lock of the file at `path`, which is made if it is not there.
#[rustler::nif(schedule = "DirtyIo")]
fn lock<'a>(env: Env<'a>, path: Binary) -> Term<'a> {
    let Ok(path) = std::str::from_utf8(path.as_slice()) else {
        return (atoms::error(), atoms::not_utf8()).encode(env);
    };
    let file = match open(path) {
        Ok(file) => file,
        Err(_) => return (atoms::error(), atoms::io()).encode(env),
    };
    match file.try_lock() {
        Ok(()) => (atoms::ok(), ResourceArc::new(Lock(Mutex::new(Some(file))))).encode(env),
        Err(TryLockError::WouldBlock) => (atoms::error(), atoms::locked()).encode(env),
        Err(TryLockError::Error(_)) => (atoms::error(), atoms::io()).encode(env),
    }
}

/// Gives the lock back before its resource is collected.
#[rustler::nif(schedule = "DirtyIo")]
fn unlock(lock: ResourceArc<Lock>) -> Atom {
    // A poisoned mutex still holds the file; dropping it is all there is to do.
    let mut held = lock.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    held.take();
    atoms::ok()
}

fn open(path: &str) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}
