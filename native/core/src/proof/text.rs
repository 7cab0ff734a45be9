//! A proof's lines. FORMAT.md, "Event proof".
use super::{Content, Proof, count_after, count_before, tlog};
use crate::block::Header;
use crate::event::{Event, Invalid, Where};
use crate::genesis::Genesis;
use crate::merkle::shape;
use crate::suite::{Digest, Suite};
use crate::wire::Malformed;
use crate::wire::lines::Lines;
use crate::wire::text::{decimal, from_base64, to_base64, to_hex};

const HEAD: &str = "event-seal/1 proof";

impl<'a> Proof<'a> {
    /// The text.
    pub fn text(&self) -> String {
        let mut out = format!("{HEAD}\n");
        write_genesis(&mut out, &self.genesis);
        line(&mut out, "n", &self.n.to_string());
        write_event(&mut out, &self.event);
        write_content(&mut out, &self.content);
        write_header(&mut out, &self.header);
        digests(&mut out, "before", &self.ids_before);
        digests(&mut out, "after", &self.hashes_after);
        digests(&mut out, "path", &self.path);
        out.push('\n');
        out + &self.logged.text()
    }

    /// Reads the text, strictly: all that can be known without hashing holds afterwards, and writing it again gives the
    /// same bytes.
    pub fn parse(text: &'a str) -> Result<Proof<'a>, Malformed> {
        let mut lines = Lines::new(text);
        lines.exactly(HEAD, "format")?;
        let genesis = genesis(&mut lines)?;
        let n = lines.number("n")?;
        let (event, content) = event(&mut lines, genesis.suite)?;
        let header = header(&mut lines, genesis.suite)?;
        if !(header.first..=header.last()).contains(&n) {
            return lines.fail("n");
        }
        let siblings = shape::siblings(n - header.first, u64::from(header.count)).unwrap_or_default();
        let ids_before = lines.digests("before", count_before(n))?;
        let hashes_after = lines.digests("after", count_after(n, &header))?;
        let path = lines.digests("path", siblings.len() as u64)?;
        lines.exactly("", "end")?;
        let at = lines.at();
        let logged = tlog::Proof::parse(lines.rest()).map_err(|malformed| malformed.within(at))?;
        Ok(Proof {
            genesis,
            n,
            event,
            content,
            header,
            ids_before,
            hashes_after,
            path,
            logged,
        })
    }
}

fn line(out: &mut String, key: &str, value: &str) {
    [key, " ", value, "\n"].iter().for_each(|part| out.push_str(part));
}

fn digests(out: &mut String, key: &str, digests: &[Digest]) {
    digests.iter().for_each(|digest| line(out, key, &to_hex(digest)));
}

fn write_genesis(out: &mut String, genesis: &Genesis) {
    line(out, "suite", genesis.suite.name());
    line(out, "flow", &genesis.flow);
    line(out, "created_at", &genesis.created_at.to_string());
    line(out, "nonce", &to_hex(&genesis.nonce));
}

fn write_event(out: &mut String, event: &Event<'_>) {
    line(out, "euid", &to_hex(&event.euid));
    line(out, "when", &event.when.to_string());
    line(out, "recorded_at", &event.recorded_at.to_string());
    line(out, "late", &event.late.to_string());
    line(out, "revision", &event.revision.to_string());
    line(out, "kind", event.kind);
    line(out, "version", &event.version.to_string());
    match event.place {
        Where::Nowhere => (),
        Where::Place(place) => line(out, "place", place),
        Where::Geo { lat, lon } => line(out, "geo", &format!("{lat} {lon}")),
    }
    event.who.iter().for_each(|who| line(out, "who", who));
}

fn write_content(out: &mut String, content: &Content) {
    match content {
        Content::Shown { salt, body } => {
            line(out, "salt", &to_hex(salt));
            if !body.is_empty() {
                line(out, "body", &to_base64(body));
            }
        }
        Content::NotShown(commitment) => line(out, "commitment", &to_hex(commitment)),
    }
}

fn write_header(out: &mut String, header: &Header) {
    line(out, "height", &header.height.to_string());
    line(out, "first", &header.first.to_string());
    line(out, "count", &header.count.to_string());
    line(out, "epoch", &header.epoch.to_string());
    line(out, "closes", &header.closes.to_string());
    line(out, "when_min", &header.when_min.to_string());
    line(out, "when_max", &header.when_max.to_string());
    line(out, "sealed_at", &header.sealed_at.to_string());
    if header.height > 0 {
        line(out, "previous", &to_hex(&header.previous));
    }
}

fn genesis(lines: &mut Lines<'_>) -> Result<Genesis, Malformed> {
    let at = lines.at();
    let suite = lines.read("suite", Suite::from_name)?;
    let flow = lines.value("flow")?;
    let created_at = lines.number("created_at")?;
    let nonce = lines.hex("nonce")?;
    Genesis::new(suite, created_at, nonce, flow).map_err(|invalid| of(at, invalid))
}

fn event<'a>(lines: &mut Lines<'a>, suite: Suite) -> Result<(Event<'a>, Content), Malformed> {
    let at = lines.at();
    let mut event = Event {
        euid: lines.hex("euid")?,
        when: lines.number("when")?,
        recorded_at: lines.number("recorded_at")?,
        late: lines.flag("late")?,
        revision: lines.number("revision")?,
        kind: lines.value("kind")?,
        version: lines.number("version")?,
        place: place(lines)?,
        who: lines.if_any("who")?,
        commitment: [0; 32],
    };
    event.check().map_err(|invalid| of(at, invalid))?;
    let content = content(lines)?;
    event.commitment = content.commitment(suite);
    Ok((event, content))
}

fn place<'a>(lines: &mut Lines<'a>) -> Result<Where<'a>, Malformed> {
    let at = lines.at();
    if let Some(place) = lines.if_any("place")? {
        return Ok(Where::Place(place));
    }
    let Some(geo) = lines.if_any("geo")? else {
        return Ok(Where::Nowhere);
    };
    let parts = geo
        .split_once(' ')
        .and_then(|(lat, lon)| Some((decimal(lat)?, decimal(lon)?)));
    let (lat, lon) = parts.ok_or(Malformed::new(at, "geo"))?;
    Ok(Where::Geo { lat, lon })
}

fn content(lines: &mut Lines<'_>) -> Result<Content, Malformed> {
    if lines.rest().starts_with("commitment ") {
        return lines.hex("commitment").map(Content::NotShown);
    }
    let salt = lines.hex("salt")?;
    let at = lines.at();
    let body = lines.if_any("body")?.map_or(Some(Vec::new()), from_base64);
    let body = body.ok_or(Malformed::new(at, "body"))?;
    Ok(Content::Shown { salt, body })
}

fn header(lines: &mut Lines<'_>, suite: Suite) -> Result<Header, Malformed> {
    let at = lines.at();
    let (height, first, count, epoch) = (
        lines.number("height")?,
        lines.number("first")?,
        lines.number("count")?,
        lines.number("epoch")?,
    );
    let header = Header {
        suite,
        height,
        first,
        count,
        epoch,
        closes: lines.flag("closes")?,
        when_min: lines.number("when_min")?,
        when_max: lines.number("when_max")?,
        sealed_at: lines.number("sealed_at")?,
        previous: if height == 0 {
            [0; 32]
        } else {
            lines.hex("previous")?
        },
        genesis: [0; 32],
        root: [0; 32],
    };
    match header.check() {
        Ok(()) => Ok(header),
        Err(malformed) => Err(Malformed::new(at, malformed.what)),
    }
}

fn of(at: usize, invalid: Invalid) -> Malformed {
    Malformed::new(at, invalid.field.name())
}
