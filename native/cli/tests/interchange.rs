//! Interchange files: what was done to one → what the program says.

mod run;

use run::{faults, file, report, vector, vectors, verify};
use serde_json::{Map, Value, json};

fn object(line: &str) -> Map<String, Value> {
    serde_json::from_str(line).unwrap()
}

/// The file with one value of one line changed.
fn with(lines: &[&str], i: usize, key: &str, value: Value) -> String {
    let mut line = object(lines[i]);
    line.insert(key.to_owned(), value);
    let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    lines[i] = Value::Object(line).to_string();
    lines.join("\n")
}

/// Another value of the same kind.
fn other(key: &str, value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_i64().unwrap() ^ 1),
        Value::Bool(flag) => json!(!flag),
        Value::String(text) if key == "body" => json!(format!("AAAA{text}")),
        Value::String(text) if text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            let last = if text.ends_with('0') { "1" } else { "0" };
            json!(format!("{}{last}", &text[..text.len() - 1]))
        }
        Value::String(text) => json!(format!("{text}x")),
        _ if key == "who" => json!("someone"),
        _ => json!({"place": "elsewhere"}),
    }
}

#[test]
fn every_vector_verifies() {
    for path in vectors() {
        let ran = verify(&path);
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
        assert!(
            ran.out
                .contains("No fault: every value that was read is what was sealed."),
            "{}",
            ran.out
        );
    }
}

#[test]
fn every_value_is_named_where_it_was_changed() {
    let text = vector("sha256-4.jsonl");
    let lines: Vec<&str> = text.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        let line = object(line);
        for (key, value) in &line {
            let path = file("changed.jsonl", with(&lines, i, key, other(key, value)));
            if ["format", "suite", "window"].contains(&key.as_str()) {
                assert_eq!(verify(&path).status, 1, "{key}");
                continue;
            }
            let faults = faults(&path);
            let (position, class) = faults
                .first()
                .unwrap_or_else(|| panic!("line {i}: {key} is not noticed"));
            let expected: &[&str] = match key.as_str() {
                "salt" | "body" | "commitment" => &["commitment"],
                "id" | "provisional" | "root" => &[key],
                "n" | "first" | "count" => &["position"],
                "flow" | "created_at" | "nonce" | "genesis" => &["genesis"],
                "closed" => &["close"],
                "when_min" | "when_max" => &["when_range"],
                "block" => &["height"],
                "epoch" | "sealed_at" | "closes" => &["block_hash"],
                "hash" if line.contains_key("block") => &["block_hash"],
                _ => &["event_hash"],
            };
            assert!(expected.contains(&class.as_str()), "line {i}: {key}: {faults:?}");
            if let Some(n) = line.get("n").filter(|_| key != "n") {
                assert_eq!(json!(position), *n, "{key}");
            }
        }
    }
}

#[test]
fn the_report_names_flow_position_block_class_and_both_digests() {
    let text = vector("sha256-12.jsonl");
    let mut lines: Vec<&str> = text.lines().collect();
    let changed = lines[2].replace("\"version\":2", "\"version\":3");
    assert_ne!(changed, lines[2]);
    let recorded = object(lines[2])["hash"].as_str().unwrap().to_owned();
    lines[2] = &changed;
    let path = file("forged.jsonl", lines.join("\n"));
    let ran = verify(&path);
    assert_eq!(ran.status, 1);
    let flow = object(lines[0])["flow"].as_str().unwrap().to_owned();
    assert!(ran.out.contains("1 FAULT:\n"), "{}", ran.out);
    let named =
        format!("  {flow}, position 2, block 0: event_hash\n    recorded    {recorded}\n    recomputed  ");
    assert!(ran.out.contains(&named), "{}", ran.out);
    assert!(!ran.out.contains("No fault"));
    let fault = report(&path)["faults"][0].clone();
    assert_eq!(fault["recorded"], recorded);
    let recomputed = fault["recomputed"].as_str().unwrap();
    assert!(recomputed.len() == 64 && ran.out.contains(recomputed));
}

#[test]
fn what_is_cut_off_is_missing() {
    let text = vector("blake3-12.jsonl");
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    for end in &ends[..ends.len() - 1] {
        let path = file("cut.jsonl", &text[..*end]);
        let found = faults(&path);
        let whole = matches!(found.as_slice(), []);
        // The events of an open tail may end anywhere behind the three that the last block speaks of.
        assert!(!whole, "cut at {end}");
        assert_eq!(verify(&path).status, 1);
    }
    for end in [10, ends[0] - 5, ends[3] + 17, text.len() - 9] {
        let ran = verify(&file("cut.jsonl", &text[..end]));
        assert_eq!(ran.status, 1, "cut at {end}: {}", ran.out);
    }
}

#[test]
fn a_body_that_is_not_shown_is_never_counted_as_verified() {
    let text = vector("blake3-4.jsonl");
    let lines: Vec<&str> = text.lines().collect();
    let without = with(&lines, 1, "salt", Value::Null);
    let lines: Vec<&str> = without.lines().collect();
    let path = file("hidden.jsonl", with(&lines, 1, "body", Value::Null));
    let ran = verify(&path);
    assert_eq!(ran.status, 0);
    assert!(ran.out.contains("3 bodies verified, 1 not shown"), "{}", ran.out);
}

#[test]
fn a_line_as_long_as_it_likes_is_read_or_refused() {
    let text = vector("sha256-4.jsonl");
    let (first, rest) = text.split_once('\n').unwrap();
    for long in [
        format!("{{\"n\":1,\"euid\":\"{}", "ab".repeat(8 << 20)),
        "x".repeat(16 << 20),
    ] {
        let path = file("long.jsonl", format!("{first}\n{long}\n{rest}"));
        assert_eq!(faults(&path), [(1, "format".to_owned())]);
    }
    // A body of 12 MiB is as good as any; only that it is not what was committed to.
    let lines: Vec<&str> = text.lines().collect();
    let path = file(
        "long.jsonl",
        with(&lines, 3, "body", json!("AAAA".repeat(4 << 20))),
    );
    assert_eq!(faults(&path), [(2, "commitment".to_owned())]);
}

#[test]
fn checkpoints_that_were_not_checked_are_not_called_signed() {
    let text = vector("sha256-4.jsonl");
    let note = "example.org/log\n12\nAAAA\n\n\u{2014} key sig\n";
    let path = file("noted.jsonl", format!("{text}{}\n", json!({"checkpoint": note})));
    assert_eq!(report(&path)["signature"], "not_checked");
    let ran = verify(&path);
    assert_eq!(ran.status, 0);
    assert!(ran.out.contains("Signatures not checked: "), "{}", ran.out);
    let shown = run::run([std::ffi::OsStr::new("show"), path.as_os_str()]);
    assert!(
        shown.out.contains("checkpoint\n  example.org/log\n  12\n"),
        "{}",
        shown.out
    );
}
