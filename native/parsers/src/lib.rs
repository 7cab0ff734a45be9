//! Each parser of the core as a function of any bytes. It panics if the parser does, or if what was read is not written again
//! as it was: what has more than one form could be changed unnoticed.
//!
//! libFuzzer runs them from `native/fuzz`; the tests here run them over the corpus and what becomes of it, on any toolchain.
use event_seal_core::archive::{Archive, Disclose, Item, LogFile, Preamble, disclose};
use event_seal_core::block::{Body, Container, Header};
use event_seal_core::chain::{Links, run};
use event_seal_core::checkpoint::{Checkpoint, Policy, Request};
use event_seal_core::event::{Event, decode_salted_body, salted_body};
use event_seal_core::genesis::Genesis;
use event_seal_core::has_control;
use event_seal_core::import::parse_line;
use event_seal_core::interchange::{lines, verify_file};
use event_seal_core::kept::{Kept, Place, compare, cut, mend};
use event_seal_core::log::{Leaf, Ledger};
use event_seal_core::note::{Note, Signature, Signer, VerifierKey};
use event_seal_core::proof::{Proof, tlog, verify as prove};
use event_seal_core::receipt::{Promise, Receipt, Standing, verify as check_receipt};
use event_seal_core::suite::Suite;
use event_seal_core::verify::{Edge, ReadAt, Run, Unwatched, verify};

/// A parser, by the name of its fuzz target and its folder in the corpus.
#[derive(Clone, Copy, Debug)]
pub struct Parser {
    /// Its name.
    pub name: &'static str,
    /// Runs it.
    pub run: fn(&[u8]),
}

macro_rules! parsers {
    ($($name:ident),* $(,)?) => {
        /// All of them.
        pub const PARSERS: &[Parser] = &[$(Parser { name: stringify!($name), run: $name }),*];
    };
}

parsers!(
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

const MAX_FAULTS: usize = 10;

/// The key of FORMAT.md's examples, which has signed what is in the corpus.
const KEY: &str = "clinic.example/log+e8b1a5c7+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";

/// The key of the receipt in FORMAT.md.
const RECEIPTS_KEY: &str = "clinic.example/receipts+303e110e+/2V2ZW50LXNlYWwvMSByZWNlaXB07UkoxijRwsbq6QM4kFmVYSlZJzpcY/k2NsFGFKyHN9E=";

fn policy() -> Policy {
    let key = VerifierKey::parse(KEY).expect("a key");
    Policy::new(vec![key], vec![], 0).expect("a policy")
}

/// An archive gives a verdict, and whatever it says of its proof can be asked for.
pub fn archive(bytes: &[u8]) {
    let Ok(archive) = Archive::open(bytes) else {
        return;
    };
    let preamble = archive.preamble();
    assert!(bytes.starts_with(&preamble.encode()));
    let beginning = bytes.get(..64).unwrap_or_default();
    assert_eq!(Preamble::decode(beginning).as_ref(), Ok(preamble));
    let (_, verdict) = archive.verify(&Unwatched, MAX_FAULTS);
    assert!(verdict.faults.len() as u64 <= verdict.fault_count);
    let _ = archive.proof();
    let unasked = archive.signed(None).is_ok();
    assert!(archive.signed(Some(&policy())).is_err() || unasked);
    let _ = archive.containers().block(preamble.height, &mut Vec::new());
}

/// A note's lines are written again as they were, and so is a checkpoint; neither is opened by chance.
pub fn checkpoint(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let opened = policy().open(text).is_ok();
    let Ok(note) = Note::parse(text) else {
        assert!(!opened);
        return;
    };
    let own: String = note.signatures.iter().map(Signature::line).collect();
    assert_eq!(format!("{}\n{own}", note.text), text);
    if let Ok(again) = note.with(&own) {
        assert!(again.len() <= text.len());
    }
    match Checkpoint::parse(note.text) {
        Ok(checkpoint) => assert!(note.text.starts_with(&checkpoint.text())),
        Err(_) => assert!(!opened),
    }
}

/// All that a packed container gives can be asked for, it can be written in the other form, and it gives a verdict.
pub fn container(bytes: &[u8]) {
    let mut flow = String::from("patient/1");
    let header = Header::of_beginning(bytes);
    if let Ok(container) = Container::decode(bytes) {
        assert!(container.is_tail() || header.as_ref() == Ok(container.header()));
        let genesis = Genesis::decode(container.genesis_record()).expect("a genesis");
        assert_eq!(genesis.encode(), container.genesis_record());
        assert_eq!(genesis.flow, container.flow());
        flow = genesis.flow;
        for i in 0..container.count() {
            let _ = container.event(i);
            if let Body::Shown(salted) = container.body(i) {
                let _ = decode_salted_body(salted);
            }
        }
        let _ = lines(&container, &mut Vec::new());
        let hidden = disclose(&container, Disclose::At(&[1]));
        assert!(Container::decode(&hidden).is_ok());
    }
    let verdict = verify(&[bytes][..], &[Run::whole(&flow, 0..1)], &Unwatched, MAX_FAULTS);
    assert_eq!(verdict.flows, 1);
}

/// A frame that is read is written again as it was, and so is a salted body.
pub fn frame(bytes: &[u8]) {
    if let Ok(event) = Event::decode(bytes) {
        let mut again = Vec::new();
        event.encode(&mut again).expect("it was read");
        assert_eq!(again, bytes);
    }
    if let Ok((salt, body)) = decode_salted_body(bytes) {
        assert_eq!(salted_body(salt, body), bytes);
    }
}

/// A genesis record that is read is written again as it was.
pub fn genesis(bytes: &[u8]) {
    if let Ok(genesis) = Genesis::decode(bytes) {
        assert_eq!(genesis.encode(), bytes);
    }
}

/// A line to import is read or refused, and what is read keeps the rules.
pub fn import(line: &[u8]) {
    if let Ok(event) = parse_line(line) {
        assert!((1..=512).contains(&event.flow.len()) && !has_control(&event.flow));
        assert!((1..=255).contains(&event.kind.len()) && !event.kind.starts_with('$'));
    }
}

/// An interchange file gives a verdict, whatever its bytes are.
pub fn interchange(file: &[u8]) {
    verify_file(file, &Unwatched, MAX_FAULTS);
}

/// What is kept of a verification or a chain, to go on from, is written again as it was.
pub fn kept(bytes: &[u8]) {
    if let Ok(edge) = Edge::decode(bytes) {
        assert_eq!(edge.encode(), bytes);
    }
    if let Ok(links) = Links::decode(bytes) {
        assert_eq!(links.encode(), bytes);
    }
}

/// Whatever bytes stand for what a verification store has of a block, and for the block: what is read can be checked,
/// compared and mended with.
pub fn part(bytes: &[u8]) {
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
}

/// The record of settled events is written again as it was; in front of it stands its length, behind it are their bodies.
pub fn run(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else {
        return;
    };
    let Some((record, bodies)) = rest.split_at_checked(u32::from_be_bytes(*length) as usize) else {
        return;
    };
    if let Ok((first, events)) = run::decode(record, Some(bodies)) {
        assert_eq!(run::encode(first, &events), record);
        let limits = run::Limits {
            events: 2,
            bytes: 1_000,
            whole: first / 2,
        };
        let part = run::part(&[(first, events.clone())], &limits);
        let left = part.rest.map_or(0, |(_, left)| left.len());
        assert_eq!(part.sealed.len() + left, events.len());
    }
}

/// A receipt that is read is written again as it was, and checking it never panics.
pub fn receipt(bytes: &[u8]) {
    if let Ok(receipt) = Receipt::read(bytes) {
        assert_eq!(receipt.text().as_bytes(), bytes);
        assert_eq!(Receipt::parse(&receipt.text()).as_ref(), Ok(&receipt));
    }
    let promise = Promise::of(Suite::Sha256, [0; 32], bytes, Standing::Settled, i64::MAX >> 11);
    assert!(promise.is_err() || Event::decode(bytes).is_ok());
    let key = VerifierKey::parse(RECEIPTS_KEY).expect("a key");
    let policy = Policy::of_receipts(vec![key]).expect("a policy");
    if let Ok(held) = check_receipt(bytes, &policy) {
        assert_eq!(held.receipt.text().as_bytes(), bytes);
    }
}

/// A key's text, secret or not, is written again as it was.
pub fn key(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    if let Ok(key) = VerifierKey::parse(text) {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(signer) = Signer::parse(text) {
        assert_eq!(*signer.secret_text(), text);
    }
}

/// A leaf of the log that is read is written again as it was.
pub fn leaf(data: &[u8]) {
    if let Ok(leaf) = Leaf::decode(data) {
        assert_eq!(leaf.encode(), data);
    }
}

/// A log file gives a verdict, and a ledger takes in whatever its leaves say and can be asked.
pub fn log_file(bytes: &[u8]) {
    let Ok(log) = LogFile::open(bytes) else {
        return;
    };
    let verdict = log.verify(&Unwatched, MAX_FAULTS);
    assert!(verdict.faults.len() as u64 <= verdict.fault_count);
    let (mut ledger, mut flows, mut length) = (Ledger::default(), Vec::new(), 64);
    let each = log.each(&Unwatched, |_, item| {
        let (Item::Leaf(data) | Item::Checkpoint(data)) = item;
        length += 4 + data.len() as u64;
        if let Item::Leaf(data) = item {
            assert!(ledger.learn(data));
            if let Ok(Leaf::Block { genesis, .. } | Leaf::Tail { genesis, .. }) = Leaf::decode(data) {
                flows.push(genesis);
            }
        }
    });
    assert!(each.is_err() || length == bytes.length());
    ledger.arrange();
    for genesis in flows {
        let (fixed, n) = ledger.reach(&genesis, verdict.leaves);
        assert!(fixed <= n);
        ledger.pass(&genesis, verdict.leaves / 2, n);
    }
    assert!(ledger.covered(0) == 0 && ledger.unmet().len() <= 2 * ledger.size() as usize);
}

/// A proof that is read is written again as it was, and so is its log proof; checking one never panics.
pub fn proof(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        if let Ok(proof) = Proof::parse(text) {
            assert_eq!(proof.text(), text);
        }
        if let Ok(logged) = tlog::Proof::parse(text) {
            assert_eq!(logged.text(), text);
        }
    }
    if let Ok(proven) = prove(bytes, &policy()) {
        assert_eq!(proven.proof.text().as_bytes(), bytes);
    }
}

/// What a witness is asked is written again as it was, and whether one tree extends the other can be asked.
pub fn request(bytes: &[u8]) {
    if let Ok(request) = Request::parse(bytes) {
        assert_eq!(request.text().as_bytes(), bytes);
        let _ = request.extends(&[7; 32]);
    }
}
