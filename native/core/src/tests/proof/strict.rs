//! The text of a proof has one form.
use proptest::prelude::*;
use proptest::sample::Index;

use super::archive::{ARCHIVE, POLICY, SAMPLES, prove, refusal, value, what, with};
use crate::proof::{Refused, verify};

#[test]
fn every_changed_byte_is_refused() {
    for (i, text) in SAMPLES.iter().enumerate() {
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1 << ((at + i) % 8);
            assert!(verify(&changed, &POLICY).is_err(), "{i} {at}");
        }
    }
}

#[test]
fn a_proof_that_is_cut_at_any_byte_or_goes_on_is_refused() {
    for text in SAMPLES.iter() {
        for at in 0..text.len() {
            assert!(verify(&text.as_bytes()[..at], &POLICY).is_err(), "{at}");
            assert!(verify(&text.as_bytes()[at + 1..], &POLICY).is_err(), "{at}");
        }
        for more in ["\n", " ", "x", "\n\n"] {
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
            let mut swapped = lines.clone();
            swapped.swap(i, (i + 1) % lines.len());
            // In which order signatures stand, and how often, says nothing.
            if !lines[i].starts_with('—') {
                refusal(&doubled.concat());
                assert!(swapped == lines || prove(&swapped.concat()).is_err());
            }
        }
    }
}

#[test]
fn numbers_beyond_their_range_are_refused() {
    let text = ARCHIVE.proof("sha256-40.jsonl", 9, true);
    for (key, value, named) in [
        ("created_at", "9007199254740992", "created_at"),
        ("when", "-9007199254740992", "when"),
        ("recorded_at", "9223372036854775808", "recorded_at"),
        ("revision", "65536", "revision"),
        ("version", "-1", "version"),
        ("n", "18446744073709551616", "n"),
        ("height", "9007199254740992", "height"),
        ("first", "9007199254740991", "first"),
        ("first", "0", "first"),
        ("first", "18446744073709551615", "first"),
        ("count", "0", "count"),
        ("count", "1048577", "count"),
        ("count", "4294967296", "count"),
        ("epoch", "9007199254740992", "epoch"),
        ("sealed_at", "9007199254740992", "sealed_at"),
        ("when_min", "-9007199254740992", "when_min"),
        ("index", "9223372036854775808", "index"),
        ("index", "18446744073709551616", "index"),
        ("when", "1.0", "when"),
        ("when", "01", "when"),
        ("when", "+1", "when"),
        ("late", "True", "late"),
        ("closes", "1", "closes"),
        ("suite", "sha512", "suite"),
        ("kind", "$other", "kind"),
        ("kind", "a\u{85}b", "kind"),
        ("flow", "a\u{7f}b", "flow"),
        ("flow", "", "flow"),
        ("euid", "00", "euid"),
        ("body", "AAA", "body"),
        ("body", "AAB=", "body"),
        ("body", "", "body"),
    ] {
        assert_eq!(what(&with(&text, key, value)), named, "{key} {value}");
    }
    let upper = value(&text, "salt").to_uppercase();
    assert_eq!(what(&with(&text, "salt", &upper)), "salt");
    let index = with(&text, "index", "9223372036854775806");
    assert_eq!(refusal(&index), Refused::LogPath);
    assert_eq!(
        what(&text.replace("event-seal/1 proof", "event-seal/2 proof")),
        "format"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Pieces of proofs put together at random: whatever is accepted is a proof as it was made.
    #[test]
    fn nothing_put_together_of_proofs_is_accepted(
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
}
