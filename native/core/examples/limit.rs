//! What verification is measured against: the hashing of format 1 alone, over inputs that lie ready in memory, on all cores.
//!
//!     limit lanes|one_by_one sha256|blake3 BODY EVENTS
//!
//! `lanes` is the core's own bulk hashing, `one_by_one` the sha2 crate, fed one input after the other. For each line read,
//! everything is hashed once, and a line says how many events a second that were.
use std::io::{self, BufRead, Error};
use std::time::Instant;

use event_seal_core::suite::{Digest, Role, Suite, hash};
use event_seal_load::{Each, Inputs, lanes};
use sha2::{Digest as _, Sha256};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [how, suite, body, events] = &arguments[..] else {
        return Err(Error::other("limit lanes|one_by_one sha256|blake3 BODY EVENTS"));
    };
    let suite = Suite::from_name(suite).ok_or_else(|| Error::other("no such suite"))?;
    let body: usize = body.parse().map_err(Error::other)?;
    let events = events.parse().map_err(Error::other)?;
    let each = if how == "lanes" {
        lanes(suite)
    } else {
        one_by_one()
    };
    let inputs = Inputs::of(body, events);
    for line in io::stdin().lock().lines() {
        line?;
        let started = Instant::now();
        inputs.hash_all(&each);
        println!("{:.0}", events as f64 / started.elapsed().as_secs_f64());
    }
    Ok(())
}

/// sha2 with the tag's midstate kept.
fn one_by_one() -> Each {
    let roles = [
        (Role::Body, "body"),
        (Role::Event, "event"),
        (Role::Link, "link"),
        (Role::Node, "node"),
    ];
    let starts = roles.map(|(role, name)| (role, tagged(name)));
    for (role, start) in &starts {
        let digest: Digest = start.clone().chain_update([0; 64]).finalize().into();
        assert_eq!(digest, hash(Suite::Sha256, *role, &[&[0; 64]]));
    }
    Box::new(move |role, inputs, out| {
        let start = starts.iter().find(|(of, _)| *of == role).map(|(_, start)| start);
        let one = |input: &&[u8]| start.cloned().unwrap_or_default().chain_update(input).finalize();
        out.extend(inputs.iter().map(|input| Digest::from(one(input))));
    })
}

fn tagged(role: &str) -> Sha256 {
    let tag = Sha256::digest(format!("event-seal/1 {role}"));
    Sha256::new_with_prefix(tag).chain_update(tag)
}
