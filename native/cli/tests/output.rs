//! What is printed: for people, for programs, for a terminal and never more than that.

mod run;

use run::{file, run, vector, vectors, verify};
use serde_json::{Value, json};

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn the_json_has_the_keys_that_are_promised() {
    let text = vector("sha256-4.jsonl").replacen("\"revision\":7", "\"revision\":6", 1);
    let forged = file("forged.jsonl", text);
    let files = [
        vectors().remove(0),
        forged,
        file("garbage.json", "garbage"),
        "none".into(),
    ];
    let arguments = ["verify", "--json"].map(Into::into).into_iter().chain(files);
    let ran = run(arguments.collect::<Vec<std::path::PathBuf>>());
    assert_eq!((ran.status, ran.err.as_str()), (2, ""));
    assert_eq!(ran.out.matches('\n').count(), 1);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(keys(&json), ["files", "status"]);
    let statuses: Vec<&Value> = json["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| &file["status"])
        .collect();
    assert_eq!(
        statuses,
        ["verified", "not_verified", "not_verified", "unreadable"]
    );
    for file in json["files"].as_array().unwrap() {
        let expected =
            "error faults file flow kind log microseconds part refusal signature signed status verdict";
        assert_eq!(keys(file).join(" "), expected);
        assert_eq!(file["verdict"].is_null(), !file["error"].is_null());
        // A file without a signature says so wherever it says that it was verified.
        assert_eq!(
            file["signature"],
            if file["verdict"].is_null() {
                Value::Null
            } else {
                json!("none")
            }
        );
    }
    let expected = "blocks bodies_not_shown bodies_verified bytes events fault_count fixed flows provisional";
    assert_eq!(keys(&json["files"][0]["verdict"]).join(" "), expected);
    let expected = "block class flow position recomputed recorded";
    assert_eq!(keys(&json["files"][1]["faults"][0]).join(" "), expected);
}

#[test]
fn a_file_without_a_signature_is_never_reported_like_a_signed_one() {
    for path in vectors() {
        let ran = verify(&path);
        let unsigned = "Unsigned: the file agrees with itself; that does not show who made it, or that it was not made anew.";
        assert!(ran.out.ends_with(&format!("{unsigned}\n")), "{}", ran.out);
    }
}

#[test]
fn quiet_says_nothing_of_what_verifies() {
    let good = vectors().remove(0);
    let good = good.to_str().unwrap();
    let ran = run(["verify", "--quiet", good]);
    assert_eq!((ran.status, ran.out.as_str(), ran.err.as_str()), (0, "", ""));
    let garbage = file("garbage.quiet", "garbage");
    let ran = run(["verify", "--quiet", good, garbage.to_str().unwrap()]);
    assert_eq!((ran.status, ran.out.lines().count()), (1, 1));
    assert!(ran.out.starts_with("NOT VERIFIED "));
}

#[test]
fn a_pipe_gets_no_escape_codes() {
    let garbage = file("garbage.pipe", "garbage");
    let good = vectors().remove(0);
    for arguments in [vec!["verify"], vec!["verify", "--json"]] {
        let files = [good.to_str().unwrap(), garbage.to_str().unwrap(), "none"];
        let ran = run(arguments.into_iter().chain(files));
        assert!(!ran.out.contains('\x1b') && !ran.err.contains('\x1b'));
        assert!(!ran.err.contains('\r'));
    }
    assert!(!run(["show", good.to_str().unwrap()]).out.contains('\x1b'));
}

/// Text that would turn around, hide or overwrite what stands beside it.
const HOSTILE: &str = "\u{202e}tneitap\u{2066}\u{200b}\u{feff}\u{e0041}";

#[test]
fn text_from_a_file_never_reaches_the_screen_as_it_stands() {
    let text = vector("sha256-4.jsonl");
    let hostile = text.replacen("\"flow\":\"patient/", &format!("\"flow\":\"{HOSTILE}/"), 1);
    let body = "\x1b[2J\u{9b}31m\r\n";
    let path = file("hostile.jsonl", hostile);
    let path = path.to_str().unwrap();
    let all = [
        run(["verify", path]),
        run(["verify", "--json", path]),
        run(["show", "--bodies", path]),
    ];
    for ran in &all {
        assert!(ran.out.contains("202e"), "{}", ran.out);
        let unseen =
            |char: char| HOSTILE.contains(char) && !char.is_ascii() || char.is_control() && char != '\n';
        assert!(
            !ran.out.contains(unseen) && !ran.err.contains(unseen),
            "{}",
            ran.out
        );
    }
    let json: Value = serde_json::from_str(&all[1].out).unwrap();
    assert!(json["files"][0]["flow"].as_str().unwrap().starts_with(HOSTILE));
    // A format's name, a file's own name, and a signed note are text from outside too.
    for ran in [
        verify(&file("hostile.format", format!("{{\"format\":{}}}", json!(body)))),
        verify(&file("hostile\x1b[2J\u{202e}", "")),
        run([
            "show",
            file("note.jsonl", format!("{text}{}", json!({"checkpoint": body})))
                .to_str()
                .unwrap(),
        ]),
    ] {
        assert!(
            !ran.out.contains(['\x1b', '\u{9b}', '\u{202e}', '\r']),
            "{}",
            ran.out
        );
    }
}

#[test]
fn the_bench_measures_both_suites_and_names_the_machine() {
    let ran = run(["bench", "--quick", "--json", "--threads", "1"]);
    assert_eq!(ran.status, 0, "{}", ran.err);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    let named: Vec<String> = json["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            format!(
                "{} {}",
                row["suite"].as_str().unwrap(),
                row["what"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        named,
        [
            "sha256 hashing",
            "sha256 verification",
            "blake3 hashing",
            "blake3 verification"
        ]
    );
    for row in json["rows"].as_array().unwrap() {
        let [slowest, median, fastest] =
            ["slowest", "median", "fastest"].map(|key| row[key].as_u64().unwrap());
        assert!(0 < slowest && slowest <= median && median <= fastest);
    }
    assert_eq!(json["machine"]["threads"], 1);
    assert_eq!(json["machine"]["architecture"], std::env::consts::ARCH);
}

/// util-linux's `script` gives the program a terminal.
#[cfg(target_os = "linux")]
#[test]
fn a_terminal_gets_colour_unless_it_wants_none() {
    let on_terminal = |environment: &[(&str, &str)]| {
        let command = format!(
            "{} verify {}",
            env!("CARGO_BIN_EXE_event-seal"),
            vectors()[0].display()
        );
        let mut script = std::process::Command::new("script");
        script
            .args(["-qec", &command, "/dev/null"])
            .env_remove("NO_COLOR")
            .env("TERM", "xterm");
        script.envs(environment.iter().copied());
        String::from_utf8(script.output().unwrap().stdout).unwrap()
    };
    assert!(on_terminal(&[]).contains("\x1b[32mNo fault: "));
    assert!(on_terminal(&[("NO_COLOR", "")]).contains("\x1b[32m"));
    for environment in [[("NO_COLOR", "1")], [("TERM", "dumb")]] {
        let shown = on_terminal(&environment);
        assert!(
            shown.contains("No fault: ") && !shown.contains("\x1b[3"),
            "{shown}"
        );
    }
}
