//! The two hash suites and the roles a hash is taken in. FORMAT.md, "Hashing".
use std::sync::LazyLock;

use sha2::block_api::compress256;

use crate::lanes::{Begun, Mode, Path, by_length, digest_of};
pub use crate::lanes::{Digest, UNIT};

/// How a flow is hashed; fixed when the flow begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// SHA-256, the default.
    Sha256 = 1,
    /// BLAKE3 in derive-key mode.
    Blake3 = 2,
}

impl Suite {
    /// The suite of a recorded byte.
    pub fn from_u8(byte: u8) -> Option<Suite> {
        match byte {
            1 => Some(Suite::Sha256),
            2 => Some(Suite::Blake3),
            _ => None,
        }
    }

    /// The byte that is recorded.
    pub fn as_u8(self) -> u8 {
        self as u8
    }

    /// The suite of a name in the interchange form.
    pub fn from_name(name: &str) -> Option<Suite> {
        match name {
            "sha256" => Some(Suite::Sha256),
            "blake3" => Some(Suite::Blake3),
            _ => None,
        }
    }

    /// The name in the interchange form.
    pub fn name(self) -> &'static str {
        match self {
            Suite::Sha256 => "sha256",
            Suite::Blake3 => "blake3",
        }
    }
}

/// What a hash is taken of. A value hashed in one role never equals one hashed in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A genesis record.
    Flow,
    /// A salted body: the commitment.
    Body,
    /// A frame: the event hash.
    Event,
    /// The 3+1+3 link: the id.
    Link,
    /// The provisional id.
    Provisional,
    /// A node of a Merkle tree over ids.
    Node,
    /// A block's header.
    Block,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 7] = [
        Role::Flow,
        Role::Body,
        Role::Event,
        Role::Link,
        Role::Provisional,
        Role::Node,
        Role::Block,
    ];

    fn context(self) -> &'static str {
        match self {
            Role::Flow => "event-seal/1 flow",
            Role::Body => "event-seal/1 body",
            Role::Event => "event-seal/1 event",
            Role::Link => "event-seal/1 link",
            Role::Provisional => "event-seal/1 provisional",
            Role::Node => "event-seal/1 node",
            Role::Block => "event-seal/1 block",
        }
    }
}

/// What hashing in a role starts from: computed once, so that no hash pays for its context.
struct Start {
    midstate: Begun,
    mode: Mode,
}

impl Start {
    fn of(role: Role) -> Start {
        let tag: Digest = <sha2::Sha256 as sha2::Digest>::digest(role.context()).into();
        let mut midstate = Begun::NOTHING;
        compress256(&mut midstate.state, &[joined(&tag, &tag)]);
        midstate.bytes = UNIT;
        Start {
            midstate,
            mode: Mode::derive_key(role.context()),
        }
    }
}

static STARTS: LazyLock<[Start; 7]> = LazyLock::new(|| Role::ALL.map(Start::of));

fn start(role: Role) -> &'static Start {
    let [flow, body, event, link, provisional, node, block] = &*STARTS;
    match role {
        Role::Flow => flow,
        Role::Body => body,
        Role::Event => event,
        Role::Link => link,
        Role::Provisional => provisional,
        Role::Node => node,
        Role::Block => block,
    }
}

/// H[role] of the parts put together and padded with zero bytes to a multiple of 64.
pub fn hash(suite: Suite, role: Role, parts: &[&[u8]]) -> Digest {
    of_parts(suite, role, parts.iter().copied())
}

/// So much of a long input is hashed between two looks at whether it is still wanted.
const STRETCH: usize = 1 << 20;

/// H[role] of a long input, unless `stopped` says in between that it is no longer wanted.
pub fn hash_unless(suite: Suite, role: Role, input: &[u8], stopped: impl Fn() -> bool) -> Option<Digest> {
    let digest = of_parts(suite, role, input.chunks(STRETCH).take_while(|_| !stopped()));
    (!stopped()).then_some(digest)
}

fn of_parts<'a>(suite: Suite, role: Role, parts: impl Iterator<Item = &'a [u8]>) -> Digest {
    match suite {
        Suite::Sha256 => sha256(start(role), parts),
        Suite::Blake3 => blake3(start(role), parts),
    }
}

/// H[role] of each input, in order, appended to `out`. All bulk hashing of this crate goes through here: inputs of equal
/// length are hashed side by side.
pub fn hash_each(suite: Suite, role: Role, inputs: &[&[u8]], out: &mut Vec<Digest>) {
    hash_each_by(Path::fastest(), suite, role, inputs, out);
}

/// `hash_each` by one of the ways to take SHA-256; the digests are the same by all.
pub fn hash_each_by(path: Path, suite: Suite, role: Role, inputs: &[&[u8]], out: &mut Vec<Digest>) {
    let start = start(role);
    let first = out.len();
    out.resize(first + inputs.len(), [0; 32]);
    by_length(inputs, out.get_mut(first..).unwrap_or_default(), |inputs, out| {
        if inputs.iter().any(|input| !input.len().is_multiple_of(UNIT)) {
            for (input, digest) in inputs.iter().zip(out) {
                *digest = hash(suite, role, &[input]);
            }
        } else if suite == Suite::Blake3 {
            start.mode.class(inputs, out);
        } else {
            start.midstate.class(path, inputs, out);
        }
    });
}

fn blake3<'a>(start: &Start, parts: impl Iterator<Item = &'a [u8]>) -> Digest {
    let mut hasher = start.mode.hasher();
    let mut length = 0;
    for part in parts {
        hasher.update(part);
        length += part.len();
    }
    let padding = ZEROS
        .get(..length.next_multiple_of(UNIT) - length)
        .unwrap_or_default();
    hasher.update(padding).finalize().into()
}

fn sha256<'a>(start: &Start, parts: impl Iterator<Item = &'a [u8]>) -> Digest {
    let mut state = start.midstate.state;
    let mut open = Open {
        block: [0; UNIT],
        filled: 0,
    };
    let mut length = start.midstate.bytes;
    for part in parts {
        open.take(&mut state, part);
        length += part.len();
    }
    if open.filled > 0 {
        compress256(&mut state, &[open.block]);
    }
    // SHA-256's own padding (FIPS 180-4, 5.1.1): its input here always ends at a block's end.
    let mut last = [0; UNIT];
    last[0] = 0x80;
    if let Some(bits) = last.last_chunk_mut::<8>() {
        *bits = (length.next_multiple_of(UNIT) as u64 * 8).to_be_bytes();
    }
    compress256(&mut state, &[last]);
    digest_of(state)
}

/// A block that is still being filled; what is not filled is zero.
struct Open {
    block: [u8; UNIT],
    filled: usize,
}

impl Open {
    fn take(&mut self, state: &mut [u32; 8], mut part: &[u8]) {
        if self.filled > 0 {
            let (head, rest) = part.split_at(part.len().min(UNIT - self.filled));
            if let Some(room) = self.block.get_mut(self.filled..self.filled + head.len()) {
                room.copy_from_slice(head);
            }
            self.filled += head.len();
            part = rest;
            if self.filled == UNIT {
                compress256(state, &[self.block]);
                *self = Open {
                    block: [0; UNIT],
                    filled: 0,
                };
            }
        }
        let (blocks, rest) = part.as_chunks::<UNIT>();
        compress256(state, blocks);
        if let Some(room) = self.block.get_mut(self.filled..self.filled + rest.len()) {
            room.copy_from_slice(rest);
            self.filled += rest.len();
        }
    }
}

fn joined(left: &Digest, right: &Digest) -> [u8; UNIT] {
    let mut block = [0; UNIT];
    let (a, b) = block.split_at_mut(32);
    a.copy_from_slice(left);
    b.copy_from_slice(right);
    block
}

static ZEROS: [u8; UNIT] = [0; UNIT];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    #[test]
    fn every_role_and_length_equals_the_reference() {
        let bytes: Vec<u8> = (0..1200).map(|i| (i % 251) as u8).collect();
        for suite in [Suite::Sha256, Suite::Blake3] {
            for role in Role::ALL {
                for length in [
                    0, 1, 63, 64, 65, 127, 128, 129, 191, 192, 193, 255, 256, 257, 1023, 1024, 1025,
                ] {
                    let input = &bytes[..length];
                    let expected = reference::h(suite, role.context(), &reference::pad64(input));
                    assert_eq!(hash(suite, role, &[input]), expected, "{role:?} {length}");
                    let mut each = Vec::new();
                    hash_each(suite, role, &[input, input], &mut each);
                    assert_eq!(each, [expected, expected]);
                }
            }
        }
    }

    #[test]
    fn a_long_input_is_hashed_alike_unless_it_is_no_longer_wanted() {
        let bytes = vec![7; 2 * STRETCH + 100];
        for suite in [Suite::Sha256, Suite::Blake3] {
            for length in [0, 1, STRETCH - 1, STRETCH, STRETCH + 1, bytes.len()] {
                let input = &bytes[..length];
                let expected = hash(suite, Role::Body, &[input]);
                assert_eq!(hash_unless(suite, Role::Body, input, || false), Some(expected));
                assert_eq!(hash_unless(suite, Role::Body, input, || true), None);
            }
            let looks = std::cell::Cell::new(0);
            let later = || looks.replace(looks.get() + 1) >= 1;
            assert_eq!(hash_unless(suite, Role::Body, &bytes, later), None);
            assert_eq!(looks.get(), 3);
        }
    }

    #[test]
    fn where_parts_are_cut_does_not_matter() {
        let bytes: Vec<u8> = (0..=255).collect();
        for suite in [Suite::Sha256, Suite::Blake3] {
            let whole = hash(suite, Role::Link, &[&bytes]);
            for cut in 0..=bytes.len() {
                let (left, right) = bytes.split_at(cut);
                assert_eq!(hash(suite, Role::Link, &[left, right]), whole, "{cut}");
                let (a, b) = right.split_at(right.len() / 3);
                assert_eq!(hash(suite, Role::Link, &[left, a, b]), whole, "{cut}");
            }
        }
    }
}
