//! Every parser over its corpus, and over so many changed files of it: the same ones on every machine. What libFuzzer does
//! with the same functions, for longer and guided by what they cover, `bin/fuzz` does.

mod mutated;

use event_seal_parsers::PARSERS;
use mutated::{Random, mutated};
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus");
/// So many changed files for each parser; fewer of long ones.
const MOST: usize = 20_000;
const BYTES: usize = 20_000_000;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(Path::new(CORPUS).join(name))
        .unwrap_or_else(|error| panic!("{name} has no corpus: {error}"))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Runs one, and keeps what it panicked at.
fn check(name: &str, run: fn(&[u8]), bytes: &[u8]) {
    if catch_unwind(|| run(bytes)).is_err() {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, bytes).unwrap();
        panic!("{name} panicked; what it was given is kept in {}", path.display());
    }
}

fn fuzz(name: &str) {
    let run = PARSERS.iter().find(|parser| parser.name == name).unwrap().run;
    let files = corpus(name);
    for bytes in [&[][..], &[0], &[0; 64], &[0xff; 1000], b"\n"] {
        check(name, run, bytes);
    }
    for file in &files {
        check(name, run, file);
        for length in (0..file.len()).step_by(file.len().div_ceil(2_000).max(1)) {
            check(name, run, &file[..length]);
        }
    }
    let mut random = Random::new(name.bytes().map(u64::from).sum());
    let (mut done, mut left) = (0, BYTES);
    for (file, other) in files.iter().cycle().zip(files.iter().cycle().skip(1).step_by(2)) {
        let bytes = mutated(file, other, &mut random);
        check(name, run, &bytes);
        left = left.saturating_sub(bytes.len() + 200);
        done += 1;
        if done == MOST || left == 0 {
            break;
        }
    }
}

macro_rules! fuzzed {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            fuzz(stringify!($name));
        })*

        const FUZZED: &[&str] = &[$(stringify!($name)),*];
    };
}

fuzzed!(
    archive,
    checkpoint,
    container,
    frame,
    genesis,
    import,
    interchange,
    kept,
    key,
    leaf,
    log_file,
    part,
    proof,
    receipt,
    request,
    run,
);

#[test]
fn each_parser_is_run_here_and_by_libfuzzer_and_has_a_corpus() {
    let names = |folder: &str, end: &str| {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(folder);
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .map(|name| name.trim_end_matches(end).to_owned())
            .collect();
        names.sort();
        names
    };
    let parsers: Vec<&str> = PARSERS.iter().map(|parser| parser.name).collect();
    assert_eq!(FUZZED, parsers);
    assert_eq!(names("fuzz_targets", ".rs"), parsers);
    assert_eq!(names("corpus", ""), parsers);
    let manifest = include_str!("../../fuzz/Cargo.toml");
    for name in parsers {
        assert!(
            manifest.contains(&format!("[[bin]]\nname = \"{name}\"\n")),
            "{name}"
        );
    }
}

#[test]
fn the_corpus_is_small_and_no_file_of_it_is_refused_at_once() {
    let sizes = PARSERS
        .iter()
        .flat_map(|parser| corpus(parser.name))
        .map(|file| file.len());
    let size: usize = sizes.sum();
    assert!((10_000..1_000_000).contains(&size), "{size}");
    for parser in PARSERS {
        assert!(corpus(parser.name).len() > 1, "{}", parser.name);
    }
}
