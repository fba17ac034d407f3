//! Checks JSON text without changing or copying it, and reads single fields of it.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use serde::de::{Deserialize, Deserializer, IgnoredAny, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// The deepest nesting of arrays and objects that is accepted: what common JSON parsers can read.
const MAX_DEPTH: usize = 128;

/// Why bytes are not an acceptable JSON payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPayload {
    /// Not one JSON value in UTF-8.
    #[error("not valid JSON: {0}")]
    Syntax(String),
    /// Arrays and objects are nested deeper than 128.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// Checks that `text` is one JSON value in UTF-8, nested at most 128 deep.
///
/// Numbers of any size, duplicate keys and escaped NULs are JSON and pass: the text travels as it is.
pub(crate) fn check(text: &[u8]) -> Result<(), InvalidPayload> {
    if opening_brackets(text) > MAX_DEPTH && depth(text) > MAX_DEPTH {
        return Err(InvalidPayload::TooDeep);
    }
    let text =
        std::str::from_utf8(text).map_err(|error| InvalidPayload::Syntax(error.to_string()))?;
    serde_json::from_str::<IgnoredAny>(text)
        .map_err(|error| InvalidPayload::Syntax(error.to_string()))?;
    Ok(())
}

/// A body as payload filters read it. It parses only the fields that the filters' paths name, and each of them once, however
/// many filters ask.
///
/// So a filter can read its fields even if other fields are nested too deeply for a parser, or hold a number beyond all floats.
#[derive(Debug)]
pub struct Payload<'a> {
    body: &'a [u8],
    /// `None` if it is not JSON.
    root: OnceLock<Option<Node<'a>>>,
}

/// A value in a body, unread until somebody asks.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    text: &'a RawValue,
    value: OnceLock<Option<Box<Value>>>,
    inner: OnceLock<Option<Box<Inner<'a>>>>,
}

#[derive(Debug)]
enum Inner<'a> {
    Fields(BTreeMap<Name, Node<'a>>),
    Items(Vec<Node<'a>>),
}

/// A field's name in bytes: JSON text may escape halves of a surrogate pair, of which there is no `String`, and they must
/// not hide the fields beside them.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name(Vec<u8>);

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                Ok(Name(name.as_bytes().to_vec()))
            }

            fn visit_bytes<E>(self, name: &[u8]) -> Result<Name, E> {
                Ok(Name(name.to_vec()))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

impl<'a> Payload<'a> {
    /// Of this body, which nobody reads before a filter asks.
    #[must_use]
    pub fn new(body: &'a [u8]) -> Self {
        Self {
            body,
            root: OnceLock::new(),
        }
    }

    /// The whole value; `None` if the body is not JSON.
    pub(crate) fn root(&self) -> Option<&Node<'a>> {
        let read = || serde_json::from_slice(self.body).ok().map(Node::new);
        self.root.get_or_init(read).as_ref()
    }
}

impl<'a> Node<'a> {
    fn new(text: &'a RawValue) -> Self {
        Self {
            text,
            value: OnceLock::new(),
            inner: OnceLock::new(),
        }
    }

    /// The field or the item that a path leads to.
    pub(crate) fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |node, segment| {
            let inner = node.inner.get_or_init(|| Inner::of(node.text.get()));
            match inner.as_deref()? {
                Inner::Fields(fields) => fields.get(segment.as_bytes()),
                Inner::Items(items) => items.get(segment.parse::<usize>().ok()?),
            }
        })
    }

    /// What it is; `None` where that is nothing that a filter could name, as it is nested too deeply. Of numbers beyond
    /// all floats the last float.
    pub(crate) fn value(&self) -> Option<&Value> {
        let read = || {
            let text = self.text.get();
            let large = |number: f64| Value::from(number.clamp(f64::MIN, f64::MAX));
            let value = serde_json::from_str::<Value>(text).ok();
            // The parser takes an object with a field of a certain name for what it marks by that.
            let value = value.filter(|value| value.is_object() == text.starts_with('{'));
            value.or_else(|| text.parse().ok().map(large)).map(Box::new)
        };
        self.value.get_or_init(read).as_deref()
    }
}

impl<'a> Inner<'a> {
    fn of(text: &'a str) -> Option<Box<Self>> {
        let inner = if text.starts_with('{') {
            let fields: BTreeMap<Name, &RawValue> = serde_json::from_str(text).ok()?;
            let node = |(name, text)| (name, Node::new(text));
            Self::Fields(fields.into_iter().map(node).collect())
        } else if text.starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            Self::Items(items.into_iter().map(Node::new).collect())
        } else {
            return None;
        };
        Some(Box::new(inner))
    }
}

/// A quick upper bound of the depth, for the usual text that has fewer brackets than the limit.
fn opening_brackets(text: &[u8]) -> usize {
    // Bytes summed as bytes, in runs that cannot overflow: compilers make vector code of it.
    let in_run = |run: &[u8]| {
        run.iter()
            .map(|byte| u8::from(matches!(byte, b'[' | b'{')))
            .sum::<u8>()
    };
    text.chunks(usize::from(u8::MAX))
        .map(|run| usize::from(in_run(run)))
        .sum()
}

/// How deep brackets outside strings are nested. Meaningful only if `text` turns out to be JSON.
pub(crate) fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_json_passes_whatever_a_parser_would_lose() {
        for text in [
            r#"{"b":1,"a":2,"a":3}"#,
            "1e400",
            "123456789012345678901234567890",
            r#""\u0000""#,
            r#"" 🦀 ""#,
            " { \"a\" : [ ] } ",
            "null",
            r#""[[[[\"[[[""#,
        ] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            &b""[..],
            b"{",
            b"{'a':1}",
            b"nul",
            b"1 2",
            b"\xff",
            b"\"\xc3\x28\"",
            b"01",
            b"NaN",
        ] {
            assert!(
                matches!(check(text), Err(InvalidPayload::Syntax(_))),
                "{text:?}"
            );
        }
    }

    #[test]
    fn nesting_ends_at_128() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(check(nested(128).as_bytes()), Ok(()));
        assert_eq!(check(nested(129).as_bytes()), Err(InvalidPayload::TooDeep));
        assert_eq!(
            check("[".repeat(1_000_000).as_bytes()),
            Err(InvalidPayload::TooDeep)
        );
    }

    #[test]
    fn a_body_is_read_once_and_not_before_it_is_asked_for() {
        let payload = Payload::new(br#"{"data":{"amount":7,"amount":8,"tags":["x",[1]]}}"#);
        assert!(payload.root.get().is_none());
        let at = |path| payload.root().unwrap().at(path).and_then(Node::value);
        assert_eq!(at("data.amount"), Some(&Value::from(8)), "the last one");
        assert_eq!(at("data.tags.1.0"), Some(&Value::from(1)));
        assert_eq!(at("data.tags.x").or(at("data.amount.0")), None);
        let (first, second) = (at("data.amount").unwrap(), at("data.amount").unwrap());
        assert!(std::ptr::eq(first, second));
        assert!(Payload::new(br#"{"data":7"#).root().is_none());
    }
}
