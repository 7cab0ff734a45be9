//! What is no file, no file that is known, or no command.

mod run;

use run::{file, report, run, vector, vectors, verify};
use std::path::Path;

#[test]
fn a_file_that_is_nothing_known_is_not_verified_and_says_what_was_found() {
    for (bytes, found) in [
        (b"".as_slice(), "it is empty"),
        (b"hello, world, and more", "it begins with \"hello, world\""),
        (
            b"\x7fELF\x02\x01\x01\0\0\0\0\0\0",
            "it begins with the bytes 7f 45 4c 46",
        ),
        (b"EVSEALX1 whatever", "it begins with \"EVSEALX1 wha\""),
        (b"EVSEAL", "it begins with \"EVSEAL\""),
        (
            b"{\"format\":\"other/1\"}\n",
            "its first line says format \"other/1\"",
        ),
        (b"{}\n", "it begins with \"{}\\n\""),
        (
            b"\xef\xbb\xbf{\"format\":\"event-seal/1\"}",
            "it begins with the bytes ef bb bf",
        ),
    ] {
        let path = file("unknown", bytes);
        let ran = verify(&path);
        assert_eq!(ran.status, 1, "{found}");
        assert!(
            ran.out.contains(found) && ran.out.contains("NOT VERIFIED"),
            "{found}: {}",
            ran.out
        );
        assert!(
            ran.out.contains("event-seal/1") && ran.out.contains("EVSEALB1"),
            "{}",
            ran.out
        );
        let report = report(&path);
        assert!(report["error"].as_str().unwrap().contains(found));
        assert!(report["verdict"].is_null() && report["kind"].is_null());
        assert_eq!(run(["show", path.to_str().unwrap()]).status, 1);
    }
}

#[test]
fn a_version_that_is_not_known_is_named() {
    let text = vector("sha256-4.jsonl").replace("event-seal/1", "event-seal/27");
    let ran = verify(&file("later.jsonl", text));
    assert_eq!(ran.status, 1);
    assert!(
        ran.out
            .contains("version 27 of the interchange format is not known; version 1 is"),
        "{}",
        ran.out
    );
    for (magic, version) in [("EVSEALB2", "2"), ("EVSEALT9", "9"), ("EVSEALB\0", "\\x00")] {
        let ran = verify(&file("later.blocks", format!("{magic}{}", "\0".repeat(500))));
        assert_eq!(ran.status, 1);
        assert!(
            ran.out
                .contains(&format!("version {version} of the container format")),
            "{}",
            ran.out
        );
    }
}

#[test]
fn a_first_line_that_is_damaged_is_a_fault_where_it_still_says_its_format() {
    let text = vector("sha256-4.jsonl");
    for damaged in [
        text.replacen("\"window\":3", "\"window\":", 1),
        text[..60].to_owned(),
    ] {
        let ran = verify(&file("damaged.jsonl", damaged));
        assert_eq!(ran.status, 1);
        assert!(
            ran.out.contains("unknown flow, position 1: format"),
            "{}",
            ran.out
        );
    }
}

#[test]
fn what_cannot_be_read_is_no_verdict() {
    for path in [Path::new("/"), Path::new("there-is-no-such-file")] {
        let ran = verify(path);
        assert_eq!((ran.status, ran.out.as_str()), (2, ""));
        assert!(ran.err.contains(path.to_str().unwrap()), "{}", ran.err);
        assert!(!report(path)["error"].is_null());
        assert_eq!(run(["show", path.to_str().unwrap()]).status, 2);
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_cannot_be_read_twice_and_is_refused_at_once() {
    let path = file("pipe", "");
    std::fs::remove_file(&path).unwrap();
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(verify(&path).status, 2);
}

#[test]
fn of_several_files_all_are_checked_and_the_worst_counts() {
    let good = vectors().remove(0);
    let good = good.to_str().unwrap();
    let garbage = file("garbage", "garbage");
    let garbage = garbage.to_str().unwrap();
    for (files, status, end) in [
        (
            vec![good, good],
            0,
            "2 files: 2 verified, 0 not, 0 could not be read.",
        ),
        (
            vec![garbage, good],
            1,
            "2 files: 1 verified, 1 not, 0 could not be read.",
        ),
        (
            vec!["none", garbage, good],
            2,
            "3 files: 1 verified, 1 not, 1 could not be read.",
        ),
    ] {
        let ran = run(["verify"].into_iter().chain(files));
        assert_eq!(ran.status, status);
        assert!(ran.out.contains(&format!("Verified {good} in ")), "{}", ran.out);
        assert!(ran.out.ends_with(&format!("{end}\n")), "{}", ran.out);
    }
}

#[test]
fn what_is_no_command_could_not_run() {
    let good = vectors().remove(0);
    let good = good.to_str().unwrap();
    for arguments in [
        vec![],
        vec!["verify"],
        vec!["check", good],
        vec!["verify", "--thread", "2", good],
        vec!["verify", "--threads", "0", good],
        vec!["verify", "--threads", "1025", good],
        vec!["verify", "--threads", "two", good],
        vec!["verify", "--json", "--quiet", good],
        vec!["show"],
        vec!["show", good, good],
    ] {
        let ran = run(&arguments);
        assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{arguments:?}");
        assert!(!ran.err.is_empty());
    }
    assert_eq!(run(["--help"]).status, 0);
    assert_eq!(
        run(["--version"]).out,
        format!("event-seal {}\n", env!("CARGO_PKG_VERSION"))
    );
}
