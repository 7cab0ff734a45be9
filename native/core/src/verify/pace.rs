//! Holding a verification to a budget a second.
use std::time::{Duration, Instant};

/// So much of what was left unused is made up for later; more would be a burst.
const SAVED: Duration = Duration::from_secs(1);

/// What may be used of something, events or bytes, a second. It knows no clock: whoever uses says when.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    rate: u64,
    /// What was used so far is paid for then.
    due: Instant,
}

impl Pace {
    /// So much a second from now on; 0 counts as 1.
    pub fn new(rate: u64, now: Instant) -> Pace {
        Pace {
            rate: rate.max(1),
            due: now,
        }
    }

    /// So much was used. Until the instant that is returned, whoever used it must rest.
    pub fn take(&mut self, used: u64, now: Instant) -> Instant {
        let nanoseconds = u128::from(used) * 1_000_000_000 / u128::from(self.rate);
        let cost = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let from = now
            .checked_sub(SAVED)
            .map_or(self.due, |least| least.max(self.due));
        self.due = from.checked_add(cost).unwrap_or(from);
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn each_use_is_paid_for_whoever_it_is_and_whenever_it_comes() {
        let start = Instant::now();
        let mut pace = Pace::new(1_000, start);
        assert_eq!(pace.take(500, start), start + ms(500));
        assert_eq!(pace.take(500, start), start + ms(1_000));
        assert_eq!(pace.take(1, start + ms(700)), start + ms(1_001));
        assert_eq!(pace.take(0, start + ms(1_001)), start + ms(1_001));
    }

    #[test]
    fn a_little_idleness_is_made_up_for_and_a_long_one_is_no_burst() {
        let start = Instant::now();
        let mut pace = Pace::new(1_000, start);
        assert_eq!(pace.take(300, start + ms(900)), start + ms(300));
        let late = start + ms(3_600_000);
        assert_eq!(pace.take(1_000, late), late);
        assert_eq!(pace.take(1_000, late), late + ms(1_000));
    }

    #[test]
    fn no_rate_and_no_use_is_too_great() {
        let start = Instant::now();
        assert!(Pace::new(0, start).take(1, start) == start + ms(1_000));
        assert!(Pace::new(1, start).take(u64::MAX, start) >= start);
        assert_eq!(Pace::new(u64::MAX, start).take(1, start), start);
    }
}
