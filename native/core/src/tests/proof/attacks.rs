//! What is done to a proof, and what is said of it.
use std::convert::Infallible;

use super::archive::{ARCHIVE, Log, ORIGIN, log_key, prove, refusal, signer, value, what, with};
use crate::block::Container;
use crate::checkpoint::{Refused as Unbelieved, sign};
use crate::event::{CLOSE, FLAGS_AT};
use crate::log::Frontier;
use crate::note::{Note, Purpose, Signer};
use crate::proof::{Proof, Refused, tlog};
use crate::suite::{Digest, Suite};
use crate::tests::clinic::{self, Open};
use crate::wire::text::to_hex;

#[test]
fn an_edited_event_is_not_what_was_logged() {
    let text = ARCHIVE.proof("sha256-40.jsonl", 9, true);
    let hidden = ARCHIVE.proof("sha256-40.jsonl", 9, false);
    for (text, key, value) in [
        (&text, "flow", "patient/1"),
        (&text, "created_at", "1"),
        (&text, "nonce", &*"00".repeat(16)),
        (&text, "euid", &*"00".repeat(16)),
        (&text, "recorded_at", "0"),
        (&text, "late", "false"),
        (&text, "revision", "60000"),
        (&text, "kind", "other"),
        (&text, "version", "60000"),
        (&text, "salt", &*"00".repeat(16)),
        (&text, "body", "AAAA"),
        (&hidden, "commitment", &*"00".repeat(32)),
        (&text, "epoch", "99"),
        (&text, "sealed_at", "9007199254740991"),
        (&text, "when_max", "9007199254740991"),
        (&text, "before", &*"00".repeat(32)),
        (&text, "after", &*"00".repeat(32)),
        (&text, "path", &*"00".repeat(32)),
        (&text, "previous", &*"00".repeat(32)),
    ] {
        assert_eq!(refusal(&with(text, key, value)), Refused::Root, "{key}");
    }
    let moved = with(&with(&text, "when", "1"), "when_min", "1");
    assert_eq!(refusal(&moved), Refused::Root);
    assert_eq!(
        refusal(&with(&text, "when", "-9007199254740991")),
        Refused::Rule("when_range")
    );
    for (key, instead) in [
        ("geo", "place ward/1\n"),
        ("geo", "geo 1 1\n"),
        ("geo", ""),
        ("who", ""),
        ("who", "who x\n"),
    ] {
        let own = format!("{key} {}\n", value(&text, key));
        assert_eq!(
            refusal(&text.replacen(&own, instead, 1)),
            Refused::Root,
            "{instead}"
        );
    }
    assert_eq!(refusal(&with(&text, "suite", "blake3")), Refused::Root);
}

#[test]
fn another_position_height_or_count_has_another_shape_or_root() {
    let text = ARCHIVE.proof("sha256-40.jsonl", 9, true);
    let proof = Proof::parse(&text).unwrap();
    let (first, last) = (proof.header.first, proof.header.last());
    for n in (first..=last).filter(|n| *n != 9) {
        let moved = with(&text, "n", &n.to_string());
        assert!(
            matches!(refusal(&moved), Refused::Root | Refused::Malformed(_)),
            "{n}"
        );
    }
    for n in [0, first - 1, last + 1, u64::MAX] {
        assert_eq!(what(&with(&text, "n", &n.to_string())), "n");
    }
    let higher = with(&text, "height", &(proof.header.height + 1).to_string());
    assert_eq!(refusal(&higher), Refused::Root);
    assert_eq!(
        refusal(&with(&text, "height", "0").replacen(
            &format!("previous {}\n", value(&text, "previous")),
            "",
            1
        )),
        Refused::Rule("height")
    );
    let earlier = with(&with(&text, "n", "8"), "first", &(first - 1).to_string());
    assert_eq!(refusal(&earlier), Refused::Root);
    for count in 1..=2 * proof.header.count {
        if count != proof.header.count {
            prove(&with(&text, "count", &count.to_string())).unwrap_err();
        }
    }
}

/// A closing flag moves fillers: set, it leaves hashes out, unset, it asks for more.
#[test]
fn a_flow_is_neither_closed_nor_opened_by_its_proof() {
    let open = ARCHIVE.proof("sha256-12.jsonl", 1, true);
    assert!(matches!(
        refusal(&with(&open, "closes", "true")),
        Refused::Root | Refused::Rule("close") | Refused::Malformed(_)
    ));
    let last = ARCHIVE.proof("blake3-12-closed.jsonl", 12, true);
    assert_eq!(value(&last, "kind"), CLOSE);
    assert!(matches!(
        refusal(&with(&last, "closes", "false")),
        Refused::Malformed(_)
    ));
    let g = to_hex(
        &ARCHIVE
            .flows
            .iter()
            .find(|(vector, ..)| vector.name == "blake3-12-closed.jsonl")
            .unwrap()
            .0
            .flow
            .genesis(),
    );
    let path = last.find("\npath ").unwrap() + 1;
    let fillers = format!("after {g}\n").repeat(3);
    let written = [&last[..path], &fillers, &last[path..]].concat();
    assert_eq!(what(&written), "path");
    let opened = with(&written, "closes", "false");
    assert_eq!(refusal(&opened), Refused::Rule("close"));
    let renamed = with(&opened, "kind", "vital");
    assert_eq!(refusal(&renamed), Refused::Rule("seam"));
}

/// Both paths: every node changed, taken out, put in, exchanged.
#[test]
fn forged_paths_are_refused_by_name() {
    let text = ARCHIVE.proof("sha256-40.jsonl", 9, true);
    let honest = Proof::parse(&text).unwrap();
    assert!(honest.path.len() > 1 && honest.logged.path.len() > 3);
    let edited = |edit: &dyn Fn(&mut Proof)| {
        let mut proof = honest.clone();
        edit(&mut proof);
        refusal(&proof.text())
    };
    let path = |refused| matches!(refused, Refused::Malformed(malformed) if ["path", "end"].contains(&malformed.what));
    for i in 0..honest.path.len() {
        assert_eq!(edited(&|proof| proof.path[i][31] ^= 1), Refused::Root);
        assert!(path(edited(&|proof| proof.path.truncate(i))));
        assert!(path(edited(&|proof| proof.path.insert(i, [0; 32]))));
    }
    assert_eq!(edited(&|proof| proof.path.reverse()), Refused::Root);
    for i in 0..honest.logged.path.len() {
        assert_eq!(edited(&|proof| proof.logged.path[i][31] ^= 1), Refused::Root);
        assert_eq!(edited(&|proof| proof.logged.path.truncate(i)), Refused::LogPath);
        assert_eq!(
            edited(&|proof| proof.logged.path.insert(i, [0; 32])),
            Refused::LogPath
        );
        assert_eq!(
            edited(&|proof| proof.logged.path.swap(i, (i + 1) % honest.logged.path.len())),
            Refused::Root
        );
    }
    let size = ARCHIVE.log.frontier.size();
    for index in (0..size + 3).filter(|index| *index != honest.logged.index) {
        let refused = edited(&|proof| proof.logged.index = index);
        assert!(matches!(refused, Refused::Root | Refused::LogPath), "{index}");
    }
}

fn re_signed(text: &str, checkpoint: &str) -> String {
    let proof = Proof::parse(text).unwrap();
    let logged = tlog::Proof {
        checkpoint,
        ..proof.logged.clone()
    };
    Proof { logged, ..proof }.text()
}

#[test]
fn a_checkpoint_that_is_not_believed_makes_no_proof() {
    let text = ARCHIVE.proof("sha256-40.jsonl", 9, true);
    let log = &ARCHIVE.log.frontier;
    let refused = |checkpoint: &str| refusal(&re_signed(&text, checkpoint));
    let sign_as = |signer: &Signer| sign(signer, log.size(), log.root()).unwrap();
    let other = sign_as(&signer("other.example/log", Purpose::Log, 1));
    assert_eq!(refused(&other), Refused::Checkpoint(Unbelieved::Origin));
    let foreign = sign_as(&signer(ORIGIN, Purpose::Log, 7));
    assert_eq!(refused(&foreign), Refused::Checkpoint(Unbelieved::Unsigned));
    let unwitnessed = sign_as(&log_key());
    assert_eq!(
        refused(&unwitnessed),
        Refused::Checkpoint(Unbelieved::Quorum { need: 1, have: 0 })
    );
    // The signature of an older tree over a newer text.
    let older = sign(&log_key(), log.size() - 1, [1; 32]).unwrap();
    let (newer, older) = (Note::parse(&unwitnessed).unwrap(), Note::parse(&older).unwrap());
    let mixed = format!("{}\n{}", newer.text, older.signatures[0].line());
    assert_eq!(refused(&mixed), Refused::Checkpoint(Unbelieved::Signature));
    assert!(matches!(
        refused("no checkpoint"),
        Refused::Checkpoint(Unbelieved::Malformed(_))
    ));
}

/// Checkpoints of the same log, rightly signed, for which this path was not made.
#[test]
fn a_checkpoint_of_another_size_has_another_path() {
    let text = ARCHIVE.proof("sha256-40.jsonl", 9, true);
    let index = Proof::parse(&text).unwrap().logged.index;
    let log = &ARCHIVE.log;
    for size in 1..log.frontier.size() {
        let read = |at: u64| Ok::<_, Infallible>(log.stored[at as usize]);
        let Ok(frontier) = Frontier::restore(size, read);
        let smaller = Log {
            frontier,
            stored: Vec::new(),
        };
        let refused = refusal(&re_signed(&text, &smaller.checkpoint()));
        assert!(matches!(refused, Refused::LogPath | Refused::Root), "{size}");
        assert!(size > index || refused == Refused::LogPath, "{size}");
    }
}

/// Whoever holds the log's key can have logged a block that no store seals: its proofs break a rule.
#[test]
fn a_block_that_breaks_the_format_proves_nothing_though_it_was_logged() {
    let flow = clinic::flow(Suite::Blake3, &[1, 2, 3, 4, 5, 6, 7, 8], true, 3);
    let pieces = flow.pack(&[5, 3]);
    type Case = (&'static str, usize, u64, fn(&mut Open));
    let table: [Case; 9] = [
        ("height", 0, 2, |open| open.header.height = 1),
        ("height", 1, 6, |open| {
            open.header.height = 0;
            open.header.previous = open.header.genesis;
        }),
        ("late", 0, 1, |open| open.events[0].frame[FLAGS_AT] = 1),
        ("sealed_at", 1, 7, |open| open.header.sealed_at = 5),
        ("when_range", 1, 8, |open| open.header.when_max = 6),
        ("close", 1, 8, |open| open.header.closes = false),
        ("close", 0, 5, |open| open.header.closes = true),
        ("close", 1, 8, |open| {
            let gone = open.events.remove(0).provisional;
            let [_, second, last] = open.seams.ids;
            open.seams.ids = [second, last, gone];
            open.header.first += 1;
            open.header.count -= 1;
        }),
        ("seam", 1, 7, |open| open.header.previous = open.header.genesis),
    ];
    for (rule, piece, n, change) in table {
        let mut open = Open::of(&pieces[piece]);
        change(&mut open);
        re_hash(&mut open);
        let packed = open.pack();
        let block = Container::decode(&packed).unwrap();
        let mut log = Log::default();
        let index = log.add_block(&block);
        let text = log.prove(&block, index, n, false).unwrap();
        assert_eq!(refusal(&text), Refused::Rule(rule));
    }
}

/// Makes hashes, ids, root and block hash fit what the container says.
fn re_hash(open: &mut Open) {
    use crate::suite::{Role, hash};
    let (suite, g) = (open.header.suite, open.header.genesis);
    for kept in &mut open.events {
        kept.hash = hash(suite, Role::Event, &[&kept.frame]);
    }
    let next = if open.header.closes {
        [g; 3]
    } else {
        open.seams.next_hashes
    };
    let hashes: Vec<Digest> = open.events.iter().map(|kept| kept.hash).chain(next).collect();
    let mut before = open.seams.ids;
    for (i, kept) in open.events.iter_mut().enumerate() {
        let own = [hashes[i], hashes[i + 1], hashes[i + 2], hashes[i + 3]];
        kept.provisional = crate::link::link(suite, &g, &before, &own);
        before = [before[1], before[2], kept.provisional];
    }
    let ids: Vec<Digest> = open.events.iter().map(|kept| kept.provisional).collect();
    open.header.root = crate::merkle::root(suite, &ids).unwrap();
    open.hash = open.header.digest();
}
