//! How a run is watched, held to a budget and stopped.

use crate::terms::atoms;
use event_seal_core::verify::{Control, Pace};
use rustler::{Atom, NifResult, Resource, ResourceArc};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

/// What one verification may use a second, in all its calls and on all their threads together.
pub struct Budget {
    bytes: bool,
    pace: Mutex<Pace>,
}

impl Budget {
    pub fn new((rate, unit): (u64, Atom)) -> NifResult<Budget> {
        if rate == 0 || ![atoms::events(), atoms::bytes()].contains(&unit) {
            return Err(rustler::Error::BadArg);
        }
        Ok(Budget {
            bytes: unit == atoms::bytes(),
            pace: Mutex::new(Pace::new(rate, Instant::now())),
        })
    }

    fn take(&self, events: u64, bytes: u64) -> Instant {
        let used = if self.bytes { bytes } else { events };
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.take(used, Instant::now())
    }
}

/// How far a run has come, and whether it is still wanted.
#[derive(Default)]
pub struct Watch {
    stopped: AtomicBool,
    events: AtomicU64,
    bytes: AtomicU64,
    budget: Option<Arc<Budget>>,
    /// Threads that rest do so here, so that a stop wakes them.
    resting: (Mutex<()>, Condvar),
}

impl Watch {
    pub fn new(budget: Option<Arc<Budget>>) -> Watch {
        Watch {
            budget,
            ..Watch::default()
        }
    }

    fn rest(&self, until: Instant) {
        let (lock, woken) = &self.resting;
        let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let time = until.saturating_duration_since(Instant::now());
        drop(woken.wait_timeout_while(guard, time, |()| !self.stopped()));
    }

    fn stop(&self) {
        let (lock, woken) = &self.resting;
        let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.stopped.store(true, Ordering::Relaxed);
        drop(guard);
        woken.notify_all();
    }
}

impl Control for Watch {
    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn advanced(&self, events: u64, bytes: u64) {
        self.events.fetch_add(events, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(budget) = &self.budget {
            self.rest(budget.take(events, bytes));
        }
    }
}

/// A run as its caller holds it. The caller's death, or its forgetting the job, stops the run.
pub struct Job(pub Arc<Watch>);

#[rustler::resource_impl]
impl Resource for Job {}

impl Drop for Job {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// `{events, bytes}` so far.
#[rustler::nif]
fn progress(job: ResourceArc<Job>) -> (u64, u64) {
    (
        job.0.events.load(Ordering::Relaxed),
        job.0.bytes.load(Ordering::Relaxed),
    )
}

/// The run stops, and then answers.
#[rustler::nif]
fn cancel(job: ResourceArc<Job>) -> Atom {
    job.0.stop();
    atoms::ok()
}
