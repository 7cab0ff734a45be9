//! What the order of a container's events says: late flags, and times that must not fall.
use super::events::Part;
use super::fault::FaultClass;
use super::view::View;
use crate::event::{FLAGS_AT, LATE};

/// What is known of the flow before a container, for its late flags.
#[derive(Clone, Copy, Debug)]
pub(super) struct Earlier {
    /// The greatest `when` known.
    pub when_max: Option<i64>,
    /// Whether there is none greater.
    pub exact: bool,
}

/// What the order of events says towards its neighbours.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    pub when_min: Option<i64>,
    pub when_max: Option<i64>,
    /// Whether `when_max` leaves out no event.
    pub exact: bool,
    /// Offset and `recorded_at` of the first sound event; `recorded_at` of the last.
    pub recorded_first: Option<(u64, i64)>,
    pub recorded_last: Option<i64>,
    pub recorded_max: Option<i64>,
    /// Of the events that are greatest so far in the container: the greatest `when` with the late flag, and the least
    /// without. What came before must be in between.
    late_max: Option<i64>,
    prompt_min: Option<i64>,
}

impl Order {
    /// Whether the late flags hold with these events before.
    pub fn fits(&self, earlier: Earlier) -> bool {
        let prompt = self.prompt_min.is_none_or(|when| Some(when) >= earlier.when_max);
        let late = !earlier.exact || self.late_max.is_none_or(|when| Some(when) < earlier.when_max);
        prompt && late
    }

    fn take(&mut self, i: u64, when: i64, recorded_at: i64, late: bool) {
        if Some(when) >= self.when_max {
            if late {
                self.late_max = self.late_max.max(Some(when));
            } else {
                self.prompt_min = Some(self.prompt_min.map_or(when, |least| least.min(when)));
            }
        }
        self.when_min = Some(self.when_min.map_or(when, |least| least.min(when)));
        self.when_max = self.when_max.max(Some(when));
        self.recorded_first = self.recorded_first.or(Some((i, recorded_at)));
        self.recorded_last = Some(recorded_at);
        self.recorded_max = self.recorded_max.max(Some(recorded_at));
    }
}

impl View<'_> {
    /// Late flags, and times that must not fall. Events whose fields cannot be relied upon are left out.
    pub(super) fn order(&self, earlier: Earlier, part: &mut Part) -> Order {
        let Earlier {
            mut when_max,
            mut exact,
        } = earlier;
        let mut order = Order {
            exact: true,
            ..Order::default()
        };
        let unsound = std::mem::take(&mut part.unsound);
        for i in 0..self.container.count() {
            if unsound.binary_search(&i).is_ok() {
                (exact, order.exact) = (false, false);
                continue;
            }
            let (when, recorded_at, late) = times_of(self.container.frame(i));
            let must = when_max > Some(when);
            if late != must && (must || exact) {
                part.fault(i, FaultClass::Late, late, must);
            }
            if order.recorded_last > Some(recorded_at) {
                part.fault(
                    i,
                    FaultClass::RecordedAt,
                    recorded_at,
                    order.recorded_last.unwrap_or_default(),
                );
            }
            order.take(i as u64, when, recorded_at, late);
            when_max = when_max.max(Some(when));
        }
        order
    }
}

/// `when`, `recorded_at` and the late flag, where they stand in every frame.
fn times_of(frame: &[u8]) -> (i64, i64, bool) {
    let time = |at: usize| {
        let bytes = frame.get(at..).and_then(<[u8]>::first_chunk).copied();
        i64::from_be_bytes(bytes.unwrap_or_default())
    };
    (
        time(16),
        time(24),
        frame.get(FLAGS_AT).is_some_and(|flags| flags & LATE != 0),
    )
}
