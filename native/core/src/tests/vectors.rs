//! Every value of the vectors, by the reference and by the fast path.
use std::path::PathBuf;

use serde_json::Value;

use crate::block::{Container, Entry, Sealing, pack_tail, seal, seal_in};
use crate::chain::{Links, settle};
use crate::event::{self, Event, Where, salted_body};
use crate::genesis::Genesis;
use crate::log::{Frontier, Leaf, leaf_hash};
use crate::reference;
use crate::suite::{Digest, Suite};
use crate::tests::log::naive;
use crate::verify::{Expect, Run, Unwatched, verify};

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
        .collect()
}

pub fn digest(value: &Value) -> Digest {
    unhex(value).try_into().unwrap()
}

fn unbase64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    let (mut bits, mut held) = (0_u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        bits = bits << 6 | ALPHABET.iter().position(|known| *known == byte).unwrap() as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    out
}

pub struct Vector {
    pub name: String,
    pub flow: reference::Flow,
    pub header: Value,
    pub events: Vec<Value>,
    pub blocks: Vec<Value>,
}

pub fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../test/vectors")
}

pub fn all() -> Vec<Vector> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    paths.sort();
    assert_eq!(paths.len(), 18);
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &std::path::Path) -> Vector {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let header = lines.next().unwrap();
    let (events, blocks): (Vec<Value>, Vec<Value>) = lines.partition(|line| line.get("n").is_some());
    let flow = reference::Flow {
        suite: Suite::from_name(header["suite"].as_str().unwrap()).unwrap(),
        created_at: header["created_at"].as_i64().unwrap(),
        nonce: unhex(&header["nonce"]).try_into().unwrap(),
        flow: header["flow"].as_str().unwrap().to_owned(),
        closed: header["closed"].as_bool().unwrap(),
        events: events.iter().map(read_event).collect(),
    };
    Vector {
        name: path.file_name().unwrap().to_string_lossy().into_owned(),
        flow,
        header,
        events,
        blocks,
    }
}

fn read_event(line: &Value) -> reference::Event {
    let place = match &line["where"] {
        Value::Null => reference::Where::Nowhere,
        place if place.get("place").is_some() => {
            reference::Where::Place(place["place"].as_str().unwrap().to_owned())
        }
        geo => {
            let part = |i: usize| geo["geo"][i].as_i64().unwrap() as i32;
            reference::Where::Geo(part(0), part(1))
        }
    };
    reference::Event {
        euid: unhex(&line["euid"]).try_into().unwrap(),
        when: line["when"].as_i64().unwrap(),
        recorded_at: line["recorded_at"].as_i64().unwrap(),
        late: line["late"].as_bool().unwrap(),
        revision: line["revision"].as_u64().unwrap() as u16,
        kind: line["kind"].as_str().unwrap().to_owned(),
        version: line["version"].as_u64().unwrap() as u16,
        place,
        who: line["who"].as_str().map(str::to_owned),
        salt: unhex(&line["salt"]).try_into().unwrap(),
        body: unbase64(line["body"].as_str().unwrap()),
    }
}

fn block_of(line: &Value) -> reference::Block {
    let number = |key: &str| line[key].as_u64().unwrap();
    reference::Block {
        height: number("block"),
        first: number("first"),
        last: number("first") + number("count") - 1,
        epoch: number("epoch"),
        sealed_at: line["sealed_at"].as_i64().unwrap(),
    }
}

#[test]
fn the_reference_reproduces_every_value() {
    for Vector {
        name,
        flow,
        header,
        events,
        blocks,
    } in all()
    {
        assert_eq!(flow.genesis(), digest(&header["genesis"]), "{name}");
        let ids = flow.ids();
        for (i, line) in events.iter().enumerate() {
            let n = i as i64 + 1;
            assert_eq!(
                flow.events[i].commitment(flow.suite),
                digest(&line["commitment"]),
                "{name} {n}"
            );
            assert_eq!(flow.event_hash(n), Some(digest(&line["hash"])), "{name} {n}");
            assert_eq!(flow.late(n), line["late"].as_bool().unwrap(), "{name} {n}");
            match line.get("id") {
                Some(id) => assert_eq!(ids[i], digest(id), "{name} {n}"),
                None => assert_eq!(flow.provisional(n), digest(&line["provisional"]), "{name} {n}"),
            }
        }
        let mut previous = flow.genesis();
        for line in blocks {
            let block = block_of(&line);
            let whens = (
                line["when_min"].as_i64().unwrap(),
                line["when_max"].as_i64().unwrap(),
            );
            assert_eq!(flow.whens(&block), whens, "{name}");
            assert_eq!(flow.closes(&block), line["closes"].as_bool().unwrap(), "{name}");
            assert_eq!(flow.root(&block), digest(&line["root"]), "{name}");
            previous = flow.block_hash(&block, &previous);
            assert_eq!(previous, digest(&line["hash"]), "{name}");
        }
    }
}

fn fast_event<'a>(event: &'a reference::Event, commitment: Digest) -> Event<'a> {
    Event {
        euid: event.euid,
        when: event.when,
        recorded_at: event.recorded_at,
        commitment,
        late: false,
        revision: event.revision,
        kind: &event.kind,
        version: event.version,
        place: match &event.place {
            reference::Where::Nowhere => Where::Nowhere,
            reference::Where::Place(place) => Where::Place(place),
            reference::Where::Geo(lat, lon) => Where::Geo { lat: *lat, lon: *lon },
        },
        who: event.who.as_deref(),
    }
}

/// Settles and seals a vector's flow by the fast path, comparing every value on the way, and every packed byte with the
/// reference. `batch` events are settled at a time.
pub fn seal_fast(vector: &Vector, batch: usize) -> Vec<Vec<u8>> {
    let Vector {
        name,
        flow,
        header,
        events,
        blocks,
    } = vector;
    let genesis = Genesis::new(flow.suite, flow.created_at, flow.nonce, &flow.flow).unwrap();
    assert_eq!(genesis.digest(), digest(&header["genesis"]), "{name}");
    let record = genesis.encode();
    assert_eq!(record, flow.genesis_record());
    let mut links = Links::start(flow.suite, genesis.digest());
    let (mut frames, mut bodies) = (Vec::new(), Vec::new());
    for (event, line) in flow.events.iter().zip(events) {
        let body = salted_body(&event.salt, &event.body);
        let commitment = event::commitment(flow.suite, &body);
        assert_eq!(commitment, digest(&line["commitment"]), "{name}");
        let mut frame = Vec::new();
        fast_event(event, commitment).encode(&mut frame).unwrap();
        frames.push(frame);
        bodies.push(body);
    }
    let (mut entries, mut ids) = (Vec::new(), Vec::new());
    let count = frames.len();
    for part in frames.chunks(batch) {
        let closing = flow.closed && entries.len() + part.len() == count;
        links = Links::decode(&links.encode()).unwrap();
        let settled = settle(&mut links, part.to_vec(), closing).unwrap();
        entries.extend(settled.entries);
        ids.extend(settled.ids);
    }
    assert_eq!(ids, flow.ids(), "{name}");
    for (i, (entry, line)) in entries.iter().zip(events).enumerate() {
        assert_eq!(entry.n, i as u64 + 1);
        assert_eq!(entry.hash, digest(&line["hash"]), "{name}");
        assert_eq!(entry.provisional, flow.provisional(i as i64 + 1), "{name}");
        assert_eq!(entry.frame, flow.events[i].frame(flow.suite), "{name}");
    }
    let entry = |i: usize, id: Digest| Entry {
        frame: &entries[i].frame,
        hash: entries[i].hash,
        id,
        body: Some(&bodies[i]),
    };
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut fixed = 0;
    let mut previous = genesis.digest();
    for line in blocks {
        let block = block_of(line);
        let (first, last) = (block.first as i64, block.last as i64);
        let id = |n: i64| {
            if n < 1 {
                genesis.digest()
            } else {
                ids[n as usize - 1]
            }
        };
        let hash = |n: i64| flow.event_hash(n).unwrap();
        let run: Vec<Entry> = (first..=last).map(|n| entry(n as usize - 1, id(n))).collect();
        let sealing = Sealing {
            genesis_record: &record,
            height: block.height,
            first: block.first,
            epoch: block.epoch,
            sealed_at: block.sealed_at,
            previous,
            ids_before: [id(first - 3), id(first - 2), id(first - 1)],
            hashes_before: [hash(first - 2), hash(first - 1)],
            next_hashes: [hash(last + 1), hash(last + 2), hash(last + 3)],
            closes: flow.closes(&block),
            entries: &run,
        };
        let packed = seal(&sealing).unwrap();
        let in_used_room = seal_in(&sealing, |length| vec![0xaa; length]);
        assert_eq!(in_used_room.as_ref(), Ok(&packed), "{name}");
        assert_eq!(packed, flow.pack_block(&block, &previous), "{name}");
        previous = *Container::decode(&packed).unwrap().hash();
        assert_eq!(previous, digest(&line["hash"]), "{name}");
        pieces.push(packed);
        fixed = block.last as usize;
    }
    if fixed < count {
        let run: Vec<Entry> = (fixed..count).map(|i| entry(i, entries[i].provisional)).collect();
        let last = pieces.last().map(|block| Container::decode(block).unwrap());
        let tail = pack_tail(&record, last.as_ref(), &run).unwrap();
        assert_eq!(
            tail,
            flow.pack_tail(blocks.len() as u64, fixed as i64 + 1, &previous),
            "{name}"
        );
        pieces.push(tail);
    }
    pieces
}

#[test]
fn the_fast_path_reproduces_every_value_and_every_packed_byte() {
    for vector in all() {
        for batch in [1, 2, 3, 4, 5, 100] {
            seal_fast(&vector, batch);
        }
    }
}

#[test]
fn every_vector_verifies() {
    for vector in all() {
        let pieces = seal_fast(&vector, 100);
        let count = vector.events.len() as u64;
        let fixed = vector.blocks.last().map_or(0, |line| block_of(line).last);
        let expect = Expect {
            bodies: true,
            fixed: Some(fixed),
            last: Some(count),
            closed: Some(vector.flow.closed),
        };
        let run = Run {
            expect,
            ..Run::whole(&vector.flow.flow, 0..pieces.len())
        };
        let verdict = verify(&pieces[..], &[run], &Unwatched, 10);
        assert_eq!(verdict.faults, [], "{}", vector.name);
        assert_eq!((verdict.fault_count, verdict.flows), (0, 1));
        assert_eq!(
            (verdict.events, verdict.fixed, verdict.provisional),
            (count, fixed, count - fixed)
        );
        assert_eq!((verdict.bodies_verified, verdict.bodies_not_shown), (count, 0));
        assert_eq!(verdict.blocks as usize, vector.blocks.len());
    }
}

/// Stored state is taken up again behind every block, and goes on as if it had never stopped.
#[test]
fn links_are_restored_behind_every_block() {
    use crate::chain::Stored;
    for vector in all() {
        let pieces = seal_fast(&vector, 100);
        let containers: Vec<Container> = pieces
            .iter()
            .map(|piece| Container::decode(piece).unwrap())
            .collect();
        let flow = &vector.flow;
        for block in containers.iter().filter(|container| !container.is_tail()) {
            let fixed = block.last() as usize;
            let when_max = flow.events[..fixed].iter().map(|event| event.when).max();
            let stored: Vec<(Vec<u8>, Digest, Digest)> = (fixed..flow.events.len())
                .map(|i| {
                    let n = i as i64 + 1;
                    (
                        flow.events[i].frame(flow.suite),
                        flow.event_hash(n).unwrap(),
                        flow.provisional(n),
                    )
                })
                .collect();
            let stored: Vec<Stored> = stored
                .iter()
                .map(|(frame, hash, provisional)| Stored {
                    frame,
                    hash: *hash,
                    provisional: *provisional,
                })
                .collect();
            if flow.closed && !block.header().closes {
                continue; // a closing never leaves its flow half sealed
            }
            let (links, settled) =
                Links::restore(block.genesis_record(), Some(block), when_max, &stored).unwrap();
            assert_eq!(links.n() as usize, flow.events.len());
            assert_eq!(links.closed(), flow.closed);
            assert_eq!(settled.first_id as usize, fixed + 1);
            assert_eq!(settled.ids, flow.ids()[fixed..]);
            for drop in 0..stored.len().min(3) {
                let fewer = Links::restore(block.genesis_record(), Some(block), when_max, &stored[..drop]);
                assert_eq!(fewer.unwrap_err(), crate::chain::Corrupt::Missing);
            }
        }
    }
}

#[test]
fn log_leaves_and_roots() {
    let text = std::fs::read_to_string(directory().join("log.json")).unwrap();
    let log: Value = serde_json::from_str(&text).unwrap();
    let vectors = all();
    let mut leaves = Vec::new();
    for leaf in log["leaves"].as_array().unwrap() {
        let data = unhex(&leaf["data"]);
        let Vector { flow, blocks, .. } = vectors
            .iter()
            .find(|vector| vector.name == leaf["file"].as_str().unwrap())
            .unwrap();
        let n = u64::from_be_bytes(data[data.len() - 40..data.len() - 32].try_into().unwrap());
        let made = match leaf["kind"].as_str().unwrap() {
            "block" => {
                let line = blocks.iter().find(|line| block_of(line).last == n).unwrap();
                Leaf::Block {
                    suite: flow.suite,
                    genesis: flow.genesis(),
                    height: block_of(line).height,
                    last: n,
                    hash: digest(&line["hash"]),
                }
            }
            "tail" => {
                assert_eq!(n as usize, flow.events.len());
                Leaf::Tail {
                    suite: flow.suite,
                    genesis: flow.genesis(),
                    n,
                    provisional: flow.provisional(n as i64),
                }
            }
            kind => panic!("{kind}"),
        };
        assert_eq!(data, made.encode());
        assert_eq!(Leaf::decode(&data), Ok(made));
        leaves.push(data);
    }
    let roots = log["roots"].as_array().unwrap();
    assert_eq!(roots.len(), leaves.len() + 1);
    let (mut frontier, mut stored) = (Frontier::default(), Vec::new());
    for (size, root) in roots.iter().enumerate() {
        assert_eq!(frontier.root(), digest(root), "{size}");
        assert_eq!(naive::root(&leaves[..size]), digest(root), "{size}");
        if let Some(leaf) = leaves.get(size) {
            frontier.push(leaf_hash(leaf), &mut stored).unwrap();
        }
    }
}

/// FORMAT.md's own values: the tags of the roles, and the flow of one event.
#[test]
fn the_format_page_holds_the_values_that_are_hashed() {
    use sha2::{Digest as _, Sha256};
    let page = std::fs::read_to_string(directory().join("../../FORMAT.md")).unwrap();
    for role in ["flow", "body", "event", "link", "provisional", "node", "block"] {
        let tag = Sha256::digest(format!("event-seal/1 {role}"));
        let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(page.contains(&format!("| `{role}` | `{hex}` |")), "{role}");
    }
    let vector = read(&directory().join("sha256-1-closed.jsonl"));
    let shown = [
        &vector.header["genesis"],
        &vector.events[0]["commitment"],
        &vector.events[0]["hash"],
    ];
    let shown = shown.into_iter().chain([
        &vector.events[0]["id"],
        &vector.blocks[0]["hash"],
        &vector.header["nonce"],
    ]);
    for value in shown.chain([&vector.events[0]["euid"], &vector.events[0]["salt"]]) {
        assert!(page.contains(value.as_str().unwrap()), "{value}");
    }
}
