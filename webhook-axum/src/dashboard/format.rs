//! Formats numbers, times and texts for people.

use std::time::Duration;

use uuid::Uuid;
use webhook_core::{Failure, HeaderLog, StateReason, Timestamp};

use crate::caller::Audience;

/// `1 234 567`, with thin spaces.
pub(super) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{2009}');
        }
        text.push(digit);
    }
    text
}

/// As [`number`]: templates pass references.
pub(super) fn count(count: &u64) -> String {
    number(*count)
}

/// Templates cannot compare references of different depth.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    one == other
}

/// An id where there is little room: what tells it from its neighbours. It is whole in its link and its `title`.
pub(super) fn short(id: &Uuid) -> String {
    let text = id.to_string();
    let ends = text.get(..8).zip(text.get(text.len() - 6..));
    ends.map_or_else(String::new, |(start, end)| format!("{start}…{end}"))
}

/// The pieces of a URL between which a line may end: its origin, and each segment of its path.
pub(super) fn pieces(url: &str) -> Vec<String> {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find('/').map_or(url.len(), |at| host + at + 1);
    let (origin, path) = url.split_at(end);
    let pieces = std::iter::once(origin).chain(path.split_inclusive('/'));
    pieces.map(str::to_owned).collect()
}

/// What an attempt failed with, as its reader may know it.
pub(super) fn failure(audience: &Audience, failure: &Failure) -> String {
    audience.failure(*failure)
}

/// Why an endpoint is as it is, after its state.
pub(super) fn reason(reason: &StateReason) -> &'static str {
    match reason {
        StateReason::Requested => "on request",
        StateReason::Gone => "because it answered 410, which means that it is gone for good",
        StateReason::Failing => "because nothing but failures came from it for days",
        other => other.as_str(),
    }
}

/// `3 ms`, `1.2 s`, `4 min`, `2 h`, `3 d`.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match time.as_secs() {
        0 if time.as_millis() < 10 => format!("{:.1} ms", seconds * 1_000.0),
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{seconds:.1} s"),
        60..3_600 => format!("{:.0} min", seconds / 60.0),
        3_600..172_800 => format!("{:.1} h", seconds / 3_600.0),
        _ => format!("{:.1} d", seconds / 86_400.0),
    }
}

pub(super) fn maybe_span(time: Option<Duration>) -> String {
    time.map_or_else(|| "–".to_owned(), span)
}

/// `99.5 %` of all; nothing of nothing.
pub(super) fn percent(part: u64, all: u64) -> String {
    if all == 0 {
        return "–".to_owned();
    }
    format!("{:.1} %", part as f64 * 100.0 / all as f64)
}

/// A time for people without a script; with one it is shown in their own zone.
pub(super) fn utc(time: &Timestamp) -> String {
    let text = time.to_string();
    let seconds = text.get(..19).unwrap_or(&text).replace('T', " ");
    format!("{seconds} UTC")
}

/// A sentence as it stands alone: with a capital, unless it begins with a name such as `max_in_flight`.
pub(super) fn capital(sentence: &str) -> String {
    let word = sentence.split(' ').next().unwrap_or_default();
    if !word.bytes().all(|it| it.is_ascii_lowercase()) {
        return sentence.to_owned();
    }
    let mut sentence = sentence.to_owned();
    if let Some(first) = sentence.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    sentence
}

/// A sentence in parts, each with the time that stands after it: as [`Timestamp`] writes it, people would have to read
/// it in UTC.
pub(super) fn parts(sentence: &impl ToString) -> Vec<(String, Option<Timestamp>)> {
    let (sentence, mut parts) = (sentence.to_string(), Vec::new());
    let mut text = String::new();
    for word in sentence.split_inclusive(' ') {
        let bare = word.trim_end_matches([' ', ',', ';', ':', '.']);
        match bare.parse() {
            Ok(at) => {
                parts.push((std::mem::take(&mut text), Some(at)));
                text.push_str(&word[bare.len()..]);
            }
            Err(_) => text.push_str(word),
        }
    }
    parts.push((text, None));
    parts
}

/// A time on an axis: no seconds.
pub(super) fn utc_minute(time: &Timestamp) -> String {
    let text = time.to_string();
    let minutes = text.get(5..16).unwrap_or(&text).replace('T', " ");
    format!("{minutes} UTC")
}

/// `2024-05-01T10:00` as a form gives it, as a timestamp's text.
pub(super) fn from_form(text: &str) -> String {
    match text.len() {
        16 => format!("{text}:00Z"),
        19 => format!("{text}Z"),
        _ => text.to_owned(),
    }
}

/// The most bytes of a body that a page shows.
const SHOWN: usize = 16 * 1_024;

/// A body as a page shows it.
pub(super) struct Shown {
    pub(super) text: String,
    pub(super) bytes: usize,
    pub(super) is_cut: bool,
}

impl Shown {
    pub(super) fn of(body: &[u8]) -> Self {
        let cut = &body[..body.len().min(SHOWN)];
        Self {
            text: pretty(body).unwrap_or_else(|| String::from_utf8_lossy(cut).into_owned()),
            bytes: body.len(),
            is_cut: body.len() > SHOWN,
        }
    }
}

/// JSON is indented. Nothing else of it changes: order, numbers and fields that stand twice are as they are sent.
fn pretty(body: &[u8]) -> Option<String> {
    if body.len() > SHOWN / 2 {
        return None;
    }
    let text = std::str::from_utf8(body).ok()?;
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    Some(indented(text))
}

/// Indents what is known to be JSON: only white space between its tokens is other than before.
fn indented(json: &str) -> String {
    let (mut lines, mut depth) = (String::with_capacity(2 * json.len()), 0);
    let (mut is_text, mut is_escaped) = (false, false);
    for one in json.chars() {
        if is_text {
            lines.push(one);
            is_text = is_escaped || one != '"';
            is_escaped = one == '\\' && !is_escaped;
            continue;
        }
        match one {
            '{' | '[' => {
                depth += 1;
                lines.push(one);
                begin_line(&mut lines, depth);
            }
            '}' | ']' => {
                depth -= 1;
                // What is empty stays on its line.
                let before = lines.trim_end().len();
                lines.truncate(before);
                if !lines.ends_with(['{', '[']) {
                    begin_line(&mut lines, depth);
                }
                lines.push(one);
            }
            ',' => {
                lines.push(one);
                begin_line(&mut lines, depth);
            }
            ':' => lines.push_str(": "),
            _ if one.is_ascii_whitespace() => {}
            _ => {
                is_text = one == '"';
                lines.push(one);
            }
        }
    }
    lines
}

fn begin_line(lines: &mut String, depth: usize) {
    lines.push('\n');
    lines.extend(std::iter::repeat_n("  ", depth));
}

/// Headers as lines.
pub(super) fn headers(log: &HeaderLog) -> Vec<(String, String)> {
    log.iter()
        .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned()))
        .collect()
}

/// A text that any POSIX shell reads as one word with just these characters.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_spans_are_readable() {
        assert_eq!(number(1_234_567), "1\u{2009}234\u{2009}567");
        assert_eq!(number(12), "12");
        assert_eq!(span(Duration::from_micros(1_500)), "1.5 ms");
        assert_eq!(span(Duration::from_secs(90)), "2 min");
        assert_eq!(percent(1, 0), "–");
    }

    #[test]
    fn a_url_is_broken_after_its_slashes_alone() {
        let found = pieces("https://a.example/in/x?***");
        assert_eq!(found, ["https://a.example/", "in/", "x?***"]);
        assert_eq!(pieces("a.example"), ["a.example"]);
    }

    #[test]
    fn a_sentence_begins_with_a_capital_and_a_name_as_it_is_written() {
        assert_eq!(capital("there is none"), "There is none");
        assert_eq!(capital("max_in_flight must be"), "max_in_flight must be");
        assert_eq!(capital(""), "");
    }

    #[test]
    fn times_are_told_apart_from_the_sentence_around_them() {
        let at = Timestamp::from_seconds(1_700_000_000);
        let found = parts(&format!("not before {at}: then, 7 days"));
        let expected = [
            ("not before ".to_owned(), Some(at)),
            (": then, 7 days".to_owned(), None),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_quoted_cannot_leave_its_quotes() {
        assert_eq!(
            quoted("a'; rm -rf $HOME #`x`"),
            r"'a'\''; rm -rf $HOME #`x`'"
        );
    }

    #[test]
    fn a_body_is_not_changed_by_indenting_it() {
        let shown = |body: &str| Shown::of(body.as_bytes()).text;
        assert_eq!(
            shown(r#"{"b":1e400,"a":[1,{}], "a":"\\\": {,"}"#),
            "{\n  \"b\": 1e400,\n  \"a\": [\n    1,\n    {}\n  ],\n  \"a\": \"\\\\\\\": {,\"\n}"
        );
        assert_eq!(shown("[ ]"), "[]");
        assert_eq!(shown("{\"a\": no}"), "{\"a\": no}");
    }
}
