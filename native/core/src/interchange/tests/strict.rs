//! What a line may not hold.

use serde_json::{Map, Value};

use super::*;

#[test]
fn no_key_may_be_missing_doubled_or_unknown() {
    let positions = positions(&open());
    for (i, line) in open().iter().enumerate() {
        let object: Map<String, Value> = serde_json::from_str(line).unwrap();
        let format = |change: String, what: &str| {
            let (position, class) = edited(|lines| lines[i] = change).unwrap();
            assert_eq!(class, "format", "line {i}: {what}");
            // A block's line that no longer says so is just not the next event.
            assert!(
                position == positions[i] || what == "no block",
                "line {i}: {what}: {position}"
            );
        };
        format(line.replacen('{', "{\"x\":1,", 1), "unknown key");
        for (key, value) in &object {
            let mut without = object.clone();
            without.remove(key);
            format(Value::Object(without).to_string(), &format!("no {key}"));
            format(
                line.replacen('{', &format!("{{\"{key}\":{value},"), 1),
                &format!("{key} twice"),
            );
        }
    }
}

#[test]
fn no_value_has_a_second_form() {
    let positions = positions(&open());
    let changed = |i: usize, key: &str, value: &str| {
        let mut object: Map<String, Value> = serde_json::from_str(&open()[i]).unwrap();
        object.remove(key);
        let rest = Value::Object(object).to_string();
        let rest = rest.strip_suffix('}').unwrap();
        edited(|lines| lines[i] = format!("{rest},\"{key}\":{value}}}"))
    };
    for (i, line) in open().iter().enumerate() {
        let object: Map<String, Value> = serde_json::from_str(line).unwrap();
        for (key, value) in &object {
            let mut junk: Vec<String> = ["{}", "[]", "{\"a\":[{}]}", "-", "1e400", "\"\\ud800\""]
                .map(str::to_owned)
                .to_vec();
            match value {
                Value::Number(number) => {
                    junk.extend([
                        format!("{number}.0"),
                        format!("{number}e0"),
                        format!("\"{number}\""),
                        format!("0{number}"),
                    ]);
                    junk.extend(
                        [
                            "-0",
                            "9007199254740992",
                            "-9007199254740992",
                            "18446744073709551616",
                            "null",
                            "true",
                        ]
                        .map(str::to_owned),
                    );
                }
                Value::String(text) => {
                    junk.extend(["1", "true", "\"\""].map(str::to_owned));
                    if text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                        junk.extend(
                            [
                                text.to_uppercase(),
                                format!("{text}0"),
                                format!("{text}00"),
                                text[2..].to_owned(),
                                format!(" {text}"),
                            ]
                            .map(|text| format!("\"{text}\"")),
                        );
                    }
                }
                Value::Bool(flag) => junk.extend([format!("\"{flag}\""), "0".to_owned(), "null".to_owned()]),
                Value::Null if key == "who" => junk.push("1".to_owned()),
                _ => junk.extend(["1".to_owned(), "\"place\"".to_owned()]),
            }
            // An empty body is one.
            junk.retain(|junk| !(key == "body" && junk == "\"\""));
            for junk in junk {
                let class =
                    changed(i, key, &junk).map(|(at, class)| (at == positions[i] || key == "block", class));
                let numbers = ["n", "first"].contains(&key.as_str()) && class == Some((true, "position"));
                assert!(
                    class == Some((true, "format")) || numbers,
                    "line {i}: {key}: {junk}: {class:?}"
                );
            }
        }
    }
}

#[test]
fn salt_and_body_are_both_there_or_both_null() {
    let null = |keys: &[&str]| {
        edited(|lines| {
            let mut line: Value = serde_json::from_str(&lines[7]).unwrap();
            keys.iter().for_each(|key| line[key] = Value::Null);
            lines[7] = line.to_string();
        })
    };
    assert_eq!(null(&["salt"]), Some((6, "format")));
    assert_eq!(null(&["body"]), Some((6, "format")));
    assert_eq!(null(&["salt", "body"]), None);
}

#[test]
fn base64_that_is_not_canonical_is_refused() {
    // Event 7's body is one byte, 0xac.
    let body = |text: &str| edited(|lines| lines[8] = lines[8].replace("rA==", text));
    assert_eq!(body("rA=="), None);
    for bad in ["rA=", "rA", "rB==", "rC==", "rA===", "rA==\\n", "r-==", "=rA="] {
        assert_eq!(body(bad), Some((7, "format")), "{bad}");
    }
}

#[test]
fn the_flow_is_of_this_format() {
    let replace = |from: &str, to: &str| edited(|lines| lines[0] = lines[0].replacen(from, to, 1));
    assert_eq!(replace("x", "x"), None);
    for (from, to) in [
        ("event-seal/1", "event-seal/2"),
        ("sha256", "sha512"),
        ("\"window\":3", "\"window\":4"),
        ("patient/535017", "a\\u0007b"),
        ("patient/535017", ""),
    ] {
        assert_eq!(replace(from, to), Some((1, "format")), "{to}");
    }
}

#[test]
fn an_event_keeps_the_rules_of_its_fields() {
    let replace = |from: &str, to: &str| edited(|lines| lines[7] = lines[7].replacen(from, to, 1));
    for (from, to) in [
        ("lab.result", "$other"),
        ("lab.result", ""),
        ("practitioner", "a\\n"),
        ("mimic/icu/Médical ICU", ""),
        ("{\"place\":\"mimic/icu/Médical ICU\"}", "{\"geo\":[900000001,0]}"),
        ("{\"place\":\"mimic/icu/Médical ICU\"}", "{\"geo\":[0,0,0]}"),
        (
            "{\"place\":\"mimic/icu/Médical ICU\"}",
            "{\"place\":\"a\",\"place\":\"a\"}",
        ),
        ("{\"place\":\"mimic/icu/Médical ICU\"}", "\"place\""),
        ("\"version\":65535", "\"version\":65536"),
    ] {
        assert_ne!(open()[7].replacen(from, to, 1), open()[7], "{from}");
        assert_eq!(replace(from, to), Some((6, "format")), "{to}");
    }
}
