//! The text of a receipt has one form.
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;

use super::{POLICY, held, receipts, refusal};
use crate::receipt::{Receipt, Refused, verify};
use crate::tests::proof::archive::{value, with};

/// One alone, the last of five, and two with long paths.
static SAMPLES: LazyLock<[String; 4]> =
    LazyLock::new(|| [(1, 0), (5, 4), (17, 6), (64, 33)].map(|(count, index)| receipts(count).remove(index)));

fn what(text: &str) -> &'static str {
    match refusal(text) {
        Refused::Malformed(malformed) => malformed.what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_changed_byte_is_refused() {
    for text in SAMPLES.iter() {
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut changed = text.clone().into_bytes();
                changed[at] ^= 1 << bit;
                assert!(verify(&changed, &POLICY).is_err(), "{at} {bit}");
            }
        }
    }
}

#[test]
fn a_receipt_that_is_cut_at_any_byte_or_goes_on_is_refused() {
    for text in SAMPLES.iter() {
        for at in 0..text.len() {
            assert!(verify(&text.as_bytes()[..at], &POLICY).is_err(), "{at}");
            assert!(verify(&text.as_bytes()[at + 1..], &POLICY).is_err(), "{at}");
        }
        for more in ["\n", " ", "x", "\n\n", text.lines().last().unwrap()] {
            refusal(&(text.clone() + more));
        }
        refusal(&text.replace('\n', "\r\n"));
        refusal(&format!("\u{feff}{text}"));
    }
}

/// Every line taken out, doubled, or exchanged with the next.
#[test]
fn lines_have_one_order() {
    for text in SAMPLES.iter() {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for i in 0..lines.len() {
            let mut without = lines.clone();
            without.remove(i);
            refusal(&without.concat());
            let mut doubled = lines.clone();
            doubled.insert(i, lines[i]);
            refusal(&doubled.concat());
            let mut swapped = lines.clone();
            swapped.swap(i, (i + 1) % lines.len());
            assert!(swapped == lines || held(&swapped.concat()).is_err());
        }
    }
}

#[test]
fn every_edited_value_is_not_what_was_signed() {
    let text = &SAMPLES[2];
    for (key, values) in [
        ("suite", ["blake3", "sha256"]),
        ("genesis", [&"00".repeat(32), &"11".repeat(32)]),
        ("euid", [&"00".repeat(16), &"11".repeat(16)]),
        ("revision", ["60000", "60001"]),
        ("recorded_at", ["-1", "1"]),
        ("commitment", [&"00".repeat(32), &"11".repeat(32)]),
        ("event", [&"00".repeat(32), &"11".repeat(32)]),
        ("standing", ["settled", "retracted"]),
        ("deadline", ["9007199254740991", "9007199254740990"]),
        ("count", ["18", "32"]),
        ("index", ["5", "7"]),
        ("path", [&"00".repeat(32), &"11".repeat(32)]),
    ] {
        for edited in values.map(|value| with(text, key, value)) {
            assert!(
                edited == *text || refusal(&edited) == Refused::Signature,
                "{edited}"
            );
        }
    }
}

#[test]
fn values_beyond_their_range_are_refused_by_name() {
    let text = &SAMPLES[2];
    for (key, value, named) in [
        ("suite", "sha512", "suite"),
        ("genesis", "00", "genesis"),
        ("euid", &*"AA".repeat(16), "euid"),
        ("revision", "65536", "revision"),
        ("revision", "-1", "revision"),
        ("recorded_at", "9007199254740992", "recorded_at"),
        ("recorded_at", "9223372036854775808", "recorded_at"),
        ("recorded_at", "+1", "recorded_at"),
        ("commitment", "", "commitment"),
        ("standing", "fixed", "standing"),
        ("standing", "Pool", "standing"),
        ("deadline", "9007199254740992", "deadline"),
        ("deadline", "01", "deadline"),
        ("count", "0", "index"),
        ("count", "6", "index"),
        ("count", "4294967296", "count"),
        ("count", "-1", "count"),
        ("index", "17", "index"),
        ("index", "4294967296", "index"),
        ("index", "00", "index"),
    ] {
        assert_eq!(what(&with(text, key, value)), named, "{key} {value}");
    }
    let early = value(text, "recorded_at").parse::<i64>().unwrap() - 1;
    assert_eq!(what(&with(text, "deadline", &early.to_string())), "deadline");
    assert_eq!(
        what(&text.replace("event-seal/1 receipt", "event-seal/2 receipt")),
        "format"
    );
    let short = text.replace(text.lines().last().unwrap(), "— k AAAAAAE=");
    assert_eq!(refusal(&short), Refused::Unsigned);
    let none = text.replace(text.lines().last().unwrap(), "— k AAAAAA==");
    assert_eq!(what(&none), "signature");
}

#[test]
fn nodes_changed_removed_added_or_exchanged_are_refused() {
    let text = &SAMPLES[3];
    let honest = Receipt::parse(text).unwrap();
    let edited = |edit: &dyn Fn(&mut Receipt)| {
        let mut receipt = honest.clone();
        edit(&mut receipt);
        refusal(&receipt.text())
    };
    for i in 0..honest.path.len() {
        assert_eq!(edited(&|receipt| receipt.path[i][31] ^= 1), Refused::Signature);
        assert!(matches!(
            edited(&|receipt| receipt.path.truncate(i)),
            Refused::Malformed(_)
        ));
        assert!(matches!(
            edited(&|receipt| receipt.path.insert(i, [0; 32])),
            Refused::Malformed(_)
        ));
    }
    assert_eq!(edited(&|receipt| receipt.path.reverse()), Refused::Signature);
    for index in (0..64).filter(|index| *index != 33) {
        assert_eq!(edited(&|receipt| receipt.index = index), Refused::Signature);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Pieces of receipts put together at random: whatever is accepted is a receipt as it was made.
    #[test]
    fn nothing_put_together_of_receipts_is_accepted(
        which in any::<[Index; 2]>(), cuts in any::<[Index; 3]>(), bytes in prop::collection::vec(any::<u8>(), 0..4)
    ) {
        let samples = &*SAMPLES;
        let [a, b] = which.map(|which| samples[which.index(samples.len())].as_bytes());
        let [start, end, other] = [cuts[0].index(a.len()), cuts[1].index(a.len()), cuts[2].index(b.len())];
        let mixed = [&a[..start.min(end)], &bytes[..], &b[other..]].concat();
        let spliced = [&a[..start.min(end)], &bytes[..], &a[start.max(end)..]].concat();
        for text in [mixed, spliced] {
            if verify(&text, &POLICY).is_ok() {
                prop_assert!(samples.iter().any(|sample| sample.as_bytes() == text));
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(verify(&bytes, &POLICY).is_err());
    }
}
