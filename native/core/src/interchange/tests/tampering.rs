//! What was done to a value in a file → which fault, at which position.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{lines_of, vectors, verify_file};
use crate::verify::{Fault, Unwatched};

fn faults(file: &str) -> Vec<Fault> {
    let verdict = verify_file(file.as_bytes(), &Unwatched, 100);
    assert_eq!(verdict.fault_count, verdict.faults.len() as u64);
    verdict.faults
}

fn named(faults: &[Fault]) -> Vec<(u64, &'static str)> {
    faults
        .iter()
        .map(|fault| (fault.position, fault.class.name()))
        .collect()
}

fn object(line: &str) -> Map<String, Value> {
    serde_json::from_str(line).unwrap()
}

/// The faults of a file in which one value is another.
fn with(lines: &[String], i: usize, key: &str, value: Value) -> Vec<(u64, &'static str)> {
    let mut line = object(&lines[i]);
    assert_ne!(line.insert(key.to_owned(), value.clone()), Some(value));
    let mut lines = lines.to_vec();
    lines[i] = Value::Object(line).to_string();
    let faults = faults(&lines.join("\n"));
    let flow = object(&lines[0])["flow"].as_str().unwrap().to_owned();
    assert!(faults.iter().all(|fault| fault.flow == flow));
    named(&faults)
}

/// Another valid value of the same key.
fn other(key: &str, value: &Value) -> Value {
    let is_hex = |text: &str| text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match value {
        Value::Number(number) if *number == json!(65535).as_number().unwrap().clone() => json!(3),
        Value::Number(number) => json!(number.as_i64().unwrap() + 1),
        Value::Bool(flag) => json!(!flag),
        Value::Null if key == "who" => json!("someone"),
        Value::String(text) if key == "body" => json!(format!("AAAA{text}")),
        Value::String(text) if is_hex(text) => {
            json!(format!(
                "{}{}",
                &text[1..],
                if text.ends_with('0') { '1' } else { '0' }
            ))
        }
        Value::String(text) => json!(format!("{text}x")),
        _ if key == "where" && *value == json!({"geo": [1, 2]}) => json!(null),
        _ => json!({"geo": [1, 2]}),
    }
}

#[test]
fn every_vector_verifies() {
    for (name, file) in vectors() {
        let verdict = verify_file(file.as_slice(), &Unwatched, 100);
        assert_eq!(verdict.faults, [], "{name}");
        let lines = lines_of(&name);
        let count = |key: &str| lines.iter().filter(|line| object(line).contains_key(key)).count() as u64;
        assert_eq!(
            (verdict.events, verdict.blocks),
            (count("n"), count("block")),
            "{name}"
        );
        assert_eq!(
            (verdict.fixed, verdict.provisional),
            (count("id"), count("provisional")),
            "{name}"
        );
        assert_eq!(
            (verdict.bodies_verified, verdict.bodies_not_shown),
            (count("n"), 0),
            "{name}"
        );
    }
}

#[test]
fn every_value_of_every_event_is_named_where_it_was_changed() {
    for (name, _) in vectors() {
        let lines = lines_of(&name);
        for (i, line) in lines
            .iter()
            .enumerate()
            .filter(|(_, line)| line.starts_with("{\"n\""))
        {
            let line = object(line);
            let n = line["n"].as_u64().unwrap();
            let closing = line["kind"] == "$close";
            for (key, value) in line
                .iter()
                .filter(|(key, _)| *key != "n" && (*key != "kind" || !closing))
            {
                let class = match key.as_str() {
                    "salt" | "body" | "commitment" => "commitment",
                    "id" | "provisional" => key,
                    _ => "event_hash",
                };
                let found = with(&lines, i, key, other(key, value));
                assert_eq!(
                    found.first(),
                    Some(&(n, class)),
                    "{name}: {key} of {n}: {found:?}"
                );
                // A false id stands in the links of the ids behind it, in other blocks too.
                assert!(found.len() == 1 || key == "id", "{name}: {key} of {n}: {found:?}");
            }
        }
    }
}

#[test]
fn every_value_of_every_block_is_named_at_the_block() {
    for (name, _) in vectors() {
        let lines = lines_of(&name);
        for (i, line) in lines
            .iter()
            .enumerate()
            .filter(|(_, line)| line.starts_with("{\"block\""))
        {
            let line = object(line);
            let first = line["first"].as_u64().unwrap();
            for (key, value) in line
                .iter()
                .filter(|(key, _)| !["first", "count"].contains(&key.as_str()))
            {
                let classes: &[&str] = match key.as_str() {
                    "block" => &["height", "block_hash"],
                    "when_min" | "when_max" => &["when_range"],
                    "root" => &["root"],
                    _ => &["block_hash"],
                };
                let found = with(&lines, i, key, other(key, value));
                assert_eq!(found[0].0, first, "{name}: {key} of {first}: {found:?}");
                for class in classes {
                    assert!(
                        found.contains(&(first, class)),
                        "{name}: {key} of {first}: {found:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_value_of_the_flow_is_named_once() {
    for (name, _) in vectors() {
        let lines = lines_of(&name);
        let last = lines.iter().filter(|line| line.starts_with("{\"n\"")).count() as u64;
        for key in ["flow", "created_at", "nonce", "genesis"] {
            let value = object(&lines[0])[key].clone();
            assert_eq!(
                with(&lines, 0, key, other(key, &value)),
                [(1, "genesis")],
                "{name}: {key}"
            );
        }
        let value = object(&lines[0])["closed"].clone();
        assert_eq!(
            with(&lines, 0, "closed", other("closed", &value)),
            [(last, "close")],
            "{name}"
        );
    }
}

#[test]
fn a_body_that_is_not_shown_is_counted_and_no_fault() {
    let mut lines = lines_of("blake3-4.jsonl");
    for i in [1, 4] {
        let mut line = object(&lines[i]);
        line.insert("salt".to_owned(), Value::Null);
        line.insert("body".to_owned(), Value::Null);
        lines[i] = Value::Object(line).to_string();
    }
    let verdict = verify_file(lines.join("\n").as_bytes(), &Unwatched, 100);
    assert_eq!(
        (
            verdict.fault_count,
            verdict.bodies_verified,
            verdict.bodies_not_shown
        ),
        (0, 2, 2)
    );
}

#[test]
fn what_stands_before_a_break_is_still_verified() {
    let mut lines = lines_of("sha256-12.jsonl");
    lines[2] = lines[2].replace("\"version\":2", "\"version\":3");
    lines[11].push(' ');
    assert_eq!(
        named(&faults(&lines.join("\n"))),
        [(2, "event_hash"), (9, "format")]
    );
    let verdict = verify_file(lines.join("\n").as_bytes(), &Unwatched, 1);
    assert_eq!(
        (named(&verdict.faults), verdict.fault_count),
        (vec![(2, "event_hash")], 2)
    );
    assert_eq!((verdict.blocks, verdict.events), (2, 8));
}

#[test]
fn events_of_another_flow_do_not_fit_in() {
    let (lines, foreign) = (lines_of("sha256-12.jsonl"), lines_of("sha256-40.jsonl"));
    for i in [1, 2, 3, 4] {
        let mut lines = lines.clone();
        lines[i].clone_from(&foreign[i]);
        let found = named(&faults(&lines.join("\n")));
        assert!(found.contains(&(i as u64, "id")), "{found:?}");
    }
}

/// Whether a change of bytes is noticed.
fn is_noticed(file: &[u8]) -> bool {
    verify_file(file, &Unwatched, 1).fault_count > 0
}

#[test]
fn no_byte_can_change_unnoticed() {
    for name in ["blake3-1-closed.jsonl", "sha256-2-closed.jsonl"] {
        let file = lines_of(name).join("\n").into_bytes();
        // 32 is the bit between upper and lower case.
        for (i, bit) in (0..file.len()).flat_map(|i| [1, 32].map(|bit| (i, bit))) {
            let mut file = file.clone();
            file[i] ^= bit;
            assert!(is_noticed(&file), "{name}: byte {i}, bit {bit}");
        }
    }
}

#[test]
fn no_byte_can_be_left_out_of_a_closed_flow_unnoticed() {
    let file = lines_of("sha256-1-closed.jsonl").join("\n").into_bytes();
    for i in 0..file.len() {
        let without = [&file[..i], &file[i + 1..]].concat();
        assert!(is_noticed(&without) && is_noticed(&file[..i]), "byte {i}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_byte_of_any_vector_can_change_unnoticed(
        vector in 0..18_usize, at: prop::sample::Index, change in 1..=255_u8,
    ) {
        let (name, mut file) = vectors().swap_remove(vector);
        let at = at.index(file.len());
        file[at] ^= change;
        prop_assert!(is_noticed(&file), "{}: byte {} changed by {}", name, at, change);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, vector in 0..18_usize, at: prop::sample::Index, left_out in 0..200_usize) {
        let _ = is_noticed(&bytes);
        let (_, file) = vectors().swap_remove(vector);
        let at = at.index(file.len());
        let rest = &file[(at + left_out).min(file.len())..];
        let _ = is_noticed(&[&file[..at], &bytes, rest].concat());
    }
}
