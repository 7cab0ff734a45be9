//! What a terminal is shown, and what it must never be: text from a file that it would obey.

use crate::opened::Opened;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// A text from a file, with what would move the cursor, hide or turn other text around written as `\u{…}`.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if is_unseen(char) {
            out.extend(char.escape_unicode());
        } else {
            out.push(char);
        }
    }
    out
}

/// Control characters, and those that format, join or turn text and are not seen themselves.
pub fn is_unseen(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// How a line is meant.
#[derive(Clone, Copy)]
pub enum Colour {
    Good = 32,
    Bad = 31,
    Caution = 33,
}

/// A line for standard output, in colour where that is a terminal.
pub fn coloured(text: &str, colour: Colour) -> String {
    if io::stdout().is_terminal() && wants_colour() {
        format!("\x1b[{}m{text}\x1b[0m", colour as u8)
    } else {
        text.to_owned()
    }
}

/// See no-color.org.
fn wants_colour() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !dumb && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

const EVERY: Duration = Duration::from_millis(100);
const BAR: u64 = 30;

/// Shows on standard error, if that is a terminal, how much of a file was read, until there is nobody who sends.
pub fn progress(file: &Opened, total: u64, work: &Receiver<()>) {
    if !io::stderr().is_terminal() {
        return;
    }
    let mut shown = false;
    while work.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
        let done = file.bytes_read().min(total);
        let (bar, percent) = (done * BAR / total.max(1), done * 100 / total.max(1));
        let (full, empty) = ("#".repeat(bar as usize), "-".repeat((BAR - bar) as usize));
        eprint!("\r[{full}{empty}] {percent:3} %");
        shown = true;
    }
    if shown {
        eprint!("\r\x1b[K");
    }
    let _ = io::stderr().flush();
}
