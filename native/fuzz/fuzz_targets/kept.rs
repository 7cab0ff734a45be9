//! Whatever bytes stand for a kept part and for a block: what is read can be checked, compared and mended with.
#![no_main]
use event_seal_core::kept::{Kept, Place, compare, cut, mend};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let place = Place {
        height: 0,
        before: None,
    };
    let _ = compare(bytes, &[], &place);
    if let Ok(part) = cut(bytes, 0..bytes.len() as u64) {
        let _ = compare(&part, bytes, &place);
        if let Ok(kept) = Kept::decode(&part) {
            let _ = mend(&kept, bytes);
        }
    }
    if let Ok(kept) = Kept::decode(bytes) {
        let _ = kept.flaw(&place);
        let _ = kept.flaw(&Place {
            height: 1,
            before: Some(&kept),
        });
        let _ = mend(&kept, bytes);
    }
});
